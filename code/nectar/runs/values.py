"""The values of the run store: what a run is, which states it passes, and what happened in it.

Times are UTC and aware. Every value is one of JSON, by `to_json()`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

from nectar import errors

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
LAST_MOMENT = 253_402_300_799_999_999  #: the last microsecond since 1970 that a datetime can hold
_RUN_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}")


class RunState(str, Enum):
    """Where a run stands. States only advance."""

    QUEUED = "QUEUED"  #: it waits for a server to take it
    STARTING = "STARTING"  #: somebody has taken it
    RUNNING = "RUNNING"
    CANCELING = "CANCELING"  #: it was asked to stop
    CRASHED = "CRASHED"  #: it gave no sign of life any more, or its process ended without a word
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CANCELED = "CANCELED"

    @property
    def final(self) -> bool:
        """True when nothing follows, but for the own word of a run that was thought to have crashed."""
        return self in FINAL


FINAL = frozenset({RunState.SUCCESS, RunState.FAILURE, RunState.CANCELED, RunState.CRASHED})
ACTIVE = frozenset({RunState.STARTING, RunState.RUNNING, RunState.CANCELING})  #: somebody carries it out

_FOLLOWERS = {
    RunState.QUEUED: {RunState.STARTING, RunState.RUNNING, RunState.CANCELED},
    RunState.STARTING: {
        RunState.RUNNING,
        RunState.CANCELING,
        RunState.CANCELED,
        RunState.FAILURE,
        RunState.CRASHED,
    },
    RunState.RUNNING: {
        RunState.SUCCESS,
        RunState.FAILURE,
        RunState.CANCELING,
        RunState.CANCELED,
        RunState.CRASHED,
    },
    RunState.CANCELING: {RunState.SUCCESS, RunState.FAILURE, RunState.CANCELED, RunState.CRASHED},
}
_RANKS = {state: rank for rank, state in enumerate(RunState)} | dict.fromkeys(FINAL - {RunState.CRASHED}, 9)


def may_follow(old: RunState, new: RunState) -> bool:
    """Say whether a run in `old` may be put into `new` by somebody who watches it."""
    return new in _FOLLOWERS.get(old, ())


def word_counts(old: RunState, new: RunState) -> bool:
    """Say whether the own word of a run in `old` that it is in `new` is believed.

    It is for every later state, since words in between may be lost where a journal could not be written; and where the
    run was thought to have crashed it knows better.
    """
    return _RANKS[new] > _RANKS[old]


def check_run_id(text: str) -> str:
    """Return `text` if it can be the id of a run, and with it the name of a file.

    Raises:
        UsageError: when it is empty, longer than 100 characters, or has others than letters, digits, `.`, `_`, `-`.
    """
    if _RUN_ID.fullmatch(text) is None:
        raise errors.UsageError(
            f"`{text[:100]}` cannot be the id of a run",
            hint="use up to 100 letters, digits, `.`, `_` and `-`, beginning with a letter or a digit",
        )
    return text


def to_micros(moment: datetime) -> int:
    """Return microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the moment of so many microseconds since 1970, UTC and aware."""
    return _EPOCH + timedelta(microseconds=micros)


def time_text(moment: datetime | None) -> str | None:
    """Return a moment as JSON has it."""
    return None if moment is None else moment.isoformat()


@dataclass(frozen=True, slots=True)
class Process:
    """A process, named so that another one with its number is not taken for it."""

    host: str
    pid: int
    start: str | None = None  #: of the process, as the kernel says it; None where it does not

    def to_json(self) -> dict[str, Any]:
        """Return the process as a JSON value."""
        return {"host": self.host, "pid": self.pid, "start": self.start}

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.start or ''}"

    @classmethod
    def read(cls, text: str | None) -> Process | None:
        """Return the process that `str` of one names, None for any other text."""
        host, _, rest = (text or "").partition(":")
        pid, colon, start = rest.partition(":")
        return cls(host, int(pid), start or None) if host and colon and pid.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Root:
    """A task that a run was asked for."""

    task: str  #: as people read it
    chain: str | None = None  #: such as `etl/flights`
    params: Mapping[str, Any] = field(default_factory=dict)  #: text -> JSON value; private ones are masked
    path: str | None = None  #: of its target
    key: str | None = None  #: 32 hex digits
    output_id: str | None = None  #: 64 hex digits

    def to_json(self) -> dict[str, Any]:
        """Return the root as a JSON value."""
        return {
            "chain": self.chain,
            "task": self.task,
            "params": dict(self.params),
            "path": self.path,
            "key": self.key,
            "output_id": self.output_id,
        }

    @classmethod
    def from_json(cls, document: Any) -> Root:
        """Return the root of a document that `to_json` made.

        Raises:
            ValueError: when it is not one.
        """
        return cls(
            task=_text(document, "task"),
            chain=_optional(document, "chain"),
            params=_mapping(document, "params"),
            path=_optional(document, "path"),
            key=_optional(document, "key"),
            output_id=_optional(document, "output_id"),
        )


@dataclass(frozen=True, slots=True)
class NewRun:
    """What is known of a run before it begins."""

    id: str
    created_at: datetime
    roots: tuple[Root, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    source: str = "python"  #: `cli`, `http`, `luigi`, `python`; `unknown` where its beginning was lost
    executor: str | None = None
    workers: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  #: name -> JSON value
    parent_id: str | None = None  #: of the run that this one repeats
    root_id: str | None = None  #: of the run with which the repetitions began
    priority: int = 0  #: higher ones are taken from the queue first

    @property
    def select(self) -> str | None:
        """What alone is made of the roots' graph, None: all that is missing."""
        select = self.options.get("select")
        return select if isinstance(select, str) else None

    def to_json(self) -> dict[str, Any]:
        """Return the run as a JSON value."""
        return {
            "id": self.id,
            "created_at": self.created_at.isoformat(),
            "roots": [root.to_json() for root in self.roots],
            "tags": dict(self.tags),
            "source": self.source,
            "executor": self.executor,
            "workers": self.workers,
            "options": dict(self.options),
            "parent_id": self.parent_id,
            "root_id": self.root_id,
            "priority": self.priority,
        }

    @classmethod
    def from_json(cls, document: Any) -> NewRun:
        """Return the run of a document that `to_json` made.

        Raises:
            ValueError: when it is not one.
        """
        roots = document.get("roots") if isinstance(document, dict) else None
        if not isinstance(roots, list):
            raise ValueError("`roots` is not a list")
        created_at = datetime.fromisoformat(_text(document, "created_at"))
        if created_at.tzinfo is None:
            raise ValueError("`created_at` has no time zone")
        return cls(
            id=_text(document, "id"),
            created_at=created_at,
            roots=tuple(map(Root.from_json, roots)),
            tags={name: str(value) for name, value in _mapping(document, "tags").items()},
            source=_text(document, "source"),
            executor=_optional(document, "executor"),
            workers=_number(document, "workers"),
            options=_mapping(document, "options"),
            parent_id=_optional(document, "parent_id"),
            root_id=_optional(document, "root_id"),
            priority=_number(document, "priority") or 0,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the books know it: what it was asked for, and what became of it."""

    new: NewRun
    state: RunState
    started_at: datetime | None = None  #: when it was first RUNNING
    ended_at: datetime | None = None
    heard_at: datetime | None = None  #: the last sign of life
    process: Process | None = None  #: that carries it out, or did
    server: str | None = None  #: that took it from the queue
    error: str | None = None  #: one sentence
    counts: Mapping[str, int] = field(default_factory=dict)  #: step status -> number of steps
    events: int = 0  #: how many there are

    @property
    def id(self) -> str:
        """The run's id."""
        return self.new.id

    @property
    def created_at(self) -> datetime:
        """When it was asked for."""
        return self.new.created_at

    @property
    def tags(self) -> Mapping[str, str]:
        """The run's tags."""
        return self.new.tags

    @property
    def roots(self) -> tuple[Root, ...]:
        """The tasks that it was asked for."""
        return self.new.roots

    def to_json(self) -> dict[str, Any]:
        """Return the run as a JSON value."""
        return self.new.to_json() | {
            "state": self.state.value,
            "started_at": time_text(self.started_at),
            "ended_at": time_text(self.ended_at),
            "heard_at": time_text(self.heard_at),
            "process": None if self.process is None else self.process.to_json(),
            "server": self.server,
            "error": self.error,
            "counts": dict(self.counts),
            "events": self.events,
        }


@dataclass(frozen=True, slots=True)
class Step:
    """One task within one run."""

    run_id: str
    ref: str  #: names the step within its run
    task: str
    status: str  #: `running`, or how it ended: `succeeded`, `skipped`, `reused`, `failed`, `not run`, `blocked`
    path: str | None = None  #: of its target
    attempts: int = 0  #: how many began
    started_at: datetime | None = None
    ended_at: datetime | None = None
    seconds: float | None = None
    error: str | None = None
    code: str | None = None  #: of the error
    hint: str | None = None
    logs: str | None = None  #: place of its logs in the store

    def to_json(self) -> dict[str, Any]:
        """Return the step as a JSON value."""
        return {
            "run_id": self.run_id,
            "ref": self.ref,
            "task": self.task,
            "status": self.status,
            "path": self.path,
            "attempts": self.attempts,
            "started_at": time_text(self.started_at),
            "ended_at": time_text(self.ended_at),
            "seconds": self.seconds,
            "error": self.error,
            "code": self.code,
            "hint": self.hint,
            "logs": self.logs,
        }


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one step."""

    run_id: str
    ref: str  #: of the step
    number: int  #: from 1
    attempt: str | None = None  #: its id in the store
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str | None = None  #: None while it is at work
    error: str | None = None
    logs: str | None = None  #: their place in the store

    def to_json(self) -> dict[str, Any]:
        """Return the attempt as a JSON value."""
        return {
            "run_id": self.run_id,
            "ref": self.ref,
            "number": self.number,
            "attempt": self.attempt,
            "started_at": time_text(self.started_at),
            "ended_at": time_text(self.ended_at),
            "outcome": self.outcome,
            "error": self.error,
            "logs": self.logs,
        }


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run."""

    run_id: str
    number: int  #: 1, 2, ... without gaps, in the order in which the books took them in
    at: datetime
    kind: str
    task: str | None = None
    detail: Any = None  #: a JSON value

    def to_json(self) -> dict[str, Any]:
        """Return the event as a JSON value."""
        return {
            "run_id": self.run_id,
            "number": self.number,
            "at": self.at.isoformat(),
            "kind": self.kind,
            "task": self.task,
            "detail": self.detail,
        }


def _text(document: Any, name: str) -> str:
    value = _optional(document, name)
    if value is None:
        raise ValueError(f"`{name}` is missing")
    return value


def _optional(document: Any, name: str) -> str | None:
    value = document.get(name) if isinstance(document, dict) else None
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{name}` is not text")
    return value


def _number(document: Any, name: str) -> int | None:
    value = document.get(name)
    if value is not None and (not isinstance(value, int) or abs(value) > LAST_MOMENT):
        raise ValueError(f"`{name}` is not a number that anybody means")
    return value


def _mapping(document: Any, name: str) -> dict[str, Any]:
    value = document.get(name, {}) if isinstance(document, dict) else None
    if not isinstance(value, dict):
        raise ValueError(f"`{name}` is not a mapping")
    return value
