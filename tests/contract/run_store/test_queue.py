"""Servers take runs from the queue: each once, in order, within limits; and see which have fallen silent."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from run_samples import NOW, at_once, line, moment, new_run

from nectar.runs import Limits, RunState, RunStore, TagLimit, open_books
from nectar.runs.sql import queueing

SERVERS, RUNS = 8, 40


def test_a_claimed_run_is_starting_and_says_by_whom(books: RunStore) -> None:
    run = books.create(new_run())
    taken = books.claim("host:1", now=moment(7))
    assert taken is not None and taken == books.run(run.id)
    assert (taken.state, taken.server, taken.heard_at) == (RunState.STARTING, "host:1", moment(7))
    assert books.events(run.id)[1].detail == {"state": "STARTING", "server": "host:1"}
    assert books.claim("host:1", now=NOW) is None


def test_the_highest_priority_comes_first_and_then_who_came_first(books: RunStore) -> None:
    for name, priority, second in (("d", 0, 1), ("e", 0, 2), ("b", 5, 3), ("a", 5, 0), ("f", -1, 0), ("c", 5, 3)):
        books.create(new_run(f"run-{name}", priority=priority, created_at=moment(second)))
    assert "".join(run.id[-1] for run in iter(lambda: books.claim("s", now=NOW), None)) == "abcdef"


@pytest.mark.parametrize("state", [state for state in RunState if state is not RunState.QUEUED])
def test_only_runs_that_wait_are_taken(books: RunStore, state: RunState) -> None:
    books.create(new_run(), state)
    assert books.claim("s", now=NOW) is None


def test_a_run_that_was_cancelled_while_it_waited_never_starts(books: RunStore) -> None:
    run = books.create(new_run())
    books.advance(run.id, RunState.CANCELED, at=NOW)
    assert books.claim("s", now=NOW) is None


@pytest.mark.parametrize("state", [RunState.STARTING, RunState.RUNNING, RunState.CANCELING])
def test_no_more_runs_are_at_work_than_the_limit_says(books: RunStore, state: RunState) -> None:
    at_work = books.create(new_run(), state)
    books.create(new_run())
    assert books.claim("s", Limits(runs=1), now=NOW) is None
    books.advance(at_work.id, RunState.CRASHED, at=NOW)
    assert books.claim("s", Limits(runs=1), now=NOW) is not None


def test_a_run_that_a_limit_blocks_does_not_block_others(books: RunStore) -> None:
    limits = Limits(tags=(TagLimit("db", "prod", 1),))
    for name, tags in (("a", {"db": "prod"}), ("b", {"db": "prod"}), ("c", {"db": "test"}), ("d", {})):
        books.create(new_run(f"run-{name}", tags=tags, created_at=moment(ord(name))))
    assert "".join(run.id[-1] for run in iter(lambda: books.claim("s", limits, now=NOW), None)) == "acd"
    books.advance("run-a", RunState.FAILURE, at=NOW)
    freed = books.claim("s", limits, now=NOW)
    assert freed is not None and freed.id == "run-b"


def test_a_limit_without_a_value_holds_for_each_value(books: RunStore) -> None:
    limits = Limits(tags=(TagLimit("user", None, 1), TagLimit("user", "ann", 0)))
    for name, user in (("a", "bob"), ("b", "bob"), ("c", "eve"), ("d", "ann")):
        books.create(new_run(f"run-{name}", tags={"user": user}, created_at=moment(ord(name))))
    assert "".join(run.id[-1] for run in iter(lambda: books.claim("s", limits, now=NOW), None)) == "ac"


def test_what_is_blocked_is_passed_over_however_much_it_is(books: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "_LOOKED_AT", 20)
    for number in range(45):
        books.create(new_run(f"run-{number:03}", tags={"db": "prod"}, created_at=moment(number)))
    books.create(new_run("run-free", tags={}, created_at=moment(900)))
    taken = books.claim("s", Limits(tags=(TagLimit("db", None, 0),)), now=NOW)
    assert taken is not None and taken.id == "run-free"


def _claim_all(number: int, url: str) -> list[str]:
    store = open_books(url)
    limits = Limits(runs=RUNS - 4, tags=(TagLimit("db", None, 6),))
    try:
        return [run.id for run in iter(lambda: store.claim(f"server-{number}", limits, now=NOW), None)]
    finally:
        store.close()


def test_of_many_servers_each_run_is_taken_by_one_and_limits_are_kept(books: RunStore, books_url: str) -> None:
    for number in range(RUNS):
        books.create(new_run(f"run-{number:02}", tags={"db": "prod"} if number % 4 == 0 else {}))
    claimed = [run_id for taken in at_once(SERVERS, _claim_all, books_url) for run_id in taken]
    assert max(Counter(claimed).values()) == 1
    # Of the 10 runs with the tag 6 may be at work, and of all 36: the 30 others and those.
    assert sorted(claimed) == sorted(run.id for run in books.list(size=100).rows if run.state is RunState.STARTING)
    assert len(claimed) == 36
    assert sum(int(run_id[-2:]) % 4 == 0 for run_id in claimed) == 6
    assert {len(books.events(run_id)) for run_id in claimed} == {2}


def _take_or_cancel(number: int, url: str, run_id: str) -> bool:
    from nectar import errors

    store = open_books(url)
    try:
        if number % 2:
            return store.claim("s", now=NOW) is not None
        return store.advance(run_id, RunState.CANCELED, at=NOW).server is None
    except errors.RunStateConflict:
        return False
    finally:
        store.close()


def test_a_run_that_is_cancelled_and_taken_at_once_tells_one_story(books: RunStore, books_url: str) -> None:
    for _ in range(5):
        run = books.create(new_run())
        at_once(4, _take_or_cancel, books_url, run.id)
        states = [event.detail["state"] for event in books.events(run.id)]
        assert states in (["QUEUED", "CANCELED"], ["QUEUED", "STARTING", "CANCELED"], ["QUEUED", "STARTING"])
        assert books.run(run.id).state.value == states[-1]
        if states[-1] == "STARTING":
            books.advance(run.id, RunState.CRASHED, at=NOW)


def test_runs_at_work_without_a_sign_of_life_are_stale(books: RunStore) -> None:
    states = {state: books.create(new_run(f"run-{state.value}"), state).id for state in RunState}
    limit = timedelta(seconds=30)
    assert books.stale(moment(30), limit) == []
    active = [states[state] for state in (RunState.STARTING, RunState.RUNNING, RunState.CANCELING)]
    assert sorted(run.id for run in books.stale(moment(31), limit)) == sorted(active)
    books.record(states[RunState.RUNNING], [line(1, at=20)])
    assert states[RunState.RUNNING] not in [run.id for run in books.stale(moment(31), limit)]
    assert [run.id for run in books.stale(moment(60), limit)][-1] == states[RunState.RUNNING]
