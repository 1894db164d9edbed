"""Make the file of the books, and refuse one that is something else before SQLite touches it."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import urllib.parse
from pathlib import Path

from nectar import errors

#: says in the file's header whose it is: https://www.sqlite.org/fileformat2.html#application_id
APPLICATION_ID = int.from_bytes(b"NCTR", "big")
_MAGIC = b"SQLite format 3\0"
_ID_AT = 68


def connect(path: Path, patience_s: float) -> sqlite3.Connection:
    """Return a connection to a file that is there; threads may hand it to each other.

    Raises:
        sqlite3.OperationalError: when the file cannot be opened.
    """
    uri = f"file:{urllib.parse.quote(str(path))}?mode=rw"  # rw: a file that was removed meanwhile is not made by SQLite
    connection = sqlite3.connect(uri, uri=True, timeout=patience_s, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")  # with less, a power loss takes what was acknowledged
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def prepare(path: Path) -> tuple[int, int]:
    """Make sure that there is a file of ours, and return what names it: device and inode.

    Raises:
        RunStoreInvalid: when there is something else; it is not touched.
        RunStoreUnreachable: when it can be neither read nor made.
    """
    try:
        if not path.exists():
            left = Path(f"{path}-wal")
            # SQLite would take what the removed file left behind for the new file's own.
            if left.exists() and left.stat().st_size and not path.exists():
                raise invalid(path, f"`{left.name}` lies there without it, and may have what it lacks")
            _make(path)
        if not path.is_file():
            raise invalid(path, "it is not a file")
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            header = file.read(_ID_AT + 4)
    except OSError as problem:
        raise errors.RunStoreUnreachable(
            f"the run store `{path}` cannot be opened: {problem.strerror or problem}",
            hint="look at the permissions and at the disk, or name another one by NECTAR_RUNS",
        ) from problem
    if not header:
        raise invalid(path, "it is empty")
    if not header.startswith(_MAGIC) or len(header) < _ID_AT + 4:
        raise invalid(path, "it is no SQLite file")
    if int.from_bytes(header[_ID_AT:], "big") != APPLICATION_ID:
        raise invalid(path, "it belongs to another program")
    return found.st_dev, found.st_ino


def invalid(path: Path, why: str) -> errors.RunStoreInvalid:
    """Return the error to raise for a file that is not what it should be."""
    return errors.RunStoreInvalid(
        f"the run store `{path}` cannot be used: {why}",
        hint=f"restore a backup, or move `{path.name}`, `{path.name}-wal` and `{path.name}-shm` away: then the history "
        "begins anew; targets are not touched, and what journals still have is taken in again",
    )


def _make(path: Path) -> None:
    """Put a new file into its place as a whole: nobody ever sees half of one, and the first of several stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        connection = sqlite3.connect(made, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        finally:
            connection.close()
        _sync(made)
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(made, path)
        _sync(path.parent)
    except sqlite3.Error as problem:
        raise OSError(str(problem)) from problem
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{made}{suffix}").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
