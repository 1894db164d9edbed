"""Keep verified, read-only copies of objects on the local disk, within a bound, for all processes of a machine.

    <folder>/<aa>/<sha256>/<file name>           the bytes with this digest, mode 0444
            /records/<aa>/<sha256 of the ETag>   a record: the digest of its bytes, a line feed, its bytes
            /.fetching/<unique name>             a download at work, or what a process left that died meanwhile
            /.in-use                             nothing; its bytes are locked, each by those who use one file

That a file was verified is kept in its time of modification: a second in the past that follows from its digest and
from this start of the machine. Whoever writes to the file changes that, even within the same tick of the clock. After
a power loss, which may take what was never synced, every file is verified anew; so nothing needs to be synced here.
The time of access is that of the last use, set here, whatever options the disk is mounted with.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nectar import errors

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TWO_DIGITS = re.compile(r"[0-9a-f]{2}")
_RECORDS, _FETCHING, _IN_USE = "records", ".fetching", ".in-use"
_CHUNK = 1 << 20  #: bytes
_TOUCHED_EVERY_NS = 60_000_000_000  #: a time of use is no more exact than that
_KEPT = (
    0.9  #: of the bound: so much is left once something had to go, so that the next file does not have to walk again
)
_TRIES = 20  #: another process may remove an empty folder between its making and its use
_DEADLOCK_PAUSE_S = 0.005


class ObjectCache:
    """Copies of objects in a folder, at most `most_bytes` of them, but for what is in use.

    Other processes may add and remove at the same time: each looks at the folder when it first adds a file, and again
    whenever it has added a tenth of the bound, so the sum may exceed the bound by a tenth for each of them.
    """

    def __init__(self, folder: str, most_bytes: int, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.folder = os.path.realpath(folder)
        self.most_bytes = most_bytes
        self._clock_ns = clock_ns
        self._room: int | None = None  # bytes that may be added before the next look at the folder
        self._in_use = _in_use_of(self.folder)

    def path_of(
        self, sha256: str, name: str, size: int, fetch: Callable[[str], None], *, verified: bool = False
    ) -> str:
        """Return the path of a read-only file of these bytes, named as `name` is; `fetch(path)` downloads it.

        `verified` says that `fetch` has compared the digest itself, which for a large file takes as long as reading it.
        It stays where it is, whatever other processes fetch, until `forget` is called or this process ends.

        Raises:
            TargetCorrupt: when what was fetched has another size or digest; nothing is kept of it.
            StoreUnreachable: when the cache cannot be read or written.
            And whatever `fetch` raises.
        """
        path = self._place_of(sha256, name)
        with self._failures():
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            self._in_use.take(path)
        try:
            with self._failures():
                there = self._is_verified(path, sha256, size)
            if not there:
                self._fetch(path, sha256, size, fetch, verified)
        except BaseException:
            self._in_use.drop(path)
            raise
        return path

    def forget(self, *paths: str) -> None:
        """Say that this process needs files no longer, each as often as it was handed out; without paths: none of them.

        They stay until room is needed.
        """
        for path in paths:
            self._in_use.drop(path)
        if not paths:
            self._in_use.drop_all()

    def record(self, etag: str) -> bytes | None:
        """Return the record that was kept under this ETag, None where there is none, or its bytes have changed.

        Raises:
            StoreUnreachable: when the cache cannot be read.
        """
        path = self._record_place_of(etag)
        with self._failures():
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            except (FileNotFoundError, NotADirectoryError):
                return None
            with open(descriptor, "rb") as file:
                digest, _, raw = file.read().partition(b"\n")
                if hashlib.sha256(raw).hexdigest().encode() == digest:
                    found = os.fstat(file.fileno())
                    self._touch(file.fileno(), found.st_atime_ns, found.st_mtime_ns)
                    return raw
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        return None

    def keep_record(self, etag: str, raw: bytes) -> None:
        """Keep the bytes of a record. Where one cache serves two stores, the ETag has to tell them apart.

        Raises:
            StoreUnreachable: when the cache cannot be written.
        """
        path = self._record_place_of(etag)
        with self._failures():
            if os.path.exists(path):
                return
            content = hashlib.sha256(raw).hexdigest().encode() + b"\n" + raw
            self._make_room(len(content))
            with self._workplace() as part:
                with open(part, "xb") as file:
                    file.write(content)
                self._publish(part, path, self._clock_ns())

    # Files

    def _place_of(self, sha256: str, name: str) -> str:
        base = os.path.basename(name)
        if not _DIGEST.fullmatch(sha256) or base in ("", ".", "..") or "\0" in base:
            raise errors.TargetCorrupt(
                f"a record names the file `{name}` with the digest `{sha256}`, which cannot be",
                hint="the target has to be made again: force it with the next run",
            )
        return f"{self.folder}/{sha256[:2]}/{sha256}/{base}"

    def _record_place_of(self, etag: str) -> str:
        name = hashlib.sha256(etag.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self.folder}/{_RECORDS}/{name[:2]}/{name}"

    def _is_verified(self, path: str, sha256: str, size: int) -> bool:
        """Say whether a file has its bytes: by its stamp, or by its digest if anybody touched it."""
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
        if found.st_mtime_ns == _stamp(sha256):
            self._touch(path, found.st_atime_ns, found.st_mtime_ns)
            return True
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        with open(descriptor, "rb", buffering=0) as file:
            before = os.fstat(descriptor)
            same = _digest(descriptor) == sha256
            after = os.fstat(descriptor)
            if same and (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns):
                with contextlib.suppress(PermissionError):  # a file of another user is verified at each use
                    os.fchmod(descriptor, 0o444)
                self._touch(file.fileno(), 0, _stamp(sha256))
        return same

    def _touch(self, file: str | int, used_ns: int, modified_ns: int) -> None:
        now = self._clock_ns()
        if abs(now - used_ns) >= _TOUCHED_EVERY_NS:
            # A file of another user is kept by what that one says of its use; a file evicted meanwhile has no times.
            with contextlib.suppress(PermissionError, FileNotFoundError):
                os.utime(file, ns=(now, modified_ns))

    def _fetch(self, path: str, sha256: str, size: int, fetch: Callable[[str], None], verified: bool) -> None:
        with self._failures():
            self._make_room(size)
        with self._workplace() as folder:
            with self._failures():
                os.mkdir(folder, mode=0o700)  # a downloader may use names of its own in it
            part = f"{folder}/{os.path.basename(path)}"
            fetch(part)
            with self._failures():
                _check(part, sha256, size, verified)
                if not self._is_verified(path, sha256, size):  # else another process was faster
                    self._publish(part, path, _stamp(sha256))

    def _publish(self, part: str, path: str, modified_ns: int) -> None:
        """Put a finished file in its place, over what was there and is not what it should be."""
        os.chmod(part, 0o444)
        os.utime(part, ns=(self._clock_ns(), modified_ns))
        for tries_left in reversed(range(_TRIES)):
            try:
                os.rename(part, path)
                return
            except FileNotFoundError:
                if not tries_left:
                    raise
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def _workplace(self) -> Iterator[str]:
        """Have a path at which nothing is, and which nobody else touches; remove what is there in the end."""
        path = f"{self.folder}/{_FETCHING}/{secrets.token_hex(16)}"
        with self._failures():
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            self._in_use.take(path)  # before anything is there, lest it be taken for left behind
        try:
            yield path
        finally:
            with self._failures():
                _remove(path)
            self._in_use.drop(path)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise errors.StoreUnreachable(
                f"the cache `{self.folder}` cannot be used: {os.strerror(error.errno or 0).lower()}"
                + (f" (`{error.filename}`)" if error.filename else ""),
                hint="copies of objects in S3 are kept there: give this user leave to write in it, and the disk space; "
                "what lies in it may be deleted at any time",
            ) from error

    # Room

    def _make_room(self, size: int) -> None:
        """Remove what was not used for longest until `size` bytes more are within the bound, and count them."""
        with _guard:
            if self._room is None or size > self._room:
                self._remove_what_the_dead_left()
                files = sorted(self._files(), key=lambda file: file.used_ns)
                total = sum(file.size for file in files)
                if total + size > self.most_bytes:
                    total -= self._evict(files, total + size - int(self.most_bytes * _KEPT))
                self._room = min(self.most_bytes - total, self.most_bytes // 10)
            self._room -= size

    def _evict(self, files: list[_File], surplus: int) -> int:
        """Remove files from the first on until `surplus` bytes are gone; return how many went."""
        gone = 0
        for file in files:
            if gone >= surplus:
                break
            with self._in_use.by_nobody(file.path) as free:
                if free:
                    with contextlib.suppress(FileNotFoundError):  # another process evicts the same
                        os.unlink(file.path)
                    gone += file.size
            if free and _DIGEST.fullmatch(os.path.basename(os.path.dirname(file.path))):
                _remove_empty(os.path.dirname(file.path))
        return gone

    def _remove_what_the_dead_left(self) -> None:
        for path in _entries(f"{self.folder}/{_FETCHING}"):
            with self._in_use.by_nobody(path) as free:
                if free:
                    _remove(path)

    def _files(self) -> Iterator[_File]:
        """Yield what the cache holds; what others keep in its folder is none of its business."""
        for two in _entries(self.folder):
            if _TWO_DIGITS.fullmatch(os.path.basename(two)):
                for folder in _entries(two):
                    if _DIGEST.fullmatch(os.path.basename(folder)):
                        yield from _files_in(folder)
        for two in _entries(f"{self.folder}/{_RECORDS}"):
            if _TWO_DIGITS.fullmatch(os.path.basename(two)):
                yield from (file for file in _files_in(two) if _DIGEST.fullmatch(os.path.basename(file.path)))


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size: int  #: bytes
    used_ns: int  #: since the epoch


def _entries(folder: str) -> list[str]:
    """Return the paths in a folder, none where there is no such folder."""
    try:
        return [f"{folder}/{name}" for name in os.listdir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files_in(folder: str) -> Iterator[_File]:
    for path in _entries(folder):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(found.st_mode):
            yield _File(path, found.st_size, found.st_atime_ns)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def _remove_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise


def _check(path: str, sha256: str, size: int, verified: bool) -> None:
    """Make sure that a download is what it should be; of one that is verified, that it came to lie here.

    Raises:
        TargetCorrupt: when it is not.
    """
    name = os.path.basename(path)
    hint = "run again; if it stays so, the object is not what was committed: `nectar verify` says which target it is of"
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, "rb", buffering=0):
        found = os.fstat(descriptor).st_size
        if found != size:
            raise errors.TargetCorrupt(f"`{name}` came with {found} bytes, its record says {size}", hint=hint)
        digest = sha256 if verified else _digest(descriptor)
    if digest != sha256:
        raise errors.TargetCorrupt(f"`{name}` came with the digest {digest}, its record says {sha256}", hint=hint)


def _digest(descriptor: int) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    while count := os.readv(descriptor, [buffer]):
        digest.update(buffer[:count])
    return digest.hexdigest()


def _stamp(sha256: str) -> int:
    """Return the time of modification, ns, that says of a file: verified since this machine started.

    Whole and even seconds, as some file systems know no finer ones; between 2001 and 2018.
    """
    mixed = hashlib.sha256(_start_of_the_machine() + sha256.encode()).digest()
    return (1_000_000_000 + 2 * (int.from_bytes(mixed[:4], "big") >> 4)) * 1_000_000_000


@functools.lru_cache(maxsize=1)
def _start_of_the_machine() -> bytes:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read()
    except OSError:  # not Linux: a file counts as verified beyond a restart
        return b""


# Who uses what

_guard = threading.RLock()
_known: dict[str, _InUse] = {}


class _InUse:
    """Which files of a cache this process uses, and which are used by others.

    Whoever uses a file shares a lock on one byte of the lock file, at the hash of its path; whoever removes one must
    have that lock alone. The locks are gone with their process, however it dies, and are not inherited by children.
    Closing any descriptor of the lock file would drop them all: a process opens it once, for all its caches.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock_file = f"{folder}/{_IN_USE}"
        self._descriptor: int | None = None
        self._counts: Counter[str] = Counter()

    def take(self, path: str) -> None:
        """Keep others from removing a file, there or not, until it is dropped as often."""
        with _guard:
            if not self._counts[path]:
                self._lock(path, fcntl.LOCK_SH)
            self._counts[path] += 1

    def drop(self, path: str) -> None:
        """Undo one `take`."""
        with _guard:
            if self._counts[path] > 1:
                self._counts[path] -= 1
            elif self._counts.pop(path, 0):
                self._lock(path, fcntl.LOCK_UN)

    def drop_all(self) -> None:
        """Undo every `take` but those of downloads at work."""
        with _guard:
            for path in list(self._counts):
                if not path.startswith(f"{self._folder}/{_FETCHING}/"):
                    del self._counts[path]
                    self._lock(path, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def by_nobody(self, path: str) -> Iterator[bool]:
        """Say whether no process uses a file, and keep it so meanwhile."""
        with _guard:
            free = not self._counts.get(path) and self._lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                yield free
            finally:
                if free:
                    self._lock(path, fcntl.LOCK_UN)

    def forked(self) -> None:
        """Begin anew in a child process: it has no locks."""
        self._counts.clear()

    def _lock(self, path: str, kind: int) -> bool:
        name = os.fsencode(path[len(self._folder) :])  # containers may know the folder by another path
        offset = int.from_bytes(hashlib.sha256(name).digest()[:7], "big")
        descriptor = self._open()
        while True:
            try:
                fcntl.lockf(descriptor, kind, 1, offset)
                return True
            except OSError as error:
                if kind & fcntl.LOCK_NB and error.errno in (errno.EAGAIN, errno.EACCES):
                    return False
                # The kernel sees processes, not threads: two that each wait for the other's removal of a file, in
                # different caches, look to it as if they waited for ever.
                if error.errno != errno.EDEADLK:
                    raise
                time.sleep(_DEADLOCK_PAUSE_S)

    def _open(self) -> int:
        """Return the lock file's descriptor; a new one where somebody deleted the cache, with all that was in use."""
        if self._descriptor is not None:
            try:
                if os.path.samestat(os.stat(self._lock_file), os.fstat(self._descriptor)):
                    return self._descriptor
            except FileNotFoundError:
                os.makedirs(self._folder, mode=0o700, exist_ok=True)
            os.close(self._descriptor)
        self._descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._descriptor


def _in_use_of(folder: str) -> _InUse:
    with _guard:
        return _known.setdefault(folder, _InUse(folder))


def _after_fork() -> None:
    global _guard
    _guard = threading.RLock()
    for one in _known.values():
        one.forked()


os.register_at_fork(after_in_child=_after_fork)
