"""Write down what happens in a run, in a file of its own: the run store for whoever carries a run out.

A database that is locked or away must not stop or slow a run that has begun, and its connection must not cross a fork.
So that a run is in the history it is enough that its file is there: whoever asks takes it into the books first.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import count, islice
from pathlib import Path
from types import TracebackType
from typing import Any

from nectar.runs import lines
from nectar.runs.process import this_process
from nectar.runs.values import FINAL, NewRun, Process, RunState, check_run_id, to_micros

log = logging.getLogger(__name__)

SUFFIX = ".jsonl"
_KEPT = 10_000  #: lines that wait in memory while none can be written
_AT_ONCE = 256  #: lines that are written together
_AGAIN_S = 1.0  #: until it is tried again


class _Writer:
    """One process that writes a journal: its name, its lines' numbers, and what it could not write yet."""

    def __init__(self, run_id: str) -> None:
        self.name = f"{os.getpid()}-{secrets.token_hex(6)}"
        self.head = lines.head(run_id).decode("ascii") + f'{self.name}","number":'
        self.numbers = count(1)  # of all counters the one that threads can share without a lock
        self.waiting: list[bytes] = []
        self.lost = 0
        self.torn = False  # True: the file may end with half a line of this process
        self.tried_at = float("-inf")  # on the monotonic clock
        self.mending = threading.Lock()


class Journal:
    """The journal of one run. Threads share it, and so do children that were forked: each is a writer of its own.

    Nothing here ever raises because of the disk: a run goes on without its history. What cannot be written waits in
    memory and is written when it can be; one warning says so. Of more than 10,000 lines that wait, those that say what
    became of the run, its steps and attempts are kept.
    """

    def __init__(self, folder: str | os.PathLike[str], run_id: str) -> None:
        """Name the journal; its file is opened with the first line.

        Raises:
            UsageError: when the id cannot be a file's name.
        """
        self.run_id = check_run_id(run_id)
        self.path = Path(folder, run_id + SUFFIX)
        self._descriptor = -1
        self._writer = _Writer(run_id)
        self._warned = False
        _journals.add(self)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def claim(self) -> bool:
        """Make the file of a run that waited in a queue; False where it is there: another process carries the run out.

        Of several processes that are started for one run so only one begins. Where the disk fails nobody is refused.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        except OSError as problem:
            if self.path.exists():
                return False
            self._failed(self._writer, problem)
        return True

    def create(
        self,
        new: NewRun,
        *,
        state: RunState = RunState.STARTING,
        process: Process | None = None,
        at: datetime | None = None,
    ) -> bool:
        """Begin the history of a run that this process, or the one that is named, carries out.

        It begins as STARTING, not as QUEUED: otherwise a server could take it from its queue. Returns True once that
        outlives a crash and a power loss, False while it waits for the disk.
        """
        body = {
            "new": new.to_json(),
            "state": state.value,
            "process": (process or this_process()).to_json(),
        }
        return self._write(lines.RUN_CREATED, None, "created", body, at, durable=True)

    def state(
        self, state: RunState, *, error: str | None = None, process: Process | None = None, at: datetime | None = None
    ) -> bool:
        """Say where the run stands. Of a final state: True once that outlives a crash and a power loss."""
        body: dict[str, Any] = {"state": state.value}
        if error is not None:
            body["error"] = error
        if process is None and state in (RunState.STARTING, RunState.RUNNING):
            process = this_process()
        if process is not None:
            body["process"] = process.to_json()
        return self._write(lines.RUN_STATE, None, "state", body, at, durable=state in FINAL)

    def step(
        self,
        ref: str,
        task: str,
        status: str,
        *,
        path: str | None = None,
        attempts: int | None = None,
        seconds: float | None = None,
        error: str | None = None,
        code: str | None = None,
        hint: str | None = None,
        logs: str | None = None,
        at: datetime | None = None,
    ) -> bool:
        """Say that a step has begun (`running`), or how it ended. Returns False while that waits for the disk."""
        body = {"ref": ref, "status": status, "path": path, "attempts": attempts, "seconds": seconds}
        body |= {"error": error, "code": code, "hint": hint, "logs": logs}
        kind = lines.STEP_STARTED if status == lines.RUNNING else lines.STEP_ENDED
        return self._write(kind, task, "step", _given(body), at)

    def steps(self, ended: Iterable[tuple[str, str, str | None]], status: str) -> bool:
        """Say of many steps, each told by its ref, its task and its path, that they ended alike: many lines at a time.

        Returns False while a part of it waits for the disk.
        """
        micros = time.time_ns() // 1000
        pieces, written = iter(ended), True
        while some := list(islice(pieces, _AT_ONCE)):
            written &= self._write_all(
                [
                    self._line(
                        lines.STEP_ENDED, task, "step", _given({"ref": ref, "status": status, "path": path}), micros
                    )
                    for ref, task, path in some
                ]
            )
        return written

    def attempt(
        self,
        ref: str,
        number: int,
        *,
        task: str | None = None,
        attempt: str | None = None,
        outcome: str | None = None,
        error: str | None = None,
        logs: str | None = None,
        at: datetime | None = None,
    ) -> bool:
        """Say that the attempt of this number at a step has begun, or its outcome. False while that waits."""
        body = {"ref": ref, "number": number, "attempt": attempt, "outcome": outcome, "error": error, "logs": logs}
        kind = lines.ATTEMPT_STARTED if outcome is None else lines.ATTEMPT_ENDED
        return self._write(kind, task, "attempt", _given(body), at)

    def event(self, kind: str, *, task: str | None = None, detail: Any = None, at: datetime | None = None) -> bool:
        """Write down anything else that happened; `detail` is a JSON value. False where it waits, or is lost."""
        return self._write(kind, task, "detail", detail, at)

    def beat(self) -> None:
        """Give a sign of life: the time of the file's last change. A file that was removed is made again."""
        writer = self._writer
        if not (self._mend(writer) and writer.mending.acquire(blocking=False)):
            return
        try:
            if self._is_open():
                os.utime(self._descriptor)
            else:
                self._open()
        except OSError as problem:
            self._failed(writer, problem)
        finally:
            writer.mending.release()

    def close(self) -> None:
        """Write what waits, if that can be, and close the file; another line would open it again."""
        self._mend(self._writer, now=True)
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def begin_in_child(self) -> None:
        """Be a writer of one's own in a process that was forked: what waits is the parent's to write."""
        self._writer = _Writer(self.run_id)

    def _write(
        self, kind: str, task: str | None, member: str, body: Any, at: datetime | None, *, durable: bool = False
    ) -> bool:
        writer = self._writer
        line = self._line(kind, task, member, body, time.time_ns() // 1000 if at is None else to_micros(at))
        if writer.waiting or writer.torn or self._descriptor < 0 or durable:
            return self._write_with_care(writer, line, durable=durable, dispensable=member == "detail")
        return self._append(writer, [line], dispensable=member == "detail")

    def _line(self, kind: str, task: str | None, member: str, body: Any, micros: int) -> bytes:
        writer = self._writer
        document = {"kind": kind}
        if task is not None:
            document["task"] = task
        if body is not None:
            document[member] = body
        begin = f'{writer.head}{next(writer.numbers)},"at":{micros},'
        return (begin + lines.encode(document, lines.LINE_LIMIT - len(begin))[1:] + "\n").encode("ascii")

    def _write_all(self, some: list[bytes]) -> bool:
        writer = self._writer
        if writer.waiting or writer.torn or self._descriptor < 0:
            writer.waiting += some
            return self._mend(writer)
        return self._append(writer, some, dispensable=False)

    def _append(self, writer: _Writer, some: list[bytes], *, dispensable: bool) -> bool:
        """Write lines at once to a file that is open; those that have no room wait, also one that was torn."""
        raw = some[0] if len(some) == 1 else b"".join(some)
        written = 0
        try:
            written = os.write(self._descriptor, raw)
            if written == len(raw):
                return True
            writer.torn = True
        except OSError as problem:
            self._failed(writer, problem)
        for line in some:
            written -= len(line)
            if written < 0:
                self._keep(writer, line, dispensable=dispensable)
        return False

    def _write_with_care(self, writer: _Writer, line: bytes, *, durable: bool, dispensable: bool) -> bool:
        """Write a line after those that wait, and wait for the disk where it is to be durable."""
        self._keep(writer, line, dispensable=dispensable)
        if not self._mend(writer, now=durable):
            return False
        try:
            if durable:
                os.fsync(self._descriptor)
        except OSError as problem:
            self._failed(writer, problem)
            return False
        return True

    def _keep(self, writer: _Writer, line: bytes, *, dispensable: bool) -> None:
        if dispensable and len(writer.waiting) >= _KEPT:
            writer.lost += 1
        else:
            writer.waiting.append(line)

    def _mend(self, writer: _Writer, *, now: bool = False) -> bool:
        """Write what waits; return False where something still does.

        After a failure it is tried again a second later, or with the next line that is to be durable.
        """
        if not (writer.waiting or writer.lost):
            return True
        if not now and time.monotonic() - writer.tried_at < _AGAIN_S:
            return False
        # Not for ever: a signal's handler that writes a line may have interrupted the one who holds the lock.
        if not writer.mending.acquire(timeout=_AGAIN_S if now else 0):
            return False
        try:
            if self._descriptor < 0 or (now and not self._is_open()):
                self._open()
            self._write_waiting(writer)
        except OSError as problem:
            self._failed(writer, problem)
            return False
        finally:
            writer.mending.release()
        lost, writer.lost = writer.lost, 0
        return not lost or self._write(lines.LINES_LOST, None, "detail", {"lines": lost}, None)

    def _write_waiting(self, writer: _Writer) -> None:
        while writer.waiting:
            # Another writer's line may stand where this one's was torn: it begins on a line of its own.
            line = b"\n" + writer.waiting[0] if writer.torn else writer.waiting[0]
            written = os.write(self._descriptor, line)
            writer.torn = written < len(line)
            if writer.torn:
                raise OSError(f"{written} of {len(line)} bytes were written")
            del writer.waiting[0]

    def _is_open(self) -> bool:
        return self._descriptor >= 0 and os.fstat(self._descriptor).st_nlink > 0

    def _open(self) -> None:
        """Open the file, and have it in its folder for good.

        Raises:
            OSError: when it cannot be opened.
        """
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        opened = os.open(self.path, flags, 0o644)
        if self._descriptor < 0:
            self._descriptor = opened
        else:  # another thread may be about to write: to that number no other file may ever belong
            os.dup2(opened, self._descriptor, inheritable=False)
            os.close(opened)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(held)
        finally:
            os.close(held)

    def _failed(self, writer: _Writer, problem: OSError) -> None:
        writer.tried_at = time.monotonic()
        if problem.errno == errno.EBADF:  # somebody closed what was not theirs
            self._descriptor = -1
        if not self._warned:
            self._warned = True
            log.warning(
                "the history of this run cannot be written, and waits: %s",
                problem,
                extra={"run_id": self.run_id, "path": str(self.path)},
            )


def _given(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _begin_in_child() -> None:
    for journal in list(_journals):
        journal.begin_in_child()


os.register_at_fork(after_in_child=_begin_in_child)  # before the child has threads, which would make a writer each
