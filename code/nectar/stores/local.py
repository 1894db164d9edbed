"""Keep targets in a folder of the local disk.

The commit is one rename of a whole folder, never over anything, so that a target is absent or complete at any crash:

    <root>/chains/<type>/<chain>/<Task>/<key>/                 a target
                                       /.staging/<attempt>/    an attempt at work
                                       /.attempts/<key>/<attempt>/    a failed one: its logs
                                       /.quarantine/<key>/<attempt>/  what was in the way
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

from nectar import errors, records
from nectar.address import Address
from nectar.records import RECORD_NAME, Record
from nectar.settings import Durability
from nectar.stores import renaming
from nectar.stores.base import AttemptPlace, Commitment, Finished, Inspection, Staging, State
from nectar.stores.locks import HeldLock, locked, try_lock

STAGING, ATTEMPTS, QUARANTINE, LOCKS = ".staging", ".attempts", ".quarantine", ".locks"


class LocalStore:
    """Targets in a folder. See `nectar.stores.base.Store` for the promises."""

    checks_in_plans = True

    def __init__(
        self, root: str, *, durability: Durability = Durability.GROUP, attempts_kept: int = 10, url: str | None = None
    ) -> None:
        self.root = os.path.abspath(root)
        self.url = url or Path(self.root).as_uri()
        self._durability = durability
        self._attempts_kept = attempts_kept
        self._synced_prefixes: set[str] = set()
        self._inside: dict[str, tuple[int, int]] = {}  # prefix -> device and inode of its staging folder

    def __repr__(self) -> str:
        return f"LocalStore({self.root!r})"

    # Asking

    def present(self, addresses: Iterable[Address]) -> set[Address]:
        return {address for address in addresses if self._has_record(address)}

    def _has_record(self, address: Address) -> bool:
        try:
            os.stat(f"{self.root}/{address.path}/{RECORD_NAME}", follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self._fail(error, "read")
        return True

    def inspect(self, address: Address, outputs: Sequence[str] = ()) -> Inspection:
        try:
            folder = os.open(self._place(address), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return Inspection(State.MISSING)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                return Inspection(State.INVALID, problem=f"`{address}` is not a folder but a file or a link")
            self._fail(error, "read")
        try:
            return self._inspect_folder(folder, address, outputs)
        except OSError as error:
            self._fail(error, "read")
        finally:
            os.close(folder)

    def _inspect_folder(self, folder: int, address: Address, outputs: Sequence[str]) -> Inspection:
        try:
            descriptor = os.open(RECORD_NAME, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        except FileNotFoundError:
            return Inspection(State.LEFTOVER, files=tuple(_files_in(self._place(address))))
        except OSError as error:
            if error.errno == errno.ELOOP:
                return Inspection(State.INVALID, problem=f"the record of `{address}` is a symbolic link")
            raise
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Inspection(State.INVALID, problem=f"the record of `{address}` is not a file")
            raw = file.read()
        version = hashlib.sha256(raw).hexdigest()
        try:
            record = records.parse(raw, address)
        except errors.RecordInvalid as error:
            return Inspection(State.INVALID, version=version, problem=error.message)
        problem = _first_problem(folder, record, outputs)
        if problem is not None:
            return Inspection(State.INVALID, record, version, f"{problem} in `{address}`")
        return Inspection(State.COMPLETE, record, version)

    def walk(self, prefix: str = "") -> Iterator[Address]:
        base = os.path.join(self.root, prefix) if prefix else self.root
        stack = [base]
        while stack:
            folder = stack.pop()
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self._fail(error, "read")
            deeper = []
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
                    continue
                try:
                    yield Address.parse(os.path.relpath(entry.path, self.root))
                except errors.UnsafePath:
                    deeper.append(entry.path)
            stack += reversed(deeper)

    # Staging and publishing

    def stage(self, address: Address, attempt: str) -> Staging:
        path = f"{self.root}/{address.prefix}/{STAGING}/{attempt}"
        try:
            try:
                os.mkdir(path)
            except FileNotFoundError:
                os.makedirs(path)
            os.mkdir(f"{path}/log")
            self._check_inside(address.prefix)
        except OSError as error:
            self._fail(error, "written")
        except errors.UnsafePath:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return Staging(address, attempt, path)

    def _check_inside(self, prefix: str) -> None:
        """Make sure that no link on the way leads out of the store; known folders are known by their inode."""
        folder = f"{self.root}/{prefix}/{STAGING}"
        found = os.stat(folder)
        if self._inside.get(prefix) == (found.st_dev, found.st_ino):
            return
        root = os.path.realpath(self.root)
        if os.path.commonpath((root, os.path.realpath(folder))) != root:
            raise errors.UnsafePath(
                f"`{prefix}` leads out of the store `{self.url}`: one of its folders is a symbolic link",
                hint="remove the link; to keep targets elsewhere set `url` in `[store]` of configuration/nectar.toml",
            )
        self._inside[prefix] = (found.st_dev, found.st_ino)

    def commit(self, finished: Sequence[Finished]) -> list[Commitment]:
        try:
            for one in finished:
                with open(f"{one.staging.path}/{RECORD_NAME}", "xb", buffering=0) as file:
                    file.write(one.record.to_bytes())
            self._make_durable([one.staging.path for one in finished])
            commitments = [self._publish(one) for one in finished]
            if self._durability is not Durability.NONE:
                for prefix in {one.staging.address.prefix for one in finished}:
                    self._sync_names(prefix)
            return commitments
        except OSError as error:
            self._fail(error, "written")

    def _make_durable(self, folders: Sequence[str]) -> None:
        if self._durability is Durability.NONE or not folders:
            return
        if self._durability is Durability.GROUP and len(folders) > 1:
            renaming.sync_file_system(folders[0])
            return
        for top in folders:
            for folder, _, names in os.walk(top, topdown=False):
                for name in names:
                    path = os.path.join(folder, name)
                    if os.stat(path, follow_symlinks=False).st_size:
                        renaming.sync_path(path)
                renaming.sync_path(folder)

    def _sync_names(self, prefix: str) -> None:
        folder = f"{self.root}/{prefix}"
        renaming.sync_path(folder)
        if prefix in self._synced_prefixes:
            return
        while folder != self.root:  # folders that staging made on the way must outlive a power loss too
            folder = os.path.dirname(folder)
            renaming.sync_path(folder)
        self._synced_prefixes.add(prefix)

    def _publish(self, one: Finished) -> Commitment:
        staging, place = one.staging, self._place(one.staging.address)
        try:
            renaming.rename_noreplace(staging.path, place)
            return Commitment(True, one.record)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in renaming.UNSUPPORTED:
                raise
        # Only who holds the lock replaces anything, so what is found here stays until it is exchanged.
        with locked(f"{self.root}/{LOCKS}", staging.address.path):
            found = self.inspect(staging.address)
            if found.complete and found.record is not None and found.version != one.replaces:
                shutil.rmtree(staging.path)
                return Commitment(False, found.record)
            if found.state is State.MISSING:
                os.rename(staging.path, place)
            else:
                self._replace(staging, place)
        return Commitment(True, one.record)

    def _replace(self, staging: Staging, place: str) -> None:
        aside = self._quarantine_place(staging.address, staging.attempt)
        try:
            renaming.exchange(staging.path, place)
            os.rename(staging.path, aside)
        except OSError as error:
            if error.errno not in renaming.UNSUPPORTED:
                raise
            os.rename(place, aside)
            os.rename(staging.path, place)

    def abandon(self, staging: Staging, *, keep_logs: bool) -> str | None:
        address = staging.address
        kept = f"{address.prefix}/{ATTEMPTS}/{address.key}"
        try:
            if not keep_logs:
                shutil.rmtree(staging.path)
                return None
            for entry in list(os.scandir(staging.path)):
                if entry.name in ("log", records.PARAMS_NAME, records.ATTEMPT_NAME):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
            os.makedirs(f"{self.root}/{kept}", exist_ok=True)
            os.rename(staging.path, f"{self.root}/{kept}/{staging.attempt}")
            for old in sorted(os.listdir(f"{self.root}/{kept}"))[: -self._attempts_kept or None]:
                shutil.rmtree(f"{self.root}/{kept}/{old}", ignore_errors=True)  # another process may prune it too
        except FileNotFoundError:
            return None  # somebody removed the store under a running task: no log is left to be kept
        except OSError as error:
            self._fail(error, "written")
        return f"{kept}/{staging.attempt}"

    def lease(self, address: Address) -> HeldLock | None:
        try:
            os.makedirs(self.root, exist_ok=True)
            return try_lock(f"{self.root}/{LOCKS}", f"lease:{address.path}")
        except OSError as error:
            self._fail(error, "written")

    def quarantine(self, address: Address, reason: str) -> str | None:
        place = self._place(address)
        with contextlib.suppress(FileNotFoundError):
            try:
                with locked(f"{self.root}/{LOCKS}", address.path):
                    os.stat(place, follow_symlinks=False)
                    aside = self._quarantine_place(address, reason)
                    os.rename(place, aside)
                    return os.path.relpath(aside, self.root)
            except FileNotFoundError:
                raise
            except OSError as error:
                self._fail(error, "written")
        return None

    def _quarantine_place(self, address: Address, label: str) -> str:
        folder = f"{self.root}/{address.prefix}/{QUARANTINE}/{address.key}"
        os.makedirs(folder, exist_ok=True)
        number = 0
        while os.path.lexists(place := f"{folder}/{label}" + (f"-{number}" if number else "")):
            number += 1
        return place

    # Reading

    def reader(self, address: Address, attempt: str | None = None) -> LocalReader:
        folder = self._place(address)
        if attempt is not None:
            place = f"{self.root}/{address.prefix}/{ATTEMPTS}/{address.key}/{attempt}"
            folder = place if os.path.isdir(place) else f"{self.root}/{address.prefix}/{STAGING}/{attempt}"
        return LocalReader(self, address, folder)

    def _place(self, address: Address) -> str:
        return f"{self.root}/{address.path}"

    def _fail(self, error: OSError, verb: str) -> NoReturn:
        number = error.errno or 0
        hint = _HINTS.get(number, "look at the disk and at the store's `url` in configuration/nectar.toml")
        where = f" (`{os.path.relpath(error.filename, self.root)}`)" if isinstance(error.filename, str) else ""
        raise errors.StoreUnreachable(
            f"the store `{self.url}` cannot be {verb}: {os.strerror(number).lower()}{where}", hint=hint
        ) from error


_HINTS = {
    errno.EACCES: "give this user permission for the folder, or set another `url` in `[store]` of "
    "configuration/nectar.toml",
    errno.EROFS: "the file system is mounted read-only; set another `url` in `[store]` of configuration/nectar.toml",
    errno.ENOSPC: "make room on the disk; nothing that was complete is lost",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
}


class LocalReader:
    """The files of one folder in a local store."""

    def __init__(self, store: LocalStore, address: Address, folder: str) -> None:
        self._store = store
        self._address = address
        self._folder = folder

    def path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def open(self, name: str) -> BinaryIO:
        descriptor = os.open(self.path(name), os.O_RDONLY | os.O_NOFOLLOW)
        return open(descriptor, "rb")

    def url(self, name: str) -> str:
        return Path(self.path(name)).as_uri()

    def attempts(self) -> list[AttemptPlace]:
        address, root = self._address, self._store.root
        kept = f"{address.prefix}/{ATTEMPTS}/{address.key}"
        found = [AttemptPlace(name, False, f"{kept}/{name}") for name in _names_in(f"{root}/{kept}")]
        staged = f"{address.prefix}/{STAGING}"
        names = (name for name in _names_in(f"{root}/{staged}") if records.attempt_is_of(name, address))
        found += [AttemptPlace(name, True, f"{staged}/{name}") for name in names]
        return sorted(found, key=lambda place: place.attempt)


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files_in(folder: str) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            yield os.path.relpath(os.path.join(parent, name), folder)


def _first_problem(folder: int, record: Record, outputs: Sequence[str]) -> str | None:
    named = {entry.name for entry in record.files}
    for name in outputs:
        if name not in named:
            return f"the record does not name the output `{name}`"
    for entry in record.files:
        try:
            found = os.stat(entry.object, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return f"the file `{entry.name}` is missing"
        if not stat.S_ISREG(found.st_mode):
            return f"`{entry.name}` is not a plain file but a link or a folder"
        if found.st_size != entry.size:
            return f"the file `{entry.name}` has {found.st_size} bytes, its record says {entry.size}"
    return None
