"""Take the values that a reader of JSON or TOML made as a document, and refuse what JSON does not have."""

from __future__ import annotations

import math
from typing import Any

from nectar.bencode import MOST_DIGITS
from nectar.pipeline.faults import Faults, quoted
from nectar.pipeline.yaml_text import MOST_LEVELS, NO_TEXT, Part

_TOO_LONG = 10**MOST_DIGITS


def part_of(value: Any, faults: Faults, name: str = "the file", level: int = 1) -> Part:
    """Return a value as a part of a document, without lines; `level` is how deep it lies. Faults are added."""
    # Recursion is as deep as is allowed, and no deeper.
    if isinstance(value, (dict, list)):
        if level > MOST_LEVELS:
            faults.add(None, f"more than {MOST_LEVELS} levels lie in each other", "make it flatter")
            return Part(None, 0, broken=True)
        if isinstance(value, list):
            return Part(value, 0, items=[part_of(item, faults, name, level + 1) for item in value])
        for key in value:
            if NO_TEXT.search(key):
                faults.add(None, f"the key {quoted(key)} has a NUL or half a character in it", "leave it out")
        members = {key: part_of(item, faults, quoted(key), level + 1) for key, item in value.items()}
        return Part(value, 0, members=members)
    wrong = _wrong(value)
    if wrong is not None:
        faults.add(None, f"{name} has {wrong}")
    return Part(value, 0, broken=wrong is not None)


def _wrong(value: Any) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "an infinity, or what is no number, which JSON does not have"
    if isinstance(value, str) and NO_TEXT.search(value):
        return "a text with a NUL or half a character in it"
    if isinstance(value, int) and not -_TOO_LONG < value < _TOO_LONG:
        return f"a whole number of more than {MOST_DIGITS} digits"
    if not isinstance(value, (str, int, float, type(None))):
        return f"a {type(value).__name__}, which JSON does not have: quote it"
    return None
