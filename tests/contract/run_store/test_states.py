"""Whatever comes in whichever order and however often: states only advance, and repetition changes nothing."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_samples import line, moment, new_run, state_line, step_line

from nectar import errors
from nectar.runs import FINAL, Run, RunState, RunStore
from nectar.runs.lines import Line

WRITERS = ("1-a", "1-b")
STATUSES = ("running", "succeeded", "failed", "skipped")


@dataclass(frozen=True)
class Advance:
    """What a watcher does."""

    state: RunState
    at: int


@st.composite
def said(draw: st.DrawFn, number: int) -> Line:
    """Return the line of this number of a journal, which says one thing for ever."""
    writer = draw(st.sampled_from(WRITERS))
    at = draw(st.integers(0, 9))
    if draw(st.booleans()):
        return state_line(number, draw(st.sampled_from(RunState)), writer=writer, at=at)
    if draw(st.booleans()):
        status = draw(st.sampled_from(STATUSES))
        return step_line(number, draw(st.sampled_from("ab")), status, writer=writer, at=at)
    tried = {"ref": draw(st.sampled_from("ab")), "number": draw(st.integers(1, 3)), "outcome": draw(st.just("ok"))}
    return line(number, writer, at=at, attempt=tried)


@st.composite
def stories(draw: st.DrawFn) -> list[Line | Advance]:
    """Return what happens to a run: lines of its journal, and advances, in any order."""
    lines = [draw(said(number)) for number in range(1, draw(st.integers(1, 8)))]
    advances = draw(st.lists(st.builds(Advance, st.sampled_from(RunState), st.integers(0, 9)), max_size=5))
    return draw(st.permutations([*lines, *advances]))


#: each is written to a database, several times
STORIES = settings(
    max_examples=settings().max_examples // 5, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def happen(books: RunStore, run_id: str, what: Line | Advance) -> Run:
    """Let one thing happen; a watcher who comes too late is told so, and nothing changes."""
    if isinstance(what, Line):
        books.record(run_id, [what])
    else:
        before = books.run(run_id)
        with contextlib.suppress(errors.RunStateConflict):
            return books.advance(run_id, what.state, at=moment(what.at))
        assert books.run(run_id) == before
    return books.run(run_id)


def told(books: RunStore, run_id: str) -> tuple[object, ...]:
    """Return all that the books say of a run, but for its id."""
    every = [books.run(run_id), *books.steps(run_id), *books.attempts(run_id), *books.events(run_id)]
    return tuple({**one.to_json(), "id": None, "run_id": None}.items() for one in every)  # type: ignore[attr-defined]


@STORIES
@given(story=stories())
def test_a_final_state_is_final_but_for_crashed(books: RunStore, story: list[Line | Advance]) -> None:
    run = books.create(new_run())
    seen = [run.state]
    for what in story:
        seen.append(happen(books, run.id, what).state)
    for old, new in itertools.pairwise(seen):
        if old is RunState.CRASHED:
            assert new is old or new in FINAL
        elif old in FINAL:
            assert new is old
        else:
            assert new is not RunState.QUEUED or old is RunState.QUEUED
            assert not (old is RunState.CANCELING and new in (RunState.STARTING, RunState.RUNNING))
    events = books.events(run.id)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert books.run(run.id).events == len(events)
    steps = books.steps(run.id)
    counts = {status: sum(step.status == status for step in steps) for status in STATUSES}
    assert books.run(run.id).counts == {status: count for status, count in counts.items() if count}


@STORIES
@given(story=stories(), data=st.data())
def test_repetition_changes_nothing(books: RunStore, story: list[Line | Advance], data: st.DataObject) -> None:
    once, again = (books.create(new_run(tags={})).id for _ in range(2))
    lines: list[Line] = []
    for what in story:
        happen(books, once, what)
        happen(books, again, what)
        if isinstance(what, Line):
            lines.append(what)
            for repeated in data.draw(st.lists(st.sampled_from(lines), max_size=3)):
                books.record(again, [repeated])
        else:
            before = books.run(again)
            with contextlib.suppress(errors.RunStateConflict):
                books.advance(again, before.state, at=moment(99))
    assert told(books, again) == told(books, once)


@STORIES
@given(story=stories(), data=st.data())
def test_lines_taken_in_together_say_the_same_as_one_by_one(
    books: RunStore, story: list[Line | Advance], data: st.DataObject
) -> None:
    lines = [what for what in story if isinstance(what, Line)]
    together, singly = (books.create(new_run(tags={}), RunState.STARTING).id for _ in range(2))
    cut = data.draw(st.integers(0, len(lines)))
    books.record(together, lines[:cut])
    books.record(together, lines[data.draw(st.integers(0, cut)) :])
    for one in lines:
        books.record(singly, [one])
    assert told(books, together) == told(books, singly)


@pytest.mark.parametrize("final", sorted(FINAL - {RunState.CRASHED}))
def test_the_first_of_two_final_words_stays(books: RunStore, final: RunState) -> None:
    run = books.create(new_run(), RunState.RUNNING)
    books.record(run.id, [state_line(1, final, at=1)])
    for number, other in enumerate(sorted(FINAL), start=2):
        books.record(run.id, [state_line(number, other, at=number)])
    after = books.run(run.id)
    assert (after.state, after.ended_at) == (final, moment(1))
