"""Rename without replacing, exchange two names, and sync a file system: what Linux has and Python does not."""

from __future__ import annotations

import ctypes
import errno
import os

_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100

#: errors by which a kernel or a file system says that it has no such call
UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = getattr(_libc, "renameat2", None)
_syncfs = getattr(_libc, "syncfs", None)


def rename_noreplace(source: str, destination: str) -> None:
    """Rename atomically, never over anything.

    Raises:
        FileExistsError: when `destination` exists.
        OSError: with an errno of `UNSUPPORTED` where the platform cannot do it; otherwise as `os.rename`.
    """
    _call_renameat2(source, destination, _RENAME_NOREPLACE)


def exchange(first: str, second: str) -> None:
    """Exchange two names atomically; both must exist.

    Raises:
        OSError: with an errno of `UNSUPPORTED` where the platform cannot do it; otherwise as `os.rename`.
    """
    _call_renameat2(first, second, _RENAME_EXCHANGE)


def _call_renameat2(source: str, destination: str, flags: int) -> None:
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), source)
    if _renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(destination), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, destination)


def sync_file_system(path: str) -> None:
    """Write everything of the file system that holds `path` to the disk."""
    if _syncfs is None:
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if _syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def sync_path(path: str) -> None:
    """Write one file, or the names in one folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
