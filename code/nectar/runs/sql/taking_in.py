"""Take what is new in the journals of a folder into the books, and remove those that are done with.

How far a journal was read is written in the transaction that writes its lines. Only one process takes in at a time, so
that no journal is read by two for nothing; were it otherwise, each line would still count once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from nectar import errors
from nectar.runs import lines
from nectar.runs.asking import Taken
from nectar.runs.journal import SUFFIX
from nectar.runs.lines import LINE_LIMIT, Line
from nectar.runs.sql import keeping
from nectar.runs.sql.database import Database, Lock
from nectar.runs.sql.rows import chunks, put
from nectar.runs.sql.tables import journals, runs
from nectar.runs.values import FINAL, RunState, check_run_id

log = logging.getLogger(__name__)

BATCH = 1 << 20  #: bytes of journals that are taken in by one transaction
_OF_PLACE = select(journals).where(journals.c.place == bindparam("place"))
_QUIET_S = 60.0  # of a journal whose run has ended, until it is removed
_LONG_QUIET_S = 86_400.0  # of one that ends with half a line, says nothing, or whose run may turn out to be alive


@dataclass(frozen=True, slots=True)
class _Seen:
    """A journal as the folder has it."""

    run_id: str
    path: str
    size: int  #: bytes
    file: int  #: inode
    changed: int  #: nanoseconds since 1970


@dataclass(slots=True)
class _Read:
    """What was read of a journal."""

    said: list[Line]
    position: int  #: bytes; what follows is no whole line yet
    damaged: int = 0


def take_in(database: Database, folder: str | os.PathLike[str]) -> Taken:
    """Take in what is new; see `RunStore.take_in`."""
    place = f"{socket.gethostname()}:{os.path.realpath(folder)}"
    there = _look(folder)
    if not there:
        return Taken()
    known = database.read(lambda connection: _positions(connection, place, None))
    new = [one for one in there if _is_new(one, known.get(one.run_id))]
    taken = Taken()
    while new:
        batch = _batch(new, known)
        done, unfinished = database.write(partial(_take_batch, place=place, batch=batch), Lock.TAKE_IN)
        taken += done
        new = unfinished + new[len(batch) :]
    return taken + _remove_done(database, place, there)


def _look(folder: str | os.PathLike[str]) -> list[_Seen]:
    """Return the journals of a folder by their names; a folder that is not there has none."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError, errors.UsageError):  # removed meanwhile; no run's name
                    if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                        run_id = check_run_id(entry.name[: -len(SUFFIX)])
                        about = entry.stat(follow_symlinks=False)
                        found.append(_Seen(run_id, entry.path, about.st_size, about.st_ino, about.st_mtime_ns))
    except FileNotFoundError:
        return []
    except OSError as problem:
        log.warning("the journals of runs cannot be listed: %s", problem)
        return []
    return sorted(found, key=lambda one: one.run_id)


def _positions(connection: Connection, place: str, run_ids: Sequence[str] | None) -> dict[str, Any]:
    """Return what the books know of journals, by run id."""
    wanted = _OF_PLACE if run_ids is None else _OF_PLACE.where(journals.c.run_id.in_(run_ids))
    return {row.run_id: row for row in connection.execute(wanted, {"place": place})}


def _is_new(seen: _Seen, known: Any) -> bool:
    return known is None or (known.changed, known.file) != (seen.changed, seen.file) or known.position > seen.size


def _batch(new: Sequence[_Seen], known: dict[str, Any]) -> list[_Seen]:
    """Return the first of the journals that one transaction takes in: as much as BATCH, but one at least."""
    batch: list[_Seen] = []
    room = BATCH
    for one in new[:500]:
        position = known[one.run_id].position if one.run_id in known else 0
        room -= max(one.size - position, 0)
        if batch and room < 0:
            break
        batch.append(one)
    return batch


def _take_batch(connection: Connection, place: str, batch: Sequence[_Seen]) -> tuple[Taken, list[_Seen]]:
    """Take journals in; return those as well of which something is left to take."""
    known = _positions(connection, place, [one.run_id for one in batch])
    taken, unfinished, rows = Taken(), [], []
    for seen in batch:
        row = known.get(seen.run_id)
        # Another inode is another file; a shorter one lost its end, with the power of its machine.
        position = row.position if row is not None and row.file == seen.file and row.position <= seen.size else 0
        try:
            read = _read(seen, position)
        except FileNotFoundError:  # another process is done with it
            continue
        except OSError as problem:
            log.warning("the journal `%s` cannot be read: %s", seen.path, problem)
            continue
        if read.damaged:
            log.warning("%d lines of the journal `%s` cannot be read", read.damaged, seen.path)
        counted = keeping.record(connection, seen.run_id, read.said)
        keeping.heard(connection, seen.run_id, seen.changed // 1000)
        finished = read.position == position or read.position >= seen.size
        if not finished:
            unfinished.append(seen)
        rows.append(
            {
                "place": place,
                "run_id": seen.run_id,
                "file": seen.file,
                "position": read.position,
                "changed": seen.changed if finished else 0,
            }
        )
        taken += Taken(lines=counted, runs=int(finished), damaged=read.damaged)
    put(connection, journals, rows)
    return taken, unfinished


def _read(seen: _Seen, position: int) -> _Read:
    """Return the whole lines of a journal that follow `position`, as much as BATCH.

    Raises:
        OSError: when it cannot be read.
    """
    descriptor = os.open(seen.path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0))
    try:
        return _lines(os.pread(descriptor, BATCH, position), position, seen.run_id)
    finally:
        os.close(descriptor)


def _lines(raw: bytes, position: int, run_id: str) -> _Read:
    end = raw.rfind(b"\n") + 1
    read = _Read([], position + end)
    if not end and len(raw) == BATCH:  # no line is as long: a disk lost what was here
        read.position = position + BATCH - LINE_LIMIT
        read.damaged = 1
    for one in raw[:end].split(b"\n"):
        if one.strip(b"\0"):
            line = lines.decode(one, run_id)
            if line is None:
                read.damaged += 1
            else:
                read.said.append(line)
    return read


def _remove_done(database: Database, place: str, there: Sequence[_Seen]) -> Taken:
    """Remove journals that are read to their ends, whose runs have ended, and that nobody writes any more."""
    now = time.time_ns()
    quiet = [one for one in there if now - one.changed > _QUIET_S * 1e9]
    taken = Taken()
    for some in chunks(quiet):
        by_id = {one.run_id: one for one in some}
        for run_id in database.read(partial(_done, place=place, quiet=by_id, now=now)):
            taken += _remove(database, place, by_id[run_id])
    return taken


def _done(connection: Connection, place: str, quiet: dict[str, _Seen], now: int) -> list[str]:
    known = _positions(connection, place, list(quiet))
    found = connection.execute(select(runs.c.id, runs.c.state).where(runs.c.id.in_(list(quiet))))
    states = {row.id: row.state for row in found}
    return [run_id for run_id, seen in quiet.items() if _is_done(seen, known.get(run_id), states.get(run_id), now)]


def _is_done(seen: _Seen, known: Any, state: str | None, now: int) -> bool:
    if known is None or (known.file, known.changed) != (seen.file, seen.changed):
        return False
    if now - seen.changed > _LONG_QUIET_S * 1e9:
        return state is None if seen.size == 0 else state is not None and RunState(state) in FINAL
    return known.position == seen.size and state is not None and RunState(state) in FINAL - {RunState.CRASHED}


def _remove(database: Database, place: str, seen: _Seen) -> Taken:
    """Remove a journal; what was written to it at the last moment is taken in all the same."""
    try:
        descriptor = os.open(seen.path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return Taken()
    except OSError as problem:
        log.warning("the journal `%s` cannot be removed: %s", seen.path, problem)
        return Taken()
    try:
        os.unlink(seen.path)
        late = list(_rest(descriptor, seen))
    except FileNotFoundError:  # another process was faster, and takes the rest in
        return Taken()
    except OSError as problem:
        log.warning("the journal `%s` cannot be removed: %s", seen.path, problem)
        return Taken()
    finally:
        os.close(descriptor)

    def forget(connection: Connection) -> int:
        here = (journals.c.place == place) & (journals.c.run_id == seen.run_id) & (journals.c.file == seen.file)
        connection.execute(delete(journals).where(here))
        return keeping.record(connection, seen.run_id, late)

    return Taken(lines=database.write(forget), removed=1)


def _rest(descriptor: int, seen: _Seen) -> Iterator[Line]:
    """Yield the lines that came after a journal was looked at."""
    position = seen.size
    while raw := os.pread(descriptor, BATCH, position):
        read = _lines(raw, position, seen.run_id)
        yield from read.said
        if read.position == position:
            return
        position = read.position
