"""Decide what a description may hold: text, whole numbers, lists and mappings of these, since each has one spelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from nectar import bencode, errors

_TOO_LONG = 10**bencode.MOST_DIGITS
_REASONS = {
    float: ("a float, which has more than one spelling", 'use a text, such as `"1.5"`, or a whole number'),
    bool: ("a truth value, which is no number", "use 1 and 0, or a text"),
    type(None): ("nothing", "leave the key out"),
    bytes: ("bytes that are no text", "use a text; a file's content belongs into a file"),
}


def plain(value: Any, owner: str, *, level: int) -> Any:
    """Return a copy of a value made of nothing but text, integers, lists and mappings; `level` is how deep it lies.

    Raises:
        DescriptionInvalid: for everything else, with its place; `owner` says whose value it is.
    """
    return _plain(value, owner, "", level)


def plain_mapping(value: Any, owner: str, *, level: int) -> dict[str, Any]:
    """Return a copy of a mapping, as `plain` does.

    Raises:
        DescriptionInvalid: for what is no mapping, too.
    """
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        raise errors.DescriptionInvalid(f"{owner} is a {kind}", hint="it has to be a mapping of names to values")
    copy: dict[str, Any] = plain(value, owner, level=level)
    return copy


def _plain(value: Any, owner: str, place: str, level: int) -> Any:
    # Recursion is as deep as is allowed, and no deeper.
    if isinstance(value, str):
        return _text(value, owner, place)
    if isinstance(value, int) and not isinstance(value, bool):
        if not -_TOO_LONG < value < _TOO_LONG:
            _refuse(owner, place, f"a number of more than {bencode.MOST_DIGITS} digits", "use a text")
        return int(value)
    if not isinstance(value, (Mapping, list, tuple)):
        _refuse(owner, place, *_REASONS.get(type(value), _other(value)))
    if level >= bencode.MOST_LEVELS:
        outermost = place.partition(".")[0].partition("[")[0]
        _refuse(owner, outermost, f"nested deeper than {bencode.MOST_LEVELS} levels", "make it flatter")
    if isinstance(value, Mapping):
        copy = {}
        for key, item in value.items():
            if not isinstance(key, str):
                _refuse(owner, place, f"a mapping with the key {key!r}, which is no text", f'use `"{key}"`')
            name = _text(key, owner, place)
            copy[name] = _plain(item, owner, f"{place}.{name}" if place else name, level + 1)
        return copy
    return [_plain(item, owner, f"{place}[{number}]", level + 1) for number, item in enumerate(value)]


def _text(value: str, owner: str, place: str) -> str:
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            _refuse(owner, place, f"text that is no Unicode, {value!r}", "decode the bytes that it came from")
    return str.__str__(value)  # of a subclass, an enum's member for one, the text that it is


def _other(value: object) -> tuple[str, str]:
    return f"a {type(value).__name__}", "use text, whole numbers, lists and mappings"


def _refuse(owner: str, place: str, what: str, hint: str) -> NoReturn:
    where = f"`{place}` of {owner}" if place else owner
    raise errors.DescriptionInvalid(f"{where} is {what}", hint=hint)
