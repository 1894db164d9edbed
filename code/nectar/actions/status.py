"""Count what a store has of each task: complete targets, broken ones, failed attempts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nectar.address import Address
from nectar.stores import Inspection, State, Store


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """What a store has of one task class."""

    store: str  #: URL
    task: str  #: `chains/etl/flights_chain/ReportTask`
    complete: int
    broken: int  #: invalid targets and leftovers
    size: int  #: bytes, of the outputs of complete targets
    newest: datetime | None  #: UTC, aware: when the newest was finished
    problems: tuple[str, ...]  #: one sentence for each broken target

    def to_json(self) -> dict[str, Any]:
        """Return the counts as a JSON value."""
        return {
            "store": self.store,
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
    for address, inspection in _look(store, store.walk(prefix)):
        found.setdefault(address.prefix, []).append((address.path, inspection))
    return [_count(store.url, task, inspections) for task, inspections in sorted(found.items())]


def _look(store: Store, addresses: Iterator[Address]) -> Iterator[tuple[Address, Inspection]]:
    """Yield what lies at each address; from a far store the records many at once, and their files are not looked at."""
    if store.checks_in_plans:
        yield from ((address, store.inspect(address)) for address in addresses)
        return
    while some := list(itertools.islice(addresses, _AT_ONCE)):
        records = store.records(some)
        for address in some:
            record = records.get(address)
            yield address, Inspection(State.COMPLETE, record) if record is not None else store.inspect(address)


_AT_ONCE = 1000  #: records that are asked for together


def _count(store: str, task: str, found: Iterable[tuple[str, Inspection]]) -> TaskStatus:
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
    return TaskStatus(store, task, complete, len(problems), size, newest, tuple(problems))
