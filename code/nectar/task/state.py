"""What a task instance remembers beside its parameters: plain data, so that the task can be pickled at any time."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import luigi

from nectar.address import Address
from nectar.identity import Identity
from nectar.parameters import Canonical
from nectar.recording.attempt import Outcome
from nectar.stores import Staging

#: of a complete target: the stamp of its record, and file -> sha256
Found = tuple[Hashable, Mapping[str, str]]


@dataclass(slots=True)
class TaskState:
    """The memory of one instance."""

    forms: tuple[Canonical, ...]  #: every parameter's canonical form, in the order of the parameters
    ref: str  #: equal for instances with equal significant parameters, private ones included
    identity: Identity | None = None
    reads_files: bool = False  #: its closure has a FileSource: the identity holds for one epoch only
    epoch: int = 0  #: in which the identity was found
    deriving: bool = False  #: its requires() is being asked for its identity right now
    staging: Staging | None = None  #: while it runs: where its output goes
    outcome: Outcome | None = None  #: of its last attempt
    borrowed_lease: bool = False  #: an engine holds the lease on its target, and not the attempt itself
    address: Address | None = None  #: where its target lies, by `identity`
    text: str | None = None  #: how the task is shown
    #: paths, and what is required there, as the identity was found; stays in this process
    requirements: tuple[tuple[str, ...], tuple[luigi.Task, ...]] | None = None
    found: Found | None = None  #: as it was found complete; does not travel with the task
    forced: bool = False  #: its next attempt replaces a complete target
    retried: bool = False  #: an attempt at it failed in this run
    absent: bool = False  #: nothing was at its address when the lease on it was taken

    def __getstate__(self) -> tuple[Any, ...]:
        """Let only what another process cannot find out as well travel with a task, and never its requirements."""
        identity = None if self.identity is None else (self.identity.output_id, self.identity.key)
        return (self.forms, self.ref, identity, self.reads_files, self.epoch, self.staging, self.forced)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        forms, ref, identity, self.reads_files, self.epoch, self.staging, self.forced = state
        self.forms, self.ref = forms, ref
        self.identity = None if identity is None else Identity(*identity)
        self.deriving = self.borrowed_lease = self.retried = self.absent = False
        self.outcome = self.address = self.text = self.requirements = self.found = None
