"""Runs come into the books and advance: each once, and only forwards."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest
from run_samples import NOW, PROCESS, at_once, line, moment, new_run, state_line, step_line

from nectar import errors
from nectar.runs import FINAL, NewRun, RunState, RunStore, may_follow, open_books

LATER = moment(5)


def test_a_run_comes_back_as_it_was_given(books: RunStore) -> None:
    new = new_run()
    made = books.create(new)
    assert made.new == new == books.run(new.id).new
    assert (made.state, made.heard_at, made.started_at, made.events) == (RunState.QUEUED, NOW, None, 1)
    assert made == books.run(new.id)


def test_a_run_of_which_nothing_is_known_but_its_id_is_one(books: RunStore) -> None:
    bare = NewRun("bare-run", NOW)
    assert books.create(bare, RunState.RUNNING).new == bare == books.find("bare-run").new


def test_making_a_run_again_changes_nothing_also_at_another_time(books: RunStore) -> None:
    new = new_run()
    books.create(new)
    advanced = books.advance(new.id, RunState.RUNNING, at=LATER)
    assert books.create(new_run(new.id, created_at=moment(60))) == advanced
    assert len(books.events(new.id)) == 2


def test_another_run_with_the_same_id_is_refused(books: RunStore) -> None:
    new = new_run()
    books.create(new)
    with pytest.raises(errors.RunExists) as refused:
        books.create(new_run(new.id, tags={"env": "live"}))
    assert new.id in refused.value.message
    assert books.run(new.id).new == new


@pytest.mark.parametrize("name", ["", "../../x", "a/b", ".hidden", "a\0b", "x" * 101, "é", "a b", "-x"])
def test_an_id_that_could_be_a_path_is_refused(books: RunStore, name: str) -> None:
    with pytest.raises(errors.UsageError):
        books.create(NewRun(name, NOW))
    with pytest.raises(errors.UsageError):
        books.record(name, [line(1)])


def _create_same(number: int, url: str, new: NewRun) -> int:
    with_own = open_books(url)
    try:
        return with_own.create(new).events
    finally:
        with_own.close()


def test_one_run_made_by_several_processes_at_once_is_one(books: RunStore, books_url: str) -> None:
    new = new_run()
    assert at_once(4, _create_same, books_url, new) == [1] * 4
    assert [run.id for run in books.list().rows] == [new.id]


def test_a_run_advances_by_the_table_alone(books: RunStore) -> None:
    for old, new in product(RunState, RunState):
        run = books.create(new_run(), old)
        if new is old:
            assert books.advance(run.id, new, at=LATER, error="again") == run
        elif may_follow(old, new):
            after = books.advance(run.id, new, at=LATER)
            assert (after.state, after.heard_at) == (new, LATER)
            assert after.ended_at == (LATER if new in FINAL else None)
            assert after.started_at == (LATER if new is RunState.RUNNING else None)
        else:
            with pytest.raises(errors.RunStateConflict) as refused:
                books.advance(run.id, new, at=LATER)
            assert old.value in refused.value.message and new.value in refused.value.message
            assert books.run(run.id) == run


def test_final_states_are_followed_by_nothing() -> None:
    assert not [(old, new) for old, new in product(FINAL, RunState) if may_follow(old, new)]


def test_an_advance_says_who_carries_the_run_out_and_why_it_ended(books: RunStore) -> None:
    run = books.create(new_run())
    books.advance(run.id, RunState.RUNNING, at=moment(1), process=PROCESS)
    after = books.advance(run.id, RunState.FAILURE, at=moment(2), error="it broke\0")
    assert (after.process, after.error) == (PROCESS, "it broke\N{REPLACEMENT CHARACTER}")
    assert [event.kind for event in books.events(run.id)] == ["run created", "run state", "run state"]
    assert books.events(run.id)[2].detail["state"] == "FAILURE"


def test_a_run_that_is_not_there_cannot_advance(books: RunStore) -> None:
    with pytest.raises(errors.RunNotFound):
        books.advance("no-such-run", RunState.RUNNING, at=NOW)


def _advance(number: int, url: str, run_id: str) -> str:
    store = open_books(url)
    states = [RunState.SUCCESS, RunState.FAILURE, RunState.CANCELED, RunState.CRASHED]
    try:
        return store.advance(run_id, states[number], at=LATER).state.value
    except errors.RunStateConflict:
        return "refused"
    finally:
        store.close()


def test_of_several_processes_that_end_a_run_one_succeeds(books: RunStore, books_url: str) -> None:
    run = books.create(new_run(), RunState.RUNNING)
    answers = at_once(4, _advance, books_url, run.id)
    (won,) = [answer for answer in answers if answer != "refused"]
    assert books.run(run.id).state.value == won


def test_a_line_counts_once_however_often_it_is_recorded(books: RunStore) -> None:
    run = books.create(new_run(), RunState.STARTING)
    said = [line(1, detail={"x": [1, None]}), line(2), line(1, "2-b")]
    assert books.record(run.id, said) == 3
    assert books.record(run.id, [*said, *said]) == 0
    assert books.record(run.id, [said[0], line(3), line(3)]) == 1
    assert [event.number for event in books.events(run.id)] == [1, 2, 3, 4, 5]
    assert books.events(run.id)[1].detail == {"x": [1, None]}


def test_a_run_s_own_word_is_believed_where_words_between_were_lost(books: RunStore) -> None:
    run = books.create(new_run())
    books.record(run.id, [state_line(7, RunState.FAILURE, at=3, error="it broke")])
    after = books.run(run.id)
    assert (after.state, after.ended_at, after.error) == (RunState.FAILURE, moment(3), "it broke")


@pytest.mark.parametrize("final", [RunState.SUCCESS, RunState.FAILURE, RunState.CANCELED])
def test_a_run_that_was_thought_dead_may_say_how_it_ended(books: RunStore, final: RunState) -> None:
    run = books.create(new_run(), RunState.RUNNING)
    books.advance(run.id, RunState.CRASHED, at=moment(1), error="no sign of life")
    books.record(run.id, [state_line(1, RunState.RUNNING, at=2)])
    assert books.run(run.id).state is RunState.CRASHED
    books.record(run.id, [state_line(2, final, at=3)])
    after = books.run(run.id)
    assert (after.state, after.error, after.ended_at) == (final, None, moment(3))


def test_lines_of_a_run_that_nobody_made_are_kept_and_its_beginning_may_come_later(books: RunStore) -> None:
    new = new_run()
    books.record(new.id, [step_line(2, "a", "running", at=9)])
    unknown = books.run(new.id)
    assert (unknown.new.source, unknown.state, unknown.created_at) == ("unknown", RunState.STARTING, moment(9))
    created = line(1, kind="run created", created={"new": new.to_json(), "state": "STARTING"})
    books.record(new.id, [created])
    after = books.run(new.id)
    assert (after.new, after.counts) == (new, {"running": 1})
    assert [run.id for run in books.of_target(new.roots[0].path or "")] == [new.id]


def test_a_run_whose_journal_came_first_can_still_be_made(books: RunStore) -> None:
    new = new_run()
    books.record(new.id, [state_line(1, RunState.RUNNING)])
    assert books.create(new).new == new
    assert books.run(new.id).state is RunState.RUNNING
    with pytest.raises(errors.RunExists):
        books.create(new_run(new.id, priority=9))


def test_a_step_is_what_its_latest_line_says_whichever_comes_first(books: RunStore) -> None:
    said = [
        step_line(1, "a", "running", at=1, path="place"),
        step_line(2, "a", "failed", at=2, error="once", attempts=1),
        step_line(3, "a", "running", at=3),
        step_line(4, "a", "succeeded", at=4, seconds=0.5, attempts=2, logs="place/log"),
    ]
    forwards, backwards = (books.create(new_run(), RunState.RUNNING).id for _ in range(2))
    books.record(forwards, said)
    for one in reversed(said):
        books.record(backwards, [one])
    (there,), (here,) = books.steps(forwards), books.steps(backwards)
    assert (here.status, here.attempts, here.started_at, here.ended_at) == ("succeeded", 2, moment(1), moment(4))
    assert (here.seconds, here.error, here.logs, here.task) == (0.5, None, "place/log", "aTask()")
    assert there.path == "place" and {**there.to_json(), "run_id": backwards, "path": None} == {
        **here.to_json(),
        "path": None,
    }
    assert books.run(forwards).counts == books.run(backwards).counts == {"succeeded": 1}


def test_attempts_are_counted_and_kept_by_step_and_number(books: RunStore) -> None:
    run = books.create(new_run(), RunState.RUNNING)
    books.record(
        run.id,
        [
            line(1, attempt={"ref": "a", "number": 1}, at=1),
            line(2, attempt={"ref": "a", "number": 1, "outcome": "failed", "error": "once", "attempt": "x"}, at=2),
            line(3, attempt={"ref": "a", "number": 2, "outcome": "succeeded"}, at=4),
            line(4, attempt={"ref": "b", "number": 1}, at=5),
        ],
    )
    books.record(run.id, [line(5, attempt={"ref": "a", "number": 2}, at=3)])
    first, second = books.attempts(run.id, "a")
    assert (first.outcome, first.error, first.attempt, first.ended_at) == ("failed", "once", "x", moment(2))
    assert (second.outcome, second.started_at, second.ended_at) == ("succeeded", moment(3), moment(4))
    assert [(one.ref, one.number) for one in books.attempts(run.id)] == [("a", 1), ("a", 2), ("b", 1)]
    assert {step.ref: step.attempts for step in books.steps(run.id)} == {"a": 2, "b": 1}


def test_what_no_database_holds_is_replaced(books: RunStore) -> None:
    run = books.create(new_run(), RunState.RUNNING)
    books.record(run.id, [step_line(1, "a\0", "failed", error="x\ud800y"), line(2, detail="\0\ud800")])
    (step,) = books.steps(run.id)
    assert (step.ref, step.error) == ("a\N{REPLACEMENT CHARACTER}", "x?y")
    assert books.events(run.id)[2].detail == "\0\ud800"


def test_the_newest_sign_of_life_is_kept(books: RunStore) -> None:
    run = books.create(new_run(), RunState.RUNNING)
    books.record(run.id, [line(1, at=60)])
    books.record(run.id, [line(2, at=30)])
    assert books.run(run.id).heard_at == NOW + timedelta(seconds=60)
