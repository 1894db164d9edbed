"""Explain why a target would be made: which component of its identity is new, and how to silence the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import luigi

from nectar import errors, identity, records
from nectar.code_digest import PartChange, changed_parts
from nectar.identity import Change
from nectar.plans import Action, PlanStep, Prepared, Reason, Why, make_plan
from nectar.records import Record
from nectar.stores import Store
from nectar.task import Task, code
from nectar.task.closure import document_of

MOST_RECORDS = 200  #: read to find the target that a new one differs least from

_SILENCE = {
    Why.LEFTOVER: "`nectar adopt` writes a record for files that another tool made",
    Why.INVALID: "`nectar show` tells what is there; the run keeps it under `.quarantine`",
    Why.DRIFT: 'set `drift = "warn"` to keep targets that other code made',
    Why.FORCED: "leave out `--force`",
    Why.EXTERNAL_MISSING: "provide the data; nobody here makes it",
    Why.NEVER_COMPLETE: "give the task an output or a `complete()`",
}
_SILENCE_CHANGE = {
    "version": "a `version` of old makes the old target count again",
    "params": "the old value names the old target, which is still there",
    "inputs": "it follows what it requires; see that task",
    "outputs": "the old file names make the old target count again",
    "content": "the input file has other bytes than before",
    "task": '`family = "..."` keeps targets when a class moves',
}


@dataclass(frozen=True, slots=True)
class ComponentChange:
    """One component of an identity that differs from that of the nearest target."""

    component: str  #: `version`, `params.month`, `inputs.0`
    old: object
    new: object
    task: str | None = None  #: of `inputs.*`: the requirement
    silence: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the change as a JSON value."""
        return {
            "component": self.component,
            "old": self.old,
            "new": self.new,
            "task": self.task,
            "silence": self.silence,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one task would run, or what is odd about one that would not."""

    task: str
    action: Action
    path: str | None
    reasons: tuple[Reason, ...]
    changes: tuple[ComponentChange, ...] = ()  #: against the nearest target of the same task class
    compared_with: str | None = None  #: path of that target
    drift: tuple[PartChange, ...] = ()  #: code that is not that of the record
    silence: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the explanation as a JSON value."""
        return {
            "task": self.task,
            "action": self.action.value,
            "path": self.path,
            "reasons": [reason.to_json() for reason in self.reasons],
            "changes": [change.to_json() for change in self.changes],
            "compared_with": self.compared_with,
            "drift": [{"name": part.name, "kind": part.kind.value} for part in self.drift],
            "silence": self.silence,
        }


def explain(*tasks: luigi.Task, select: str | None = None) -> list[Explanation]:
    """Return an explanation for every task that would run or is blocked, and for every drift.

    Raises: as `nectar.plans.make_plan`.
    """
    prepared = make_plan(tasks, select=select)
    return [_explain(step, prepared) for step in prepared.plan.steps if step.action is not Action.SKIP or step.drift]


def _explain(step: PlanStep, prepared: Prepared) -> Explanation:
    task = prepared.tasks[step.ref]
    silence = next((_SILENCE[reason.why] for reason in step.reasons if reason.why in _SILENCE), "")
    if not isinstance(task, Task) or step.path is None:
        return Explanation(step.task, step.action, step.path, step.reasons, silence=silence)
    own = task.target_store().inspect(task.target_address(), leftovers=False).record
    if step.drift or any(reason.why is Why.DRIFT for reason in step.reasons):
        silence = 'raise `version` to make it again, or set `drift = "ignore"`' if step.drift else silence
        return Explanation(
            step.task, step.action, step.path, step.reasons, drift=tuple(_drift(task, own)), silence=silence
        )
    if not any(reason.why is Why.NO_TARGET for reason in step.reasons):
        return Explanation(step.task, step.action, step.path, step.reasons, silence=silence)
    nearest = _nearest(task)
    if nearest is None:
        return Explanation(step.task, step.action, step.path, step.reasons, silence="it was never made here")
    changes = identity.changes(nearest.identity, document_of(task))
    return Explanation(
        step.task,
        step.action,
        step.path,
        step.reasons,
        tuple(_component(change, step, prepared, nearest) for change in changes),
        nearest.address.path,
        tuple(_drift(task, nearest)) if any(change.component == "version" for change in changes) else (),
        silence,
    )


def _component(change: Change, step: PlanStep, prepared: Prepared, nearest: Record) -> ComponentChange:
    kind, _, path = change.component.partition(".")
    name = None
    if kind == "inputs":
        entry = nearest.inputs.get(path)
        name = entry.task if entry is not None else None
        from nectar.task.closure import requirements_of

        now = requirements_of(prepared.tasks[step.ref]).get(path)
        name = repr(now) if now is not None else name
    silence = _SILENCE_CHANGE.get(kind, "the old value in the description makes the old target count again")
    return ComponentChange(change.component, change.old, change.new, name, silence)


def _drift(task: Task, record: Record | None) -> Iterable[PartChange]:
    now = code.digest(task.code_subject())
    if record is None or record.code is None or now is None:
        return []
    return changed_parts(dict(record.code.get("parts", {})), now.parts)


def _nearest(task: Task) -> Record | None:
    """Return the record of the same task class whose identity differs least, the newest of equals."""
    document = document_of(task)
    found = [
        (len(identity.changes(record.identity, document)), -record.ended_at.timestamp(), record)
        for record in _records(task.target_store(), task.target_address().prefix)
    ]
    return min(found, key=lambda item: item[:2])[2] if found else None


def _records(store: Store, prefix: str) -> Iterable[Record]:
    for number, address in enumerate(store.walk(prefix)):
        if number >= MOST_RECORDS:
            return
        try:
            raw = store.reader(address).open(records.RECORD_NAME).read()
            yield records.parse(raw, address)
        except (FileNotFoundError, errors.RecordInvalid):
            continue  # a leftover, or a record of another age: it explains nothing
