"""Write plain values in the one way that bencode allows.

Bencode has integers, byte strings, lists and dictionaries with sorted keys, and one spelling for each value, which
is why a hash over it is stable. Format: BEP 3, "The BitTorrent Protocol Specification", section "bencoding".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Union

Bencodable = Union[int, str, bytes, "list[Bencodable]", "tuple[Bencodable, ...]", Mapping[str, "Bencodable"]]


_TEXT = frozenset({str})


def encode(value: Bencodable) -> bytes:
    """Return the bencoding of `value`; text is UTF-8, keys are sorted by their bytes.

    Raises:
        TypeError: for a value that bencode cannot hold, a bool and a float among them.
        UnicodeEncodeError: for a lone surrogate.
    """
    parts: list[str] = []
    _encode(value, parts)
    return "".join(parts).encode("utf-8", "surrogateescape")  # which byte strings that are no text went through


def _encode(value: Bencodable, parts: list[str]) -> None:
    # Recursion is as deep as the value is nested; what comes from outside is bounded before it comes here.
    kind = type(value)
    if kind is str:
        parts.append(_text(value))  # type: ignore[arg-type]  # exact types first: they are nearly all there is
    elif kind is dict:
        _encode_mapping(value, parts)  # type: ignore[arg-type]
    elif isinstance(value, str):
        parts.append(_text(str(value)))
    elif isinstance(value, int) and not isinstance(value, bool):
        parts.append(f"i{int(value)}e")
    elif isinstance(value, bytes):
        parts.append(f"{len(value)}:{value.decode('utf-8', 'surrogateescape')}")
    elif isinstance(value, Mapping):
        _encode_mapping(value, parts)
    elif isinstance(value, (list, tuple)):
        parts.append("l")
        for item in value:
            _encode(item, parts)
        parts.append("e")
    else:
        raise TypeError(f"bencode has no form for a {kind.__name__}")


def _encode_mapping(value: Mapping[str, Bencodable], parts: list[str]) -> None:
    if not _TEXT.issuperset(map(type, value)):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"bencode has no form for a key that is a {type(key).__name__}")
    parts.append("d")
    for key in sorted(value):  # the order of characters is the order of their UTF-8 bytes
        item = value[key]
        if type(item) is str and item.isascii() and key.isascii():  # nearly all: no calls for it
            parts.append(f"{len(key)}:{key}{len(item)}:{item}")
        else:
            parts.append(_text(key))
            _encode(item, parts)
    parts.append("e")


def _text(text: str) -> str:
    return f"{len(text) if text.isascii() else len(text.encode('utf-8'))}:{text}"
