"""Decide what runs next: a ready queue over a plan, in time linear in its edges."""

from __future__ import annotations

import contextlib
import gc
import heapq
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import luigi

from nectar import errors
from nectar.execution.awaiting import Awaited, Look
from nectar.execution.dependency_events import fire_dependency_events
from nectar.execution.hands import last_line
from nectar.execution.jobs import Executor, Job, Report, ReportKind, Tell, now
from nectar.execution.outcome import GOOD, STORE_CODES, Event, EventKind, Listener, RunResult, StepResult, StepStatus
from nectar.execution.resources import Resources
from nectar.plans import Action, PlanStep, Prepared, Why, make_plan
from nectar.plans.collection import without_collection
from nectar.recording.run import Run, running
from nectar.records import utc_now
from nectar.task.closure import reference, state_of

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
    external_interval_s: float = 0.0  #: how often missing external data is looked for again; 0: never
    external_patience_s: float = math.inf  #: how long it is waited for when there is nothing else to do


@dataclass(slots=True, eq=False)
class _Entry:
    """What the engine knows of one task of the run."""

    step: PlanStep
    task: luigi.Task
    order: int  #: in the plan
    missing: int = 0  #: how many requirements it still waits for
    dependents: list[_Entry] = field(default_factory=list)  #: those that wait for it
    attempts: int = 0
    wait_s: float = FIRST_BUSY_WAIT_S  #: before it is looked at again, while another makes its target
    queued: bool = False  #: it is among the ready, or waits for a resource
    out: bool = False  #: handed over, and not ended yet
    parked: bool = False  #: it yielded, and waits for that
    started: bool = False
    holding: bool = False  #: it has its resources
    woken_by: str | None = None  #: by the release of which resource it is among the ready again
    wanted: tuple[_Entry, ...] = ()  #: what it yielded, and waits for
    yielded: tuple[str, ...] = ()  #: refs of all that it yielded
    result: StepResult | None = None

    @property
    def rank(self) -> tuple[float, int]:
        """What goes first among the ready."""
        return (-float(self.task.priority), self.order)


_Ranked = tuple[tuple[float, int], _Entry]  #: no two ranks are equal: entries are never compared


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
        self._entries: dict[str, _Entry] = {}  # by ref
        self._ready: list[_Ranked] = []
        self._delayed: list[tuple[float, int, _Entry]] = []  # retries, and targets that others are making
        self._resources: Resources[_Entry] = Resources(self._limits.resources, self._push_ready)
        self._out = 0  # how many are handed over
        self._awaited: Awaited[_Entry] = Awaited(  # external data that is missing, and may still come
            self._limits.external_interval_s, self._limits.external_patience_s, lambda entry: entry.task.complete()
        )
        self._seconds: dict[type, float] = {}  # how long a task of a class takes, lately
        self._inbox: list[Report] = []
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
        planned = self._prepared.plan.to_make
        self._emit(EventKind.RUN_STARTED, planned=planned)
        at_once = True
        try:
            with running(self._run), _frozen():
                with without_collection(keep=True):
                    self._take_in(self._prepared)  # before workers are started: what they come from is still loading
                executor = self._executor = self._make_executor(self._hear)
                if self._stopping:
                    executor.drain()
                self._loop(executor)
            at_once = False
        except KeyboardInterrupt:
            self._interrupted = True
        finally:
            if self._executor is not None:
                self._executor.close(at_once=at_once)
        if self._executor is not None:
            self._read_inbox(self._executor)
        for entry in self._entries.values():
            entry.result = entry.result or self._give_up(entry)
        handled = self._handled()
        ordered = tuple(
            replace(result, handled=True) if result.ref in handled else result
            for result in (entry.result for entry in self._entries.values())
            if result is not None
        )
        self._emit(EventKind.RUN_ENDED)
        if self._listener_error is not None:
            raise self._listener_error
        tasks = {ref: entry.task for ref, entry in self._entries.items()}
        return RunResult(self._run.id, ordered, now() - started, self._interrupted, tasks, self._prepared.ends)

    def _handled(self) -> set[str]:
        """Return what did not end well, and matters to nobody: only what catches failures stands on it."""
        bad = {ref for ref, entry in self._entries.items() if entry.result is None or not _good(entry.result)}
        if not bad or not any(_catches(entry) for entry in self._entries.values()):
            return set()
        needed = {ref for entry in self._entries.values() for ref in entry.step.requirements}
        needed.update(ref for entry in self._entries.values() for ref in entry.yielded)
        stack = [ref for ref in bad if ref not in needed]
        matters: set[str] = set()
        while stack:
            ref = stack.pop()
            if ref in bad and ref not in matters:
                matters.add(ref)
                stack += (*self._entries[ref].step.requirements, *self._entries[ref].yielded)
        return bad - matters

    def _loop(self, executor: Executor) -> None:
        while True:
            self._read_inbox(executor)
            if not self._stopping:
                self._wake_delayed()
                self._look_for_external(executor)
                self._dispatch(executor)
            if self._inbox:
                continue
            if not self._out and (self._stopping or not (self._ready or self._delayed or self._awaited)):
                return
            executor.wait(self._patience())
            self._check_time_limits(executor)

    def _patience(self) -> float:
        if not self._out and (self._delayed or self._awaited):
            pause = max(0.0, self._delayed[0][0] - now()) if self._delayed else TICK_S
            time.sleep(min(pause, TICK_S))
            return 0.0
        return TICK_S

    # Taking in plans

    def _take_in(self, prepared: Prepared) -> None:
        fire_dependency_events(prepared)
        for step in prepared.plan.steps:
            if step.ref in self._entries:
                continue
            entry = self._entries[step.ref] = _Entry(step, prepared.tasks[step.ref], len(self._entries))
            if step.action is Action.SKIP:
                self._note(entry, StepStatus.SKIPPED)
            elif step.action is Action.BLOCKED and not self._may_come(step):
                self._give_up(entry)
            elif step.action is Action.BLOCKED and not step.requirements:
                self._awaited.add(entry)
            else:
                self._wait_for(entry, [self._entries[ref] for ref in step.requirements])

    def _wait_for(self, entry: _Entry, required: Sequence[_Entry]) -> bool:
        """Let a task wait for others; False where one of these has failed: it is not run."""
        entry.missing = 0
        if not _catches(entry) and any(one.result is not None and not _good(one.result) for one in required):
            self._give_up(entry)
            return False
        for one in required:
            if one.result is None:
                one.dependents.append(entry)
                entry.missing += 1
        if not entry.missing:
            self._make_ready(entry)
        return True

    def _make_ready(self, entry: _Entry) -> None:
        if not entry.queued and not entry.out and entry.result is None:
            entry.queued = True
            self._push_ready(entry)

    # External data: where the run is told to stay for it, what needs it waits as for any other requirement

    def _may_come(self, step: PlanStep) -> bool:
        waits = self._limits.external_interval_s > 0
        return waits and any(reason.why in (Why.EXTERNAL_MISSING, Why.BLOCKED_BY) for reason in step.reasons)

    def _look_for_external(self, executor: Executor) -> None:
        """Let go on what waits for data that has come; give up when there has been nothing else to do for too long."""
        for found in self._awaited.look(idle=not (self._out or self._ready or self._delayed)):
            if found.look is Look.CAME:
                self._note(found.one, StepStatus.SKIPPED)
                self._let_dependents_go_on(found.one)
                continue
            if found.error is not None:
                self._note(found.one, StepStatus.FAILED, error=last_line(found.error))
            else:
                self._give_up(found.one)
            self._stop_dependents(executor, found.one)

    # Handing over

    def _dispatch(self, executor: Executor) -> None:
        while self._ready and not self._stopping and executor.room() > 0 and not self._inbox:
            if self._ready[0][1].parked:
                self._go_on(executor, heapq.heappop(self._ready)[1])
                continue
            batch = self._next_batch(executor.room())
            if batch:
                executor.submit(batch)

    def _go_on(self, executor: Executor, entry: _Entry) -> None:
        """Let a task that yielded go on."""
        if self._resources.take(entry):
            entry.parked, entry.wanted = False, ()
            self._hand_over(entry)
            executor.resume(entry.step.ref)

    def _hand_over(self, entry: _Entry) -> None:
        entry.queued, entry.out = False, True
        self._out += 1

    def _next_batch(self, room: int) -> list[Job]:
        """Return the next jobs for one worker: as many as take about a batch's time, and leave some to the others."""
        batch: list[Job] = []
        seconds = 0.0
        if self._limits.fail_fast:
            room = len(self._ready)  # one at a time: what is handed over is begun
        share = math.ceil(len(self._ready) / (2 * room)) if room > 1 else len(self._ready)
        while self._ready and not self._ready[0][1].parked and len(batch) < min(MOST_IN_BATCH, share):
            entry = heapq.heappop(self._ready)[1]
            if not self._resources.take(entry):
                continue
            task, step = entry.task, entry.step
            entry.attempts += 1
            self._hand_over(entry)
            forced = any(reason.why is Why.FORCED for reason in step.reasons)
            batch.append(Job(step.ref, task, entry.attempts, forced))
            expected = self._seconds.get(type(task))
            seconds += BATCH_SECONDS if expected is None else expected
            if seconds >= BATCH_SECONDS or _has_time_limit(task, self._limits):
                break
        return batch

    def _push_ready(self, entry: _Entry) -> None:
        heapq.heappush(self._ready, (entry.rank, entry))

    def _wake_delayed(self) -> None:
        while self._delayed and self._delayed[0][0] <= now():
            self._make_ready(heapq.heappop(self._delayed)[2])

    def _delay(self, entry: _Entry, seconds: float) -> None:
        heapq.heappush(self._delayed, (now() + seconds, entry.order, entry))

    # Hearing

    def _hear(self, report: Report) -> None:
        """Take a report; words about progress are passed on at once, everything else waits for the loop."""
        if report.kind is ReportKind.STARTED:
            self._begin_event(self._entries[report.ref])
        elif report.kind is ReportKind.MESSAGE:
            self._emit_of(self._entries[report.ref], EventKind.STEP_MESSAGE, detail=report.detail)
        elif report.kind is ReportKind.PROGRESS:
            self._emit_of(self._entries[report.ref], EventKind.STEP_PROGRESS, detail=report.detail)
        else:
            self._inbox.append(report)

    def _begin_event(self, entry: _Entry) -> None:
        if not entry.started:
            entry.started = True
            self._emit_of(entry, EventKind.STEP_STARTED, path=entry.step.path)

    def _read_inbox(self, executor: Executor) -> None:
        while self._inbox:
            reports, self._inbox = self._inbox, []
            for report in reports:
                entry = self._entries[report.ref]
                if entry.out:
                    entry.out = False
                    self._out -= 1
                self._resources.free(entry)
                if report.kind is ReportKind.YIELDED:
                    self._park(executor, entry, report.wanted)
                elif report.kind is ReportKind.BUSY:
                    self._try_later(entry)
                elif report.kind is ReportKind.SUCCEEDED:
                    self._succeed(entry, report)
                else:
                    self._fail(executor, entry, report)

    def _succeed(self, entry: _Entry, report: Report) -> None:
        kind = type(entry.task)
        known = self._seconds.get(kind, report.seconds)
        # The first of a class pays for what is found out once: what is shorter counts for more than what is longer.
        weight = 0.6 if report.seconds < known else 0.3
        self._seconds[kind] = (1 - weight) * known + weight * report.seconds
        state = state_of(entry.task)
        if state is not None and report.found is not None:
            state.found = report.found
        self._begin_event(entry)
        status = StepStatus.REUSED if report.reused else StepStatus.SUCCEEDED
        self._note(entry, status, seconds=report.seconds, logs=report.logs)
        self._let_dependents_go_on(entry)

    def _let_dependents_go_on(self, entry: _Entry) -> None:
        dependents, entry.dependents = entry.dependents, []
        for dependent in dependents:
            if dependent.result is None:
                self._let_go_on(dependent)

    def _let_go_on(self, entry: _Entry) -> None:
        entry.missing -= 1
        if not entry.missing:
            self._make_ready(entry)

    def _fail(self, executor: Executor, entry: _Entry, report: Report) -> None:
        self._begin_event(entry)
        facts = {"error": report.error, "code": report.code, "hint": report.hint, "logs": report.logs}
        if entry.attempts < _attempts_at(entry.task, self._limits) and not self._stopping:
            delay = _retry_delay(entry.task, entry.attempts)
            failed = _result(entry, StepStatus.FAILED, seconds=report.seconds, **facts)
            self._emit_of(entry, EventKind.ATTEMPT_FAILED, step=failed)
            word = f"attempt {entry.attempts} failed ({report.error}); again in {delay:g} s"
            self._emit_of(entry, EventKind.STEP_MESSAGE, detail=word)
            self._delay(entry, delay)
            return
        self._note(entry, StepStatus.FAILED, seconds=report.seconds, **facts)
        self._stop_dependents(executor, entry)
        if self._limits.fail_fast or report.code in STORE_CODES:  # the next task would meet the same store
            self._stopping = True

    def _stop_dependents(self, executor: Executor, entry: _Entry) -> None:
        """Give up on everything that stands on a task that will not be made."""
        stack, entry.dependents = entry.dependents, []
        while stack:
            one = stack.pop()
            if one.result is not None:
                continue
            if _catches(one):
                self._let_go_on(one)
                continue
            if one.parked:
                one.parked = False
                executor.drop(one.step.ref)
            self._give_up(one)
            stack += one.dependents
            one.dependents = []

    def _give_up(self, entry: _Entry) -> StepResult:
        if entry.step.action is Action.BLOCKED:
            return self._note(entry, StepStatus.BLOCKED, error="; ".join(map(str, entry.step.reasons)))
        return self._note(entry, StepStatus.NOT_RUN)

    def _try_later(self, entry: _Entry) -> None:
        """Come back to a target that another process is making, or to a task whose worker is gone."""
        entry.parked = False
        wanted, entry.wanted = entry.wanted, ()
        for one in wanted:  # it begins anew, and will say anew what it wants
            if entry in one.dependents:
                one.dependents.remove(entry)
        entry.attempts -= 1
        if entry.queued:
            return  # it was about to go on, and begins anew in its turn
        self._delay(entry, entry.wait_s)
        entry.wait_s = min(entry.wait_s * 2, LONGEST_BUSY_WAIT_S)

    def _park(self, executor: Executor, entry: _Entry, yielded: tuple[luigi.Task, ...]) -> None:
        """Put a task aside until what its `run()` yielded is there."""
        try:
            prepared = make_plan(yielded)
        except errors.NectarError as error:
            self._refuse(executor, entry, error)
            return
        self._take_in(prepared)
        # What these stand on is theirs to wait for: one that catches failures goes on without some of it.
        wanted = tuple(self._entries[ref] for ref in dict.fromkeys(map(reference, yielded)))
        if self._stands_on(wanted, entry):
            word = f"`{entry.step.task}` yields what waits for it, in a circle"
            hint = "yield what does not require this task"
            self._refuse(executor, entry, errors.GraphError(word, hint=hint))
            return
        entry.parked, entry.wanted = True, wanted
        entry.yielded += tuple(one.step.ref for one in wanted)
        if not self._wait_for(entry, wanted):
            entry.parked = False
            executor.drop(entry.step.ref)
            self._stop_dependents(executor, entry)

    def _refuse(self, executor: Executor, entry: _Entry, error: errors.NectarError) -> None:
        """Let a task fail for what it yielded."""
        ref = entry.step.ref
        executor.drop(ref)
        text = f"{type(error).__name__}: {error.message.splitlines()[0]}"
        self._fail(executor, entry, Report(ReportKind.FAILED, ref, error=text, code=type(error).code, hint=error.hint))

    def _stands_on(self, wanted: tuple[_Entry, ...], entry: _Entry) -> bool:
        """Say whether any of some tasks waits for `entry`, directly or by others."""
        seen: set[int] = set()
        stack = list(wanted)
        while stack:
            one = stack.pop()
            if one is entry:
                return True
            if one.order not in seen and one.result is None:
                seen.add(one.order)
                stack += (self._entries[ref] for ref in one.step.requirements)
                stack += one.wanted
        return False

    def _check_time_limits(self, executor: Executor) -> None:
        for at_work in executor.at_work():
            entry = self._entries[at_work.ref]
            self._begin_event(entry)
            limit = _time_limit(entry.task, self._limits)
            if limit and now() - at_work.since > limit:
                executor.kill(at_work.ref, f"it ran longer than its time limit of {limit:g} s")

    # Telling

    def _note(self, entry: _Entry, status: StepStatus, **facts: Any) -> StepResult:
        result = entry.result = _result(entry, status, **facts)
        if status is not StepStatus.SKIPPED:
            self._emit_of(entry, EventKind.STEP_ENDED, step=result)
        return result

    def _emit_of(self, entry: _Entry, kind: EventKind, **facts: Any) -> None:
        self._emit(kind, task=entry.step.task, ref=entry.step.ref, **facts)

    def _emit(self, kind: EventKind, **facts: Any) -> None:
        if self._listener_error is not None:
            return
        try:
            self._listener(Event(kind, utc_now(), self._run.id, **facts))
        except Exception as error:  # not a task's fault, and it arises in the middle of one: the run ends with it
            self._listener_error = error
            self._stopping = True


@contextlib.contextmanager
def _frozen() -> Iterator[None]:
    """Let Python look for cycles in the plan and its tasks again, once they are carried out."""
    try:
        yield
    finally:
        gc.unfreeze()


def _result(entry: _Entry, status: StepStatus, **facts: Any) -> StepResult:
    step = entry.step
    return StepResult(step.ref, step.task, status, step.path, attempts=entry.attempts, **facts)


def _good(result: StepResult) -> bool:
    return result.status in GOOD


def _catches(entry: _Entry) -> bool:
    """Say whether a task goes on however what it needs has ended; see `nectar.task.Task.catches_failures`."""
    return bool(getattr(entry.task, "catches_failures", False))


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
