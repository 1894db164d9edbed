"""Write plain values in the one way that bencode allows, and read what was written so.

Bencode has integers, byte strings, lists and dictionaries with sorted keys, and one spelling for each value, which
is why a hash over it is stable. Format: BEP 3, "The BitTorrent Protocol Specification", section "bencoding".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

from nectar import errors

Bencodable = Union[int, str, bytes, "list[Bencodable]", "tuple[Bencodable, ...]", Mapping[str, "Bencodable"]]
Decoded = Union[int, str, bytes, "list[Decoded]", "dict[str, Decoded]"]

MOST_LEVELS = 100  #: of lists and dictionaries in each other, in what is read
MOST_DIGITS = 600  #: of an integer that is read: no setting makes Python refuse so few

_TEXT = frozenset({str})


def encode(value: Bencodable) -> bytes:
    """Return the bencoding of `value`; text is UTF-8, keys are sorted by their bytes.

    Raises:
        TypeError: for a value that bencode cannot hold, a bool and a float among them.
        UnicodeEncodeError: for a lone surrogate.
    """
    return _encoded(value).encode("utf-8", "surrogateescape")  # which byte strings that are no text went through


def _encoded(value: Any) -> str:
    # Recursion is as deep as the value is nested; what comes from outside is bounded before it comes here.
    kind = type(value)  # exact types first: they are nearly all there is
    if kind is str:
        return f"{len(value) if value.isascii() else len(value.encode('utf-8'))}:{value}"
    if kind is dict:
        return _encoded_mapping(value)
    if kind is int:
        return f"i{value}e"
    if isinstance(value, str):
        return _encoded(str(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"i{int(value)}e"
    if isinstance(value, bytes):
        return f"{len(value)}:{value.decode('utf-8', 'surrogateescape')}"
    if isinstance(value, Mapping):
        return _encoded_mapping(value)
    if isinstance(value, (list, tuple)):
        return f"l{''.join(map(_encoded, value))}e"
    raise TypeError(f"bencode has no form for a {kind.__name__}")


def _encoded_mapping(value: Mapping[str, Any]) -> str:
    if not value:
        return "de"
    if not _TEXT.issuperset(map(type, value)):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"bencode has no form for a key that is a {type(key).__name__}")
    parts = ["d"]
    for key in sorted(value):  # the order of characters is the order of their UTF-8 bytes
        item = value[key]
        if type(item) is str and item.isascii() and key.isascii():  # nearly all: no calls for it
            parts.append(f"{len(key)}:{key}{len(item)}:{item}")
        elif type(item) is int and key.isascii():
            parts.append(f"{len(key)}:{key}i{item}e")
        else:
            parts.append(_encoded(key))
            parts.append(_encoded(item))
    parts.append("e")
    return "".join(parts)


def decode(raw: bytes) -> Decoded:
    """Return the value of a bencoding; a byte string is text where it is UTF-8, and stays bytes where it is not.

    Only the one spelling that each value has is taken, so `encode(decode(raw)) == raw`. Without recursion.

    Raises:
        BencodeInvalid: for everything else, with the place: truncated, trailing bytes, keys that are not text, not
            sorted or there twice, numbers with leading zeros, more than `MOST_LEVELS` levels.
    """
    opened: list[_Open] = []
    place = 0
    while True:
        mark, at = raw[place : place + 1], place
        if mark in _OPENING:
            if len(opened) == MOST_LEVELS:
                raise _bad(at, f"it is nested deeper than {MOST_LEVELS} levels")
            opened.append(_Open({} if mark == b"d" else []))
            place += 1
            continue
        value: Decoded
        if mark == b"e" and opened:
            value, place = opened.pop().closed(at), place + 1
        else:
            value, place = _leaf(raw, place)
        if opened:
            opened[-1].take(value, at)
        elif place == len(raw):
            return value
        else:
            raise _bad(place, f"{len(raw) - place} bytes follow the value")


_OPENING = (b"d", b"l")
_INTEGER = re.compile(rb"i(0|-?[1-9][0-9]*)e")
_LENGTH = re.compile(rb"(0|[1-9][0-9]{0,17}):")


@dataclass(slots=True)
class _Open:
    """A list or a dictionary whose end has not come yet."""

    value: list[Decoded] | dict[str, Decoded]
    key: str | None = None  #: of the value that comes next
    last: str | None = None  #: the key before it

    def take(self, value: Decoded, at: int) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        elif self.key is not None:
            self.value[self.key] = value
            self.last, self.key = self.key, None
        elif not isinstance(value, str):
            raise _bad(at, "a key is no text")
        elif self.last is not None and value <= self.last:
            fault = "is there twice" if value == self.last else f"follows the key `{self.last}`: keys are to be sorted"
            raise _bad(at, f"the key `{value}` {fault}")
        else:
            self.key = value

    def closed(self, at: int) -> Decoded:
        if self.key is not None:
            raise _bad(at, f"the key `{self.key}` has no value")
        return self.value


def _leaf(raw: bytes, place: int) -> tuple[int | str | bytes, int]:
    """Return the number or the byte string that begins at a place, and where it ends."""
    if raw[place : place + 1] == b"i":
        number = _INTEGER.match(raw, place)
        if number is None:
            raise _bad(place, "an integer is not finished, or not written as integers are")
        if len(number[1]) > MOST_DIGITS:
            raise _bad(place, f"an integer has more than {MOST_DIGITS} digits")
        return int(number[1]), number.end()
    length = _LENGTH.match(raw, place)
    if length is None:
        raise _bad(place, "it ends before its value does" if place >= len(raw) else "nothing that bencode has")
    start, end = length.end(), length.end() + int(length[1])
    if end > len(raw):
        raise _bad(place, f"a text of {int(length[1])} bytes is cut off after {len(raw) - start}")
    try:
        return raw[start:end].decode("utf-8"), end
    except UnicodeDecodeError:
        return raw[start:end], end


def _bad(place: int, fault: str) -> errors.BencodeInvalid:
    fault = f"byte {place} of the bencoding: {fault}"
    return errors.BencodeInvalid(fault, hint="let the program that wrote it do so anew")
