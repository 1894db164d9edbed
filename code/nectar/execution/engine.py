"""Decide what runs next: a ready queue over a plan, in time linear in its edges."""

from __future__ import annotations

import heapq
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import luigi

from nectar import errors
from nectar.execution.jobs import Executor, Job, Report, ReportKind, Tell, now
from nectar.execution.outcome import STORE_CODES, Event, EventKind, Listener, RunResult, StepResult, StepStatus
from nectar.plans import Action, PlanStep, Prepared, Why, make_plan
from nectar.recording.run import Run, running
from nectar.records import utc_now

BATCH_SECONDS = 0.1  #: how long a batch of jobs is meant to take
MOST_IN_BATCH = 128
TICK_S = 0.1  #: how often time limits are looked at
FIRST_BUSY_WAIT_S, LONGEST_BUSY_WAIT_S = 0.02, 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a run."""

    fail_fast: bool = False  #: the first failure stops what has not begun
    resources: Mapping[str, float] = field(default_factory=dict)  #: luigi's `[resources]`; 1 of each by default
    timeout_s: float = 0.0  #: for tasks without a `worker_timeout` of their own; 0: none
    retry_count: int = 1  #: attempts at tasks without a `retry_count` of their own


class Engine:
    """One run of a plan."""

    def __init__(
        self,
        prepared: Prepared,
        make_executor: Callable[[Tell], Executor],
        run: Run,
        listener: Listener,
        limits: Limits | None = None,
    ) -> None:
        self._run = run
        self._listener = listener
        self._limits = limits or Limits()
        self._prepared = prepared
        self._make_executor = make_executor
        self._steps: dict[str, PlanStep] = {}
        self._tasks: dict[str, luigi.Task] = {}
        self._missing: dict[str, int] = {}  # how many requirements a task still waits for
        self._dependents: dict[str, list[str]] = defaultdict(list)
        self._ready: list[tuple[float, int, str]] = []
        self._queued: set[str] = set()  # what is among the ready, or waits for a resource
        self._delayed: list[tuple[float, str]] = []  # retries, and targets that others are making
        self._order: dict[str, int] = {}
        self._attempts: dict[str, int] = defaultdict(int)
        self._waits: dict[str, float] = {}
        self._out: set[str] = set()  # handed over, and not ended yet
        self._parked: set[str] = set()
        self._started: set[str] = set()
        self._in_use: dict[str, float] = defaultdict(float)
        self._woken_by: dict[str, str] = {}  # by the release of which resource a task is among the ready again
        self._holding: set[str] = set()  # tasks that have their resources
        self._starved: dict[str, list[tuple[float, int, str]]] = defaultdict(list)
        self._wanted: dict[str, tuple[str, ...]] = {}  # what a task that yielded waits for
        self._seconds: dict[type, float] = {}  # how long a task of a class takes, lately
        self._inbox: list[Report] = []
        self._results: dict[str, StepResult] = {}
        self._listener_error: Exception | None = None
        self._executor: Executor | None = None
        self._stopping = False
        self._interrupted = False

    # From outside, while it runs

    def drain(self) -> None:
        """Let what has begun end, and begin nothing more; the run counts as interrupted. Safe in a signal handler."""
        self._stopping = self._interrupted = True
        if self._executor is not None:
            self._executor.drain()

    # The run

    def execute(self) -> RunResult:
        """Carry the plan out.

        Raises: what the listener raises, when all that had begun has ended.
        """
        started = now()
        planned = self._prepared.plan.counts[Action.RUN]
        self._emit(EventKind.RUN_STARTED, planned=planned)
        executor = self._executor = self._make_executor(self._hear)
        if self._stopping:
            executor.drain()
        at_once = True
        try:
            with running(self._run):
                self._take_in(self._prepared)
                self._loop(executor)
            at_once = False
        except KeyboardInterrupt:
            self._interrupted = True
        finally:
            executor.close(at_once=at_once)
        self._read_inbox(executor)
        for ref, step in self._steps.items():
            if ref not in self._results:
                self._note(step, StepStatus.NOT_RUN)
        ordered = tuple(self._results[ref] for ref in self._steps)
        self._emit(EventKind.RUN_ENDED)
        if self._listener_error is not None:
            raise self._listener_error
        return RunResult(self._run.id, ordered, now() - started, self._interrupted)

    def _loop(self, executor: Executor) -> None:
        while True:
            self._read_inbox(executor)
            if not self._stopping:
                self._wake_delayed()
                self._dispatch(executor)
            if self._inbox:
                continue
            if not self._out and (self._stopping or not (self._ready or self._delayed)):
                return
            executor.wait(self._patience())
            self._check_time_limits(executor)

    def _patience(self) -> float:
        if not self._out and self._delayed:
            pause = max(0.0, self._delayed[0][0] - now())
            time.sleep(min(pause, TICK_S))
            return 0.0
        return TICK_S

    # Taking in plans

    def _take_in(self, prepared: Prepared) -> None:
        for step in prepared.plan.steps:
            ref = step.ref
            if ref in self._steps:
                continue
            self._steps[ref] = step
            self._tasks[ref] = prepared.tasks[ref]
            self._order[ref] = len(self._order)
            if step.action is Action.SKIP:
                self._note(step, StepStatus.SKIPPED)
            elif step.action is Action.BLOCKED:
                self._note(step, StepStatus.BLOCKED, error="; ".join(map(str, step.reasons)))
            else:
                self._wait_for(ref, step.requirements)

    def _wait_for(self, ref: str, requirements: tuple[str, ...]) -> None:
        """Let a task wait for its requirements; one whose requirement failed is not run."""
        open_ones = [one for one in requirements if one not in self._results]
        if any(not _good(self._results[one]) for one in requirements if one in self._results):
            self._give_up(ref)
            return
        self._missing[ref] = len(open_ones)
        for one in open_ones:
            self._dependents[one].append(ref)
        if not open_ones:
            self._make_ready(ref)

    def _make_ready(self, ref: str) -> None:
        if ref not in self._queued and ref not in self._out and ref not in self._results:
            self._queued.add(ref)
            heapq.heappush(self._ready, (-float(self._tasks[ref].priority), self._order[ref], ref))

    # Handing over

    def _dispatch(self, executor: Executor) -> None:
        while self._ready and not self._stopping and executor.room() > 0 and not self._inbox:
            if self._ready[0][2] in self._parked:
                self._go_on(executor, heapq.heappop(self._ready))
                continue
            batch = self._next_batch(executor.room())
            if batch:
                executor.submit(batch)

    def _go_on(self, executor: Executor, item: tuple[float, int, str]) -> None:
        """Let a task that yielded go on."""
        ref = item[2]
        if self._take_resources(item):
            self._parked.discard(ref)
            self._wanted.pop(ref, None)
            self._out.add(ref)
            executor.resume(ref)

    def _next_batch(self, room: int) -> list[Job]:
        """Return the next jobs for one worker: as many as take about a batch's time, and leave some to the others."""
        batch: list[Job] = []
        seconds = 0.0
        if self._limits.fail_fast:
            room = len(self._ready)  # one at a time: what is handed over is begun
        share = math.ceil(len(self._ready) / (2 * room)) if room > 1 else len(self._ready)
        while self._ready and self._ready[0][2] not in self._parked and len(batch) < min(MOST_IN_BATCH, share):
            item = heapq.heappop(self._ready)
            ref = item[2]
            if not self._take_resources(item):
                continue
            task = self._tasks[ref]
            self._attempts[ref] += 1
            self._out.add(ref)
            forced = any(reason.why is Why.FORCED for reason in self._steps[ref].reasons)
            batch.append(Job(ref, task, self._attempts[ref], forced))
            expected = self._seconds.get(type(task))
            seconds += BATCH_SECONDS if expected is None else expected
            if seconds >= BATCH_SECONDS or _has_time_limit(task, self._limits):
                break
        return batch

    # Resources: a task that lacks one waits in that resource's queue, so that each is looked at once for each release

    def _take_resources(self, item: tuple[float, int, str]) -> bool:
        """Take what a task needs, or let it wait for the first resource that is short; one task alone may have all."""
        wanted: dict[str, float] = self._tasks[item[2]].process_resources()
        short = next((name for name, amount in wanted.items() if not self._has(name, amount)), None)
        woken_by = self._woken_by.pop(item[2], None)
        if short is not None:
            heapq.heappush(self._starved[short], item)
            if woken_by is not None and woken_by != short:
                self._wake_starved(woken_by)  # what woke it may do for the next; each is passed on only once
            return False
        self._queued.discard(item[2])
        self._holding.add(item[2])
        for name, amount in wanted.items():
            self._in_use[name] += amount
        for name in wanted:
            if self._has(name, 0.0):
                self._wake_starved(name)  # something is left over
        return True

    def _has(self, name: str, amount: float) -> bool:
        in_use = self._in_use[name]
        return in_use == 0 or in_use + amount <= self._limits.resources.get(name, 1) - (amount == 0)

    def _free_resources(self, ref: str) -> None:
        if ref not in self._holding:
            return  # it was put aside, and gave them back then
        self._holding.discard(ref)
        for name, amount in self._tasks[ref].process_resources().items():
            self._in_use[name] -= amount
            self._wake_starved(name)

    def _wake_starved(self, name: str) -> None:
        if self._starved[name]:
            item = heapq.heappop(self._starved[name])
            self._woken_by[item[2]] = name
            heapq.heappush(self._ready, item)

    def _wake_delayed(self) -> None:
        while self._delayed and self._delayed[0][0] <= now():
            self._make_ready(heapq.heappop(self._delayed)[1])

    # Hearing

    def _hear(self, report: Report) -> None:
        """Take a report; words about progress are passed on at once, everything else waits for the loop."""
        if report.kind is ReportKind.STARTED:
            self._begin_event(report.ref)
        elif report.kind is ReportKind.MESSAGE:
            self._emit(EventKind.STEP_MESSAGE, task=self._steps[report.ref].task, detail=report.detail)
        elif report.kind is ReportKind.PROGRESS:
            self._emit(EventKind.STEP_PROGRESS, task=self._steps[report.ref].task, detail=report.detail)
        else:
            self._inbox.append(report)

    def _begin_event(self, ref: str) -> None:
        if ref not in self._started:
            self._started.add(ref)
            self._emit(EventKind.STEP_STARTED, task=self._steps[ref].task)

    def _read_inbox(self, executor: Executor) -> None:
        while self._inbox:
            reports, self._inbox = self._inbox, []
            for report in reports:
                self._out.discard(report.ref)
                self._free_resources(report.ref)
                if report.kind is ReportKind.YIELDED:
                    self._park(executor, report)
                    continue
                if report.kind is ReportKind.BUSY:
                    self._try_later(report.ref)
                elif report.kind is ReportKind.SUCCEEDED:
                    self._succeed(report)
                else:
                    self._fail(executor, report)

    def _succeed(self, report: Report) -> None:
        step = self._steps[report.ref]
        kind = type(self._tasks[report.ref])
        known = self._seconds.get(kind)
        self._seconds[kind] = report.seconds if known is None else 0.7 * known + 0.3 * report.seconds
        self._begin_event(report.ref)
        self._note(step, StepStatus.SUCCEEDED, seconds=report.seconds, logs=report.logs)
        for dependent in self._dependents.pop(report.ref, ()):
            if dependent not in self._results:
                self._missing[dependent] -= 1
                if not self._missing[dependent]:
                    self._make_ready(dependent)

    def _fail(self, executor: Executor, report: Report) -> None:
        ref = report.ref
        task, step = self._tasks[ref], self._steps[ref]
        self._begin_event(ref)
        if self._attempts[ref] < _attempts_at(task, self._limits) and not self._stopping:
            delay = _retry_delay(task, self._attempts[ref])
            word = f"attempt {self._attempts[ref]} failed ({report.error}); again in {delay:g} s"
            self._emit(EventKind.STEP_MESSAGE, task=step.task, detail=word)
            heapq.heappush(self._delayed, (now() + delay, ref))
            return
        facts = {"error": report.error, "code": report.code, "hint": report.hint, "logs": report.logs}
        self._note(step, StepStatus.FAILED, seconds=report.seconds, **facts)
        self._stop_dependents(executor, ref)
        if self._limits.fail_fast or report.code in STORE_CODES:  # the next task would meet the same store
            self._stopping = True

    def _stop_dependents(self, executor: Executor, ref: str) -> None:
        """Give up on everything that stands on a task that will not be made."""
        stack = self._dependents.pop(ref, [])
        while stack:
            one = stack.pop()
            if one in self._results:
                continue
            if one in self._parked:
                self._parked.discard(one)
                executor.drop(one)
            self._give_up(one)
            stack += self._dependents.pop(one, [])

    def _give_up(self, ref: str) -> None:
        self._note(self._steps[ref], StepStatus.NOT_RUN)

    def _try_later(self, ref: str) -> None:
        """Come back to a target that another process is making, or to a task whose worker is gone."""
        self._parked.discard(ref)
        for one in self._wanted.pop(ref, ()):  # it begins anew, and will say anew what it wants
            if ref in self._dependents.get(one, ()):
                self._dependents[one].remove(ref)
        self._attempts[ref] -= 1
        if ref in self._queued:
            return  # it was about to go on, and begins anew in its turn
        wait = self._waits.get(ref, FIRST_BUSY_WAIT_S)
        self._waits[ref] = min(wait * 2, LONGEST_BUSY_WAIT_S)
        heapq.heappush(self._delayed, (now() + wait, ref))

    def _park(self, executor: Executor, report: Report) -> None:
        """Put a task aside until what its `run()` yielded is there."""
        ref = report.ref
        try:
            prepared = make_plan(report.wanted)
        except errors.NectarError as error:
            self._refuse(executor, ref, error)
            return
        self._take_in(prepared)
        wanted = tuple(step.ref for step in prepared.plan.steps)
        if self._stands_on(wanted, ref):
            word = f"`{self._steps[ref].task}` yields what waits for it, in a circle"
            hint = "yield what does not require this task"
            self._refuse(executor, ref, errors.GraphError(word, hint=hint))
            return
        missing = [one for one in wanted if one not in self._results]
        if any(not _good(self._results[one]) for one in wanted if one in self._results):
            executor.drop(ref)
            self._give_up(ref)
            self._stop_dependents(executor, ref)
            return
        self._parked.add(ref)
        self._wanted[ref] = wanted
        self._missing[ref] = len(missing)
        for one in missing:
            self._dependents[one].append(ref)
        if not missing:
            self._make_ready(ref)

    def _refuse(self, executor: Executor, ref: str, error: errors.NectarError) -> None:
        """Let a task fail for what it yielded."""
        executor.drop(ref)
        text = f"{type(error).__name__}: {error.message.splitlines()[0]}"
        self._fail(executor, Report(ReportKind.FAILED, ref, error=text, code=type(error).code, hint=error.hint))

    def _stands_on(self, refs: tuple[str, ...], ref: str) -> bool:
        """Say whether any of some tasks waits for `ref`, directly or by others."""
        seen: set[str] = set()
        stack = list(refs)
        while stack:
            one = stack.pop()
            if one == ref:
                return True
            if one not in seen and one not in self._results and one in self._steps:
                seen.add(one)
                stack += self._steps[one].requirements
                stack += self._wanted.get(one, ())
        return False

    def _check_time_limits(self, executor: Executor) -> None:
        for at_work in executor.at_work():
            self._begin_event(at_work.ref)
            limit = _time_limit(self._tasks[at_work.ref], self._limits)
            if limit and now() - at_work.since > limit:
                executor.kill(at_work.ref, f"it ran longer than its time limit of {limit:g} s")

    # Telling

    def _note(self, step: PlanStep, status: StepStatus, **facts: Any) -> None:
        result = StepResult(step.ref, step.task, status, step.path, **facts)
        self._results[step.ref] = result
        if status is not StepStatus.SKIPPED:
            self._emit(EventKind.STEP_ENDED, task=step.task, step=result)

    def _emit(self, kind: EventKind, **facts: Any) -> None:
        if self._listener_error is not None:
            return
        try:
            self._listener(Event(kind, utc_now(), self._run.id, **facts))
        except Exception as error:  # not a task's fault, and it arises in the middle of one: the run ends with it
            self._listener_error = error
            self._stopping = True


def _good(result: StepResult) -> bool:
    return result.status in (StepStatus.SKIPPED, StepStatus.SUCCEEDED)


def _time_limit(task: luigi.Task, limits: Limits) -> float:
    own = task.worker_timeout
    return float(limits.timeout_s if own is None else own)


def _has_time_limit(task: luigi.Task, limits: Limits) -> bool:
    return _time_limit(task, limits) > 0


def _attempts_at(task: luigi.Task, limits: Limits) -> int:
    """Return how often a task is tried: luigi's `retry_count` counts failures, the first included."""
    own = task.retry_count
    return max(1, int(limits.retry_count if own is None else own))


def _retry_delay(task: luigi.Task, failed: int) -> float:
    """Return the seconds to wait after the `failed`-th attempt; `retry_delay_s` grows by `retry_backoff`."""
    delay = float(getattr(task, "retry_delay_s", 0.0))
    return delay * float(getattr(task, "retry_backoff", 1.0)) ** (failed - 1)
