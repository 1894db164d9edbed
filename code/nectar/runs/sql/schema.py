"""Make the tables of the books, and bring older ones up to date: each step once, in order, all in one transaction.

A step is never changed once it was released; what follows is a step of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from sqlalchemy import Connection, inspect, text

from nectar import errors


def _first(connection: Connection) -> None:
    """Make the books."""
    postgresql = connection.dialect.name == "postgresql"
    # Ids are ordered by their bytes, whatever language the server speaks.
    words = 'TEXT COLLATE "C"' if postgresql else "TEXT"
    clustered = "" if postgresql else " WITHOUT ROWID"
    for statement in _FIRST.split(";"):
        if statement.strip():
            connection.execute(text(statement.replace("WORDS", words).replace("CLUSTERED", clustered)))
    secret = secrets.token_hex(32)
    connection.execute(text("INSERT INTO schema (version, secret) VALUES (0, :secret)"), {"secret": secret})


_FIRST = """
CREATE TABLE schema (version BIGINT NOT NULL, secret WORDS NOT NULL);

CREATE TABLE runs (
    id WORDS PRIMARY KEY NOT NULL, created_at BIGINT NOT NULL, state WORDS NOT NULL, priority BIGINT NOT NULL,
    source WORDS NOT NULL, document WORDS NOT NULL, digest WORDS NOT NULL, started_at BIGINT, ended_at BIGINT,
    heard_at BIGINT NOT NULL, process WORDS, server WORDS, claim WORDS, error WORDS, counts WORDS NOT NULL,
    events BIGINT NOT NULL
);
CREATE INDEX runs_newest ON runs (created_at, id);
CREATE INDEX runs_of_state ON runs (state, created_at, id);
CREATE INDEX runs_of_source ON runs (source, created_at, id);
CREATE INDEX runs_in_queue ON runs (state, priority DESC, created_at, id);
CREATE UNIQUE INDEX runs_of_claim ON runs (claim) WHERE claim IS NOT NULL;

CREATE TABLE roots (
    run_id WORDS NOT NULL REFERENCES runs (id) ON DELETE CASCADE, position BIGINT NOT NULL, created_at BIGINT NOT NULL,
    chain WORDS, task WORDS NOT NULL, path WORDS, key WORDS, PRIMARY KEY (run_id, position)
) CLUSTERED;
CREATE INDEX roots_of_chain ON roots (chain, created_at, run_id);
CREATE INDEX roots_of_task ON roots (task, created_at, run_id);
CREATE INDEX roots_of_path ON roots (path, created_at, run_id);
CREATE INDEX roots_of_key ON roots (key, created_at, run_id);

CREATE TABLE tags (
    run_id WORDS NOT NULL REFERENCES runs (id) ON DELETE CASCADE, name WORDS NOT NULL, value WORDS NOT NULL,
    created_at BIGINT NOT NULL, PRIMARY KEY (run_id, name)
) CLUSTERED;
CREATE INDEX tags_of_value ON tags (name, value, created_at, run_id);

CREATE TABLE steps (
    run_id WORDS NOT NULL REFERENCES runs (id) ON DELETE CASCADE, ref WORDS NOT NULL, position BIGINT NOT NULL,
    task WORDS NOT NULL, status WORDS NOT NULL, status_at BIGINT NOT NULL, attempts BIGINT NOT NULL,
    started_at BIGINT, ended_at BIGINT, seconds DOUBLE PRECISION, path WORDS, error WORDS, code WORDS, hint WORDS,
    logs WORDS, PRIMARY KEY (run_id, ref)
) CLUSTERED;
CREATE INDEX steps_of_path ON steps (path, run_id);

CREATE TABLE attempts (
    run_id WORDS NOT NULL REFERENCES runs (id) ON DELETE CASCADE, ref WORDS NOT NULL, number BIGINT NOT NULL,
    attempt WORDS, started_at BIGINT, ended_at BIGINT, outcome WORDS, error WORDS, logs WORDS,
    PRIMARY KEY (run_id, ref, number)
) CLUSTERED;

CREATE TABLE events (
    run_id WORDS NOT NULL REFERENCES runs (id) ON DELETE CASCADE, number BIGINT NOT NULL, at BIGINT NOT NULL,
    kind WORDS NOT NULL, task WORDS, detail WORDS, writer WORDS, line BIGINT, PRIMARY KEY (run_id, number)
) CLUSTERED;
CREATE UNIQUE INDEX events_of_line ON events (run_id, writer, line) WHERE writer IS NOT NULL;

CREATE TABLE journals (
    place WORDS NOT NULL, run_id WORDS NOT NULL, file BIGINT NOT NULL, position BIGINT NOT NULL,
    changed BIGINT NOT NULL, PRIMARY KEY (place, run_id)
) CLUSTERED;

CREATE TABLE requests (
    key WORDS PRIMARY KEY NOT NULL, digest WORDS NOT NULL, run_id WORDS NOT NULL, at BIGINT NOT NULL
);

CREATE TABLE tokens (
    name WORDS PRIMARY KEY NOT NULL, hash WORDS NOT NULL UNIQUE, scopes WORDS NOT NULL, created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
"""


def _second(connection: Connection) -> None:
    """Make room for the run logs of pipelines."""
    words = 'TEXT COLLATE "C"' if connection.dialect.name == "postgresql" else "TEXT"
    connection.execute(text(f"CREATE TABLE run_logs (run_id {words} PRIMARY KEY NOT NULL, document {words} NOT NULL)"))


#: the steps, in their order; the version of the schema is how many were taken
MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_first, _second)
VERSION = len(MIGRATIONS)


def version_of(connection: Connection) -> int:
    """Return the version of the books in a database, 0 where there are none.

    Raises:
        RunStoreInvalid: when there is a table of this name, and it is not ours.
    """
    if not inspect(connection).has_table("schema"):
        return 0
    found = connection.execute(text("SELECT version FROM schema")).scalars().all()
    if len(found) != 1 or not isinstance(found[0], int):
        raise errors.RunStoreInvalid("its table `schema` does not say which version it is", hint="")
    return found[0]


def migrate(connection: Connection) -> None:
    """Bring the books of a database up to date; the caller's transaction has to keep all others out.

    Raises:
        RunStoreNewer: when a newer Nectar wrote them.
    """
    version = version_of(connection)
    if version > VERSION:
        raise errors.RunStoreNewer(
            f"the run store has schema {version}, and this Nectar knows {VERSION}", hint="update Nectar"
        )
    if version == VERSION:
        return
    for step in MIGRATIONS[version:]:
        step(connection)
    connection.execute(text("UPDATE schema SET version = :version"), {"version": VERSION})
