"""Run a command to its end, and end it with all that it started when nobody waits for it any more."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence

GRACE_S = 5.0  #: between asking a command to end and ending it


def carry_out(words: Sequence[str], *, folder: str, environment: Mapping[str, str]) -> int:
    """Run a program in a folder and return its exit code; a negative one is the signal that ended it.

    What it prints goes where this process prints. It reads nothing. Ctrl-C at the terminal does not reach it: whether
    it goes on is this process's to decide. When it has ended, or waiting for it was interrupted, what it started is
    ended, too; where a worker runs it, at the latest with the worker, whose process group it shares.

    Raises:
        OSError: when there is no such program, or it cannot be started.
    """
    apart = multiprocessing.parent_process() is None  # a worker's group is no terminal's, and ends as a whole
    process: subprocess.Popen[bytes] | None = None
    try:
        with _undisturbed():
            process = subprocess.Popen(
                words, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, start_new_session=apart
            )
        # It stays a zombie until its group is ended: so long the number is nobody else's.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    except BaseException:
        if process is not None:
            _signal(process.pid, signal.SIGTERM, group=apart)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
        raise
    finally:
        if process is not None:
            _signal(process.pid, signal.SIGKILL, group=apart)
            process.wait()
    return process.returncode


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back what raises at Ctrl-C and TERM: a program that was started and is known to nobody would go on."""
    if threading.current_thread() is not threading.main_thread():
        yield  # nothing is ever raised here
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    held = {number: handler for number, handler in before.items() if callable(handler)}
    try:
        for one in held:
            signal.signal(one, lambda number, frame: came.append(number))
        yield
    finally:
        for one, handler in held.items():
            signal.signal(one, handler)
        for number in came:
            signal.raise_signal(number)


def _signal(pid: int, number: int, *, group: bool) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def ending(code: int) -> str:
    """Return how a program ended, as people read it."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
