"""Mask the values of secrets in bytes that come piece by piece; as a script, between a process and its logs.

As a script it needs nothing but the standard library and imports nothing of Nectar, so that it starts at once. It takes
a socket, as the number of a descriptor, through which come requests, each answered by one byte when it is done:

    add <size>\\n<size bytes: forms as hexadecimal digits, blanks between them>
    take 0\\n                  with pairs of descriptors: what comes through a pipe goes masked into a file
    sync 0\\n                  all that was written into pipes before the request is in the files

It ends when nobody asks any more and nobody holds the pipes, whatever has become of the process that started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import termios
from collections.abc import Iterable

MASK = b"******"
_CHUNK = 1 << 16  # bytes
_MOST_HANDED = 16  # descriptors with one request
_HEAD = 4  # bytes of a form by which its beginnings are looked for


class Sieve:
    """Finds forms in bytes: overlapping ones are one, and the longest counts."""

    def __init__(self, forms: Iterable[bytes] = ()) -> None:
        self._forms: tuple[bytes, ...] = ()
        self.add(forms)

    def add(self, forms: Iterable[bytes]) -> None:
        """Look for these, too."""
        self._forms = tuple(sorted({*self._forms, *forms}, key=lambda form: (-len(form), form)))

    @property
    def forms(self) -> tuple[bytes, ...]:
        """What is looked for, the longest first."""
        return self._forms

    def finds(self, raw: bytes) -> bool:
        """Say whether any form is in the bytes."""
        return any(form in raw for form in self._forms)

    def mask(self, raw: bytes) -> bytes:
        """Return the bytes with a mask for each form."""
        return _masked(raw, self._spans(raw), len(raw))

    def part(self, raw: bytes) -> tuple[bytes, bytes]:
        """Return what can be told of bytes of which more will come, masked, and the rest, which may begin a form."""
        spans = self._spans(raw)
        end = self._may_begin(raw)
        for start, stop in reversed(spans):
            if start < end < stop:
                end = start
        return _masked(raw, [span for span in spans if span[1] <= end], end), raw[end:]

    def _spans(self, raw: bytes) -> list[tuple[int, int]]:
        found = []
        for form in self._forms:
            at = raw.find(form)
            while at >= 0:
                found.append((at, at + len(form)))
                at = raw.find(form, at + 1)
        if len(found) < 2:
            return found
        found.sort()
        merged = found[:1]
        for start, stop in found[1:]:
            if start < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
            else:
                merged.append((start, stop))
        return merged

    def _may_begin(self, raw: bytes) -> int:
        """Return from where on the bytes may be the beginning of a form."""
        first = len(raw)
        for form in self._forms:
            at = raw.find(form[:_HEAD], max(0, len(raw) - len(form) + 1))
            while 0 <= at < first:
                if form.startswith(raw[at:]):
                    first = at
                at = raw.find(form[:_HEAD], at + 1)
            for length in range(1, min(_HEAD, len(form), len(raw) + 1)):
                if raw.endswith(form[:length]):
                    first = min(first, len(raw) - length)
        return first


def _masked(raw: bytes, spans: list[tuple[int, int]], end: int) -> bytes:
    if not spans:
        return raw[:end]
    pieces: list[bytes] = []
    at = 0
    for start, stop in spans:
        pieces += (raw[at:start], MASK)
        at = stop
    return b"".join((*pieces, raw[at:end]))


class _Stream:
    """One pipe, and the file behind it."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self._target = target
        self._rest = b""
        os.set_blocking(source, False)
        with contextlib.suppress(OSError):  # a console has no locks
            # Whoever wants to have the whole file waits until nobody has this one.
            fcntl.flock(target, fcntl.LOCK_SH)

    def take(self, sieve: Sieve) -> bool:
        """Pass on what has come until now; False where no more can come."""
        left = int.from_bytes(fcntl.ioctl(self.source, termios.FIONREAD, b"\0" * 4), sys.byteorder)
        while left >= 0:
            try:
                chunk = os.read(self.source, _CHUNK)
            except BlockingIOError:
                return True
            left -= len(chunk)
            if not chunk:
                self._write(sieve.mask(self._rest))
                return False
            told, self._rest = sieve.part(self._rest + chunk)
            self._write(told)
        return True  # who writes without end must not keep us from the others

    def close(self) -> None:
        """Let go of both."""
        os.close(self.source)
        os.close(self._target)

    def _write(self, raw: bytes) -> None:
        rest = memoryview(raw)
        try:
            while rest:
                rest = rest[os.write(self._target, rest) :]
        except OSError:  # a full disk: the task goes on, as it would if it wrote by itself
            return


class _Filter:
    def __init__(self, control: socket.socket) -> None:
        self._control: socket.socket | None = control
        self._streams: dict[int, _Stream] = {}  # by the descriptor of the pipe
        self._sieve = Sieve()
        self._asked = b""
        self._handed: list[int] = []  # descriptors that came with requests
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self) -> None:
        """Do what is asked for, and pass on what comes, until there is nobody left."""
        while self._control is not None or self._streams:
            for source, _ in self._poll.poll():
                if source in self._streams:
                    self._pass_on(source)
                elif self._control is not None and not self._listen(self._control):
                    self._poll.unregister(self._control)
                    self._control = None

    def _pass_on(self, source: int) -> None:
        stream = self._streams[source]
        if not stream.take(self._sieve):
            self._poll.unregister(source)
            del self._streams[source]
            stream.close()

    def _listen(self, control: socket.socket) -> bool:
        """Do what is asked for; False where nobody asks any more."""
        try:
            chunk, handed, _, _ = socket.recv_fds(control, _CHUNK, _MOST_HANDED)
        except ConnectionError:
            return False
        self._handed += handed
        self._asked += chunk
        while True:
            line, end, rest = self._asked.partition(b"\n")
            word, _, size = line.partition(b" ")
            if not end or len(rest) < int(size):
                return bool(chunk)
            body, self._asked = rest[: int(size)], rest[int(size) :]
            self._do(word, body)
            try:
                control.sendall(b"\n")
            except OSError:  # it did not wait for the answer
                return False

    def _do(self, word: bytes, body: bytes) -> None:
        if word == b"add":
            self._sieve.add(bytes.fromhex(form.decode("ascii")) for form in body.split())
        elif word == b"take":
            handed, self._handed = self._handed, []
            for source, target in zip(handed[::2], handed[1::2], strict=True):
                self._streams[source] = _Stream(source, target)
                self._poll.register(source, select.POLLIN)
        elif word == b"sync":
            for source in list(self._streams):
                self._pass_on(source)


def main(words: list[str]) -> None:
    """Be the filter that is asked through the socket whose descriptor is the first word."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to a group or to all at shutdown: the pipes' end ends it
    _Filter(socket.socket(fileno=int(words[0]))).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
