"""What a task instance remembers beside its parameters: plain data, so that the task can be pickled at any time."""

from __future__ import annotations

from dataclasses import dataclass

from nectar.identity import Identity
from nectar.parameters import Canonical
from nectar.recording.attempt import Outcome
from nectar.stores import Staging


@dataclass(slots=True)
class TaskState:
    """The memory of one instance."""

    forms: dict[str, Canonical]  #: every parameter's canonical form
    ref: str  #: equal for instances with equal significant parameters, private ones included
    identity: Identity | None = None
    reads_files: bool = False  #: its closure has a FileSource: the identity holds for one epoch only
    epoch: int = 0  #: in which the identity was found
    deriving: bool = False  #: its requires() is being asked for its identity right now
    staging: Staging | None = None  #: while it runs: where its output goes
    outcome: Outcome | None = None  #: of its last attempt
    borrowed_lease: bool = False  #: an engine holds the lease on its target, and not the attempt itself
    forced: bool = False  #: its next attempt replaces a complete target
