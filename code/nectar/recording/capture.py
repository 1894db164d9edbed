"""Take what a task prints, and what its threads, C code and children print, into the files of its attempt.

File descriptors 1 and 2 are pointed at the log files, so that nothing has to cooperate. A pipe with a pump thread
would deadlock where C code prints much while it holds the interpreter's lock; a file never blocks. What should also be
seen is copied from the files to the console that was there before, by one thread a process. How large the files become
is bounded: see `nectar.recording.log_bounds`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, TextIO

from nectar import errors
from nectar.recording.log_bounds import LOG_LIMIT_BYTES, BoundedLog, left_out, watch
from nectar.redaction import filters

ECHO_INTERVAL_S = 0.1

_CHUNK = 1 << 20  #: bytes shown at once
_fflush = ctypes.CDLL(None).fflush
_fflush.argtypes = (ctypes.c_void_p,)
_active = threading.Lock()  #: descriptors 1 and 2 belong to the process: one capture at a time


class Echo(Enum):
    """Where what tasks print is shown beside their logs."""

    NO = "no"
    SAME = "same"  #: where it went before
    STDERR = "stderr"  #: all of it: stdout is for results


def captured(
    stdout_path: str, stderr_path: str, echo: Echo, limit: int = LOG_LIMIT_BYTES
) -> contextlib.AbstractContextManager[None]:
    """Append all that is printed meanwhile to two files, and show it where `echo` says.

    The paths are absolute. Of a file that grows beyond `limit` bytes its head and its tail are kept. Where a capture
    is at work already (a task that runs another in its own process) what is printed goes to the outer one's files.

    Raises:
        StoreUnreachable: when the files cannot be opened; the console is as before. When one of them is too large
            and cannot be rewritten, unless there is another exception on its way.
    """
    return _Capture(stdout_path, stderr_path, echo, limit)


class _Capture:
    """What `captured` returns; a class, as each task pays for what happens here."""

    def __init__(self, stdout_path: str, stderr_path: str, echo: Echo, limit: int) -> None:
        self._paths = stdout_path, stderr_path
        self._echo = echo
        self._limit = limit
        self._streams: list[_Stream] = []
        self._root: _RootHandler | None = None

    def __enter__(self) -> None:
        if not _active.acquire(blocking=False):
            return
        self._process = os.getpid()
        try:
            self._begin()
        except BaseException:
            self._end()
            raise

    def _begin(self) -> None:
        for descriptor, name, path in zip((1, 2), ("stdout", "stderr"), self._paths, strict=True):
            try:
                self._streams.append(_Stream(descriptor, name, BoundedLog(path, self._limit), self._echo))
            except OSError as error:
                raise errors.StoreUnreachable(
                    f"the log `{os.path.basename(path)}` cannot be written: {os.strerror(error.errno or 0).lower()}",
                    hint="look at the disk that holds the store, and at the limit of open files (`ulimit -n`)",
                ) from error
        watch.follow([stream.log for stream in self._streams])
        if self._echo is not Echo.NO:
            _echo.follow(self._streams)
        self._root = _root_handler()
        try:
            filters.engage()
        except OSError as error:
            raise errors.StoreUnreachable(
                f"the process that masks secrets in logs cannot be started: {os.strerror(error.errno or 0).lower()}",
                hint="look at the limits of processes and open files (`ulimit -u`, `ulimit -n`)",
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._streams:  # an outer capture is at work
            return
        streams = self._streams
        self._end()
        if self._process != os.getpid():  # a child that the task forked and let return: the logs are not its own
            return
        for stream in streams:
            try:
                stream.log.finish()
            except OSError as reason:
                if error is None:  # why the task failed weighs more
                    raise errors.StoreUnreachable(
                        f"the log `{os.path.basename(stream.log.path)}` is too large and cannot be shortened: "
                        f"{os.strerror(reason.errno or 0).lower()}",
                        hint="look at the disk that holds the store",
                    ) from reason

    def _end(self) -> None:
        """Let everything be as before, whatever of it fails."""
        streams, self._streams = self._streams, []
        try:
            _remove_root_handler(self._root)
            for stream in streams:
                stream.flush()
            _fflush(None)
        finally:
            try:
                _restore(streams)
                filters.settle()
            finally:
                _let_go(streams, self._echo)


def _restore(streams: Sequence[_Stream]) -> None:
    if streams:
        try:
            _restore(streams[1:])
        finally:
            streams[0].restore()


def _let_go(streams: Sequence[_Stream], echo: Echo) -> None:
    try:
        if echo is not Echo.NO and streams:
            _echo.stop()  # when the streams are restored, and before they are closed
    finally:
        watch.stop()
        for stream in streams:
            stream.close()
        _active.release()


class _Stream:
    """One of the two streams: where it went before, and the file where it goes now."""

    def __init__(self, descriptor: int, name: str, log: BoundedLog, echo: Echo) -> None:
        self.log = log
        self._descriptor = descriptor
        self._name = name
        self._echo = echo
        self._before: TextIO | None = getattr(sys, name)
        self._source: int | None = None
        self._shown = 0  #: bytes of the log that have been shown, or left out
        self._saved: int | None = None
        file = os.open(log.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            if echo is not Echo.NO:
                self._source = os.open(log.path, os.O_RDONLY | os.O_CLOEXEC)
                self._shown = os.fstat(self._source).st_size
            self._saved = _duplicate(descriptor)
            if self._saved is not None:
                _saved.add(self._saved)
            if self._before is not None:
                with contextlib.suppress(ValueError, OSError):  # a console that is closed has nothing to flush
                    self._before.flush()
            _fflush(None)
            os.dup2(file, descriptor)
        except OSError:
            self.close()
            raise
        finally:
            os.close(file)
        self._replacement = _writer(descriptor)
        setattr(sys, name, self._replacement)
        # What writes through the descriptor arrives by itself; a notebook's own stream does not.
        own_stream = not _writes_to(self._before, descriptor)
        self._handlers = _point_handlers(self._before, self._replacement) if own_stream else []

    def flush(self) -> None:
        """Let what Python still holds back go into the log."""
        try:
            self._replacement.flush()
        except (ValueError, OSError):  # the task may have closed it; the disk may be full: it keeps what did not fit
            _writers.pop(self._descriptor, None)

    def restore(self) -> None:
        """Point the descriptor back to where it went before."""
        if getattr(sys, self._name) is self._replacement:
            setattr(sys, self._name, self._before)
        for handler in self._handlers:
            handler.stream = self._before
        if self._saved is None:
            os.close(self._descriptor)
        else:
            os.dup2(self._saved, self._descriptor)

    def echo(self) -> None:
        """Show what has been written since the last time; where that is gone already, how much of it."""
        while self._source is not None and (chunk := os.pread(self._source, _CHUNK, self._shown)):
            end = self._shown + len(chunk)
            hole = self.log.hole  # asked after reading: it is set before the bytes go
            if hole is not None and self._shown < hole[1] and end > hole[0]:
                chunk = chunk[: max(0, hole[0] - self._shown)]
                line = left_out(hole[1] - self._shown - len(chunk))
                chunk += line if chunk.endswith(b"\n") else b"\n" + line
                end = hole[1]
            self._show(chunk)
            self._shown = end

    def _show(self, chunk: bytes) -> None:
        if self._echo is Echo.STDERR and self._descriptor == 1:
            _echo.show_on_stderr(chunk)
            return
        self.show(chunk)

    def show(self, chunk: bytes) -> None:
        """Write to where the stream went before."""
        if self._saved is not None and _writes_to(self._before, self._descriptor):
            rest = memoryview(chunk)
            with contextlib.suppress(OSError):  # nobody looks any more: the file has it all
                while rest:
                    rest = rest[os.write(self._saved, rest) :]
        elif self._before is not None:  # a notebook's or a test's own stream
            with contextlib.suppress(ValueError, OSError):
                self._before.write(chunk.decode("utf-8", "backslashreplace"))
                self._before.flush()

    def close(self) -> None:
        if self._source is not None:
            os.close(self._source)
            self._source = None
        if self._saved in _saved:
            _saved.discard(self._saved)
            os.close(self._saved)


class _Writer(io.TextIOWrapper):
    """A text stream that writes to a descriptor, wherever that points: the captures of a process share it."""

    def __init__(self, descriptor: int) -> None:
        raw = io.FileIO(descriptor, "w", closefd=False)
        super().__init__(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)

    def reconfigure(self, **changes: Any) -> None:
        """Change it for the task that asks, and let the next one have a new stream."""
        if _writers.get(self.fileno()) is self:
            del _writers[self.fileno()]
        super().reconfigure(**changes)


_writers: dict[int, _Writer] = {}  #: by descriptor


def _writer(descriptor: int) -> _Writer:
    writer = _writers.get(descriptor)
    with contextlib.suppress(ValueError):  # detached
        if writer is not None and not writer.closed:
            return writer
    writer = _writers[descriptor] = _Writer(descriptor)
    return writer


_saved: set[int] = set()  #: descriptors of the console, while captures are at work


def _let_console_go() -> None:
    """Close the console in a child that a task forks: what it leaves behind must not hold the console open."""
    while _saved:
        with contextlib.suppress(OSError):
            os.close(_saved.pop())


os.register_at_fork(after_in_child=_let_console_go)


class _Echo:
    """One thread a process that copies growing log files to the console."""

    def __init__(self) -> None:
        self._streams: list[_Stream] = []
        self._stderr: _Stream
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._process = 0

    def follow(self, streams: list[_Stream]) -> None:
        if self._process != os.getpid():  # threads do not survive a fork
            self._process, self._guard, self._wake = os.getpid(), threading.Lock(), threading.Event()
            threading.Thread(target=self._loop, name="nectar-echo", daemon=True).start()
        with self._guard:
            self._streams = streams
            self._stderr = streams[1]
        self._wake.set()

    def stop(self) -> None:
        """Show the rest; afterwards nothing is shown any more."""
        self._wake.clear()
        with self._guard:
            streams, self._streams = self._streams, []
            for stream in streams:
                stream.echo()

    def show_on_stderr(self, chunk: bytes) -> None:
        """Show what came by stdout where stderr went before; called by a stream that is being followed."""
        self._stderr.show(chunk)

    def _loop(self) -> None:
        pause = threading.Event()  # never set: a wait that does not hold the interpreter
        while True:
            self._wake.wait()
            pause.wait(ECHO_INTERVAL_S)
            with self._guard:
                for stream in self._streams:
                    stream.echo()


_echo = _Echo()


@dataclass(frozen=True, slots=True)
class _RootHandler:
    handler: logging.Handler
    level: int  #: of the root logger before


def _root_handler() -> _RootHandler | None:
    """Where a program set up no logging, send a task's log messages into its stderr.log, from INFO up."""
    root = logging.getLogger()
    if root.handlers:
        return None
    handler = _own_handler()
    handler.stream = sys.stderr
    level = root.level
    root.addHandler(handler)
    if level > logging.INFO:
        root.setLevel(logging.INFO)
    return _RootHandler(handler, level)


@contextlib.contextmanager
def many_captures() -> Iterator[None]:
    """Set the root logger up once for all captures that come meanwhile, where a program set up no logging.

    Whenever its level changes all loggers forget what they know, which takes longer than all else of a capture.
    """
    root = logging.getLogger()
    level = root.level
    if root.handlers or level <= logging.INFO:
        yield
        return
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        if root.level == logging.INFO:  # a task may have set another
            root.setLevel(level)


@functools.lru_cache(maxsize=1)
def _own_handler() -> logging.StreamHandler[Any]:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda message: not message.name.startswith("luigi"))  # luigi's has a handler of its own
    return handler


def _remove_root_handler(added: _RootHandler | None) -> None:
    if added is None:
        return
    root = logging.getLogger()
    root.removeHandler(added.handler)
    if added.level > logging.INFO == root.level:  # otherwise it was not changed, or the task itself has set another
        root.setLevel(added.level)


def _point_handlers(before: TextIO | None, after: TextIO) -> list[logging.StreamHandler[Any]]:
    """Point logging's handlers that write to the stream before at the one that replaces it, and return them."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    found = []
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream is before and before is not None:
                handler.stream = after
                found.append(handler)
    return found


def _duplicate(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return None  # a daemon without a console


def _writes_to(stream: TextIO | None, descriptor: int) -> bool:
    if stream is None:
        return False
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError, io.UnsupportedOperation, AttributeError):
        return False
