"""Show one target: its record, its files, and the attempts at it that failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nectar import errors
from nectar.actions.targets import Place
from nectar.pipeline.standing import STEP_FILE, Standing, read_standings
from nectar.stores import AttemptPlace, Inspection, State


@dataclass(frozen=True, slots=True)
class Shown:
    """One target."""

    store: str  #: URL
    path: str
    inspection: Inspection
    attempts: tuple[AttemptPlace, ...]
    urls: dict[str, str]  #: output name -> URL
    step: Standing | None = None  #: of a step of a pipeline: what it set and moved

    def to_json(self) -> dict[str, Any]:
        """Return the target as a JSON value."""
        record = self.inspection.record
        return {
            "store": self.store,
            "path": self.path,
            "state": self.inspection.state.value,
            "problem": self.inspection.problem,
            "record": record.to_json() if record is not None else None,
            "files": list(self.inspection.files),
            "urls": self.urls,
            "step": None if self.step is None else self.step.whole(),
            "attempts": [{"attempt": one.attempt, "running": one.running, "path": one.path} for one in self.attempts],
        }


def show(place: Place) -> Shown:
    """Return what a store has of one target.

    Raises:
        TargetNotFound: when it has nothing of it, no attempt either.
        StoreUnreachable: when the store cannot be read.
    """
    inspection = place.store.inspect(place.address)
    reader = place.store.reader(place.address)
    attempts = tuple(reader.attempts())
    if inspection.state is State.MISSING and not attempts:
        raise errors.TargetNotFound(
            f"nothing lies at `{place.address}` in `{place.store.url}`", hint="`nectar plan` says what would be made"
        )
    names = [entry.name for entry in inspection.record.files] if inspection.record is not None else []
    step = None
    if inspection.complete and inspection.record is not None and inspection.record.outputs == (STEP_FILE,):
        [step] = read_standings(place.store, [place.address])
    urls = {name: reader.url(name) for name in names}
    return Shown(place.store.url, place.address.path, inspection, attempts, urls, step)
