"""What every store can do, and the values that pass between a store and those who use it.

A store keeps targets: directories of files under an address, each with a record that is written last. It never
decides what should be made; it answers what is there, stages attempts, and publishes each at most once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import BinaryIO, Protocol

from nectar import errors
from nectar.address import Address
from nectar.records import STDERR_NAME, STDOUT_NAME, Record

_BLOCK = 1 << 20  # bytes


class State(str, Enum):
    """What lies at an address."""

    MISSING = "missing"  #: nothing
    LEFTOVER = "leftover"  #: files without a record: not complete, and nothing proves how they were made
    INVALID = "invalid"  #: a record that cannot be read, or files that are not what it says
    COMPLETE = "complete"  #: a valid record, and every declared output with its size


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a store found at an address."""

    state: State
    record: Record | None = None  #: where it could be read
    version: str | None = None  #: names the bytes of the record; None where there are none, or nobody asked
    problem: str | None = None  #: why it is INVALID, one sentence
    stamp: Hashable = None  #: of a COMPLETE: for `Store.unchanged`
    newer: bool = False  #: of an INVALID: a newer Nectar made it, and it must be left as it is
    files: tuple[str, ...] = ()  #: of a LEFTOVER: the files that lie there

    @property
    def complete(self) -> bool:
        """True when nothing has to be made."""
        return self.state is State.COMPLETE


@dataclass(frozen=True, slots=True)
class Staging:
    """The place of one attempt: a local folder that is published as a whole, or not at all."""

    address: Address
    attempt: str
    path: str  #: absolute; outputs go here, logs into its `log/`


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the bytes of a target; a store leads from it to the target that was made by it last."""

    prefix: str  #: of the targets of the task's class
    name: str  #: 32 hex digits: hash of task, version, parameters and the digests of the inputs


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt that succeeded and waits to be published."""

    staging: Staging
    record: Record  #: complete but for what only the store knows (objects, ETags, the sha256 of what is large there)
    replaces: str | None = None  #: version of the record that this one may replace; None: create only
    outputs: tuple[str, ...] = ()  #: what a target must have to be complete for this task
    recipe: Recipe | None = None  #: by which `recall` finds it again


@dataclass(frozen=True, slots=True)
class Commitment:
    """What came of a commit."""

    won: bool  #: False: another attempt's target was there first, and stays
    record: Record  #: the record that is in force
    stamp: Hashable = None  #: for `Store.unchanged`


@dataclass(frozen=True, slots=True)
class AttemptPlace:
    """An attempt of which the store still has the logs."""

    attempt: str
    running: bool  #: True while it is staged: at work, or died without a word
    path: str  #: its folder, relative to the store


class Lies(str, Enum):
    """Why a folder lies where it does."""

    TARGET = "target"  #: it has a target's place, with or without a record
    QUARANTINED = "quarantined"  #: it was taken out of force, and is kept
    REMOVED = "removed"  #: whoever removed it died in the middle of it


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies in one place of a store: equal as long as nobody has changed anything there."""

    address: Address  #: of the target that it is, or was
    path: str  #: relative to the store
    lies: Lies
    files: Mapping[str, int]  #: path relative to the store -> bytes
    modified: datetime  #: UTC, aware: of the newest file, or when it was put into quarantine
    version: Hashable = None  #: names the record as it lies there; None where there is none
    newer: bool = False  #: of one in quarantine: its record is a newer Nectar's

    @property
    def size(self) -> int:
        """Bytes of all that lies there."""
        return sum(self.files.values())


def refuse_newer(found: Inspection) -> None:
    """Make sure that a commit takes nothing out of the way that a newer Nectar made.

    Raises:
        RecordNewer: when it would.
    """
    if found.newer:
        raise errors.RecordNewer(
            found.problem or "the record is a newer one", hint="update Nectar: the target is left as it is"
        )


def unreadable(error: errors.RecordInvalid, version: str | None) -> Inspection:
    """Return what is found where a record lies that cannot be read."""
    newer = isinstance(error, errors.RecordNewer)
    return Inspection(State.INVALID, version=version, problem=error.message, newer=newer)


class Reader(Protocol):
    """What a store holds of one target, or of one attempt: its files, and the attempts that were not published."""

    def path(self, name: str) -> str:
        """Return the path of a local file with the bytes of `name`; it may not exist yet in a local store.

        Raises:
            StoreUnreachable: when the store cannot be read.
        """

    def open(self, name: str) -> BinaryIO:
        """Open `name` for reading.

        Raises:
            FileNotFoundError: when it is not there, or is no file of the store: a link, a pipe.
            StoreUnreachable: when the store cannot be read.
        """

    def url(self, name: str) -> str:
        """Return the address of `name` for other programs: `file://`, `s3://`, `memory://`."""

    def link(self, name: str, *, expires_s: int = 600) -> str:
        """Return an address by which anybody may read `name` for so long, where the store can give one; else its URL.

        Raises:
            UsageError: when it is to live for longer than 7 days.
            StoreUnreachable: when the store cannot answer.
        """

    def attempts(self, *, staged: bool = True) -> list[AttemptPlace]:
        """Return the attempts that were not published and of which something is left, oldest first.

        Those that are `staged` are at work, or died without a word.

        Raises:
            StoreUnreachable: when the store cannot be read.
        """


class Lease(Protocol):
    """A word that others heed: that nobody else makes a target, that a store is in use; it ends with its process."""

    @property
    def lost(self) -> bool:
        """True when others may not heed it any more, though it was not released: a process can be stopped for long."""

    def release(self) -> None:
        """Take it back."""


class NoLease:
    """What somebody has who may not write where a lease is written, or for whom there is nothing: no one heeds it."""

    def __init__(self, *, lost: bool) -> None:
        self.lost = lost

    def release(self) -> None:
        """Do nothing."""


class TargetLease(Lease, Protocol):
    """A lease on a target."""

    @property
    def taken_over(self) -> bool:
        """True where somebody had it before and did not give it back, as far as the store can tell."""


class Leasing(Protocol):
    """One task runs once at a time. Leases are for economy: the commit alone keeps targets whole.

    And nothing is removed that somebody is at: who reads or writes targets says so, who removes them is alone.
    """

    def lease(self, address: Address) -> TargetLease | None:
        """Return a lease on an address, None while another thread, process or host has it.

        Raises:
            StoreUnreachable: when the store cannot be written.
        """

    def lease_all(self, addresses: Sequence[Address]) -> Sequence[TargetLease | None]:
        """Answer `lease` for different addresses at the same time, in their order.

        None also where the store cannot answer for one of them: who asks for that one alone hears why.

        Raises:
            StoreUnreachable: when the store cannot be written at all.
        """

    def release_all(self, leases: Sequence[TargetLease]) -> None:
        """Release leases that this store gave, at the same time."""

    def in_use(self, *, to_write: bool = False) -> Lease:
        """Return the word that targets of this store are being read or written; many may have it at the same time.

        Waits for as long as somebody is `alone`. In a store that is not there yet nothing can be removed: the word is
        `lost` from the beginning, unless it is `to_write`, which makes the store. Who may not write there goes on
        without a word that others heed.

        Raises:
            StoreUnreachable: when the store cannot answer.
        """

    def alone(self) -> Lease | None:
        """Return the word that nobody has the store `in_use`; None while anybody has, in this process too.

        Raises:
            StoreUnreachable: when the store cannot be written.
        """


class Clearing(Protocol):
    """What it takes to remove what nobody needs."""

    def contents(self, address: Address | None = None) -> Iterator[Folder]:
        """Yield what lies in the store, or what there is of one target: targets, and what is in quarantine.

        Raises:
            StoreUnreachable: when the store cannot be read.
        """

    def remove(self, folder: Folder) -> bool:
        """Remove what `contents` found; False, and nothing is changed, where it is not as it was any more.

        A target is there as a whole, or not at all, at any crash. Whoever calls has the lease on the address.

        Raises:
            StoreUnreachable: when the store cannot be written.
        """


class Store(Leasing, Clearing, Protocol):
    """Where targets live."""

    url: str  #: how the store is named in settings, messages and records
    of_one_process: bool  #: True where no other process sees what one has made
    checks_in_plans: bool  #: True where `inspect` costs little more than `present`
    hashes_above: float  #: bytes; of a larger file `commit` finds out the sha256, since it reads it all the same

    def present(self, addresses: Iterable[Address]) -> set[Address]:
        """Return those addresses at which a record lies; a store that looks closer leaves out what is not complete.

        Raises:
            StoreUnreachable: when the store cannot answer, for whichever address: an error is never "missing".
        """

    def inspect(self, address: Address, outputs: Sequence[str] = (), *, leftovers: bool = True) -> Inspection:
        """Return what lies at an address; it is complete only if its record names every one of `outputs`.

        Without `leftovers` nobody asks what lies there without a record: the answer may be MISSING all the same.

        Raises:
            StoreUnreachable: when the store cannot answer.
        """

    def inspect_many(self, wanted: Iterable[tuple[Address, Sequence[str]]]) -> Iterator[Inspection]:
        """Yield what lies at many addresses, each with the outputs that its record must name, in their order.

        It is what `inspect` returns, but may lack the version.

        Raises: as `inspect`.
        """

    def records(self, addresses: Iterable[Address]) -> dict[Address, Record]:
        """Return the records of many targets, where they can be read; their files are not looked at.

        Raises:
            StoreUnreachable: when the store cannot answer.
        """

    def changed(self, stamps: Mapping[Address, Hashable]) -> set[Address]:
        """Return where the record is not the one that had this stamp; cheaper than to inspect all of them again.

        Raises:
            StoreUnreachable: when the store cannot answer.
        """

    def stage(self, address: Address, attempt: str) -> Staging:
        """Make the place of a new attempt.

        Raises:
            StoreUnreachable: when nothing can be written there.
            UnsafePath: when a link leads out of the store.
        """

    def commit(self, finished: Sequence[Finished]) -> list[Commitment]:
        """Publish attempts, each as a whole or not at all; the first writer of an address wins.

        What else lies at an address (a leftover, a complete or invalid target that `replaces` names) is kept, in
        quarantine or where it lies. Once this returns the targets outlive a power loss, if the settings say so.

        Raises:
            StoreUnreachable: when the store cannot be written; attempts already published stay published.
            RecordNewer: when what a newer Nectar made is in the way.
        """

    def take_over(self, record: Record, staging: Staging) -> None:
        """Let a staging place have the output files and logs of a target, at the cost of a link or a server's copy.

        Raises:
            FileNotFoundError: when one of the output files is not there any more.
            StoreUnreachable: when they cannot be read.
        """

    def recall(self, recipes: Iterable[Recipe]) -> dict[Recipe, Address]:
        """Return for each recipe the target that was published with it; it may be gone, or another's by now.

        Raises:
            StoreUnreachable: when the store cannot answer.
        """

    def remembers(self, prefix: str) -> bool:
        """Say whether there is any recipe for the targets under a prefix.

        Raises:
            StoreUnreachable: when the store cannot answer.
        """

    def abandon(self, staging: Staging, *, keep_logs: bool) -> str | None:
        """End an attempt without publishing it; its logs are kept for a while, or not.

        Returns the place of the logs, relative to the store, None where none are kept.

        Raises:
            StoreUnreachable: when the store cannot be written.
        """

    def tried(self, prefix: str) -> set[str]:
        """Return the keys of the targets under a prefix of which there are attempts: at work, dead, or failed.

        Raises:
            StoreUnreachable: when the store cannot be read.
        """

    def quarantine(self, address: Address, reason: str) -> str | None:
        """Take what lies at an address out of the way, keeping it; return where it is, None if nothing was there.

        Raises:
            StoreUnreachable: when the store cannot be written.
        """

    def walk(self, prefix: str = "") -> Iterator[Address]:
        """Yield the address of everything that lies under a prefix, sorted, with or without a record.

        Raises:
            StoreUnreachable: when the store cannot be read.
        """

    def reader(self, address: Address, attempt: str | None = None) -> Reader:
        """Return the files of a target, or of one of its attempts."""


def records_by_inspection(store: Store, addresses: Iterable[Address]) -> dict[Address, Record]:
    """Answer `Store.records` for a store that answers many questions as fast as one.

    Raises:
        StoreUnreachable: when the store cannot answer.
    """
    found = {address: store.inspect(address, leftovers=False).record for address in addresses}
    return {address: record for address, record in found.items() if record is not None}


def lease_each(store: Store, addresses: Sequence[Address]) -> list[TargetLease | None]:
    """Answer `Store.lease_all` for a store that answers many questions as fast as one."""
    leases: list[TargetLease | None] = []
    for address in addresses:
        try:
            leases.append(store.lease(address))
        except errors.StoreError:  # it is raised to whoever asks for that one alone
            leases.append(None)
    return leases


def release_each(leases: Sequence[TargetLease]) -> None:
    """Answer `Store.release_all` for a store that answers many questions as fast as one."""
    for lease in leases:
        lease.release()


def copy_files(reader: Reader, record: Record, staging: Staging) -> None:
    """Answer `Store.take_over` where the files of a target cannot be linked: by reading them.

    Raises:
        FileNotFoundError: when one of the output files is not there any more.
        StoreUnreachable, TargetCorrupt: when they cannot be read.
    """
    outputs = [entry.name for entry in record.files]
    for name in (*outputs, STDOUT_NAME, STDERR_NAME):
        try:
            source = reader.open(name)
        except FileNotFoundError:
            if name in outputs:
                raise
            continue  # a log: another tool may have made the target
        place = f"{staging.path}/{name}"
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with contextlib.closing(source), open(place, "wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)


def sha256_of(file: BinaryIO) -> str:
    """Return the sha256 of what is left to be read of a file, 64 hex digits."""
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()
