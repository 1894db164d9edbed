"""Carry jobs out in this process as luigi's worker does, and commit those that end together as a group."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import luigi
from luigi.event import Event as LuigiEvent
from luigi.task import DynamicRequirements

from nectar import errors
from nectar.address import Address
from nectar.execution.ahead import Ahead
from nectar.execution.jobs import AtWork, Job, Report, ReportKind, Tell, now
from nectar.recording import leases
from nectar.recording.capture import many_captures
from nectar.recording.group import Group, grouped
from nectar.redaction.known import redacted
from nectar.stores import Store
from nectar.task import Task
from nectar.task.base import own_outputs, split_outputs
from nectar.task.closure import is_wrapper
from nectar.task.running import no_stray_child

log = logging.getLogger("luigi-interface")  # the one that people who run chains look at

MOST_IN_GROUP = 128
GROUP_SECONDS = 0.1  #: how long a finished attempt waits for others at most


@dataclass(slots=True)
class _Started:
    """A job that was begun."""

    job: Job
    since: float
    leased: bool = False
    took: float = 0.0  #: seconds, without the group's commit
    steps: Generator[Any, Any, Any] | None = None
    wanted: DynamicRequirements | None = None  #: what it yielded last


@dataclass(slots=True)
class Hands:
    """Jobs at work in this process, one at a time; those that yielded are kept alive."""

    tell: Tell
    current: Callable[[AtWork | None], None] = lambda at_work: None  #: hears which job is at work
    stopping: Callable[[], bool] = lambda: False  #: says whether jobs that are not begun are to be left
    _parked: dict[str, _Started] = field(default_factory=dict)
    _ended: list[_Started] = field(default_factory=list)  #: ran well, and wait for the group's commit
    _group: Group = field(default_factory=Group)
    _oldest: float = 0.0
    _ahead: Ahead = field(default_factory=Ahead)

    def carry_out(self, jobs: Sequence[Job]) -> None:
        """Do jobs one after the other; all is told when this returns."""
        try:
            if not self.stopping():
                self._ahead.take(jobs)
            with many_captures():
                self._do_all(jobs)
        finally:
            try:
                self._commit()
            finally:
                self._ahead.end()

    def _do_all(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if self.stopping():
                self.tell(Report(ReportKind.BUSY, job.ref))
                continue
            self._begin(job)
            if self._ended and (len(self._ended) >= MOST_IN_GROUP or now() - self._oldest > GROUP_SECONDS):
                self._commit()

    def resume(self, ref: str) -> None:
        """Go on with a job that yielded; all is told when this returns."""
        started = self._parked.pop(ref)
        started.since = now()
        try:
            self._guarded(started, lambda: self._advance(started))
        finally:
            self._commit()

    def drop(self, ref: str) -> None:
        """End a job that yielded, without a report."""
        started = self._parked.pop(ref)
        try:
            if started.steps is not None:
                started.steps.close()
        except Exception:  # a task's own `finally`: it is ended all the same, and the others go on
            log.exception("%r raised while it was ended", started.job.task)
        finally:
            _release(started)

    def drop_all(self) -> None:
        """End all jobs that yielded."""
        for ref in list(self._parked):
            self.drop(ref)

    def _begin(self, job: Job) -> None:
        started = _Started(job, now())
        task = job.task
        if isinstance(task, Task) and own_outputs(task):
            try:
                if not self._take_lease(started, task):
                    return
            except errors.NectarError as error:
                self._fail(started, error)
                return
        task.trigger_event(LuigiEvent.START, task)
        self._guarded(started, lambda: self._run(started))

    def _take_lease(self, started: _Started, task: Task) -> bool:
        """Take the lease on a task's target; False where another process has it, or has made the target."""
        job = started.job
        task._nectar.forced = task._nectar.forced or job.forced
        store, address = task.target_store(), task.target_address()
        there = self._ahead.pop(job.ref)
        if there is None and not leases.take(store, address):
            self.tell(Report(ReportKind.BUSY, job.ref))
            return False
        started.leased = True
        task._nectar.retried = job.number > 1
        if there is None:
            there = not job.forced and bool(store.present([address]))
        there = there or job.forced
        task._nectar.absent = not there
        if there and not job.forced and task.complete():
            _release(started)  # made by another process since the plan was
            self.tell(Report(ReportKind.SUCCEEDED, job.ref, logs=f"{address}/log"))
            return False
        return True

    def _run(self, started: _Started) -> None:
        made = started.job.task.run()
        if isinstance(made, Generator):
            started.steps = made
            self._advance(started)
        else:
            self._end(started)

    def _guarded(self, started: _Started, go_on: Callable[[], None]) -> None:
        """Run a piece of a job; whatever it raises is the job's failure."""
        ref, task = started.job.ref, started.job.task
        self.current(AtWork(ref, started.since))
        try:
            with grouped(self._group), _reporting(task, ref, self.tell), no_stray_child(os.getpid()):
                go_on()
        except KeyboardInterrupt:
            self._fail(started, KeyboardInterrupt("stopped"))
            raise
        except BaseException as error:  # a task's own code: whatever it raises, the task failed
            self._fail(started, error)
        finally:
            self.current(None)

    def _advance(self, started: _Started) -> None:
        """Let a generator run until it ends or wants what is not there yet."""
        assert started.steps is not None
        answer = started.wanted.paths if started.wanted is not None else None
        while True:
            try:
                wanted = started.steps.send(answer)
            except StopIteration:
                self._end(started)
                return
            started.wanted = wanted if isinstance(wanted, DynamicRequirements) else DynamicRequirements(wanted)
            if not started.wanted.complete():
                self._parked[started.job.ref] = started
                needs = tuple(started.wanted.flat_requirements)
                self.tell(Report(ReportKind.YIELDED, started.job.ref, wanted=needs))
                return
            answer = started.wanted.paths

    def _end(self, started: _Started) -> None:
        _check_foreign(started.job.task)
        started.took = now() - started.since
        if not self._ended:
            self._oldest = now()
        self._ended.append(started)

    def _commit(self) -> None:
        """Publish what has ended well, and tell of it."""
        ended, self._ended = self._ended, []
        failed = self._group.commit() if len(self._group) else {}
        good = [started for started in ended if self._is_published(started, failed)]
        _release_all(good)
        for started in good:
            task = started.job.task
            outcome = task._nectar.outcome if isinstance(task, Task) else None
            logs = outcome.logs if outcome is not None else None
            reused = outcome is not None and outcome.reused_from is not None
            found = task._nectar.found if isinstance(task, Task) else None
            done = Report(
                ReportKind.SUCCEEDED, started.job.ref, seconds=started.took, logs=logs, reused=reused, found=found
            )
            self.tell(done)
            if isinstance(task, Task):
                task._nectar.outcome = None  # nobody asks for it any more, and there may be 100,000 of them

    def _is_published(self, started: _Started, failed: Mapping[str, errors.StoreError]) -> bool:
        """Let a task hear what came of its commit; False where it has failed."""
        task = started.job.task
        outcome = task._nectar.outcome if isinstance(task, Task) else None
        if outcome is not None and outcome.attempt in failed:
            self._fail(started, failed[outcome.attempt])
            return False
        task.trigger_event(LuigiEvent.PROCESSING_TIME, task, started.took)
        try:
            task.on_success()
        except Exception as error:  # a task's own code; luigi counts it as a failure of the task, too
            self._fail(started, error)
            return False
        task.trigger_event(LuigiEvent.SUCCESS, task)
        return True

    def _fail(self, started: _Started, error: BaseException) -> None:
        task = started.job.task
        _release(started)
        task.trigger_event(LuigiEvent.FAILURE, task, error)
        with contextlib.suppress(Exception):  # a broken on_failure must not hide why the task failed
            task.on_failure(error)
        outcome = task._nectar.outcome if isinstance(task, Task) else None
        self.tell(
            Report(
                ReportKind.FAILED,
                started.job.ref,
                seconds=now() - started.since,
                error=last_line(error),
                code=getattr(error, "code", None) if isinstance(error, errors.NectarError) else None,
                hint=getattr(error, "hint", None) if isinstance(error, errors.NectarError) else None,
                logs=outcome.logs if outcome is not None else None,
            )
        )


def _check_foreign(task: luigi.Task) -> None:
    """Make sure that what lies outside of our stores was made, too; our own outputs are sealed already.

    Raises:
        MissingOutput: when luigi would not call the task complete.
    """
    if is_wrapper(task):
        return
    if isinstance(task, Task):
        foreign = split_outputs(task)[1] if type(task).output is not Task.output else []
        missing = [str(one) for one in foreign if not one.exists()]
    else:
        outputs = luigi.task.flatten(task.output())
        has_word = bool(outputs) or type(task).complete is not luigi.Task.complete
        missing = [repr(one) for one in outputs] or ["what `complete()` looks for"]
        missing = missing if has_word and not task.complete() else []
    if missing:
        raise errors.MissingOutput(
            f"`{task!r}` returned without making {', '.join(f'`{one}`' for one in missing)}",
            hint="write every output that `output()` names",
        )


def _release(started: _Started) -> None:
    task = started.job.task
    if started.leased and isinstance(task, Task):
        leases.release(task.target_store(), task.target_address())
        started.leased = False


def _release_all(ended: Sequence[_Started]) -> None:
    """Give the leases of jobs back, those of one store at the same time."""
    by_store: dict[str, tuple[Store, list[Address]]] = {}
    for started in ended:
        task = started.job.task
        if started.leased and isinstance(task, Task):
            started.leased = False
            store = task.target_store()
            by_store.setdefault(store.url, (store, []))[1].append(task.target_address())
    for store, addresses in by_store.values():
        leases.release_all(store, addresses)


class _Teller:
    """What a task calls to tell of its progress. A copy in another process tells nobody."""

    def __init__(self, tell: Tell, kind: ReportKind, ref: str) -> None:
        self._tell, self._kind, self._ref = tell, kind, ref

    def __call__(self, value: object) -> None:
        self._tell(Report(self._kind, self._ref, detail=str(value)))

    def __reduce__(self) -> tuple[object, ...]:
        return (_deaf, ())


def _deaf() -> Callable[[object], None]:
    return _nobody_asks


def _nobody_asks(value: object) -> None:
    """Take a word to which nobody listens."""


@contextlib.contextmanager
def _reporting(task: luigi.Task, ref: str, tell: Tell) -> Iterator[None]:
    """Give the task the functions by which it tells of its progress, as luigi's worker does."""

    functions = {
        "set_tracking_url": _Teller(tell, ReportKind.MESSAGE, ref),
        "set_status_message": _Teller(tell, ReportKind.MESSAGE, ref),
        "set_progress_percentage": _Teller(tell, ReportKind.PROGRESS, ref),
        "decrease_running_resources": _nobody_asks,
    }
    task.__dict__.update(functions)
    try:
        yield
    finally:
        for name in functions:
            task.__dict__.pop(name, None)


def last_line(error: BaseException) -> str:
    """Return an error as the last line of its traceback says it."""
    text = redacted(str(getattr(error, "message", None) or error)).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
