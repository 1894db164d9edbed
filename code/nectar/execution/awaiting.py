"""Wait for external data that is missing, where luigi's configuration says that a run stays for it.

That is `keep_alive` with `retry_external_tasks` in `[worker]`: looked for every `wait_interval`, for
`max_keep_alive_idle_duration` after there was nothing else to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from nectar.execution.jobs import now


class Look(str, Enum):
    """What came of a look at data that was missing."""

    CAME = "came"
    BROKEN = "broken"  #: it cannot be looked for: the task's own code raises
    GAVE_UP = "gave up"  #: nothing else was to be done for too long


_E = TypeVar("_E")


@dataclass(frozen=True, slots=True)
class Looked(Generic[_E]):
    """One thing that need not be waited for any longer, and why."""

    one: _E
    look: Look
    error: Exception | None = None  #: of BROKEN


class Awaited(Generic[_E]):
    """What may still come."""

    def __init__(self, interval_s: float, patience_s: float, is_there: Callable[[_E], bool]) -> None:
        self._interval_s, self._patience_s, self._is_there = interval_s, patience_s, is_there
        self._waiting: list[_E] = []
        self._next_look = 0.0
        self._idle_since = math.inf

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, one: _E) -> None:
        """Wait for one more."""
        self._waiting.append(one)

    def look(self, *, idle: bool) -> list[Looked[_E]]:
        """Return what has come since the last look, or is given up; `idle` says that there is nothing else to do."""
        if not self._waiting:
            return []
        ended: list[Looked[_E]] = []
        if now() >= self._next_look:
            ended = [found for found in map(self._at, self._waiting) if found is not None]
            gone = [found.one for found in ended]
            self._waiting = [one for one in self._waiting if not any(one is other for other in gone)]
            self._next_look = now() + self._interval_s
        if not idle:
            self._idle_since = math.inf
        elif self._idle_since == math.inf:
            self._idle_since = now()
        elif now() - self._idle_since > self._patience_s:
            ended += [Looked(one, Look.GAVE_UP) for one in self._waiting]
            self._waiting = []
        return ended

    def _at(self, one: _E) -> Looked[_E] | None:
        try:
            return Looked(one, Look.CAME) if self._is_there(one) else None
        except Exception as error:  # a target's own code
            return Looked(one, Look.BROKEN, error)
