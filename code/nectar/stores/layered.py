"""Read targets through to a shared store, and write new ones to one's own, or to both.

What one's own store lacks is taken from the shared one as it lies there, its bytes checked against the digests of its
record: nothing is copied that nobody reads. With `both`, an attempt is published in the shared store first: whoever is
first there wins for everybody, and the loser's own store stays without the target, which is read through.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import os
import shutil
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import BinaryIO

from nectar import errors
from nectar.address import Address
from nectar.records import Record
from nectar.settings import Publish
from nectar.stores.base import (
    AttemptPlace,
    Commitment,
    Finished,
    Folder,
    Inspection,
    Lease,
    Reader,
    Recipe,
    Staging,
    State,
    Store,
    TargetLease,
    copy_files,
    sha256_of,
)


class LayeredStore:
    """One's own store over a shared one. See `nectar.stores.base.Store` for the promises."""

    checks_in_plans = False
    hashes_above = math.inf

    def __init__(self, own: Store, shared: Store, publish: Publish) -> None:
        self.own, self.shared = own, shared
        self.url = f"{own.url}+{shared.url}"
        self.of_one_process = own.of_one_process or (publish is Publish.BOTH and shared.of_one_process)
        self._both = publish is Publish.BOTH

    def __repr__(self) -> str:
        return f"LayeredStore({self.own!r}, {self.shared!r})"

    # Asking

    def present(self, addresses: Iterable[Address]) -> set[Address]:
        wanted = set(addresses)
        found = self.own.present(wanted)
        if self.own.checks_in_plans:  # a broken one of one's own is made again, unless the shared store has it whole
            found = {address for address in found if self.own.inspect(address, leftovers=False).complete}
        missing = wanted - found
        return found | self.shared.present(missing) if missing else found

    def inspect(self, address: Address, outputs: Sequence[str] = (), *, leftovers: bool = True) -> Inspection:
        own = self.own.inspect(address, outputs, leftovers=leftovers)
        enough = own.complete and not self._both
        shared = _NOTHING if enough else self.shared.inspect(address, outputs, leftovers=leftovers)
        version = _pair(own.version, shared.version)
        if own.complete:
            return replace(own, version=version, stamp=(0, own.stamp))
        if shared.complete:
            return replace(shared, version=version, stamp=(1, shared.stamp))
        found = shared if own.state is State.MISSING and self._both else own
        return replace(found, version=version)

    def inspect_many(self, wanted: Iterable[tuple[Address, Sequence[str]]]) -> Iterator[Inspection]:
        return (self.inspect(address, outputs) for address, outputs in wanted)

    def records(self, addresses: Iterable[Address]) -> dict[Address, Record]:
        wanted = list(dict.fromkeys(addresses))
        found = self.own.records(wanted)
        missing = [address for address in wanted if address not in found]
        return {**found, **self.shared.records(missing)} if missing else found

    def changed(self, stamps: Mapping[Address, Hashable]) -> set[Address]:
        by_layer: tuple[dict[Address, Hashable], dict[Address, Hashable]] = {}, {}
        found = set()
        for address, stamp in stamps.items():
            if isinstance(stamp, tuple):
                by_layer[stamp[0]][address] = stamp[1]
            else:
                found.add(address)
        return found | self.own.changed(by_layer[0]) | self.shared.changed(by_layer[1])

    def walk(self, prefix: str = "") -> Iterator[Address]:
        last: Address | None = None
        seen: set[Address] = set()
        for address in heapq.merge(self.own.walk(prefix), self.shared.walk(prefix)):
            if address != last and address not in seen:
                seen.add(address)
                yield address
            last = address

    # Staging and publishing

    def stage(self, address: Address, attempt: str) -> Staging:
        return self.own.stage(address, attempt)

    def commit(self, finished: Sequence[Finished]) -> list[Commitment]:
        commitments: dict[str, Commitment] = {}  # by attempt
        mine = [replace(one, replaces=_versions(one.replaces)[0]) for one in finished]
        if self._both:
            for one, shared in zip(mine, self._publish_for_all(finished), strict=True):
                if not shared.won:
                    self._give_way(one)
                    commitments[one.staging.attempt] = replace(shared, stamp=(1, shared.stamp))
        mine = [one for one in mine if one.staging.attempt not in commitments]
        for one, made in zip(mine, self.own.commit(mine), strict=True):
            commitments[one.staging.attempt] = replace(made, stamp=(0, made.stamp))
        return [commitments[one.staging.attempt] for one in finished]

    def _give_way(self, one: Finished) -> None:
        """End an attempt that came second in the shared store; what it was to replace here must not hide the first."""
        self.own.abandon(one.staging, keep_logs=False)
        if one.replaces is not None:
            self.own.quarantine(one.staging.address, "replaced")

    def _publish_for_all(self, finished: Sequence[Finished]) -> list[Commitment]:
        """Publish attempts in the shared store, from copies of their files: one's own still needs them."""
        copies: list[Finished] = []
        try:
            for one in finished:
                staging = self.shared.stage(one.staging.address, one.staging.attempt)
                copies.append(replace(one, staging=staging, replaces=_versions(one.replaces)[1]))
                _mirror(one.staging.path, staging.path)
            return self.shared.commit(copies)
        except BaseException:
            for one in copies:
                if os.path.isdir(one.staging.path):
                    with contextlib.suppress(errors.StoreUnreachable):  # what went wrong first is what is told
                        self.shared.abandon(one.staging, keep_logs=False)
            raise

    def take_over(self, record: Record, staging: Staging) -> None:
        if self.own.inspect(record.address, leftovers=False).complete:
            self.own.take_over(record, staging)
        else:
            copy_files(self.reader(record.address), record, staging)

    def recall(self, recipes: Iterable[Recipe]) -> dict[Recipe, Address]:
        wanted = list(recipes)
        found = self.own.recall(wanted)
        missing = [recipe for recipe in wanted if recipe not in found]
        return {**self.shared.recall(missing), **found} if missing else found

    def remembers(self, prefix: str) -> bool:
        return self.own.remembers(prefix) or self.shared.remembers(prefix)

    def abandon(self, staging: Staging, *, keep_logs: bool) -> str | None:
        return self.own.abandon(staging, keep_logs=keep_logs)

    def tried(self, prefix: str) -> set[str]:
        return self.own.tried(prefix)

    def lease(self, address: Address) -> TargetLease | None:
        own = self.own.lease(address)
        if own is None or not self._both:
            return own
        try:
            shared = self.shared.lease(address)
        except BaseException:
            own.release()
            raise
        if shared is None:
            own.release()
            return None
        return _LeaseInBoth(own, shared)

    def lease_all(self, addresses: Sequence[Address]) -> Sequence[TargetLease | None]:
        own = self.own.lease_all(addresses)
        if not self._both:
            return own
        mine = {address: lease for address, lease in zip(addresses, own, strict=True) if lease is not None}
        try:
            shared = dict(zip(mine, self.shared.lease_all(list(mine)), strict=True))
        except BaseException:
            self.own.release_all(list(mine.values()))
            raise
        self.own.release_all([lease for address, lease in mine.items() if shared[address] is None])
        return [
            _LeaseInBoth(mine[address], both) if (both := shared.get(address)) is not None else None
            for address in addresses
        ]

    def release_all(self, leases: Sequence[TargetLease]) -> None:
        both = [one for one in leases if isinstance(one, _LeaseInBoth)]
        try:
            self.shared.release_all([one.shared for one in both])
        finally:
            self.own.release_all([one.own if isinstance(one, _LeaseInBoth) else one for one in leases])

    def in_use(self, *, to_write: bool = False) -> Lease:
        """See `nectar.stores.base.Leasing`. Who only reads the shared store may not be allowed to say so there."""
        own = self.own.in_use(to_write=to_write)
        if not self._both:
            return own
        try:
            return _InBoth(own, self.shared.in_use(to_write=to_write))
        except BaseException:
            own.release()
            raise

    def alone(self) -> Lease | None:
        return self.own.alone()

    def contents(self, address: Address | None = None) -> Iterator[Folder]:
        return self.own.contents(address)

    def remove(self, folder: Folder) -> bool:
        return self.own.remove(folder)

    def quarantine(self, address: Address, reason: str) -> str | None:
        mine = self.own.inspect(address).state is not State.MISSING
        return (self.own if mine else self.shared).quarantine(address, reason)

    # Reading

    def reader(self, address: Address, attempt: str | None = None) -> Reader:
        if attempt is not None:
            return self.own.reader(address, attempt)
        return _LayeredReader(self, address)


class _InBoth:
    """A word in each store."""

    def __init__(self, own: Lease, shared: Lease) -> None:
        self._own, self._shared = own, shared

    @property
    def lost(self) -> bool:
        return self._own.lost or self._shared.lost

    def release(self) -> None:
        try:
            self._shared.release()
        finally:
            self._own.release()


class _LeaseInBoth(_InBoth):
    """A lease in each store."""

    def __init__(self, own: TargetLease, shared: TargetLease) -> None:
        super().__init__(own, shared)
        self.own, self.shared = own, shared

    @property
    def taken_over(self) -> bool:
        return self.own.taken_over or self.shared.taken_over


class _LayeredReader:
    """Reads a target where it lies: which store that is, is found out once it is needed."""

    def __init__(self, store: LayeredStore, address: Address) -> None:
        self._store, self._address = store, address
        self._found: Reader | None = None

    def _reader(self) -> Reader:
        if self._found is None:
            own, shared, address = self._store.own, self._store.shared, self._address
            if own.inspect(address, leftovers=False).complete or not shared.present([address]):
                return own.reader(address)  # not kept: a target that is not there yet may come to lie in either
            reader = shared.reader(address)
            checks_itself = shared.url.startswith("s3://")
            self._found = reader if checks_itself else _CheckedReader(reader, shared, address)
        return self._found

    def path(self, name: str) -> str:
        return self._reader().path(name)

    def open(self, name: str) -> BinaryIO:
        return self._reader().open(name)

    def url(self, name: str) -> str:
        return self._reader().url(name)

    def link(self, name: str, *, expires_s: int = 600) -> str:
        return self._reader().link(name, expires_s=expires_s)

    def attempts(self, *, staged: bool = True) -> list[AttemptPlace]:
        return self._store.own.reader(self._address).attempts(staged=staged)


class _CheckedReader:
    """Gives out a file only if it has the bytes that the record says; a folder does not look by itself."""

    def __init__(self, reader: Reader, store: Store, address: Address) -> None:
        self._reader, self._address = reader, address
        self._digests = {address: record.digests for address, record in store.records([address]).items()}
        self._checked: set[str] = set()
        self.url, self.link, self.attempts = reader.url, reader.link, reader.attempts

    def path(self, name: str) -> str:
        self._check(name)
        return self._reader.path(name)

    def open(self, name: str) -> BinaryIO:
        self._check(name)
        return self._reader.open(name)

    def _check(self, name: str) -> None:
        expected = self._digests.get(self._address, {}).get(name)
        if expected is None or name in self._checked:
            return
        with contextlib.closing(self._reader.open(name)) as file:
            found = sha256_of(file)
        if found != expected:
            raise errors.TargetCorrupt(
                f"the file `{name}` of `{self._address}` has other bytes than its record says",
                hint=f"`nectar verify {self._address}` puts the target aside; run again then",
            )
        self._checked.add(name)


_NOTHING = Inspection(State.MISSING)


def _pair(own: str | None, shared: str | None) -> str | None:
    """Return one text for the versions that two stores have of a record."""
    return None if own is None and shared is None else f"{own or ''} {shared or ''}"


def _versions(pair: str | None) -> tuple[str | None, str | None]:
    own, _, shared = (pair or "").partition(" ")
    return own or None, shared or None


def _mirror(source: str, place: str) -> None:
    """Let a folder have the files of another, at the cost of a link where the disk is the same."""
    for folder, _, names in os.walk(source):
        there = os.path.normpath(os.path.join(place, os.path.relpath(folder, source)))
        os.makedirs(there, exist_ok=True)
        for name in names:
            try:
                os.link(f"{folder}/{name}", f"{there}/{name}", follow_symlinks=False)
            except OSError:  # another disk, or a file system without links
                shutil.copyfile(f"{folder}/{name}", f"{there}/{name}", follow_symlinks=False)
