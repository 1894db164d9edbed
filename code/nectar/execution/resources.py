"""Share out what tasks may use of luigi's resources: a task that lacks one waits in that resource's queue.

So each task is looked at once for each release, and not at every step.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

import luigi


class Claimant(Protocol):
    """Who wants resources."""

    woken_by: str | None  #: by the release of which resource it was called; owned by `Resources`
    holding: bool  #: it has its resources; owned by `Resources`

    @property
    def task(self) -> luigi.Task:
        """The task that says how much it needs."""

    @property
    def rank(self) -> tuple[float, int]:
        """What goes first; no two are equal."""


_C = TypeVar("_C", bound=Claimant)


class Resources(Generic[_C]):
    """How much there is of each resource (1, unless said otherwise), who has it, and who waits for it."""

    def __init__(self, limits: Mapping[str, float], call: Callable[[_C], None]) -> None:
        """Let `call` hear of each claimant that should try again."""
        self._limits = limits
        self._call = call
        self._in_use: dict[str, float] = defaultdict(float)
        self._waiting: dict[str, list[tuple[tuple[float, int], _C]]] = defaultdict(list)

    def take(self, one: _C) -> bool:
        """Take what a task needs, or let it wait for the first resource that is short; one task alone may have all."""
        wanted: dict[str, float] = one.task.process_resources()
        if not wanted:
            one.holding = True
            return True
        short = next((name for name, amount in wanted.items() if not self._has(name, amount)), None)
        woken_by, one.woken_by = one.woken_by, None
        if short is not None:
            heapq.heappush(self._waiting[short], (one.rank, one))
            if woken_by is not None and woken_by != short:
                self._wake(woken_by)  # what woke it may do for the next; each is passed on only once
            return False
        one.holding = True
        for name, amount in wanted.items():
            self._in_use[name] += amount
        for name in wanted:
            if self._has(name, 0.0):
                self._wake(name)  # something is left over
        return True

    def free(self, one: _C) -> None:
        """Take back what a task had, if it had it: one that was put aside gave it back then."""
        if not one.holding:
            return
        one.holding = False
        for name, amount in one.task.process_resources().items():
            self._in_use[name] -= amount
            self._wake(name)

    @property
    def in_use(self) -> dict[str, float]:
        """How much is taken of each resource that is."""
        return {name: amount for name, amount in self._in_use.items() if amount}

    def _has(self, name: str, amount: float) -> bool:
        in_use = self._in_use[name]
        return in_use == 0 or in_use + amount <= self._limits.get(name, 1) - (amount == 0)

    def _wake(self, name: str) -> None:
        if self._waiting[name]:
            one = heapq.heappop(self._waiting[name])[1]
            one.woken_by = name
            self._call(one)
