"""Make the tasks that a file describes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import luigi

from nectar import errors
from nectar.description import Dag
from nectar.description.commands import CommandTask, tasks_of
from nectar.description.containers import find_engine
from nectar.plans import Action, Force, make_plan

_MOST_LISTED = 5


@dataclass(frozen=True, slots=True)
class Described:
    """What a description asks for."""

    roots: list[luigi.Task]  #: on which no other task of it stands
    in_containers: bool  #: some of its tasks name an image


def read_description(path: Path) -> Described:
    """Return what the description in a file asks for.

    Raises:
        DescriptionInvalid, DescriptionNewer: when the file holds none, or one that cannot be carried out.
        CycleFound: when its tasks depend on each other in a circle, which is drawn.
    """
    dag = Dag.load(path)
    try:
        return Described(list(tasks_of(dag)), any("image" in task.spec for task in dag))
    except errors.DescriptionInvalid as error:
        raise errors.DescriptionInvalid(f"`{path}`: {error.message}", hint=error.hint) from error


def check_containers(described: Described, force: Force, selection: str | None) -> None:
    """Make sure, before anything runs, that what is to run in a container can.

    Raises:
        NoContainers: when nothing here runs containers, and a task with an `image` is to be made; names them.
    """
    if not described.in_containers:
        return
    try:
        find_engine()
    except errors.NoContainers as error:
        prepared = make_plan(described.roots, force, selection)
        to_run = [prepared.tasks[step.ref] for step in prepared.plan.steps if step.action is Action.RUN]
        found = [task for task in to_run if isinstance(task, CommandTask) and task.image is not None]
        if not found:
            return
        listed = ", ".join(f"`{task.name}` (`{task.image}`)" for task in found[:_MOST_LISTED])
        rest = f" and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
        raise errors.NoContainers(f"{listed}{rest} run in containers, and {error.message}", hint=error.hint) from error
