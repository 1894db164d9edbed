"""Find the tasks of an earlier run again, to run them once more."""

from __future__ import annotations

import luigi

from nectar import errors
from nectar.actions.resolve import find_root_task
from nectar.parameters import MASK
from nectar.runs import NewRun, Root, Run, RunStore
from nectar.settings import Settings
from nectar.task.closure import closure, expand

_NOT_GOOD = frozenset({"failed", "blocked", "not run", "running"})


def tasks_again(settings: Settings, books: RunStore, run: Run, *, failed: bool) -> list[luigi.Task]:
    """Return the tasks that a run was asked for; with `failed` those of its steps that did not end well.

    Raises:
        UsageError: when they cannot be made again from what the history says of them, or none failed.
    """
    roots = [task_of_root(settings, run.new, root) for root in run.roots]
    if not roots:
        raise errors.UsageError(f"the history does not say what the run `{run.id}` was asked for")
    if not failed:
        return roots
    bad = {step.ref for step in books.steps(run.id) if step.status in _NOT_GOOD}
    found = closure(roots)
    for ref in list(found.tasks):
        expand(found, ref)
    tasks = [task for ref, task in found.tasks.items() if ref in bad]
    if not tasks:
        raise errors.UsageError(
            f"no step of the run `{run.id}` failed that its roots still need",
            hint=f"`nectar rerun {run.id}` repeats all of it",
        )
    return tasks


def task_of_root(settings: Settings, new: NewRun, root: Root) -> luigi.Task:
    """Return the task that a run was asked for.

    Raises:
        UsageError: when it cannot be made again from what the history says of it.
        ChainNotFound, TaskNotFound, ChainBroken: when it is not there any more, or cannot be imported.
    """
    # An alias that was asked for has another name than its class.
    name = str(new.options.get("name") or root.task.partition("(")[0].rpartition(".")[2])
    if root.chain is None:
        raise errors.UsageError(
            f"`{root.task}` of the run `{new.id}` is of no chain", hint="run it as you did the first time"
        )
    masked = [one for one, text in root.params.items() if text == MASK]
    if masked:
        listed = ", ".join(f"`{one}`" for one in masked)
        raise errors.UsageError(
            f"the history does not hold the private {listed} of `{root.task}`", hint="use `nectar run` and give it"
        )
    return find_root_task(settings, root.chain, name, root.params)
