"""Read objects: streams that survive a broken connection, downloads in ranges whose bytes are checked."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
from concurrent.futures import wait
from typing import Any

from nectar import errors
from nectar.stores.s3.connection import BROKEN, Connection, etag_of
from nectar.stores.s3.failures import Rejected

PIECE = 256 * 1024  #: bytes of a read
RANGE = 8 * 1024**2  #: bytes of a range; what has less than two is read in one go


class ObjectReader(io.RawIOBase):
    """Read an object, or a range of it; a connection that breaks is taken up again where it broke.

    Raises:
        FileNotFoundError: when there is no such object.
        TargetCorrupt: when it is not the one with the ETag, or not any more.
        StoreUnreachable: when it cannot be read, or breaks more often than the client retries.
    """

    def __init__(
        self,
        connection: Connection,
        key: str,
        etag: str | None,
        *,
        start: int = 0,
        stop: int | None = None,
        sha256: str | None = None,
    ) -> None:
        """With `sha256`, of the whole object, the last piece is not handed out where the bytes are others."""
        super().__init__()
        self._sha256, self._digest = sha256, hashlib.sha256()
        self._connection, self._key, self._etag = connection, key, etag
        self._position, self._stop = start, stop
        self._resumes = connection.config.retries
        self._body: Any = None
        self.size = 0  #: of the whole object, bytes
        self._request()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        piece = self.piece(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def piece(self, most: int = PIECE) -> bytes:
        """Return the next bytes, `most` of them at most; none at the end."""
        while self._position < (self._stop or 0):
            try:
                got: bytes = self._body.read(min(most, (self._stop or 0) - self._position))
            except BROKEN as error:
                self._resume(error)
                continue
            if got:
                self._position += len(got)
                self._check(got)
                return got
            self._resume(None)
        return b""

    def _check(self, got: bytes) -> None:
        if self._sha256 is None:
            return
        self._digest.update(got)
        if self._position == self._stop and self._digest.hexdigest() != self._sha256:
            raise damaged(self._connection, self._key)

    def readall(self) -> bytes:
        pieces = []
        while piece := self.piece():
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        if not self.closed and self._body is not None:
            self._body.close()
        super().close()

    def _resume(self, error: Exception | None) -> None:
        self._body.close()
        if not self._resumes:
            raise errors.StoreUnreachable(
                f"the connection to `s3://{self._connection.bucket}` breaks whenever `{self._key}` is read",
                hint="look at the network, and at proxies on the way",
            ) from error
        self._resumes -= 1
        try:
            self._request()
        except FileNotFoundError as gone:
            raise another(self._connection, self._key) from gone

    def _request(self) -> None:
        first, last = self._position, "" if self._stop is None else self._stop - 1
        wanted = f"bytes={first}-{last}" if first or self._stop is not None else None
        try:
            answer = self._connection.call("get_object", Key=self._key, IfMatch=self._etag, Range=wanted)
        except Rejected as rejected:
            if rejected.code == "NoSuchKey":
                raise FileNotFoundError(
                    2, "no such object", f"s3://{self._connection.bucket}/{self._key}"
                ) from rejected
            if rejected.status in (412, 416):
                raise another(self._connection, self._key) from rejected
            raise self._connection.failure(rejected) from rejected
        self._body, self._etag = answer["Body"], etag_of(answer)
        part, _, whole = str(answer.get("ContentRange", "")).partition("/")
        if wanted is None:
            self.size = self._stop = int(answer["ContentLength"])
        elif part.startswith(f"bytes {first}-") and whole.isdigit():
            self.size = int(whole)
            self._stop = self.size if self._stop is None else min(self._stop, self.size)
        else:
            self._body.close()
            raise errors.StoreUnreachable(
                f"`s3://{self._connection.bucket}` does not read objects in ranges", hint="use a server that does"
            )


def another(connection: Connection, key: str) -> errors.TargetCorrupt:
    """Return the error for an object that was replaced, or has gone, since its record was written."""
    return errors.TargetCorrupt(
        f"the object `{key}` in `s3://{connection.bucket}` is not the one that its record names",
        hint="`nectar verify` finds such targets; run the chain again to make them anew",
    )


def damaged(connection: Connection, key: str) -> errors.TargetCorrupt:
    """Return the error for an object whose bytes are not those of its record, whether stored so or read so."""
    return errors.TargetCorrupt(
        f"the object `{key}` in `s3://{connection.bucket}` has other bytes than its record says",
        hint="`nectar verify` finds out whether it lies there so; then run the chain again",
    )


def download(connection: Connection, key: str, path: str, *, etag: str | None, size: int, sha256: str) -> None:
    """Write an object to a file and check its bytes; nothing is left of the file if they are others.

    What arrives damaged is fetched a second time. At most TRANSFERS pieces are held in memory.

    Raises:
        FileNotFoundError: when there is no such object.
        TargetCorrupt: when it is not the one with the ETag, or has other bytes.
        StoreUnreachable, OSError: when it cannot be read or written.
    """
    try:
        for _ in range(2):
            with open(path, "wb+", buffering=0) as file:
                if _fetch(connection, key, file, etag, size) == sha256:
                    return
        raise errors.TargetCorrupt(
            f"the object `{key}` in `s3://{connection.bucket}` has other bytes than its record says",
            hint="run the chain again: the target will be made anew",
        )
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        raise


def _fetch(connection: Connection, key: str, file: io.FileIO, etag: str | None, size: int) -> str:
    """Return the sha256 of the bytes that were written to the file."""
    digest = hashlib.sha256()
    if size < 2 * RANGE:
        with ObjectReader(connection, key, etag) as reader:
            if reader.size != size:
                raise another(connection, key)
            at = 0
            while piece := reader.piece():
                at += _write(file.fileno(), piece, at)
                digest.update(piece)
        return digest.hexdigest()
    transfers, failed = connection.live().transfers, threading.Event()
    offsets = range(0, size, RANGE)
    fetched = [transfers.submit(_fetch_range, connection, key, file.fileno(), etag, size, at, failed) for at in offsets]
    try:
        buffer = bytearray(PIECE)
        for one in fetched:  # in order, while later ones are on their way
            one.result()
            for _ in range(RANGE // PIECE):
                digest.update(memoryview(buffer)[: file.readinto(buffer)])
    finally:
        failed.set()
        wait(fetched)
    return digest.hexdigest()


def _fetch_range(
    connection: Connection, key: str, file: int, etag: str | None, size: int, start: int, failed: threading.Event
) -> None:
    if failed.is_set():
        return
    with ObjectReader(connection, key, etag, start=start, stop=min(start + RANGE, size)) as reader:
        if reader.size != size:
            raise another(connection, key)
        while (piece := reader.piece()) and not failed.is_set():
            start += _write(file, piece, start)


def _write(file: int, piece: bytes, at: int) -> int:
    view = memoryview(piece)
    written = 0
    while written < len(piece):
        written += os.pwrite(file, view[written:], at + written)
    return written
