"""Materialize steps: as tasks in memory, planned and carried out by the engine that carries all tasks out."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import luigi

from nectar import errors
from nectar.execution.engine import Engine, Limits
from nectar.execution.inline import InlineExecutor
from nectar.execution.jobs import Executor, Tell
from nectar.execution.outcome import Event
from nectar.execution.threads import ThreadExecutor
from nectar.plans import make_plan
from nectar.recording.capture import Echo
from nectar.recording.run import new_run
from nectar.steps.step import Step, is_available, steps_of, to_run

EXECUTORS = ("inline", "threads")


def materialize(head: Step, executor: str | None, workers: int | None) -> Any:
    """Return the result of a step; see `Step.materialize`."""
    make_executor = _executor(executor, workers)
    for step in steps_of(head).values():
        if step.ctx is not None:
            step.ctx.warn_of_drift(step)
    if is_available(head):
        assert head.ctx is not None
        return head.ctx[head.name]
    session = Session(head)
    root = session.task_of(head)
    engine = Engine(make_plan([root]), make_executor, new_run(echo=Echo.SAME), _nobody, Limits(fail_fast=True))
    result = engine.execute()
    if session.raised is not None and not result.success:
        raise session.raised
    if result.interrupted:
        raise KeyboardInterrupt
    if not result.success:
        bad = next(step for step in result.steps if step.error)
        raise errors.TaskFailed(f"step `{head.name}` was not made: {bad.error}", hint=bad.hint)
    return session.take(head)


def _executor(name: str | None, workers: int | None) -> Callable[[Tell], Executor]:
    if workers is not None and workers < 1:
        raise errors.UsageError(f"{workers} workers do nothing", hint="use 1 or more")
    if name is None:
        name = "threads" if workers is not None and workers > 1 else "inline"
    if name == "processes":
        raise errors.UsageError(
            "the results of steps are in the memory of this process, and no other one sees them",
            hint='use `executor="threads"`; for processes write tasks, whose results are files',
        )
    if name not in EXECUTORS:
        hint = errors.did_you_mean(name, EXECUTORS) or "there is " + ", ".join(f"`{one}`" for one in EXECUTORS)
        raise errors.UsageError(f"no executor `{name}` for steps", hint=hint)
    if name == "inline":
        if workers is not None and workers > 1:
            raise errors.UsageError("the executor `inline` has one worker", hint='use `executor="threads"`')
        return InlineExecutor
    number = workers or max(os.cpu_count() or 1, 2)
    return lambda tell: ThreadExecutor(tell, number)


class Session:
    """The results of one call of `materialize`, each kept for as long as a step needs it."""

    def __init__(self, head: Step) -> None:
        running = to_run(head)
        self._users = Counter(id(one) for step in running for one in set(step.depends_on))
        self._users[id(head)] += 1
        self._results: dict[int, Any] = {}
        self._tasks: dict[int, _StepTask] = {}
        self._guard = threading.Lock()
        self.raised: BaseException | None = None  #: by the first step that failed
        self._positions: dict[int, int] = {}

    def task_of(self, step: Step) -> _StepTask:
        """Return the task that stands for a step."""
        task = self._tasks.get(id(step))
        if task is None:
            # Not by a call of the class: luigi would keep the instance, and with it all results, for ever.
            task = self._tasks[id(step)] = type.__call__(_StepTask, name=step.name)
            task.session, task.step = self, step
        return task

    def has(self, step: Step) -> bool:
        """Say whether a step need not run."""
        return id(step) in self._results or is_available(step)

    def carry_out(self, step: Step) -> None:
        """Run a step with the results that it depends on, and keep its own."""
        try:
            given = [self._look(one) for one in step.depends_on]
            result = step.run(*given)
        except BaseException as error:
            with self._guard:
                self.raised = self.raised or error
            raise
        with self._guard:
            if step.ctx is not None:
                step.ctx.keep(step, result)
            if step.ctx is None or id(step) in self._users:
                self._results[id(step)] = result
            for one in set(step.depends_on):
                self._used(one)

    def take(self, step: Step) -> Any:
        """Return the result of a step, which is not needed any more."""
        return self._results.pop(id(step))

    def _look(self, step: Step) -> Any:
        if id(step) in self._results:
            return self._results[id(step)]
        assert step.ctx is not None
        return step.ctx[step.name]

    def _used(self, step: Step) -> None:
        self._users[id(step)] -= 1
        if not self._users[id(step)]:
            self._results.pop(id(step), None)


class _StepTask(luigi.Task):
    """A step, as luigi and the engine see it."""

    name = luigi.Parameter()
    session: Session
    step: Step

    def requires(self) -> list[luigi.Task]:
        return [self.session.task_of(one) for one in dict.fromkeys(self.step.depends_on)]

    def complete(self) -> bool:
        return self.session.has(self.step)

    def run(self) -> None:
        self.session.carry_out(self.step)


def _nobody(event: Event) -> None:
    """Listen to nothing: who calls has the result, or what was raised."""
