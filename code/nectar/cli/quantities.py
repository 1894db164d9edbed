"""Read ages and sizes as people write them, and write ages."""

from __future__ import annotations

import re
from datetime import timedelta

from nectar import errors

_AGE = re.compile(r"([0-9]{1,6})\s*([dhm])")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}


def parse_age(text: str) -> timedelta:
    """Return the time that `30d`, `12h` or `45m` means.

    Raises:
        UsageError: for anything else.
    """
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise errors.UsageError(f"`{text}` is no age", hint="write days, hours or minutes: `30d`, `12h`, `45m`")
    return int(found[1]) * _UNITS[found[2]]


def parse_size(text: str) -> int:
    """Return the bytes that `10MB` (10 * 1000 * 1000), `512KiB` (512 * 1024) or `100` means.

    Raises:
        UsageError: for anything else.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None or (found[3] and not found[2]):
        raise errors.UsageError(f"`{text}` is no size", hint="write bytes, or a unit: `10MB`, `512KiB`, `2GB`")
    base = 1024 if found[3] else 1000
    whole, _, part = found[1].partition(".")
    factor: int = base ** " kmgt".index(found[2].lower() or " ")
    return int(whole) * factor + (int(part) * factor // 10 ** len(part) if part else 0)


def age_text(age: timedelta) -> str:
    """Return an age as people read it: in the largest unit of which it has two or more, else in minutes."""
    for unit, length in _UNITS.items():
        if age >= 2 * length:
            return f"{age // length} {'min' if unit == 'm' else unit}"
    return f"{max(age // _UNITS['m'], 0)} min"
