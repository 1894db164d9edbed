"""Say what some tasks stand on, without asking a store."""

from __future__ import annotations

import luigi

from nectar.graph import Graph, make_graph


def graph(*tasks: luigi.Task) -> Graph:
    """Return everything that these tasks require, however deep.

    Raises:
        GraphError: for a circle, which is drawn, or a closure without end.
    """
    return make_graph(tasks)
