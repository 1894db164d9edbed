"""Hold a lock on one address of a local store, across threads and processes.

A byte range of one file is locked with fcntl, at the hash of the address: gone with its owner however that dies, and
not inherited by children. Closing any descriptor of a file drops all of a process's locks on it, therefore each
process opens the file once and keeps it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator

_descriptors: dict[tuple[int, str], int] = {}
_threads: dict[tuple[int, str, int], threading.Lock] = {}
_guard = threading.Lock()


@contextlib.contextmanager
def locked(lock_file: str, name: str) -> Iterator[None]:
    """Hold the lock called `name`, waiting for it as long as it takes."""
    offset = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:7], "big")
    process = os.getpid()
    with _guard:
        if (process, lock_file) not in _descriptors:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            _descriptors[process, lock_file] = os.open(lock_file, flags, 0o666)
        descriptor = _descriptors[process, lock_file]
        thread_lock = _threads.setdefault((process, lock_file, offset), threading.Lock())
    with thread_lock:
        fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, offset)
        try:
            yield
        finally:
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)


def _forget_in_child() -> None:
    global _guard
    _guard = threading.Lock()  # the parent's other threads, one of which may hold it, are not in the child


os.register_at_fork(after_in_child=_forget_in_child)
