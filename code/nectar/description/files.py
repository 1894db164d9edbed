"""Read and write description files: JSON or bencode, told apart by what they hold."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nectar import bencode, errors

SCHEMA = 1  #: which no document names: it is the form that others write, too

_MEMBERS = ("meta", "tasks")
_HINT = "a description is what `Dag.save` or `nectar describe` writes: bencode, or JSON in UTF-8"


def json_text(document: Mapping[str, Any]) -> str:
    """Return a document as JSON for people and programs: one text for equal documents."""
    return json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def looks_like_a_description(raw: bytes) -> bool:
    """Say whether bytes begin as a bencoded mapping or a JSON object does."""
    return raw[:1] == b"d" or raw.lstrip()[:1] == b"{"


def parse(raw: bytes) -> Any:
    """Return the value of bencode or JSON.

    Raises:
        DescriptionInvalid: when it is neither, is nested too deep, or has a key twice.
        BencodeInvalid: when it begins as bencode does and is none.
    """
    if raw[:1] == b"d":
        return bencode.decode(raw)
    if not looks_like_a_description(raw):
        raise errors.DescriptionInvalid("it is neither bencode nor JSON", hint=_HINT)
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except RecursionError:
        depth = f"it is nested deeper than {bencode.MOST_LEVELS} levels"
        raise errors.DescriptionInvalid(depth, hint=_HINT) from None
    except ValueError as error:  # of JSON, of UTF-8, and of a number with thousands of digits
        raise errors.DescriptionInvalid(f"it is no JSON: {error}", hint=_HINT) from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise errors.DescriptionInvalid(f"the key `{name}` is there twice", hint=_HINT)
        found[name] = value
    return found


def checked(document: Any) -> Mapping[str, Any]:
    """Return a document whose outermost members are those of a description.

    Raises:
        DescriptionInvalid, DescriptionNewer: for any other.
    """
    if not isinstance(document, Mapping):
        raise errors.DescriptionInvalid(f"it is a {type(document).__name__}, and no mapping", hint=_HINT)
    schema = document.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise errors.DescriptionNewer(
            f"it has schema {schema}, this version reads up to {SCHEMA}", hint="update Nectar: a newer one wrote it"
        )
    unknown = [key for key in document if key not in _MEMBERS]
    if unknown:
        raise errors.DescriptionInvalid(f"it has the unknown key `{unknown[0]}`", hint=_HINT)
    return document


def read(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        UsageError: when it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.UsageError(
            f"`{path}` cannot be read: {os.strerror(error.errno or 0).lower()}", hint="check the path"
        ) from error


def write(path: Path, raw: bytes) -> None:
    """Write a file, as a whole or not at all.

    Raises:
        UsageError: when it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            unfinished.write_bytes(raw)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise errors.UsageError(
            f"`{path}` cannot be written: {os.strerror(error.errno or 0).lower()}", hint="check the folder"
        ) from error


def of_file(error: errors.UsageError, path: Path) -> errors.UsageError:
    """Return the same error, told of a file."""
    kind = type(error) if isinstance(error, errors.DescriptionInvalid) else errors.DescriptionInvalid
    return kind(f"`{path}` is no description that can be read: {error.message}", hint=error.hint)
