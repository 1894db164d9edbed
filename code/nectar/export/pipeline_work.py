"""The values of a pipeline that is rendered: its DAGs, and by which ways their steps are reached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nectar import errors
from nectar.export.names import slug
from nectar.pipeline.model import Dag, Node, NodeType
from nectar.pipeline.wiring import has_routes


@dataclass(frozen=True, slots=True)
class PipelineWork:
    """A pipeline, to be carried out step by step."""

    title: str  #: what it is, in one line
    stem: str  #: of the file
    words: tuple[str, ...]  #: what follows `nectar` for every step, without the run's id: `execute --file p.yaml`
    parameters: Mapping[str, str]  #: that it begins with where no others are given; texts
    dag: Dag
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A name for the whole, of `[a-z0-9-]`."""
        return slug(self.stem)

    @property
    def parameter_words(self) -> tuple[str, ...]:
        """The parameters as words of a command line."""
        return tuple(f"--{name}={text}" for name, text in self.parameters.items())


@dataclass(frozen=True, slots=True)
class Way:
    """One way to a step: after another that was good, or that failed."""

    after: str  #: name of a step of the same DAG
    good: bool


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one DAG that something is done for, in an order in which each comes after its ways."""

    dag: Dag
    order: tuple[Node, ...]  #: those that can be reached, without the ends
    first: str  #: name of a step, or of an end
    after_success: Mapping[str, str]  #: step -> step or end
    after_failure: Mapping[str, str]
    ends: bool  #: its ends are carried out, since failures have ways of their own in it

    def ways(self, name: str) -> tuple[Way, ...]:
        """Return the ways to a step or an end; none to what comes first."""
        good = [Way(node.name, good=True) for node in self.order if self.after_success[node.name] == name]
        bad = [Way(node.name, good=False) for node in self.order if self.after_failure[node.name] == name]
        return (*good, *bad)


def steps_of(dag: Dag, *, root: bool = False) -> Steps:
    """Return the steps of a DAG. An as-is step without a text for an engine is passed over."""

    def real(name: str) -> str:
        while dag.nodes[name].type is NodeType.AS_IS and not dag.nodes[name].render_string:
            name = str(dag.nodes[name].next)
        return name

    inner = [
        node
        for node in dag.nodes.values()
        if node.type not in (NodeType.SUCCESS, NodeType.FAIL) and real(node.name) == node.name
    ]
    good = {node.name: real(str(node.next)) for node in inner}
    bad = {node.name: real(dag.after_failure(node)) for node in inner}
    first = real(dag.start_at)
    order = tuple(dag.nodes[name] for name in _in_order(first, good, bad) if name in good)
    return Steps(dag, order, first, good, bad, root or has_routes(dag))


def _in_order(first: str, good: Mapping[str, str], bad: Mapping[str, str]) -> list[str]:
    """Return what can be reached, each after all that lead to it; there is no circle."""
    done: dict[str, None] = {}
    stack = [(first, False)]
    while stack:
        name, passed = stack.pop()
        if passed:
            done[name] = None
        elif name not in done:
            stack.append((name, True))
            stack += [(edges[name], False) for edges in (good, bad) if name in edges]
    return list(reversed(done))


def all_dags(dag: Dag) -> Iterator[Dag]:
    """Yield a DAG and all DAGs in it."""
    yield dag
    for node in dag.nodes.values():
        for inner in node.dags:
            yield from all_dags(inner)


def count_steps(dag: Dag) -> int:
    """Return how many steps there are, ends included; those of a map's branch count once."""
    return sum(len(one.nodes) for one in all_dags(dag))


def settings_of(
    engine: str, mode_config: Mapping[str, Any], known: Mapping[str, type], where: str, faults: list[str]
) -> dict[str, Any]:
    """Return what `mode_config` says for one engine; what it cannot say is added to the faults."""
    given = mode_config.get(engine)
    if given is None:
        return {}
    if not isinstance(given, dict):
        faults.append(f"`mode_config` of {where} has no mapping under `{engine}`")
        return {}
    for name, value in given.items():
        if name not in known:
            hint = (
                errors.did_you_mean(str(name), known) or f"there is {', '.join(f'`{one}`' for one in known) or 'none'}"
            )
            faults.append(f"`mode_config` of {where} has `{engine}.{name}`, which is unknown ({hint})")
        elif not isinstance(value, known[name]) or isinstance(value, bool):
            faults.append(f"`{engine}.{name}` of {where} is no {_KINDS[known[name]]}")
    return {name: value for name, value in given.items() if name in known}


_KINDS: Mapping[type, str] = {str: "text", int: "whole number", dict: "mapping"}


def step_settings(
    engine: str, work: PipelineWork, known: Mapping[str, type], of_dag: Mapping[str, type], faults: list[str]
) -> dict[int, dict[str, Any]]:
    """Return the settings of every step by the id of its node, and of the pipeline under 0."""
    found = {0: settings_of(engine, work.dag.mode_config, of_dag, "the pipeline", faults)}
    for dag in all_dags(work.dag):
        if dag is not work.dag and engine in dag.mode_config:
            faults.append(f"a DAG within a step has `mode_config`, where `{engine}` knows none")
        for node in dag.nodes.values():
            found[id(node)] = settings_of(engine, node.mode_config, known, f"the step `{node.name}`", faults)
    return found


def refuse(faults: list[str]) -> None:
    """Raise an error where there are faults.

    Raises:
        NotRenderable: with all of them.
    """
    if faults:
        raise errors.NotRenderable(
            "this cannot be rendered: " + "; ".join(faults), hint="docs/rendering.md says what each engine takes"
        )


def limits_not_kept(work: PipelineWork, engine: str, *, root: bool) -> Iterator[str]:
    """Yield a sentence where there is a `max_time` that an engine does not keep; `root`: it keeps that of the whole."""
    if any(dag.max_time is not None and not (root and dag is work.dag) for dag in all_dags(work.dag)):
        what = "a DAG within a step" if root else "the pipeline"
        yield f"`max_time` of {what} bounds each of its steps under {engine}, and not all of them together"
