"""Write runs into the books: make them, advance them, and take the lines of their journals in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from nectar import errors
from nectar.runs import lines
from nectar.runs.folding import AttemptState, Ledger, StepState, named_steps
from nectar.runs.lines import Line
from nectar.runs.sql.rows import chunks, insert_if_new, json_text, put, rows_of, run_of
from nectar.runs.sql.tables import attempts, events, roots, run_logs, runs, steps, tags
from nectar.runs.values import NewRun, Process, Run, RunState, from_micros, may_follow, to_micros

_STEP_FIELDS = tuple(StepState.__dataclass_fields__)
_ATTEMPT_FIELDS = tuple(AttemptState.__dataclass_fields__)

# What every change of a run says is put together once: that takes longer than to carry it out.
_LOCKED = select(runs).where(runs.c.id == bindparam("run_id")).with_for_update()
_COUNTED = update(runs).where(runs.c.id == bindparam("run_id")).values(events=bindparam("number"))


def create(connection: Connection, new: NewRun, state: RunState) -> Run:
    """Make a run, unless it is there; see `RunStore.create`."""
    row, roots_of, tags_of = rows_of(new)
    heard_at = row["created_at"]
    fresh = row | {"id": new.id, "state": state.value, "heard_at": heard_at, "counts": "{}", "events": 0}
    if not insert_if_new(connection, runs, fresh):
        found = locked(connection, new.id)
        if found.digest == row["digest"]:
            return run_of(found)
        if found.digest:
            raise errors.RunExists(
                f"there is another run with the id `{new.id}`", hint="leave the id out, and a new one is made"
            )
        _fill(connection, new)  # its journal came first, without its beginning
        return run_of(locked(connection, new.id))
    _insert_all(connection, roots, roots_of)
    _insert_all(connection, tags, tags_of)
    note(connection, locked(connection, new.id), to_micros(new.created_at), lines.RUN_CREATED, {"state": state.value})
    return run_of(locked(connection, new.id))


def keep_run_log(connection: Connection, run_id: str, document: Mapping[str, object]) -> None:
    """Keep a run log; see `RunStore.keep_run_log`."""
    put(connection, run_logs, [{"run_id": run_id, "document": json.dumps(document)}])  # in the order of its steps


def advance(
    connection: Connection, run_id: str, state: RunState, at: datetime, error: str | None, process: Process | None
) -> Run:
    """Put a run into a later state; see `RunStore.advance`."""
    found = locked(connection, run_id)
    old = RunState(found.state)
    if old is state:
        return run_of(found)
    if not may_follow(old, state):
        raise errors.RunStateConflict(
            f"the run `{run_id}` is {old.value} and cannot become {state.value}",
            hint="it has ended; run it again" if old.final else "look at it again: it may have gone on meanwhile",
        )
    micros = to_micros(at)
    ledger = _ledger(found)
    ledger.advance(state, micros, error)
    changed: dict[str, Any] = {
        "state": state.value,
        "error": ledger.error,
        "ended_at": ledger.ended_at,
        "heard_at": max(found.heard_at, micros),
    }
    detail: dict[str, Any] = {"state": state.value}
    if state is RunState.RUNNING and found.started_at is None:
        changed["started_at"] = micros
    if error is not None:
        detail["error"] = error
    if process is not None:
        detail["process"] = process.to_json()
        changed["process"] = json_text(process.to_json())
    connection.execute(update(runs).where(runs.c.id == run_id).values(changed))
    note(connection, found, micros, lines.RUN_STATE, detail)
    return run_of(locked(connection, run_id))


def locked(connection: Connection, run_id: str) -> Row[Any]:
    """Return the row of a run, which nobody else changes until the transaction ends.

    Raises:
        RunNotFound: when there is none.
    """
    row = connection.execute(_LOCKED, {"run_id": run_id}).one_or_none()
    if row is None:
        raise errors.RunNotFound(f"there is no run `{run_id}`", hint="`nectar runs` lists them")
    return row


def note(connection: Connection, run: Row[Any], at: int, kind: str, detail: Any) -> None:
    """Add an event to a run whose row is locked; it is the books' own word."""
    number = run.events + 1
    row = {"run_id": run.id, "number": number, "at": at, "kind": kind, "detail": json_text(detail)}
    connection.execute(insert(events), row)
    connection.execute(_COUNTED, {"run_id": run.id, "number": number})


def record(connection: Connection, run_id: str, said: Sequence[Line]) -> int:
    """Take lines in that were not counted before, and return how many; see `RunStore.record`."""
    if not said:
        return 0
    first = min(line.at for line in said)
    unknown = NewRun(run_id, from_micros(first), source="unknown")
    row, _, _ = rows_of(unknown)
    # Not QUEUED, or a server would take it: whoever writes a journal carries the run out.
    blank = {"state": RunState.STARTING.value, "heard_at": first, "counts": "{}", "events": 0, "digest": ""}
    insert_if_new(connection, runs, {"id": run_id} | row | blank)
    found = locked(connection, run_id)
    fresh = list(_fresh(connection, run_id, said))
    if not fresh:
        return 0
    ledger = _ledger(found)
    _load(connection, ledger, fresh)
    for line in fresh:
        ledger.fold(line)
    _store(connection, found, ledger)
    return len(fresh)


def heard(connection: Connection, run_id: str, at: int) -> None:
    """Note a sign of life of a run."""
    connection.execute(update(runs).where(runs.c.id == run_id, runs.c.heard_at < at).values(heard_at=at))


def _fresh(connection: Connection, run_id: str, said: Iterable[Line]) -> Iterable[Line]:
    """Yield the lines that were not counted before, each once."""
    by_writer: dict[str, dict[int, Line]] = {}
    for line in said:
        by_writer.setdefault(line.writer, {}).setdefault(line.number, line)
    counted: set[tuple[str, int]] = set()
    for writer, numbered in by_writer.items():
        known = (
            select(events.c.line)
            .where(events.c.run_id == run_id, events.c.writer == writer)
            .where(events.c.line >= min(numbered), events.c.line <= max(numbered))
        )
        counted.update((writer, number) for number in connection.execute(known).scalars())
    for line in said:
        if (line.writer, line.number) not in counted:
            counted.add((line.writer, line.number))
            yield line


def _ledger(row: Row[Any]) -> Ledger:
    return Ledger(
        run_id=row.id,
        state=RunState(row.state),
        started_at=row.started_at,
        ended_at=row.ended_at,
        heard_at=row.heard_at,
        error=row.error,
        counts=json.loads(row.counts),
        events=row.events,
    )


def _load(connection: Connection, ledger: Ledger, said: Sequence[Line]) -> None:
    """Let a ledger have what the books know of the steps and attempts that lines speak of."""
    refs, numbers = named_steps(said)
    of_run = select(steps).where(steps.c.run_id == ledger.run_id)
    for some in chunks(refs) if ledger.counts else ():
        for row in connection.execute(of_run.where(steps.c.ref.in_(some))):
            ledger.steps[row.ref] = StepState(**{name: getattr(row, name) for name in _STEP_FIELDS})
    tried = select(attempts).where(attempts.c.run_id == ledger.run_id)
    for some in chunks({ref for ref, _ in numbers if ref in ledger.steps}):
        for row in connection.execute(tried.where(attempts.c.ref.in_(some))):
            if (row.ref, row.number) in numbers:
                found = AttemptState(**{name: getattr(row, name) for name in _ATTEMPT_FIELDS})
                ledger.attempts[row.ref, row.number] = found


def _store(connection: Connection, found: Row[Any], ledger: Ledger) -> None:
    if ledger.new is not None and not found.digest:
        _fill(connection, ledger.new)
    changed: dict[str, Any] = {
        "state": ledger.state.value,
        "started_at": ledger.started_at,
        "ended_at": ledger.ended_at,
        "heard_at": ledger.heard_at,
        "error": ledger.error,
        "counts": json_text(ledger.counts),
        "events": ledger.events,
    }
    if ledger.process is not None:
        changed["process"] = json_text(dict(ledger.process))
    connection.execute(update(runs).where(runs.c.id == ledger.run_id).values(changed))
    noted = [
        {
            "run_id": ledger.run_id,
            "number": number,
            "at": line.at,
            "kind": line.kind,
            "task": line.task,
            "detail": None if detail is None else json_text(detail),
            "writer": line.writer,
            "line": line.number,
        }
        for number, line, detail in ledger.noted
    ]
    _insert_all(connection, events, noted)
    stepped = [
        {"run_id": ledger.run_id, "ref": ref} | {name: getattr(one, name) for name in _STEP_FIELDS}
        for ref, one in ledger.steps.items()
    ]
    put(connection, steps, stepped)
    tried = [
        {"run_id": ledger.run_id, "ref": ref, "number": number} | {name: getattr(one, name) for name in _ATTEMPT_FIELDS}
        for (ref, number), one in ledger.attempts.items()
    ]
    put(connection, attempts, tried)


def _fill(connection: Connection, new: NewRun) -> None:
    """Let a run of which only the journal was known have what it was asked for."""
    row, roots_of, tags_of = rows_of(new)
    connection.execute(update(runs).where(runs.c.id == new.id).values(row))
    _insert_all(connection, roots, roots_of)
    _insert_all(connection, tags, tags_of)


def _insert_all(connection: Connection, table: Any, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)
