"""Say what would happen to a task and all that it needs."""

from __future__ import annotations

from collections.abc import Sequence

import luigi

from nectar.actions.graph import graph
from nectar.listing import Availability, Schedule, in_order, listing
from nectar.plans import Action, Plan, make_plan
from nectar.plans.values import MAKING


def plan(*tasks: luigi.Task, select: str | None = None) -> Plan:
    """Return what would happen if these tasks were run now; nothing is run or written.

    `select` names those that would be made, among all that the tasks stand on: `*CleanTask, LoadTask(day=3)+`.

    Raises:
        GraphError: when the tasks cannot be carried out: a circle, two tasks with one target.
        SelectionInvalid, UpstreamMissing: when nothing can be made of the selection.
        StoreUnreachable: when a store cannot answer.
    """
    return make_plan(tasks, select=select).plan


def listed(tasks: Sequence[luigi.Task], *, select: str | None = None) -> str:
    """Return the plan of each task as `Step.execution_plan` lists steps: by names, each with what it needs before it.

    Raises: as `plan`.
    """
    found = graph(*tasks, select=select)
    steps = {step.ref: step for step in make_plan(tasks, select=select).plan.steps}
    texts = []
    for head in found.roots:
        rows = []
        for ref in in_order(head, lambda one: list(found.nodes[one].requirements.values())):
            step = steps.get(ref)
            there = Availability.MISSING  # or nobody looked: it lies behind what is complete
            if step is not None and step.action is Action.SKIP:
                there = Availability.AVAILABLE
            elif step is not None and step.path is None:
                there = Availability.NOWHERE
            runs = Schedule.RUN if step is not None and step.action in MAKING else Schedule.NO_RUN
            rows.append((_short(found.nodes[ref].task), there, Schedule.HEAD if ref == head else runs))
        texts.append(str(listing(rows)))
    return "\n".join(texts)


def _short(task: str) -> str:
    name, _, params = task.partition("(")
    return f"{name.rpartition('.')[2]}({params}" if params.strip(")") else name.rpartition(".")[2]
