"""Turn rows of the books into values, and values into rows."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Insert, Row, Table
from sqlalchemy.dialects import postgresql, sqlite

from nectar.runs.asking import Token
from nectar.runs.values import (
    Attempt,
    Event,
    NewRun,
    Process,
    Run,
    RunState,
    Step,
    from_micros,
    to_micros,
)

# An entry of an index of PostgreSQL has room for 2,704 bytes, and a character takes up to four of them.
LONGEST_TASK = 500  #: characters of a task that stand in the index
LONGEST_TAG = 250  #: characters of a tag's name, and of its value


_KINDS: dict[str, Any] = {"postgresql": postgresql, "sqlite": sqlite}  # what each knows of conflicts is its own

_encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def json_text(value: Any) -> str:
    """Return a JSON value as text, equal for equal values."""
    return _encode(value)


def searched(text: str, longest: int) -> str:
    """Return by what a text is found: itself; where it is longer, its beginning and a digest, equal for equal texts."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}... {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def digest_of(new: NewRun) -> str:
    """Return 64 hex digits, equal for equal runs; `created_at` does not count, for a request may be repeated."""
    document = {name: value for name, value in new.to_json().items() if name != "created_at"}
    return hashlib.sha256(json_text(document).encode("ascii")).hexdigest()


def rows_of(new: NewRun) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what `runs`, `roots` and `tags` hold of a new run."""
    created_at = to_micros(new.created_at)
    run = {
        "created_at": created_at,
        "priority": new.priority,
        "source": new.source,
        "document": json_text(new.to_json()),
        "digest": digest_of(new),
    }
    roots = [
        {
            "run_id": new.id,
            "position": position,
            "created_at": created_at,
            "chain": root.chain,
            "task": searched(root.task, LONGEST_TASK),
            "path": root.path,
            "key": root.key,
        }
        for position, root in enumerate(new.roots)
    ]
    tags = [
        {
            "run_id": new.id,
            "name": searched(name, LONGEST_TAG),
            "value": searched(value, LONGEST_TAG),
            "created_at": created_at,
        }
        for name, value in new.tags.items()
    ]
    return run, roots, tags


def insert_if_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row unless one of its key is there; return whether that was done."""
    statement = _insert_if_new(table, connection.dialect.name)
    # Of an insert SQLAlchemy forgets how many rows it made, unless it is told to remember.
    return connection.execute(statement, row, execution_options={"preserve_rowcount": True}).rowcount > 0


def put(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or write them over those of their keys."""
    if rows:
        connection.execute(_insert_or_change(table, connection.dialect.name), rows)


@functools.cache
def _insert_if_new(table: Table, dialect: str) -> Insert:
    statement: Insert = _KINDS[dialect].insert(table).on_conflict_do_nothing()
    return statement


@functools.cache
def _insert_or_change(table: Table, dialect: str) -> Insert:
    statement = _KINDS[dialect].insert(table)
    changed = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
    whole: Insert = statement.on_conflict_do_update(index_elements=[*table.primary_key.columns], set_=changed)
    return whole


def run_of(row: Row[Any]) -> Run:
    """Return the run of a row of `runs`."""
    process = None if row.process is None else json.loads(row.process)
    return Run(
        new=NewRun.from_json(json.loads(row.document)),
        state=RunState(row.state),
        started_at=_moment(row.started_at),
        ended_at=_moment(row.ended_at),
        heard_at=from_micros(row.heard_at),
        process=None if process is None else Process(process["host"], process["pid"], process.get("start")),
        server=row.server,
        error=row.error,
        counts=json.loads(row.counts),
        events=row.events,
    )


def step_of(row: Row[Any]) -> Step:
    """Return the step of a row of `steps`."""
    return Step(
        run_id=row.run_id,
        ref=row.ref,
        task=row.task,
        status=row.status,
        path=row.path,
        attempts=row.attempts,
        started_at=_moment(row.started_at),
        ended_at=_moment(row.ended_at),
        seconds=row.seconds,
        error=row.error,
        code=row.code,
        hint=row.hint,
        logs=row.logs,
    )


def attempt_of(row: Row[Any]) -> Attempt:
    """Return the attempt of a row of `attempts`."""
    return Attempt(
        run_id=row.run_id,
        ref=row.ref,
        number=row.number,
        attempt=row.attempt,
        started_at=_moment(row.started_at),
        ended_at=_moment(row.ended_at),
        outcome=row.outcome,
        error=row.error,
        logs=row.logs,
    )


def event_of(row: Row[Any]) -> Event:
    """Return the event of a row of `events`."""
    detail = None if row.detail is None else json.loads(row.detail)
    return Event(row.run_id, row.number, from_micros(row.at), row.kind, row.task, detail)


def token_of(row: Row[Any]) -> Token:
    """Return the token of a row of `tokens`."""
    return Token(row.name, tuple(json.loads(row.scopes)), from_micros(row.created_at), _moment(row.revoked_at))


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def chunks(items: Iterable[Any], size: int = 500) -> Iterable[list[Any]]:
    """Yield items in lists of at most `size`: a statement has room for so many."""
    held = list(items)
    for begin in range(0, len(held), size):
        yield held[begin : begin + size]
