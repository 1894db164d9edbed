"""Compare two descriptions: what was changed, and which outputs are made anew because of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nectar.description.dag import OF_TASKS, Dag
from nectar.identity import Change

META = "meta"


@dataclass(frozen=True, slots=True)
class Changed:
    """Something that was changed, and not only followed from a change elsewhere."""

    of: str  #: the name of a task in the second description, or in the first where it is gone; or `meta`
    change: Change  #: component: `task` (new or gone), `name`, a key of the spec, `params.month`, `inputs.left`

    def to_json(self) -> dict[str, Any]:
        """Return the change as a JSON value."""
        return {"of": self.of, "what": self.change.component, "first": self.change.old, "second": self.change.new}


@dataclass(frozen=True, slots=True)
class Remade:
    """A task of the second description whose output the first has not."""

    task: str
    was: str | None  #: 64 hex digits: the id of its output in the first description; None: it is new
    output: str  #: 64 hex digits
    since: tuple[str, ...]  #: what changed in its own spec or inputs, and the tasks before it that are made anew

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {"task": self.task, "was": self.was, "output": self.output, "since": list(self.since)}


@dataclass(frozen=True, slots=True)
class Comparison:
    """How one description differs from another."""

    changes: tuple[Changed, ...]
    remade: tuple[Remade, ...]  #: dependencies first

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON value."""
        return {"changes": [one.to_json() for one in self.changes], "remade": [one.to_json() for one in self.remade]}


def compare(first: Dag, second: Dag) -> Comparison:
    """Return how the second description differs from the first.

    Tasks belong together by their names; then those with one output; then those of a class, `Task(month=3)` and
    `Task(month=4)`, where each description has one of it left.

    Raises: as `Dag.encode`.
    """
    before, after = first.encode(), second.encode()
    old_tasks, new_tasks = before["tasks"], after["tasks"]
    pairs = _pairs(old_tasks, new_tasks)
    changes = [Changed(META, one) for one in _changes("", before["meta"], after["meta"])]
    changes += [Changed(name, Change("task", task["output"], None)) for name, task in _gone(old_tasks, pairs)]
    known = {task["output"] for task in old_tasks.values()}
    remade: dict[str, Remade] = {}
    for task in second.in_order():
        name, old = task.name, pairs.get(task.name)
        inputs = {called: other.name for called, other in task.inputs.items()}
        if old is None:
            own = [Change("task", None, new_tasks[name]["output"])]
        else:
            was = {called: other.name for called, other in first[old].inputs.items()}
            own = [*_of_task(old, name, old_tasks, new_tasks), *_of_inputs(was, inputs, pairs)]
        changes += [Changed(name, one) for one in own]
        if new_tasks[name]["output"] not in known:
            since = [one.component for one in own if one.component != "name"]
            since += [other for other in dict.fromkeys(inputs.values()) if other in remade]
            was_output = old_tasks[old]["output"] if old is not None else None
            remade[name] = Remade(name, was_output, new_tasks[name]["output"], tuple(since))
    return Comparison(tuple(changes), tuple(remade.values()))


def _pairs(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Return name in the second description -> name in the first."""
    pairs = {name: name for name in new if name in old}
    for trait in (_output, _class):
        taken = set(pairs.values())
        rest_old = _alone({name: trait(name, task) for name, task in old.items() if name not in taken})
        rest_new = _alone({name: trait(name, task) for name, task in new.items() if name not in pairs})
        pairs |= {name: rest_old[of] for of, name in rest_new.items() if of in rest_old}
    return pairs


def _output(name: str, task: Mapping[str, Any]) -> str:
    return str(task["output"])


def _class(name: str, task: Mapping[str, Any]) -> str:
    return name.partition("(")[0]


def _alone(keys: Mapping[str, str]) -> dict[str, str]:
    """Return key -> name for the keys that one name alone has."""
    found: dict[str, list[str]] = {}
    for name, key in keys.items():
        found.setdefault(key, []).append(name)
    return {key: names[0] for key, names in found.items() if len(names) == 1}


def _gone(old: Mapping[str, Any], pairs: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    kept = set(pairs.values())
    return ((name, task) for name, task in old.items() if name not in kept)


def _of_task(old: str, name: str, old_tasks: Mapping[str, Any], new_tasks: Mapping[str, Any]) -> Iterator[Change]:
    if old != name and _class(old, {}) != _class(name, {}):  # otherwise its parameters say it
        yield Change("name", old, name)
    spec_before, spec_after = (
        {key: value for key, value in task.items() if key not in OF_TASKS} for task in (old_tasks[old], new_tasks[name])
    )
    yield from _changes("", spec_before, spec_after)


def _of_inputs(was: Mapping[str, str], inputs: Mapping[str, str], pairs: Mapping[str, str]) -> Iterator[Change]:
    for called in sorted({*was, *inputs}):
        before, now = was.get(called), inputs.get(called)
        if before is None or now is None or pairs.get(now) != before:
            yield Change(f"inputs.{called}", before, now)


def _changes(place: str, old: Any, new: Any) -> Iterator[Change]:
    # As deep as a description may be nested, and no deeper.
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _changes(f"{place}.{key}" if place else key, old.get(key), new.get(key))
    elif old != new:
        yield Change(place, old, new)
