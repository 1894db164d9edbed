"""Check single values of a document: what type they have, and which keys a mapping has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

from nectar.pipeline.faults import Faults, quoted
from nectar.pipeline.yaml_text import Part

_Choice = TypeVar("_Choice", bound=Enum)

_LINE_BREAKING = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")
_KINDS: Mapping[type, str] = {
    type(None): "empty",
    bool: "a truth value",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a mapping",
}


class Checks:
    """Checks of values, whose faults are added to those of a file. What has a fault reads as None, or as empty."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def _refuse(self, part: Part, name: str, wanted: str) -> None:
        if part.broken:
            return
        hint = "quote it to make it a text" if wanted.startswith("a text") and _is_plain(part.value) else None
        self.faults.add(part.line, f"{quoted(name)} is {_KINDS[type(part.value)]}, and has to be {wanted}", hint)

    def text(self, part: Part | None, name: str, *, wanted: str = "a text", empty: bool = False) -> str | None:
        """Return a text; unless it may be `empty`, one that is more than white space."""
        if part is None or part.broken:
            return None
        if not isinstance(part.value, str):
            self._refuse(part, name, wanted)
            return None
        if not empty and not part.value.strip():
            self.faults.add(part.line, f"{quoted(name)} is an empty text, and has to be {wanted}")
            return None
        return part.value

    def count(self, part: Part | None, name: str) -> int | None:
        """Return a whole number from 1."""
        if part is None or part.broken:
            return None
        if isinstance(part.value, bool) or not isinstance(part.value, int):
            self._refuse(part, name, "a whole number from 1")
            return None
        if part.value < 1:
            self.faults.add(part.line, f"{quoted(name)} is {part.value}, and has to be a whole number from 1")
            return None
        return part.value

    def identifier(self, part: Part | None, name: str) -> str | None:
        """Return a text that can name a parameter."""
        text = self.text(part, name, wanted="the name of a parameter")
        if part is None or text is None or text.isidentifier():
            return text
        message = f"{quoted(name)} is {quoted(text)}, which is no name of a parameter"
        self.faults.add(part.line, message, "use letters, digits and `_`, a digit not first")
        return None

    def choice(self, part: Part | None, name: str, kind: type[_Choice]) -> _Choice | None:
        """Return the member of an enum that a text names."""
        known = [str(member.value) for member in kind]
        text = self.one_of(part, name, known)
        return None if text is None else kind(text)

    def one_of(self, part: Part | None, name: str, known: Sequence[str]) -> str | None:
        """Return a text that is one of those."""
        listed = ", ".join(known)
        text = self.text(part, name, wanted=f"one of {listed}")
        if part is None or text is None or text in known:
            return text
        hint = self.faults.did_you_mean(text, known) or f"it is one of {listed}"
        self.faults.add(part.line, f"{quoted(name)} is {quoted(text)}, which nobody knows", hint)
        return None

    def mapping(self, part: Part | None, name: str, wanted: str = "a mapping") -> Mapping[str, Part]:
        """Return the members of a mapping."""
        if part is None or part.broken:
            return {}
        if not isinstance(part.value, dict):
            self._refuse(part, name, wanted)
            return {}
        return part.members

    def free(self, part: Part | None, name: str) -> Mapping[str, Any]:
        """Return a mapping of which any key may have any value."""
        self.mapping(part, name)
        return part.value if part is not None and isinstance(part.value, dict) else {}

    def texts(self, part: Part | None, name: str) -> tuple[Part, ...]:
        """Return the texts of a list."""
        if part is None or part.broken:
            return ()
        if not isinstance(part.value, list):
            self._refuse(part, name, "a list of texts")
            return ()
        return tuple(item for item in part.items if self.text(item, name, wanted="a list of texts") is not None)

    def keys(self, of: Part, owner: str, known: Sequence[str], required: Sequence[str] = ()) -> None:
        """Add a fault for each key that a mapping should not have, and for each that it lacks."""
        if of.broken:
            return
        meant: set[str] = set()
        for key, part in of.members.items():
            if key not in known:
                hint = self.faults.did_you_mean(key, [one for one in known if one not in of.members])
                meant.update(one for one in required if hint and f"`{one}`" in hint)
                known_ones = f"known are {', '.join(known)}"
                self.faults.add(part.line, f"{owner} has the unknown key {quoted(key)}", hint or known_ones)
        for key in required:
            if key not in of.members and key not in meant:  # one mistake is one fault
                self.faults.add(of.line, f"{owner} has no {quoted(key)}")

    def name(self, name: str, line: int, what: str) -> None:
        """Check the name of a step or a branch: it becomes a part of dotted names, and of paths."""
        hint = "use letters, digits, spaces, `-` and `_`"
        if not name.strip():
            self.faults.add(line, f"a {what} has an empty name", hint)
        if _LINE_BREAKING.search(name):
            self.faults.add(line, f"the name {quoted(name)} of a {what} has a character that breaks a line", hint)
        for character in ".%":
            if character in name:
                self.faults.add(line, f"the name {quoted(name)} of a {what} has a `{character}` in it", hint)


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, int, float))
