"""Let runs wait and hand them out, each once; and say which of those at work have fallen silent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, tuple_, update

from nectar import errors
from nectar.runs import lines
from nectar.runs.asking import Limits
from nectar.runs.sql import keeping
from nectar.runs.sql.rows import LONGEST_TAG, run_of, searched
from nectar.runs.sql.tables import roots, runs, tags
from nectar.runs.values import ACTIVE, NewRun, Run, RunState, to_micros

_ACTIVE = sorted(state.value for state in ACTIVE)
_LOOKED_AT = 50  # runs of the queue at once


_JOINED = [RunState.QUEUED.value, RunState.STARTING.value, RunState.RUNNING.value]  # that will make what they are to

# What is asked with every request, and by the server all the time, is put together once.
_KNOWN = select(runs).where(runs.c.id == bindparam("run_id"))
_SAME = (
    select(runs)
    .join(roots, roots.c.run_id == runs.c.id)
    .where(roots.c.path == bindparam("path"), runs.c.state.in_(_JOINED))
    .order_by(runs.c.created_at, runs.c.id)
)
_COUNT_WAITING = select(func.count()).where(runs.c.state == RunState.QUEUED.value)
_COUNT_ACTIVE = select(func.count()).where(runs.c.state.in_(_ACTIVE))
_STATES = select(runs.c.state, func.count()).group_by(runs.c.state)
_CLAIMED = select(runs).where(runs.c.claim == bindparam("name"))
_STALE = (
    select(runs)
    .where(runs.c.state.in_(_ACTIVE), runs.c.heard_at < bindparam("before"))
    .order_by(runs.c.heard_at, runs.c.id)
)


def enqueue(connection: Connection, new: NewRun, most: int | None) -> Run:
    """Put a run into the queue; see `RunStore.enqueue`. Nobody else may put one there at the same time."""
    known = connection.execute(_KNOWN, {"run_id": new.id}).one_or_none()
    if known is not None:
        return keeping.create(connection, new, RunState.QUEUED)
    path = new.roots[0].path if len(new.roots) == 1 and new.parent_id is None else None
    if path is not None:
        for row in connection.execute(_SAME, {"path": path}).all():
            other = run_of(row)
            if other.new.select == new.select:  # it makes the same part of the graph
                return other
    if most is not None and connection.execute(_COUNT_WAITING).scalar_one() >= most:
        raise errors.QueueFull(f"{most} runs wait already", hint="ask again later")
    return keeping.create(connection, new, RunState.QUEUED)


def states(connection: Connection) -> dict[RunState, int]:
    """See `RunStore.states`."""
    return {RunState(state): count for state, count in connection.execute(_STATES)}


def claim(connection: Connection, server: str, limits: Limits, now: datetime, name: str) -> Run | None:
    """Take the next run; see `RunStore.claim`. Nobody else may claim at the same time.

    `name` names the call: where it was carried out and its answer was lost, it is answered as it was.
    """
    before = connection.execute(_CLAIMED, {"name": name}).one_or_none()
    if before is not None:
        return run_of(before)
    at_work = connection.execute(_COUNT_ACTIVE).scalar_one()
    if limits.runs is not None and at_work >= limits.runs:
        return None
    active = _active_tags(connection, limits)
    for row in _waiting(connection):
        tagged = json.loads(row.document)["tags"] if limits.tags else {}
        if limits.blocks({name: searched(value, LONGEST_TAG) for name, value in tagged.items()}, active):
            continue
        at = to_micros(now)
        taken = {"state": RunState.STARTING.value, "server": server, "claim": name, "heard_at": at}
        connection.execute(update(runs).where(runs.c.id == row.id).values(taken))
        keeping.note(connection, row, at, lines.RUN_STATE, {"state": RunState.STARTING.value, "server": server})
        return run_of(keeping.locked(connection, row.id))
    return None


def _active_tags(connection: Connection, limits: Limits) -> dict[tuple[str, str], int]:
    """Return how many runs are at work, by the tags and values that have limits."""
    if not limits.tags:
        return {}
    counted = (
        select(tags.c.name, tags.c.value, func.count())
        .join_from(tags, runs, tags.c.run_id == runs.c.id)
        .where(tags.c.name.in_({limit.name for limit in limits.tags}), runs.c.state.in_(_ACTIVE))
        .group_by(tags.c.name, tags.c.value)
    )
    return {(name, value): count for name, value, count in connection.execute(counted)}


def _waiting(connection: Connection) -> Iterator[Row[Any]]:
    """Yield the runs of the queue in its order. Each is locked, so that it is not cancelled while it is taken."""
    order = (-runs.c.priority, runs.c.created_at, runs.c.id)
    queued = select(runs).where(runs.c.state == RunState.QUEUED.value)
    queued = queued.order_by(runs.c.priority.desc(), runs.c.created_at, runs.c.id).limit(_LOOKED_AT)
    rows = connection.execute(queued).all()
    while rows:
        for row in rows:
            held = connection.execute(select(runs).where(runs.c.id == row.id).with_for_update()).one_or_none()
            if held is not None and held.state == RunState.QUEUED.value:
                yield held
        last = rows[-1]
        rows = connection.execute(queued.where(tuple_(*order) > (-last.priority, last.created_at, last.id))).all()


def stale(connection: Connection, now: datetime, older_than: timedelta) -> list[Run]:
    """See `RunStore.stale`."""
    return [run_of(row) for row in connection.execute(_STALE, {"before": to_micros(now - older_than)})]
