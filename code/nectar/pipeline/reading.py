"""Read pipeline files, and the files that go with them: variables and parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nectar import errors
from nectar.pipeline.faults import Faults, quoted
from nectar.pipeline.model import Pipeline
from nectar.pipeline.validation import pipeline_of
from nectar.pipeline.values import part_of
from nectar.pipeline.yaml_text import MOST_LEVELS, Part, decoded, parsed

MOST_BYTES = 2**20  #: of a file

_HINT = "`nectar check --schema` prints what a pipeline file may hold"


def read_pipeline(path: Path, variables: Mapping[str, str] | None = None) -> Pipeline:
    """Return the pipeline that a YAML file holds; each `${name}` of a variable is that variable's text.

    Nothing is run or imported.

    Raises:
        PipelineInvalid: with everything that is wrong, by line.
        UsageError: when the file cannot be read.
    """
    return pipeline_in(read(path), str(path), variables)


def pipeline_in(raw: bytes, file: str, variables: Mapping[str, str] | None = None) -> Pipeline:
    """Return the pipeline in the bytes of a file, which errors name as `file`.

    Raises:
        PipelineInvalid: with everything that is wrong, by line.
    """
    faults = Faults(file)
    document = document_in(raw, faults, variables)
    if document is None:
        raise faults.error(errors.PipelineInvalid, _HINT)
    dag, services = pipeline_of(document, faults)
    if faults or dag is None:
        raise faults.error(errors.PipelineInvalid, _HINT)
    return Pipeline(Path(file).stem, dag, services)


def read_variables(path: Path) -> Mapping[str, str]:
    """Return the variables of a YAML file that maps names to scalars: the text of each, as it stands there.

    Raises:
        FileInvalid: with everything that is wrong, by line.
        UsageError: when the file cannot be read.
    """
    faults = Faults(str(path))
    document = document_in(read(path), faults, typed=False)
    found = {}
    for name, part in _members(document, faults, "variables").items():
        if not name or not set(name).isdisjoint("${}"):
            faults.add(
                part.line, f"{quoted(name)} cannot be the name of a variable", "write it without `$`, `{` and `}`"
            )
        if isinstance(part.value, str):
            found[name] = part.value
        elif not part.broken:
            faults.add(part.line, f"the variable {quoted(name)} is no single value", "a variable is a text or a number")
    if faults:
        raise faults.error(errors.FileInvalid, "a file of variables is YAML: names, each with a single value")
    return found


def read_parameters(path: Path) -> Mapping[str, Any]:
    """Return the parameters of a file that maps their names to values, as JSON has them: JSON by its suffix, else YAML.

    Raises:
        FileInvalid: with everything that is wrong, by line.
        UsageError: when the file cannot be read.
    """
    faults = Faults(str(path))
    raw = read(path)
    document = document_in_json(raw, faults) if path.suffix == ".json" else document_in(raw, faults)
    for name, part in _members(document, faults, "parameters").items():
        if not name.isidentifier():
            message = f"{quoted(name)} is no name of a parameter"
            faults.add(part.line, message, "use letters, digits and `_`, a digit not first")
    if faults or document is None:
        raise faults.error(errors.FileInvalid, "a file of parameters is YAML or JSON: names with their values")
    values: Mapping[str, Any] = document.value or {}
    return values


def read(path: Path) -> bytes:
    """Return the bytes of a file, of more than `MOST_BYTES` no more than show that there are more.

    Raises:
        UsageError: when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = (error.strerror or "").lower() if isinstance(error, OSError) else str(error)
        raise errors.UsageError(f"{quoted(str(path))} cannot be read: {why}", hint="check the path") from error


def document_in(
    raw: bytes, faults: Faults, variables: Mapping[str, str] | None = None, *, typed: bool = True
) -> Part | None:
    """Return the document of a YAML file, None where there is none that can be looked at; faults are added."""
    text = decoded(raw, faults, MOST_BYTES)
    return None if text is None else parsed(text, variables or {}, faults, typed=typed)


def document_in_json(raw: bytes, faults: Faults) -> Part | None:
    """Return the document of a JSON file, as `document_in` does; no line of it is known."""
    text = decoded(raw, faults, MOST_BYTES)
    if text is None:
        return None

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                faults.add(None, f"the key {quoted(name)} is there twice", "keep one of them")
            found.setdefault(name, value)
        return found

    try:
        return part_of(json.loads(text, object_pairs_hook=mapping), faults)
    except json.JSONDecodeError as error:
        faults.add(error.lineno, f"this is no JSON: {error.msg.lower()}")
    except RecursionError:
        faults.add(None, f"more than {MOST_LEVELS} levels lie in each other", "make it flatter")
    except ValueError as error:  # a number of thousands of digits
        faults.add(None, f"this is no JSON that can be read: {error}")
    return None


def _members(document: Part | None, faults: Faults, what: str) -> Mapping[str, Part]:
    """Return what a whole file maps names to; an empty file has none."""
    if document is None or document.value is None:
        return {}
    if not isinstance(document.value, dict):
        faults.add(document.line, "the file is no mapping", f"it maps the names of {what} to their values")
        return {}
    return document.members
