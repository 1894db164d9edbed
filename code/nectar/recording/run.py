"""Tell which run the attempts of this process belong to."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nectar.recording.capture import Echo
from nectar.records import utc_now


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation of a root task."""

    id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    echo: Echo = Echo.SAME  #: where what tasks print is shown beside their logs


def new_run_id() -> str:
    """Return an id that no other run has; ids sort by time."""
    return f"{utc_now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def new_run(*, echo: Echo = Echo.SAME, tags: Mapping[str, str] | None = None, run_id: str | None = None) -> Run:
    """Return a run with the id that it was given, else with a new one."""
    return Run(run_id or new_run_id(), dict(tags or {}), echo)


_current: Run | None = None


def current() -> Run:
    """Return the run at work in this process or in the one it was forked from; a lone task is a run of its own."""
    global _current
    if _current is None:
        _current = new_run()
    return _current


def at_work() -> Run | None:
    """Return the run at work, None where there is none yet."""
    return _current


@contextlib.contextmanager
def running(run: Run) -> Iterator[Run]:
    """Make `run` the one at work for a while."""
    global _current
    before, _current = _current, run
    try:
        yield run
    finally:
        _current = before
