"""Decide whether a document is a pipeline, and make it one; everything that is wrong is told at once, with its line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from nectar.extensions import offered
from nectar.pipeline import commands, vocabulary
from nectar.pipeline.checks import Checks
from nectar.pipeline.faults import Faults, quoted
from nectar.pipeline.flow import Edge, Flow, Stop
from nectar.pipeline.model import CatalogWish, CommandType, Dag, Node, NodeType, Service, Services
from nectar.pipeline.yaml_text import Part

MOST_NESTED = 16  #: DAGs in each other, the outermost included


def pipeline_of(document: Part, faults: Faults) -> tuple[Dag | None, Services]:
    """Return the DAG and the services of a whole file.

    What is wrong is added to `faults`; where that is anything, what is returned is worth nothing.
    """
    checks = Checks(faults)
    if not isinstance(document.value, dict) and not document.broken:
        what = "is empty" if document.value is None else "is no mapping"
        faults.add(document.line, f"the file {what}", "a pipeline begins with `dag:`")
        return None, Services()
    checks.keys(document, "the file", vocabulary.FILE, ("dag",))
    services = services_of(document.members, checks)
    dag = document.members.get("dag")
    return (_dag(dag, "dag", checks, level=1) if dag is not None else None), services


def services_of(members: Mapping[str, Part], checks: Checks) -> Services:
    """Return the services that the sections of a file name. What is wrong is added to the faults of `checks`."""
    found = {}
    for name, types in vocabulary.SERVICES.items():
        part = members.get(name)
        if part is None:
            continue
        inner = checks.mapping(part, name, "a mapping with a `type`")
        if isinstance(part.value, dict):
            checks.keys(part, f"`{name}`", vocabulary.SERVICE, ("type",))
        kind = checks.one_of(inner.get("type"), "type", (*types, *offered(vocabulary.GROUPS[name])))
        config = checks.free(inner.get("config"), "config")
        if kind is not None:
            found[name] = Service(kind, config)
    return Services(**found)


def _dag(part: Part, name: str, checks: Checks, *, level: int) -> Dag | None:
    """Return a DAG, None where it cannot be made one."""
    if level > MOST_NESTED:
        checks.faults.add(part.line, f"more than {MOST_NESTED} DAGs lie in each other here", "make it flatter")
        return None
    members = checks.mapping(part, name, "a DAG: a mapping with `start_at` and `steps`")
    if part.broken or not isinstance(part.value, dict):
        return None
    checks.keys(part, "a DAG" if level > 1 else "the DAG", vocabulary.DAG, ("start_at", "steps"))
    start_at = checks.text(members.get("start_at"), "start_at", wanted="the name of a step")
    description = checks.text(members.get("description"), "description", empty=True)
    max_time = checks.count(members.get("max_time"), "max_time")
    schedule = checks.text(members.get("schedule"), "schedule")
    mode_config = checks.free(members.get("mode_config"), "mode_config")
    nodes = _steps(members.get("steps"), _edge(members, "start_at", start_at), checks, level=level)
    return Dag(nodes, start_at or "", part.value, description or "", max_time, schedule, mode_config)


def _edge(members: Mapping[str, Part], key: str, to: str | None) -> Edge | None:
    return None if to is None else Edge(key, to, members[key].line)


def _steps(part: Part | None, start_at: Edge | None, checks: Checks, *, level: int) -> Mapping[str, Node]:
    """Return the steps that have a type, and check the order of them all."""
    members = checks.mapping(part, "steps", "a mapping of names to steps")
    if part is None or part.broken or not isinstance(part.value, dict):
        return {}
    if not members:
        checks.faults.add(part.line, "`steps` is empty", "it has to have a success node and a fail node at least")
        return {}
    nodes, stops = {}, {}
    before = len(checks.faults)
    for name, step in members.items():
        checks.name(name, step.line, "step")
        node, stops[name] = _step(name, step, checks, level=level)
        if node is not None:
            nodes[name] = node
    Flow(stops, start_at, part.line, whole=len(checks.faults) == before).check(checks.faults)
    return nodes


def _step(name: str, part: Part, checks: Checks, *, level: int) -> tuple[Node | None, Stop]:
    members = checks.mapping(part, name, "a step: a mapping with a `type`")
    whole = isinstance(part.value, dict) and not part.broken
    kind = checks.choice(members.get("type"), "type", NodeType)
    if whole and "type" not in members:
        checks.faults.add(part.line, f"the step {quoted(name)} has no `type`", "such as `type: task`")
    after = checks.text(members.get("next"), "next", wanted="the name of a step")
    on_failure = checks.text(members.get("on_failure"), "on_failure", wanted="the name of a step")
    known = vocabulary.STEPS[kind] if kind is not None else ("next", "on_failure")
    wanted = (("next", after), ("on_failure", on_failure))
    edges = (_edge(members, key, to) for key, to in wanted if key in known)
    stop = Stop(part.line, kind, tuple(edge for edge in edges if edge is not None))
    if kind is None or not whole:
        return None, stop
    checks.keys(part, f"the {kind.value} step {quoted(name)}", known, vocabulary.REQUIRED[kind])
    node = Node(
        name,
        kind,
        part.value,
        part.line,
        next=after,
        on_failure=on_failure,
        mode_config=checks.free(members.get("mode_config"), "mode_config"),
        **_OWN[kind](members, checks, level) if kind in _OWN else {},
    )
    return node, stop


def _task(members: Mapping[str, Part], checks: Checks, level: int) -> dict[str, Any]:
    part = members.get("command")
    command = checks.text(part, "command")
    said = members.get("command_type")
    kind = checks.choice(said, "command_type", CommandType) if said is not None else CommandType.PYTHON
    if part is not None and command is not None and kind is not None:
        wrong = commands.wrong(command, kind)
        if wrong is not None:
            checks.faults.add(part.line, *wrong)
    retry = checks.count(members.get("retry"), "retry")
    return {
        "command": command,
        "command_type": kind or CommandType.PYTHON,
        "command_config": checks.free(members.get("command_config"), "command_config"),
        "retry": retry or 1,
        "catalog": _catalog(members["catalog"], checks) if "catalog" in members else CatalogWish(),
    }


def _catalog(part: Part, checks: Checks) -> CatalogWish:
    members = checks.mapping(part, "catalog", "a mapping of `get` and `put` to patterns")
    checks.keys(part, "`catalog`", vocabulary.CATALOG)
    folder = members.get("compute_data_folder")
    patterns = {}
    for key in ("get", "put"):
        wanted = checks.texts(members.get(key), key)
        for one in wanted:
            _check_inside(one, key, checks)
        patterns[key] = tuple(str(one.value) for one in wanted)
    named = checks.text(folder, "compute_data_folder", wanted="the path of a folder")
    if folder is not None and named is not None:
        _check_inside(folder, "compute_data_folder", checks)
    return CatalogWish(named, **patterns)


def _check_inside(part: Part, name: str, checks: Checks) -> None:
    path = PurePosixPath(part.value)
    if path.is_absolute() or ".." in path.parts:
        message = f"`{name}` has {quoted(part.value)}, which leads out of the folder in which the step works"
        checks.faults.add(part.line, message, "use a relative path without `..`")


def _parallel(members: Mapping[str, Part], checks: Checks, level: int) -> dict[str, Any]:
    part = members.get("branches")
    branches = checks.mapping(part, "branches", "a mapping of names to DAGs")
    if part is not None and part.value == {} and not part.broken:
        checks.faults.add(part.line, "`branches` is empty", "it has to have one branch at least")
    dags = {}
    for name, inner in branches.items():
        checks.name(name, inner.line, "branch")
        dags[name] = _dag(inner, name, checks, level=level + 1)
    return {"branches": {name: dag for name, dag in dags.items() if dag is not None}}


def _map(members: Mapping[str, Part], checks: Checks, level: int) -> dict[str, Any]:
    return {
        "iterate_on": checks.identifier(members.get("iterate_on"), "iterate_on"),
        "iterate_as": checks.identifier(members.get("iterate_as"), "iterate_as"),
        "branch": _inner(members, "branch", checks, level),
    }


def _inner(members: Mapping[str, Part], key: str, checks: Checks, level: int) -> Dag | None:
    return _dag(members[key], key, checks, level=level + 1) if key in members else None


def _nested(members: Mapping[str, Part], checks: Checks, level: int) -> dict[str, Any]:
    return {"branch": _inner(members, "dag_definition", checks, level)}


def _as_is(members: Mapping[str, Part], checks: Checks, level: int) -> dict[str, Any]:
    checks.text(members.get("command"), "command")  # accepted, and not run
    return {"render_string": checks.text(members.get("render_string"), "render_string")}


_OWN = {
    NodeType.TASK: _task,
    NodeType.PARALLEL: _parallel,
    NodeType.MAP: _map,
    NodeType.DAG: _nested,
    NodeType.AS_IS: _as_is,
}
