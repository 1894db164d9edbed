"""A commit in S3 leaves no torn target, whatever meets there and whenever it dies: all interleavings in a model.

That a writer dies is no step of its own: every state that is looked at is also the state after the death of any of the
writers, in the middle of their requests or between them (`commit_model` says why).
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))  # the helper modules beside this file
pytest.register_assert_rewrite("commit_model", "commit_actors")

import commit_actors as actors  # noqa: E402
from commit_actors import LEFTOVER, NEWER, NOTHING, SPOILT, meet, world_with, writer  # noqa: E402
from commit_model import TARGET, Explored, Model, Server, drive, thing, what_is_torn, word_of  # noqa: E402

from nectar.stores.s3.messages import Delete  # noqa: E402

READER = ("reader", actors.reader)
VANDAL = ("vandal", actors.vandal)
AWAY = ("away", actors.taken_away)
CONFLICT = ("StoreUnreachable",)  # what a writer may end with where somebody puts invalid records


@pytest.fixture
def explored(record_property: Callable[[str, object], None]) -> Callable[[Model], Explored]:
    """Look at all states of a model, and keep the figures in the junit report."""

    def explore(model: Model) -> Explored:
        began = time.perf_counter()
        found = model.explore()
        seconds = round(time.perf_counter() - began, 2)
        figures = {"states": found.states, "steps": found.steps, "interleavings": found.ways, "seconds": seconds}
        for name, value in figures.items():
            record_property(name, value)
        return found

    return explore


def assert_safe(model: Model, found: Explored) -> None:
    """Nothing went wrong, and in whatever the writers left when they died another gets its target made."""
    for wrong, way in found.violations.items():
        pytest.fail("\n".join([wrong, *way]))
    _, fresh = writer("fresh")
    for world in model.worlds:
        after, ended = drive(Server(), world, fresh())
        assert word_of(ended) in ("won", "skipped"), (world, ended)
        assert what_is_torn(after) is None


def winners(found: Explored, *writers: int) -> set[int]:
    """Return how many of some clients can be told that they won, over all ways."""
    return {sum(outcome[n] == "won" for n in writers) for outcome in found.outcomes}


def a_and_b(**options: Any) -> list[Any]:
    return [writer("alpha", **options), writer("beta", **options)]


def three(**options: Any) -> list[Any]:
    return [*a_and_b(**options), writer("gamma", **options)]


# Promises, each over all interleavings


@pytest.mark.parametrize("world", [NOTHING, LEFTOVER, SPOILT], ids=["nothing", "leftover", "invalid-record"])
@pytest.mark.parametrize("equal", [False, True], ids=["other-bytes", "equal-bytes"])
def test_of_two_writers_exactly_one_wins_though_answers_are_lost(explored, world, equal):
    writers = a_and_b(raw=b"equal") if equal else a_and_b()
    model = meet(*writers, READER, world=world, server=Server(lost=(2, 2)))
    found = explored(model)
    assert_safe(model, found)
    assert winners(found, 0, 1) == {1}


@pytest.mark.parametrize("world", [NOTHING, LEFTOVER, SPOILT], ids=["nothing", "leftover", "invalid-record"])
def test_of_three_writers_exactly_one_wins_before_the_eyes_of_a_reader(explored, world):
    model = meet(*three(), READER, world=world)
    found = explored(model)
    assert_safe(model, found)
    assert winners(found, 0, 1, 2) == {1}


def test_of_three_writers_exactly_one_wins_though_two_of_them_lose_answers(explored):
    model = meet(*three(), server=Server(lost=(1, 1)))
    found = explored(model)
    assert_safe(model, found)
    assert winners(found, 0, 1, 2) == {1}


def test_refusals_without_a_reason_cost_requests_and_nothing_else(explored):
    model = meet(*a_and_b(log=True), server=Server(lost=(1,), busy=(1, 1)))
    found = explored(model)
    assert_safe(model, found)
    assert winners(found, 0, 1) == {1}


def test_a_forced_remake_replaces_the_record_that_it_saw_or_none(explored):
    model = meet(*a_and_b(), writer("force", forced=True), READER, server=Server(lost=(0, 1, 1)))
    found = explored(model)
    assert_safe(model, found)
    assert winners(found, 0, 1, 2) == {1, 2}
    assert winners(found, 0, 1) == {0, 1}


def test_of_two_forced_remakes_of_one_record_one_wins_or_each_saw_the_other(explored):
    both = [writer("force", forced=True), writer("vigour", forced=True)]
    model = meet(*both, READER, world=actors.made_before(), server=Server(lost=(1, 1)))
    found = explored(model)
    assert_safe(model, found)
    assert winners(found, 0, 1) == {1, 2}


def test_a_forced_remake_that_is_refused_without_a_reason_wins_all_the_same(explored):
    model = meet(writer("force", forced=True), READER, world=actors.made_before(), server=Server(busy=(2,), lost=(1,)))
    found = explored(model)
    assert_safe(model, found)
    assert winners(found, 0) == {1}


def test_a_forced_remake_whose_record_is_taken_away_meanwhile_creates_one(explored):
    model = meet(writer("force", forced=True), AWAY, world=actors.made_before(), server=Server(lost=(1,)))
    found = explored(model)
    assert_safe(model, found)
    assert winners(found, 0) == {1}


@pytest.mark.parametrize("forced", [False, True], ids=["plain", "with-a-forced-remake"])
def test_an_invalid_record_that_appears_is_neither_written_over_nor_taken_for_a_target(explored, forced):
    third = writer("force", forced=True) if forced else writer("gamma")
    model = meet(*a_and_b(), third, VANDAL, may_fail=CONFLICT)
    assert_safe(model, explored(model))


def test_a_record_of_a_newer_nectar_is_left_as_it_is(explored):
    model = meet(*a_and_b(), world=world_with({"record.json": NEWER}))
    found = explored(model)
    assert found.outcomes == {("skipped", "skipped")} and not found.violations


def test_requests_that_arrive_twice_at_any_time_do_no_harm(explored):
    model = meet(*a_and_b(), writer("force", forced=True), READER, server=Server(echoes=1))
    found = explored(model)
    assert_safe(model, found)
    assert winners(found, 0, 1) == {0, 1}


def test_a_server_that_heeds_no_condition_when_parts_are_put_together_is_safe_by_own_names(explored):
    server = Server(lost=(1, 1), echoes=1, ignores_create_only=lambda key: "/.attempts/" in key)
    model = meet(*a_and_b(), world=LEFTOVER, server=server)
    assert_safe(model, explored(model))


# How a record may be taken out of force


def test_a_record_set_aside_by_another_in_its_place_is_safe_though_requests_arrive_twice(explored):
    model = meet(*a_and_b(), READER, ("aside", actors.set_aside), server=Server(echoes=2), may_fail=CONFLICT)
    assert_safe(model, explored(model))


def test_a_record_that_is_deleted_lets_an_old_request_put_a_losers_in_force_whose_files_may_be_gone(explored):
    model = meet(*a_and_b(), AWAY)
    assert_safe(model, explored(model))
    assert explored(meet(*a_and_b(), AWAY, server=Server(echoes=1))).kinds == {"torn", "untrue"}


LATE = {"by-its-client": Server(lost=(1,)), "by-the-network": Server(echoes=1, echoed=(Delete,))}


@pytest.mark.parametrize("repeated", LATE)
def test_a_removal_that_is_carried_out_again_late_takes_nothing_of_another_attempt_with_equal_bytes(explored, repeated):
    model = meet(*three(raw=b"equal"), AWAY, server=LATE[repeated])
    assert_safe(model, explored(model))


# The model has teeth: it finds what is wrong with protocols that are


@pytest.mark.parametrize(
    ("mutant", "wrong"),
    [
        (actors.overwrites_leftovers, "torn"),
        (actors.replaces_leftovers_by_if_match, "torn"),
        (actors.deletes_plain_names, "torn"),
        (actors.replaces_whatever_record_is_there, "replaced another"),
        (actors.puts_its_record_without_a_condition, "overwritten"),
    ],
)
def test_the_model_finds_what_a_writer_breaks_that(mutant, wrong, explored):
    assert wrong in explored(meet(*a_and_b(mutant=mutant))).kinds


def test_the_model_finds_what_a_writer_breaks_that_takes_a_leftover_for_its_own(explored):
    mutant = actors.believes_that_what_lies_there_is_its_own
    assert "torn" in explored(meet(*[writer(name, mutant=mutant(name)) for name in ("alpha", "beta")])).kinds


def test_the_model_finds_what_a_writer_breaks_that_does_not_know_its_own_record(explored):
    mutant = actors.takes_its_own_record_for_another
    writers = [writer(name, mutant=mutant(name)) for name in ("alpha", "beta")]
    assert "untrue" in explored(meet(*writers, server=Server(lost=(1, 1)))).kinds


@pytest.mark.parametrize("repeated", LATE)
def test_the_model_finds_what_breaks_where_a_loser_removes_what_it_put_under_plain_names(explored, repeated):
    kinds = explored(meet(*three(raw=b"equal", tidies=True), AWAY, server=LATE[repeated])).kinds
    assert "torn" in kinds and kinds <= {"torn", "removed"}


def test_the_model_finds_what_breaks_where_leftovers_are_rolled_forward(explored):
    world = world_with({name: thing(b"dead", "dead") for name in ("out.txt", "params.txt")})
    model = meet(writer("alpha"), VANDAL, ("roll", actors.roll_forward), world=world, may_fail=CONFLICT)
    assert "torn" in explored(model).kinds


@pytest.mark.parametrize(("ignored", "wrong"), [("out.txt", "torn"), ("record.json", "overwritten")])
def test_the_model_finds_what_breaks_where_a_server_heeds_no_conditions(ignored, wrong, explored):
    server = Server(ignores_create_only=lambda key: key == f"{TARGET.path}/{ignored}")
    assert wrong in explored(meet(*a_and_b(), server=server)).kinds


# Deeper, at random


@cache
def crowd(names: tuple[str, ...], kind: str) -> Model:
    """A larger meeting, whose steps stay worked out from one example to the next."""
    clients = [
        writer(name, forced=name.startswith("f"), log=True, raw=b"equal" if kind == "equal" else None) for name in names
    ]
    world = {"leftover": LEFTOVER, "spoilt": SPOILT, "made": actors.made_before()}.get(kind, NOTHING)
    server = Server(lost=(2, 1, 2, 1, 2), busy=(1, 1, 1, 0, 1), echoes=2)
    extra = [VANDAL] if kind == "vandal" else [("aside", actors.set_aside)] if kind == "aside" else []
    return meet(*clients, READER, *extra, world=world, server=server, may_fail=CONFLICT if extra else ())


KINDS = ["nothing", "leftover", "spoilt", "made", "equal", "vandal", "aside"]
NAMES = [("alpha", "beta", "gamma", "force"), ("alpha", "beta", "force", "fury"), ("alpha", "beta", "gamma", "delta")]


def take_ways(names: tuple[str, ...], kind: str, seed: int, count: int) -> None:
    model, dice = crowd(names, kind), random.Random(seed)
    for _ in range(count):
        found = model.walk(dice)
        for wrong, way in found.violations.items():
            pytest.fail("\n".join([wrong, *way]))


@settings(derandomize=True, max_examples=40)
@given(names=st.sampled_from(NAMES), kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32))
def test_five_clients_with_many_faults_leave_nothing_torn_on_ways_taken_at_random(names, kind, seed):
    take_ways(names, kind, seed, 20)


@pytest.mark.stress
@settings(derandomize=True, max_examples=300)
@given(names=st.sampled_from(NAMES), kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32))
def test_five_clients_with_many_faults_leave_nothing_torn_on_many_ways_taken_at_random(names, kind, seed):
    take_ways(names, kind, seed, 60)


STRESS = {
    "three-writers-lose-answers": lambda: meet(*three(), server=Server(lost=(1, 1, 1))),
    "three-writers-at-a-leftover-lose-answers": lambda: meet(
        *three(), READER, world=LEFTOVER, server=Server(lost=(1, 1, 1))
    ),
    "two-writers-and-a-forced-one-lose-answers": lambda: meet(
        *a_and_b(), writer("force", forced=True), READER, server=Server(lost=(1, 1, 1))
    ),
    "three-writers-and-a-record-set-aside-with-an-echo": lambda: meet(
        *three(), ("aside", actors.set_aside), server=Server(echoes=1), may_fail=CONFLICT
    ),
    "two-writers-with-logs-lose-answers-and-are-refused": lambda: meet(
        *a_and_b(log=True), server=Server(lost=(1, 1), busy=(1, 1))
    ),
}


@pytest.mark.stress
@pytest.mark.parametrize("name", STRESS)
def test_no_interleaving_of_larger_meetings_leaves_anything_torn(name, explored):
    model = STRESS[name]()
    assert_safe(model, explored(model))
