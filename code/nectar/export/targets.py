"""Choose how to write for an engine, and refuse what it could not take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nectar import errors
from nectar.export import (
    airflow,
    airflow_pipeline,
    argo,
    argo_pipeline,
    bash,
    bash_pipeline,
    step_functions,
    step_functions_pipeline,
)
from nectar.export.pipeline_work import PipelineWork, count_steps
from nectar.export.work import ChainWork, Rendered


@dataclass(frozen=True, slots=True)
class Target:
    """An engine that something can be written for."""

    name: str
    suffix: str  #: what follows the name of what is rendered
    chain: Callable[[ChainWork], str]
    pipeline: Callable[[PipelineWork], tuple[str, tuple[str, ...]]]  #: returns what to warn of, too
    elsewhere: bool = True  #: nodes run on other machines than this, as far as anybody knows
    most_bytes: int | None = None
    most_nodes: int | None = None
    most_bytes_a_node: int | None = None


TARGETS = {
    one.name: one
    for one in (
        Target("bash", ".sh", bash.chain, bash_pipeline.pipeline, elsewhere=False),
        Target("argo", ".argo.yaml", argo.chain, argo_pipeline.pipeline, most_bytes=argo.LIMIT),
        Target(
            "step-functions",
            ".asl.json",
            step_functions.chain,
            step_functions_pipeline.pipeline,
            most_bytes=step_functions.LIMIT,
            most_nodes=step_functions.MOST_NODES,
            most_bytes_a_node=step_functions.MESSAGE_LIMIT,
        ),
        Target("airflow", "_dag.py", airflow.chain, airflow_pipeline.pipeline),
    )
}


def render_chain(work: ChainWork, target: Target) -> Rendered:
    """Return the graph of a chain for an engine.

    Raises:
        NotRenderable: when the engine would not take so many nodes, or so large ones.
    """
    large = [node for node in work.nodes if _size(work.command(node)) > (target.most_bytes_a_node or float("inf"))]
    if large:
        raise errors.NotRenderable(
            f"{target.name} takes {target.most_bytes_a_node:,} bytes a node, and the parameters of "
            f"`{large[0].title[:60]}` are longer",
            hint="let a parameter name a file, instead of holding its content",
        )
    text = target.chain(work)
    check_size(target, text, len(work.nodes))
    return Rendered(_file_name(target, work.name), text, len(work.nodes), work.warnings)


def render_pipeline(work: PipelineWork, target: Target) -> Rendered:
    """Return a pipeline for an engine.

    Raises:
        NotRenderable: with everything in it that the engine does not know, or when it is too large.
    """
    text, warnings = target.pipeline(work)
    count = count_steps(work.dag)
    check_size(target, text, count)
    return Rendered(_file_name(target, work.name), text, count, warnings)


def _file_name(target: Target, name: str) -> str:
    return f"{name.replace('-', '_') if target.suffix.endswith('.py') else name}{target.suffix}"


def check_size(target: Target, text: str, nodes: int) -> None:
    """Make sure that an engine takes what was rendered.

    Raises:
        NotRenderable: when it is too much.
    """
    size = len(text.encode())
    too_much = [
        f"it has {nodes:,} nodes, and {target.name} takes {target.most_nodes:,}"
        if nodes > (target.most_nodes or nodes)
        else "",
        f"it has {size:,} bytes, and {target.name} takes {target.most_bytes:,}"
        if size > (target.most_bytes or size)
        else "",
    ]
    if any(too_much):
        raise errors.NotRenderable(
            "this is too large: " + "; ".join(filter(None, too_much)),
            hint="render parts of it, one for each of some upstream tasks, or let tasks do more each",
        )


def _size(words: tuple[str, ...]) -> int:
    return sum(len(word.encode("utf-8", "surrogatepass")) for word in words)
