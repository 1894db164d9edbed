"""Say what some tasks stand on, without asking a store."""

from __future__ import annotations

import luigi

from nectar.graph import Graph, make_graph


def graph(*tasks: luigi.Task, select: str | None = None) -> Graph:
    """Return everything that these tasks require, however deep, or what a selection means among that.

    Raises:
        GraphError: for a circle, which is drawn, or a closure without end.
        SelectionInvalid: when a clause of the selection cannot be read, or selects nothing.
    """
    whole = make_graph(tasks)
    if select is None:
        return whole
    from nectar.selection import select as choose  # late: most graphs are asked for in full

    return whole.only(frozenset(choose(tasks, select).refs))
