"""Take the leases of a batch at once, before its first job begins, where the store answers many as fast as one.

A store that is near has no need of it: there a job takes its lease when it begins.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from nectar import errors
from nectar.address import Address
from nectar.execution.jobs import Job
from nectar.recording import leases
from nectar.stores import Store
from nectar.task import Task
from nectar.task.base import own_outputs

#: how long leases are held of jobs that are not begun: a batch is what takes a moment, unless a task surprises
HOLD_S = 5.0


@dataclass(slots=True)
class Ahead:
    """The leases of jobs that are not begun."""

    #: by job: where its target is to lie, and whether a record was there once the lease was held
    _held: dict[str, tuple[Store, Address, bool]] = field(default_factory=dict)
    _timer: threading.Timer | None = None

    def take(self, jobs: Sequence[Job]) -> None:
        """Take the leases of jobs, and look whether their targets were made meanwhile, in a few rounds of requests.

        A job of which nothing is known afterwards asks for itself when it begins, and hears what is wrong.
        """
        for store, refs in _far(jobs).values():
            if len(refs) < 2:
                continue
            try:
                taken = leases.take_all(store, list(refs))
            except errors.StoreError:
                continue
            try:
                there = store.present(taken)
            except errors.StoreError:
                leases.release_all(store, taken)
                continue
            self._held.update({refs[address]: (store, address, address in there) for address in taken})
        if self._held:
            self._timer = threading.Timer(HOLD_S, self._let_go)
            self._timer.daemon = True
            self._timer.start()

    def pop(self, ref: str) -> bool | None:
        """Say of a job that begins whether a record is there; None where its lease is not held, or not any more."""
        _, _, there = self._held.pop(ref, (None, None, None))
        return there

    def end(self) -> None:
        """Give back the leases of jobs that were not begun."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._let_go()

    def _let_go(self) -> None:
        # Two threads may be at it: whoever gets an entry out has its lease.
        by_store: dict[str, tuple[Store, list[Address]]] = {}
        while self._held:
            try:
                _, (store, address, _) = self._held.popitem()
            except KeyError:
                break
            by_store.setdefault(store.url, (store, []))[1].append(address)
        for store, addresses in by_store.values():
            leases.release_all(store, addresses)


def _far(jobs: Sequence[Job]) -> dict[str, tuple[Store, dict[Address, str]]]:
    """Return the jobs whose targets lie in stores far away: by store, and there by address."""
    far: dict[str, tuple[Store, dict[Address, str]]] = {}
    for job in jobs:
        task = job.task
        try:
            if isinstance(task, Task) and own_outputs(task) and not task.target_store().checks_in_plans:
                store = task.target_store()
                far.setdefault(store.url, (store, {}))[1][task.target_address()] = job.ref
        except errors.NectarError:  # it is raised again when the job begins, and is that job's failure
            continue
    return far
