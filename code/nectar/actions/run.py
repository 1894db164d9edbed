"""Make a task and all that it needs."""

from __future__ import annotations

from collections.abc import Mapping

import luigi

from nectar.execution import inline
from nectar.execution.outcome import Event, Listener, RunResult
from nectar.plans import make_plan
from nectar.recording.run import new_run


def run(
    *tasks: luigi.Task, listener: Listener | None = None, echo: bool = True, tags: Mapping[str, str] | None = None
) -> RunResult:
    """Make these tasks, and return how each task ended; what is complete is left as it is.

    `listener` is told what happens while it happens; with `echo` what tasks print is also shown as it comes.

    Raises:
        GraphError: when the tasks cannot be carried out: a circle, two tasks with one target.
        StoreUnreachable: when a store cannot be read or written.
    """
    return inline.execute(make_plan(tasks), new_run(echo=echo, tags=tags), listener or _nobody)


def _nobody(event: Event) -> None:
    """Listen to nothing."""
