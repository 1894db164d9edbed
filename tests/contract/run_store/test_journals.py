"""What runs write down comes into the books: once, whole lines alone, and journals go when they are done with."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from run_samples import NOW, at_once, new_run, write_run

from nectar.runs import Journal, RunState, RunStore, Taken, open_books

MINUTE_S, DAY_S = 61, 86_401


def age(path: Path, seconds: float) -> None:
    """Let a file be as if it was last written so long ago."""
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_a_journal_becomes_run_steps_attempts_and_events(books: RunStore, folder: Path) -> None:
    write_run(folder, "run-one")
    assert books.take_in(folder) == Taken(lines=15, runs=1)
    run = books.run("run-one")
    assert (run.state, run.counts, run.events) == (RunState.SUCCESS, {"succeeded": 3}, 15)
    assert run.new == new_run("run-one")
    assert run.process is not None and run.process.pid == os.getpid()
    assert run.started_at is not None and run.ended_at is not None and run.started_at <= run.ended_at
    first = books.steps("run-one")[0]
    assert (first.ref, first.task, first.status, first.attempts) == ("s0", "StepTask(n=0)", "succeeded", 1)
    assert (first.seconds, first.logs) == (0.25, "logs/0")
    (tried,) = books.attempts("run-one", "s2")
    assert (tried.attempt, tried.outcome) == ("try-2", "succeeded")
    assert books.take_in(folder) == Taken()


def test_a_folder_that_is_not_there_has_no_journals(books: RunStore, folder: Path) -> None:
    assert books.take_in(folder) == Taken()


def test_what_a_run_adds_is_taken_in_the_next_time(books: RunStore, folder: Path) -> None:
    with Journal(folder, "run-one") as journal:
        journal.create(new_run("run-one"))
        assert books.take_in(folder).lines == 1
        assert books.run("run-one").state is RunState.STARTING
        journal.state(RunState.RUNNING)
        assert books.take_in(folder).lines == 1
        assert books.run("run-one").state is RunState.RUNNING
        journal.event("note", detail={"x": 1})
        journal.state(RunState.FAILURE, error="it broke")
        assert books.take_in(folder).lines == 2
    assert books.run("run-one").error == "it broke"


def test_a_journal_never_brings_a_run_into_the_queue(books: RunStore, folder: Path) -> None:
    with Journal(folder, "run-one") as journal:
        journal.create(new_run("run-one"))
        books.take_in(folder)
        assert books.claim("server", now=NOW) is None


def test_a_run_from_the_queue_goes_on_in_its_journal(books: RunStore, folder: Path) -> None:
    books.create(new_run("run-one"))
    assert books.claim("server", now=NOW)
    write_run(folder, "run-one")
    books.take_in(folder)
    run = books.run("run-one")
    assert (run.state, run.server, run.new) == (RunState.SUCCESS, "server", new_run("run-one"))


def test_an_unfinished_line_waits_until_it_is_whole(books: RunStore, folder: Path) -> None:
    journal = write_run(folder, "run-one", final=None)
    whole = journal.path.read_bytes()
    cut = whole[: whole.rindex(b'"seconds"')]
    journal.path.write_bytes(cut)
    assert books.take_in(folder).lines == 13
    assert books.take_in(folder) == Taken()
    assert books.run("run-one").counts == {"succeeded": 2, "running": 1}
    with journal.path.open("ab") as file:
        file.write(whole[len(cut) :])
    assert books.take_in(folder) == Taken(lines=1, runs=1)
    assert books.run("run-one").counts == {"succeeded": 3}


def test_a_sign_of_life_comes_in_without_a_line(books: RunStore, folder: Path) -> None:
    journal = write_run(folder, "run-one", final=None)
    books.take_in(folder)
    before = books.run("run-one")
    os.utime(journal.path, ns=(time.time_ns(), time.time_ns() + 10**9))
    assert books.take_in(folder) == Taken(runs=1)
    after = books.run("run-one")
    assert after.heard_at is not None and before.heard_at is not None and after.heard_at > before.heard_at
    assert after.events == before.events


def test_a_journal_whose_run_has_ended_goes_after_a_minute(books: RunStore, folder: Path) -> None:
    ended, at_work = write_run(folder, "run-ended"), write_run(folder, "run-at-work", final=None)
    assert books.take_in(folder).removed == 0
    age(ended.path, MINUTE_S)
    age(at_work.path, 10 * DAY_S)
    assert books.take_in(folder).removed == 1
    assert [path.name for path in folder.iterdir()] == ["run-at-work.jsonl"]
    assert books.run("run-ended").events == 15


def test_the_journal_of_a_run_that_is_thought_dead_is_kept_for_a_day(books: RunStore, folder: Path) -> None:
    journal = write_run(folder, "run-one", final=None)
    books.take_in(folder)
    books.advance("run-one", RunState.CRASHED, at=NOW)
    age(journal.path, 60 * MINUTE_S)
    assert books.take_in(folder).removed == 0
    journal.state(RunState.SUCCESS)
    journal.close()
    books.take_in(folder)
    assert books.run("run-one").state is RunState.SUCCESS
    age(journal.path, MINUTE_S)
    assert books.take_in(folder).removed == 1


@pytest.mark.parametrize("content", [b"", b'{"run":"run-one","wri'])
def test_a_journal_that_says_nothing_goes_after_a_day(books: RunStore, folder: Path, content: bytes) -> None:
    folder.mkdir()
    path = folder / "run-one.jsonl"
    path.write_bytes(content)
    age(path, 60 * MINUTE_S)
    assert books.take_in(folder).removed == 0
    age(path, DAY_S)
    books.take_in(folder)
    assert not path.exists() or content


def test_a_journal_with_half_a_line_at_its_end_goes_after_a_day(books: RunStore, folder: Path) -> None:
    journal = write_run(folder, "run-one")
    with journal.path.open("ab") as file:
        file.write(b'{"run":"run-one","wri')
    age(journal.path, 60 * MINUTE_S)
    assert books.take_in(folder).removed == 0
    age(journal.path, DAY_S)
    assert books.take_in(folder).removed == 1


def test_a_journal_that_was_removed_under_its_writer_is_made_again(books: RunStore, folder: Path) -> None:
    with Journal(folder, "run-one") as journal:
        journal.create(new_run("run-one"))
        books.take_in(folder)
        books.advance("run-one", RunState.CRASHED, at=NOW)
        age(journal.path, DAY_S)
        assert books.take_in(folder).removed == 1
        assert journal.state(RunState.SUCCESS)
    assert books.take_in(folder).lines == 1
    assert books.run("run-one").state is RunState.SUCCESS


def test_a_journal_that_comes_back_counts_nothing_twice(books: RunStore, folder: Path) -> None:
    journal = write_run(folder, "run-one")
    copy = journal.path.read_bytes()
    books.take_in(folder)
    before = books.events("run-one")
    journal.path.unlink()
    journal.path.write_bytes(copy)
    assert books.take_in(folder).lines == 0
    elsewhere = folder.with_name("copied")
    folder.rename(elsewhere)
    assert books.take_in(elsewhere).lines == 0
    assert books.events("run-one") == before


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "garbage": lambda line: b"\xff\x00garbage\n",
    "zeros glued to a line": lambda line: b"\0" * 4096 + line,
    "half a line glued to a line": lambda line: line[: len(line) // 2] + line,
    "a line of another run": lambda line: line.replace(b"run-one", b"run-two"),
    "json that is no line": lambda line: b'[1]\n{}\n{"run":"run-one"}\n"x"\nnull\n',
    "numbers that no database holds": lambda line: line.replace(b'"number":', b'"number":1' + b"0" * 30),
    "a number that is none": lambda line: line.replace(b'"number":', b'"number":"7","was":'),
    "a time in the year 10000": lambda line: line.replace(b'"at":', b'"at":9'),
    "nesting": lambda line: b"[" * 60_000 + b"\n",
    "not a number": lambda line: line.replace(b'"seconds":0.25', b'"seconds":NaN'),
    "members of other types": lambda line: line.replace(b'"ref":"s2"', b'"ref":[]').replace(
        b'"number":', b'"number":9'
    ),
    "empty lines": lambda line: b"\n\n\r\n",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_damaged_is_left_out_and_hides_nothing_else(
    books: RunStore, folder: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    journal = write_run(folder, "run-one")
    lines = journal.path.read_bytes().splitlines(keepends=True)
    lines.insert(7, DAMAGE[name](lines[-2]))
    journal.path.write_bytes(b"".join(lines))
    with caplog.at_level(logging.WARNING, logger="nectar"):
        taken = books.take_in(folder)
    assert bool(taken.damaged) == ("cannot be read" in caplog.text)
    run = books.run("run-one")
    assert (run.state, run.counts) == (RunState.SUCCESS, {"succeeded": 3})
    assert books.take_in(folder) == Taken()
    age(journal.path, MINUTE_S)
    assert books.take_in(folder).removed == 1


def test_a_long_file_without_a_line_s_end_is_passed_over(books: RunStore, folder: Path) -> None:
    journal = write_run(folder, "run-one", final=None)
    with journal.path.open("ab") as file:
        file.write(b"\0" * (3 << 20))
    journal.state(RunState.SUCCESS)
    journal.close()
    assert books.take_in(folder).lines == 15
    assert books.run("run-one").state is RunState.SUCCESS


def test_what_is_no_journal_is_left_alone(books: RunStore, folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    outside = write_run(tmp_path / "outside", "run-one").path
    (folder / "run-one.jsonl").symlink_to(outside)
    (folder / "folder.jsonl").mkdir()
    (folder / ".hidden.jsonl").write_bytes(b"x\n")
    (folder / "notes.txt").write_bytes(b"x\n")
    assert books.take_in(folder) == Taken()
    assert len(list(folder.iterdir())) == 4 and books.list().rows == ()


def test_long_journals_are_taken_in_by_several_transactions_and_whole(books: RunStore, folder: Path) -> None:
    with Journal(folder, "run-one") as journal:
        journal.create(new_run("run-one"))
        for number in range(300):
            journal.event("note", detail={"number": number, "text": "x" * 10_000})
        journal.state(RunState.SUCCESS)
    assert journal.path.stat().st_size > 3 * (1 << 20) * 0.9
    assert books.take_in(folder).lines == 302
    events = books.events("run-one")
    assert [event.detail["number"] for event in events[1:-1]] == list(range(300))


def test_many_journals_are_taken_in_at_once(books: RunStore, folder: Path) -> None:
    for number in range(60):
        write_run(folder, f"run-{number:03}", steps=1)
    assert books.take_in(folder) == Taken(lines=60 * 7, runs=60)
    assert {run.state for run in books.list(size=100).rows} == {RunState.SUCCESS}


def _take_in(number: int, url: str, folder: Path) -> Taken:
    store = open_books(url)
    try:
        if number == 0:
            return write_and_take(store, folder)
        return sum((store.take_in(folder) for _ in range(10)), Taken())
    finally:
        store.close()


def write_and_take(store: RunStore, folder: Path) -> Taken:
    """Write a run while others take in, and take in."""
    taken = Taken()
    with Journal(folder, "run-late") as journal:
        journal.create(new_run("run-late"))
        for number in range(200):
            journal.step(f"s{number}", "LateTask()", "running")
            journal.step(f"s{number}", "LateTask()", "succeeded")
            if number % 20 == 0:
                taken += store.take_in(folder)
        journal.state(RunState.SUCCESS)
    return taken + store.take_in(folder)


def test_several_processes_that_take_in_at_once_count_each_line_once(
    books: RunStore, books_url: str, folder: Path
) -> None:
    for number in range(20):
        age(write_run(folder, f"run-{number:03}").path, MINUTE_S)
    answers = at_once(4, _take_in, books_url, folder)
    assert sum(taken.lines for taken in answers) == 20 * 15 + 402
    assert sum(taken.removed for taken in answers) == 20
    for run in books.list(size=100).rows:
        events = books.events(run.id)
        assert [event.number for event in events] == list(range(1, run.events + 1))
        assert run.events == (402 if run.id == "run-late" else 15)
        assert run.counts == {"succeeded": 200 if run.id == "run-late" else 3}
