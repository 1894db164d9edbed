"""Find the tasks of an earlier run again, to run them once more."""

from __future__ import annotations

from dataclasses import dataclass

import luigi

from nectar import errors
from nectar.actions.resolve import find_root_task
from nectar.parameters import MASK
from nectar.runs import NewRun, Root, Run, RunStore
from nectar.settings import Settings
from nectar.task.closure import closure, expand

_NOT_GOOD = frozenset({"failed", "blocked", "not run", "running"})


@dataclass(frozen=True, slots=True)
class Again:
    """What a run that repeats another one is asked for."""

    tasks: tuple[luigi.Task, ...]
    select: str | None = None  #: what alone is made of their graph; None: all that is missing
    only: frozenset[str] | None = None  #: refs of the selected tasks that it begins with; None: all


def again(settings: Settings, books: RunStore, run: Run, *, failed: bool) -> Again:
    """Return what a run was asked for; with `failed` those of its steps that did not end well.

    A selection is kept: of a run that had one nothing is made that it did not select.

    Raises:
        UsageError: when they cannot be made again from what the history says of them, or none failed.
    """
    roots = [task_of_root(settings, run.new, root) for root in run.roots]
    select = run.new.select
    if not roots:
        raise errors.UsageError(f"the history does not say what the run `{run.id}` was asked for")
    if not failed:
        return Again(tuple(roots), select)
    bad = frozenset(step.ref for step in books.steps(run.id) if step.status in _NOT_GOOD)
    found = closure(roots)
    for ref in list(found.tasks):
        expand(found, ref)
    tasks = tuple(task for ref, task in found.tasks.items() if ref in bad)
    if not tasks:
        raise errors.UsageError(
            f"no step of the run `{run.id}` failed that its roots still need",
            hint=f"`nectar rerun {run.id}` repeats all of it",
        )
    return Again(tasks) if select is None else Again(tuple(roots), select, bad)


def task_of_root(settings: Settings, new: NewRun, root: Root) -> luigi.Task:
    """Return the task that a run was asked for.

    Raises:
        UsageError: when it cannot be made again from what the history says of it.
        ChainNotFound, TaskNotFound, ChainBroken: when it is not there any more, or cannot be imported.
    """
    # An alias that was asked for has another name than its class.
    name = str(new.options.get("name") or root.task.partition("(")[0].rpartition(".")[2])
    if root.chain is None:
        file = new.options.get("file")  # of a pipeline
        way = f"`nectar execute --file {file} --use-cached {new.id}` goes on where it failed" if file else None
        raise errors.UsageError(
            f"`{root.task}` of the run `{new.id}` is of no chain", hint=way or "run it as you did the first time"
        )
    masked = [one for one, text in root.params.items() if text == MASK]
    if masked:
        listed = ", ".join(f"`{one}`" for one in masked)
        raise errors.UsageError(
            f"the history does not hold the private {listed} of `{root.task}`", hint="use `nectar run` and give it"
        )
    return find_root_task(settings, root.chain, name, root.params)
