"""Carry jobs out in threads of this process: for tasks whose results are in its memory.

Not for tasks that write files: what they print is taken from the process's descriptors, of which there is one set.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from nectar.execution.hands import Hands
from nectar.execution.jobs import AtWork, Job, Report, ReportKind, Tell


class ThreadExecutor:
    """See `nectar.execution.jobs.Executor` for the promises. A job cannot be killed, and may not yield."""

    def __init__(self, tell: Tell, workers: int) -> None:
        self._tell, self._workers = tell, workers
        self._pool = ThreadPoolExecutor(workers, "nectar-step")
        self._reports: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
        self._at_work: dict[str, AtWork] = {}
        self._batches = 0
        self._draining = False

    def room(self) -> int:
        return self._workers - self._batches

    def submit(self, jobs: Sequence[Job]) -> None:
        self._batches += 1
        self._pool.submit(self._carry_out, jobs)

    def _carry_out(self, jobs: Sequence[Job]) -> None:
        seen: list[str] = []

        def note(at_work: AtWork | None) -> None:
            if at_work is not None:
                seen.append(at_work.ref)
                self._at_work[at_work.ref] = at_work
                self._reports.put(Report(ReportKind.STARTED, at_work.ref))
            elif seen:
                self._at_work.pop(seen[-1], None)

        try:
            Hands(self._reports.put, note, lambda: self._draining).carry_out(jobs)
        finally:
            self._reports.put(None)

    def resume(self, ref: str) -> None:
        raise AssertionError("a step does not yield")

    def drop(self, ref: str) -> None:
        raise AssertionError("a step does not yield")

    def wait(self, timeout_s: float) -> None:
        try:
            self._take(self._reports.get(timeout=timeout_s))
            while True:
                self._take(self._reports.get_nowait())
        except queue.Empty:
            return

    def _take(self, report: Report | None) -> None:
        if report is None:
            self._batches -= 1
        else:
            self._tell(report)

    def at_work(self) -> list[AtWork]:
        return list(self._at_work.values())

    def kill(self, ref: str, reason: str) -> None:
        raise AssertionError("a step has no time limit")

    def drain(self) -> None:
        self._draining = True

    def close(self, *, at_once: bool) -> None:
        self._draining = True
        self._pool.shutdown(wait=True)
        self.wait(0.0)
