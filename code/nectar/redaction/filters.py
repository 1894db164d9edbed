"""Put a process with a sieve between what a task and its children print and the logs that it goes to.

It is a process, since a thread would stand still where C code prints while it holds the interpreter's lock, and since
what a task printed before it was killed must pass it, too. It has a session of its own, and ends when the last process
that prints through it has ended. No value of a secret is ever in a file before it is masked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
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


class _Filter:
    """One process, and the pipes that lead to it."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self.owner = os.getpid()
        self._told: frozenset[bytes] = frozenset()
        self._control, far = socket.socketpair()
        ends: list[int] = []
        targets: list[int] = []
        try:
            for descriptor in descriptors:
                targets.append(_opened_anew(descriptor))
                ends += os.pipe()
            inner = [far.fileno(), *(one for pair in zip(ends[::2], targets, strict=True) for one in pair)]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", _SIEVE, *map(str, inner)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=inner,
                start_new_session=True,
                cwd="/",
            )
            far.close()
            self.tell()
            for descriptor, end in zip(descriptors, ends[1::2], strict=True):
                os.dup2(end, descriptor)
        except BaseException:
            self._control.close()
            raise
        finally:
            far.close()
            for one in (*ends, *targets):
                os.close(one)
        self.pipes = [_name(descriptor) for descriptor in descriptors]

    def tell(self) -> None:
        """Let it know all values that this process knows."""
        new = frozenset(known.forms()) - self._told
        if new:
            self._ask(b"add", b" ".join(form.hex().encode() for form in sorted(new)))
            self._told |= new

    def end(self) -> None:
        """Return when all that was printed so far is in the logs; it goes on for those who still print."""
        ended = True
        with contextlib.suppress(OSError):  # it was killed: what it had not written yet is lost
            ended = self._ask(b"sync", b"")
        self._control.close()
        if ended:
            self._process.wait()
        else:  # it is there for what the task left behind
            _left.append(self._process)
        _left[:] = [process for process in _left if process.poll() is None]

    def forget(self) -> None:
        """Let go of it in a child that was forked."""
        self._control.close()
        self._process.returncode = 0  # it is the parent's to wait for

    def _ask(self, word: bytes, body: bytes) -> bool:
        """Have something done; True where it ends, since nobody prints through it any more."""
        self._control.sendall(b"%s %d\n%s" % (word, len(body), body))
        answer = self._control.recv(1)
        if not answer:
            raise BrokenPipeError("the process that masks secrets in logs has ended")
        return answer == b"."


_left: list[subprocess.Popen[bytes]] = []  #: that may go on for what tasks left behind
_engaged: _Filter | None = None
_guard = threading.RLock()


def engage() -> None:
    """Let what goes from here into the logs of an attempt be masked from now on, where any value is known.

    Raises:
        OSError: when the process cannot be started.
    """
    if not known.knows_any():
        return
    with _guard:
        if _engaged is not None and _engaged.owner == os.getpid():
            _engaged.tell()
            return
        descriptors = [descriptor for descriptor in (1, 2) if _leads_to_logs(descriptor)]
        if descriptors:
            _begin(descriptors)


def _begin(descriptors: Sequence[int]) -> None:
    global _engaged
    inherited, _engaged = _engaged, _Filter(descriptors)
    if inherited is not None:
        inherited.forget()
    os.environ[_NAMED] = " ".join([*os.environ.get(_NAMED, "").split(), *_engaged.pipes])


def release() -> None:
    """Return when all that went through the filter is in the logs; the descriptors lead elsewhere already."""
    global _engaged
    with _guard:
        if _engaged is None:
            return
        if _engaged.owner == os.getpid():
            _engaged.end()
        else:
            _engaged.forget()
        _engaged = None
        os.environ.pop(_NAMED, None)


@contextlib.contextmanager
def console() -> Iterator[None]:
    """Let what is printed meanwhile be masked wherever it goes: for a task's code that runs outside of its attempt."""
    if not known.knows_any() or _engaged is not None:
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
        release()


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


def _leads_to_logs(descriptor: int) -> bool:
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
    for process in _left:
        process.returncode = 0
    _left.clear()


os.register_at_fork(after_in_child=_after_fork)
