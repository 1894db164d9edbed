"""Make tasks and all that they need."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace

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

__all__ = ["Options", "carry_out", "run", "runner_for"]


def run(
    *tasks: luigi.Task,
    workers: int = 1,
    executor: str | None = None,
    scheduler_url: str | None = None,
    fail_fast: bool = False,
    force: Force = Force.NOTHING,
    echo: bool = True,
    tags: Mapping[str, str] | None = None,
    select: str | None = None,
    listener: Listener | None = None,
) -> RunResult:
    """Make these tasks, and return how each task ended; what is complete is left as it is.

    With `select` only what it names is made of all that the tasks stand on: `*CleanTask, LoadTask(day=3)+`. `listener`
    is told what happens while it happens; with `echo` what tasks print is also shown as it comes.

    Raises:
        GraphError: when the tasks cannot be carried out: a circle, two tasks with one target.
        SelectionInvalid, UpstreamMissing: when nothing can be made of the selection.
        OptionsInvalid: for options that cannot be, with all of them.
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
        select=select,
    )
    return carry_out(tasks, listener, options)


def carry_out(tasks: Sequence[luigi.Task], listener: Listener | None, options: Options) -> RunResult:
    """Carry a run out, and return how it ended with all its events.

    Raises: as `run`.
    """
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if listener is not None:
            listener(event)

    return replace(runner_for(tasks, listen, options).execute(), events=tuple(events))


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
                prepared = make_plan(tasks, options.force, options.select, options.only)
            planned = True
            chosen = [prepared.tasks[ref] for ref in prepared.selected or () if ref in prepared.tasks]
            runner = make_runner(prepared, chosen or tasks, this_run, book.listen, options)
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
