"""Hold a lock on one address of a local store, across threads and processes.

A byte range of one file is locked with fcntl, at the hash of the address: gone with its owner however that dies, and
not inherited by children. Closing any descriptor of a file drops all of a process's locks on it, therefore each
process opens the file once and keeps it.

A lock can be shared as well: many hold it, or one alone. The kernel counts processes, and each process its holders.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import threading
import time
import weakref
from collections.abc import Iterator

_DEADLOCK_PAUSE_S = 0.005


class _ThreadLock:
    """The same lock among the threads of one process; forgotten when nobody uses it."""

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()


#: by process and path: the descriptor, and the device and inode of the file
_descriptors: dict[tuple[int, str], tuple[int, int, int]] = {}
#: the same of those that this process may only read
_readable: dict[tuple[int, str], tuple[int, int, int]] = {}
_threads: weakref.WeakValueDictionary[tuple[int, str, int], _ThreadLock] = weakref.WeakValueDictionary()
_guard = threading.Lock()


@contextlib.contextmanager
def locked(lock_file: str, name: str) -> Iterator[None]:
    """Hold the lock called `name`, waiting for it as long as it takes."""
    descriptor, offset, thread_lock = _place(lock_file, name)
    with thread_lock.lock:
        _wait(descriptor, offset)
        try:
            yield
        finally:
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)


def _wait(descriptor: int, offset: int) -> None:
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, offset)
            return
        except OSError as error:
            # The kernel sees processes, not threads: two that hold different locks in different threads look to it
            # as if they waited for each other for ever.
            if error.errno != errno.EDEADLK:
                raise
            time.sleep(_DEADLOCK_PAUSE_S)


class HeldLock:
    """A lock that this process holds until it is released, or until the process ends."""

    taken_over = False  #: the kernel gives back what the dead held

    def __init__(self, descriptor: int, offset: int, thread_lock: _ThreadLock) -> None:
        self._descriptor, self._offset, self._thread_lock = descriptor, offset, thread_lock
        self._process = os.getpid()

    @property
    def lost(self) -> bool:
        """False: the kernel keeps it for as long as the process lives."""
        return False

    def release(self) -> None:
        """Give the lock back; in a forked child, which never had it, this does nothing."""
        if self._process == os.getpid():
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._offset)
            self._thread_lock.lock.release()


def try_lock(lock_file: str, name: str) -> HeldLock | None:
    """Take the lock called `name` if nobody holds it, without waiting."""
    descriptor, offset, thread_lock = _place(lock_file, name)
    if not thread_lock.lock.acquire(blocking=False):
        return None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
    except OSError as error:
        thread_lock.lock.release()
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return None
        raise
    return HeldLock(descriptor, offset, thread_lock)


class SharedLock:
    """A lock that this process holds, as one of many or alone, until it is released or the process ends."""

    def __init__(self, descriptor: int, place: tuple[int, int, int, int]) -> None:
        self._descriptor, self._place, self._released = descriptor, place, False

    @property
    def lost(self) -> bool:
        """False: the kernel keeps it for as long as the process lives."""
        return False

    def release(self) -> None:
        """Give the lock back; a second time, and in a forked child, which never had it, this does nothing."""
        if self._place[0] != os.getpid():
            return
        with _guard:
            if self._released:
                return
            self._released = True
            holders = _holders.pop(self._place)
            if holders > 1:
                _holders[self._place] = holders - 1
            else:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._place[-1])


_ALONE = -1
#: by process, the file's device and inode, and byte: how many of this process hold a shared lock, or that one is alone
_holders: dict[tuple[int, int, int, int], int] = {}


def try_share(lock_file: str, name: str) -> SharedLock | None:
    """Take the lock called `name` as one of many, if nobody holds it alone; it is enough to be allowed to read."""
    return _try(lock_file, name, alone=False)


def try_alone(lock_file: str, name: str) -> SharedLock | None:
    """Take the lock called `name` alone, if nobody holds it, in this process or in another."""
    return _try(lock_file, name, alone=True)


def _try(lock_file: str, name: str, *, alone: bool) -> SharedLock | None:
    with _guard:
        process = os.getpid()
        descriptor, device, inode = _open(process, lock_file, to_write=alone)
        place = (process, device, inode, _offset(name))
        holders = _holders.get(place, 0)
        if holders == _ALONE or (alone and holders):
            return None
        if not holders:
            try:
                fcntl.lockf(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB, 1, place[-1])
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    return None
                raise
        _holders[place] = _ALONE if alone else holders + 1
        return SharedLock(descriptor, place)


def _place(lock_file: str, name: str) -> tuple[int, int, _ThreadLock]:
    """Return the descriptor of the lock file, the byte that stands for `name`, and the lock among threads."""
    offset, process = _offset(name), os.getpid()
    with _guard:
        thread_lock = _threads.setdefault((process, lock_file, offset), _ThreadLock())
        return _open(process, lock_file, to_write=True)[0], offset, thread_lock


def _offset(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:7], "big")


def _open(process: int, lock_file: str, *, to_write: bool) -> tuple[int, int, int]:
    """Return descriptor, device and inode of the lock file; one that can only be read is kept apart.

    The caller has the guard.
    """
    known = _descriptors.get((process, lock_file))
    if known is not None and _is_still_there(known, lock_file):
        return known
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(lock_file, flags | os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if to_write or error.errno not in (errno.EACCES, errno.EROFS) or not os.path.lexists(lock_file):
            raise
    else:
        known = _descriptors[process, lock_file] = _known(descriptor)
        return known
    known = _readable.get((process, lock_file))
    if known is None or not _is_still_there(known, lock_file):
        known = _readable[process, lock_file] = _known(os.open(lock_file, flags | os.O_RDONLY))
    return known


def _known(descriptor: int) -> tuple[int, int, int]:
    found = os.fstat(descriptor)
    return descriptor, found.st_dev, found.st_ino


def _is_still_there(known: tuple[int, int, int], lock_file: str) -> bool:
    """Say whether a descriptor is of the file that has the name now: somebody may have removed the store."""
    try:
        found = os.stat(lock_file, follow_symlinks=False)
    except OSError:
        return False
    return known[1:] == (found.st_dev, found.st_ino)


def _forget_in_child() -> None:
    global _guard
    _guard = threading.Lock()  # the parent's other threads, one of which may hold it, are not in the child


os.register_at_fork(after_in_child=_forget_in_child)
