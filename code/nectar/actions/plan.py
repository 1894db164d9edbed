"""Say what would happen to a task and all that it needs."""

from __future__ import annotations

import luigi

from nectar.plans import Plan, make_plan


def plan(*tasks: luigi.Task) -> Plan:
    """Return what would happen if these tasks were run now; nothing is run or written.

    Raises:
        GraphError: when the tasks cannot be carried out: a circle, two tasks with one target.
        StoreUnreachable: when a store cannot answer.
    """
    return make_plan(tasks).plan
