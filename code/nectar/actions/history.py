"""Ask the history of runs: which there were, what became of each, and what its steps did."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from nectar.records import utc_now
from nectar.runs import Attempt, Run, RunState, RunStore, Step, is_alive, open_books
from nectar.settings import Settings

SILENCE = timedelta(minutes=5)  #: after which a run on another host counts as crashed


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[RunStore]:
    """Open the books for a while, with all that the journals of this project say, and without runs that are dead.

    Raises:
        RunStoreUnreachable, RunStoreInvalid: when they cannot be read.
    """
    books = open_books(settings.run_store_url)
    try:
        books.take_in(settings.journals_dir)
        _note_the_dead(books, settings)
        yield books
    finally:
        books.close()


def _note_the_dead(books: RunStore, settings: Settings) -> None:
    """Mark runs as crashed whose process is gone, or that were silent for too long on another host."""
    here = socket.gethostname()
    dead: dict[str, str] = {}
    for run in books.stale(utc_now(), timedelta(0)):
        if run.process is not None and run.process.host == here:
            if is_alive(run.process) is False:
                dead[run.id] = "its process ended without a word"
        elif run.heard_at is None or utc_now() - run.heard_at > SILENCE:
            dead[run.id] = f"no sign of life for {SILENCE.seconds // 60} minutes"
    if not dead:
        return
    books.take_in(settings.journals_dir)  # it may have ended well since they were read
    for run_id, error in dead.items():
        if not books.run(run_id).state.final:
            books.advance(run_id, RunState.CRASHED, at=utc_now(), error=error)


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
