"""Put a process with a sieve between what a task and its children print and the logs that it goes to.

It is a process, since a thread would stand still where C code prints while it holds the interpreter's lock, and since
what a task printed before it was killed must pass it, too. It has a session of its own, and ends when the last process
that prints through it has ended. No value of a secret is ever in a file before it is masked.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from nectar.redaction import known

_SIEVE = str(Path(__file__).with_name("sieve.py"))
_LOGS = ("/log/stdout.log", "/log/stderr.log")  #: how the paths of an attempt's logs end
_NAMED = "NECTAR_FILTERED"  #: variable that tells processes which a task starts what the pipes of its filters are
_WAIT_S = 2.0  #: for the filter of a process that is gone


class _Process:
    """The process that masks what one process of ours and its children print, for as long as either lives."""

    def __init__(self) -> None:
        import socket  # late, both: the command line starts without them
        import subprocess

        self.owner = os.getpid()
        self._told: frozenset[bytes] = frozenset()
        self._control, far = socket.socketpair()
        with far:
            started = subprocess.Popen(
                [sys.executable, "-I", "-S", _SIEVE, str(far.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[far.fileno()],
                start_new_session=True,
                cwd="/",
            )
        started.returncode = 0  # nobody waits for it: it may have to go on for what a task left behind

    def tell(self) -> None:
        """Let it know all values that this process knows."""
        new = frozenset(known.forms()) - self._told
        if new:
            self.ask(b"add", b" ".join(form.hex().encode() for form in sorted(new)))
            self._told |= new

    def ask(self, word: bytes, body: bytes = b"", handed: Sequence[int] = ()) -> None:
        """Have something done, and wait until it is.

        Raises:
            OSError: when the process has ended.
        """
        import socket

        request = b"%s %d\n%s" % (word, len(body), body)
        sent = socket.send_fds(self._control, [request], list(handed)) if handed else 0
        self._control.sendall(request[sent:])
        if not self._control.recv(1):
            raise BrokenPipeError("the process that masks secrets in logs has ended")

    def leave(self) -> None:
        """Let go of it."""
        self._control.close()


class _Filter:
    """Pipes in the place of descriptors, behind which values are masked."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self.owner = os.getpid()
        ends: list[int] = []
        targets: list[int] = []
        try:
            for descriptor in descriptors:
                targets.append(_opened_anew(descriptor))
                ends += os.pipe()
            handed = [one for pair in zip(ends[::2], targets, strict=True) for one in pair]
            _process().ask(b"take", handed=handed)
            for descriptor, end in zip(descriptors, ends[1::2], strict=True):
                os.dup2(end, descriptor)
        finally:
            for one in (*ends, *targets):
                os.close(one)
        self.pipes = [_name(descriptor) for descriptor in descriptors]


_at_work: _Process | None = None


def _process() -> _Process:
    """Return the process that masks for this one, which knows all values.

    Raises:
        OSError: when it cannot be started.
    """
    global _at_work
    if _at_work is not None and _at_work.owner == os.getpid():
        try:
            _at_work.tell()
        except OSError:  # it was killed
            _at_work.leave()
        else:
            return _at_work
    _at_work = _Process()
    _at_work.tell()
    return _at_work


_engaged: list[_Filter] = []  #: those at work, the one of an attempt's logs after the one of the console
_guard = threading.RLock()
_everywhere = threading.Event()  #: set in processes of Nectar's own
_console: dict[int, int] = {}  #: where 1 and 2 went before they led to a filter for as long as the process lives


def mask_everywhere() -> None:
    """Mask all that this process prints, but to a terminal, from the first value that it knows on.

    For processes of Nectar's own. A terminal stays what it is for those who draw on it.
    """
    _everywhere.set()
    atexit.register(_leave_console)


def _leave_console() -> None:
    """See to it that all is told when the process has ended."""
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    while _console:
        descriptor, before = _console.popitem()
        os.dup2(before, descriptor)
        os.close(before)
    _everywhere.clear()
    settle()


def engage() -> None:
    """Let what goes from here into the logs of an attempt be masked from now on, where any value is known.

    Raises:
        OSError: when the process cannot be started.
    """
    if not known.knows_any():
        return
    with _guard:
        _forget_inherited()
        if _engaged:
            _process()
        masked = {pipe for one in _engaged for pipe in one.pipes}
        wanted = [descriptor for descriptor in (1, 2) if _name(descriptor) not in masked and _is_ours(descriptor)]
        for descriptor in wanted:
            if not _leads_to_logs(descriptor) and descriptor not in _console:
                _console[descriptor] = os.dup(descriptor)
        if wanted:
            _begin(wanted)


def _begin(descriptors: Sequence[int]) -> None:
    _forget_inherited()
    _engaged.append(_Filter(descriptors))
    os.environ[_NAMED] = " ".join([*os.environ.get(_NAMED, "").split(), *_engaged[-1].pipes])


def _forget_inherited() -> None:
    """Forget the filters of the process that this one was forked from: the descriptors may still lead there."""
    _engaged[:] = [one for one in _engaged if one.owner == os.getpid()]


def settle() -> None:
    """Return when all that went through filters to which 1 and 2 lead no longer is in the logs."""
    if not _engaged:
        return
    with _guard:
        now = {_name(descriptor) for descriptor in (1, 2)}
        for one in [one for one in _engaged if now.isdisjoint(one.pipes)]:
            _engaged.remove(one)
            with contextlib.suppress(OSError):  # it was killed: what it had not written yet is lost
                if one.owner == os.getpid() and _at_work is not None:
                    _at_work.ask(b"sync")
            named = [pipe for pipe in os.environ.get(_NAMED, "").split() if pipe not in one.pipes]
            os.environ[_NAMED] = " ".join(named)
            if not named:
                del os.environ[_NAMED]
    if _everywhere.is_set():
        engage()


@contextlib.contextmanager
def console() -> Iterator[None]:
    """Let what is printed meanwhile be masked wherever it goes: for a task's code that runs outside of its attempt."""
    masked = {pipe for one in _engaged if one.owner == os.getpid() for pipe in one.pipes}
    if not known.knows_any() or all(_name(descriptor) in masked for descriptor in (1, 2)):
        yield
        return
    saved = {}
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        _flush(stream)
        with contextlib.suppress(OSError):  # a daemon without a console
            saved[descriptor] = os.dup(descriptor)
    try:
        with _guard:
            _begin(list(saved))
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        for descriptor, before in saved.items():
            os.dup2(before, descriptor)
            os.close(before)
        settle()


def wait_for(path: str, limit_s: float = _WAIT_S) -> None:
    """Wait until no filter has something to write into a log any more, but not for ever: a daemon may hold one."""
    deadline = time.monotonic() + limit_s
    pause_s = 0.001
    try:
        log = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return  # there is no such log
    try:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(pause_s)
                pause_s = min(0.05, pause_s * 2)
            else:
                return
    finally:
        os.close(log)


def _flush(stream: object) -> None:
    with contextlib.suppress(AttributeError, ValueError, OSError):
        stream.flush()  # type: ignore[attr-defined]


def _is_ours(descriptor: int) -> bool:
    return _leads_to_logs(descriptor) or (
        _everywhere.is_set() and bool(_name(descriptor)) and not os.isatty(descriptor)
    )


def _leads_to_logs(descriptor: int) -> bool:
    """Say whether a descriptor leads to an attempt's log, be it by another process's filter."""
    name = _name(descriptor)
    return name.endswith(_LOGS) or name in os.environ.get(_NAMED, "").split()


def _name(descriptor: int) -> str:
    """Return the path of the file that a descriptor leads to, or a pipe's name; nothing where it cannot be known."""
    try:
        if hasattr(fcntl, "F_GETPATH"):  # macOS
            return fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0").decode("utf-8", "replace")
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def _opened_anew(descriptor: int) -> int:
    """Return a descriptor of the same file, with locks of its own where it is a file that can be opened again."""
    if _name(descriptor).endswith(_LOGS):
        with contextlib.suppress(OSError):
            return os.open(f"/dev/fd/{descriptor}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    return os.dup(descriptor)


def _after_fork() -> None:
    """A thread of the parent may have held the lock; the parent's filter stays where the descriptors lead."""
    global _guard
    _guard = threading.RLock()
    while _console:  # what a child leaves behind must not hold the console
        os.close(_console.popitem()[1])
    if _at_work is not None:
        _at_work.leave()


os.register_at_fork(after_in_child=_after_fork)
