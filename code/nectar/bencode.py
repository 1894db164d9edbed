"""Write plain values in the one way that bencode allows.

Bencode has integers, byte strings, lists and dictionaries with sorted keys, and one spelling for each value, which
is why a hash over it is stable. Format: BEP 3, "The BitTorrent Protocol Specification", section "bencoding".
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Union

Bencodable = Union[int, str, bytes, "list[Bencodable]", "tuple[Bencodable, ...]", Mapping[str, "Bencodable"]]


def encode(value: Bencodable) -> bytes:
    """Return the bencoding of `value`; text is UTF-8, keys are sorted by their bytes.

    Raises:
        TypeError: for a value that bencode cannot hold, a bool and a float among them.
        UnicodeEncodeError: for a lone surrogate.
    """
    parts: list[bytes] = []
    _encode(value, parts)
    return b"".join(parts)


def _encode(value: Bencodable, parts: list[bytes]) -> None:
    # Recursion is as deep as the value is nested; what comes from outside is bounded before it comes here.
    kind = type(value)
    if kind is str:
        raw = value.encode("utf-8")  # type: ignore[union-attr]  # exact types first: they are nearly all there is
        parts.append(b"%d:%b" % (len(raw), raw))
    elif kind is dict:
        _encode_mapping(value, parts)  # type: ignore[arg-type]
    elif isinstance(value, str):
        _encode(str(value), parts)
    elif isinstance(value, int) and not isinstance(value, bool):
        parts.append(b"i%de" % value)
    elif isinstance(value, bytes):
        parts.append(b"%d:%b" % (len(value), value))
    elif isinstance(value, Mapping):
        _encode_mapping(value, parts)
    elif isinstance(value, (list, tuple)):
        parts.append(b"l")
        for item in value:
            _encode(item, parts)
        parts.append(b"e")
    else:
        raise TypeError(f"bencode has no form for a {kind.__name__}")


def _encode_mapping(value: Mapping[str, Bencodable], parts: list[bytes]) -> None:
    parts.append(b"d")
    for raw, item in sorted(((_key(key), item) for key, item in value.items()), key=itemgetter(0)):
        parts.append(b"%d:%b" % (len(raw), raw))
        _encode(item, parts)
    parts.append(b"e")


def _key(key: object) -> bytes:
    if not isinstance(key, str):
        raise TypeError(f"bencode has no form for a key that is a {type(key).__name__}")
    return key.encode("utf-8")
