"""A commit in S3 leaves no torn target, whatever meets there and whenever it dies: all interleavings in a model.

That a writer dies is no step of its own: every state that is looked at is also the state after the death of any of the
writers, in the middle of their requests or between them (`commit_model` says why).
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))  # the helper modules beside this file
pytest.register_assert_rewrite("commit_model", "commit_actors")

import commit_actors as actors  # noqa: E402
from commit_actors import INVALID, LEFTOVER, NEWER, NOTHING, OUTPUTS, SPOILT, meet, world_with, writer  # noqa: E402
from commit_model import (  # noqa: E402
    RECORD,
    TARGET,
    Explored,
    Failed,
    Model,
    Server,
    content,
    drive,
    thing,
    what_is_torn,
    word_of,
)

from nectar import errors, records  # noqa: E402
from nectar.stores.s3 import commit as protocol  # noqa: E402
from nectar.stores.s3.commit import Upload, commit  # noqa: E402
from nectar.stores.s3.messages import ATTEMPT, Absent, Delete, Found, Get, Head, Put, Refused, Stored  # noqa: E402

READER = ("reader", actors.reader)
VANDAL = ("vandal", actors.vandal)
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


def three() -> list[Any]:
    return [*a_and_b(), writer("gamma")]


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
    away = ("away", actors.taken_away)
    model = meet(writer("force", forced=True), away, world=actors.made_before(), server=Server(lost=(1,)))
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


def test_a_server_that_heeds_no_condition_on_a_deletion_is_safe(explored):
    server = Server(lost=(1, 1), ignores_if_match_of_delete=True)
    model = meet(*a_and_b(), writer("force", forced=True), server=server)
    assert_safe(model, explored(model))


# How a record may be taken out of force


def test_a_record_set_aside_by_another_in_its_place_is_safe_though_requests_arrive_twice(explored):
    model = meet(*a_and_b(), READER, ("aside", actors.set_aside), server=Server(echoes=2), may_fail=CONFLICT)
    assert_safe(model, explored(model))


def test_a_record_that_is_deleted_lets_an_old_request_put_a_target_in_force_whose_files_are_gone(explored):
    away = ("away", actors.taken_away)
    model = meet(*a_and_b(), away)
    assert_safe(model, explored(model))
    assert explored(meet(*a_and_b(), away, server=Server(echoes=1))).kinds == {"torn"}


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
    assert {"torn", "untrue"} <= explored(meet(*writers, server=Server(lost=(1, 1)))).kinds


def test_the_model_finds_what_breaks_where_leftovers_are_rolled_forward(explored):
    model = meet(writer("alpha"), VANDAL, ("roll", actors.roll_forward), may_fail=CONFLICT)
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


@settings(derandomize=True, max_examples=40, deadline=None)
@given(names=st.sampled_from(NAMES), kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32))
def test_five_clients_with_many_faults_leave_nothing_torn_on_ways_taken_at_random(names, kind, seed):
    take_ways(names, kind, seed, 20)


@pytest.mark.stress
@settings(derandomize=True, max_examples=300, deadline=None)
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


# What the model does not show


def requests_of(generator: Any, *answers: list[Any]) -> list[Any]:
    """Return what a commit asks for after these answers."""
    requests = next(generator)
    for one in answers:
        requests = generator.send(one)
    return list(requests)


def begin(
    *, raw: bytes = b"out", size: int | None = None, seen: str | None = None, outputs: tuple[str, ...] = OUTPUTS
) -> Any:
    record = actors.record_of("alpha", {"out.txt": raw})
    uploads = actors.uploads_of({"out.txt": raw}, {"params.txt": b"{}", "log/stdout.log": b""})
    if size is not None:
        uploads[0] = Upload("out.txt", replace(uploads[0].content, size=size))
    return commit(TARGET, "alpha", record, uploads, seen=seen, own_names=False, outputs=outputs)


def names_of(requests: list[Any]) -> list[str]:
    return [request.key.removeprefix(f"{TARGET.path}/") for request in requests]


def test_all_files_of_a_target_go_out_at_once_and_so_do_those_that_need_other_names():
    first = requests_of(begin())
    assert names_of(first) == ["out.txt", "params.txt", "log/stdout.log"]
    assert all(isinstance(put, Put) and put.if_etag is None and put.metadata == {ATTEMPT: "alpha"} for put in first)
    heads = [Absent(), Found("e", 2, {ATTEMPT: "other"})]
    second = requests_of(begin(), [Refused(), Refused(), Stored("e")], heads)
    assert names_of(second) == [".attempts/alpha/out.txt", ".attempts/alpha/params.txt"]


def test_a_large_file_has_its_own_name_at_once_and_a_repair_gives_it_to_all():
    large = requests_of(begin(size=protocol.MULTIPART_ABOVE + 1))
    assert names_of(large) == [".attempts/alpha/out.txt", "params.txt", "log/stdout.log"]
    assert names_of(requests_of(begin(seen="e"))) == [
        ".attempts/alpha/out.txt",
        ".attempts/alpha/params.txt",
        ".attempts/alpha/log/stdout.log",
    ]


def test_the_record_says_where_outputs_parameters_and_logs_lie_and_is_read_again():
    world = world_with({"params.txt": thing(b"{}", "dead"), "log/stdout.log": thing(b"", "dead")})
    world, won = drive(Server(), world, begin())
    assert won.won and won.record.places == {
        "params.txt": ".attempts/alpha/params.txt",
        "log/stdout.log": ".attempts/alpha/log/stdout.log",
    }
    (entry,) = won.record.files
    assert (entry.object, entry.etag) == ("out.txt", thing(b"out").etag)
    found = world.get(RECORD)
    assert found is not None and records.parse(found.raw, TARGET) == won.record and won.stamp == found.etag


def test_a_record_whose_files_all_lie_under_plain_names_is_the_same_document_as_ever():
    _, won = drive(Server(), NOTHING, begin())
    assert won.record.places == {} and b"places" not in won.record.to_bytes()


@pytest.mark.parametrize("place", ["../x", "/etc/passwd", "", "a\0b"])
def test_a_record_whose_places_lead_out_of_the_target_is_invalid(place):
    record = replace(actors.record_of("alpha", {"out.txt": b"out"}), places={"params.txt": place})
    with pytest.raises(errors.RecordInvalid):
        records.parse(record.to_bytes(), TARGET)


def test_a_record_that_lacks_an_output_of_this_task_is_invalid_for_it():
    world, ended = drive(Server(), actors.made_before(), begin(outputs=("out.txt", "extra.txt")))
    assert isinstance(ended, Failed) and "does not name the output `extra.txt`" in str(ended.error)
    assert world.things == actors.made_before().things


def test_a_record_in_force_of_which_a_file_is_gone_is_no_target_to_lose_against():
    _, rival = writer("force", forced=True)
    whole, _ = drive(Server(), NOTHING, rival())
    spoilt = whole.put(f"{TARGET.path}/.attempts/force/out.txt", None)
    world, ended = drive(Server(), spoilt, begin())
    assert isinstance(ended, Failed) and "the file `out.txt` is missing" in str(ended.error)
    assert world == spoilt


def test_a_newer_record_that_appears_is_an_error_and_own_objects_go():
    world, ended = drive(Server(), world_with({"record.json": NEWER}), begin())
    assert isinstance(ended, Failed) and type(ended.error) is errors.RecordNewer
    assert world.things == world_with({"record.json": NEWER}).things


def test_an_object_that_the_record_in_force_names_is_kept_even_by_the_loser_who_made_it():
    record = actors.record_of("adopter", {"out.txt": b"out"})
    raw = replace(record, adopted=True).to_bytes()
    running = begin()
    world, key = NOTHING, f"{TARGET.path}/out.txt"
    requests = next(running)
    for put in requests:
        world = world.put(put.key, thing(put.content.raw, "alpha"))
    requests = running.send([Stored(thing(put.content.raw).etag) for put in requests])
    world = world.put(RECORD, thing(raw, "adopter"))
    requests = running.send([Refused()])
    assert requests == [Get(RECORD)]
    requests = running.send([Found("record", len(raw), {}, raw)])
    assert requests == [Head(key)]
    requests = running.send([Found(thing(b"out").etag, 3, {ATTEMPT: "alpha"})])
    assert all(isinstance(one, Delete) and one.if_etag is not None for one in requests)
    assert names_of(requests) == ["params.txt", "log/stdout.log"]


def test_a_server_that_goes_on_refusing_is_an_error_after_a_few_tries_that_removes_nothing():
    asked: list[Any] = []

    def refusing():
        running = begin()
        requests = next(running)
        while True:
            asked.extend(requests)
            requests = running.send([Refused() if isinstance(one, Put) else Absent() for one in requests])

    with pytest.raises(errors.StoreUnreachable, match="refused 5 times"):
        refusing()
    assert not [one for one in asked if isinstance(one, Delete)] and len(asked) < 50


@pytest.mark.parametrize("rounds", range(4))
def test_a_transport_error_ends_a_commit_without_another_request(rounds):
    running = begin()
    requests = next(running)
    for _ in range(rounds):
        requests = running.send([Refused() if isinstance(one, Put) else Absent() for one in requests])
    with pytest.raises(errors.StoreUnreachable, match="cable"):
        running.throw(errors.StoreUnreachable("the cable is cut"))
    with pytest.raises(StopIteration):
        next(running)


def test_a_record_that_names_what_is_not_uploaded_is_refused_before_any_request():
    record = actors.record_of("alpha", {"out.txt": b"out"})
    with pytest.raises(ValueError, match=r"out\.txt"):
        next(commit(TARGET, "alpha", record, [], seen=None, own_names=False, outputs=OUTPUTS))


def test_its_own_name_taken_by_other_bytes_is_an_error():
    world = world_with({".attempts/alpha/out.txt": thing(b"other", "alpha"), "record.json": INVALID})
    _, ended = drive(Server(), world, begin(seen=INVALID.etag))
    assert isinstance(ended, Failed) and "is not what this attempt wrote" in str(ended.error)


def test_a_commit_made_again_by_the_same_attempt_finds_that_it_had_won():
    world, first = drive(Server(), NOTHING, begin())
    again, second = drive(Server(), world, begin())
    assert second == first and again == world
    assert content(first.record.to_bytes()).sha256 == dict(world.things)[RECORD].sha256
