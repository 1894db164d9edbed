"""Tell of a pipeline's run as one document: each step on the way that it took, in magnus's form.

The form, with its names and statuses, is that of magnus's run log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from nectar import errors
from nectar.address import Address
from nectar.execution.outcome import GOOD, Event, EventKind, RunResult, StepResult, StepStatus
from nectar.pipeline.model import Node, NodeType, Pipeline, Services
from nectar.pipeline.standing import Standing, read_standings
from nectar.pipeline.tasks import NodeTask
from nectar.pipeline.wiring import Stop, Way, Wirer
from nectar.records import Record, utc_now

SUCCESS, FAIL = "SUCCESS", "FAIL"
_TRIED = frozenset({StepStatus.FAILED, StepStatus.BLOCKED})


@dataclass(frozen=True, slots=True)
class Heading:
    """What a run log says of the run as a whole."""

    run_id: str
    pipeline: Pipeline
    services: Services
    parameters: Mapping[str, Any]  #: those that it began with
    tag: str | None = None
    original_run_id: str = ""  #: of the run that it repeats


@dataclass(slots=True)
class _Facts:
    """What became of the tasks of a run."""

    wirer: Wirer
    code: list[dict[str, Any]]
    results: dict[str, StepResult] = field(default_factory=dict)  #: by output id
    failed: dict[str, list[tuple[datetime, StepResult]]] = field(default_factory=dict)  #: attempts, by output id
    records: dict[Address, Record] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    latest: datetime = field(default_factory=utc_now)

    def good(self, task: NodeTask) -> bool:
        result = self.results.get(task.id)
        return task.id in self.standings if result is None else result.status in GOOD

    def ended_badly(self, task: NodeTask) -> bool:
        result = self.results.get(task.id)
        if result is not None:
            return result.status in _TRIED
        address = task.target_address()
        return address.key in task.target_store().tried(address.prefix)


def run_log(
    heading: Heading,
    way: Way,
    wirer: Wirer,
    result: RunResult | None,
    events: Iterable[Event],
    code: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return the run log of a run that has ended, as its result tells; where others carried it out, as the store does.

    Raises:
        StoreUnreachable: when what the steps left cannot be read.
    """
    steps: dict[str, Any] = {}
    facts = _gather(wirer, result, events, code)
    status, standing = _walk(facts, way, Standing(heading.parameters), steps)
    return _document(heading, status, steps, standing.parameters)


def beginning(heading: Heading) -> dict[str, Any]:
    """Return the run log of a run that begins."""
    return _document(heading, "PROCESSING", {}, heading.parameters)


def _document(heading: Heading, status: str, steps: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    services = ("executor", "run_log_store", "catalog", "secrets")
    chosen = {name: getattr(heading.services, name) for name in services}
    return {
        "run_id": heading.run_id,
        "dag_hash": heading.pipeline.dag.digest,
        "use_cached": bool(heading.original_run_id),
        "tag": heading.tag,
        "original_run_id": heading.original_run_id,
        "status": status,
        "steps": dict(steps),
        "parameters": dict(parameters),
        "run_config": {name: service.to_json() for name, service in chosen.items() if service is not None},
    }


def _gather(wirer: Wirer, result: RunResult | None, events: Iterable[Event], code: list[dict[str, Any]]) -> _Facts:
    facts = _Facts(wirer, code)
    told = result.tasks if result is not None else {}
    tasks = {ref: task for ref, task in told.items() if isinstance(task, NodeTask)}
    for step in result.steps if result is not None else ():
        if step.ref in tasks:
            facts.results[tasks[step.ref].id] = step
    for event in events:
        ended = event.kind in (EventKind.ATTEMPT_FAILED, EventKind.STEP_ENDED)
        if ended and event.step is not None and event.step.status is StepStatus.FAILED and event.ref in tasks:
            facts.failed.setdefault(tasks[event.ref].id, []).append((event.at, event.step))
    _read(facts, [*wirer.tasks.values(), *tasks.values()])
    return facts


def _read(facts: _Facts, tasks: Sequence[NodeTask]) -> None:
    """Read what the complete ones among some tasks left."""
    unknown = {task.target_address(): task for task in tasks if task.id not in facts.standings}
    if not unknown:
        return
    store = next(iter(unknown.values())).target_store()
    records = store.records(unknown)
    facts.records |= records
    for address, standing in zip(records, read_standings(store, list(records)), strict=True):
        facts.standings[unknown[address].id] = standing


def _tasks(way: Way) -> Iterator[NodeTask]:
    """Yield the tasks on a way, and in the DAGs of its steps."""
    for stop in way.stops:
        if stop.task is not None:
            yield stop.task
        for _, inner in stop.branches:
            yield from _tasks(inner)
    if way.task is not None:
        yield way.task


def _walk(facts: _Facts, way: Way, before: Standing, into: dict[str, Any]) -> tuple[str, Standing]:
    """Write down the steps on the way that was taken, and return how it ended and how things stood then."""
    standing = before
    stops, end = list(way.stops), way.end
    while stops:
        stop = stops.pop(0)
        entry, after = _stop(facts, stop, standing)
        if entry is None:
            return FAIL, standing  # nobody came to it: the run was stopped
        into[stop.place.name] = entry
        if entry["status"] == SUCCESS:
            standing = after
            continue
        other = facts.wirer.after_failure(way, stop)
        _read(facts, list(_tasks(other)))
        stops, end = list(other.stops), other.end
    name = way.place.below(end.name).name
    into[name] = _entry(facts, end, name, SUCCESS, facts.latest, facts.latest)
    return (SUCCESS if end.type is NodeType.SUCCESS else FAIL), standing


def _stop(facts: _Facts, stop: Stop, before: Standing) -> tuple[dict[str, Any] | None, Standing]:
    """Return what a run log says of one step, None where it was not begun, and how things stand after it."""
    node, name = stop.node, stop.place.name
    if node.type is NodeType.AS_IS:
        return _entry(facts, node, name, SUCCESS, facts.latest, facts.latest), before
    branches = dict(_branches(facts, stop, before))
    if stop.task is None:  # nothing is carried out in it
        return _entry(facts, node, name, SUCCESS, facts.latest, facts.latest, branches=branches), before
    task = stop.task
    if facts.good(task):
        record, standing = facts.records.get(task.target_address()), facts.standings[task.id]
        result = facts.results.get(task.id)
        entry = _entry(
            facts,
            node,
            name,
            SUCCESS,
            record.started_at if record is not None else facts.latest,
            record.ended_at if record is not None else facts.latest,
            branches=branches,
            failed=facts.failed.get(task.id, []),
        )
        entry["mock"] = result is None or result.status is StepStatus.SKIPPED
        entry["data_catalog"] = list(standing.moved)
        entry["user_defined_metrics"] = dict(record.metrics) if record is not None else {}
        return entry, standing
    badly = facts.ended_badly(task) or any(branch["status"] == FAIL for branch in branches.values())
    if not badly:
        return None, before
    tried = facts.failed.get(task.id, [])
    result = facts.results.get(task.id)
    message = (result.error if result is not None else None) or _why(branches)
    entry = _entry(facts, node, name, FAIL, facts.latest, facts.latest, branches=branches, failed=tried)
    entry["message"] = message
    return entry, before


def _branches(facts: _Facts, stop: Stop, before: Standing) -> Iterable[tuple[str, dict[str, Any]]]:
    """Return what a run log says of the branches of a step, by their dotted names."""
    node = stop.node
    if node.type not in (NodeType.PARALLEL, NodeType.MAP, NodeType.DAG):
        return []
    ways = stop.branches
    if node.type is NodeType.MAP and not ways and stop.task is not None:
        try:
            ways = tuple(facts.wirer.branches(node, stop.place, stop.before, before.parameters))
        except (errors.ParameterNotSet, errors.ResultInvalid):
            return []  # the step itself has failed of it, and tells why
        _read(facts, [task for _, way in ways for task in _tasks(way)])
    found = []
    for _, way in ways:
        steps: dict[str, Any] = {}
        dotted = way.place.name
        status, _ = _walk(facts, way, before, steps)
        found.append((dotted, {"internal_name": dotted, "status": status, "steps": steps}))
    return found


def _why(branches: Mapping[str, Mapping[str, Any]]) -> str:
    bad = [name for name, branch in branches.items() if branch["status"] == FAIL]
    return f"{', '.join(bad)} failed" if bad else ""


def _entry(
    facts: _Facts,
    node: Node,
    name: str,
    status: str,
    started: datetime,
    ended: datetime,
    *,
    branches: Mapping[str, Any] | None = None,
    failed: Sequence[tuple[datetime, StepResult]] = (),
) -> dict[str, Any]:
    attempts = [
        _attempt(number, at - timedelta(seconds=result.seconds), at, FAIL, result.error or "")
        for number, (at, result) in enumerate(failed)
    ]
    if status == SUCCESS:
        attempts.append(_attempt(len(attempts), started, ended, SUCCESS, ""))
        facts.latest = ended
    elif failed:
        facts.latest = failed[-1][0]
    return {
        "name": node.name,
        "internal_name": name,
        "status": status,
        "step_type": node.type.value,
        "message": "",
        "mock": False,
        "code_identities": facts.code,
        "attempts": attempts,
        "user_defined_metrics": {},
        "branches": dict(branches or {}),
        "data_catalog": [],
    }


def _attempt(number: int, started: datetime, ended: datetime, status: str, message: str) -> dict[str, Any]:
    return {
        "attempt_number": number,
        "start_time": _time(started),
        "end_time": _time(ended),
        "duration": str(ended - started),
        "status": status,
        "message": message,
    }


def _time(moment: datetime) -> str:
    return str(moment.replace(tzinfo=None))  # UTC
