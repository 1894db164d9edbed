"""Choose the tasks that a selection means, in time linear in the graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import luigi

from nectar.selection.clauses import ALL, Clause, invalid, parse
from nectar.selection.naming import Named
from nectar.task.closure import Closure, closure, expand, in_order, reference

Edges = Mapping[str, Sequence[str]]  #: ref -> refs


@dataclass(frozen=True, slots=True)
class Selected:
    """Some tasks of a graph."""

    refs: tuple[str, ...]  #: of the tasks that are meant, requirements first
    closure: Closure  #: the whole graph: the requirements of every task are known
    ends: tuple[str, ...]  #: those of `refs` that no other of them requires


def select(roots: Sequence[luigi.Task], text: str) -> Selected:
    """Return the tasks that a selection means among all that some root tasks stand on; no store is asked.

    Raises:
        SelectionInvalid: with every clause that cannot be read, or else with every one that selects nothing.
        CycleFound, ClosureTooLarge: when there is no such graph; a circle is drawn.
        IdentityError, TaskBroken: when a task has no identity, or its `requires()` raises.
    """
    clauses = parse(text)
    found = closure(roots)
    root_refs = dict.fromkeys(map(reference, roots))
    order = list(in_order(root_refs, lambda ref: expand(found, ref), found.tasks))
    named = Named.of({ref: found.tasks[ref] for ref in order})
    meant = [named.find(clause) for clause in clauses]
    problems = [named.problem(clause) for clause, refs in zip(clauses, meant, strict=True) if not refs]
    if problems:
        raise invalid(problems)
    chosen = around(clauses, meant, found.requirements)
    required = {one for ref in chosen for one in found.requirements[ref]}
    refs = tuple(ref for ref in order if ref in chosen)
    return Selected(refs, found, tuple(ref for ref in refs if ref not in required))


def around(clauses: Sequence[Clause], meant: Sequence[Iterable[str]], requirements: Edges) -> set[str]:
    """Return what the clauses select, given what each of them names and what each task requires."""
    up: dict[str, int] = {}
    down: dict[str, int] = {}
    for clause, refs in zip(clauses, meant, strict=True):
        for ref in refs:
            up[ref] = max(clause.up, up.get(ref, 0))
            down[ref] = max(clause.down, down.get(ref, 0))
    return _reached(up, requirements) | (_reached(down, _reversed(requirements)) if any(down.values()) else set())


def _reversed(edges: Edges) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for ref, others in edges.items():
        for one in others:
            found.setdefault(one, []).append(ref)
    return found


def _reached(levels: Mapping[str, int], edges: Edges) -> set[str]:
    """Return what lies within so many levels of each of some tasks, these included.

    All of them go on at the same time, those with most levels left first: so each task is passed once.
    """
    reached: set[str] = set()
    stack = [ref for ref, left in levels.items() if left == ALL]
    while stack:
        ref = stack.pop()
        if ref not in reached:
            reached.add(ref)
            stack += edges.get(ref, ())
    begin: dict[int, list[str]] = {}
    for ref, left in levels.items():
        if left != ALL:
            begin.setdefault(left, []).append(ref)
    level: list[str] = []
    for left in range(max(begin, default=-1), -1, -1):
        level = [ref for ref in dict.fromkeys((*level, *begin.get(left, ()))) if ref not in reached]
        reached.update(level)
        level = [one for ref in level for one in edges.get(ref, ())]
    return reached
