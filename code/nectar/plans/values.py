"""The values that say what would happen to each task, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import luigi

from nectar.drawing import Kind, Picture
from nectar.drawing.tasks import picture_of


class Action(str, Enum):
    """What would happen to a task."""

    RUN = "run"  #: it would be made
    REUSE = "reuse"  #: it would take the files of a target that was made from inputs with the same bytes
    SKIP = "skip"  #: it is complete
    BLOCKED = "blocked"  #: it cannot be made: something that nobody here makes is missing


#: in pictures
KINDS = {Action.RUN: Kind.RUN, Action.REUSE: Kind.REUSE, Action.SKIP: Kind.DONE, Action.BLOCKED: Kind.WAITING}

MAKING = frozenset({Action.RUN, Action.REUSE})  #: a new target comes of it


class Why(str, Enum):
    """Why a task would run, or cannot."""

    NO_TARGET = "no target"
    LEFTOVER = "leftover"
    INVALID = "invalid target"
    NEWER = "made by a newer Nectar"
    DRIFT = "drift"
    FORCED = "forced"
    FOREIGN_MISSING = "foreign output missing"
    NEVER_COMPLETE = "no output"
    REQUIRED = "a requirement runs"
    EXTERNAL_MISSING = "external data missing"
    BLOCKED_BY = "blocked by"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, as a value that tells itself."""

    why: Why
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.why.value}: {self.detail}" if self.detail else self.why.value

    def to_json(self) -> dict[str, str]:
        """Return the reason as a JSON value."""
        return {"why": self.why.value, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One task of a plan."""

    ref: str  #: names the task within the plan
    task: str  #: as people read it: `chains.etl.flights_chain.ReportTask(month=3)`
    action: Action
    reasons: tuple[Reason, ...]
    path: str | None  #: of the target in the store; None where it has none
    requirements: tuple[str, ...]  #: refs; empty for what is complete, since nobody looked
    drift: bool = False  #: complete, but made by other code than the task has now
    reuses: str | None = None  #: of REUSE: path of the target whose files it would take
    may_be_reused: bool = False  #: of RUN: what it requires is made first, and may come out as it was before

    def to_json(self) -> dict[str, Any]:
        """Return the step as a JSON value."""
        return {
            "task": self.task,
            "action": self.action.value,
            "reasons": [reason.to_json() for reason in self.reasons],
            "path": self.path,
            "requirements": list(self.requirements),
            "drift": self.drift,
            "reuses": self.reuses,
            "may_be_reused": self.may_be_reused,
            "ref": self.ref,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen, requirements before those who require them."""

    steps: tuple[PlanStep, ...]
    identified: int  #: tasks in the closure: those that the plan did not need to look at included
    selected: int | None = None  #: how many were selected; None: there was no selection

    @property
    def counts(self) -> dict[Action, int]:
        """How many tasks there are of each action."""
        counted = Counter(step.action for step in self.steps)
        return {action: counted[action] for action in Action}

    @property
    def to_make(self) -> int:
        """How many tasks a new target would come of."""
        return sum(step.action in MAKING for step in self.steps)

    def picture(self) -> Picture:
        """Return the plan as a picture, coloured by what would happen, folded by family where there are many tasks."""
        tasks = {step.ref: step.task for step in self.steps}
        kinds = {step.ref: KINDS[step.action] for step in self.steps}
        return picture_of(tasks, {step.ref: step.requirements for step in self.steps}, kinds)

    def _repr_html_(self) -> str:
        return self.picture().svg()

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON value."""
        return {
            "counts": {action.value: count for action, count in self.counts.items()},
            "identified": self.identified,
            "selected": self.selected,
            "steps": [step.to_json() for step in self.steps],
        }


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, and the live tasks that it speaks of."""

    plan: Plan
    tasks: Mapping[str, luigi.Task]  #: by ref
    selected: tuple[str, ...] | None = None  #: refs of what was selected; None: there was no selection
    ends: tuple[str, ...] = ()  #: refs of what was selected and no other selected task requires


class Force(str, Enum):
    """What is made again although it is complete."""

    NOTHING = "nothing"
    ROOTS = "roots"  #: the tasks that were asked for
    ALL = "all"  #: these, and all that they stand on
