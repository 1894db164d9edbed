"""Books in SQLite: a locked file is waited for, and what is not ours is refused and stays as it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_samples import NOW, new_run, write_run

from nectar import errors
from nectar.runs import RunState, RunStore, open_books

LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have another process hold the lock of SQLite's file."""
    command = [sys.executable, "-c", LOCKER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"locked\n"
            yield process
        finally:
            process.kill()


def test_a_lock_is_waited_for(books: RunStore, books_path: Path) -> None:
    books.create(new_run("run-one"))
    with locked(books_path) as process:
        threading.Timer(2.0, process.kill).start()
        began = time.monotonic()
        books.advance("run-one", RunState.RUNNING, at=NOW)
        assert time.monotonic() - began > 1.0
    assert books.run("run-one").state is RunState.RUNNING


def test_readers_do_not_wait_for_a_lock(books: RunStore, books_path: Path) -> None:
    books.create(new_run("run-one"))
    with locked(books_path):
        assert books.run("run-one").id == "run-one"


def test_a_lock_that_stays_is_an_error_that_says_so(books: RunStore, books_path: Path, folder: Path) -> None:
    books.create(new_run("run-one"))
    hasty = open_books(f"sqlite:///{books_path}", patience_s=0.3)
    with locked(books_path):
        for act in (lambda: hasty.create(new_run("run-two")), lambda: hasty.claim("s", now=NOW)):
            with pytest.raises(errors.RunStoreUnreachable) as refused:
                act()
            assert "locked" in refused.value.message and refused.value.exit_code == 5
        write_run(folder, "run-three")  # a run goes on
        with pytest.raises(errors.RunStoreUnreachable):
            hasty.take_in(folder)
    assert hasty.take_in(folder).runs == 1
    hasty.close()
    assert sorted(run.id for run in books.list().rows) == ["run-one", "run-three"]


def _other_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (id TEXT)")
    connection.execute("INSERT INTO runs VALUES ('precious')")
    connection.commit()
    connection.close()


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(20_000))


def _damaged(path: Path) -> None:
    with contextlib.closing(open_books(f"sqlite:///{path}")) as store:
        for number in range(50):
            store.create(new_run(f"run-{number}"))
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    path.write_bytes(raw)


def _cut(path: Path) -> None:
    with contextlib.closing(open_books(f"sqlite:///{path}")) as store:
        store.create(new_run())
    os.truncate(path, 5000)


REFUSED = {
    "an empty file": lambda path: path.write_bytes(b""),
    "a text": lambda path: path.write_text("no database\n" * 30),
    "the beginning of one": lambda path: path.write_bytes(b"SQLite format 3\0"),
    "garbage": _garbage,
    "another program's": _other_program,
    "damaged pages": _damaged,
    "cut off": _cut,
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_not_ours_is_refused_with_advice_and_not_touched(books_path: Path, name: str) -> None:
    books_path.parent.mkdir(parents=True)
    REFUSED[name](books_path)
    before = None if books_path.is_dir() else books_path.read_bytes()
    store = open_books(f"sqlite:///{books_path}")
    acts = (store.list, lambda: store.create(new_run()), lambda: store.claim("s", now=NOW))
    for act in acts:
        with pytest.raises(errors.RunStoreInvalid) as refused:
            act()
        assert str(books_path) in refused.value.message
        assert "targets are not touched" in (refused.value.hint or "")
        assert (refused.value.exit_code, refused.value.http_status) == (5, 503)
    store.close()
    assert (None if books_path.is_dir() else books_path.read_bytes()) == before


def test_following_the_advice_history_begins_anew_and_journals_are_taken_in_again(
    books_path: Path, folder: Path
) -> None:
    _damaged(books_path)
    write_run(folder, "run-one")
    store = open_books(f"sqlite:///{books_path}")
    with pytest.raises(errors.RunStoreInvalid):
        store.take_in(folder)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{books_path}{suffix}").unlink(missing_ok=True)
    assert store.take_in(folder).runs == 1
    assert [run.id for run in store.list().rows] == ["run-one"]
    store.close()


def test_a_log_that_was_left_without_its_file_is_never_taken_for_the_next_one_s(
    books: RunStore, books_path: Path
) -> None:
    books.create(new_run("run-one"))
    moved, log = books_path.with_name("moved.db"), Path(f"{books_path}-wal")
    shutil.move(books_path, moved)
    with pytest.raises(errors.RunStoreInvalid) as refused:
        books.create(new_run("run-two"))
    assert log.name in refused.value.message
    shutil.move(log, f"{moved}-wal")
    books.create(new_run("run-two"))
    assert [run.id for run in books.list().rows] == ["run-two"]
    with contextlib.closing(sqlite3.connect(moved)) as connection:
        assert connection.execute("SELECT id FROM runs").fetchall() == [("run-one",)]


def test_books_that_are_removed_while_they_are_open_begin_anew(books: RunStore, books_path: Path) -> None:
    books.create(new_run("run-one"))
    for suffix in ("", "-wal", "-shm"):
        Path(f"{books_path}{suffix}").unlink()
    books.create(new_run("run-two"))
    with contextlib.closing(open_books(f"sqlite:///{books_path}")) as others:
        assert [run.id for run in others.list().rows] == ["run-two"]


@pytest.mark.root
def test_books_that_cannot_be_opened_are_unreachable(books_path: Path) -> None:
    books_path.parent.mkdir(parents=True)
    books_path.parent.joinpath("file").write_bytes(b"")
    store = open_books(f"sqlite:///{books_path.parent / 'file' / 'runs.db'}")
    with pytest.raises(errors.RunStoreUnreachable):
        store.list()


def test_the_file_is_synced_with_every_acknowledgement(books: RunStore, books_path: Path) -> None:
    books.create(new_run("run-one"))
    with contextlib.closing(sqlite3.connect(books_path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database = books._database  # type: ignore[attr-defined]
    assert database.read(lambda found: found.exec_driver_sql("PRAGMA synchronous").scalar_one()) == 2
    assert database.read(lambda found: found.exec_driver_sql("PRAGMA foreign_keys").scalar_one()) == 1


CREATOR = """
import sys
from datetime import datetime, timezone
from nectar.runs import NewRun, open_books
books = open_books(sys.argv[1])
number = 0
while True:
    print(books.create(NewRun(f"{sys.argv[2]}-{number}", datetime.now(timezone.utc))).id, flush=True)
    number += 1
"""


def test_after_kill_9_every_run_that_was_acknowledged_is_in_the_books(books: RunStore, books_path: Path) -> None:
    acknowledged: set[str] = set()
    for turn in range(5):
        command = [sys.executable, "-c", CREATOR, f"sqlite:///{books_path}", f"turn{turn}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(10 + turn)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        acknowledged.update(line.strip() for line in lines if line.endswith("\n"))
        assert acknowledged <= {run.id for run in books.list(size=1000).rows}
    assert len(acknowledged) >= 60
