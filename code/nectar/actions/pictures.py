"""Draw what tasks stand on, and what a run would do to each of them."""

from __future__ import annotations

import luigi

from nectar.actions.graph import graph
from nectar.drawing import Picture
from nectar.drawing.tasks import picture_of
from nectar.plans import make_plan
from nectar.plans.values import KINDS


def picture(*tasks: luigi.Task, select: str | None = None) -> Picture:
    """Return the picture of everything that these tasks require, or of what is selected of it, coloured by the plan.

    What lies behind a complete target, and was not looked at, has no colour.

    Raises:
        GraphError: when the tasks cannot be carried out.
        StoreUnreachable: when a store cannot answer.
    """
    found = graph(*tasks, select=select)
    kinds = {step.ref: KINDS[step.action] for step in make_plan(tasks, select=select).plan.steps}
    names = {ref: node.task for ref, node in found.nodes.items()}
    return picture_of(names, {ref: node.requirements.values() for ref, node in found.nodes.items()}, kinds)
