"""HTTP/1.1 messages as they lie on the wire (RFC 9112): heads that keep their bytes, bodies read piece by piece."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

PIECE = 256 * 1024  #: bytes of a body that are held at once
_UNTIL_CLOSED = -1
_CHUNKED = -2


class BadMessage(Exception):
    """The bytes are no HTTP/1.1 message."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first line of a message and its fields, byte for byte."""

    first: bytes
    fields: tuple[tuple[bytes, bytes], ...]  #: names as they were sent, values without the space around them

    def get(self, name: bytes) -> bytes | None:
        """Return the value of a field, whatever the case of its name."""
        return next((value for known, value in self.fields if known.lower() == name), None)

    def without(self, *names: bytes) -> Head:
        """Return the head without some fields, named in lower case."""
        return Head(self.first, tuple(one for one in self.fields if one[0].lower() not in names))

    def having(self, name: bytes, value: bytes) -> Head:
        """Return the head with one field set."""
        kept = self.without(name.lower())
        return Head(self.first, (*kept.fields, (name, value)))

    def encode(self) -> bytes:
        """Return the bytes of the head with the empty line that ends it."""
        return b"\r\n".join([self.first, *(name + b": " + value for name, value in self.fields), b"", b""])


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Return the next head, or None when the peer closed the connection before its first byte.

    Raises: BadMessage: it is none. asyncio.IncompleteReadError: it ends in the middle.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as short:
        if not short.partial:
            return None
        raise
    except asyncio.LimitOverrunError as long:
        raise BadMessage("a head without an end") from long
    first, *lines = raw[:-4].split(b"\r\n")
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise BadMessage(f"a field without a colon: {line!r}")
        fields.append((name, value.strip()))
    return Head(first, tuple(fields))


def request_body(head: Head) -> int:
    """Return how the body of a request is delimited, for `pieces`."""
    return _delimited(head, otherwise=0)


def answer_body(head: Head, method: str) -> int:
    """Return how the body of an answer is delimited, for `pieces`."""
    if method == "HEAD" or status_of(head) in (204, 304):
        return 0
    return _delimited(head, otherwise=_UNTIL_CLOSED)


def _delimited(head: Head, *, otherwise: int) -> int:
    if b"chunked" in (head.get(b"transfer-encoding") or b"").lower():
        return _CHUNKED
    length = head.get(b"content-length")
    return otherwise if length is None else int(length)


def status_of(head: Head) -> int:
    """Return the status of an answer.

    Raises: BadMessage: it has none.
    """
    found = re.match(rb"HTTP/1\.[01] (\d{3})", head.first)
    if found is None:
        raise BadMessage(f"no status line: {head.first[:80]!r}")
    return int(found[1])


def stays_open(request: Head, delimited: int) -> bool:
    """Return whether the client may send another request after an answer whose body is delimited like that."""
    wish = (request.get(b"connection") or b"").lower()
    if delimited == _UNTIL_CLOSED or b"close" in wish:
        return False
    return b"HTTP/1.0" not in request.first or b"keep-alive" in wish


async def pieces(reader: asyncio.StreamReader, delimited: int) -> AsyncIterator[tuple[bytes, bool]]:
    """Yield the bytes of a body as they come, each with whether they are content; framing of chunks is not.

    Raises: asyncio.IncompleteReadError: the body ends too early. BadMessage: a chunk without a size.
    """
    if delimited == _UNTIL_CLOSED:
        while piece := await reader.read(PIECE):
            yield piece, True
    elif delimited == _CHUNKED:
        async for found in _chunks(reader):
            yield found
    else:
        async for piece in _exactly(reader, delimited):
            yield piece, True


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[tuple[bytes, bool]]:
    while True:
        line = await reader.readuntil(b"\r\n")
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError as problem:
            raise BadMessage(f"a chunk without a size: {line[:40]!r}") from problem
        yield line, False
        if not size:
            break
        async for piece in _exactly(reader, size):
            yield piece, True
        yield await reader.readexactly(2), False
    while line != b"\r\n":  # trailers, and the empty line behind them
        line = await reader.readuntil(b"\r\n")
        yield line, False


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    left = size
    while left:
        piece = await reader.read(min(left, PIECE))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece
