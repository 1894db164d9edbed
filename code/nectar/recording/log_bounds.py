"""Keep logs bounded: of one that grows beyond its limit the head and the tail stay, the middle goes.

While a log grows, one thread a process gives the disk blocks of its middle back (`fallocate` with `PUNCH_HOLE`), which
leaves its size and its writers' offsets alone. What is left is a sparse file; at its end it is rewritten to its head,
one line that says how much is missing, and its tail. Where the platform or the file system cannot punch holes, and
while C code holds the interpreter's lock, the log is bounded at its end only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
import threading
from collections.abc import Sequence

LOG_LIMIT_BYTES = 32 << 20  #: of one log: half of it for the head, half for the tail
WATCH_INTERVAL_S = 0.5

_SEARCHED = 4096  #: bytes around a cut in which a line end is looked for
_CHUNK = 1 << 20  #: bytes copied at once
_BLOCK = 1 << 16  #: bytes; a hole that does not begin and end at the file system's blocks would be zeros on the disk
_MARGIN = 2 * _SEARCHED  #: bytes behind the head in which a line about an earlier cut may lie
_LEFT_OUT = re.compile(rb"^\[nectar: (\d+) (bytes|KiB|MiB) of this log were left out\]\n", re.MULTILINE)
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20}

_KEEP_SIZE = 1
_PUNCH_HOLE = 2
_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)  # 64 bits of offset in both
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def left_out(amount: int) -> bytes:
    """Return the line that stands where `amount` bytes of a log are missing."""
    unit = next(name for name in ("MiB", "KiB", "bytes") if amount >= _UNITS[name] or name == "bytes")
    return f"[nectar: {round(amount / _UNITS[unit])} {unit} of this log were left out]\n".encode()


class BoundedLog:
    """One log that is being written: its path, its limit, and what of it is gone already."""

    __slots__ = ("_can_punch", "hole", "limit", "path")

    def __init__(self, path: str, limit: int = LOG_LIMIT_BYTES) -> None:
        self.path = path
        self.limit = limit  #: bytes
        #: bytes from and until which nothing is to be read any more; set before the bytes go
        self.hole: tuple[int, int] | None = None
        self._can_punch = _fallocate is not None

    def punch(self) -> None:
        """Give the disk blocks of the middle back, where the log has passed its limit and the file system can."""
        if not self._can_punch or not _has_passed(self.path, _with_slack(self.limit)):
            return
        log = _opened(self.path)
        if log is None:
            return
        try:
            status = os.fstat(log)
            block = max(_BLOCK, status.st_blksize)
            start = -(-(self.limit // 2 + _MARGIN) // block) * block
            end = (status.st_size - (self.limit - self.limit // 2) - 1) // block * block
            if end > start:
                before, self.hole = self.hole, (start, end)
                if not _punched(log, start, end):
                    self.hole, self._can_punch = before, False
        finally:
            os.close(log)

    def finish(self) -> None:
        """Cut the middle out of the log where it is too large: see `bound`.

        Raises:
            OSError: when the log cannot be read or rewritten.
        """
        if self.hole is not None or _has_passed(self.path, self.limit):
            bound(self.path, self.limit)


def bound(path: str, limit: int = LOG_LIMIT_BYTES) -> int:
    """Cut the middle out of a log larger than `limit` bytes, or with holes; return how many bytes went.

    The head and the tail keep half of `limit` each, less what belongs to a line that is cut; between them stands one
    line that says how much is missing. A log that was cut before is cut again only when it has grown by an eighth;
    its line then counts both. Processes that still append to the log go on doing so. A path that is missing, a link,
    or one of several names of a file is left alone.

    Raises:
        OSError: when the log cannot be read or rewritten; it ends then at what could be written.
    """
    log = _opened(path)
    if log is None:
        return 0
    try:
        head, tail = limit // 2, limit - limit // 2
        size = os.fstat(log).st_size
        hole = _hole(log, size)
        already, earlier = _cut_before(log, head)
        if hole is not None and earlier is not None and hole[0] < earlier[1]:
            already, earlier = 0, None  # a line that only looks like ours
        if hole is None and size <= (limit if earlier is None else _with_slack(limit)):
            return 0
        end = max(size - tail, hole[1] if hole else 0)
        end = _line_start(log, end, min(_SEARCHED, (size - end) // 2))
        if earlier is None:
            start = gone_from = _line_end(log, min(head, hole[0]) if hole else head)
        else:
            start, gone_from = earlier
        gone = end - gone_from
        line = left_out(already + gone)
        if start and os.pread(log, 1, start - 1) != b"\n":
            line = b"\n" + line
        if start + len(line) >= end:  # a limit so small that nothing would be gained
            return 0
        _close_up(log, start, line, end, size + limit)
        return gone
    finally:
        os.close(log)


class Watch:
    """One thread a process that punches holes into logs; it is there only while logs are being written."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, in a process that was forked: the thread is not there."""
        self._guard = threading.Lock()
        self._logs: Sequence[BoundedLog] = ()
        self._runs = False

    def follow(self, logs: Sequence[BoundedLog]) -> None:
        """Keep these logs bounded until `stop`, instead of those before."""
        if _fallocate is None:
            return
        with self._guard:
            self._logs = logs
            if self._runs:
                return
            self._runs = True
        try:
            threading.Thread(target=self._loop, name="nectar-logs", daemon=True).start()
        except RuntimeError:  # no more threads for this user: the logs are bounded at their end
            self._runs = False

    def stop(self) -> None:
        """Touch these logs no more."""
        with self._guard:
            self._logs = ()

    def _loop(self) -> None:
        pause = threading.Event()  # never set: a wait that does not hold the interpreter
        while True:
            pause.wait(WATCH_INTERVAL_S)
            with self._guard:
                if not self._logs:  # tasks that follow each other share the thread
                    self._runs = False
                    return
                for log in self._logs:
                    try:
                        log.punch()
                    except OSError:  # the disk may be failing: who writes the log, and who ends it, is told
                        continue


watch = Watch()
os.register_at_fork(after_in_child=watch.forget)


def _with_slack(limit: int) -> int:
    return limit + limit // 8


def _has_passed(path: str, size: int) -> bool:
    try:
        return os.lstat(path).st_size > size
    except (FileNotFoundError, NotADirectoryError):  # the task removed it
        return False


def _opened(path: str) -> int | None:
    """Open a log for reading and writing; None where it is not a file of its own: the task put another's there."""
    try:
        log = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR):
            return None
        raise
    status = os.fstat(log)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(log)
        return None
    return log


def _punched(log: int, start: int, end: int) -> bool:
    """Free the blocks of a range; return False where the platform or the file system has no such call.

    Raises:
        OSError: when it failed for another reason.
    """
    if _fallocate is None:
        return False
    if _fallocate(log, _PUNCH_HOLE | _KEEP_SIZE, start, end - start) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM):  # a sandbox says EPERM
        return False
    raise OSError(number, os.strerror(number))


def _hole(log: int, size: int) -> tuple[int, int] | None:
    """Return from where to where the file has holes, None where it has none, or where nobody can tell."""
    if not size or not hasattr(os, "SEEK_HOLE"):
        return None
    first, last = None, 0
    try:
        found = os.lseek(log, 0, os.SEEK_HOLE)
        while found < size:
            first = found if first is None else first
            last = size  # where no data follow
            last = os.lseek(log, found, os.SEEK_DATA)
            found = os.lseek(log, last, os.SEEK_HOLE)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP):
            raise
    return None if first is None else (first, last)


def _cut_before(log: int, head: int) -> tuple[int, tuple[int, int] | None]:
    """Return how much an earlier cut left out, and where the line about it lies."""
    base = max(0, head - _SEARCHED - 1)
    found = _LEFT_OUT.search(os.pread(log, head - base + 2 * len(left_out(1 << 62)), base))
    if found is None or base + found.start() > head + 1:
        return 0, None
    return int(found[1]) * _UNITS[found[2].decode()], (base + found.start(), base + found.end())


def _line_end(log: int, near: int) -> int:
    """Return the end of the last line that ends just before `near`, otherwise that of a character."""
    base = max(0, near - _SEARCHED)
    text = os.pread(log, near + 1 - base, base)
    end = text.rfind(b"\n", 0, near - base)
    if end >= 0:
        return base + end + 1
    back = next((n for n in range(4) if near - n <= base or text[near - n - base] & 0xC0 != 0x80), 0)
    return near - back


def _line_start(log: int, near: int, searched: int) -> int:
    """Return the start of the first line that begins just after `near`, otherwise that of a character."""
    text = os.pread(log, max(searched, 4) + 1, near - 1)
    found = text.find(b"\n", 0, searched + 1)
    if found >= 0:
        return near + found
    return near + next((n for n in range(4) if n + 1 >= len(text) or text[n + 1] & 0xC0 != 0x80), 0)


def _close_up(log: int, start: int, line: bytes, end: int, most: int) -> None:
    """Let `line` and what is from `end` on follow `start`.

    In place: a process that still appends to the file goes on appending to it. What it writes meanwhile is copied,
    too, unless it writes without end (`most`: bytes of the file until when it is waited for) or at the very moment
    when the file is cut.
    """
    written = start
    try:
        written += _write(log, line, written)
        while end < most and (chunk := os.pread(log, _CHUNK, end)):
            end += len(chunk)
            written += _write(log, chunk, written)
    finally:  # on a full disk, too: part of the tail, rather than zeros
        os.ftruncate(log, written)


def _write(log: int, chunk: bytes, at: int) -> int:
    rest = memoryview(chunk)
    while rest:
        at += (count := os.pwrite(log, rest, at))
        rest = rest[count:]
    return len(chunk)
