"""Read what tasks print while they print it: of a target, or of a whole run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from nectar import errors
from nectar.actions.history import Told
from nectar.actions.logs import Logs, logs
from nectar.actions.targets import Place
from nectar.address import Address
from nectar.runs import RunStore, Step
from nectar.settings import Settings
from nectar.stores import State, stores_to_ask

LOOK_S = 0.3  #: between two looks at what is new


@dataclass(frozen=True, slots=True)
class Piece:
    """What a task printed since the last look."""

    task: str | None  #: None: the target that was asked for
    stream: str  #: `stdout` or `stderr`
    text: str


@dataclass(slots=True)
class _Reader:
    """How much of each attempt's logs was given out."""

    given: dict[tuple[str, str], int] = field(default_factory=dict)  #: attempt and stream -> characters

    def news(self, task: str | None, found: Logs) -> Iterator[Piece]:
        for stream, text in (("stdout", found.stdout), ("stderr", found.stderr)):
            before = self.given.get((found.attempt, stream), 0)
            if len(text) > before:
                self.given[found.attempt, stream] = len(text)
                yield Piece(task, stream, text[before:])


def follow_target(place: Place) -> Iterator[Piece]:
    """Yield what is printed by the attempt at work on a target, until no attempt is at work.

    Raises:
        TargetNotFound: when there is no attempt.
        StoreUnreachable: when the store cannot be read.
    """
    reader = _Reader()
    while True:
        found = logs(place)
        yield from reader.news(None, found)
        if found.state != "at work":
            return
        time.sleep(LOOK_S)


def follow_run(settings: Settings, books: RunStore, run_id: str) -> Iterator[Piece]:
    """Yield what the tasks of a run print, from its beginning to its end.

    Raises:
        RunNotFound, RunAmbiguous, UsageError: when `run_id` does not name one run.
        StoreUnreachable: when the store cannot be read.
    """
    reader = _Reader()
    done: set[str] = set()
    run_id = books.find(run_id).id
    while True:
        state = books.run(run_id).state  # before the steps: of a run that has ended they are all there
        for step in books.steps(run_id):
            if step.ref in done or not _has_logs(step):
                continue
            found = logs_of(step)
            if found is not None:
                yield from reader.news(step.task, found)
            if step.status != "running":
                done.add(step.ref)
        if state.final:
            return
        time.sleep(LOOK_S)
        books.take_in(settings.journals_dir)


def logs_of_run(told: Told) -> list[tuple[Step, Logs]]:
    """Return what each step of a run printed that did something, where it is still kept.

    Raises:
        StoreUnreachable: when the store cannot be read.
    """
    found = [(step, logs_of(step)) for step in told.steps if _has_logs(step)]
    return [(step, of_step) for step, of_step in found if of_step is not None]


def _has_logs(step: Step) -> bool:
    return step.path is not None and step.status in ("running", "succeeded", "failed")


def logs_of(step: Step) -> Logs | None:
    """Return what a step printed: its failed attempt's logs, or its target's; None where they are gone.

    Raises:
        StoreUnreachable: when the store cannot be read.
    """
    place = _place_of(step)
    if place is None:
        return None
    attempt = None
    if step.status == "failed" and step.logs is not None and "/.attempts/" in step.logs:
        attempt = step.logs.removesuffix("/log").rpartition("/")[2]
    try:
        return logs(place, attempt)
    except errors.TargetNotFound:
        return None


def _place_of(step: Step) -> Place | None:
    address = Address.read(step.path)
    if address is None:
        return None
    for store in stores_to_ask():
        if store.inspect(address).state is not State.MISSING or store.reader(address).attempts():
            return Place(store, address)
    return None
