"""Write a state machine for AWS Step Functions that carries a pipeline out: each step is a message to a queue.

The data of an execution are `parameters`, and within maps the values that a state is for, `v1`, `v2`, from outside to
inside. A name of ours has a `%`, which no step's name has.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from nectar.export.pipeline_work import (
    PipelineWork,
    Steps,
    limits_not_kept,
    refuse,
    step_settings,
    steps_of,
)
from nectar.export.step_functions import FAILED, MADE, State, caught, decide, message
from nectar.pipeline.model import Dag, Node, NodeType

ENGINE = "step-functions"
_LONGEST = 80  #: characters of a state's name
_DIGITS = 8


def pipeline(work: PipelineWork) -> tuple[str, tuple[str, ...]]:
    """Return a state machine that carries a pipeline out, and what whoever deploys it has to know.

    Raises:
        NotRenderable: with every setting for Step Functions that is unknown, and every text that is no state.
    """
    machine = _Machine(work)
    machine.settings = step_settings(ENGINE, work, {"queue": str}, {"queue": str}, machine.faults)
    begin, taken = "%defaults", "%parameters"
    states: dict[str, State] = {
        begin: {"Type": "Pass", "Result": dict(work.parameters), "ResultPath": "$.defaults", "Next": taken},
        taken: {
            "Type": "Pass",
            "Parameters": {"parameters.$": "States.JsonMerge($.defaults, $.parameters, false)"},
            "Next": "",
        },
    }
    ended, failed = "%succeeded", "%failed"
    scope = machine.dag(work.dag, _Place(), ended, failed, root=True)
    states[taken]["Next"] = scope.first
    states |= scope.states
    states[ended] = {"Type": "Succeed"}
    states[failed] = {"Type": "Fail", "Error": "Nectar.PipelineFailed", "Cause": "the logs of what failed tell why"}
    refuse(machine.faults)
    warnings = (
        *work.warnings,
        *limits_not_kept(work, ENGINE, root=True),
        *(
            ["`schedule` is kept by EventBridge alone: add a rule that starts an execution"]
            if work.dag.schedule
            else []
        ),
    )
    document: State = {"Comment": "; ".join((work.title, *warnings)), "StartAt": begin, "States": states}
    if work.dag.max_time is not None:
        document["TimeoutSeconds"] = work.dag.max_time
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n", warnings


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a step is: its name as states are called, and as the command is told it."""

    plain: tuple[str, ...] = ()
    told: tuple[State, ...] = ()  #: `{"text": ...}` or `{"text.$": ...}`
    depth: int = 0  #: maps around it

    def below(self, *names: str) -> _Place:
        return _Place((*self.plain, *names), (*self.told, *({"text": name} for name in names)), self.depth)

    def for_each(self) -> _Place:
        depth = self.depth + 1
        return _Place((*self.plain, "*"), (*self.told, {"text.$": f"$.v{depth}"}), depth)

    def state(self, suffix: str = "") -> str:
        """Return the name of a state."""
        name = ".".join(self.plain) + suffix
        if len(name) <= _LONGEST:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
        return f"{name[: _LONGEST - _DIGITS - 1]}%{digest}"


@dataclass(slots=True)
class _Scope:
    """The states of one DAG."""

    first: str
    states: dict[str, State]


@dataclass(slots=True)
class _Machine:
    """What is made of a pipeline."""

    work: PipelineWork
    faults: list[str] = field(default_factory=list)
    settings: dict[int, dict[str, Any]] = field(default_factory=dict)

    def dag(self, dag: Dag, place: _Place, made: str, failed: str, *, root: bool = False) -> _Scope:
        """Return the states of a DAG; where it ends well the state `made` follows, else `failed`."""
        steps = steps_of(dag, root=root)
        names = {node.name: place.below(node.name).state() for node in steps.order}
        for end, onward in ((dag.success, made), (dag.fail, failed)):
            names[end] = place.below(end).state() if steps.ends else onward
        states: dict[str, State] = {}
        for node in steps.order:
            good, bad = names[steps.after_success[node.name]], names[steps.after_failure[node.name]]
            states |= self._step(node, place.below(node.name), good, bad)
        if steps.ends:
            states |= self._ends(steps, place, made, failed)
        return _Scope(names[steps.first], states)

    def _ends(self, steps: Steps, place: _Place, made: str, failed: str) -> dict[str, State]:
        found = {}
        for end, onward in ((steps.dag.success, made), (steps.dag.fail, failed)):
            here = place.below(end)
            found[here.state()] = self._task(steps.dag.nodes[end], here, onward, failed)
        return found

    def _step(self, node: Node, place: _Place, good: str, bad: str) -> dict[str, State]:
        """Return the states of one step; the first of them has its name."""
        if node.type is NodeType.TASK:
            return {place.state(): self._task(node, place, good, bad)}
        if node.type is NodeType.AS_IS:
            return {place.state(): self._as_is(node, good, bad)}
        join = place.state("%join")
        if node.type is NodeType.MAP:
            return self._map(node, place, join, bad) | {join: self._task(node, place, good, bad)}
        if node.type is NodeType.DAG:
            assert node.branch is not None
            return self._side_by_side([self._branch(node.branch, place)], place, place.state(), good, bad)
        branches = [self._branch(dag, place.below(name)) for name, dag in node.branches.items()]
        joining = self._side_by_side(branches, place, place.state(), join, bad)
        return joining | {join: self._task(node, place, good, bad)}

    def _branch(self, dag: Dag, place: _Place) -> State:
        """Return a DAG of its own, whose output is how it has ended."""
        made, failed = place.state("%made"), place.state("%failed")
        scope = self.dag(dag, place, made, failed)
        ends = {name: {"Type": "Pass", "Result": word, "End": True} for name, word in ((made, MADE), (failed, FAILED))}
        return {"StartAt": scope.first, "States": scope.states | ends}

    def _side_by_side(self, branches: list[State], place: _Place, name: str, good: str, bad: str) -> dict[str, State]:
        asked = place.state("%ended")
        state = {"Type": "Parallel", "Branches": branches, "ResultPath": "$.outcomes", "Catch": caught(bad)}
        return {name: {**state, "Next": asked}} | decide(asked, place.state("%all?"), good, bad)

    def _map(self, node: Node, place: _Place, good: str, bad: str) -> dict[str, State]:
        """Return the states that ask for the values, and go through the branch for each of them."""
        assert node.branch is not None
        each, asked, inner = place.state("%each"), place.state("%ended"), place.for_each()
        outer = {f"v{depth}.$": f"$.v{depth}" for depth in range(1, inner.depth)}
        selector = {"parameters.$": "$.parameters", **outer, f"v{inner.depth}.$": "$$.Map.Item.Value"}
        items = self._task(node, place, each, good, ask="--items", answers=True)
        return {
            # Where there are no values, joining them fails and tells why.
            place.state(): {**items, "ResultPath": "$.items"},
            each: {
                "Type": "Map",
                "ItemsPath": "$.items",
                "ItemSelector": selector,
                "ItemProcessor": {"ProcessorConfig": {"Mode": "INLINE"}, **self._branch(node.branch, inner)},
                "ResultPath": "$.outcomes",
                "Catch": caught(bad),
                "Next": asked,
            },
        } | decide(asked, place.state("%all?"), good, bad)

    def _task(self, node: Node, place: _Place, good: str, bad: str, **more: Any) -> State:
        queue = self.settings[id(node)].get("queue") or self.settings[0].get("queue")
        body = {"ask": "--step", "name": list(place.told), **more}
        dynamic = {"run.$": "$$.Execution.Name", "parameters.$": "$.parameters"}
        attempts = node.retry if node.type is NodeType.TASK else 1
        state = message(self.work.words, queue=queue, attempts=attempts, **dynamic, **body)
        return {**state, "ResultPath": None, "Catch": caught(bad), "Next": good}

    def _as_is(self, node: Node, good: str, bad: str) -> State:
        try:
            read = json.loads(str(node.render_string))
        except ValueError:
            read = None
        if not isinstance(read, dict) or "Type" not in read:
            self.faults.append(f"`render_string` of the step `{node.name}` is no state of Step Functions, as JSON")
            return {}
        fails = {"Catch": caught(bad)} if read["Type"] in ("Task", "Parallel", "Map") else {}
        return {"ResultPath": None, **fails, **read, "Next": good}
