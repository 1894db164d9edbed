"""List all that lies in a local store, and remove of it what nobody needs, so that no half of it stays in place.

What is removed is renamed to `.trash/<key>-<token>` beside the targets of its class first, and deleted there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone

from nectar import errors, records
from nectar.address import Address, is_key
from nectar.records import RECORD_NAME
from nectar.stores import renaming
from nectar.stores.base import Folder, Lies

QUARANTINE, TRASH = ".quarantine", ".trash"
_LONGEST_RECORD = 1 << 26  # bytes


def folders_of(root: str, address: Address) -> Iterator[Folder]:
    """Yield what there is of one target: the target, and what is in quarantine.

    Raises:
        OSError: when it cannot be read.
    """
    kept = f"{address.prefix}/{QUARANTINE}/{address.key}"
    for label in _names(f"{root}/{kept}"):
        yield from _folder(root, f"{kept}/{label}", address, Lies.QUARANTINED)
    for name in _names(f"{root}/{address.prefix}/{TRASH}"):
        if name.partition("-")[0] == address.key:
            yield from _folder(root, f"{address.prefix}/{TRASH}/{name}", address, Lies.REMOVED)
    yield from _folder(root, address.path, address, Lies.TARGET)


def all_folders(root: str) -> Iterator[Folder]:
    """Yield what lies in the store; no link is followed.

    Raises:
        OSError: when it cannot be read.
    """
    stack = [""]
    while stack:
        inside = stack.pop()
        deeper, keys = [], []
        for name, is_folder in sorted(_entries(f"{root}/{inside}")):
            if is_key(name) and inside:
                keys.append(name)
            elif is_folder and not name.startswith("."):
                deeper.append(f"{inside}/{name}" if inside else name)
        if inside:
            aside = _names(f"{root}/{inside}/{QUARANTINE}")
            trash = [name.partition("-")[0] for name in _names(f"{root}/{inside}/{TRASH}")]
            for key in sorted({*keys, *filter(is_key, (*aside, *trash))}):
                yield from folders_of(root, Address(inside, key))
        stack += reversed(deeper)


def remove(root: str, folder: Folder, *, durable: bool) -> bool:
    """Remove a folder that is still as it was found; the caller sees to it that nobody changes it meanwhile.

    Raises:
        OSError: when it cannot be removed; its place may be free by then.
    """
    again = [one for one in folders_of(root, folder.address) if one.path == folder.path]
    if again != [folder]:
        return False
    parent = f"{root}/{folder.address.prefix}"
    place = f"{root}/{folder.path}"
    if folder.lies is not Lies.REMOVED:
        trash = f"{parent}/{TRASH}/{folder.address.key}-{secrets.token_hex(4)}"
        os.makedirs(os.path.dirname(trash), exist_ok=True)
        os.rename(place, trash)
        if durable:  # otherwise a power loss could bring back a folder of which some files are deleted already
            renaming.sync_path(os.path.dirname(trash))
            renaming.sync_path(os.path.dirname(place))
        place = trash
    if stat.S_ISDIR(os.lstat(place).st_mode):
        shutil.rmtree(place)
    else:
        os.unlink(place)
    _remove_empty(root, os.path.dirname(f"{root}/{folder.path}"), f"{parent}/{TRASH}")
    return True


def _remove_empty(root: str, *folders: str) -> None:
    """Remove folders that are empty, and those above that are empty then, up to the store itself."""
    for folder in folders:
        while folder != root:
            if os.path.basename(folder) not in (QUARANTINE, TRASH):
                with contextlib.suppress(OSError):  # the place of attempts at work, of which there are none
                    os.rmdir(f"{folder}/.staging")
            try:
                os.rmdir(folder)
            except OSError:  # it is not empty, or gone
                break
            folder = os.path.dirname(folder)


@dataclass(slots=True)
class _Seen:
    """What was seen of a folder."""

    files: dict[str, int] = field(default_factory=dict)
    newest: int = 0  #: nanoseconds since the epoch
    version: tuple[int, ...] | None = None


def _folder(root: str, path: str, address: Address, lies: Lies) -> Iterator[Folder]:
    place = f"{root}/{path}"
    seen = _Seen()
    try:
        top = os.lstat(place)
        if stat.S_ISDIR(top.st_mode):
            _look(place, path, seen)
        else:
            seen.files[path] = top.st_size
    except FileNotFoundError:
        return
    newest = seen.newest or top.st_mtime_ns
    if lies is Lies.QUARANTINED:
        newest = max(newest, top.st_ctime_ns)  # a rename leaves files as they are, and is seen at what was renamed
    newer = lies is Lies.QUARANTINED and seen.version is not None and _is_newer(f"{place}/{RECORD_NAME}", address)
    modified = datetime.fromtimestamp(newest / 1e9, timezone.utc)
    yield Folder(address, path, lies, seen.files, modified, seen.version, newer)


def _look(top: str, path: str, seen: _Seen) -> None:
    """Note every file below a folder, links and pipes among them; what is gone meanwhile is not there."""
    stack = [""]
    while stack:
        inside = stack.pop()
        try:
            entries = list(os.scandir(f"{top}/{inside}"))
        except FileNotFoundError:
            continue
        for entry in entries:
            name = f"{inside}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                stack.append(f"{name}/")
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            seen.files[f"{path}/{name}"] = found.st_size
            seen.newest = max(seen.newest, found.st_mtime_ns)
            if name == RECORD_NAME:
                seen.version = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _is_newer(path: str, address: Address) -> bool:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return False
    with open(path, "rb") as file:
        raw = file.read(_LONGEST_RECORD)
    try:
        records.parse(raw, address)
    except errors.RecordNewer:
        return True
    except errors.RecordInvalid:
        return False
    return False


def _entries(folder: str) -> list[tuple[str, bool]]:
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except FileNotFoundError:
        return []


def _names(folder: str) -> list[str]:
    """Return the names in a folder, sorted; none in a link to one."""
    if os.path.islink(folder):
        return []
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
