"""The engine alone decides what runs and when: held against a model of what must come out, with chance as the guide."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

import luigi
import pytest
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import nectar
from nectar import errors, settings
from nectar.execution import engine as engine_module
from nectar.execution.engine import Engine, Limits
from nectar.execution.jobs import AtWork, Job, Report, ReportKind, Tell
from nectar.execution.outcome import EventKind, RunResult, StepStatus
from nectar.plans import make_plan
from nectar.recording.run import new_run

OK, FAIL, BUSY = "ok", "fail", "busy"
ENDLESS_S = 5.0  #: of real time: a case takes some milliseconds
LOST_S = 1000.0  #: of the clock in these tests: a run that lasts longer hangs


@dataclass(frozen=True)
class Play:
    """One start of a task: the nodes that it yields, one group after the other, and how it ends."""

    yields: tuple[tuple[int, ...], ...] = ()
    end: str = OK


@dataclass
class Node:
    """One task of a case."""

    requires: tuple[int, ...] = ()
    plays: tuple[Play, ...] = (Play(),)  #: of its attempts; the last one counts for all that follow
    busy: int = 0  #: how often somebody else has its target before
    retries: int = 1
    priority: int = 0
    resources: dict[str, int] = field(default_factory=dict)
    delay_s: float = 0.0
    backoff: float = 1.0
    seconds: float = 1.0
    time_limit: float | None = None


_cases: dict[int, Sequence[Node]] = {}
_numbers = itertools.count()


class NodeTask(nectar.Task):
    case = luigi.IntParameter()
    n = luigi.IntParameter()

    @property
    def node(self) -> Node:
        return _cases[self.case][self.n]

    def requires(self):
        return [NodeTask(self.case, one) for one in self.node.requires]

    def run(self):
        raise AssertionError("only the executor of these tests carries anything out")

    @property
    def priority(self):
        return self.node.priority

    @property
    def resources(self):
        return self.node.resources

    @property
    def retry_count(self):
        return self.node.retries

    @property
    def retry_delay_s(self):
        return self.node.delay_s

    @property
    def retry_backoff(self):
        return self.node.backoff

    @property
    def worker_timeout(self):
        return self.node.time_limit


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += max(seconds, 0.001)
        assert self.now_s < LOST_S, "the engine waits for what never comes"


@dataclass
class Worker:
    """A worker that does its jobs one after the other."""

    jobs: list[tuple[int, int]] = field(default_factory=list)  #: node, and the next piece of its play
    done_at: float = 0.0


class Stage:
    """A scripted executor that knows the rules, and objects when the engine breaks one."""

    def __init__(
        self, case: int, clock: Clock, workers: int, chance: Random, limits: Limits, *, lost: bool, roomy: bool
    ) -> None:
        self.nodes = _cases[case]
        self.case, self.clock, self.chance, self.limits = case, clock, chance, limits
        self.loses = lost  # workers die while a task waits in them for what it yielded
        self.roomy = roomy  # what goes on does so in a worker of its own
        self.extra: list[Worker] = []
        self.tell: Tell = lambda report: None
        self.workers = [Worker() for _ in range(workers)]
        self.refs: dict[int, str] = {}
        self.attempts: Counter[int] = Counter()  #: that came to an end, or to a wait
        self.submits: list[list[int]] = []
        self.numbers: dict[int, list[int]] = defaultdict(list)
        self.starts: dict[int, list[float]] = defaultdict(list)
        self.ended: dict[int, str] = {}
        self.failed_once: set[int] = set()
        self.parked: dict[int, tuple[Worker, int]] = {}
        self.waiting_for: dict[int, tuple[int, ...]] = {}
        self.dropped: set[int] = set()
        self.at: dict[int, str] = {}  #: what has been handed over and is not reported yet
        self.holding: set[int] = set()  #: those that have their resources
        self.busy_left = {n: node.busy for n, node in enumerate(self.nodes)}
        self.killed: list[tuple[int, float]] = []
        self.closed: list[bool] = []
        self.after_report: Any = lambda: None
        self.known: set[int] = set()  #: that the engine was told of

    def play(self, n: int) -> Play:
        plays = self.nodes[n].plays
        return plays[min(self.attempts[n], len(plays) - 1)]

    # What the engine calls

    def room(self) -> int:
        return sum(not worker.jobs for worker in self.workers)

    def submit(self, jobs: Sequence[Job]) -> None:
        assert jobs and self.room() > 0, "handed over where there is no room"
        worker = next(one for one in self.workers if not one.jobs)
        self.submits.append([])
        for job in jobs:
            n = job.task.n
            self.submits[-1].append(n)
            self.numbers[n].append(job.number)
            self.starts[n].append(self.clock.now())
            self.check_submit(n)
            self.at[n] = "submitted"
            self.holding.add(n)
            worker.jobs.append((n, 0))
        worker.done_at = self.clock.now() + self.nodes[worker.jobs[0][0]].seconds

    def check_submit(self, n: int) -> None:
        node = self.nodes[n]
        assert n not in self.at and n not in self.parked, f"{n} is at work already"
        assert self.ended.get(n) is None, f"{n} has ended already"
        assert all(self.ended.get(one) == OK for one in node.requires), f"{n} runs before its requirements"
        assert self.fits(n), f"{n} runs without its resources"
        for other in self.ready():
            if other != n and self.nodes[other].priority > node.priority:
                assert not self.fits(other), f"{n} goes before {other}, which has a higher priority"

    def fits(self, n: int) -> bool:
        in_use = self.in_use()
        return all(
            in_use[name] == 0 or in_use[name] + amount <= self.limits.resources.get(name, 1)
            for name, amount in self.nodes[n].resources.items()
        )

    def in_use(self) -> Counter[str]:
        in_use: Counter[str] = Counter()
        for one in self.holding:
            in_use.update(self.nodes[one].resources)
        return in_use

    def ready(self) -> Iterator[int]:
        for n in self.known:
            fresh = n not in self.at and n not in self.parked and n not in self.ended and not self.starts[n]
            if fresh and all(self.ended.get(one) == OK for one in self.nodes[n].requires):
                yield n

    def resume(self, ref: str) -> None:
        n = self.number_of(ref)
        if self.loses and n not in self.parked:  # its worker has died meanwhile
            self.tell(Report(ReportKind.BUSY, ref))
            return
        assert all(self.ended.get(one) == OK for one in self.waiting_for[n]), f"{n} goes on before what it waits for"
        assert self.fits(n), f"{n} goes on without its resources"
        self.holding.add(n)
        worker, piece = self.parked.pop(n)
        self.at[n] = "resumed"
        if self.roomy:
            worker = Worker()
            self.extra.append(worker)
        if not worker.jobs:
            worker.done_at = self.clock.now() + self.nodes[n].seconds
        worker.jobs.append((n, piece))

    def drain(self) -> None:
        """Go on: what was handed over in this play is begun."""

    def drop(self, ref: str) -> None:
        n = self.number_of(ref)
        if not self.loses:
            assert n in self.parked
        self.parked.pop(n, None)
        self.holding.discard(n)
        self.dropped.add(n)

    def wait(self, timeout_s: float) -> None:
        if self.loses and self.parked and self.chance.random() < 0.3:
            self.lose(self.chance.choice(sorted(self.parked)))
            return
        busy = [one for one in (*self.workers, *self.extra) if one.jobs]
        if not busy:
            self.clock.sleep(timeout_s)
            return
        worker = self.chance.choice(busy)
        if worker.done_at > self.clock.now() + timeout_s:
            self.clock.sleep(timeout_s)
            return
        self.clock.sleep(max(0.0, worker.done_at - self.clock.now()))
        n, piece = worker.jobs.pop(0)
        if worker.jobs:
            worker.done_at = self.clock.now() + self.nodes[worker.jobs[0][0]].seconds
        self.go_on(n, piece, worker)
        self.after_report()

    def lose(self, n: int) -> None:
        """Let the worker that keeps a task die."""
        del self.parked[n]
        self.holding.discard(n)
        self.tell(Report(ReportKind.BUSY, self.refs[n]))

    def go_on(self, n: int, piece: int, worker: Worker) -> None:
        del self.at[n]
        play, ref = self.play(n), self.refs[n]
        if piece == 0 and self.busy_left[n]:
            self.busy_left[n] -= 1
            self.holding.discard(n)
            self.tell(Report(ReportKind.BUSY, ref))
            return
        if piece < len(play.yields):
            wanted = play.yields[piece]
            self.parked[n] = (worker, piece + 1)
            self.waiting_for[n] = wanted
            self.holding.discard(n)
            self.learn(wanted)
            self.tell(Report(ReportKind.YIELDED, ref, wanted=tuple(NodeTask(self.case, one) for one in wanted)))
            return
        self.holding.discard(n)
        self.attempts[n] += 1
        if play.end == OK:
            self.ended[n] = OK
            self.tell(Report(ReportKind.SUCCEEDED, ref, seconds=self.nodes[n].seconds))
        else:
            if self.attempts[n] >= self.nodes[n].retries:
                self.ended[n] = FAIL
            self.tell(Report(ReportKind.FAILED, ref, error="as the script says"))

    def learn(self, wanted: Sequence[int]) -> None:
        stack = list(wanted)
        while stack:
            n = stack.pop()
            if n not in self.known:
                self.known.add(n)
                task = NodeTask(self.case, n)
                self.refs[n] = task._nectar.ref
                stack += self.nodes[n].requires

    def at_work(self) -> list[AtWork]:
        return [
            AtWork(self.refs[one.jobs[0][0]], one.done_at - self.nodes[one.jobs[0][0]].seconds)
            for one in (*self.workers, *self.extra)
            if one.jobs
        ]

    def kill(self, ref: str, reason: str) -> None:
        n = self.number_of(ref)
        self.killed.append((n, self.clock.now()))
        worker = next(one for one in self.workers if one.jobs and one.jobs[0][0] == n)
        worker.jobs.pop(0)
        del self.at[n]
        self.holding.discard(n)
        self.attempts[n] += 1
        if self.attempts[n] >= self.nodes[n].retries:
            self.ended[n] = FAIL
        self.tell(Report(ReportKind.FAILED, ref, error=reason))

    def close(self, *, at_once: bool) -> None:
        self.closed.append(at_once)

    def number_of(self, ref: str) -> int:
        return next(n for n, known in self.refs.items() if known == ref)


@dataclass
class Seen:
    """What came of one case."""

    result: RunResult
    events: list[Any]
    stage: Stage
    engine: Engine

    @property
    def statuses(self) -> dict[int, StepStatus]:
        numbers = {ref: n for n, ref in self.stage.refs.items()}
        assert len({step.ref for step in self.result.steps}) == len(self.result.steps)
        return {numbers[step.ref]: step.status for step in self.result.steps}


@pytest.fixture(autouse=True, scope="module")
def in_memory() -> Iterator[None]:
    with settings.overridden(store_url="memory://engine-unit", drift=settings.Drift.IGNORE):
        yield


def play_case(
    nodes: Sequence[Node],
    roots: Sequence[int] | None = None,
    *,
    workers: int = 2,
    seed: int = 0,
    limits: Limits | None = None,
    lost: bool = False,
    roomy: bool = True,
    after_report: Any = None,
) -> Seen:
    """Let the engine carry a case out on a stage."""
    case = next(_numbers)
    _cases[case] = nodes
    clock, limits = Clock(), limits or Limits()
    stage = Stage(case, clock, workers, Random(seed), limits, lost=lost, roomy=roomy)
    chosen = range(len(nodes)) if roots is None else roots
    stage.learn(chosen)
    events: list[Any] = []

    def make(tell: Tell) -> Stage:
        stage.tell = tell
        return stage

    prepared = make_plan([NodeTask(case, n) for n in chosen])
    engine = Engine(prepared, make, new_run(), events.append, limits)
    if after_report is not None:
        stage.after_report = lambda: after_report(engine, stage)
    with pytest.MonkeyPatch.context() as patch, at_most(ENDLESS_S):
        patch.setattr(engine_module, "now", clock.now)
        patch.setattr(engine_module, "time", SimpleNamespace(sleep=clock.sleep))
        result = engine.execute()
    return Seen(result, events, stage, engine)


class Endless(BaseException):
    """The engine did not come to an end, and did not even wait; no `except Exception` may take it for its own."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """End what neither ends nor waits."""

    def end(number: int, frame: Any) -> None:
        raise Endless

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def expected(nodes: Sequence[Node], roots: Sequence[int]) -> dict[int, StepStatus]:
    """Return how each task must end, by the rules alone, and the tasks that come in by yields."""
    found: dict[int, StepStatus] = {}

    def judge(n: int) -> StepStatus:
        if n not in found:
            found[n] = settle(n)
        return found[n]

    def bad(below: Sequence[int]) -> set[int]:
        return {one for one in below if judge(one) is not StepStatus.SUCCEEDED}

    def settle(n: int) -> StepStatus:
        node = nodes[n]
        if bad(node.requires):
            return StepStatus.NOT_RUN
        for number in range(node.retries):
            play = node.plays[min(number, len(node.plays) - 1)]
            for wanted in play.yields:
                if bad(wanted):
                    return StepStatus.NOT_RUN
            if play.end == OK:
                return StepStatus.SUCCEEDED
        return StepStatus.FAILED

    for root in roots:
        judge(root)
    return found


@st.composite
def cases(draw: st.DrawFn, most: int = 12) -> list[Node]:
    """Draw a graph without circles: whatever a task requires or yields has a smaller number."""
    nodes: list[Node] = []
    for n in range(draw(st.integers(1, most))):
        lower = st.frozensets(st.integers(0, n - 1), max_size=3).map(tuple) if n else st.just(())
        group = st.frozensets(st.integers(0, n - 1), min_size=1, max_size=min(n, 3)).map(tuple) if n else st.nothing()
        yields = st.lists(group, max_size=2).map(tuple) if n else st.just(())
        plays = st.lists(st.builds(Play, yields, st.sampled_from([OK, OK, OK, FAIL])), min_size=1, max_size=3)
        nodes.append(
            Node(
                requires=draw(lower),
                plays=tuple(draw(plays)),
                busy=draw(st.sampled_from([0, 0, 0, 1, 3])),
                retries=draw(st.integers(1, 3)),
                priority=draw(st.integers(-2, 2)),
                seconds=draw(st.sampled_from([0.001, 0.03, 1.0])),
                delay_s=draw(st.sampled_from([0.0, 0.5])),
            )
        )
    return nodes


def with_resources(nodes: list[Node], data: st.DataObject) -> list[Node]:
    """Give tasks resources, to some more than there is."""
    for node in nodes:
        node.resources = data.draw(st.dictionaries(st.sampled_from("ab"), st.integers(1, 4), max_size=2))
    return nodes


def check_events(seen: Seen) -> None:
    kinds = [event.kind for event in seen.events]
    assert kinds[0] is EventKind.RUN_STARTED and kinds[-1] is EventKind.RUN_ENDED
    started = [event.task for event in seen.events if event.kind is EventKind.STEP_STARTED]
    ended = [event.task for event in seen.events if event.kind is EventKind.STEP_ENDED]
    assert len(set(started)) == len(started) and len(set(ended)) == len(ended), "each begins and ends once"
    assert sorted(ended) == sorted(step.task for step in seen.result.steps)
    order = {event.task: place for place, event in enumerate(seen.events) if event.kind is EventKind.STEP_ENDED}
    for place, event in enumerate(seen.events):
        if event.kind is EventKind.STEP_STARTED:
            assert place < order[event.task]


@given(nodes=cases(), workers=st.integers(1, 4), seed=st.integers(0, 1000), data=st.data())
def test_every_task_ends_once_as_the_rules_say(nodes, workers, seed, data):
    limits = Limits(resources={"a": 2, "b": 3})
    seen = play_case(with_resources(nodes, data), workers=workers, seed=seed, limits=limits)
    assert seen.statuses == expected(nodes, range(len(nodes)))
    assert seen.result.success is all(one is StepStatus.SUCCEEDED for one in seen.statuses.values())
    check_events(seen)
    assert seen.stage.closed == [False]
    assert not seen.stage.parked
    assert not seen.engine._resources.in_use, "everything was given back"


@given(nodes=cases(), workers=st.integers(1, 3), seed=st.integers(0, 1000), data=st.data())
def test_a_task_is_tried_as_often_as_its_policy_says_and_waiting_is_no_attempt(nodes, workers, seed, data):
    seen = play_case(with_resources(nodes, data), workers=workers, seed=seed, limits=Limits(resources={"a": 4, "b": 4}))
    for n, node in enumerate(nodes):
        numbers = seen.stage.numbers[n]
        ended = seen.stage.attempts[n]
        assert ended <= node.retries
        if seen.statuses[n] is StepStatus.FAILED:
            assert ended == node.retries
        if numbers:
            assert numbers[: node.busy + 1] == [1] * min(node.busy + 1, len(numbers))
            assert numbers == sorted(numbers) and set(numbers) == set(range(1, numbers[-1] + 1))


@hypothesis_settings(phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
@given(nodes=cases(), workers=st.integers(1, 4), seed=st.integers(0, 1000), data=st.data())
def test_a_task_whose_worker_dies_while_it_waits_begins_anew_and_ends_once(nodes, workers, seed, data):
    seen = play_case(with_resources(nodes, data), workers=workers, seed=seed, lost=True)
    assert seen.statuses == expected(nodes, range(len(nodes)))
    check_events(seen)
    assert not seen.engine._resources.in_use
    assert all(min(numbers) == 1 for numbers in seen.stage.numbers.values() if numbers)


@given(nodes=cases(), workers=st.integers(1, 3), seed=st.integers(0, 1000), after=st.integers(0, 12))
def test_a_drained_run_begins_nothing_more_and_accounts_for_every_task(nodes, workers, seed, after):
    begun: list[int] = []

    def drain(engine: Engine, stage: Stage) -> None:
        if sum(stage.attempts.values()) >= after and not begun:
            engine.drain()
            begun.append(len(stage.submits))

    seen = play_case(nodes, workers=workers, seed=seed, after_report=drain)
    if begun:
        assert len(seen.stage.submits) == begun[0]
        assert seen.result.interrupted and not seen.result.success
    assert not seen.stage.at
    for n, status in seen.statuses.items():
        assert (status is StepStatus.SUCCEEDED) == (seen.stage.ended.get(n) == OK)
    check_events(seen)


def test_a_yield_frees_the_resources_that_its_requirement_needs():
    """As under luigi, where a task that yields goes back to the queue."""
    needs = {"database": 1}
    nodes = [Node(resources=needs), Node(resources=needs, plays=(Play(((0,),)),))]
    seen = play_case(nodes, roots=[1])
    assert seen.statuses == {0: StepStatus.SUCCEEDED, 1: StepStatus.SUCCEEDED}


def test_two_tasks_short_of_two_resources_wait_in_peace():
    holds = Node(resources={"a": 1, "b": 1}, seconds=1.0)
    nodes = [holds, Node(resources={"a": 2, "b": 1}), Node(resources={"a": 1, "b": 3})]
    seen = play_case(nodes, workers=2, limits=Limits(resources={"a": 2, "b": 3}))
    assert set(seen.statuses.values()) == {StepStatus.SUCCEEDED}


def test_a_task_that_goes_on_takes_the_room_that_another_would_have_had():
    nodes = [Node(seconds=0.01), Node(plays=(Play(((0,),)),)), Node(requires=(0,))]
    for seed in range(20):
        for workers in (1, 2):
            seen = play_case(nodes, roots=[1, 2], workers=workers, seed=seed, roomy=False)
            assert set(seen.statuses.values()) == {StepStatus.SUCCEEDED}


def test_a_retry_waits_its_delay_which_grows():
    nodes = [Node(plays=(Play(end=FAIL),), retries=4, delay_s=2.0, backoff=3.0, seconds=0.5)]
    seen = play_case(nodes)
    starts = seen.stage.starts[0]
    waits = [after - before - 0.5 for before, after in itertools.pairwise(starts)]
    assert [round(wait) for wait in waits] == [2, 6, 18]
    assert all(wait >= due for wait, due in zip(waits, (2, 6, 18), strict=True))


def test_others_go_on_while_a_retry_waits():
    nodes = [Node(plays=(Play(end=FAIL), Play()), retries=2, delay_s=50.0), *(Node() for _ in range(10))]
    seen = play_case(nodes, workers=1)
    assert max(seen.stage.starts[n][0] for n in range(1, 11)) < 15
    assert seen.statuses[0] is StepStatus.SUCCEEDED


def test_fail_fast_begins_nothing_after_the_first_failure():
    nodes = [Node(), Node(), Node(requires=(0,), plays=(Play(end=FAIL),)), *(Node(requires=(1,)) for _ in range(20))]
    seen = play_case(nodes, workers=2, limits=Limits(fail_fast=True))
    counts = Counter(seen.statuses.values())
    assert counts[StepStatus.FAILED] == 1 and counts[StepStatus.SUCCEEDED] <= 4
    assert not seen.result.interrupted and not seen.result.success


def test_fail_fast_tries_a_task_again_before_it_has_failed():
    nodes = [Node(plays=(Play(end=FAIL), Play()), retries=2, delay_s=1.0), Node(requires=(0,))]
    assert play_case(nodes, limits=Limits(fail_fast=True)).result.success


def test_a_task_over_its_time_limit_is_killed_and_others_are_not():
    nodes = [Node(seconds=30.0, time_limit=5.0), Node(seconds=30.0), Node(seconds=30.0, time_limit=0)]
    seen = play_case(nodes, workers=3, limits=Limits(timeout_s=100.0))
    assert [n for n, _ in seen.stage.killed] == [0]
    assert 5.0 < seen.stage.killed[0][1] < 6.0
    assert [seen.statuses[n].value for n in range(3)] == ["failed", "succeeded", "succeeded"]


@pytest.mark.parametrize("circle", [((1,),), ((2,),)], ids=["itself", "what stands on it"])
def test_a_task_that_yields_what_waits_for_it_fails_and_says_why(circle):
    nodes = [Node(), Node(plays=(Play(circle),)), Node(requires=(1,)), Node(requires=(0,))]
    seen = play_case(nodes, roots=[1, 2, 3])
    assert seen.statuses[3] is StepStatus.SUCCEEDED
    assert seen.statuses[1] is StepStatus.FAILED
    [step] = [one for one in seen.result.steps if one.status is StepStatus.FAILED]
    assert step.error is not None and "waits for" in step.error
    assert step.hint is not None


class BrokenTask(nectar.Task):
    def requires(self):
        raise ZeroDivisionError("in requires")


def test_a_yield_of_what_cannot_be_planned_is_the_failure_of_who_yielded():
    nodes = [Node(), Node(), Node(requires=(1,))]
    case = next(_numbers)
    _cases[case] = nodes
    told: list[str] = []

    class Yielding(Stage):
        def go_on(self, n: int, piece: int, worker: Worker) -> None:
            if n == 0 and not told:
                told.append("yielded")
                del self.at[n]
                self.parked[n] = (worker, 1)
                self.tell(Report(ReportKind.YIELDED, self.refs[n], wanted=(BrokenTask(),)))
            else:
                super().go_on(n, piece, worker)

    stage = Yielding(case, Clock(), 1, Random(0), Limits(), lost=False, roomy=True)
    stage.learn(range(3))

    def make(tell: Tell) -> Stage:
        stage.tell = tell
        return stage

    prepared = make_plan([NodeTask(case, n) for n in range(3)])
    result = Engine(prepared, make, new_run(), lambda event: None).execute()
    seen = Seen(result, [], stage, None)  # type: ignore[arg-type]
    assert seen.statuses == {0: StepStatus.FAILED, 1: StepStatus.SUCCEEDED, 2: StepStatus.SUCCEEDED}


def test_a_store_that_cannot_be_reached_stops_the_run():
    nodes = [Node(plays=(Play(end=FAIL),)), *(Node(requires=(0,)) for _ in range(3)), *(Node() for _ in range(8))]

    case = next(_numbers)
    _cases[case] = nodes
    stage = Stage(case, Clock(), 1, Random(0), Limits(), lost=False, roomy=True)
    stage.learn(range(len(nodes)))

    def make(tell: Tell) -> Stage:
        def with_code(report: Report) -> None:
            if report.kind is ReportKind.FAILED:
                report = Report(report.kind, report.ref, error="no disk", code=errors.StoreUnreachable.code)
            tell(report)

        stage.tell = with_code
        return stage

    prepared = make_plan([NodeTask(case, n) for n in range(len(nodes))])
    result = Engine(prepared, make, new_run(), lambda event: None).execute()
    counts = Counter(step.status for step in result.steps)
    assert result.exit_code == errors.ExitCode.STORE_UNREACHABLE
    assert counts == {StepStatus.FAILED: 1, StepStatus.NOT_RUN: 11}


# Linear


class Straight(Stage):
    """A stage that does everything well at once, so that nothing but the engine takes time."""

    def submit(self, jobs: Sequence[Job]) -> None:
        self.submits.append([job.task.n for job in jobs])
        self.pending = [*getattr(self, "pending", []), *jobs]

    def room(self) -> int:
        return 4 if len(getattr(self, "pending", [])) < 4 else 0

    def wait(self, timeout_s: float) -> None:
        pending, self.pending = self.pending, []
        for job in pending:
            seconds, self.first_s = getattr(self, "first_s", self.nodes[0].seconds / 1e4), 0.0001
            self.tell(Report(ReportKind.SUCCEEDED, job.ref, seconds=seconds))

    def at_work(self) -> list[AtWork]:
        return []


def chain_of(count: int) -> list[Node]:
    return [Node(requires=(n - 1,) if n else ()) for n in range(count)]


def fan_of(count: int) -> list[Node]:
    return [*(Node() for _ in range(count - 1)), Node(requires=tuple(range(count - 1)))]


def layers_of(count: int) -> list[Node]:
    return [Node(requires=tuple(range(n - n % 20 - 20, n - n % 20)) if n >= 20 else ()) for n in range(count)]


def exclusive_of(count: int) -> list[Node]:
    return [Node(resources={"database": 1}) for _ in range(count)]


def effort(nodes: Sequence[Node]) -> tuple[int, list[list[int]]]:
    """Return how many calls the engine makes for a case, and what it handed over."""
    case = next(_numbers)
    _cases[case] = nodes
    stage = Straight(case, Clock(), 4, Random(0), Limits(), lost=False, roomy=True)
    prepared = make_plan([NodeTask(case, n) for n in range(len(nodes))])

    def make(tell: Tell) -> Stage:
        stage.tell = tell
        return stage

    engine = Engine(prepared, make, new_run(), lambda event: None, Limits(resources={"database": 1}))
    calls = 0

    def count(frame: Any, what: str, argument: Any) -> None:
        nonlocal calls
        calls += what in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        result = engine.execute()
    finally:
        sys.setprofile(before)
    assert result.success
    return calls, stage.submits


@pytest.mark.parametrize("shape", [chain_of, fan_of, layers_of, exclusive_of])
def test_the_effort_grows_no_faster_than_the_graph(shape):
    small, _ = effort(shape(400))
    large, _ = effort(shape(1600))
    assert large / small < 4 * 1.25


@pytest.mark.parametrize("shape", [chain_of, fan_of, layers_of])
def test_every_task_is_handed_over_once_and_quick_ones_in_batches(shape):
    _, submits = effort(shape(1600))
    assert sorted(itertools.chain(*submits)) == list(range(1600))
    if shape is fan_of:
        assert len(submits) < 160


def test_a_first_task_that_takes_long_does_not_keep_the_batches_small():
    _, usual = effort(fan_of(1600))
    _, slow = effort([Node(seconds=20_000.0), *fan_of(1600)[1:]])  # two seconds, and then a tenth of a millisecond each
    assert len(slow) <= len(usual) + 20
