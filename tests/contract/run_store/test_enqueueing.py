"""Requests for one target share one run, the queue has an end, and the books say how many runs stand where."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from run_samples import KEY, NOW, PATH, moment, new_run

from nectar import errors
from nectar.runs import FINAL, NewRun, Root, Run, RunState, RunStore, open_books

THREADS, CONNECTIONS = 20, 2
JOINED = (RunState.QUEUED, RunState.STARTING, RunState.RUNNING)
OTHER = "chains/etl/flights_chain/LoadTask/" + "f" * 32


def request(run_id: str, path: str | None = PATH, **given: Any) -> NewRun:
    """Return the run of somebody who asks for one target."""
    root = Root("LoadTask(day=1)", "etl/flights", {"day": "1"}, path, KEY, KEY * 2)
    return new_run(run_id, **{"roots": (root,), "parent_id": None, "root_id": None, "priority": 0} | given)


def test_what_was_enqueued_waits_in_the_queue_as_it_was_asked_for(books: RunStore) -> None:
    new = request("run-one")
    run = books.enqueue(new)
    assert run == books.run("run-one")
    assert (run.state, run.new) == (RunState.QUEUED, new)
    taken = books.claim("s", now=NOW)
    assert taken is not None and taken.id == "run-one"


@pytest.mark.parametrize("state", JOINED)
def test_a_request_joins_the_run_that_makes_its_target(books: RunStore, state: RunState) -> None:
    books.create(request("run-one"), state)
    before = books.run("run-one")
    assert books.enqueue(request("run-two")) == before == books.run("run-one")
    with pytest.raises(errors.RunNotFound):
        books.run("run-two")


@pytest.mark.parametrize("state", sorted({RunState.CANCELING, *FINAL}))
def test_a_request_joins_no_run_that_is_stopped_or_has_ended(books: RunStore, state: RunState) -> None:
    books.create(request("run-one"), state)
    run = books.enqueue(request("run-two"))
    assert (run.id, run.state) == ("run-two", RunState.QUEUED)


def test_a_request_joins_a_run_that_came_by_another_way(books: RunStore) -> None:
    books.create(request("run-one", source="cli", tags={}, executor="processes"), RunState.RUNNING)
    assert books.enqueue(request("run-two")).id == "run-one"


def test_requests_share_a_run_only_where_they_select_the_same_tasks(books: RunStore) -> None:
    books.enqueue(request("run-all"))
    some = {"options": {"select": "LoadTask"}}
    assert books.enqueue(request("run-some", **some)).id == "run-some"
    assert books.enqueue(request("run-again", **some)).id == "run-some"
    assert books.enqueue(request("run-others", options={"select": "*LoadTask"})).id == "run-others"
    assert books.enqueue(request("run-whole")).id == "run-all"


def test_the_first_of_several_runs_for_a_target_is_joined(books: RunStore) -> None:
    books.create(request("run-b", created_at=moment(1)), RunState.RUNNING)
    books.create(request("run-a", created_at=moment(2)))
    assert books.enqueue(request("run-c")).id == "run-b"


def test_other_targets_and_tasks_without_any_join_nothing(books: RunStore) -> None:
    for number, path in enumerate((PATH, OTHER, None, None)):
        assert books.enqueue(request(f"run-{number}", path)).id == f"run-{number}"


def test_a_run_of_several_targets_joins_none(books: RunStore) -> None:
    books.enqueue(request("run-one"))
    both = request("run-both")
    both = replace(both, roots=(*both.roots, replace(both.roots[0], path=OTHER)))
    assert books.enqueue(both).id == "run-both"


def test_a_target_is_also_being_made_by_a_run_of_several(books: RunStore) -> None:
    both = request("run-both")
    books.create(replace(both, roots=(replace(both.roots[0], path=OTHER), *both.roots)), RunState.RUNNING)
    assert books.enqueue(request("run-one")).id == "run-both"


def test_a_repetition_joins_no_run_and_can_be_joined(books: RunStore) -> None:
    books.create(request("run-old"), RunState.FAILURE)
    assert books.enqueue(request("run-again", parent_id="run-old", root_id="run-old")).id == "run-again"
    assert books.enqueue(request("run-once-more", parent_id="run-old", root_id="run-old")).id == "run-once-more"
    assert books.enqueue(request("run-new", created_at=moment(9))).id in ("run-again", "run-once-more")


def test_the_same_call_twice_is_one_run_wherever_it_stands(books: RunStore) -> None:
    for state in (None, RunState.STARTING, RunState.RUNNING, RunState.SUCCESS):
        if state is not None:
            books.advance("run-one", state, at=NOW)
        # The caller tries again later, so that the time is another one.
        run = books.enqueue(request("run-one", created_at=moment(5)), most=1)
        assert (run.id, run.state) == ("run-one", state or RunState.QUEUED)
    assert len(books.list().rows) == 1


def test_another_run_of_the_same_id_is_refused(books: RunStore) -> None:
    books.enqueue(request("run-one"))
    with pytest.raises(errors.RunExists):
        books.enqueue(request("run-one", OTHER))
    with pytest.raises(errors.UsageError):
        books.enqueue(request("../run"))


def test_a_full_queue_takes_no_more_and_leaves_no_trace(books: RunStore) -> None:
    books.enqueue(request("run-0", f"{OTHER}/0"), most=2)
    books.enqueue(request("run-1", f"{OTHER}/1"), most=2)
    with pytest.raises(errors.QueueFull) as full:
        books.enqueue(request("run-2", f"{OTHER}/2"), most=2)
    assert "2" in full.value.message and full.value.hint
    assert full.value.http_status == 429
    assert [run.id for run in books.list().rows] == ["run-1", "run-0"]
    # Who joins takes no place, and neither do runs that are at work.
    assert books.enqueue(request("run-3", f"{OTHER}/0"), most=2).id == "run-0"
    books.claim("s", now=NOW)
    assert books.enqueue(request("run-4", f"{OTHER}/2"), most=2).id == "run-4"


def test_the_states_are_counted(books: RunStore) -> None:
    assert books.states() == {}
    for number, state in enumerate([*RunState, RunState.QUEUED, RunState.RUNNING, RunState.RUNNING]):
        books.create(request(f"run-{number}"), state)
    expected = dict.fromkeys(RunState, 1) | {RunState.QUEUED: 2, RunState.RUNNING: 3}
    assert books.states() == expected
    books.advance("run-0", RunState.CANCELED, at=NOW)
    assert books.states() == expected | {RunState.QUEUED: 1, RunState.CANCELED: 2}


def _all_at_once(url: str, ask: Any) -> list[Any]:
    """Return what each of the threads gets, of which every second one uses the other connections."""
    stores = [open_books(url) for _ in range(CONNECTIONS)]
    barrier = threading.Barrier(THREADS)

    def one(number: int) -> Any:
        barrier.wait(60)
        return ask(stores[number % CONNECTIONS], number)

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(one, range(THREADS)))
    finally:
        for store in stores:
            store.close()


def test_all_who_ask_for_a_target_at_once_get_one_run(books: RunStore, books_url: str) -> None:
    books.tokens()  # the tables are there
    for number in range(3):
        path = f"{OTHER}/{number}"

        def ask(store: RunStore, thread: int, path: str = path, number: int = number) -> Run:
            return store.enqueue(request(f"run-{number}-{thread:02}", path))

        given = {run.id for run in _all_at_once(books_url, ask)}
        assert len(given) == 1
        assert [run.id for run in books.list().rows if run.roots[0].path == path] == [*given]


def test_a_queue_never_holds_more_than_its_most_whoever_asks_at_once(books: RunStore, books_url: str) -> None:
    books.tokens()

    def ask(store: RunStore, thread: int) -> bool:
        try:
            store.enqueue(request(f"run-{thread:02}", f"{OTHER}/{thread}"), most=5)
        except errors.QueueFull:
            return False
        return True

    assert sum(_all_at_once(books_url, ask)) == 5
    assert books.states() == {RunState.QUEUED: 5}
