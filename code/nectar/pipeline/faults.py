"""Collect what is wrong in a file, all of it, and say it as one error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

from nectar import errors
from nectar.errors import FileFault

_Invalid = TypeVar("_Invalid", bound=errors.FileInvalid)

MOST_SOUGHT = 50  #: names of one file for which near ones are looked for
MOST_COMPARED = 500  #: names with which each of them is compared
_LONGEST_NAME = 80  #: in a message
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def quoted(name: str) -> str:
    """Return a name as messages show it: in backticks, on one line, not without end."""
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}..."
    return f"`{_UNSEEN.sub(lambda found: found[0].encode('unicode_escape').decode(), name)}`"


class Faults:
    """The faults of one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: dict[FileFault, None] = {}
        self._sought = 0

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def add(self, line: int | None, message: str, hint: str | None = None) -> None:
        """Add a fault, with its line where that is known."""
        self._found.setdefault(FileFault(self.file, line or None, message, hint))

    def did_you_mean(self, name: str, known: Iterable[str]) -> str | None:
        """Return the hint that names what was probably meant.

        None where nothing is near, and where looking would take long: comparing is slow, and a file can have tens of
        thousands of names and of faults.
        """
        lowered = {one.lower(): one for one in islice(known, MOST_COMPARED)}
        wanted = name.strip().lower()
        if wanted in lowered:  # what differs in case alone is near, however short it is
            return f"did you mean {quoted(lowered[wanted])}?"
        self._sought += 1
        if self._sought > MOST_SOUGHT or len(name) > _LONGEST_NAME:
            return None
        return errors.did_you_mean(name, (one for one in lowered.values() if len(one) <= _LONGEST_NAME))

    def listed(self) -> tuple[FileFault, ...]:
        """Return the faults by line."""
        return tuple(sorted(self._found, key=lambda fault: fault.line or 0))

    def error(self, kind: type[_Invalid], hint: str) -> _Invalid:
        """Return the error that tells of all of them."""
        listed = self.listed()
        count = "a fault" if len(listed) == 1 else f"{len(listed)} faults"
        message = "\n".join([f"`{self.file}` has {count}", *map(str, listed)])
        return kind(message, faults=listed, hint=hint)
