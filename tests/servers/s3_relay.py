"""One client's connection through the fault proxy: pass requests on and answers back, or let faults befall them."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Protocol

from http1 import PIECE, BadMessage, Head, answer_body, pieces, read_head, request_body, status_of, stays_open
from s3_faults import Action, Fault, Faults, Request, chosen_by
from s3_signing import signed_again

NO_ANSWER = 0
_LINGER_S = 2.0  # for a client that still sends what nobody wants, so that it reads its answer before a reset
_GONE = (OSError, asyncio.IncompleteReadError, BadMessage)
_INSTEAD = (Action.ANSWER, Action.RESET, Action.HANG)  # the client has these instead of the server's answer


class Wishes(Protocol):
    """What a connection asks the proxy for, anew for each request."""

    upstream: tuple[str, int]
    faults: Faults | None
    latency_s: float
    secrets: Mapping[str, str]

    def came_in(self, head: Head) -> Request:
        """Return the request of a head, numbered."""

    def answered(self, request: Request, status: int) -> None:
        """Take note of a request's end."""


class Connection:
    """A client's connection, and one of its own to the server."""

    def __init__(self, wishes: Wishes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._wishes, self._reader, self._writer = wishes, reader, writer
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def serve(self) -> None:
        """Serve one request after the other until one side has enough."""
        try:
            while (head := await read_head(self._reader)) is not None:
                if not await self._exchange(head):
                    break
            await self._say_goodbye()
        except _GONE:  # either side: the other one learns of it by a reset
            self._reset()
        finally:
            self._leave_server()
            self._writer.transport.abort()

    async def _exchange(self, head: Head) -> bool:
        """Serve one request, and return whether another may follow on this connection."""
        request = self._wishes.came_in(head)
        traits, fault = chosen_by(self._wishes.faults, request)
        if self._wishes.latency_s:
            await asyncio.sleep(self._wishes.latency_s)
        if fault is None or fault.applied or fault.action not in _INSTEAD:
            return await self._pass_on(head, request, traits, fault)
        # A client that waits for `100 Continue` keeps its body; RESET leaves the body unread.
        keep = head.get(b"expect") is None
        if keep and fault.action is Action.ANSWER:
            await _discard(pieces(self._reader, request_body(head)))
        return await self._befall(fault, request, keep=keep)

    async def _befall(self, fault: Fault, request: Request, *, keep: bool) -> bool:
        """Let the client have the fault instead of an answer."""
        if fault.action is Action.ANSWER:
            self._wishes.answered(request, fault.status)
            keep = keep and "close" not in request.headers.get("connection", "").lower()
            self._writer.write(_answer(fault, request, keep=keep))
            await self._writer.drain()
            return keep
        self._wishes.answered(request, NO_ANSWER)
        if fault.action is Action.HANG:
            while await self._reader.read(PIECE):  # until the client gives up
                pass
        self._reset()
        return False

    async def _pass_on(self, head: Head, request: Request, traits: list[Fault], fault: Fault | None) -> bool:
        """Let the server carry a request out, and the client have its answer or the fault."""
        sending: asyncio.Future[None] | None = None
        answer: Head | None = None
        try:
            reader, writer = await self._reach_server()
            writer.write(self._changed(head, traits).encode())
            sending = asyncio.ensure_future(self._send_body(head, writer))
            answer = await self._final_answer(reader)
            delimited = answer_body(answer, request.method)
            # An answer that comes before `100 Continue` may leave the body with the client: nothing follows then.
            keep = stays_open(head, delimited) and (sending.done() or head.get(b"expect") is None)
            if fault is not None and fault.action in _INSTEAD:
                await _discard(pieces(reader, delimited))
                if keep:
                    await sending
                return await self._befall(fault, request, keep=keep)
            self._wishes.answered(request, status_of(answer))
            whole = await self._relay(_dressed(answer, traits, keep=keep), pieces(reader, delimited), fault)
            if whole and keep:
                await sending
            return whole and keep
        except _GONE:
            if answer is None:
                self._wishes.answered(request, NO_ANSWER)
            raise
        finally:
            if answer is not None and b"close" in (answer.get(b"connection") or b"").lower():
                self._leave_server()
            if sending is not None:
                await _ended(sending)

    async def _reach_server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._server is not None and (self._server[0].at_eof() or self._server[1].is_closing()):
            self._leave_server()
        if self._server is None:
            host, port = self._wishes.upstream
            self._server = await asyncio.open_connection(host, port, limit=PIECE)
        return self._server

    def _leave_server(self) -> None:
        if self._server is not None:
            self._server[1].transport.abort()
            self._server = None

    def _changed(self, head: Head, traits: list[Fault]) -> Head:
        conditions = (b"if-match", b"if-none-match")
        if not any(one.action is Action.UNCONDITIONAL for one in traits) or not any(map(head.get, conditions)):
            return head
        return signed_again(head.without(*conditions), self._wishes.secrets)

    async def _send_body(self, head: Head, writer: asyncio.StreamWriter) -> None:
        try:
            async for piece, _ in pieces(self._reader, request_body(head)):
                if not writer.is_closing():  # a server that has enough answers; the rest is read for the client's sake
                    writer.write(piece)
                    with contextlib.suppress(OSError):
                        await writer.drain()
        except BaseException:
            writer.transport.abort()  # the server must not wait for the rest, nor this connection for an answer
            raise

    async def _final_answer(self, reader: asyncio.StreamReader) -> Head:
        while True:
            answer = await read_head(reader)
            if answer is None:
                raise ConnectionResetError("the server closed the connection")
            if status_of(answer) // 100 != 1:
                return answer
            self._writer.write(answer.encode())

    async def _relay(self, head: Head, body: AsyncIterator[tuple[bytes, bool]], fault: Fault | None) -> bool:
        """Send an answer on, and return whether all of it."""
        self._writer.write(head.encode())
        at = _offset(head, fault)
        passed = 0
        async for piece, is_content in body:
            if at is not None and fault is not None and is_content:
                if fault.action is Action.TRUNCATE and at < passed + len(piece):
                    self._writer.write(piece[: at - passed])
                    await self._writer.drain()
                    return False
                if fault.action is Action.FLIP and passed <= at < passed + len(piece):
                    piece = _flipped(piece, at - passed)
                passed += len(piece)
            self._writer.write(piece)
            await self._writer.drain()
        await self._writer.drain()
        return True

    async def _say_goodbye(self) -> None:
        """End the connection so that the client reads all that was sent, though it may still send itself."""
        if not self._writer.is_closing() and self._writer.can_write_eof():
            self._writer.write_eof()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._until_closed(), _LINGER_S)

    async def _until_closed(self) -> None:
        while await self._reader.read(PIECE):
            pass

    def _reset(self) -> None:
        known = self._writer.get_extra_info("socket")
        if known is not None and not self._writer.is_closing():
            known.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST, not FIN
        self._writer.transport.abort()


async def _ended(sending: asyncio.Future[None]) -> None:
    """End the sending of a body. That a side has gone is dealt with where its answer is awaited; bugs are raised."""
    sending.cancel()
    (outcome,) = await asyncio.gather(sending, return_exceptions=True)
    if isinstance(outcome, Exception) and not isinstance(outcome, _GONE):
        raise outcome


async def _discard(body: AsyncIterator[tuple[bytes, bool]]) -> None:
    async for _ in body:
        pass


def _answer(fault: Fault, request: Request, *, keep: bool) -> bytes:
    """Return S3's form of an error, https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{fault.code}</Code>'
        f"<Message>injected by the proxy</Message><RequestId>{request.number}</RequestId></Error>"
    ).encode()
    fields = (
        (b"Content-Type", b"application/xml"),
        (b"Content-Length", str(len(body)).encode()),
        (b"Date", email.utils.formatdate(usegmt=True).encode()),
        (b"Connection", b"keep-alive" if keep else b"close"),
    )
    head = Head(f"HTTP/1.1 {fault.status} {fault.code}".encode(), fields).encode()
    return head if request.method == "HEAD" else head + body


def _dressed(answer: Head, traits: list[Fault], *, keep: bool) -> Head:
    skew_s = sum(one.skew_s for one in traits)
    if skew_s:
        said = (answer.get(b"date") or email.utils.formatdate(usegmt=True).encode()).decode("latin-1")
        date = email.utils.parsedate_to_datetime(said) + timedelta(seconds=skew_s)
        answer = answer.having(b"Date", email.utils.format_datetime(date, usegmt=True).encode())
    # What the server does with its connection is between it and the proxy: moto closes each, a client's may stay.
    return answer.without(b"connection", b"keep-alive") if keep else answer.having(b"Connection", b"close")


def _offset(head: Head, fault: Fault | None) -> int | None:
    if fault is None or fault.action not in (Action.TRUNCATE, Action.FLIP):
        return None
    return int(head.get(b"content-length") or 0) // 2 if fault.at is None else fault.at


def _flipped(piece: bytes, at: int) -> bytes:
    return piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
