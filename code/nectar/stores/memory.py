"""Keep targets in the memory of this process: for tests, and for chains that leave nothing behind.

Attempts are staged on the local disk and published as bytes, and files are read through a local copy, which is how a
store that is far away works too.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO

from nectar import errors, records
from nectar.address import Address, check_prefix
from nectar.records import RECORD_NAME, STDERR_NAME, STDOUT_NAME, Record
from nectar.stores.base import (
    AttemptPlace,
    Commitment,
    Finished,
    Folder,
    Inspection,
    Lies,
    Recipe,
    Staging,
    State,
    TargetLease,
    lease_each,
    records_by_inspection,
    refuse_newer,
    release_each,
    unreadable,
)


@dataclass(slots=True)
class _Held:
    """One folder of the store."""

    files: dict[str, bytes] = field(default_factory=dict)
    since: datetime = field(default_factory=records.utc_now)  #: when it came to lie where it is


class MemoryStore:
    """Targets in memory. See `nectar.stores.base.Store` for the promises."""

    of_one_process = True
    checks_in_plans = True
    hashes_above = math.inf

    def __init__(self, url: str = "memory://", *, attempts_kept: int = 10) -> None:
        self.url = url
        self.disk = tempfile.mkdtemp(prefix="nectar-memory-")  #: staging and copies for reading
        self.folders: dict[str, _Held] = {}  #: by path; tests plant faults here
        self._guard = threading.Lock()
        self._users_changed = threading.Condition(self._guard)
        self._users = 0  # how many have the store in use; -1: one is alone
        self._attempts_kept = attempts_kept
        self._staged: dict[str, Staging] = {}
        self._leased: set[Address] = set()
        self._recipes: dict[Recipe, Address] = {}
        atexit.register(shutil.rmtree, self.disk, ignore_errors=True)

    def __repr__(self) -> str:
        return f"MemoryStore({self.url!r})"

    def present(self, addresses: Iterable[Address]) -> set[Address]:
        return {one for one in addresses if RECORD_NAME in self.folders.get(one.path, _Held()).files}

    def inspect(self, address: Address, outputs: Sequence[str] = (), *, leftovers: bool = True) -> Inspection:
        held = self.folders.get(address.path)
        if held is None:
            return Inspection(State.MISSING)
        raw = held.files.get(RECORD_NAME)
        if raw is None:
            return Inspection(State.LEFTOVER, files=tuple(sorted(held.files)))
        version = hashlib.sha256(raw).hexdigest()
        try:
            record = records.parse(raw, address)
        except errors.RecordInvalid as error:
            return unreadable(error, version)
        unnamed = record.unnamed_output(outputs)
        if unnamed is not None:
            problem = f"the record does not name the output `{unnamed}` in `{address}`"
            return Inspection(State.INVALID, record, version, problem)
        for entry in record.files:
            raw_file = held.files.get(entry.object)
            if raw_file is None or len(raw_file) != entry.size:
                found = "is missing" if raw_file is None else f"has {len(raw_file)} bytes"
                problem = f"the file `{entry.name}` {found}, its record says {entry.size} bytes, in `{address}`"
                return Inspection(State.INVALID, record, version, problem)
        return Inspection(State.COMPLETE, record, version, stamp=version)

    def inspect_many(self, wanted: Iterable[tuple[Address, Sequence[str]]]) -> Iterator[Inspection]:
        return (self.inspect(address, outputs) for address, outputs in wanted)

    def records(self, addresses: Iterable[Address]) -> dict[Address, Record]:
        return records_by_inspection(self, addresses)

    def changed(self, stamps: Mapping[Address, Hashable]) -> set[Address]:
        return {address for address, stamp in stamps.items() if self._version(address) != stamp}

    def _version(self, address: Address) -> str | None:
        raw = self.folders.get(address.path, _Held()).files.get(RECORD_NAME)
        return None if raw is None else hashlib.sha256(raw).hexdigest()

    def stage(self, address: Address, attempt: str) -> Staging:
        path = os.path.join(self.disk, "staging", attempt)
        os.makedirs(os.path.join(path, "log"))
        staging = Staging(address, attempt, path)
        self._staged[attempt] = staging
        return staging

    def commit(self, finished: Sequence[Finished]) -> list[Commitment]:
        return [self._publish(one) for one in finished]

    def _publish(self, one: Finished) -> Commitment:
        address = one.staging.address
        if not os.path.isdir(one.staging.path):
            raise errors.StoreUnreachable(
                f"the place of the attempt `{one.staging.attempt}` is gone", hint="somebody removed it; run again"
            )
        files = _read_folder(one.staging.path)
        files[RECORD_NAME] = one.record.to_bytes()
        with self._guard:
            found = self.inspect(address, one.outputs)
            refuse_newer(found)
            if found.complete and found.record is not None and found.version != one.replaces:
                outcome = Commitment(False, found.record)
            else:
                self._set_aside(address, one.staging.attempt)
                self.folders[address.path] = _Held(files)
                if one.recipe is not None:
                    self._recipes[one.recipe] = address
                outcome = Commitment(True, one.record)
        self._forget(one.staging)
        return outcome

    def take_over(self, record: Record, staging: Staging) -> None:
        held = self.folders.get(record.address.path, _Held())
        logs = [name for name in (STDOUT_NAME, STDERR_NAME) if name in held.files]
        for name in (*(entry.object for entry in record.files), *logs):
            if name not in held.files:
                raise FileNotFoundError(f"{self.url}/{record.address}/{name}")
            place = os.path.join(staging.path, name)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "wb") as file:
                file.write(held.files[name])

    def recall(self, recipes: Iterable[Recipe]) -> dict[Recipe, Address]:
        return {recipe: self._recipes[recipe] for recipe in recipes if recipe in self._recipes}

    def remembers(self, prefix: str) -> bool:
        return any(recipe.prefix == prefix for recipe in list(self._recipes))

    def abandon(self, staging: Staging, *, keep_logs: bool) -> str | None:
        kept = f"{staging.address.prefix}/.attempts/{staging.address.key}/"
        if keep_logs:
            files = _read_folder(staging.path)
            wanted = (records.PARAMS_NAME, records.ATTEMPT_NAME)
            logs = {name: raw for name, raw in files.items() if name.startswith("log/") or name in wanted}
            with self._guard:
                self.folders[kept + staging.attempt] = _Held(logs)
                known = sorted(path for path in self.folders if path.startswith(kept))
                for old in known[: -self._attempts_kept or None]:
                    del self.folders[old]
        self._forget(staging)
        return kept + staging.attempt if keep_logs else None

    def _forget(self, staging: Staging) -> None:
        self._staged.pop(staging.attempt, None)
        shutil.rmtree(staging.path, ignore_errors=True)  # a child left over may still write there

    def tried(self, prefix: str) -> set[str]:
        staged = list(self._staged.values())
        kept = f"{prefix}/.attempts/"
        failed = {path.removeprefix(kept).split("/")[0] for path in list(self.folders) if path.startswith(kept)}
        return failed | {staging.address.key for staging in staged if staging.address.prefix == prefix}

    def lease(self, address: Address) -> MemoryLease | None:
        with self._guard:
            if address in self._leased:
                return None
            self._leased.add(address)
        return MemoryLease(self._leased, address)

    def lease_all(self, addresses: Sequence[Address]) -> list[TargetLease | None]:
        return lease_each(self, addresses)

    def release_all(self, leases: Sequence[TargetLease]) -> None:
        release_each(leases)

    def quarantine(self, address: Address, reason: str) -> str | None:
        with self._guard:
            return self._set_aside(address, reason)

    def _set_aside(self, address: Address, label: str) -> str | None:
        held = self.folders.pop(address.path, None)
        if held is None:
            return None
        aside = f"{address.prefix}/.quarantine/{address.key}/{label}"
        number = 0
        while aside + (f"-{number}" if number else "") in self.folders:
            number += 1
        aside += f"-{number}" if number else ""
        self.folders[aside] = _Held(held.files)
        return aside

    def in_use(self, *, to_write: bool = False) -> MemoryUse:
        with self._users_changed:
            self._users_changed.wait_for(lambda: self._users >= 0)
            self._users += 1
        return MemoryUse(self._release_use)

    def alone(self) -> MemoryUse | None:
        with self._users_changed:
            if self._users:
                return None
            self._users = -1
        return MemoryUse(self._release_use)

    def _release_use(self) -> None:
        with self._users_changed:
            self._users = max(self._users - 1, 0)
            self._users_changed.notify_all()

    def contents(self, address: Address | None = None) -> Iterator[Folder]:
        for path in sorted(self.folders.copy()):
            folder = self._folder(path)
            if folder is not None and address in (None, folder.address):
                yield folder

    def _folder(self, path: str) -> Folder | None:
        held = self.folders.get(path)
        prefix, aside, rest = path.partition("/.quarantine/")
        if held is None or "/." in path.replace("/.quarantine/", "/", 1):
            return None
        address = Address(prefix, rest.split("/")[0]) if aside else Address.parse(path)
        raw, newer = held.files.get(RECORD_NAME), False
        if aside and raw is not None:
            try:
                records.parse(raw, address)
            except errors.RecordInvalid as error:
                newer = isinstance(error, errors.RecordNewer)
        version = hashlib.sha256(raw).hexdigest() if raw is not None else None
        files = {f"{path}/{name}": len(content) for name, content in held.files.items()}
        return Folder(address, path, Lies.QUARANTINED if aside else Lies.TARGET, files, held.since, version, newer)

    def remove(self, folder: Folder) -> bool:
        with self._guard:
            if self._folder(folder.path) != folder:
                return False
            del self.folders[folder.path]
            return True

    def walk(self, prefix: str = "") -> Iterator[Address]:
        check_prefix(prefix.strip("/"))
        for path in sorted(self.folders.copy()):
            inside = not prefix or path == prefix or path.startswith(prefix.rstrip("/") + "/")
            if inside and not any(part.startswith(".") for part in path.split("/")):
                yield Address.parse(path)

    def reader(self, address: Address, attempt: str | None = None) -> MemoryReader:
        if attempt is None:
            return MemoryReader(self, address, address.path)
        return MemoryReader(self, address, f"{address.prefix}/.attempts/{address.key}/{attempt}", attempt)

    def staging_of(self, attempt: str | None) -> Staging | None:
        """Return where an attempt is at work, None if it is not."""
        return self._staged.get(attempt or "")

    def staged_of(self, address: Address) -> list[str]:
        """Return the attempts at work on an address."""
        return [attempt for attempt, staging in list(self._staged.items()) if staging.address == address]


class MemoryUse:
    """The word that the store is in use, or that nobody has it in use."""

    lost = False

    def __init__(self, release: Callable[[], None]) -> None:
        self._releases = [release]

    def release(self) -> None:
        while self._releases:
            self._releases.pop()()


class MemoryLease:
    """The word that no other thread makes a target meanwhile."""

    lost = False
    taken_over = False

    def __init__(self, leased: set[Address], address: Address) -> None:
        self._leased, self._address = leased, address

    def release(self) -> None:
        self._leased.discard(self._address)


class MemoryReader:
    """The files of one folder in memory."""

    def __init__(self, store: MemoryStore, address: Address, folder: str, attempt: str | None = None) -> None:
        self._store = store
        self._address = address
        self._folder = folder
        self._attempt = attempt

    def path(self, name: str) -> str:
        staging = self._store.staging_of(self._attempt)
        if staging is not None:
            return os.path.join(staging.path, name)
        raw = self._store.folders.get(self._folder, _Held()).files.get(name)
        if raw is None:
            return os.path.join(self._store.disk, "absent", self._folder, name)
        digest = hashlib.sha256(raw).hexdigest()
        copy = os.path.join(self._store.disk, "copies", digest, os.path.basename(name))
        if not os.path.exists(copy):
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            with open(f"{copy}.{os.getpid()}.{threading.get_ident()}", "wb") as file:
                file.write(raw)
            os.chmod(file.name, 0o444)
            os.replace(file.name, copy)
        return copy

    def open(self, name: str) -> BinaryIO:
        if self._store.staging_of(self._attempt) is not None:
            return open(self.path(name), "rb")
        raw = self._store.folders.get(self._folder, _Held()).files.get(name)
        if raw is None:
            raise FileNotFoundError(f"{self._store.url}/{self._folder}/{name}")
        return io.BytesIO(raw)

    def url(self, name: str) -> str:
        return f"{self._store.url.rstrip('/')}/{self._folder}/{name}"

    def link(self, name: str, *, expires_s: int = 600) -> str:
        return self.url(name)

    def attempts(self, *, staged: bool = True) -> list[AttemptPlace]:
        kept = f"{self._address.prefix}/.attempts/{self._address.key}/"
        found = [
            AttemptPlace(path.rsplit("/", 1)[1], False, path)
            for path in list(self._store.folders)
            if path.startswith(kept)
        ]
        found += [
            AttemptPlace(attempt, True, f"{self._address.prefix}/.staging/{attempt}")
            for attempt in (self._store.staged_of(self._address) if staged else ())
        ]
        return sorted(found, key=lambda place: place.attempt)


def _read_folder(top: str) -> dict[str, bytes]:
    files = {}
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                files[os.path.relpath(path, top)] = file.read()
    return files
