"""Count what a store has of each task: complete targets, broken ones, failed attempts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nectar.stores import Inspection, State, Store


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """What a store has of one task class."""

    task: str  #: `chains/etl/flights_chain/ReportTask`
    complete: int
    broken: int  #: invalid targets and leftovers
    size: int  #: bytes, of the outputs of complete targets
    newest: datetime | None  #: UTC, aware: when the newest was finished
    problems: tuple[str, ...]  #: one sentence for each broken target

    def to_json(self) -> dict[str, Any]:
        """Return the counts as a JSON value."""
        return {
            "task": self.task,
            "complete": self.complete,
            "broken": self.broken,
            "size": self.size,
            "newest": self.newest.isoformat() if self.newest is not None else None,
            "problems": list(self.problems),
        }


def status(store: Store, prefix: str = "") -> list[TaskStatus]:
    """Return the counts of every task class under a prefix, sorted by name.

    Raises:
        StoreUnreachable: when the store cannot be read.
    """
    found: dict[str, list[tuple[str, Inspection]]] = {}
    for address in store.walk(prefix):
        found.setdefault(address.prefix, []).append((address.path, store.inspect(address)))
    return [_count(task, inspections) for task, inspections in sorted(found.items())]


def _count(task: str, found: Iterable[tuple[str, Inspection]]) -> TaskStatus:
    complete = size = 0
    newest: datetime | None = None
    problems = []
    for path, inspection in found:
        if not inspection.complete or inspection.record is None:
            without = "has no record" if inspection.state is State.LEFTOVER else "cannot be read"
            problems.append(inspection.problem or f"`{path}` {without}")
            continue
        complete += 1
        size += sum(entry.size for entry in inspection.record.files)
        ended = inspection.record.ended_at
        newest = ended if newest is None or ended > newest else newest
    return TaskStatus(task, complete, len(problems), size, newest, tuple(problems))
