"""Show the tasks that some root tasks stand on as plain data: who requires whom, and by which path."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import luigi

from nectar.drawing import Picture
from nectar.drawing.tasks import picture_of
from nectar.task import ground
from nectar.task.closure import closure, expand, in_order, known_requirements, reference


@dataclass(frozen=True, slots=True)
class Node:
    """One task of a graph."""

    ref: str  #: names the task within the graph
    task: str  #: as people read it: `chains.etl.flights_chain.ReportTask(month=3)`
    requirements: Mapping[str, str]  #: path (`0`, `parts.3`) -> ref

    def to_json(self) -> dict[str, Any]:
        """Return the node as a JSON value."""
        return {"ref": self.ref, "task": self.task, "requirements": dict(self.requirements)}


@dataclass(frozen=True, slots=True)
class Graph:
    """Tasks, requirements before those who require them."""

    roots: tuple[str, ...]  #: refs
    nodes: Mapping[str, Node]  #: by ref

    def only(self, refs: Collection[str]) -> Graph:
        """Return the graph of some of its tasks, with what they require of each other; its roots are its ends."""
        nodes = {
            ref: replace(node, requirements={path: one for path, one in node.requirements.items() if one in refs})
            for ref, node in self.nodes.items()
            if ref in refs
        }
        required = {one for node in nodes.values() for one in node.requirements.values()}
        return Graph(tuple(ref for ref in nodes if ref not in required), nodes)

    def to_json(self) -> dict[str, Any]:
        """Return the graph as a JSON value."""
        return {"roots": list(self.roots), "nodes": [node.to_json() for node in self.nodes.values()]}

    def picture(self) -> Picture:
        """Return the graph as a picture, folded by family where there are many tasks."""
        tasks = {ref: node.task for ref, node in self.nodes.items()}
        return picture_of(tasks, {ref: node.requirements.values() for ref, node in self.nodes.items()})

    def _repr_html_(self) -> str:
        return self.picture().svg()

    def tree(self) -> Iterator[tuple[str, Node, bool]]:
        """Yield `(drawing, node, seen)` for each line of the graph drawn as a tree, root first.

        `drawing` are the lines that lead to the node. What a node requires is drawn where it comes first; later it is
        only named, with `seen` True.
        """
        seen: set[str] = set()
        # What is still to be drawn: the lines before it, whether it is the last of its parent (None: a root), its ref.
        stack: list[tuple[str, bool | None, str]] = [("", None, ref) for ref in reversed(self.roots)]
        while stack:
            before, last, ref = stack.pop()
            node = self.nodes[ref]
            yield ("" if last is None else before + ("└─ " if last else "├─ ")), node, ref in seen
            if ref in seen:
                continue
            seen.add(ref)
            deeper = before if last is None else before + ("   " if last else "│  ")
            below = list(dict.fromkeys(node.requirements.values()))
            stack += [(deeper, position == 0, one) for position, one in enumerate(reversed(below))]


def make_graph(roots: Sequence[luigi.Task]) -> Graph:
    """Return the graph of everything that some tasks require, however deep; no store is asked.

    Raises:
        CycleFound, ClosureTooLarge: when there is no such graph; a circle is drawn.
        IdentityError, TaskBroken: when a task has no identity, or its `requires()` raises.
    """
    ground.begin_epoch()
    found = closure(roots)
    root_refs = list(dict.fromkeys(map(reference, roots)))
    nodes = {}
    for ref in in_order(root_refs, lambda one: expand(found, one), found.tasks):
        task = found.tasks[ref]
        requirements = {path: reference(one) for path, one in known_requirements(task).items()}
        nodes[ref] = Node(ref, repr(task), requirements)
    return Graph(tuple(root_refs), nodes)
