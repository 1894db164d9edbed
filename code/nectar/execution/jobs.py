"""The values that pass between the engine and those who carry tasks out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import luigi

from nectar.task.state import Found


@dataclass(frozen=True, slots=True)
class Job:
    """One task that is ready to run: everything that it requires is there."""

    ref: str
    task: luigi.Task
    number: int  #: of the attempt within the run, from 1
    forced: bool = False  #: a complete target is to be replaced


class ReportKind(str, Enum):
    """What an executor tells of a job."""

    STARTED = "started"
    MESSAGE = "message"  #: the task's own word about its progress
    PROGRESS = "progress"  #: the task's own percentage
    YIELDED = "yielded"  #: it needs more tasks before it can go on
    SUCCEEDED = "succeeded"  #: its target is there
    FAILED = "failed"
    BUSY = "busy"  #: it was not begun: another process is making the same target, or the run is being drained


@dataclass(frozen=True, slots=True)
class Report:
    """What an executor tells of one job."""

    kind: ReportKind
    ref: str
    detail: str | None = None  #: of MESSAGE and PROGRESS
    seconds: float = 0.0  #: of SUCCEEDED and FAILED
    error: str | None = None  #: of FAILED: the last line of the traceback
    code: str | None = None  #: of FAILED: the error's code, where it is one of Nectar's
    hint: str | None = None  #: of FAILED: the fix, where it is known
    logs: str | None = None  #: place of the logs in the store
    reused: bool = False  #: of SUCCEEDED: the files of an earlier target were taken
    wanted: tuple[luigi.Task, ...] = ()  #: of YIELDED
    found: Found | None = None  #: of SUCCEEDED: what who requires it has to know of its files

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as the values alone: a data class asks itself for its fields, which takes longer than all else."""
        facts = (self.seconds, self.error, self.code, self.hint, self.logs, self.reused, self.wanted, self.found)
        return Report, (self.kind, self.ref, self.detail, *facts)


Tell = Callable[[Report], None]


@dataclass(frozen=True, slots=True)
class AtWork:
    """A job that an executor is at."""

    ref: str
    since: float  #: time.monotonic()


class Executor(Protocol):
    """Who carries jobs out. The engine alone decides what is ready; an executor only does it.

    A job ends by SUCCEEDED, FAILED or BUSY; YIELDED puts it aside until `resume` or `drop`. Reports of one job come in
    their order. A worker that dies is the failure of the job it was at; the others of its batch are done by another.
    """

    def room(self) -> int:
        """Return how many batches can be handed over now."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hand over a batch of jobs, none of which needs another."""

    def resume(self, ref: str) -> None:
        """Let a job that yielded go on: what it wanted is there."""

    def drop(self, ref: str) -> None:
        """End a job that yielded: what it wanted cannot be made. It is not reported any more."""

    def wait(self, timeout_s: float) -> None:
        """Tell what has happened, waiting for something at most so long."""

    def at_work(self) -> list[AtWork]:
        """Return the jobs that are being carried out right now."""

    def kill(self, ref: str, reason: str) -> None:
        """End the job at work by force; it is reported as FAILED for that reason."""

    def drain(self) -> None:
        """Begin nothing more of what was handed over; it is reported as BUSY. Safe in a signal handler."""

    def close(self, *, at_once: bool) -> None:
        """End all workers: after what they are at, or at once."""


def now() -> float:
    """Return the clock that job times are told by; equal in all processes of a host."""
    return time.monotonic()
