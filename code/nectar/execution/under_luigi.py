"""Let luigi's own worker and scheduler carry a plan out, for teams that have a luigid and look at its pages."""

from __future__ import annotations

import socket
import urllib.parse
from collections.abc import Sequence
from typing import Any

import luigi
import luigi.interface
import luigi.rpc
import luigi.scheduler

from nectar import errors
from nectar.execution.jobs import now
from nectar.execution.outcome import Event, EventKind, Listener, RunResult, StepResult, StepStatus
from nectar.plans import MAKING, Action, Prepared
from nectar.recording.run import Run, running
from nectar.records import utc_now
from nectar.task import Task
from nectar.task.closure import reference
from nectar.task.history import path_of
from nectar.task.luigi_worker import ObservedFactory

PROBE_SECONDS = 3.0


def check_failures_end(prepared: Prepared) -> None:
    """Make sure that no task of a plan is to go on after a failure: luigi's scheduler would never start it.

    Raises:
        OptionsInvalid: when one is.
    """
    for step in prepared.plan.steps:
        task = prepared.tasks[step.ref]
        if step.action in MAKING and isinstance(task, Task) and task.may_catch_failures():
            raise errors.OptionsInvalid(
                f"failures have ways of their own in `{step.task}`, and luigi's worker knows none",
                hint="leave out `--executor luigi`",
            )


class LuigiRunner:
    """One run of a plan under luigi. See `nectar.execution.outcome.Runner`."""

    def __init__(
        self,
        prepared: Prepared,
        roots: Sequence[luigi.Task],
        run: Run,
        listener: Listener,
        *,
        workers: int,
        scheduler_url: str | None,
    ) -> None:
        if scheduler_url is not None:
            _probe(scheduler_url)
        self._prepared, self._roots = prepared, roots
        self._run, self._listener = run, listener
        self._workers, self._scheduler_url = workers, scheduler_url
        self._started: dict[str, float] = {}
        self._attempts: dict[str, int] = {}
        self._results: dict[str, StepResult] = {}
        self._yielded: dict[str, luigi.Task] = {}  # and whatever else the plan does not know, by ref
        self._worker: Any = None
        self._interrupted = False

    def drain(self) -> None:
        """Let what has begun end, and begin nothing more. Safe in a signal handler."""
        self._interrupted = True
        if self._worker is not None:
            self._worker._stop_requesting_work = True

    def execute(self) -> RunResult:
        """Carry the plan out.

        Raises:
            SchedulerUnreachable: when a luigid stops answering.
        """
        begun = now()
        planned = self._prepared.plan.to_make
        self._emit(EventKind.RUN_STARTED, planned=planned)
        settings: dict[str, Any] = {"no_lock": True, "workers": self._workers, "log_level": "WARNING"}
        settings["local_scheduler"] = self._scheduler_url is None
        settings["scheduler_url"] = self._scheduler_url or ""
        try:
            with running(self._run):
                luigi.interface._schedule_and_run(list(self._roots), ObservedFactory(self), settings)
        except KeyboardInterrupt:
            self._interrupted = True
        except luigi.rpc.RPCError as error:
            raise errors.SchedulerUnreachable(
                f"the luigid at `{self._scheduler_url}` stopped answering: {error}", hint="look at its log"
            ) from error
        self._note_the_rest()
        self._emit(EventKind.RUN_ENDED)
        steps = tuple(self._results.values())
        tasks = {**self._prepared.tasks, **self._yielded}
        return RunResult(self._run.id, steps, now() - begun, self._interrupted, tasks, self._prepared.ends)

    def _note_the_rest(self) -> None:
        """Say of every task that luigi did not run why not."""
        ran, self._results = self._results, {}
        for step in self._prepared.plan.steps:
            if step.ref in ran:
                self._results[step.ref] = ran.pop(step.ref)
            elif step.action is Action.SKIP:
                self._results[step.ref] = StepResult(step.ref, step.task, StepStatus.SKIPPED, step.path)
            elif step.action is Action.BLOCKED:
                why = "; ".join(map(str, step.reasons))
                self._results[step.ref] = StepResult(step.ref, step.task, StepStatus.BLOCKED, step.path, error=why)
            else:
                self._results[step.ref] = StepResult(step.ref, step.task, StepStatus.NOT_RUN, step.path)
        self._results.update(ran)  # what tasks yielded

    # What the worker tells

    def take_worker(self, worker: Any) -> None:
        """Learn which worker it is."""
        self._worker = worker
        if self._interrupted:
            worker._stop_requesting_work = True

    def task_started(self, task: luigi.Task) -> None:
        """Learn that the worker begins a task."""
        if task.task_id not in self._started:
            self._started[task.task_id] = now()
            self._attempts[task.task_id] = self._attempts.get(task.task_id, 0) + 1
            self._emit(EventKind.STEP_STARTED, task=repr(task), ref=reference(task), path=path_of(task))

    def task_complete(self, task: luigi.Task) -> None:
        """Learn that a task was complete before: the plan has said so."""

    def task_yielded(self, task: luigi.Task, wanted: Sequence[str]) -> None:
        """Learn that a task waits for others: luigi sees to that."""

    def task_ended(self, task: luigi.Task, error: str | None) -> None:
        """Learn how a task ended; one that luigi tries again ends more than once."""
        seconds = now() - self._started.pop(task.task_id, now())
        path = path_of(task)
        failed = error is not None
        reused = not failed and path is not None and _was_reused(task)
        good = StepStatus.REUSED if reused else StepStatus.SUCCEEDED
        result = StepResult(
            reference(task),
            repr(task),
            StepStatus.FAILED if failed else good,
            path,
            seconds,
            error,
            logs=_logs(task, failed) if isinstance(task, Task) and path is not None else None,
            attempts=self._attempts.get(task.task_id, 0),
        )
        self._results[result.ref] = result
        if result.ref not in self._prepared.tasks:
            self._yielded[result.ref] = task
        self._emit(EventKind.STEP_ENDED, task=result.task, ref=result.ref, step=result)

    def _emit(self, kind: EventKind, **facts: Any) -> None:
        self._listener(Event(kind, utc_now(), self._run.id, **facts))


def _probe(url: str) -> None:
    """Make sure that something answers at a luigid's address; luigi itself would ask for minutes."""
    parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), PROBE_SECONDS).close()
    except (OSError, ValueError) as error:
        raise errors.SchedulerUnreachable(
            f"no luigid answers at `{url}`: {error}", hint="start one with `luigid`, or leave out `--scheduler-url`"
        ) from error


def _was_reused(task: luigi.Task) -> bool:
    """Say whether a task took an earlier target's files; only its record tells, if it ran in a process of its own."""
    assert isinstance(task, Task)
    record = task.target_store().inspect(task.target_address(), leftovers=False).record
    return record is not None and record.reused_from is not None


def _logs(task: Task, failed: bool) -> str | None:
    address = task.target_address()
    if not failed:
        return f"{address}/log"
    attempts = [one for one in task.target_store().reader(address).attempts() if not one.running]
    return f"{attempts[-1].path}/log" if attempts else None
