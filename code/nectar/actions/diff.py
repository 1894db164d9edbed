"""Compare two runs: what they were asked for, how their steps ended, and which component made keys differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nectar.actions.history import Told
from nectar.address import Address
from nectar.identity import changes
from nectar.records import Record
from nectar.runs import Step
from nectar.stores import Store


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which two runs differ."""

    of: str  #: `run`, or a task
    what: str  #: `state`, `params.month`, `code`, `only in`, ...
    first: Any  #: None where the first run has none
    second: Any  #: None where the second run has none

    def to_json(self) -> dict[str, Any]:
        """Return the difference as a JSON value."""
        return {"of": self.of, "what": self.what, "first": self.first, "second": self.second}


def diff(stores: Sequence[Store], first: Told, second: Told) -> list[Difference]:
    """Return the differences of two runs, those of the runs themselves first.

    Steps belong together by their task and parameters; where those differ, by their class, if each run has one step
    of it.

    Raises:
        StoreUnreachable: when the records cannot be read.
    """
    found = list(_of_runs(first, second))
    paired, alone_first, alone_second = _pairs(first.steps, second.steps)
    records = _records(stores, [step for pair in paired for step in pair])
    for one, other in paired:
        found += _of_steps(one, other, records)
    found += [Difference(step.task, "step", step.status, None) for step in alone_first]
    found += [Difference(step.task, "step", None, step.status) for step in alone_second]
    return found


def _of_runs(first: Told, second: Told) -> Iterator[Difference]:
    one, other = first.run, second.run
    facts = (
        ("state", one.state.value, other.state.value),
        ("tasks", [root.task for root in one.roots], [root.task for root in other.roots]),
        ("tags", dict(one.tags), dict(other.tags)),
        ("source", one.new.source, other.new.source),
        ("executor", one.new.executor, other.new.executor),
        ("workers", one.new.workers, other.new.workers),
        ("options", dict(one.new.options), dict(other.new.options)),
    )
    for what, before, after in facts:
        if before != after:
            yield Difference("run", what, before, after)


def _pairs(first: tuple[Step, ...], second: tuple[Step, ...]) -> tuple[list[tuple[Step, Step]], list[Step], list[Step]]:
    others = {step.task: step for step in second}
    paired = [(step, others.pop(step.task)) for step in first if step.task in others]
    known = {step.task for step, _ in paired}
    rest = [step for step in first if step.task not in known]
    ones_by_class, others_by_class = _by_class(rest), _by_class(list(others.values()))
    for kind, ones in ones_by_class.items():
        same = others_by_class.get(kind, [])
        if len(ones) == len(same) == 1:
            paired.append((ones[0], same[0]))
            rest.remove(ones[0])
            del others[same[0].task]
    return paired, rest, list(others.values())


def _by_class(steps: list[Step]) -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = {}
    for step in steps:
        found.setdefault(step.task.partition("(")[0], []).append(step)
    return found


def _records(stores: Sequence[Store], steps: list[Step]) -> Mapping[str, Record]:
    addresses = [address for address in (Address.read(step.path) for step in steps) if address is not None]
    found: dict[str, Record] = {}
    for store in stores:
        unknown = [address for address in addresses if address.path not in found]
        found.update((address.path, record) for address, record in store.records(unknown).items())
    return found


def _of_steps(one: Step, other: Step, records: Mapping[str, Record]) -> Iterator[Difference]:
    name = other.task
    if one.status != other.status:
        yield Difference(name, "status", one.status, other.status)
    if one.error != other.error:
        yield Difference(name, "error", one.error, other.error)
    before, after = records.get(one.path or ""), records.get(other.path or "")
    if one.path == other.path:
        return
    yield Difference(name, "target", one.path, other.path)
    if before is None or after is None:
        return
    for change in changes(before.identity, after.identity):
        yield Difference(name, change.component, change.old, change.new)
    if (before.code or {}).get("digest") != (after.code or {}).get("digest"):
        yield Difference(name, "code", (before.code or {}).get("digest"), (after.code or {}).get("digest"))
    if before.digests != after.digests:
        yield Difference(name, "bytes", dict(before.digests), dict(after.digests))
