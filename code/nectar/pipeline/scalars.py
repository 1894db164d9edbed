"""Decide which plain scalars of a YAML file are numbers, truth values or nothing; all others are the text they are.

The rules are YAML 1.2's core schema, without octal and hexadecimal numbers, leading zeros, infinities and what is no
number: `no`, `12:30:45`, `0755`, `0x1f`, `2024-01-31` and `1_000` are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from nectar.bencode import MOST_DIGITS

_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_VARIABLE = re.compile(r"\$\{([^{}]*)\}")


class Refused(Exception):
    """A scalar has no value that JSON knows; the message says why."""


def resolved(text: str) -> str | int | float | bool | None:
    """Return the value of a plain scalar.

    Raises:
        Refused: for infinities, for what is no number, and for numbers that are too large.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        if len(text.lstrip("+-")) > MOST_DIGITS:
            raise Refused(f"a whole number has more than {MOST_DIGITS} digits")
        return int(text)
    if _NO_NUMBER.fullmatch(text):
        raise Refused(f"`{text}` is no number that JSON knows")
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise Refused("a number is too large")
        return value
    return text


def replaced(text: str, variables: Mapping[str, str]) -> str:
    """Return a text in which each `${name}` of a known name is its variable's text, once; all else stays."""
    return _VARIABLE.sub(lambda found: variables.get(found[1], found[0]), text) if "${" in text else text
