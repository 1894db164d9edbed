"""Keep targets in a folder of the local disk.

The commit is one rename of a whole folder, never over anything, so that a target is absent or complete at any crash:

    <root>/chains/<type>/<chain>/<Task>/<key>/                 a target
                                       /.staging/<attempt>/    an attempt at work
                                       /.attempts/<key>/<attempt>/    a failed one: its logs
                                       /.quarantine/<key>/<attempt>/  what was in the way
                                       /.recipes/<hash>        the key of a target made from inputs with these digests
                                       /.trash/<key>-<token>/  what is being removed
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import math
import operator
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeVar

from nectar import errors, records
from nectar.address import KEY_LENGTH, Address, check_prefix, is_key
from nectar.records import RECORD_NAME, STDERR_NAME, STDOUT_NAME, Record
from nectar.settings import Durability
from nectar.stores import clearing, renaming
from nectar.stores.base import (
    AttemptPlace,
    Commitment,
    Finished,
    Folder,
    Inspection,
    Lease,
    NoLease,
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
from nectar.stores.clearing import QUARANTINE
from nectar.stores.locks import HeldLock, SharedLock, locked, try_alone, try_lock, try_share
from nectar.stores.waiting import pauses

STAGING, ATTEMPTS, RECIPES, LOCKS = ".staging", ".attempts", ".recipes", ".locks"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_USERS = "users"  # the name of the lock that says whether the store is in use


class LocalStore:
    """Targets in a folder. See `nectar.stores.base.Store` for the promises."""

    of_one_process = False
    checks_in_plans = True
    hashes_above = math.inf

    def __init__(
        self, root: str, *, durability: Durability = Durability.GROUP, attempts_kept: int = 10, url: str | None = None
    ) -> None:
        self.root = os.path.abspath(root)
        self.url = url or Path(self.root).as_uri()
        self._durability = durability
        self._attempts_kept = attempts_kept
        self._lasting: set[str] = set()  # folders whose names are on the disk
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
            self._check_root()
            return False
        except OSError as error:
            self._fail(error, "read")
        return True

    def _check_root(self) -> None:
        """Tell a store in which something is missing from one that is no folder at all.

        What lies there is asked for once: between two questions another process can make the folder.
        """
        try:
            is_folder = stat.S_ISDIR(os.stat(self.root).st_mode)
        except OSError:
            is_folder = not os.path.islink(self.root)  # nothing yet; but a link to nowhere is a disk that is not there
        if not is_folder:
            self._fail(NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.root), "read")

    def inspect(self, address: Address, outputs: Sequence[str] = (), *, leftovers: bool = True) -> Inspection:
        try:
            folder = os.open(self._place(address), _FOLDER)
        except FileNotFoundError:
            self._check_root()
            return Inspection(State.MISSING)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                self._check_root()
                return Inspection(State.INVALID, problem=f"`{address}` is not a folder but a file or a link")
            self._fail(error, "read")
        try:
            if not self._is_inside(address.prefix):
                return Inspection(State.INVALID, problem=f"a folder of `{address.prefix}` is a link out of the store")
            return self._inspect_folder(folder, address, outputs, versioned=True)
        except OSError as error:
            self._fail(error, "read")
        finally:
            os.close(folder)

    def inspect_many(self, wanted: Iterable[tuple[Address, Sequence[str]]]) -> Iterator[Inspection]:
        prefix, above = "", -1
        try:
            for address, outputs in wanted:
                if address.prefix != prefix:
                    if above >= 0:
                        os.close(above)
                    prefix, above = address.prefix, self._open_inside(address.prefix)
                yield self._inspect_below(above, address, outputs) if above >= 0 else self.inspect(address, outputs)
        finally:
            if above >= 0:
                os.close(above)

    def _open_inside(self, prefix: str) -> int:
        """Open the folder of all targets of a class; -1 where there is none, or a link leads out of the store."""
        try:
            above = os.open(f"{self.root}/{prefix}", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return -1
        found = os.fstat(above)
        if self._is_inside(prefix) and self._inside.get(prefix) == (found.st_dev, found.st_ino):
            return above
        os.close(above)
        return -1

    def _inspect_below(self, above: int, address: Address, outputs: Sequence[str]) -> Inspection:
        """Inspect a target in a folder that was looked at when it was opened."""
        try:
            folder = os.open(address.key, _FOLDER, dir_fd=above)
        except FileNotFoundError:
            return Inspection(State.MISSING)
        except OSError:
            return self.inspect(address, outputs)  # which says what it is
        try:
            return self._inspect_folder(folder, address, outputs, versioned=False)
        except OSError as error:
            self._fail(error, "read")
        finally:
            os.close(folder)

    def _inspect_folder(self, folder: int, address: Address, outputs: Sequence[str], *, versioned: bool) -> Inspection:
        try:
            descriptor = os.open(RECORD_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        except FileNotFoundError:
            return Inspection(State.LEFTOVER, files=tuple(_files_in(self._place(address))))
        except OSError as error:
            if error.errno == errno.ELOOP:
                return Inspection(State.INVALID, problem=f"the record of `{address}` is a symbolic link")
            raise
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return Inspection(State.INVALID, problem=f"the record of `{address}` is not a file")
            raw = _read_all(descriptor, found.st_size)
        finally:
            os.close(descriptor)
        version = hashlib.sha256(raw).hexdigest() if versioned else None
        try:
            record = records.parse(raw, address)
        except errors.RecordInvalid as error:
            return unreadable(error, version)
        problem = _first_problem(folder, record, outputs)
        if problem is not None:
            return Inspection(State.INVALID, record, version, f"{problem} in `{address}`")
        return Inspection(State.COMPLETE, record, version, stamp=_stamp(found))

    def records(self, addresses: Iterable[Address]) -> dict[Address, Record]:
        return records_by_inspection(self, addresses)

    def changed(self, stamps: Mapping[Address, Hashable]) -> set[Address]:
        found: set[Address] = set()
        try:
            for prefix, some in itertools.groupby(stamps, operator.attrgetter("prefix")):
                above = self._open_inside(prefix)
                try:
                    found.update(one for one in some if above < 0 or _stamp_below(above, one.key) != stamps[one])
                finally:
                    if above >= 0:
                        os.close(above)
        except OSError as error:
            self._fail(error, "read")
        return found

    def walk(self, prefix: str = "") -> Iterator[Address]:
        self._check_root()
        prefix = prefix.strip("/")
        exact = check_prefix(prefix)
        if exact is not None:
            if os.path.lexists(self._place(exact)) and self._is_inside(exact.prefix):
                yield exact
            return
        stack = [prefix] if self._is_inside(prefix) else []
        while stack:
            inside = stack.pop()
            try:
                entries = sorted(os.scandir(f"{self.root}/{inside}"), key=lambda entry: entry.name)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._fail(error, "read")
            deeper = []
            for entry in entries:
                if is_key(entry.name) and inside:
                    yield Address(inside, entry.name)  # also where a file or a link has the place of a target
                elif not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    deeper.append(f"{inside}/{entry.name}" if inside else entry.name)
            stack += reversed(deeper)

    # Staging and publishing

    def stage(self, address: Address, attempt: str) -> Staging:
        path = f"{self.root}/{address.prefix}/{STAGING}/{attempt}"
        try:
            if not self._is_inside(address.prefix):
                raise errors.UnsafePath(
                    f"`{address.prefix}` leads out of the store `{self.url}`: one of its folders is a symbolic link",
                    hint="remove the link; to keep targets elsewhere set `url` in `[store]` of "
                    "configuration/nectar.toml",
                )
            try:
                os.mkdir(path)
            except FileNotFoundError:
                self._forget_missing(address.prefix)
                os.makedirs(path)
            os.mkdir(f"{path}/log")
        except OSError as error:
            self._fail(error, "written")
        return Staging(address, attempt, path)

    def _is_inside(self, prefix: str) -> bool:
        """Say whether no link on the way leads out of the store; folders that were looked at are known by inode."""
        folder = f"{self.root}/{prefix}"
        try:
            found = os.stat(folder)
        except FileNotFoundError:
            found = None
        if found is not None and self._inside.get(prefix) == (found.st_dev, found.st_ino):
            return True
        root = os.path.realpath(self.root)
        if os.path.commonpath((root, os.path.realpath(folder))) != root:
            return False
        if found is not None:
            self._inside[prefix] = (found.st_dev, found.st_ino)
        return True

    def commit(self, finished: Sequence[Finished]) -> list[Commitment]:
        try:
            stamps = [_write_record(one) for one in finished]
            self._make_durable([one.staging.path for one in finished])
            commitments = [self._publish(one, stamp) for one, stamp in zip(finished, stamps, strict=True)]
            if self._durability is not Durability.NONE:
                for prefix in {one.staging.address.prefix for one in finished}:
                    self._sync_names(prefix)
            for one in finished:
                if one.recipe is not None:
                    self._point(one.recipe, one.staging.address)
            return commitments
        except OSError as error:
            self._fail(error, "written")

    def _make_durable(self, folders: Sequence[str]) -> None:
        if self._durability is Durability.NONE:
            return
        if self._durability is Durability.GROUP:
            # Also for a single attempt: measured, it takes half as long as six files and folders one by one.
            for folder in {os.stat(folder).st_dev: folder for folder in folders}.values():
                renaming.sync_file_system(folder)
            return
        for top in folders:
            for folder, _, names in os.walk(top, topdown=False, onerror=_raise):
                for name in names:
                    path = os.path.join(folder, name)
                    if os.stat(path, follow_symlinks=False).st_size:
                        renaming.sync_path(path)
                renaming.sync_path(folder)

    def _forget_missing(self, prefix: str) -> None:
        """Forget of folders that their names are on the disk: somebody removed them."""
        folder = f"{self.root}/{prefix}"
        while folder != self.root and not os.path.isdir(folder):
            self._lasting.discard(folder)
            folder = os.path.dirname(folder)

    def _sync_names(self, prefix: str) -> None:
        folder = f"{self.root}/{prefix}"
        renaming.sync_path(folder)
        new = []
        while folder != self.root and folder not in self._lasting:
            new.append(folder)  # folders that staging made on the way must outlive a power loss too
            folder = os.path.dirname(folder)
            renaming.sync_path(folder)
        self._lasting.update(new)

    def _publish(self, one: Finished, stamp: Hashable) -> Commitment:
        staging, place = one.staging, self._place(one.staging.address)
        while True:
            try:
                self._rename_new(staging, place)
                return Commitment(True, one.record, stamp)
            except FileExistsError:
                pass
            # Only who holds the lock replaces anything, so what is found here stays until it is exchanged.
            with locked(f"{self.root}/{LOCKS}", staging.address.path):
                found = self.inspect(staging.address, one.outputs)
                refuse_newer(found)
                if found.complete and found.record is not None and found.version != one.replaces:
                    shutil.rmtree(staging.path)
                    return Commitment(False, found.record, found.stamp)
                if found.state is not State.MISSING:
                    self._replace(staging, place)
                    return Commitment(True, one.record, stamp)

    def _rename_new(self, staging: Staging, place: str) -> None:
        try:
            renaming.rename_noreplace(staging.path, place)
        except OSError as error:
            if error.errno not in renaming.UNSUPPORTED:
                raise
            with locked(f"{self.root}/{LOCKS}", staging.address.path):
                if os.path.lexists(place):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place) from None
                os.rename(staging.path, place)

    def _replace(self, staging: Staging, place: str) -> None:
        """Put the new in the place of the old; at no moment is the old where staging places are cleared away."""
        aside = self._quarantine_place(staging.address, staging.attempt)
        try:
            os.rename(staging.path, aside)
            renaming.exchange(aside, place)
        except OSError as error:
            if error.errno not in renaming.UNSUPPORTED:
                if os.path.isdir(aside) and not os.path.isdir(staging.path):
                    os.rename(aside, staging.path)
                raise
            old = self._quarantine_place(staging.address, f"{staging.attempt}-old")
            os.rename(place, old)
            try:
                os.rename(aside, place)
            except OSError:
                os.rename(old, place)
                raise

    def take_over(self, record: Record, staging: Staging) -> None:
        folder = self._place(record.address)
        try:
            for entry in record.files:
                place = f"{staging.path}/{entry.name}"
                if "/" in entry.name:
                    os.makedirs(os.path.dirname(place), exist_ok=True)
                os.link(f"{folder}/{entry.object}", place, follow_symlinks=False)
            for log in (STDOUT_NAME, STDERR_NAME):
                with contextlib.suppress(FileNotFoundError):  # another tool may have made the target
                    os.link(f"{folder}/{log}", f"{staging.path}/{log}", follow_symlinks=False)
        except FileNotFoundError:
            raise
        except OSError as error:
            self._fail(error, "read")

    def _point(self, recipe: Recipe, address: Address) -> None:
        """Write down where a target is, in the place of an earlier one; it is for economy, and need not be durable.

        Not a link: whoever copies the store would follow it, or stumble over one that leads nowhere any more.
        """
        folder = f"{self.root}/{recipe.prefix}/{RECIPES}"
        place, key = f"{folder}/{recipe.name}", address.key.encode()
        try:
            try:
                _write_new(place, key)
            except FileNotFoundError:
                os.makedirs(folder, exist_ok=True)
                _write_new(place, key)
        except FileExistsError:
            unfinished = f"{place}.{secrets.token_hex(4)}"
            _write_new(unfinished, key)
            os.replace(unfinished, place)

    def recall(self, recipes: Iterable[Recipe]) -> dict[Recipe, Address]:
        found = {}
        for recipe in recipes:
            try:
                with open(f"{self.root}/{recipe.prefix}/{RECIPES}/{recipe.name}", "rb", buffering=0) as file:
                    key = file.read(KEY_LENGTH + 1).decode("ascii", "replace")
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self._fail(error, "read")
            if is_key(key):  # otherwise its writer died
                found[recipe] = Address(recipe.prefix, key)
        return found

    def remembers(self, prefix: str) -> bool:
        try:
            with os.scandir(f"{self.root}/{prefix}/{RECIPES}") as entries:
                return next(entries, None) is not None
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self._fail(error, "read")

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

    def tried(self, prefix: str) -> set[str]:
        staged = map(records.attempt_key, _names_in(f"{self.root}/{prefix}/{STAGING}", self))
        return {*_names_in(f"{self.root}/{prefix}/{ATTEMPTS}", self), *(key for key in staged if key is not None)}

    # Leases

    def lease(self, address: Address) -> HeldLock | None:
        return self._locking(try_lock, f"lease:{address.path}")

    def lease_all(self, addresses: Sequence[Address]) -> list[TargetLease | None]:
        return lease_each(self, addresses)

    def release_all(self, leases: Sequence[TargetLease]) -> None:
        release_each(leases)

    def in_use(self, *, to_write: bool = False) -> Lease:
        if not to_write and not os.path.lexists(self.root):
            return NoLease(lost=True)
        for pause in pauses(0.01, 0.5):
            try:
                lock = self._locking(try_share, _USERS)
            except errors.StoreUnreachable as error:
                if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NOT_FOR_US:
                    return NoLease(lost=False)
                raise
            if lock is not None:
                return lock
            time.sleep(pause)
        raise AssertionError("pauses have no end")

    def alone(self) -> SharedLock | None:
        return self._locking(try_alone, _USERS)

    def _locking(self, take: Callable[[str, str], _Lock | None], name: str) -> _Lock | None:
        lock_file = f"{self.root}/{LOCKS}"
        try:
            try:
                return take(lock_file, name)
            except FileNotFoundError:
                os.makedirs(self.root, exist_ok=True)
                return take(lock_file, name)
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

    # Clearing

    def contents(self, address: Address | None = None) -> Iterator[Folder]:
        self._check_root()
        try:
            if address is None:
                yield from clearing.all_folders(self.root)
            elif self._is_inside(address.prefix):
                yield from clearing.folders_of(self.root, address)
        except OSError as error:
            self._fail(error, "read")

    def remove(self, folder: Folder) -> bool:
        try:
            if not self._is_inside(folder.address.prefix):
                return False
            with locked(f"{self.root}/{LOCKS}", folder.address.path):
                return clearing.remove(self.root, folder, durable=self._durability is not Durability.NONE)
        except FileNotFoundError:
            return False
        except OSError as error:
            self._fail(error, "written")

    # Reading

    def reader(self, address: Address, attempt: str | None = None) -> LocalReader:
        folder = self._place(address)
        if attempt is not None:
            place = f"{self.root}/{address.prefix}/{ATTEMPTS}/{address.key}/{attempt}"
            folder = place if os.path.isdir(place) else f"{self.root}/{address.prefix}/{STAGING}/{attempt}"
        return LocalReader(self, address, folder)

    def fail_reading(self, error: OSError) -> NoReturn:
        """Raise what the store's promise names for an error of the disk."""
        self._fail(error, "read")

    def _place(self, address: Address) -> str:
        return f"{self.root}/{address.path}"

    def _fail(self, error: OSError, verb: str) -> NoReturn:
        number = error.errno or 0
        hint = _HINTS.get(number, "look at the disk and at the store's `url` in configuration/nectar.toml")
        where = f" (`{os.path.relpath(error.filename, self.root)}`)" if isinstance(error.filename, str) else ""
        raise errors.StoreUnreachable(
            f"the store `{self.url}` cannot be {verb}: {os.strerror(number).lower()}{where}", hint=hint
        ) from error


_Lock = TypeVar("_Lock")

#: the store is another's, or no store: what is asked of it next says so, where it matters
_NOT_FOR_US = frozenset({errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP})

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
        folder = None
        try:
            *folders, file = name.split("/")
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            for part in folders:
                deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = deeper
            # Without O_NONBLOCK whoever opens a pipe waits for somebody to write into it.
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise FileNotFoundError(errno.ENOENT, "it is not a file", name)
            return open(descriptor, "rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):  # a link, which may lead anywhere
                raise FileNotFoundError(errno.ENOENT, "it is a link, or in one", name) from error
            self._store.fail_reading(error)
        finally:
            if folder is not None:
                os.close(folder)

    def url(self, name: str) -> str:
        return Path(self.path(name)).as_uri()

    def link(self, name: str, *, expires_s: int = 600) -> str:
        return self.url(name)

    def attempts(self, *, staged: bool = True) -> list[AttemptPlace]:
        address, root = self._address, self._store.root
        kept = f"{address.prefix}/{ATTEMPTS}/{address.key}"
        found = [AttemptPlace(name, False, f"{kept}/{name}") for name in _names_in(f"{root}/{kept}", self._store)]
        if staged:
            place = f"{address.prefix}/{STAGING}"
            names = _names_in(f"{root}/{place}", self._store)
            of_this = [name for name in names if records.attempt_key(name) == address.key]
            found += [AttemptPlace(name, True, f"{place}/{name}") for name in of_this]
        return sorted(found, key=lambda place: place.attempt)


def _write_record(one: Finished) -> Hashable:
    with open(f"{one.staging.path}/{RECORD_NAME}", "xb", buffering=0) as file:
        file.write(one.record.to_bytes())
        return _stamp(os.fstat(file.fileno()))


def _write_new(path: str, raw: bytes) -> None:
    with open(path, "xb", buffering=0) as file:
        file.write(raw)


def _stamp(found: os.stat_result) -> Hashable:
    """Return what tells one record's file from every other: renames leave it as it is, writing does not."""
    return hash((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))


def _stamp_below(above: int, key: str) -> Hashable:
    """Return the stamp of a record, None where there is none."""
    try:
        return _stamp(os.stat(f"{key}/{RECORD_NAME}", dir_fd=above, follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _names_in(folder: str, store: LocalStore) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        store.fail_reading(error)


def _files_in(folder: str) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            yield os.path.relpath(os.path.join(parent, name), folder)


def _read_all(descriptor: int, size: int) -> bytes:
    raw = os.read(descriptor, size + 1)
    if len(raw) == size:  # the whole of a file that nobody writes to
        return raw
    blocks = [raw]
    while block := os.read(descriptor, 1 << 20):
        blocks.append(block)
    return b"".join(blocks)


def _raise(error: OSError) -> NoReturn:
    raise error


def _first_problem(folder: int, record: Record, outputs: Sequence[str]) -> str | None:
    unnamed = record.unnamed_output(outputs)
    if unnamed is not None:
        return f"the record does not name the output `{unnamed}`"
    for entry in record.files:
        try:
            found = _stat_inside(folder, entry.object)
        except (FileNotFoundError, NotADirectoryError):
            return f"the file `{entry.name}` is missing"
        if found is None or not stat.S_ISREG(found.st_mode):
            return f"`{entry.name}` is not a plain file but a link or a folder"
        if found.st_size != entry.size:
            return f"the file `{entry.name}` has {found.st_size} bytes, its record says {entry.size}"
    return None


def _stat_inside(folder: int, name: str) -> os.stat_result | None:
    """Return what a name within a folder is, None where a link is on the way."""
    parts = name.split("/") if "/" in name else ()
    for depth in range(1, len(parts)):
        if stat.S_ISLNK(os.stat("/".join(parts[:depth]), dir_fd=folder, follow_symlinks=False).st_mode):
            return None
    return os.stat(name, dir_fd=folder, follow_symlinks=False)
