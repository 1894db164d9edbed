"""Answer questions from the books."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, Row, Select, bindparam, or_, select, tuple_

from nectar import errors
from nectar.runs.asking import Filter, Page
from nectar.runs.sql.rows import (
    LONGEST_TAG,
    LONGEST_TASK,
    attempt_of,
    event_of,
    json_text,
    run_of,
    searched,
    step_of,
)
from nectar.runs.sql.tables import attempts, events, roots, run_logs, runs, schema, steps, tags
from nectar.runs.values import Attempt, Event, Run, Step, to_micros

LARGEST_PAGE = 1000
MOST_EVENTS = 10_000
SHORTEST_PREFIX = 6
_AFTER_ALL = "~"  # comes after every character of an id
_SIGNED = 16  # bytes of a token's signature

# Questions that requests ask all the time are put together once: that takes longer than to have them answered.
_OF_ID: BindParameter[str] = bindparam("run_id")
_RUN = select(runs).where(runs.c.id == _OF_ID)
_STEPS = select(steps).where(steps.c.run_id == _OF_ID).order_by(steps.c.position, steps.c.ref)
_ATTEMPTS = select(attempts).where(attempts.c.run_id == _OF_ID).order_by(attempts.c.ref, attempts.c.number)
_EVENTS = (
    select(events)
    .where(events.c.run_id == _OF_ID, events.c.number > bindparam("after"))
    .order_by(events.c.number)
    .limit(bindparam("most"))
)
_OF_TARGET = (
    select(runs)
    .where(
        runs.c.id.in_(
            select(roots.c.run_id)
            .where(roots.c.path == bindparam("path"))
            .union(select(steps.c.run_id).where(steps.c.path == bindparam("path")))
        )
    )
    .order_by(runs.c.created_at.desc(), runs.c.id.desc())
    .limit(bindparam("most"))
)


def run(connection: Connection, run_id: str) -> Run:
    """See `RunStore.run`."""
    return run_of(_row(connection, run_id))


def _row(connection: Connection, run_id: str) -> Row[Any]:
    row = connection.execute(_RUN, {"run_id": run_id}).one_or_none()
    if row is None:
        raise _not_found(run_id)
    return row


def _not_found(run_id: str) -> errors.RunNotFound:
    return errors.RunNotFound(f"there is no run `{run_id[:100]}`", hint="`nectar runs` lists them")


def find(connection: Connection, prefix: str) -> Run:
    """See `RunStore.find`."""
    rows = connection.execute(
        select(runs).where(runs.c.id >= prefix, runs.c.id < prefix + _AFTER_ALL).order_by(runs.c.id).limit(4)
    ).all()
    if rows and rows[0].id == prefix:
        return run_of(rows[0])
    if len(prefix) < SHORTEST_PREFIX:
        raise errors.UsageError(
            f"`{prefix}` is too short to name a run", hint=f"give at least {SHORTEST_PREFIX} characters of its id"
        )
    if not rows:
        raise _not_found(prefix)
    if len(rows) > 1:
        named = ", ".join(f"`{row.id}`" for row in rows[:3]) + (", ..." if len(rows) > 3 else "")
        raise errors.RunAmbiguous(f"the ids of several runs begin with `{prefix}`", hint=f"give more of it: {named}")
    return run_of(rows[0])


def page(connection: Connection, wanted: Filter, size: int, token: str | None) -> Page:
    """See `RunStore.list`."""
    if not 1 <= size <= LARGEST_PAGE:
        raise errors.UsageError(
            f"a page cannot have {size} runs", hint=f"ask for 1 to {LARGEST_PAGE}, and then for the next page"
        )
    secret = connection.execute(select(schema.c.secret)).scalar_one()
    statement, created_at, run_id = _in_order(wanted)
    if token is not None:
        statement = statement.where(tuple_(created_at, run_id) < _read_token(token, secret, wanted))
    statement = statement.order_by(created_at.desc(), run_id.desc()).limit(size + 1)
    rows = connection.execute(statement).all()
    more = len(rows) > size
    last = rows[size - 1] if more else None
    following = None if last is None else _token(last.created_at, last.id, secret, wanted)
    return Page(tuple(map(run_of, rows[:size])), following)


def _in_order(wanted: Filter) -> tuple[Select[Any], ColumnElement[int], ColumnElement[str]]:
    """Return the statement that selects the wanted runs, and the columns that it is to be ordered by.

    Where a tag or a chain is wanted, its own index has its runs in the order of a page: whether most runs have it or
    few, only those of the page are looked at.
    """
    statement, led_by = select(runs), runs
    left = {searched(name, LONGEST_TAG): searched(value, LONGEST_TAG) for name, value in wanted.tags.items()}
    if left:
        name, value = left.popitem()
        led_by = tags
        statement = statement.join(tags, tags.c.run_id == runs.c.id).where(tags.c.name == name, tags.c.value == value)
    elif wanted.chain is not None:
        led_by = roots
        other = roots.alias()
        before = (other.c.run_id == roots.c.run_id) & (other.c.chain == roots.c.chain)
        first = ~select(other.c.run_id).where(before, other.c.position < roots.c.position).exists()
        statement = statement.join(roots, roots.c.run_id == runs.c.id).where(roots.c.chain == wanted.chain, first)
    for name, value in left.items():
        tagged = tags.alias()
        same = (tagged.c.run_id == runs.c.id) & (tagged.c.name == name) & (tagged.c.value == value)
        statement = statement.where(select(tagged.c.run_id).where(same).exists())
    for name in ("chain", "task", "path", "key"):
        asked = getattr(wanted, name)
        asked = searched(asked, LONGEST_TASK) if name == "task" and asked is not None else asked
        if asked is not None and not (name == "chain" and led_by is roots):
            rooted = roots.alias()
            statement = statement.where(runs.c.id.in_(select(rooted.c.run_id).where(rooted.c[name] == asked)))
    if wanted.states:
        statement = statement.where(runs.c.state.in_(sorted({state.value for state in wanted.states})))
    if wanted.source is not None:
        statement = statement.where(runs.c.source == wanted.source)
    if wanted.since is not None:
        statement = statement.where(led_by.c.created_at >= to_micros(wanted.since))
    if wanted.until is not None:
        statement = statement.where(led_by.c.created_at < to_micros(wanted.until))
    if wanted.text is not None:
        statement = statement.where(_mentions(wanted.text))
    return statement, led_by.c.created_at, runs.c.id if led_by is runs else led_by.c.run_id


def _mentions(text: str) -> ColumnElement[bool]:
    rooted, tagged = roots.alias(), tags.alias()
    named = [rooted.c.chain, rooted.c.task, rooted.c.path]
    of_roots = select(rooted.c.run_id).where(or_(*(column.icontains(text, autoescape=True) for column in named)))
    of_tags = select(tagged.c.run_id).where(
        or_(tagged.c.name.icontains(text, autoescape=True), tagged.c.value.icontains(text, autoescape=True))
    )
    return or_(
        runs.c.id.icontains(text, autoescape=True),
        runs.c.error.icontains(text, autoescape=True),
        runs.c.id.in_(of_roots),
        runs.c.id.in_(of_tags),
    )


def _token(at: int, run_id: str, secret: str, wanted: Filter) -> str:
    place = json_text([at, run_id]).encode("ascii")
    return base64.urlsafe_b64encode(_signature(place, secret, wanted) + place).decode("ascii").rstrip("=")


def _read_token(token: str, secret: str, wanted: Filter) -> tuple[int, str]:
    try:
        raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raw = b""
    signature, place = raw[:_SIGNED], raw[_SIGNED:]
    if not hmac.compare_digest(signature, _signature(place, secret, wanted)):
        raise errors.UsageError(
            "the token of the next page is not one that was given for these runs",
            hint="begin with the first page, and keep what is asked for as it is",
        )
    at, run_id = json.loads(place)
    return at, run_id


def _signature(place: bytes, secret: str, wanted: Filter) -> bytes:
    signed = json_text(wanted.to_json()).encode("ascii") + b"\0" + place
    return hmac.new(bytes.fromhex(secret), signed, hashlib.sha256).digest()[:_SIGNED]


def steps_of(connection: Connection, run_id: str) -> list[Step]:
    """See `RunStore.steps`."""
    _row(connection, run_id)
    return [step_of(row) for row in connection.execute(_STEPS, {"run_id": run_id})]


def attempts_of(connection: Connection, run_id: str, ref: str | None) -> list[Attempt]:
    """See `RunStore.attempts`."""
    _row(connection, run_id)
    of_run = _ATTEMPTS if ref is None else _ATTEMPTS.where(attempts.c.ref == ref)
    return [attempt_of(row) for row in connection.execute(of_run, {"run_id": run_id})]


def events_of(connection: Connection, run_id: str, after: int, limit: int) -> list[Event]:
    """See `RunStore.events`."""
    if not 1 <= limit <= MOST_EVENTS:
        raise errors.UsageError(f"{limit} events cannot be given at once", hint=f"ask for 1 to {MOST_EVENTS}")
    _row(connection, run_id)
    given = {"run_id": run_id, "after": after, "most": limit}
    return [event_of(row) for row in connection.execute(_EVENTS, given)]


def of_target(connection: Connection, path: str, size: int) -> list[Run]:
    """See `RunStore.of_target`."""
    return [run_of(row) for row in connection.execute(_OF_TARGET, {"path": path, "most": size})]


def run_log(connection: Connection, run_id: str) -> dict[str, object] | None:
    """Return a run log; see `RunStore.run_log`."""
    found = connection.execute(select(run_logs.c.document).where(run_logs.c.run_id == run_id)).scalar()
    return None if found is None else dict(json.loads(found))
