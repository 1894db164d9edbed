"""The values in which the run store is asked: which runs, how many at once, who may; and what it says of journals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from nectar.runs.values import Run, RunState, time_text


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs are asked for: those for which all of this holds."""

    states: tuple[RunState, ...] = ()  #: one of them; none: any
    chain: str | None = None
    task: str | None = None  #: as people read it
    tags: Mapping[str, str] = field(default_factory=dict)  #: all of them
    source: str | None = None
    since: datetime | None = None  #: created then or later
    until: datetime | None = None  #: created before
    path: str | None = None  #: of a root's target
    key: str | None = None  #: of a root's target
    text: str | None = None  #: somewhere in its id, roots, tags (where these are long: at the start) or error; any case

    def to_json(self) -> dict[str, Any]:
        """Return the filter as a JSON value, equal for equal filters."""
        return {
            "states": sorted({state.value for state in self.states}),
            "chain": self.chain,
            "task": self.task,
            "tags": dict(sorted(self.tags.items())),
            "source": self.source,
            "since": time_text(self.since),
            "until": time_text(self.until),
            "path": self.path,
            "key": self.key,
            "text": self.text,
        }


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the runs that were asked for, newest first."""

    rows: tuple[Run, ...]
    next: str | None  #: the token that gives the runs after these; None: there are none

    def to_json(self) -> dict[str, Any]:
        """Return the page as a JSON value."""
        return {"rows": [run.to_json() for run in self.rows], "next": self.next}


class TagLimit(NamedTuple):
    """How many runs with a tag may be carried out at once."""

    name: str
    value: str | None  #: None: of each value so many
    runs: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a queue keeps to. Every run that is STARTING, RUNNING or CANCELING counts, whoever began it."""

    runs: int | None = None  #: at once; None: any number
    tags: tuple[TagLimit, ...] = ()

    def blocks(self, tags: Mapping[str, str], active: Mapping[tuple[str, str], int]) -> bool:
        """Say whether a run with these tags has to wait; `active` counts those at work by tag and value."""
        for limit in self.tags:
            value = tags.get(limit.name)
            if value is None or (limit.value is not None and limit.value != value):
                continue
            if active.get((limit.name, value), 0) >= limit.runs:
                return True
        return False


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Token:
    """The right to use the server, known by the hash of a secret."""

    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the token as a JSON value; neither the secret nor its hash is in it."""
        return {
            "name": self.name,
            "scopes": list(self.scopes),
            "created_at": time_text(self.created_at),
            "revoked_at": time_text(self.revoked_at),
        }


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken into the books from journals."""

    lines: int = 0  #: that the books did not have
    runs: int = 0  #: that had something new, be it a sign of life
    removed: int = 0  #: journals that were done with
    damaged: int = 0  #: lines that nobody can read

    def __add__(self, other: Taken) -> Taken:
        return Taken(
            self.lines + other.lines,
            self.runs + other.runs,
            self.removed + other.removed,
            self.damaged + other.damaged,
        )
