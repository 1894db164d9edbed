"""Hold a lock on one address of a local store, across threads and processes.

A byte range of one file is locked with fcntl, at the hash of the address: gone with its owner however that dies, and
not inherited by children. Closing any descriptor of a file drops all of a process's locks on it, therefore each
process opens the file once and keeps it.
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

    def __init__(self, descriptor: int, offset: int, thread_lock: _ThreadLock) -> None:
        self._descriptor, self._offset, self._thread_lock = descriptor, offset, thread_lock
        self._process = os.getpid()

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


def _place(lock_file: str, name: str) -> tuple[int, int, _ThreadLock]:
    """Return the descriptor of the lock file, the byte that stands for `name`, and the lock among threads."""
    offset = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:7], "big")
    process = os.getpid()
    with _guard:
        known = _descriptors.get((process, lock_file))
        if known is None or not _is_still_there(known, lock_file):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(lock_file, flags, 0o666)
            found = os.fstat(descriptor)
            known = _descriptors[process, lock_file] = (descriptor, found.st_dev, found.st_ino)
        thread_lock = _threads.setdefault((process, lock_file, offset), _ThreadLock())
        return known[0], offset, thread_lock


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
