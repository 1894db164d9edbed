"""The values in which an execution tells what happens: events while it runs, results when it has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from nectar import errors
from nectar.errors import ExitCode

if TYPE_CHECKING:
    import luigi

#: the codes of errors that say that a store cannot be reached
STORE_CODES = frozenset(kind.code for kind in (errors.StoreError, errors.StoreUnreachable))


_SHOWN = 50  # steps of a run, in a notebook


class StepStatus(str, Enum):
    """How a task ended in a run."""

    SKIPPED = "skipped"  #: it was complete
    SUCCEEDED = "succeeded"
    REUSED = "reused"  #: the files of an earlier target were taken: its inputs had the same bytes
    FAILED = "failed"
    NOT_RUN = "not run"  #: something that it requires failed, or the run was stopped
    BLOCKED = "blocked"  #: something that nobody here makes is missing


GOOD = frozenset({StepStatus.SKIPPED, StepStatus.SUCCEEDED, StepStatus.REUSED})  #: the target is there


class EventKind(str, Enum):
    """What happened."""

    RUN_STARTED = "run started"
    STEP_STARTED = "step started"
    STEP_MESSAGE = "step message"  #: the task's own word about its progress
    STEP_PROGRESS = "step progress"  #: the task's own percentage
    ATTEMPT_FAILED = "attempt failed"  #: and another one follows
    STEP_ENDED = "step ended"
    RUN_ENDED = "run ended"


@dataclass(frozen=True, slots=True)
class StepResult:
    """How one task ended."""

    ref: str
    task: str
    status: StepStatus
    path: str | None = None  #: of its target
    seconds: float = 0.0
    error: str | None = None  #: the last line of the traceback
    code: str | None = None  #: the error's code, such as `missing-output`, where it is one of Nectar's
    hint: str | None = None  #: the fix, where it is known
    logs: str | None = None  #: place of its logs in the store
    attempts: int = 0  #: how many were begun in this run
    handled: bool = False  #: it did not end well, and what stands on it went on all the same

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON value."""
        return {
            "task": self.task,
            "status": self.status.value,
            "path": self.path,
            "seconds": round(self.seconds, 6),
            "error": self.error,
            "code": self.code,
            "hint": self.hint,
            "logs": self.logs,
            "attempts": self.attempts,
            "handled": self.handled,
        }


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run."""

    kind: EventKind
    at: datetime  #: UTC, aware
    run_id: str
    task: str | None = None
    ref: str | None = None  #: names the task within the run
    path: str | None = None  #: of STEP_STARTED: the target that is made
    step: StepResult | None = None  #: of STEP_ENDED and ATTEMPT_FAILED
    detail: str | None = None  #: of STEP_MESSAGE and STEP_PROGRESS
    planned: int | None = None  #: of RUN_STARTED: tasks that will run

    def to_json(self) -> dict[str, Any]:
        """Return the event as a JSON value."""
        document: dict[str, Any] = {"event": self.kind.value, "at": self.at.isoformat(), "run_id": self.run_id}
        if self.step is not None:
            return document | self.step.to_json()
        for name in ("task", "detail", "planned"):
            if getattr(self, name) is not None:
                document[name] = getattr(self, name)
        return document


Listener = Callable[[Event], None]


class Runner(Protocol):
    """One run that has not begun yet."""

    def execute(self) -> RunResult:
        """Carry it out and return how each task ended."""

    def drain(self) -> None:
        """Let what has begun end, and begin nothing more; the run counts as interrupted. Safe in a signal handler."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    run_id: str
    steps: tuple[StepResult, ...]
    seconds: float
    interrupted: bool = False
    #: the live task of each step, by ref
    tasks: Mapping[str, luigi.Task] = field(default_factory=dict, repr=False, compare=False)
    ends: tuple[str, ...] = ()  #: with a selection: refs of its tasks that no other task of it requires
    events: tuple[Event, ...] = field(default=(), repr=False, compare=False)  #: in order, where they were asked for

    @property
    def outputs(self) -> dict[luigi.Task, Any]:
        """The `output()` of each task of the run that is there, made now or before."""
        return {
            self.tasks[step.ref]: self.tasks[step.ref].output()
            for step in self.steps
            if step.status in GOOD and step.ref in self.tasks
        }

    def output_for(self, task: luigi.Task) -> Any:
        """Return the `output()` of a task of the run.

        Raises:
            TaskNotFound: when the run had no such task.
            TargetNotFound: when it was not made.
        """
        for step in self.steps:
            if self.tasks.get(step.ref) != task:
                continue
            if step.status not in GOOD:
                raise errors.TargetNotFound(
                    f"`{task!r}` has no output: it is {step.status.value} in the run `{self.run_id}`", hint=step.hint
                )
            return self.tasks[step.ref].output()
        names = {step.task.rpartition(".")[2]: step.task for step in self.steps}
        near = errors.did_you_mean(repr(task).rpartition(".")[2], names)
        raise errors.TaskNotFound(f"the run `{self.run_id}` had no task `{task!r}`", hint=near)

    def _repr_html_(self) -> str:
        """Show a notebook how the tasks ended, those first that did not end well."""
        from nectar.drawing import tables

        counts = ", ".join(f"{count:,} {status.value}" for status, count in self.counts.items() if count)
        told = tables.facts(f"run {self.run_id}", [("steps", counts), ("seconds", f"{self.seconds:.1f}")])
        steps = sorted(self.steps, key=lambda step: step.status in GOOD)
        rows = [
            (step.task, step.status.value, f"{step.seconds:.1f}", step.error or step.path) for step in steps[:_SHOWN]
        ]
        return told + tables.table(("task", "ended", "seconds", ""), rows, more=len(steps) > _SHOWN)

    @property
    def success(self) -> bool:
        """True when all that was asked for is there."""
        return not self.interrupted and all(step.status in GOOD or step.handled for step in self.steps)

    @property
    def exit_code(self) -> ExitCode:
        """What the command tells the shell."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        if any(step.code in STORE_CODES for step in self.steps):
            return ExitCode.STORE_UNREACHABLE
        return ExitCode.OK if self.success else ExitCode.TASK_FAILED

    @property
    def counts(self) -> dict[StepStatus, int]:
        """How many tasks ended in each way."""
        counted = Counter(step.status for step in self.steps)
        return {status: counted[status] for status in StepStatus}

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON value."""
        return {
            "run_id": self.run_id,
            "success": self.success,
            "interrupted": self.interrupted,
            "seconds": round(self.seconds, 6),
            "counts": {status.value: count for status, count in self.counts.items()},
            "steps": [step.to_json() for step in self.steps],
        }
