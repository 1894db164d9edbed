"""Books in PostgreSQL: a server that is away for a while is waited for, and no acknowledged run is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy
from postgres import Postgres
from run_samples import NOW, new_run, write_run

from nectar import errors
from nectar.runs import RunState, RunStore, open_books


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.new_database()


class Stream:
    """Runs that are made and advanced one after the other, and which of them were acknowledged."""

    def __init__(self, store: RunStore) -> None:
        self.acknowledged: list[str] = []
        self.problems: list[Exception] = []
        self._store, self._ended = store, threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        try:
            while not self._ended.is_set():
                run = self._store.create(new_run(f"run-{len(self.acknowledged):06}"))
                self._store.advance(run.id, RunState.RUNNING, at=NOW)
                self.acknowledged.append(run.id)
        except Exception as problem:  # noqa: BLE001  whatever it is, the test shows it
            self.problems.append(problem)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def wait_for(self, more: int) -> None:
        """Wait until so many more were acknowledged."""
        wanted, deadline = len(self.acknowledged) + more, time.monotonic() + 60
        while len(self.acknowledged) < wanted and not self.problems:
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)


@pytest.mark.parametrize("end", [Postgres.stop, Postgres.kill])
def test_a_server_that_is_restarted_in_the_middle_of_writes_loses_no_acknowledged_run(
    postgres: Postgres, url: str, end: Callable[[Postgres], None]
) -> None:
    store = open_books(url)
    with Stream(store) as stream:
        for _ in range(3):
            stream.wait_for(20)
            end(postgres)
            postgres.start()
        stream.wait_for(20)
    assert stream.problems == []
    runs = {run.id: run for run in store.list(size=1000).rows}
    assert not [run_id for run_id in stream.acknowledged if runs[run_id].state is not RunState.RUNNING]
    assert {len(store.events(run_id)) for run_id in stream.acknowledged} == {2}
    store.close()


def test_journals_are_taken_in_whole_while_the_server_is_restarted(postgres: Postgres, url: str, folder: Path) -> None:
    for number in range(30):
        write_run(folder, f"run-{number:02}", steps=100)
    store = open_books(url)
    store.tokens()
    restart = threading.Thread(target=lambda: (postgres.kill(), postgres.start()))
    restart.start()
    try:
        store.take_in(folder)
    finally:
        restart.join()
    for run in store.list().rows:
        assert (run.state, run.events, run.counts) == (RunState.SUCCESS, 403, {"succeeded": 100})
    assert len(store.list().rows) == 30
    store.close()


def test_a_server_that_stays_away_is_an_error_that_says_so(postgres: Postgres, url: str) -> None:
    store = open_books(url.replace("nectar@", "nectar:sesame@"), patience_s=1.0)
    store.create(new_run("run-one"))
    postgres.stop()
    try:
        for act in (store.list, lambda: store.create(new_run())):
            with pytest.raises(errors.RunStoreUnreachable) as refused:
                act()
            assert (refused.value.exit_code, refused.value.http_status) == (5, 503)
            assert "sesame" not in str(refused.value)
    finally:
        postgres.start()
    assert [run.id for run in store.list().rows] == ["run-one"]
    store.close()


def test_a_server_that_was_never_there_is_not_waited_for_long(tmp_path: Path) -> None:
    store = open_books(f"postgresql://nectar@/nothing?host={tmp_path}")
    began = time.monotonic()
    with pytest.raises(errors.RunStoreUnreachable):
        store.list()
    assert time.monotonic() - began < 20


def test_a_database_that_is_not_there_is_an_error_at_once(postgres: Postgres, url: str) -> None:
    store = open_books(url.replace("books_", "absent_"))
    with pytest.raises(errors.RunStoreUnreachable) as refused:
        store.list()
    assert "does not exist" in refused.value.message


def test_a_database_of_another_program_is_refused_and_not_changed(url: str) -> None:
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE runs (id TEXT)"))
    store = open_books(url)
    with pytest.raises(errors.RunStoreInvalid) as refused:
        store.list()
    assert "database of its own" in (refused.value.hint or "")
    store.close()
    assert sqlalchemy.inspect(engine).get_table_names() == ["runs"]
    engine.dispose()


def test_a_row_that_is_locked_for_too_long_is_an_error_that_says_so(url: str) -> None:
    store = open_books(url, patience_s=0.5)
    store.create(new_run("run-one"))
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT 1 FROM runs FOR UPDATE"))
        with pytest.raises(errors.RunStoreUnreachable) as refused:
            store.advance("run-one", RunState.RUNNING, at=NOW)
        assert "lock" in refused.value.message
    engine.dispose()
    assert store.advance("run-one", RunState.RUNNING, at=NOW).state is RunState.RUNNING
    store.close()
