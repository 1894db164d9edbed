"""The books answer: which runs, page after page, and what happened in one."""

from __future__ import annotations

import random
import string
from datetime import timedelta

import pytest
from run_samples import KEY, PATH, line, moment, new_run, step_line

from nectar import errors
from nectar.runs import Filter, NewRun, Root, RunState, RunStore

LETTERS = string.ascii_lowercase


def fill(books: RunStore) -> list[NewRun]:
    """Make 26 runs, newest first; of every two neighbours that were made at one time the later id comes first."""
    made = []
    for number, letter in enumerate(LETTERS):
        chain = f"etl/chain{number % 3}"
        root = Root(f"{letter.upper()}Task(n={number})", chain, {}, f"chains/{chain}/{letter}", KEY[::-1])
        new = new_run(
            f"run-{letter}",
            created_at=moment(number // 2),
            roots=(root, Root("OtherTask()", "etl/other")) if number % 5 == 0 else (root,),
            tags={"parity": "odd" if number % 2 else "even", "letter": letter},
            source="cli" if number < 4 else "http",
        )
        books.create(new, RunState.RUNNING if number % 4 == 0 else RunState.QUEUED)
        made.append(new)
    return made[::-1]


@pytest.fixture
def many(books: RunStore) -> list[NewRun]:
    """26 runs."""
    return fill(books)


@pytest.fixture(scope="module")
def full(lasting_books: RunStore) -> RunStore:
    """Books of 26 runs, which are only asked."""
    fill(lasting_books)
    return lasting_books


def ids(books: RunStore, wanted: Filter) -> str:
    """Return the last letters of the wanted runs, page by page."""
    found, token = [], None
    while True:
        page = books.list(wanted, 4, token)
        assert len(page.rows) == 4 or page.next is None
        found += [run.id[-1] for run in page.rows]
        token = page.next
        if token is None:
            return "".join(found)


def test_pages_give_every_run_once_newest_first(full: RunStore) -> None:
    assert ids(full, Filter()) == LETTERS[::-1]


def test_books_without_runs_give_an_empty_page(books: RunStore) -> None:
    assert books.list().to_json() == {"rows": [], "next": None}


def test_new_runs_between_two_pages_shift_nothing(books: RunStore, many: list[NewRun]) -> None:
    page = books.list(Filter(), 10)
    books.create(new_run("run-new", created_at=moment(1000)))
    following = books.list(Filter(), 100, page.next)
    assert [run.id for run in (*page.rows, *following.rows)] == [new.id for new in many]


FILTERS = {
    "states": (Filter(states=(RunState.RUNNING, RunState.FAILURE)), lambda n, c: n % 4 == 0),
    "chain": (Filter(chain="etl/chain1"), lambda n, c: n % 3 == 1),
    "chain of the second root": (Filter(chain="etl/other"), lambda n, c: n % 5 == 0),
    "task": (Filter(task="CTask(n=2)"), lambda n, c: c == "c"),
    "one tag": (Filter(tags={"parity": "odd"}), lambda n, c: n % 2),
    "both tags": (Filter(tags={"parity": "odd", "letter": "d"}), lambda n, c: c == "d"),
    "tags of two runs": (Filter(tags={"parity": "even", "letter": "d"}), lambda n, c: False),
    "source": (Filter(source="cli"), lambda n, c: n < 4),
    "since": (Filter(since=moment(5)), lambda n, c: n >= 10),
    "until": (Filter(until=moment(5)), lambda n, c: n < 10),
    "since and until": (Filter(since=moment(5), until=moment(6)), lambda n, c: n in (10, 11)),
    "path": (Filter(path="chains/etl/chain0/g"), lambda n, c: c == "g"),
    "key": (Filter(key=KEY[::-1]), lambda n, c: True),
    "another key": (Filter(key=KEY), lambda n, c: False),
    "text of a task": (Filter(text="dtask("), lambda n, c: c == "d"),
    "text of an id": (Filter(text="RUN-Q"), lambda n, c: c == "q"),
    "text of a tag": (Filter(text="odd"), lambda n, c: n % 2),
    "text with wildcards": (Filter(text="%"), lambda n, c: False),
    "text of SQL": (Filter(text="' OR 1=1 --"), lambda n, c: False),
    "all of it": (Filter((RunState.RUNNING,), "etl/chain2", tags={"parity": "even"}), lambda n, c: n % 12 == 8),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_gives_the_runs_for_which_all_of_it_holds(full: RunStore, name: str) -> None:
    wanted, holds = FILTERS[name]
    assert ids(full, wanted) == "".join(c for n, c in reversed([*enumerate(LETTERS)]) if holds(n, c))


def test_runs_are_found_by_the_text_of_their_error(books: RunStore, many: list[NewRun]) -> None:
    books.advance("run-a", RunState.FAILURE, at=moment(9), error="The Disk is full")
    assert ids(books, Filter(text="disk IS")) == "a"


@pytest.mark.parametrize("size", [0, -1, 1001, 10**9])
def test_a_page_of_another_size_is_refused(books: RunStore, size: int) -> None:
    with pytest.raises(errors.UsageError):
        books.list(Filter(), size)


def test_a_token_that_was_not_given_for_these_runs_is_refused(books: RunStore, many: list[NewRun]) -> None:
    token = books.list(Filter(), 4).next or ""
    forged = [("A" if token[at] != "A" else "B").join((token[:at], token[at + 1 :])) for at in range(len(token) - 1)]
    for wrong in [*forged, token + "A", token[:-4], "", "x", "%00", "ü", "=" * 8]:
        with pytest.raises(errors.UsageError):
            books.list(Filter(), 4, wrong)
    with pytest.raises(errors.UsageError):
        books.list(Filter(source="cli"), 4, token)


def test_a_run_is_found_by_the_only_beginning_of_its_id(books: RunStore) -> None:
    for name in ("20261120T12", "20261120T12-more", "20261121T12", "20261120X"):
        books.create(new_run(name))
    assert books.find("20261121").id == "20261121T12"
    assert books.find("20261120T12").id == "20261120T12", "an id that is whole is not ambiguous"
    assert books.find("20261120T12-").id == "20261120T12-more"
    with pytest.raises(errors.RunAmbiguous) as several:
        books.find("20261120")
    assert "20261120T12-more" in (several.value.hint or "")
    for prefix in ("20261122", "%%%%%%%", "20261120%", "______", "' OR '1'='1"):
        with pytest.raises(errors.RunNotFound):
            books.find(prefix)
    with pytest.raises(errors.UsageError):
        books.find("20261")


def test_an_id_is_found_however_short_it_is(books: RunStore) -> None:
    books.create(new_run("abc"))
    assert books.find("abc").id == "abc"


@pytest.mark.parametrize("ask", ["run", "find", "steps", "attempts", "events"])
def test_a_run_that_is_not_there_is_an_error_everywhere(books: RunStore, ask: str) -> None:
    with pytest.raises(errors.RunNotFound) as missing:
        getattr(books, ask)("no-such-run")
    assert (missing.value.http_status, missing.value.exit_code) == (404, 2)


def test_events_are_numbered_without_gaps_and_given_in_parts(books: RunStore) -> None:
    run = books.create(new_run(), RunState.RUNNING)
    for number in range(1, 30, 3):
        books.record(run.id, [line(number, kind=f"k{number}"), line(number + 1), line(number + 2, "2-b")])
        books.record(run.id, [line(number)])
    every = books.events(run.id)
    assert [event.number for event in every] == list(range(1, 32))
    assert books.events(run.id, after=10, limit=5) == every[10:15]
    assert books.events(run.id, after=31) == []
    assert books.run(run.id).events == 31
    for limit in (0, 10_001):
        with pytest.raises(errors.UsageError):
            books.events(run.id, limit=limit)


def test_steps_come_in_the_order_in_which_they_were_heard_of(books: RunStore) -> None:
    run = books.create(new_run(), RunState.RUNNING)
    books.record(run.id, [step_line(n, ref, "running", at=9 - n) for n, ref in enumerate("zabx", start=1)])
    books.record(run.id, [step_line(7, "b", "failed", at=20, error="e", code="c", hint="h", path=PATH)])
    assert [step.ref for step in books.steps(run.id)] == list("zabx")
    failed = books.steps(run.id)[2].to_json()
    assert {name: failed[name] for name in ("error", "code", "hint", "path")} == {
        "error": "e",
        "code": "c",
        "hint": "h",
        "path": PATH,
    }
    assert books.run(run.id).counts == {"running": 3, "failed": 1}


def test_a_target_names_the_runs_that_asked_for_it_and_those_that_made_it(books: RunStore) -> None:
    asked = books.create(new_run(created_at=moment(1)))
    made = books.create(new_run(created_at=moment(2), roots=()), RunState.RUNNING)
    books.create(new_run(created_at=moment(3), roots=()))
    books.record(made.id, [step_line(1, "a", "succeeded", path=PATH)])
    books.record(asked.id, [step_line(1, "a", "skipped", path=PATH)])
    assert [run.id for run in books.of_target(PATH)] == [made.id, asked.id]
    assert [run.id for run in books.of_target(PATH, size=1)] == [made.id]
    assert books.of_target("chains/etl/none") == []


def test_every_answer_is_json(books: RunStore) -> None:
    run = books.create(new_run(), RunState.RUNNING)
    books.record(run.id, [step_line(1, "a", "running"), line(2, attempt={"ref": "a", "number": 1})])
    document = books.run(run.id).to_json()
    assert NewRun.from_json(document) == run.new
    assert (document["state"], document["heard_at"]) == ("RUNNING", moment(0).isoformat())
    for one in (books.steps(run.id)[0], books.attempts(run.id)[0]):
        assert one.to_json()["run_id"] == run.id
    assert moment(0) + timedelta(0) == books.events(run.id)[1].at


def test_a_run_is_found_by_texts_that_are_longer_than_an_index_takes(books: RunStore) -> None:
    # No index can make them shorter: 10,000 characters of which each takes four bytes, and none follows from others.
    long = "".join(map(chr, random.Random(1).choices(range(0x20000, 0x2A000), k=10_000)))
    task, tags = f"LongTask(text={long})", {f"name {long}": f"value {long}"}
    new = new_run("run-long", roots=(Root(task, "etl/long", {"text": long}),), tags=tags)
    assert books.create(new).new == new == books.run(new.id).new
    for wanted in (Filter(task=task), Filter(tags=tags), Filter(task=task, tags=tags, chain="etl/long")):
        assert [run.id for run in books.list(wanted).rows] == [new.id]
    other = long[:-1] + "x"
    for wanted in (Filter(task=f"LongTask(text={other})"), Filter(tags={f"name {long}": f"value {other}"})):
        assert not books.list(wanted).rows
    assert [run.id for run in books.list(Filter(text="longtask(")).rows] == [new.id]
