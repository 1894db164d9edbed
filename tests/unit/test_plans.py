"""A plan says what would happen and asks no more than it must: held against the simplest thing that could be right."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import luigi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from luigi.mock import MockTarget

import nectar
from nectar import errors, settings
from nectar.actions.plan import listed
from nectar.address import Address
from nectar.plans import Action, Force, Prepared, Why, make_plan
from nectar.records import RECORD_NAME, FileEntry, Record, utc_now
from nectar.stores import Inspection, MemoryStore
from nectar.stores.memory import _Held
from nectar.task.closure import reference

OWN, WRAPPER, EXTERNAL, PLAIN, LEFTOVER, INVALID = "own", "wrapper", "external", "plain", "leftover", "invalid"


@dataclass
class Node:
    """One task of a case."""

    kind: str = OWN
    requires: tuple[int, ...] = ()
    there: bool = False  #: its target, its foreign output, the external data


_cases: dict[int, Sequence[Node]] = {}
_numbers = itertools.count()


@dataclass
class CountingStore(MemoryStore):
    """A store that remembers what it was asked."""

    asked: list[list[Address]] = field(default_factory=list)  #: by `present`, in each question
    inspected: Counter[Address] = field(default_factory=Counter)

    def __init__(self) -> None:
        super().__init__("memory://counting")
        self.asked, self.inspected = [], Counter()

    def present(self, addresses: Iterable[Address]) -> set[Address]:
        listed = list(addresses)
        self.asked.append(listed)
        return super().present(listed)

    def inspect(self, address: Address, outputs: Sequence[str] = (), *, leftovers: bool = True) -> Inspection:
        self.inspected[address] += 1
        return super().inspect(address, outputs)


STORE = CountingStore()


class Numbered(luigi.Task):
    case = luigi.IntParameter()
    n = luigi.IntParameter()

    @property
    def node(self) -> Node:
        return _cases[self.case][self.n]

    def requires(self):
        return [task_of(self.case, one) for one in self.node.requires]


class OwnTask(nectar.Task, Numbered):
    def run(self):
        raise AssertionError("a plan runs nothing")

    def target_store(self):
        return STORE


class ManyTask(nectar.Task, Numbered, luigi.WrapperTask):
    pass


class GivenTask(luigi.ExternalTask, Numbered):
    def requires(self):
        return []

    def output(self):
        return MockTarget(f"given-{self.case}-{self.n}")


class PlainTask(Numbered):
    def output(self):
        return MockTarget(f"plain-{self.case}-{self.n}")

    def run(self):
        raise AssertionError("a plan runs nothing")


def task_of(case: int, n: int) -> luigi.Task:
    kinds: dict[str, Any] = {WRAPPER: ManyTask, EXTERNAL: GivenTask, PLAIN: PlainTask}
    return kinds.get(_cases[case][n].kind, OwnTask)(case=case, n=n)


def plant(case: int) -> None:
    """Put into the store what the case says is there."""
    for n, node in enumerate(_cases[case]):
        task = task_of(case, n)
        if node.there and node.kind in (EXTERNAL, PLAIN):
            with task.output().open("w") as out:
                out.write("there")
        elif isinstance(task, OwnTask) and (node.there or node.kind != OWN):
            address = task.target_address()
            record = Record(
                address=address,
                output_id=task.output_id,
                identity={"task": "planted"},
                files=(FileEntry("out.txt", "out.txt", 5, "0" * 64),),
                started_at=utc_now(),
                ended_at=utc_now(),
                attempt="planted",
            )
            files = {"out.txt": b"there", RECORD_NAME: record.to_bytes()}
            if node.kind == LEFTOVER:
                del files[RECORD_NAME]
            elif node.kind == INVALID:
                files["out.txt"] = b"other size"
            STORE.folders[address.path] = _Held(files)


def planned(
    nodes: Sequence[Node],
    roots: Sequence[int],
    force: Force = Force.NOTHING,
    *,
    far: bool = False,
    select: str | None = None,
) -> tuple[int, Prepared]:
    """Plan some tasks; `far`: with a store that is asked about many targets in one question, as one in S3."""
    case = next(_numbers)
    _cases[case] = nodes
    plant(case)
    STORE.asked.clear()
    STORE.inspected.clear()
    STORE.checks_in_plans = not far
    try:
        return case, make_plan([task_of(case, n) for n in roots], force, select)
    finally:
        STORE.checks_in_plans = True


def naive(nodes: Sequence[Node], roots: Sequence[int], forced: frozenset[int] = frozenset()) -> dict[int, Action]:
    """Return what must come out, by recursion and without a thought for cost."""
    found: dict[int, Action] = {}

    def look(n: int) -> Action:
        if n not in found:
            found[n] = judge(n)
        return found[n]

    def judge(n: int) -> Action:
        node = nodes[n]
        if node.kind == EXTERNAL:
            return Action.SKIP if node.there else Action.BLOCKED
        if node.kind in (OWN, PLAIN) and node.there and n not in forced:
            return Action.SKIP
        below = [look(one) for one in node.requires]
        if Action.BLOCKED in below:
            return Action.BLOCKED
        if node.kind == WRAPPER and Action.RUN not in below:
            return Action.SKIP
        return Action.RUN

    for root in roots:
        look(root)
    return found


@st.composite
def cases(draw: st.DrawFn, most: int = 15) -> list[Node]:
    """Draw a graph without circles: a task requires tasks of smaller numbers."""
    nodes = []
    kinds = st.sampled_from([OWN, OWN, OWN, OWN, WRAPPER, EXTERNAL, PLAIN, LEFTOVER, INVALID])
    for n in range(draw(st.integers(1, most))):
        kind = draw(kinds)
        lower = st.frozensets(st.integers(0, n - 1), max_size=4).map(tuple) if n and kind != EXTERNAL else st.just(())
        nodes.append(Node(kind, draw(lower), draw(st.booleans())))
    return nodes


@pytest.fixture(autouse=True, scope="module")
def in_memory() -> Iterator[None]:
    with settings.overridden(store_url="memory://plans-unit", drift=settings.Drift.IGNORE):
        yield


@given(nodes=cases(), data=st.data())
def test_a_plan_is_what_the_rules_say_and_asks_the_store_about_nothing_else(nodes, data):
    roots = data.draw(st.lists(st.integers(0, len(nodes) - 1), min_size=1, max_size=3))
    case, prepared = planned(nodes, roots)
    want = naive(nodes, roots)
    steps = {prepared.tasks[step.ref].n: step for step in prepared.plan.steps}
    assert len(steps) == len(prepared.plan.steps), "each task has one step"
    assert {n: step.action for n, step in steps.items()} == want

    mine = {task_of(case, n).target_address() for n in want if isinstance(task_of(case, n), OwnTask)}
    assert set(STORE.inspected) == mine, "no other target is looked at"
    assert set(STORE.inspected.values()) <= {1}, "each is looked at once"
    assert not STORE.asked


@given(nodes=cases())
def test_requirements_come_before_those_who_require_them_and_every_reason_is_given(nodes):
    roots = range(len(nodes))
    _, prepared = planned(nodes, roots)
    seen: set[str] = set()
    for step in prepared.plan.steps:
        assert seen.issuperset(step.requirements)
        seen.add(step.ref)
        n = prepared.tasks[step.ref].n
        assert (step.action is Action.SKIP) == (not step.reasons)
        whys = {reason.why for reason in step.reasons}
        if step.action is not Action.SKIP:
            kind = {LEFTOVER: Why.LEFTOVER, INVALID: Why.INVALID, OWN: Why.NO_TARGET, PLAIN: Why.FOREIGN_MISSING}
            assert kind.get(nodes[n].kind, next(iter(whys))) in whys
        if step.action is Action.BLOCKED and nodes[n].kind != EXTERNAL:
            assert Why.BLOCKED_BY in whys
        if step.action is not Action.SKIP:
            assert {prepared.tasks[ref].n for ref in step.requirements} == set(nodes[n].requires)


@given(nodes=cases(), data=st.data())
def test_a_store_far_away_is_asked_few_questions_and_once_for_each_target(nodes, data):
    roots = data.draw(st.lists(st.integers(0, len(nodes) - 1), min_size=1, max_size=3))
    _, near = planned(nodes, roots)
    case, far = planned(nodes, roots, far=True)
    assert {far.tasks[step.ref].n for step in far.plan.steps} <= set(range(len(nodes)))
    if not any(node.kind == INVALID for node in nodes):  # what lies behind a record is not looked into from afar
        assert [step.action for step in far.plan.steps] == [step.action for step in near.plan.steps]
    asked = list(itertools.chain(*STORE.asked))
    assert len(asked) == len(set(asked))
    assert {step.path for step in far.plan.steps if step.path} <= {address.path for address in asked}
    depth: dict[str, int] = {}
    for step in far.plan.steps:
        depth[step.ref] = 1 + max((depth[one] for one in step.requirements), default=0)
    assert len(STORE.asked) <= max(depth.values())
    assert case


@given(nodes=cases(), data=st.data())
def test_force_makes_the_roots_or_all_again(nodes, data):
    roots = data.draw(st.lists(st.integers(0, len(nodes) - 1), min_size=1, max_size=2, unique=True))
    own = frozenset(n for n, node in enumerate(nodes) if node.kind == OWN)
    for force, forced in ((Force.ROOTS, own.intersection(roots)), (Force.ALL, own)):
        _, prepared = planned(nodes, roots, force)
        found = {prepared.tasks[step.ref].n: step for step in prepared.plan.steps}
        want = naive(nodes, roots, forced)
        assert {n: step.action for n, step in found.items()} == want
        for n, step in found.items():
            if n in forced:
                assert step.reasons[0].why is Why.FORCED
    _, prepared = planned(nodes, roots)
    assert Why.FORCED not in {reason.why for step in prepared.plan.steps for reason in step.reasons}


def test_a_force_does_not_outlive_its_plan():
    nodes = [Node(there=True)]
    case, forced = planned(nodes, [0], Force.ROOTS)
    assert forced.plan.counts[Action.RUN] == 1
    assert make_plan([task_of(case, 0)]).plan.counts[Action.SKIP] == 1


def naive_selected(
    nodes: Sequence[Node], selected: frozenset[int], forced: frozenset[int] = frozenset()
) -> dict[int, Action] | set[int]:
    """Return what must come out for a selection; where it is refused, the tasks that are missing, wrappers apart."""

    def there(n: int) -> bool:
        if nodes[n].kind == WRAPPER:
            return all(map(there, nodes[n].requires))
        return n not in forced and naive(nodes, [n])[n] is Action.SKIP

    looked_behind = {n for n in selected if nodes[n].kind == WRAPPER or (nodes[n].kind != EXTERNAL and not there(n))}
    while True:
        given = {one for n in looked_behind for one in nodes[n].requires} - selected
        if (more := {n for n in given if nodes[n].kind == WRAPPER}) <= looked_behind:
            break
        looked_behind |= more
    plain = {n for n in given if nodes[n].kind != WRAPPER}
    lacking = {n for n in given if not there(n)}
    missing = {n for n in lacking if n in plain or lacking.isdisjoint(nodes[n].requires)}
    if missing:
        return missing
    cut = [Node(one.kind, () if n in plain else one.requires, one.there) for n, one in enumerate(nodes)]
    return naive(cut, sorted(selected), forced)


@given(nodes=cases(), data=st.data())
def test_a_plan_of_a_selection_makes_only_that_or_is_refused_by_the_name_of_what_is_missing(nodes, data):
    chosen = data.draw(st.frozensets(st.integers(0, len(nodes) - 1), min_size=1))
    force = data.draw(st.sampled_from(Force))
    forced = frozenset(n for n in chosen if nodes[n].kind == OWN) if force is not Force.NOTHING else frozenset()
    names = {WRAPPER: "ManyTask", EXTERNAL: "GivenTask", PLAIN: "PlainTask"}
    text = ",".join(f"{names.get(nodes[n].kind, 'OwnTask')}(n={n})" for n in chosen)
    want = naive_selected(nodes, chosen, forced)
    try:
        _, prepared = planned(nodes, range(len(nodes)), force, select=text)
    except errors.UpstreamMissing as error:
        named = {n for n in range(len(nodes)) if f"n={n})`, which" in error.message}
        assert named == want or (isinstance(want, set) and named < want and len(named) == 5)
        return
    assert isinstance(want, dict), want
    found = {prepared.tasks[step.ref].n: step.action for step in prepared.plan.steps}
    assert found == want
    assert chosen <= found.keys(), "all that is selected is looked at, also above a complete target"
    assert {n for n, action in found.items() if action is not Action.SKIP} <= chosen
    assert prepared.plan.selected == len(chosen)
    seen: set[str] = set()
    for step in prepared.plan.steps:
        assert seen.issuperset(step.requirements)
        seen.add(step.ref)


def test_a_selected_task_is_made_though_nothing_that_is_missing_needs_it():
    nodes = [Node(), Node(requires=(0,)), Node(requires=(1,), there=True)]
    _, prepared = planned(nodes, [2], select="OwnTask(n=0)")
    assert [(prepared.tasks[step.ref].n, step.action) for step in prepared.plan.steps] == [(0, Action.RUN)]
    assert [prepared.tasks[ref].n for ref in prepared.ends] == [0]


def test_what_is_missing_and_not_selected_is_named_with_who_needs_it_and_a_way_on():
    nodes = [Node(), Node(), Node(requires=(0, 1)), Node(requires=(2,))]
    with pytest.raises(errors.UpstreamMissing) as caught:
        planned(nodes, [3], select="+OwnTask(n=3)")
    for n in (0, 1):
        assert f"n={n})`, which `" in caught.value.message
    assert "n=2)` needs (no target)" in caught.value.message
    assert "n=2)`, which" not in caught.value.message
    assert "`+`" in str(caught.value.hint)


def test_a_complete_selected_task_needs_nothing():
    _, prepared = planned([Node(), Node(requires=(0,), there=True)], [1], select="OwnTask(n=1)")
    assert [step.action for step in prepared.plan.steps] == [Action.SKIP]


def test_a_wrapper_that_is_not_selected_is_there_when_what_it_requires_is():
    nodes = [Node(there=True), Node(WRAPPER, (0,)), Node(requires=(1,))]
    _, prepared = planned(nodes, [2], select="OwnTask(n=2)")
    assert [step.action for step in prepared.plan.steps] == [Action.SKIP, Action.SKIP, Action.RUN]
    nodes[0] = Node()
    with pytest.raises(errors.UpstreamMissing, match=r"ManyTask\(case=\d+, n=1\)`, which"):
        planned(nodes, [2], select="OwnTask(n=0), OwnTask(n=2)")
    _, prepared = planned(nodes, [2], select="*OwnTask(n=2)")
    assert [step.action for step in prepared.plan.steps] == [Action.RUN, Action.RUN, Action.RUN]


def test_from_afar_a_selection_of_many_is_one_question_and_another_about_what_they_need():
    nodes = [Node(there=n == 0, requires=(n - 1,) if n else ()) for n in range(1000)]
    _, prepared = planned(nodes, [999], far=True, select="OwnTask(n=0)*")
    assert prepared.plan.counts[Action.RUN] == 999
    assert len(STORE.asked) == 1
    with pytest.raises(errors.UpstreamMissing):
        planned(nodes, [999], far=True, select="OwnTask(n=???)")
    assert len(STORE.asked) == 2


def test_a_plan_may_begin_with_some_of_the_selected_tasks():
    nodes = [Node(), Node(requires=(0,)), Node()]
    case, _ = planned(nodes, [1, 2])
    only = {reference(task_of(case, 1))}
    prepared = make_plan([task_of(case, 1), task_of(case, 2)], select="*", only=only)
    assert [prepared.tasks[step.ref].n for step in prepared.plan.steps] == [0, 1]


def test_nothing_above_a_complete_target_is_looked_at():
    nodes = [Node(), Node(requires=(0,)), Node(requires=(1,), there=True), Node(requires=(2,))]
    case, prepared = planned(nodes, [3])
    assert [prepared.tasks[step.ref].n for step in prepared.plan.steps] == [2, 3]
    assert set(STORE.inspected) == {task_of(case, n).target_address() for n in (2, 3)}


def test_from_afar_a_complete_root_is_one_question_about_one_target():
    nodes = [Node(), Node(requires=(0,)), Node(requires=(1,), there=True)]
    case, _ = planned(nodes, [2], far=True)
    assert STORE.asked == [[task_of(case, 2).target_address()]]
    assert not STORE.inspected


def test_from_afar_a_deep_chain_needs_as_many_questions_as_its_depth_has_digits():
    nodes = [Node(requires=(n - 1,) if n else ()) for n in range(1000)]
    _, prepared = planned(nodes, [999], far=True)
    assert prepared.plan.counts[Action.RUN] == 1000
    assert len(STORE.asked) <= 11


def test_a_task_that_many_require_is_planned_once():
    nodes = [Node(), *(Node(requires=(0,)) for _ in range(50)), Node(requires=tuple(range(1, 51)))]
    _, prepared = planned(nodes, [51, 51, 3])
    assert len(prepared.plan.steps) == 52
    assert len(STORE.inspected) == 52 and set(STORE.inspected.values()) == {1}


def test_a_thousand_tasks_of_one_level_are_one_question():
    nodes = [*(Node() for _ in range(1000)), Node(WRAPPER, tuple(range(1000)))]
    planned(nodes, [1000], far=True)
    assert [len(question) for question in STORE.asked] == [1000]


def test_ten_thousand_deep_is_planned():
    depth = 10_000
    nodes = [Node(requires=(n - 1,) if n else ()) for n in range(depth)]
    _, prepared = planned(nodes, [depth - 1])
    assert [prepared.tasks[step.ref].n for step in prepared.plan.steps] == list(range(depth))
    assert prepared.plan.counts[Action.RUN] == depth
    assert prepared.plan.identified == depth


class RoundTask(nectar.Task):
    n = luigi.IntParameter()
    counts_inputs = False

    def requires(self):
        return RoundTask(n=(self.n + 1) % 3)


class CircleTask(nectar.Task):
    n = luigi.IntParameter()

    def requires(self):
        return CircleTask(n=(self.n + 1) % 3)


class PlainRound(luigi.Task):
    n = luigi.IntParameter()

    def requires(self):
        return PlainRound(n=(self.n + 1) % 3)

    def output(self):
        return MockTarget(f"round-{self.n}")

    def run(self):
        raise AssertionError("a plan runs nothing")


@pytest.mark.parametrize("kind", [RoundTask, CircleTask, PlainRound])
def test_a_circle_is_drawn(kind):
    with pytest.raises(errors.CycleFound) as caught:
        make_plan([kind(n=1)])
    first, *lines = caught.value.message.splitlines()
    assert first == "tasks require each other in a circle:"
    assert [line.split("n=")[1][0] for line in lines] == ["1", "2", "0", "1"]
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 3, 6, 9]


class SelfTask(nectar.Task):
    def requires(self):
        return SelfTask()


def test_a_task_that_requires_itself_is_a_circle():
    with pytest.raises(errors.CycleFound) as caught:
        make_plan([SelfTask()])
    assert caught.value.message.count("SelfTask()") == 2


class SameTask(nectar.Task):
    word = luigi.Parameter(significant=False, default="a")
    n = luigi.IntParameter()


class SharesTask(nectar.Task):
    family = "tests.one.SameTask"


class SharesTooTask(nectar.Task):
    family = "tests.one.SameTask"


class FileOfTask(luigi.Task):
    n = luigi.IntParameter()

    def output(self):
        return luigi.LocalTarget("one-place-for-both.txt")

    def run(self):
        raise AssertionError("a plan runs nothing")


@pytest.mark.parametrize(
    "pair", [(SharesTask(), SharesTooTask()), (FileOfTask(n=1), FileOfTask(n=2))], ids=["own", "foreign"]
)
def test_two_tasks_with_one_target_are_refused_by_name(pair):
    with pytest.raises(errors.SharedTarget) as caught:
        make_plan(pair)
    for one in pair:
        assert repr(one) in caught.value.message
    assert caught.value.hint is not None


def test_variants_that_differ_in_what_does_not_count_are_one_task():
    prepared = make_plan([SameTask(n=1, word="a"), SameTask(n=1, word="b")])
    assert len(prepared.plan.steps) == 1


class UnreachableStore(MemoryStore):
    def present(self, addresses: Iterable[Address]) -> set[Address]:
        raise errors.StoreUnreachable("the store is away", hint="bring it back")

    def inspect(self, address: Address, outputs: Sequence[str] = (), *, leftovers: bool = True) -> Inspection:
        raise errors.StoreUnreachable("the store is away", hint="bring it back")


AWAY = UnreachableStore("memory://away")


class AwayTask(nectar.Task):
    def target_store(self):
        return AWAY


@pytest.mark.parametrize("checks_in_plans", [True, False])
def test_a_store_that_cannot_answer_is_an_error_and_not_a_missing_target(checks_in_plans, monkeypatch):
    monkeypatch.setattr(AWAY, "checks_in_plans", checks_in_plans, raising=False)
    with pytest.raises(errors.StoreUnreachable):
        make_plan([AwayTask()])


@given(nodes=cases(most=6))
def test_a_plan_is_plain_data(nodes):
    _, prepared = planned(nodes, range(len(nodes)))
    document = prepared.plan.to_json()
    assert sum(document["counts"].values()) == len(document["steps"]) == len(prepared.plan.steps)
    assert all(isinstance(value, (str, int, list, dict, type(None))) for value in document["steps"][0].values())


def test_a_plan_can_be_listed_as_steps_are_the_head_last(tmp_path):
    class WaterTask(nectar.Task):
        def run(self):
            self.dump("water")

    class SaltTask(nectar.Task):
        grams = luigi.IntParameter(default=5)

        def requires(self):
            return WaterTask()

        def run(self):
            self.dump("salt")

    class DinnerTask(luigi.WrapperTask):
        def requires(self):
            return [SaltTask(), WaterTask()]

    with settings.overridden(root=tmp_path, store_url=(tmp_path / "store").as_uri()):
        before = listed([DinnerTask()]).splitlines()[2:]
        nectar.run(WaterTask(), echo=False)
        between = listed([DinnerTask()]).splitlines()[2:]
    assert before == ["[ ] (>) WaterTask", "[ ] (>) SaltTask(grams=5)", "[x] (H) DinnerTask"]
    assert between == ["[*] ( ) WaterTask", "[ ] (>) SaltTask(grams=5)", "[x] (H) DinnerTask"]
