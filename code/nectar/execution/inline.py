"""Carry jobs out in this process, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from nectar.execution.hands import Hands
from nectar.execution.jobs import AtWork, Job, Report, ReportKind, Tell


class InlineExecutor:
    """See `nectar.execution.jobs.Executor` for the promises. A job cannot be killed here: it would take the engine."""

    slots = 1

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._draining = False
        self._hands = Hands(tell, self._note, lambda: self._draining)

    def _note(self, at_work: AtWork | None) -> None:
        if at_work is not None:
            self._tell(Report(ReportKind.STARTED, at_work.ref))

    def room(self) -> int:
        return 1

    def submit(self, jobs: Sequence[Job]) -> None:
        self._hands.carry_out(jobs)

    def resume(self, ref: str) -> None:
        self._hands.resume(ref)

    def drop(self, ref: str) -> None:
        self._hands.drop(ref)

    def wait(self, timeout_s: float) -> None:
        """Do nothing: all that happened was told before `submit` returned."""

    def at_work(self) -> list[AtWork]:
        return []

    def kill(self, ref: str, reason: str) -> None:
        raise AssertionError("a job with a time limit is never given to this executor")

    def drain(self) -> None:
        self._draining = True

    def close(self, *, at_once: bool) -> None:
        self._hands.drop_all()
