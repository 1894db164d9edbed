"""Carry jobs out in long-lived worker processes: a crash costs one job, and the worker is replaced."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import luigi
from luigi.event import Event as LuigiEvent

from nectar import errors, settings
from nectar.address import Address
from nectar.chain import project
from nectar.execution.jobs import AtWork, Job, Report, ReportKind, Tell, now
from nectar.execution.worker import Packed, Start, work
from nectar.recording import leases
from nectar.recording.provenance import git_state, known_git_state
from nectar.recording.run import Run
from nectar.stores import Store
from nectar.task import Task, ground
from nectar.task.base import own_outputs
from nectar.task.running import known_of_inputs

GRACE_S = 5.0  #: between asking a worker to end and ending it
MOST_STARTS = 3  #: workers in a row that may die before they ask for work


@dataclass(slots=True)
class _Worker:
    process: Any  # a multiprocessing context's process has no common type
    pipe: Connection
    lifeline: Connection
    shared: Any
    batch: list[Job] = field(default_factory=list)  #: handed over, not reported yet, in order
    refs: dict[int, str] = field(default_factory=dict)  #: by the number under which a job was handed over
    busy: bool = False
    parked: dict[str, Job] = field(default_factory=dict)
    ready: bool = False  #: it has come so far as to ask for work
    knows_git: bool = False  #: it was told what the engine found out of the project's repository
    killed_ref: str | None = None
    killed_because: str | None = None
    kill_at: float | None = None  #: when TERM is followed by KILL


class ProcessExecutor:
    """See `nectar.execution.jobs.Executor` for the promises."""

    def __init__(self, tell: Tell, run: Run, workers: int) -> None:
        self._tell = tell
        self._context = _context()
        self._start = Start(
            run,
            settings.current(),
            tuple(sys.path),
            project.bound(),
            ground.main_module(),
            ground.configuration_in_use(),
        )
        self._barren = 0
        self._numbers = itertools.count()
        self._workers = [self._hire() for _ in range(workers)]

    # Workers

    def _hire(self) -> _Worker:
        pipe, far_pipe = self._context.Pipe()
        far_lifeline, lifeline = self._context.Pipe(duplex=False)
        shared = self._context.RawArray("d", [-1.0, 0.0, 0.0])
        process = self._context.Process(
            target=work, args=(far_pipe, far_lifeline, shared, self._start), name="nectar-worker", daemon=False
        )
        with _without_main():
            _start_process(process)
        far_pipe.close()
        far_lifeline.close()
        return _Worker(process, pipe, lifeline, shared)

    def _replace(self, worker: _Worker) -> None:
        """Take leave of a dead worker, tell what it leaves, and hire another."""
        self._drain_pipe(worker)
        worker.process.join()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)  # what its task started
        reason = worker.killed_because or _death(worker.process.exitcode)
        event = LuigiEvent.PROCESS_FAILURE if worker.killed_because is None else LuigiEvent.TIMEOUT
        at = self._job_at(worker)
        # Who makes them next may have looked for the dead already.
        logs = self._bury([*worker.batch, *worker.parked.values()], reason)
        for job in worker.batch:
            if worker.ready and (at is None or job.ref == at.ref):
                job.task.trigger_event(event, job.task, reason)  # as luigi: here, and no FAILURE
                self._tell(Report(ReportKind.FAILED, job.ref, error=reason, logs=logs.get(job.ref)))
                at = at or AtWork(job.ref, now())  # it died before it said which: the first pays
            else:
                self._tell(Report(ReportKind.BUSY, job.ref))  # it was not begun, or not committed: once more
        for job in worker.parked.values():
            self._tell(Report(ReportKind.BUSY, job.ref))
        self._barren = 0 if worker.ready else self._barren + 1
        if self._barren >= MOST_STARTS:
            raise errors.WorkersUnavailable(
                f"{self._barren} workers in a row died before they could begin: {reason}",
                hint="run with `--workers 1` to see why; memory may be short",
            )
        worker.pipe.close()
        worker.lifeline.close()
        self._workers[self._workers.index(worker)] = self._hire()

    def _bury(self, jobs: Sequence[Job], reason: str) -> dict[str, str]:
        """Keep the logs of attempts whose worker is gone, and let others have its leases; return the logs' places."""
        by_store: dict[str, tuple[Store, dict[Address, str]]] = {}
        for job in jobs:
            if isinstance(job.task, Task):
                store = job.task.target_store()
                by_store.setdefault(store.url, (store, {}))[1][job.task.target_address()] = job.ref
        logs = {}
        for store, refs in by_store.values():
            with contextlib.suppress(errors.StoreError):  # the reason matters more than its logs
                kept = leases.bury_all(store, list(refs), reason)
                logs.update({refs[address]: f"{places[-1]}/log" for address, places in kept.items() if places})
        return logs

    # The protocol

    def room(self) -> int:
        return sum(worker.ready and not worker.busy for worker in self._workers)

    def submit(self, jobs: Sequence[Job]) -> None:
        # Least of all one in which tasks are put aside: its death would cost these, too.
        worker = min((one for one in self._workers if one.ready), key=lambda one: (len(one.batch), len(one.parked)))
        if not worker.knows_git:
            self._tell_git(worker)
        packed = []
        for job in jobs:
            try:
                number = self._number(worker, job.ref)
                raw = pickle.dumps(job.task)
                packed.append(Packed(number, job.ref, job.number, job.forced, raw, known_of_inputs(job.task)))
            except Exception as error:  # a task's own state: whatever its pickling raises
                self._tell(Report(ReportKind.FAILED, job.ref, error=f"cannot be sent to a worker: {error}"))
            else:
                worker.batch.append(job)
        if packed:
            self._send(worker, "jobs", packed)

    def _number(self, worker: _Worker, ref: str) -> int:
        """Return a number by which the worker tells which job it is at."""
        number = next(self._numbers)
        worker.refs[number] = ref
        return number

    def _tell_git(self, worker: _Worker) -> None:
        """Spare a worker the question; where git has not answered yet, each worker asks when it has to know."""
        for state in known_git_state(settings.current().root):
            worker.knows_git = True
            self._send(worker, "git", state)

    def _send(self, worker: _Worker, word: str, content: Any) -> None:
        worker.busy = word not in ("drop", "git")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its death is noticed by its sentinel
            worker.pipe.send((word, content))

    def resume(self, ref: str) -> None:
        for worker in self._workers:
            if ref in worker.parked:
                worker.batch.append(worker.parked.pop(ref))
                self._send(worker, "resume", (ref, self._number(worker, ref)))
                return
        self._tell(Report(ReportKind.BUSY, ref))  # its worker died: it begins anew

    def drop(self, ref: str) -> None:
        for worker in self._workers:
            if ref in worker.parked:
                del worker.parked[ref]
                busy = worker.busy
                self._send(worker, "drop", ref)
                worker.busy = busy

    def wait(self, timeout_s: float) -> None:
        by_object: dict[Any, _Worker] = {}
        for worker in self._workers:
            by_object[worker.pipe] = worker
            by_object[worker.process.sentinel] = worker
        for worker in {id(by_object[one]): by_object[one] for one in wait(list(by_object), timeout_s)}.values():
            if not self._drain_pipe(worker):
                self._replace(worker)
        for worker in self._workers:
            if worker.kill_at is not None and now() > worker.kill_at:
                worker.kill_at = None
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.process.pid, signal.SIGKILL)

    def _drain_pipe(self, worker: _Worker) -> bool:
        """Take in what a worker has told; False when it is dead."""
        try:
            while worker.pipe.poll():
                done, raw = worker.pipe.recv()
                worker.ready = True
                for one in raw:
                    self._take_report(worker, pickle.loads(one))
                if done and not worker.batch:
                    worker.busy = False
                    worker.refs.clear()
        except (EOFError, OSError):
            return False
        return worker.process.exitcode is None

    def _take_report(self, worker: _Worker, report: Report) -> None:
        job = next((one for one in worker.batch if one.ref == report.ref), None)
        if job is not None and report.kind not in (ReportKind.MESSAGE, ReportKind.PROGRESS):
            worker.batch.remove(job)
            if job.ref == worker.killed_ref:  # it ended by itself within the grace
                worker.killed_ref = worker.killed_because = worker.kill_at = None
            if report.kind is ReportKind.YIELDED:
                worker.parked[job.ref] = job
        self._tell(report)

    def at_work(self) -> list[AtWork]:
        found = (self._job_at(worker) for worker in self._workers if worker.busy)
        return [one for one in found if one is not None]

    def _job_at(self, worker: _Worker) -> AtWork | None:
        ref, since = worker.refs.get(int(worker.shared[0])), worker.shared[1]
        return AtWork(ref, since) if ref is not None and any(job.ref == ref for job in worker.batch) else None

    def kill(self, ref: str, reason: str) -> None:
        for worker in self._workers:
            at = self._job_at(worker)
            if at is not None and at.ref == ref and worker.kill_at is None and worker.killed_because is None:
                worker.killed_ref, worker.killed_because = ref, reason
                worker.kill_at = now() + GRACE_S
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.process.pid, signal.SIGTERM)

    def drain(self) -> None:
        for worker in self._workers:
            worker.shared[2] = 1.0

    def close(self, *, at_once: bool) -> None:
        for worker in self._workers:
            if at_once:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.process.pid, signal.SIGTERM)
            else:
                self._send(worker, "stop", None)
        deadline = now() + GRACE_S
        left: list[Job] = []
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - now()))
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.join()
            left += (*worker.batch, *worker.parked.values())
            worker.pipe.close()
            worker.lifeline.close()
            worker.process.close()
        self._bury(left, "it was stopped")


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nectar.execution.worker", "nectar.task", "nectar.code_digest"])
    return context


def warm_up() -> None:
    """Start what workers come from, so that it loads luigi while the plan is made; git is asked meanwhile, too."""
    _context()
    with _without_main():
        forkserver.ensure_running()
    asking = (settings.current().root, os.getpid())
    if asking not in _asked:
        _asked.add(asking)
        threading.Thread(target=git_state, args=asking, name="nectar-git", daemon=True).start()


_asked: set[tuple[Path, int]] = set()  #: the projects of whose repositories git was asked, by process


def _start_process(process: Any) -> None:
    """Start a worker; a forkserver that was killed a moment ago is started anew, once its death is known."""
    for pause in (0.05, 0.2, 1.0):
        try:
            process.start()
            return
        except (ConnectionError, EOFError):
            time.sleep(pause)
    process.start()


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep multiprocessing from running the main script again in every worker.

    A script without the `__name__` guard would start a run of its own there. Tasks that it defines are refused.
    """
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {name: vars(main).pop(name) for name in ("__spec__", "__file__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        more = "; the kernel does this when memory runs out" if name == "SIGKILL" else ""
        return f"its worker process was killed by {name}{more}"
    return f"its worker process ended by itself with exit code {exit_code}"


def check_sendable(tasks: Sequence[luigi.Task]) -> None:
    """Make sure that workers can have the tasks.

    Raises:
        UnsendableTask: names every class and parameter in the way, and the fix.
    """
    problems: dict[str, None] = {}
    seen: set[type] = set()
    for task in tasks:
        kind = type(task)
        simple = all(isinstance(value, (str, int, float, type(None))) for value in task.param_kwargs.values())
        if kind in seen and simple:
            continue
        seen.add(kind)
        if isinstance(task, Task) and own_outputs(task) and task.target_store().of_one_process:
            problems[f"the targets of `{kind.__name__}` lie in the memory of one process"] = None
        try:
            pickle.dumps(task)
        except Exception as error:  # a parameter's or a task's own pickling
            problems[f"`{task!r}` cannot be pickled: {error}"] = None
        if kind.__module__ == "__main__":
            problems[f"`{kind.__name__}` is defined in the running script or notebook"] = None
    if problems:
        raise errors.UnsendableTask(
            "; ".join(problems),
            hint="define tasks in a chain module and give parameters plain values, or run with `--workers 1`",
        )
