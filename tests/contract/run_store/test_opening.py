"""Books are made when they are first used, by one of all that use them, and those of a newer Nectar are left alone."""

from __future__ import annotations

import os
import threading

import pytest
import sqlalchemy
from run_samples import at_once, new_run

from nectar import errors
from nectar.runs import RunState, RunStore, open_books
from nectar.runs.sql import schema, tables


def engine_of(url: str) -> sqlalchemy.Engine:
    """Return a connection to books behind their back."""
    return sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


def _open(number: int, url: str) -> str:
    store = open_books(url)
    try:
        return store.create(new_run(f"run-{number}")).id
    finally:
        store.close()


def test_of_several_processes_that_begin_at_once_one_makes_the_tables(books_url: str) -> None:
    assert sorted(at_once(8, _open, books_url)) == [f"run-{number}" for number in range(8)]
    store = open_books(books_url)
    assert len(store.list().rows) == 8
    store.close()


def test_the_tables_are_those_that_statements_are_made_of(books: RunStore, books_url: str) -> None:
    books.tokens()
    engine = engine_of(books_url)
    found = sqlalchemy.inspect(engine)
    made = {name: [column["name"] for column in found.get_columns(name)] for name in found.get_table_names()}
    engine.dispose()
    assert made == {table.name: [column.name for column in table.columns] for table in tables.metadata.tables.values()}


def test_books_of_a_newer_nectar_are_refused_and_stay_as_they_are(books: RunStore, books_url: str) -> None:
    books.create(new_run("run-one"))
    books.close()
    engine = engine_of(books_url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.update(tables.schema).values(version=schema.VERSION + 1))
    newer = open_books(books_url)
    for act in (newer.list, lambda: newer.create(new_run())):
        with pytest.raises(errors.RunStoreNewer) as refused:
            act()
        assert "update Nectar" in (refused.value.hint or "") and refused.value.exit_code == 5
    newer.close()
    with engine.begin() as connection:
        connection.execute(sqlalchemy.update(tables.schema).values(version=schema.VERSION))
    engine.dispose()
    assert [run.id for run in books.list().rows] == ["run-one"]


def test_older_books_are_brought_up_to_date_once_by_whoever_comes_first(
    books: RunStore, books_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.create(new_run("run-one"))
    books.close()

    def add_a_table(connection: sqlalchemy.Connection) -> None:
        connection.execute(sqlalchemy.text("CREATE TABLE second (number BIGINT)"))

    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, add_a_table))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    assert len(at_once(4, _open, books_url)) == 4
    engine = engine_of(books_url)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.select(tables.schema.c.version)).scalars().all() == [schema.VERSION]
        assert connection.execute(sqlalchemy.text("SELECT count(*) FROM second")).scalar_one() == 0
    engine.dispose()


def test_a_step_that_fails_leaves_older_books_as_they_were(
    books: RunStore, books_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.create(new_run("run-one"))
    books.close()

    def fail(connection: sqlalchemy.Connection) -> None:
        connection.execute(sqlalchemy.text("CREATE TABLE half (number BIGINT)"))
        raise RuntimeError("the step failed")

    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, fail))
        patched.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(RuntimeError):
            books.list()
    assert [run.id for run in books.list().rows] == ["run-one"]
    engine = engine_of(books_url)
    assert not sqlalchemy.inspect(engine).has_table("half")
    engine.dispose()


def test_books_that_were_open_before_a_fork_serve_parent_and_child(books: RunStore) -> None:
    books.create(new_run("run-parent"))
    child = os.fork()
    if not child:
        code = 1
        try:
            books.advance("run-parent", RunState.RUNNING, at=new_run().created_at)
            books.create(new_run("run-child"))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sorted(run.id for run in books.list().rows) == ["run-child", "run-parent"]
    assert books.run("run-parent").state is RunState.RUNNING


def test_threads_share_books(books: RunStore) -> None:
    def make(number: int) -> None:
        for turn in range(5):
            books.create(new_run(f"run-{number}-{turn}"))

    threads = [threading.Thread(target=make, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(books.list(size=100).rows) == 60


def test_books_that_were_closed_open_again(books: RunStore) -> None:
    books.create(new_run("run-one"))
    books.close()
    books.close()
    assert books.find("run-one").id == "run-one"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://nobody:secret@host/x",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///x?mode=ro",
        "nonsense",
        "",
        "file:///x",
    ],
)
def test_an_address_that_nobody_serves_is_refused_without_telling_its_password(url: str) -> None:
    with pytest.raises(errors.RunStoreNotSupported) as refused:
        open_books(url)
    assert "secret" not in str(refused.value)
    assert (refused.value.http_status, refused.value.exit_code) == (400, 2)
