"""The values of the run store: states, ids, moments, documents, limits."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nectar import errors
from nectar.runs import (
    FINAL,
    Filter,
    Limits,
    NewRun,
    Process,
    Root,
    RunState,
    TagLimit,
    is_alive,
    may_follow,
    this_process,
    word_counts,
)
from nectar.runs.values import check_run_id, from_micros, to_micros

ZONES = st.timezones() | st.just(timezone.utc)


def test_no_way_leads_back_from_any_state() -> None:
    for first in RunState:
        seen, ahead = set(), {first}
        while ahead:
            ahead = {new for old in ahead for new in RunState if may_follow(old, new)} - seen
            seen |= ahead
        assert first not in seen
        assert seen or first in FINAL


def test_a_run_s_own_word_goes_at_least_as_far_as_a_watcher_s() -> None:
    for old, new in product(RunState, RunState):
        assert not may_follow(old, new) or word_counts(old, new)
        assert not (word_counts(old, new) and word_counts(new, old))
        if old in FINAL - {RunState.CRASHED}:
            assert not word_counts(old, new)
    assert [new for new in RunState if word_counts(RunState.CRASHED, new)] == [
        RunState.SUCCESS,
        RunState.FAILURE,
        RunState.CANCELED,
    ]


@given(st.datetimes(datetime(1000, 1, 1), datetime(9000, 1, 1), timezones=ZONES))  # noqa: DTZ001  bounds have none
def test_moments_are_exact_to_the_microsecond(moment: datetime) -> None:
    there = from_micros(to_micros(moment))
    assert there == moment.astimezone(timezone.utc) and there.utcoffset() == timedelta(0)


def test_ids_that_nectar_makes_can_be_ids() -> None:
    from nectar.recording.run import new_run

    assert check_run_id(new_run().id)


@pytest.mark.parametrize("text", ["", ".", "..", "../x", "/x", "x/y", "x\\y", "x\n", "x\0", "ü", "~", "x" * 101])
def test_what_could_lead_elsewhere_is_no_id(text: str) -> None:
    with pytest.raises(errors.UsageError):
        check_run_id(text)


def test_a_run_is_its_document() -> None:
    moment = datetime(2026, 11, 20, 12, tzinfo=timezone(timedelta(hours=2)))
    root = Root("LoadTask()", "etl/flights", {"a": [1, {"b": None}]}, "p", "k", "o")
    new = NewRun("run-one", moment, (root,), {"a": "b"}, "cli", "inline", 2, {"c": True}, "run-p", "run-r", -1)
    assert NewRun.from_json(json.loads(json.dumps(new.to_json()))) == new
    assert NewRun.from_json(NewRun("run-one", moment).to_json()) == NewRun("run-one", moment)


GOOD = NewRun("run-one", datetime(2026, 1, 1, tzinfo=timezone.utc), (Root("T()"),)).to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": 7},
        {"created_at": "yesterday"},
        {"created_at": "2026-01-01T00:00:00"},
        {"roots": None},
        {"roots": [7]},
        {"roots": [{"task": None}]},
        {"roots": [{"task": "T()", "params": 7}]},
        {"tags": []},
        {"options": "x"},
        {"priority": 10**30},
        {"priority": "high"},
        {"workers": 1.5},
        {"source": []},
    ],
    ids=str,
)
def test_a_document_that_is_no_run_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        NewRun.from_json(GOOD | change)


@pytest.mark.parametrize("document", [None, [], "x", 7, {}])
def test_what_is_no_document_is_no_run(document: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        NewRun.from_json(document)


def test_equal_filters_are_equal_documents() -> None:
    one = Filter(states=(RunState.RUNNING, RunState.QUEUED), tags={"a": "1", "b": "2"})
    two = Filter(states=(RunState.QUEUED, RunState.RUNNING), tags={"b": "2", "a": "1"})
    assert json.dumps(one.to_json()) == json.dumps(two.to_json())


def test_limits_hold_for_a_value_or_for_each() -> None:
    limits = Limits(tags=(TagLimit("db", "prod", 1), TagLimit("user", None, 2)))
    active = {("db", "prod"): 1, ("db", "test"): 9, ("user", "ann"): 2, ("user", "bob"): 1}
    assert limits.blocks({"db": "prod"}, active)
    assert limits.blocks({"db": "test", "user": "ann"}, active)
    assert not limits.blocks({"db": "test", "user": "bob"}, active)
    assert not limits.blocks({}, active)


def test_a_process_is_alive_until_it_has_ended() -> None:
    me = this_process()
    assert is_alive(me)
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    with open(f"/proc/{child.pid}/stat", encoding="ascii") as file:
        ticks = file.read().rpartition(")")[2].split()[19]
    assert me.start is not None
    named = Process(me.host, child.pid, f"{me.start.partition('/')[0]}/{ticks}")
    assert is_alive(named)
    assert not is_alive(Process(me.host, child.pid, me.start)), "its number belongs to another one"
    child.kill()
    while is_alive(named):
        pass
    child.communicate()
    assert is_alive(named) is False


def test_nobody_knows_of_a_process_on_another_host() -> None:
    me = this_process()
    assert is_alive(Process("elsewhere", me.pid, me.start)) is None
    assert is_alive(Process(me.host, me.pid, None)) is None
