"""Decide what an attempt made: look at every file it left, and make sure that nobody can change it any more."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import math
import os
import shutil
import stat
from collections.abc import Sequence

from nectar import errors
from nectar.records import ATTEMPT_NAME, PARAMS_NAME, RECORD_NAME, FileEntry
from nectar.redaction import filters
from nectar.target import is_unfinished

_NO_WRITING = 0o555
_BLOCK = 1 << 20  # bytes
_BESIDE = (PARAMS_NAME, ATTEMPT_NAME)


def seal(
    folder: str, outputs: Sequence[str], subject: str, *, unhashed_above: float = math.inf
) -> tuple[FileEntry, ...]:
    """Return every output file in a staging folder with its size and sha256, sorted by name.

    Of a file of more than `unhashed_above` bytes the sha256 is empty: whoever reads it next finds it out.

    Files that some process still holds open for writing are replaced by a copy, so that a child left over cannot
    change what is published. What interrupted writes left is removed.

    Raises:
        MissingOutput: when a declared output is not there; names all of them.
        OutputStillOpen: when this process itself still holds an output open.
        UnsafeOutput: when something there is neither a file nor a folder.
    """
    names = sorted(_output_names(folder, subject))
    missing = [name for name in outputs if name not in names]
    if missing:
        listed = ", ".join(f"`{name}`" for name in missing)
        raise errors.MissingOutput(
            f"`{subject}` returned without writing its output {listed}",
            hint="write to `self.output().path`, with `self.output().open('w')`, or by `self.dump(value)`",
        )
    entries = []
    for name in names:
        path = f"{folder}/{name}"
        _end_writing(path, name, subject)
        entries.append(FileEntry(name, name, *_close_for_ever(path, unhashed_above)))
    for log in os.listdir(f"{folder}/log"):
        path = f"{folder}/log/{log}"
        if _has_writer(path):  # a child that fetched a secret by itself may have ended a moment ago
            filters.wait_for(path)
            _end_writing(path, log, subject)
    return tuple(entries)


def digest_of(path: str) -> tuple[int, str]:
    """Return the size in bytes and the sha256 of a file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _digest(descriptor)
    finally:
        os.close(descriptor)


def _close_for_ever(path: str, unhashed_above: float) -> tuple[int, str]:
    """Take the right to write from a file, and return its size and sha256."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        facts = os.fstat(descriptor)
        os.fchmod(descriptor, stat.S_IMODE(facts.st_mode) & _NO_WRITING)  # a child left over may know its name
        if facts.st_size > unhashed_above:
            return facts.st_size, ""
        return _digest(descriptor)
    finally:
        os.close(descriptor)


def _digest(descriptor: int) -> tuple[int, str]:
    size = 0
    digest = hashlib.sha256()
    while block := os.read(descriptor, _BLOCK):
        size += len(block)
        digest.update(block)
    return size, digest.hexdigest()


def _output_names(folder: str, subject: str) -> list[str]:
    found = []
    stack = [""]
    while stack:
        inside = stack.pop()
        for entry in list(os.scandir(f"{folder}/{inside}")):
            name = f"{inside}{entry.name}"
            mode = entry.stat(follow_symlinks=False).st_mode
            if not inside and (name in _BESIDE or name == "log"):
                continue
            if name == RECORD_NAME:
                raise errors.UnsafeOutput(
                    f"`{subject}` left a `{RECORD_NAME}`, which Nectar keeps for itself", hint="use another name"
                )
            if stat.S_ISDIR(mode):
                stack.append(f"{name}/")
            elif is_unfinished(entry.name):
                os.unlink(entry.path)
            elif stat.S_ISREG(mode):
                found.append(name)
            else:
                raise errors.UnsafeOutput(
                    f"`{subject}` left `{name}`, which is not a plain file", hint="write a file, not a link or a pipe"
                )
    return found


def _end_writing(path: str, name: str, subject: str) -> None:
    if not _has_writer(path):
        return
    if _open_here(path):
        raise errors.OutputStillOpen(
            f"`{subject}` returned while it still held `{name}` open for writing",
            hint="close the file, best by `with self.output().open('w') as file:`",
        )
    if _has_writer(path):
        shutil.copy2(path, path + "-luigi-tmp-copy")
        os.replace(path + "-luigi-tmp-copy", path)


def _has_writer(path: str) -> bool:
    """Say whether any process holds a file open for writing: only then a read lease is refused."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False  # a platform that cannot tell
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN  # otherwise the file system has no leases, or the file is another user's
    finally:
        os.close(descriptor)
    return False


def _open_here(path: str) -> bool:
    wanted = os.stat(path)
    for name in os.listdir("/proc/self/fd"):
        try:
            found = os.stat(f"/proc/self/fd/{name}")
            with open(f"/proc/self/fdinfo/{name}") as info:
                flags = int(next(line for line in info if line.startswith("flags:")).split()[1], 8)
        except (OSError, StopIteration):
            continue  # closed meanwhile: the descriptor of the listing itself, for one
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino) and flags & (os.O_WRONLY | os.O_RDWR):
            return True
    return False
