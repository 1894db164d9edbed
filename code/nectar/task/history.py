"""Write down in the history what luigi's own command and `luigi.build` carry out, as our engine's runs are."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import luigi

from nectar import errors, settings
from nectar.address import KEY_LENGTH, Address, prefix_of
from nectar.parameters import MASK, is_private
from nectar.recording.run import Run
from nectar.records import utc_now
from nectar.runs import Journal, NewRun, Root, RunState
from nectar.task.base import Task, own_outputs
from nectar.task.closure import output_id_of, reference

log = logging.getLogger("luigi-interface")  # where luigi says what it does


class LuigiHistory:
    """The history of one run of luigi's scheduler; an observer of its worker."""

    def __init__(self, run: Run) -> None:
        self._journal = Journal(settings.current().journals_dir, run.id)
        self._run = run
        self._begun: dict[str, float] = {}
        self._attempts: dict[str, int] = {}

    def open(self, roots: Sequence[luigi.Task], workers: int | None) -> None:
        """Begin it."""
        told = tuple(root_of(one, identified=True) for one in roots)
        new = NewRun(self._run.id, utc_now(), told, self._run.tags, "luigi", "luigi", workers)
        self._journal.create(new)
        self._journal.state(RunState.RUNNING)

    def end(self, error: str | None) -> None:
        """End it: well, or with an error."""
        self._journal.state(RunState.SUCCESS if error is None else RunState.FAILURE, error=error)
        self._journal.close()

    def interrupted(self) -> None:
        """End it where somebody stopped it."""
        self._journal.state(RunState.CANCELED, error="it was interrupted")
        self._journal.close()

    # What the worker tells

    def take_worker(self, worker: Any) -> None:
        """Say under which id the run is found, now that luigi has set up its log."""
        log.info("Nectar keeps the history of this run as %s", self._run.id)

    def task_complete(self, task: luigi.Task) -> None:
        """Learn that a task was complete before."""
        self._journal.step(reference(task), repr(task), "skipped", path=path_of(task))

    def task_started(self, task: luigi.Task) -> None:
        """Learn that the worker begins a task, or goes on with one that had yielded."""
        ref = reference(task)
        if ref not in self._begun:
            self._begun[ref] = time.monotonic()
            self._attempts[ref] = self._attempts.get(ref, 0) + 1
        self._journal.step(ref, repr(task), "running", path=path_of(task), attempts=self._attempts[ref])

    def task_yielded(self, task: luigi.Task, wanted: Sequence[str]) -> None:
        """Learn that a task waits for others."""
        self._journal.event("step yielded", task=repr(task), detail={"tasks": list(wanted)})

    def task_ended(self, task: luigi.Task, error: str | None) -> None:
        """Learn how a task ended; one that is tried again ends again."""
        ref = reference(task)
        seconds = time.monotonic() - self._begun.pop(ref, time.monotonic())
        number = self._attempts.get(ref, 1)
        facts: dict[str, Any] = {"path": path_of(task), "attempts": number, "seconds": seconds}
        if error is None:
            self._journal.step(ref, repr(task), "succeeded", **facts)
            return
        self._journal.attempt(ref, number, task=repr(task), outcome="failed", error=error)
        self._journal.step(ref, repr(task), "failed", error=error, **facts)


def root_of(task: luigi.Task, *, identified: bool) -> Root:
    """Return what the history says of a task that was asked for; private values are masked.

    Where it is `identified`, or can be, with the place of its target; one without a target has a name of that kind, by
    which it can be asked for.
    """
    params = {
        name: MASK if is_private(parameter) else parameter.serialize(getattr(task, name))
        for name, parameter in task.get_params()
        if getattr(task, name) is not None  # for which there is no text that every parameter reads
    }
    plain = Root(repr(task), chain_of(type(task)), params)
    if not identified:
        return plain
    try:
        output_id = output_id_of(task)
        address = task.target_address() if isinstance(task, Task) else _name_of(task, output_id)
    except errors.NectarError:  # whoever carries it out says so
        return plain
    return Root(plain.task, plain.chain, params, address.path, address.key, output_id)


def _name_of(task: luigi.Task, output_id: str) -> Address:
    """Return the name of a plain luigi task in the way of a target's address; nothing lies there."""
    return Address(prefix_of(f"{type(task).__module__}.{type(task).__name__}"), output_id[:KEY_LENGTH])


def path_of(task: luigi.Task) -> str | None:
    """Return the path of a task's target, None for one without."""
    return task.target_address().path if isinstance(task, Task) and own_outputs(task) else None


def chain_of(cls: type) -> str | None:
    """Return the chain that defines a class, such as `etl/flights_chain`; None for one from elsewhere."""
    package, _, rest = cls.__module__.partition(".")
    return rest.replace(".", "/") if package == "chains" and rest.endswith("_chain") else None
