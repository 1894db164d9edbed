"""A journal: what it writes, when it waits for the disk, and what it does not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from nectar import errors
from nectar.runs import Journal, NewRun, RunState, this_process
from nectar.runs.lines import LINE_LIMIT

NOW = datetime(2026, 11, 20, tzinfo=timezone.utc)


def read(journal: Journal) -> list[dict[str, object]]:
    """Return what a journal's lines say."""
    return [json.loads(line) for line in journal.path.read_bytes().splitlines()]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was synced to the disk, in its order."""
    names: list[str] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        sync(descriptor)
        names.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fsync", note)
    return names


def test_the_first_and_the_last_word_wait_for_the_disk_and_no_other_does(tmp_path: Path, synced: list[str]) -> None:
    with Journal(tmp_path / "journals", "run-one") as journal:
        assert journal.create(NewRun("run-one", NOW))
        assert synced == ["journals", "run-one.jsonl"]
        synced.clear()
        journal.state(RunState.RUNNING)
        journal.step("a", "ATask()", "running")
        journal.attempt("a", 1)
        journal.event("note")
        assert synced == []
        assert journal.state(RunState.SUCCESS)
        assert synced == ["run-one.jsonl"]


def test_of_several_who_claim_a_journal_one_has_it(tmp_path: Path) -> None:
    assert [Journal(tmp_path / "new", "run-1").claim() for _ in range(3)] == [True, False, False]
    journal = Journal(tmp_path / "new", "run-1")
    assert journal.state(RunState.SUCCESS)
    assert len(read(journal)) == 1
    journal.close()
    assert not Journal(tmp_path / "new", "run-1").claim(), "whoever comes late, too"


def test_where_the_disk_fails_nobody_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert Journal(tmp_path / "file", "run-1").claim()


def test_lines_are_numbered_and_say_what_happened_and_when(tmp_path: Path) -> None:
    with Journal(tmp_path, "run-one") as journal:
        journal.create(NewRun("run-one", NOW), at=NOW)
        journal.state(RunState.RUNNING, at=NOW)
        journal.step("a", "ATask()", "failed", error="it broke", seconds=1.5, at=NOW)
        journal.attempt("a", 1, task="ATask()", outcome="failed", at=NOW)
        journal.event("note", task="ATask()", detail=[1], at=NOW)
    lines = read(journal)
    micros = int(NOW.timestamp()) * 10**6
    me = this_process().to_json()
    assert [line["number"] for line in lines] == [1, 2, 3, 4, 5]
    assert {(line["run"], line["at"], line["writer"]) for line in lines} == {("run-one", micros, lines[0]["writer"])}
    assert [line["kind"] for line in lines] == ["run created", "run state", "step ended", "attempt ended", "note"]
    assert lines[0]["created"] == {"new": NewRun("run-one", NOW).to_json(), "state": "STARTING", "process": me}
    assert lines[1]["state"] == {"state": "RUNNING", "process": me}
    assert lines[2]["step"] == {"ref": "a", "status": "failed", "error": "it broke", "seconds": 1.5}
    assert lines[3]["attempt"] == {"ref": "a", "number": 1, "outcome": "failed"}
    assert (lines[4]["task"], lines[4]["detail"]) == ("ATask()", [1])


def test_many_steps_that_ended_alike_are_a_line_each(tmp_path: Path) -> None:
    with Journal(tmp_path, "run-one") as journal:
        assert journal.steps([], "skipped")
        assert journal.steps(((f"s{number}", f"ATask(n={number})", None) for number in range(1000)), "skipped")
        assert journal.step("t", "ATask()", "skipped", path="chains/a")
        assert journal.steps([("u", "ATask()", "chains/a")], "skipped")
    lines = read(journal)
    assert [line["number"] for line in lines] == list(range(1, 1003))
    assert {line["kind"] for line in lines} == {"step ended"}
    assert [line["task"] for line in lines[:1000]] == [f"ATask(n={number})" for number in range(1000)]
    assert lines[0]["step"] == {"ref": "s0", "status": "skipped"}
    assert lines[-1]["step"] == {"ref": "u", "status": "skipped", "path": "chains/a"}


def test_a_line_has_64_kib_at_most(tmp_path: Path) -> None:
    with Journal(tmp_path, "run-one") as journal:
        journal.step("a", "ATask()" * 10_000, "failed", error="x" * 10**6, hint="\ud800" * 10**5)
        journal.event("note", detail={str(number): "x" * 100 for number in range(10_000)})
    assert [len(line) <= LINE_LIMIT for line in journal.path.read_bytes().splitlines(keepends=True)] == [True] * 2
    assert [line["kind"] for line in read(journal)] == ["step ended", "note"]


def test_a_forked_child_is_a_writer_of_its_own(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "run-one")
    journal.event("parent")
    child = os.fork()
    if not child:
        journal.event("child")
        os._exit(0)
    os.waitpid(child, 0)
    journal.event("parent")
    journal.close()
    first, second, third = read(journal)
    assert first["writer"] == third["writer"] != second["writer"]
    assert [line["number"] for line in (first, second, third)] == [1, 1, 2]


def test_a_beat_is_a_sign_of_life_and_no_line(tmp_path: Path) -> None:
    with Journal(tmp_path, "run-one") as journal:
        journal.event("note")
        os.utime(journal.path, (1, 1))
        journal.beat()
        assert journal.path.stat().st_mtime > 1
        assert len(read(journal)) == 1
        journal.path.unlink()
        journal.beat()
        assert journal.path.exists()


def test_a_journal_that_was_closed_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "run-one")
    for _ in range(2):
        journal.event("note")
        journal.close()
    journal.close()
    assert [line["number"] for line in read(journal)] == [1, 2]


def test_a_journal_follows_no_link(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "run-one.jsonl").symlink_to(precious)
    with Journal(tmp_path, "run-one") as journal:
        assert not journal.create(NewRun("run-one", NOW))
    assert precious.read_text() == "kept" and len(caplog.records) == 1


@pytest.mark.parametrize("name", ["../../x", "a/b", "", ".x"])
def test_an_id_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.UsageError):
        Journal(tmp_path, name)


def test_writing_a_journal_imports_no_database(tmp_path: Path) -> None:
    program = (
        "import sys; from nectar.runs import Journal, open_books; Journal(sys.argv[1], 'x').event('note'); "
        "sys.exit('sqlalchemy' in sys.modules or 'psycopg' in sys.modules or 'sqlite3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == 0
