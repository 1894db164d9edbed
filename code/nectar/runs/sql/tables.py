"""The tables of the books, as statements are made of them. `schema` makes them in a database.

Times are microseconds since 1970; JSON is text, so that any text may be in it, the character zero as well.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Float, MetaData, Table, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from nectar.runs.lines import storable

metadata = MetaData()


class Words(TypeDecorator[str]):
    """Text that any database holds."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


def _text(name: str, *, key: bool = False) -> Column[Any]:
    return Column(name, Words, primary_key=key, nullable=not key)


def _number(name: str, *, key: bool = False) -> Column[Any]:
    return Column(name, BigInteger, primary_key=key, nullable=not key, autoincrement=False)


#: one row
schema = Table(
    "schema",
    metadata,
    _number("version"),
    _text("secret"),  # with which tokens of pages are signed
)

runs = Table(
    "runs",
    metadata,
    _text("id", key=True),
    _number("created_at"),
    _text("state"),
    _number("priority"),
    _text("source"),
    _text("document"),  # the NewRun, JSON
    _text("digest"),  # of the document; empty where the beginning of the run is unknown
    _number("started_at"),
    _number("ended_at"),
    _number("heard_at"),
    _text("process"),  # JSON
    _text("server"),
    _text("claim"),  # names the call that took it from the queue
    _text("error"),
    _text("counts"),  # JSON
    _number("events"),
)

#: what the roots of runs are searched by; `created_at` is the run's, for indexes that are in the order of a listing
roots = Table(
    "roots",
    metadata,
    _text("run_id", key=True),
    _number("position", key=True),
    _number("created_at"),
    _text("chain"),
    _text("task"),
    _text("path"),
    _text("key"),
)

tags = Table(
    "tags",
    metadata,
    _text("run_id", key=True),
    _text("name", key=True),
    _text("value"),
    _number("created_at"),
)

steps = Table(
    "steps",
    metadata,
    _text("run_id", key=True),
    _text("ref", key=True),
    _number("position"),
    _text("task"),
    _text("status"),
    _number("status_at"),
    _number("attempts"),
    _number("started_at"),
    _number("ended_at"),
    Column("seconds", Float),
    _text("path"),
    _text("error"),
    _text("code"),
    _text("hint"),
    _text("logs"),
)

#: what pipelines tell of their runs, as one document each
run_logs = Table("run_logs", metadata, _text("run_id", key=True), _text("document"))

attempts = Table(
    "attempts",
    metadata,
    _text("run_id", key=True),
    _text("ref", key=True),
    _number("number", key=True),
    _text("attempt"),
    _number("started_at"),
    _number("ended_at"),
    _text("outcome"),
    _text("error"),
    _text("logs"),
)

events = Table(
    "events",
    metadata,
    _text("run_id", key=True),
    _number("number", key=True),
    _number("at"),
    _text("kind"),
    _text("task"),
    _text("detail"),  # JSON
    _text("writer"),  # of the journal's line; None: the books' own word
    _number("line"),
)

#: how far each journal was read
journals = Table(
    "journals",
    metadata,
    _text("place", key=True),  # host and folder
    _text("run_id", key=True),
    _number("file"),  # inode
    _number("position"),  # bytes
    _number("changed"),  # nanoseconds since 1970
)

requests = Table(
    "requests",
    metadata,
    _text("key", key=True),
    _text("digest"),
    _text("run_id"),
    _number("at"),
)

tokens = Table(
    "tokens",
    metadata,
    _text("name", key=True),
    _text("hash"),
    _text("scopes"),  # JSON
    _number("created_at"),
    _number("revoked_at"),
)
