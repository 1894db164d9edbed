"""Stop a run: ask its process to end, and end it when it does not."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time

from nectar import errors
from nectar.records import utc_now
from nectar.runs import Process, Run, RunState, RunStore, descendants, is_alive
from nectar.settings import Settings

PATIENCE_S = 10.0  #: for a process that was asked to end
AFTER_KILL_S = 4.0
_LOOK_S = 0.05


def cancel(books: RunStore, settings: Settings, run_id: str) -> Run:
    """Stop a run and return it: CANCELED, or as it ended meanwhile; CANCELING where its process is on another host.

    Raises:
        RunStateConflict: when it has ended.
        RunNotFound, RunAmbiguous, UsageError: when `run_id` does not name one run.
    """
    run = books.find(run_id)
    if run.state.final:
        raise errors.RunStateConflict(
            f"the run `{run.id}` has ended: {run.state.value}", hint="`nectar runs` lists those that are at work"
        )
    if run.state is RunState.QUEUED:
        return books.advance(run.id, RunState.CANCELED, at=utc_now(), error="it was canceled before it began")
    if run.state is not RunState.CANCELING:
        run = books.advance(run.id, RunState.CANCELING, at=utc_now())
    process = run.process
    if process is None or process.host != socket.gethostname():
        return run
    _end(process)
    books.take_in(settings.journals_dir)
    run = books.run(run.id)
    if run.state.final:
        return run
    return books.advance(run.id, RunState.CANCELED, at=utc_now(), error="it was canceled")


def _end(process: Process) -> None:
    """End a process, and those that it started: luigi's workers would go on, and publish."""
    below = descendants(process)
    _signal(process, signal.SIGTERM)
    until = time.monotonic() + PATIENCE_S
    while is_alive(process) and time.monotonic() < until:
        time.sleep(_LOOK_S)
    _signal(process, signal.SIGSTOP)  # from now on it starts no more, and is still there to be asked what it started
    until = time.monotonic() + AFTER_KILL_S
    while left := [one for one in {*below, *descendants(process)} if is_alive(one)]:
        for one in left:
            _signal(one, signal.SIGKILL)
        if time.monotonic() > until:
            break  # in a system call that nothing interrupts
        time.sleep(_LOOK_S)
    _signal(process, signal.SIGKILL)
    while is_alive(process) and time.monotonic() < until:
        time.sleep(_LOOK_S)


def _signal(process: Process, number: int) -> None:
    if is_alive(process):  # the number may be another's by now
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
