"""Carry out transactions: connect, wait, try again, and say in our words what went wrong.

Every piece of work that comes here may be done twice: an answer can be lost after the work was done.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, exc, make_url, text

from nectar import errors
from nectar.runs.sql import schema, sqlite_file

_Answer = TypeVar("_Answer")
Work = Callable[[Connection], _Answer]

_FIRST_PATIENCE_S = 2.0  # until a database that never answered counts as away
_PAUSES_S = (0.05, 2.0)

#: of SQLSTATE, what passes: https://www.postgresql.org/docs/current/errcodes-appendix.html
_PASSING = ("08", "40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03", "57P05")
#: of what PostgreSQL says when it refuses a connection, what does not
_FINAL_WORDS = ("password", "pg_hba.conf", "does not exist", "no encryption", "not permitted", "could not translate")


class Lock(IntEnum):
    """What only one transaction does at a time. SQLite has one writer anyway."""

    MIGRATE = 0x4E435401
    TAKE_IN = 0x4E435402
    CLAIM = 0x4E435403
    ENQUEUE = 0x4E435404


@dataclass(frozen=True, slots=True)
class _Live:
    """What one process has."""

    pid: int
    engine: Engine
    file: tuple[int, int] | None  # device and inode, of SQLite's


class Database:
    """A database by its address. Threads share it; a process that was forked makes connections of its own."""

    def __init__(self, url: str, *, patience_s: float) -> None:
        """Take the address apart; nothing is connected before the first transaction.

        Raises:
            RunStoreNotSupported: when no database that we know serves it.
        """
        self._url = _parsed(url)
        self.path = Path(str(self._url.database)).absolute() if self._url.drivername == "sqlite" else None
        self.url = self._url.set(drivername=self._url.get_backend_name()).render_as_string()
        self._patience_s = patience_s
        self._live: _Live | None = None
        self._pid = os.getpid()
        self._making = threading.Lock()

    def read(self, work: Work[_Answer]) -> _Answer:
        """Return the answer of some work that writes nothing.

        Raises:
            RunStoreUnreachable: when the database stays locked or away.
            RunStoreInvalid: when it cannot be read.
        """
        return self._persist(lambda engine: self._transact(engine, work, "BEGIN", None))

    def write(self, work: Work[_Answer], lock: Lock | None = None) -> _Answer:
        """Return the answer of some work once what it wrote outlives a crash; nothing is written where it raises.

        Raises:
            RunStoreUnreachable: when the database stays locked or away.
            RunStoreInvalid: when it cannot be read.
        """
        return self._persist(lambda engine: self._transact(engine, work, "BEGIN IMMEDIATE", lock))

    def close(self) -> None:
        """Close this process's connections; the next transaction opens others."""
        live, self._live = self._live, None
        if live is not None:
            live.engine.dispose(close=live.pid == os.getpid())

    def _transact(self, engine: Engine, work: Work[_Answer], begin: str, lock: Lock | None) -> _Answer:
        with engine.connect() as connection:
            connection.execution_options(begin=begin)
            with connection.begin():
                if lock is not None and self.path is None:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": int(lock)})
                return work(connection)

    def _persist(self, act: Callable[[Engine], _Answer]) -> _Answer:
        patience_s = self._patience_s if self._live is not None else min(self._patience_s, _FIRST_PATIENCE_S)
        deadline = time.monotonic() + patience_s
        pause_s = _PAUSES_S[0]
        while True:
            try:
                return act(self._engine())
            except exc.DBAPIError as problem:
                if not self._passes(problem) or time.monotonic() + pause_s > deadline:
                    raise self._failure(problem) from problem
            except exc.TimeoutError as problem:  # all connections of this process are in use
                raise errors.RunStoreUnreachable(
                    f"the run store `{self.url}` has no connection left for this", hint="try again"
                ) from problem
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, _PAUSES_S[1])

    def _engine(self) -> Engine:
        if self._pid != os.getpid():  # forked: another thread of the parent may have held the lock
            self._making, self._pid = threading.Lock(), os.getpid()
        with self._making:
            live = self._live
            if live is not None and live.pid == os.getpid() and live.file == self._file():
                return live.engine
            self.close()
            file = None if self.path is None else sqlite_file.prepare(self.path)
            engine = self._make_engine()
            try:
                self._bring_up_to_date(engine)
            except BaseException:
                engine.dispose()
                raise
            self._live = _Live(os.getpid(), engine, file)
            return engine

    def _file(self) -> tuple[int, int] | None:
        """Return what names SQLite's file; where it was removed, what is written to the open one would be lost."""
        if self.path is None:
            return None
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _make_engine(self) -> Engine:
        if self.path is not None:
            path, patience_s = self.path, self._patience_s
            engine = create_engine("sqlite://", creator=lambda: sqlite_file.connect(path, patience_s), **_POOL)
            event.listen(engine, "begin", _begin)
            return engine
        own = self._url.query.get("options", "")
        # What the address says comes last, and wins.
        options = f"-c lock_timeout={int(self._patience_s * 1000)} {own if isinstance(own, str) else ' '.join(own)}"
        url = self._url.difference_update_query(["options"])
        known = {"connect_timeout": "10", "tcp_user_timeout": "30000", "application_name": "nectar"}
        given = {name: value for name, value in known.items() if name not in url.query} | {"options": options}
        return create_engine(url, connect_args=given, pool_pre_ping=True, **_POOL)

    def _bring_up_to_date(self, engine: Engine) -> None:
        try:
            if self._transact(engine, schema.version_of, "BEGIN", None) != schema.VERSION:
                self._transact(engine, schema.migrate, "BEGIN IMMEDIATE", Lock.MIGRATE)
        except errors.RunStoreNewer as newer:
            raise errors.RunStoreNewer(
                f"the run store `{self.url}` was written by a newer Nectar: {newer.message}",
                hint="update Nectar, or name another run store by NECTAR_RUNS; nothing was changed",
            ) from newer
        except errors.RunStoreInvalid as foreign:
            raise self._invalid(foreign.message) from foreign

    def _passes(self, problem: exc.DBAPIError) -> bool:
        """Say whether it may go well the next time. SQLite has waited already."""
        if self.path is not None:
            return False
        state = getattr(problem.orig, "sqlstate", None)
        if state is not None:
            return str(state).startswith(_PASSING)
        connecting = isinstance(problem, (exc.OperationalError, exc.InterfaceError)) or problem.connection_invalidated
        return connecting and not any(word in str(problem.orig) for word in _FINAL_WORDS)

    def _failure(self, problem: exc.DBAPIError) -> Exception:
        """Return the error to raise: the database's own one where it is our mistake."""
        said = (str(problem.orig).strip().splitlines() or [type(problem.orig).__name__])[0]
        if self.path is not None:
            if any(words in said for words in ("malformed", "not a database", "no such table", "no such column")):
                return self._invalid(said)
            if not isinstance(problem.orig, sqlite3.OperationalError):
                return problem
            if "locked" in said:
                return errors.RunStoreUnreachable(
                    f"the run store `{self.path}` was locked for {self._patience_s:g} s",
                    hint="another program writes to it all the time, or was stopped while it did: end that one",
                )
            hint = "look at the permissions and at the disk, or name another one by NECTAR_RUNS"
            return errors.RunStoreUnreachable(f"the run store `{self.path}` cannot be used: {said}", hint=hint)
        state = str(getattr(problem.orig, "sqlstate", None) or "")
        if state.startswith("42") and state != "42501":
            return self._invalid(said)
        if state.startswith(("22", "23")):
            return problem
        return errors.RunStoreUnreachable(
            f"the run store `{self.url}` does not answer: {said}",
            hint="start the server, or look at NECTAR_RUNS; runs that have begun go on, and their journals keep",
        )

    def _invalid(self, why: str) -> errors.RunStoreInvalid:
        if self.path is not None:
            return sqlite_file.invalid(self.path, why)
        return errors.RunStoreInvalid(
            f"the run store `{self.url}` cannot be used: {why}",
            hint="give Nectar a database of its own; what is in this one was not changed, and targets are not touched",
        )


_POOL: dict[str, Any] = {"poolclass": QueuePool, "pool_size": 5, "max_overflow": 15, "pool_timeout": 30}


def _begin(connection: Connection) -> None:
    # A transaction that begins by reading cannot wait for one that writes meanwhile: SQLite refuses it at once.
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _parsed(text_of: str) -> URL:
    try:
        url = make_url(text_of)
    except (exc.ArgumentError, ValueError) as problem:
        raise _not_supported("an address that is none") from problem
    kind = url.get_backend_name()
    if kind == "sqlite" and url.drivername in ("sqlite", "sqlite+pysqlite"):
        if not url.database or url.database == ":memory:" or url.query:
            raise _not_supported(f"`{url.render_as_string()}`, which names no file")
        return url.set(drivername="sqlite")
    if kind in ("postgresql", "postgres") and url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        try:
            import psycopg  # noqa: F401  late: only who has such an address needs it
        except ImportError as missing:
            raise errors.RunStoreNotSupported(
                "a run store in PostgreSQL needs `psycopg`, which is not installed",
                hint="pip install 'nectar-chains[postgresql]'",
            ) from missing
        return url.set(drivername="postgresql+psycopg")
    raise _not_supported(f"`{url.render_as_string()}`")


def _not_supported(what: str) -> errors.RunStoreNotSupported:
    return errors.RunStoreNotSupported(
        f"no run store serves {what}", hint="give `sqlite:///<path of a file>` or `postgresql://user@host/database`"
    )
