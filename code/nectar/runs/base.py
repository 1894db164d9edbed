"""What the books can do, whichever database they are kept in.

Every method may also raise `RunStoreUnreachable`, when the database is locked or away for longer than it is waited
for, and `RunStoreInvalid`, when what lies there cannot be read. What a method has returned from outlives any crash.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from nectar.runs.asking import EVERYTHING, NO_LIMITS, Filter, Limits, Page, Taken, Token
from nectar.runs.lines import Line
from nectar.runs.values import Attempt, Event, NewRun, Process, Run, RunState, Step


class Keeping(Protocol):
    """How runs come into the books, and advance."""

    def create(self, new: NewRun, state: RunState = RunState.QUEUED) -> Run:
        """Return the run, which is there from now on; it is no other one if it was there before.

        A run of the same id and content is returned as it is; `created_at` does not count for that.

        Raises:
            RunExists: when the run of this id is another one.
            UsageError: when the id cannot be one.
        """

    def advance(
        self, run_id: str, state: RunState, *, at: datetime, error: str | None = None, process: Process | None = None
    ) -> Run:
        """Put a run into a later state, and return it. One that is there already stays as it is.

        Raises:
            RunNotFound: when there is no run of this id.
            RunStateConflict: when that state may not follow the one that it is in.
        """

    def record(self, run_id: str, lines: Sequence[Line]) -> int:
        """Take lines of a run's journal into the books, in any order, each once; return how many were new.

        They are the run's own word: its state goes to the latest one that they name, and a final state stays, unless
        it is CRASHED. Lines of a run that nobody created make one, whose beginning is unknown.
        """

    def take_in(self, folder: str | os.PathLike[str]) -> Taken:
        """Take in what is new in the journals of a folder, and remove those that are done with.

        Several processes may do so at once. A journal that cannot be read is reported to the log, and left.
        """


class History(Protocol):
    """What the books answer."""

    def run(self, run_id: str) -> Run:
        """Return the run of this id.

        Raises:
            RunNotFound: when there is none.
        """

    def find(self, prefix: str) -> Run:
        """Return the run of this id, or the only one whose id begins so.

        Raises:
            UsageError: for less than 6 characters, unless they are the id.
            RunNotFound: when there is none.
            RunAmbiguous: when there are several.
        """

    def list(self, wanted: Filter = EVERYTHING, size: int = 50, token: str | None = None) -> Page:
        """Return up to `size` of the wanted runs, newest first, after those that `token` ends.

        No run is given twice or left out when new ones come between two pages.

        Raises:
            UsageError: when `size` is not from 1 to 1000, or the token is not one that was given for this filter.
        """

    def steps(self, run_id: str) -> Sequence[Step]:
        """Return the steps of a run in the order in which they were first heard of.

        Raises:
            RunNotFound: when there is no run of this id.
        """

    def attempts(self, run_id: str, ref: str | None = None) -> Sequence[Attempt]:
        """Return the attempts of a run, or of one of its steps, by step and number.

        Raises:
            RunNotFound: when there is no run of this id.
        """

    def events(self, run_id: str, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        """Return up to `limit` events of a run, those whose numbers follow `after`, in their order.

        Raises:
            RunNotFound: when there is no run of this id.
            UsageError: when `limit` is not from 1 to 10000.
        """

    def of_target(self, path: str, size: int = 100) -> Sequence[Run]:
        """Return the newest runs that were asked for the target at `path`, or had a step that makes it."""


class RunLogs(Protocol):
    """What pipelines tell of their runs, each as one document."""

    def keep_run_log(self, run_id: str, document: Mapping[str, object]) -> None:
        """Keep the run log of a run, in the place of an earlier one of it."""

    def run_log(self, run_id: str) -> dict[str, object] | None:
        """Return the run log of a run, None where there is none."""


class Queue(Protocol):
    """What servers do with runs that wait."""

    def enqueue(self, new: NewRun, *, most: int | None = None) -> Run:
        """Put a run into the queue and return it; or return the one that makes its only root's target, or waits to.

        A run that repeats another one joins none, and two join only with the same selection. A run of this id is
        returned as it is, as by `create`.

        Raises:
            QueueFull: when `most` runs wait already.
            RunExists: when the run of this id is another one.
            UsageError: when the id cannot be one.
        """

    def states(self) -> Mapping[RunState, int]:
        """Return how many runs there are in each state that any is in."""

    def claim(self, server: str, limits: Limits = NO_LIMITS, *, now: datetime) -> Run | None:
        """Take the next run from the queue: it is STARTING, and nobody else's. None when there is none to take.

        The highest priority comes first, then who came first. A run that a limit blocks does not block others.
        """

    def stale(self, now: datetime, older_than: timedelta) -> Sequence[Run]:
        """Return the runs that somebody carries out, and that gave no sign of life for so long, oldest first."""


class Gate(Protocol):
    """What keeps requests apart."""

    def idempotency(self, key: str, digest: str, run_id: str, *, at: datetime) -> str:
        """Return the id of the run that belongs to a key: `run_id`, unless the key was used before.

        Raises:
            IdempotencyConflict: when it was used with another digest.
        """

    def add_token(self, name: str, secret_hash: str, scopes: Sequence[str], *, at: datetime) -> Token:
        """Return a new token. Adding it again is no error and changes nothing.

        Raises:
            TokenExists: when there is another one of this name, or of this hash.
        """

    def tokens(self) -> Sequence[Token]:
        """Return all tokens by name, those that were revoked among them."""

    def revoke_token(self, name: str, *, at: datetime) -> Token:
        """Return the token, which is not valid any more.

        Raises:
            TokenNotFound: when there is none of this name.
        """

    def find_token(self, secret_hash: str) -> Token | None:
        """Return the token of this hash, None where there is none, or it was revoked."""


class RunStore(Keeping, History, RunLogs, Queue, Gate, Protocol):
    """The books: the history of runs, and the queue of those to come. Threads and forked children may share it."""

    url: str  #: how it is named in settings and messages; without a password

    def close(self) -> None:
        """Close this process's connections; the next call opens others."""
