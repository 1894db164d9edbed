"""Carry a plan out in this process, one task after the other, as luigi's worker would."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import luigi
from luigi.event import Event as LuigiEvent
from luigi.task import DynamicRequirements

from nectar import errors
from nectar.execution.outcome import Event, EventKind, Listener, RunResult, StepResult, StepStatus
from nectar.plans import Action, PlanStep, Prepared, Why, make_plan
from nectar.recording.run import Run, running
from nectar.records import utc_now
from nectar.task import Task


def execute(prepared: Prepared, run: Run, listener: Listener) -> RunResult:
    """Carry a plan out and return how each task ended; a failed task stops what requires it and nothing else.

    Raises:
        StoreUnreachable: when the store fails in the middle; what was committed stays.
    """
    started = time.monotonic()
    execution = _Execution(run, listener)
    planned = prepared.plan.counts[Action.RUN]
    listener(Event(EventKind.RUN_STARTED, utc_now(), run.id, planned=planned))
    interrupted = False
    with running(run):
        try:
            execution.carry_out(prepared)
        except KeyboardInterrupt:
            interrupted = True
    for step in prepared.plan.steps:
        if step.ref not in execution.results:
            execution.note(step, StepStatus.NOT_RUN)
    result = RunResult(run.id, tuple(execution.results.values()), time.monotonic() - started, interrupted)
    listener(Event(EventKind.RUN_ENDED, utc_now(), run.id))
    return result


@dataclass(slots=True)
class _Execution:
    run: Run
    listener: Listener
    results: dict[str, StepResult] = field(default_factory=dict)  #: by ref

    def carry_out(self, prepared: Prepared) -> None:
        for step in prepared.plan.steps:
            if step.ref in self.results and self.results[step.ref].status is not StepStatus.SKIPPED:
                continue  # a requirement of two generators
            if step.action is Action.SKIP:
                self.note(step, StepStatus.SKIPPED)
            elif step.action is Action.BLOCKED:
                self.note(step, StepStatus.BLOCKED, error="; ".join(map(str, step.reasons)))
            elif any(self._is_missing(ref) for ref in step.requirements):
                self.note(step, StepStatus.NOT_RUN)
            else:
                self._run_task(step, prepared.tasks[step.ref])

    def _is_missing(self, ref: str) -> bool:
        return self.results[ref].status not in (StepStatus.SKIPPED, StepStatus.SUCCEEDED)

    def note(self, step: PlanStep, status: StepStatus, **facts: Any) -> None:
        result = StepResult(step.ref, step.task, status, step.path, **facts)
        self.results[step.ref] = result
        if status is not StepStatus.SKIPPED:
            self.listener(Event(EventKind.STEP_ENDED, utc_now(), self.run.id, task=step.task, step=result))

    def _run_task(self, step: PlanStep, task: luigi.Task) -> None:
        self.listener(Event(EventKind.STEP_STARTED, utc_now(), self.run.id, task=step.task))
        started = time.monotonic()
        task.trigger_event(LuigiEvent.START, task)
        try:
            with self._reporting(task):
                self._drive(task)
            if not _made_complete(step, task):
                raise errors.MissingOutput(
                    f"`{task!r}` returned, but its `complete()` still says that it is not done",
                    hint="write every output that `output()` names",
                )
        except KeyboardInterrupt:
            self._note_failure(step, task, "KeyboardInterrupt", started)
            raise
        except errors.StoreError:
            raise  # not the task's fault, and the next task would meet the same
        except BaseException as error:  # a task's own code: whatever it raises, the task failed
            task.trigger_event(LuigiEvent.FAILURE, task, error)
            task.on_failure(error)
            self._note_failure(step, task, _last_line(error), started)
        else:
            seconds = time.monotonic() - started
            task.trigger_event(LuigiEvent.PROCESSING_TIME, task, seconds)
            task.on_success()
            task.trigger_event(LuigiEvent.SUCCESS, task)
            self.note(step, StepStatus.SUCCEEDED, seconds=seconds, logs=_logs(task))

    def _note_failure(self, step: PlanStep, task: luigi.Task, error: str, started: float) -> None:
        self.note(step, StepStatus.FAILED, seconds=time.monotonic() - started, error=error, logs=_logs(task))

    def _drive(self, task: luigi.Task) -> None:
        """Run a task; a generator stays alive while what it yields is made."""
        steps = task.run()
        if not isinstance(steps, Generator):
            return
        answer = None
        with contextlib.closing(steps):
            while True:
                try:
                    wanted = steps.send(answer)
                except StopIteration:
                    return
                if not isinstance(wanted, DynamicRequirements):
                    wanted = DynamicRequirements(wanted)
                self._make(task, wanted)
                answer = wanted.paths

    def _make(self, task: luigi.Task, wanted: DynamicRequirements) -> None:
        prepared = make_plan(wanted.flat_requirements)
        before = dict(self.results)
        self.carry_out(prepared)
        failed = [step.task for step in prepared.plan.steps if self._is_missing(step.ref)]
        if failed:
            raise errors.MissingInput(
                f"`{task!r}` yielded what could not be made: " + ", ".join(f"`{name}`" for name in failed),
                hint="look at the logs of these tasks",
            )
        for ref in before.keys() & {step.ref for step in prepared.plan.steps}:
            self.results[ref] = before[ref]  # what this run itself made before stays "succeeded"

    @contextlib.contextmanager
    def _reporting(self, task: luigi.Task) -> Iterator[None]:
        """Give the task the functions by which it tells of its progress, as luigi's worker does."""

        def tell(kind: EventKind) -> Callable[[object], None]:
            return lambda value: self.listener(Event(kind, utc_now(), self.run.id, task=repr(task), detail=str(value)))

        functions = {
            "set_tracking_url": tell(EventKind.STEP_MESSAGE),
            "set_status_message": tell(EventKind.STEP_MESSAGE),
            "set_progress_percentage": tell(EventKind.STEP_PROGRESS),
            "decrease_running_resources": lambda resources: None,  # one task at a time holds no resources
        }
        for name, function in functions.items():
            task.__dict__[name] = function
        try:
            yield
        finally:
            for name in functions:
                task.__dict__[name] = None


def _made_complete(step: PlanStep, task: luigi.Task) -> bool:
    if isinstance(task, luigi.WrapperTask) or any(reason.why is Why.NEVER_COMPLETE for reason in step.reasons):
        return True
    if isinstance(task, Task) and type(task).output is Task.output:
        return True  # its own outputs alone, and the commit has just said so
    return bool(task.complete())


def _logs(task: luigi.Task) -> str | None:
    if not isinstance(task, Task) or task._nectar.outcome is None:
        return None
    return task._nectar.outcome.logs


def _last_line(error: BaseException) -> str:
    text = getattr(error, "message", None) or str(error)
    first = text.strip().splitlines()[0] if text.strip() else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
