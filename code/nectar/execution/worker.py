"""What a long-lived worker process does: take batches of jobs from a pipe, carry them out, tell what happened.

A worker is the leader of a process group of its own, so that Ctrl-C at the terminal reaches the engine alone, and a
task's children can be ended with it. It ends with the engine, also when that is killed: the kernel sends it a signal,
and a guardian, which notices the closed lifeline, ends the whole group.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pickle
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from nectar.chain.project import bind
from nectar.execution.hands import Hands, last_line
from nectar.execution.jobs import AtWork, Job, Report, ReportKind
from nectar.recording import uses
from nectar.recording.provenance import learn_git_state
from nectar.recording.run import Run, running
from nectar.redaction import filters
from nectar.settings import Settings, adopt
from nectar.task.running import told_of_inputs
from nectar.task.state import Found

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker is told once."""

    run: Run
    settings: Settings
    path: tuple[str, ...]  #: the engine's `sys.path`
    project: str | None  #: the root of the project that comes first in what the engine imports
    main_module: str | None  #: the chain whose bare task names count
    luigi_config: dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Packed:
    """A job on its way: the task as bytes, so that one that cannot be read fails alone."""

    serial: int  #: by which the worker tells which job it is at
    ref: str
    number: int  #: of the attempt
    forced: bool
    raw: bytes
    inputs: Mapping[str, Found]  #: what the engine knows of the targets that it requires, by their paths

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as the values alone, as a `Report` does."""
        return Packed, (self.serial, self.ref, self.number, self.forced, self.raw, self.inputs)


def work(pipe: Connection, lifeline: Connection, at_work: Any, start: Start) -> None:
    """Carry out what comes through the pipe until it is closed; the entry of a worker process."""
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _keep_to_itself(pipe)
    _set_guardian(lifeline)
    sys.path[:] = start.path
    if start.project is not None:
        bind(Path(start.project))  # a chain that is a pipeline is no file that Python imports by itself
    adopt(start.settings)
    filters.mask_everywhere()
    _Worker(pipe, at_work).serve(start)


def _keep_to_itself(pipe: Connection) -> None:
    """Let nothing that a task leaves behind hold what this process was handed by the forkserver.

    The descriptors came through a socket, and such outlive an `exec`. Whoever has the forkserver's `alive` pipe keeps
    the forkserver, so that not even the worker keeps it: it must end with the engine, and its end ends the worker. Who
    has the resource tracker's pipe keeps the tracker.
    """
    server: Any = forkserver._forkserver
    os.close(server._forkserver_alive_fd)
    server._forkserver_alive_fd = None
    for descriptor in (resource_tracker.getfd(), *server._inherited_fds):
        os.set_inheritable(descriptor, False)
    os.register_at_fork(after_in_child=functools.partial(_let_go_in_child, pipe))


def _let_go_in_child(pipe: Connection) -> None:
    """Close, in a child that a task forks, the engine's pipe and the resource tracker's.

    A child that multiprocessing made keeps the tracker: with one of its own, the shared memory that it makes for its
    parent would be gone with it. Any other gets one of its own when it needs it.
    """
    pipe.close()
    tracker: Any = resource_tracker._resource_tracker
    who_forked = sys._getframe(1).f_globals.get("__name__")
    if who_forked != "multiprocessing.popen_fork" and tracker._fd is not None:
        os.close(tracker._fd)
        tracker._fd = tracker._pid = None


def _set_guardian(lifeline: Connection) -> None:
    """Let a process of the group wait for the engine's end, and then end the group.

    A thread could not: a task may hold the interpreter's lock for hours. Nor does the kernel's signal to the worker
    reach what the task started. As long as the guardian lives the group's number is nobody else's.
    """
    if os.fork():
        lifeline.close()
        return
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(EOFError, OSError):
            lifeline.recv_bytes()  # nothing is ever sent: it returns when the engine is gone, or lets the worker go
        os.killpg(0, signal.SIGKILL)
    finally:
        os._exit(0)


class _Worker:
    def __init__(self, pipe: Connection, at_work: Any) -> None:
        self._pipe = pipe
        self._at_work = (
            at_work  # shared with the engine: the serial of the job at work, since when, whether to begin more
        )
        self._serials: dict[str, int] = {}
        self._reports: list[Report] = []
        self._guard = threading.Lock()  # a task's threads tell of its progress, too
        self._hands = Hands(self._tell, self._note, lambda: bool(self._at_work[2]))

    def serve(self, start: Start) -> None:
        from nectar.task import ground

        ground.set_main_module(start.main_module)
        ground.set_configuration(start.luigi_config)
        with running(start.run), uses.covered_by_another():
            self._flush(done=True)  # ready
            while True:
                try:
                    word, content = self._pipe.recv()
                except EOFError:
                    return
                if word == "stop":
                    self._hands.drop_all()
                    return
                if word == "jobs":
                    self._carry_out(content)
                elif word == "resume":
                    ref, self._serials[ref] = content
                    self._hands.resume(ref)
                elif word == "drop":
                    self._hands.drop(content)
                    continue
                elif word == "git":
                    learn_git_state(start.settings.root, content)
                    continue
                self._flush(done=True)

    def _carry_out(self, packed: list[Packed]) -> None:
        jobs = []
        for one in packed:
            try:
                task = pickle.loads(one.raw)
            except Exception as error:  # a class that cannot be imported here, or its own __setstate__
                self._tell(Report(ReportKind.FAILED, one.ref, error=f"cannot be read in a worker: {last_line(error)}"))
            else:
                jobs.append(Job(one.ref, task, one.number, one.forced))
        self._serials.update({one.ref: one.serial for one in packed})
        known = {path: found for one in packed for path, found in one.inputs.items()}
        with told_of_inputs(known):
            self._hands.carry_out(jobs)

    def _note(self, at_work: AtWork | None) -> None:
        if self._pipe.closed:
            os._exit(0)  # a child that a task forked and let return here: it must not go on as if it were the worker
        if at_work is None:
            self._at_work[0] = -1.0
        else:
            self._at_work[1] = at_work.since
            self._at_work[0] = float(self._serials[at_work.ref])

    def _tell(self, report: Report) -> None:
        if self._pipe.closed:
            return  # a child that a task forked: the engine listens to the worker alone
        with self._guard:
            self._reports.append(report)
        if report.kind in (ReportKind.MESSAGE, ReportKind.PROGRESS):
            self._flush(done=False)

    def _flush(self, *, done: bool) -> None:
        with self._guard:
            self._send(done)

    def _send(self, done: bool) -> None:
        reports, self._reports = self._reports, []
        raw = []
        for report in reports:
            try:
                raw.append(pickle.dumps(report))
            except Exception as error:  # a task that was yielded and cannot be sent
                failed = Report(ReportKind.FAILED, report.ref, error=f"cannot be sent: {last_line(error)}")
                self._hands.drop(report.ref)
                raw.append(pickle.dumps(failed))
        self._pipe.send((done, raw))
