"""Make tasks and all that they need."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping, Sequence

import luigi

from nectar import errors
from nectar.execution.bookkeeping import Bookkeeper
from nectar.execution.choice import Options, check, make_runner, prepare
from nectar.execution.outcome import Event, Listener, Runner, RunResult
from nectar.plans import Force, make_plan
from nectar.plans.collection import without_collection
from nectar.recording.capture import Echo
from nectar.recording.run import new_run, running
from nectar.recording.uses import Uses

__all__ = ["Options", "run", "runner_for"]


def run(
    *tasks: luigi.Task,
    workers: int = 1,
    executor: str | None = None,
    scheduler_url: str | None = None,
    fail_fast: bool = False,
    force: Force = Force.NOTHING,
    echo: bool = True,
    tags: Mapping[str, str] | None = None,
    listener: Listener | None = None,
) -> RunResult:
    """Make these tasks, and return how each task ended; what is complete is left as it is.

    `listener` is told what happens while it happens; with `echo` what tasks print is also shown as it comes.

    Raises:
        GraphError: when the tasks cannot be carried out: a circle, two tasks with one target.
        UsageError: for options that cannot be.
        StoreUnreachable: when a store cannot be read.
    """
    options = Options(
        executor=executor,
        scheduler_url=scheduler_url,
        force=force,
        workers=workers,
        fail_fast=fail_fast,
        tags=tags or {},
        echo=Echo.SAME if echo else Echo.NO,
    )
    return runner_for(tasks, listener or _nobody, options).execute()


def runner_for(tasks: Sequence[luigi.Task], listener: Listener, options: Options) -> Runner:
    """Return a run that has not begun.

    Raises: as `run`.
    """
    check(options)
    prepare(options)
    this_run = new_run(echo=options.echo, tags=options.tags, run_id=options.run_id)
    book = Bookkeeper(this_run, listener, options)
    uses = Uses()
    planned = False
    try:
        with without_collection(keep=True):
            with running(this_run), uses.counting():
                prepared = make_plan(tasks, options.force)
            planned = True
            runner = make_runner(prepared, tasks, this_run, book.listen, options)
    except BaseException as error:
        uses.release()
        book.open(tasks, planned=planned)
        book.failed(error)
        if isinstance(error, errors.TaskBroken) and isinstance(error.task, luigi.Task):
            error.task.trigger_event(luigi.Event.BROKEN_TASK, error.task, error.__cause__)
        raise
    book.open(tasks, planned=True)
    return book.keep(_Using(runner, uses))


class _Using:
    """A run that has its stores in use since before it was planned, until it ends or is given up."""

    def __init__(self, runner: Runner, uses: Uses) -> None:
        self._runner, self._uses = runner, uses
        weakref.finalize(self, uses.release).atexit = False  # the end of the process is the end of its uses, too
        weakref.finalize(self, gc.unfreeze).atexit = False
        self.drain = runner.drain

    def execute(self) -> RunResult:
        """Carry it out and return how each task ended."""
        try:
            self._uses.begin()
            with self._uses.counting():
                return self._runner.execute()
        finally:
            self._uses.release()


def _nobody(event: Event) -> None:
    """Listen to nothing."""
