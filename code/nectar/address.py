"""Say where in a store a target lies, and refuse every text that could lead elsewhere."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from nectar import errors

KEY_LENGTH = 32  #: hex digits
LONGEST_PART = 255  #: bytes of a name between two slashes
LONGEST_PREFIX = 900  #: bytes: S3 has room for 1,024 bytes, with the key and a file's name
_KEY = re.compile(r"[0-9a-f]{32}")
_PART = re.compile(r"[^\W\d]\w*")
SHOWN = 500  #: characters of a wrong path that an error repeats
RESERVED_NAMES = ("record.json", "params.txt", "attempt.json", "log")


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """The place of one target: `chains/<type>/<chain>/<Task>/<key>`."""

    prefix: str  #: `chains/<type>/<chain>/<Task>`: all targets of one task class
    key: str  #: 32 hex digits

    @property
    def path(self) -> str:
        """The target's folder, relative to the store."""
        return f"{self.prefix}/{self.key}"

    def __str__(self) -> str:
        return self.path

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that `text` names; what follows the key (a file's name) is not looked at.

        Raises:
            UnsafePath: for a path that is absolute, has `..`, is longer than any, or is no target's path at all.
        """
        parts = text.strip().strip("/").split("/") if not text.startswith("/") else []
        for position, part in enumerate(parts):
            if position and _KEY.fullmatch(part):
                prefix = "/".join(parts[:position])
                if len(prefix.encode("utf-8")) > LONGEST_PREFIX:
                    break
                return cls(prefix, part)
            # A file system refuses longer names by an error, as if it could not be read.
            if not _PART.fullmatch(part) or (len(part) > 63 and len(part.encode("utf-8")) > LONGEST_PART):
                break
        raise errors.UnsafePath(
            f"`{text[:SHOWN]}` is not the path of a target",
            hint="a target's path is `chains/<type>/<chain>/<Task>/<key>`, the key 32 hex digits",
        )

    @classmethod
    def read(cls, text: object) -> Address | None:
        """Return the address that something from elsewhere names, a record or the history; None where it names none."""
        try:
            return cls.parse(text) if isinstance(text, str) else None
        except errors.UnsafePath:
            return None


def is_key(text: str) -> bool:
    """Say whether a text can be a target's key."""
    return _KEY.fullmatch(text) is not None


def check_prefix(text: str) -> Address | None:
    """Return the address that a prefix of the store is, None where it is the beginning of several.

    Raises:
        UnsafePath: for a text that cannot be the beginning of a target's path.
    """
    parts = text.split("/") if text else []
    if len(parts) > 1 and is_key(parts[-1]) and all(map(_PART.fullmatch, parts[:-1])):
        return Address("/".join(parts[:-1]), parts[-1])
    if not all(map(_PART.fullmatch, parts)):
        raise errors.UnsafePath(
            f"`{text}` is not a path in the store",
            hint="give a chain, `etl/flights_chain`, or a path that `nectar status` lists",
        )
    return None


def prefix_of(family: str) -> str:
    """Return the prefix of all targets of a task family such as `chains.etl.flights_chain.LoadTask`."""
    return family.replace(".", "/")


@functools.lru_cache(maxsize=1024)
def check_output_name(name: str) -> str:
    """Return `name` if it can be a file's name in a target.

    Raises:
        InvalidOutputName: when it is empty, absolute, leads upwards, or is a name that Nectar keeps for itself.
    """
    parts = name.split("/")
    if (
        not name
        or any(part in ("", ".", "..") for part in parts)
        or parts[0].startswith(".")
        or any(character in name for character in "\\\0\n\r")
    ):
        raise errors.InvalidOutputName(
            f"`{name}` cannot be the name of an output", hint="use a plain file name such as `flights.parquet`"
        )
    if parts[0] in RESERVED_NAMES:
        raise errors.InvalidOutputName(
            f"`{name}` cannot be the name of an output: Nectar keeps `{parts[0]}` for itself",
            hint="use another file name, such as `out.json`",
        )
    return name
