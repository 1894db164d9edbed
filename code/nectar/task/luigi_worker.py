"""A luigi worker that tells what it does: from the process that schedules, whichever processes carry tasks out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

import luigi
import luigi.interface
from luigi.worker import Worker


class Observer(Protocol):
    """Who is told what a worker does."""

    def take_worker(self, worker: Any) -> None:
        """Learn which worker it is."""

    def task_complete(self, task: luigi.Task) -> None:
        """Learn that a task was complete before."""

    def task_started(self, task: luigi.Task) -> None:
        """Learn that the worker begins a task, or goes on with one that had yielded."""

    def task_yielded(self, task: luigi.Task, wanted: Sequence[str]) -> None:
        """Learn that a task waits for others, of these luigi ids."""

    def task_ended(self, task: luigi.Task, error: str | None) -> None:
        """Learn how a task ended: with the last line of a traceback, or well. One that is tried again ends again."""


class ObservedWorker(Worker):
    """luigi's worker, with an observer."""

    def __init__(self, observer: Observer, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]  # luigi's has no types
        self._observer = observer
        observer.take_worker(self)

    def _run_task(self, task_id: str) -> None:
        self._observer.task_started(self._scheduled_tasks[task_id])
        super()._run_task(task_id)  # type: ignore[no-untyped-call]

    def _add_task(self, *args: Any, **kwargs: Any) -> None:
        super()._add_task(*args, **kwargs)  # type: ignore[no-untyped-call]
        task = self._scheduled_tasks.get(kwargs["task_id"])
        if task is None:
            return
        status, ran = kwargs["status"], kwargs.get("runnable", False) is None
        if not ran and status == "DONE":
            self._observer.task_complete(task)
        elif ran and kwargs.get("new_deps"):
            self._observer.task_yielded(task, kwargs["new_deps"])
        elif ran and status in ("DONE", "FAILED"):
            self._observer.task_ended(task, last_line(kwargs.get("expl")) if status == "FAILED" else None)


class ObservedFactory(luigi.interface._WorkerSchedulerFactory):
    """Makes such workers for luigi."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def create_worker(self, scheduler: Any, worker_processes: int, assistant: bool = False) -> ObservedWorker:
        return ObservedWorker(
            self._observer, scheduler=scheduler, worker_processes=worker_processes, assistant=assistant
        )


def last_line(explanation: object) -> str:
    """Return the last line of the traceback that luigi passes on, as text or as JSON."""
    text = explanation if isinstance(explanation, str) else ""
    with contextlib.suppress(ValueError):  # an explanation that is no JSON is one as it is
        text = str(json.loads(text))
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it failed without a word"
