"""The run store over a database: each method is one transaction, or several that may be repeated."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from nectar.runs.asking import EVERYTHING, NO_LIMITS, Filter, Limits, Page, Taken, Token
from nectar.runs.lines import Line
from nectar.runs.sql import gate, keeping, queueing, reading, taking_in
from nectar.runs.sql.database import Database, Lock
from nectar.runs.values import Attempt, Event, NewRun, Process, Run, RunState, Step, check_run_id


class SqlRunStore:
    """The books in SQLite or PostgreSQL; see `RunStore`."""

    def __init__(self, url: str, *, patience_s: float = 30.0) -> None:
        """Name the database; it is made, or brought up to date, with the first call.

        Raises:
            RunStoreNotSupported: when no database that we know serves the address.
        """
        self._database = Database(url, patience_s=patience_s)
        self.url = self._database.url

    def close(self) -> None:
        self._database.close()

    def create(self, new: NewRun, state: RunState = RunState.QUEUED) -> Run:
        check_run_id(new.id)
        return self._database.write(lambda connection: keeping.create(connection, new, state))

    def advance(
        self, run_id: str, state: RunState, *, at: datetime, error: str | None = None, process: Process | None = None
    ) -> Run:
        return self._database.write(lambda connection: keeping.advance(connection, run_id, state, at, error, process))

    def record(self, run_id: str, lines: Sequence[Line]) -> int:
        check_run_id(run_id)
        return self._database.write(lambda connection: keeping.record(connection, run_id, lines))

    def take_in(self, folder: str | os.PathLike[str]) -> Taken:
        return taking_in.take_in(self._database, folder)

    def run(self, run_id: str) -> Run:
        return self._database.read(lambda connection: reading.run(connection, run_id))

    def find(self, prefix: str) -> Run:
        return self._database.read(lambda connection: reading.find(connection, prefix))

    def steps(self, run_id: str) -> Sequence[Step]:
        return self._database.read(lambda connection: reading.steps_of(connection, run_id))

    def attempts(self, run_id: str, ref: str | None = None) -> Sequence[Attempt]:
        return self._database.read(lambda connection: reading.attempts_of(connection, run_id, ref))

    def events(self, run_id: str, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        return self._database.read(lambda connection: reading.events_of(connection, run_id, after, limit))

    def of_target(self, path: str, size: int = 100) -> Sequence[Run]:
        return self._database.read(lambda connection: reading.of_target(connection, path, size))

    def keep_run_log(self, run_id: str, document: Mapping[str, object]) -> None:
        check_run_id(run_id)
        self._database.write(lambda connection: keeping.keep_run_log(connection, run_id, document))

    def run_log(self, run_id: str) -> dict[str, object] | None:
        return self._database.read(lambda connection: reading.run_log(connection, run_id))

    def enqueue(self, new: NewRun, *, most: int | None = None) -> Run:
        check_run_id(new.id)
        return self._database.write(lambda connection: queueing.enqueue(connection, new, most), Lock.ENQUEUE)

    def states(self) -> Mapping[RunState, int]:
        return self._database.read(queueing.states)

    def claim(self, server: str, limits: Limits = NO_LIMITS, *, now: datetime) -> Run | None:
        name = secrets.token_hex(16)
        return self._database.write(
            lambda connection: queueing.claim(connection, server, limits, now, name), Lock.CLAIM
        )

    def stale(self, now: datetime, older_than: timedelta) -> Sequence[Run]:
        return self._database.read(lambda connection: queueing.stale(connection, now, older_than))

    def idempotency(self, key: str, digest: str, run_id: str, *, at: datetime) -> str:
        return self._database.write(lambda connection: gate.idempotency(connection, key, digest, run_id, at))

    def add_token(self, name: str, secret_hash: str, scopes: Sequence[str], *, at: datetime) -> Token:
        return self._database.write(lambda connection: gate.add_token(connection, name, secret_hash, scopes, at))

    def tokens(self) -> Sequence[Token]:
        return self._database.read(gate.tokens_of_all)

    def revoke_token(self, name: str, *, at: datetime) -> Token:
        return self._database.write(lambda connection: gate.revoke_token(connection, name, at))

    def find_token(self, secret_hash: str) -> Token | None:
        return self._database.read(lambda connection: gate.find_token(connection, secret_hash))

    # Last, since in the class's body the name hides Python's own.
    def list(self, wanted: Filter = EVERYTHING, size: int = 50, token: str | None = None) -> Page:
        return self._database.read(lambda connection: reading.page(connection, wanted, size, token))
