"""Ask the history of runs: which there were, what became of each, and what its steps did."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from nectar import errors
from nectar.records import utc_now
from nectar.runs import Attempt, Process, Run, RunState, RunStore, Step, is_alive, open_books
from nectar.settings import Settings

SILENCE = timedelta(minutes=5)  #: after which a run on another host counts as crashed
START = timedelta(seconds=15)  #: within which a process says that it carries a run out, and a server how it ended


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[RunStore]:
    """Open the books for a while, with all that the journals of this project say, and without runs that are dead.

    Raises:
        RunStoreUnreachable, RunStoreInvalid: when they cannot be read.
    """
    books = open_books(settings.run_store_url)
    try:
        books.take_in(settings.journals_dir)
        note_the_dead(books, settings)
        yield books
    finally:
        books.close()


def note_the_dead(books: RunStore, settings: Settings) -> None:
    """Mark runs as crashed whose process is gone, or that were silent for too long on another host.

    Those that were to be canceled are canceled then. Where the server that started the process is there, it knows best
    how that ended, and is waited for.

    Raises:
        RunStoreUnreachable, RunStoreInvalid: when the books cannot be read.
    """
    dead = {run.id: why for run in books.stale(utc_now(), timedelta(0)) if (why := _why_dead(run)) is not None}
    if not dead:
        return
    books.take_in(settings.journals_dir)  # it may have ended well since they were read
    for run_id, error in dead.items():
        with contextlib.suppress(errors.RunStateConflict):  # somebody else saw it, or it ended just now
            state = books.run(run_id).state
            if state is RunState.CANCELING:
                books.advance(run_id, RunState.CANCELED, at=utc_now(), error="it was canceled")
            elif not state.final:
                books.advance(run_id, RunState.CRASHED, at=utc_now(), error=error)


def _why_dead(run: Run) -> str | None:
    """Return why a run that somebody carries out counts as crashed, None where it does not."""
    here = socket.gethostname()
    silent_for = utc_now() - (run.heard_at or run.created_at)
    server = Process.read(run.server)
    if run.process is not None and run.process.host == here:
        waits = server is not None and bool(is_alive(server)) and silent_for < START
        return "its process ended without a word" if is_alive(run.process) is False and not waits else None
    if run.process is None and server is not None and server.host == here:
        # Where the server ended, too, nobody starts the process that is to carry the run out.
        gone = is_alive(server) is False and silent_for > START
        return "its server ended before its process had begun" if gone else None
    return f"no sign of life for {SILENCE.seconds // 60} minutes" if silent_for > SILENCE else None


@dataclass(frozen=True, slots=True)
class Told:
    """One run, with what its steps did."""

    run: Run
    steps: tuple[Step, ...]
    attempts: tuple[Attempt, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the run as a JSON value."""
        return self.run.to_json() | {
            "steps": [one.to_json() for one in self.steps],
            "attempts": [one.to_json() for one in self.attempts],
        }


def tell(books: RunStore, run_id: str) -> Told:
    """Return what is known of the run whose id begins so.

    Raises:
        RunNotFound, RunAmbiguous, UsageError: when that is not one run.
    """
    run = books.find(run_id)
    return Told(run, tuple(books.steps(run.id)), tuple(books.attempts(run.id)))
