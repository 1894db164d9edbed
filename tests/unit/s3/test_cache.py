"""The cache hands out the right bytes or none, keeps its bound, and does not mind who else uses it or dies."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nectar import errors
from nectar.stores.s3 import cache as cache_module
from nectar.stores.s3.cache import ObjectCache

SPAWN = multiprocessing.get_context("spawn")
MINUTE_NS = 60_000_000_000


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_ns = time.time_ns() + 1000 * MINUTE_NS  # the kernel's own times of access are older

    def __call__(self) -> int:
        return self.now_ns

    def pass_minutes(self, minutes: int) -> None:
        self.now_ns += minutes * MINUTE_NS


class Bucket:
    """Bytes that can be fetched, and how often they were."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    def fetch(self, raw: bytes) -> Callable[[str], None]:
        def fetch(path: str) -> None:
            self.fetched.append(digest(raw))
            Path(path).write_bytes(raw)

        return fetch


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> Iterator[ObjectCache]:
    cache = ObjectCache(str(tmp_path / "cache"), 1000, clock_ns=clock)
    yield cache
    cache.forget()


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def content(number: int, size: int = 300) -> bytes:
    return random.Random(number).randbytes(size)


def get(cache: ObjectCache, bucket: Bucket, raw: bytes, name: str = "out.csv") -> Path:
    return Path(cache.path_of(digest(raw), name, len(raw), bucket.fetch(raw)))


def files_in(folder: str | Path) -> list[Path]:
    """Return the copies and records, without the lock file and what is being fetched."""
    found = (path for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if not path.relative_to(folder).parts[0].startswith("."))


def leftovers_in(folder: str | Path) -> list[Path]:
    return [path for path in Path(folder, ".fetching").rglob("*") if path.is_file()]


def in_a_fork(check: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> bool:
    """Return what a check says in a forked child."""
    child = os.fork()
    if not child:
        status = 1
        try:  # whatever happens, no second pytest goes on from here
            status = 0 if check() else 2
        finally:
            os._exit(status)
    meanwhile()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# One process


def test_a_file_is_fetched_once_and_handed_out_read_only_under_its_name(cache: ObjectCache, bucket: Bucket):
    raw = content(1)
    path = get(cache, bucket, raw, "parts/flights.csv.gz")
    assert path == Path(cache.folder, digest(raw)[:2], digest(raw), "flights.csv.gz")
    assert path.read_bytes() == raw
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert get(cache, bucket, raw, "parts/flights.csv.gz") == path
    assert bucket.fetched == [digest(raw)]
    assert not list(Path(cache.folder, ".fetching").iterdir())


def test_another_process_finds_the_file_without_reading_it(cache: ObjectCache, bucket: Bucket, monkeypatch):
    path = get(cache, bucket, content(1))
    monkeypatch.setattr(cache_module, "_digest", lambda descriptor: pytest.fail("the digest was computed"))
    other = ObjectCache(cache.folder, 1000)
    assert other.path_of(digest(content(1)), "out.csv", 300, lambda path: pytest.fail("it was fetched")) == str(path)


def test_a_download_that_was_verified_on_its_way_is_not_read_again(cache: ObjectCache, bucket: Bucket, monkeypatch):
    monkeypatch.setattr(cache_module, "_digest", lambda descriptor: pytest.fail("the digest was computed"))
    raw = content(1)
    path = cache.path_of(digest(raw), "out.csv", 300, bucket.fetch(raw), verified=True)
    assert Path(path).read_bytes() == raw
    with pytest.raises(errors.TargetCorrupt):
        cache.path_of(digest(content(2)), "out.csv", 301, bucket.fetch(content(2)), verified=True)


def test_an_empty_file_is_a_file(cache: ObjectCache, bucket: Bucket):
    assert get(cache, bucket, b"").read_bytes() == b""


@pytest.mark.parametrize("came", [b"", b"short", content(2), content(1) + b"!"])
def test_what_has_another_size_or_digest_is_an_error_and_not_kept(cache: ObjectCache, bucket: Bucket, came: bytes):
    raw = content(1)
    with pytest.raises(errors.TargetCorrupt, match="`out") as caught:
        cache.path_of(digest(raw), "out.csv", len(raw), bucket.fetch(came))
    assert caught.value.hint
    assert files_in(cache.folder) == leftovers_in(cache.folder) == []
    path = get(cache, bucket, raw)
    assert path.read_bytes() == raw
    cache.forget(str(path))
    get(cache, bucket, content(3, 1000))
    assert not path.exists()  # what failed does not count as handed out


def test_a_fetch_that_fails_raises_what_it_raised_and_leaves_nothing(cache: ObjectCache, bucket: Bucket):
    def fetch(path: str) -> None:
        Path(path).write_bytes(b"half")
        Path(f"{path}.part").write_bytes(b"a downloader's own")
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        cache.path_of(digest(content(1)), "out.csv", 300, fetch)
    assert files_in(cache.folder) == leftovers_in(cache.folder) == []


@pytest.mark.parametrize(("sha256", "name"), [("../" * 21 + "x", "out.csv"), ("0" * 64, ".."), ("0" * 64, "a/")])
def test_a_record_cannot_name_a_file_outside_of_the_cache(cache: ObjectCache, sha256: str, name: str):
    with pytest.raises(errors.TargetCorrupt):
        cache.path_of(sha256, name, 1, lambda path: pytest.fail("it was fetched"))


def overwrite(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(content(99))


def exchange(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(content(99))
    other.replace(path)


def shorten(path: Path) -> None:
    os.truncate(path, 10)


def link_elsewhere(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.replace(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("damage", [overwrite, exchange, shorten, link_elsewhere, Path.unlink])
def test_a_file_that_is_not_what_it_was_is_fetched_anew(cache: ObjectCache, bucket: Bucket, damage):
    path = get(cache, bucket, content(1))
    damage(path)
    assert get(cache, bucket, content(1)).read_bytes() == content(1)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o444
    assert len(bucket.fetched) == 2


def test_a_file_that_was_touched_is_verified_once_more_and_kept(cache: ObjectCache, bucket: Bucket, monkeypatch):
    path = get(cache, bucket, content(1))
    path.chmod(0o644)
    path.touch()
    read = []
    compute = cache_module._digest
    monkeypatch.setattr(cache_module, "_digest", lambda descriptor: read.append(1) or compute(descriptor))
    assert get(cache, bucket, content(1)) == get(cache, bucket, content(1)) == path
    assert (len(read), len(bucket.fetched)) == (1, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_after_a_start_of_the_machine_files_are_verified_anew(cache: ObjectCache, bucket: Bucket, monkeypatch):
    path = get(cache, bucket, content(1))
    mtime_ns = path.stat().st_mtime_ns
    path.chmod(0o644)
    path.write_bytes(bytes(300))  # what a power loss leaves of blocks that were never written
    os.utime(path, ns=(mtime_ns, mtime_ns))
    monkeypatch.setattr(cache_module, "_start_of_the_machine", lambda: b"another")
    assert get(cache, bucket, content(1)).read_bytes() == content(1)


def test_records_are_kept_by_their_etag_and_verified(cache: ObjectCache):
    etag = '../"odd"/etag-2'
    assert cache.record(etag) is None
    cache.keep_record(etag, b'{"a": 1}\n')
    cache.keep_record(etag, b'{"a": 1}\n')
    assert cache.record(etag) == ObjectCache(cache.folder, 1000).record(etag) == b'{"a": 1}\n'
    (place,) = files_in(cache.folder)
    assert len(place.relative_to(cache.folder).parts) == 3
    place.chmod(0o644)
    place.write_bytes(place.read_bytes()[:-2])
    assert cache.record(etag) is None
    assert not place.exists()


# Room


def test_what_was_not_used_for_longest_goes_first(cache: ObjectCache, bucket: Bucket, clock: Clock):
    paths = []
    for number in range(3):
        paths.append(get(cache, bucket, content(number)))
        cache.forget(str(paths[-1]))
        clock.pass_minutes(2)
    get(cache, bucket, content(0))
    cache.forget()
    clock.pass_minutes(2)
    newest = get(cache, bucket, content(3))
    assert files_in(cache.folder) == sorted([paths[0], paths[2], newest])
    assert not paths[1].parent.exists()


def test_the_time_of_use_is_set_at_most_once_a_minute(cache: ObjectCache, bucket: Bucket, clock: Clock):
    path = get(cache, bucket, content(1))
    first = path.stat().st_atime_ns
    clock.now_ns += MINUTE_NS - 1
    get(cache, bucket, content(1))
    assert path.stat().st_atime_ns == first
    clock.now_ns += 1
    get(cache, bucket, content(1))
    assert path.stat().st_atime_ns == first + MINUTE_NS


def test_what_was_handed_out_stays_until_it_is_forgotten_as_often(cache: ObjectCache, bucket: Bucket, clock: Clock):
    path = get(cache, bucket, content(1))
    get(cache, bucket, content(1))
    cache.forget(str(path))
    for number in range(2, 8):
        clock.pass_minutes(2)
        cache.forget(str(get(cache, bucket, content(number))))
        assert path.read_bytes() == content(1)
    cache.forget(str(path))
    for number in range(2, 8):
        cache.forget(str(get(cache, bucket, content(number + 10))))
    assert not path.exists()


def test_a_second_cache_of_the_same_folder_knows_what_the_first_one_handed_out(cache: ObjectCache, bucket: Bucket):
    path = get(cache, bucket, content(1))
    other = ObjectCache(cache.folder, 1)
    get(other, bucket, content(2))
    assert path.exists()
    other.forget()


def test_a_file_larger_than_the_bound_is_handed_out_and_goes_with_the_next(cache: ObjectCache, bucket: Bucket):
    large = get(cache, bucket, content(1, 5000))
    assert large.stat().st_size == 5000
    cache.forget()
    assert get(cache, bucket, content(2)).exists()
    assert not large.exists()


def test_an_open_file_can_be_read_to_its_end_after_it_was_evicted(cache: ObjectCache, bucket: Bucket):
    path = get(cache, bucket, content(1))
    with path.open("rb") as file:
        cache.forget()
        get(cache, bucket, content(2, 1000))
        assert not path.exists()
        assert file.read() == content(1)


def test_records_count_and_go_as_files_do(cache: ObjectCache, bucket: Bucket, clock: Clock):
    for number in range(50):
        cache.keep_record(str(number), content(number, 35))  # 100 bytes with its digest
        clock.pass_minutes(2)
    assert sum(path.stat().st_size for path in files_in(cache.folder)) <= 1000
    assert cache.record("49") == content(49, 35)
    assert cache.record("0") is None


def test_the_folder_is_not_walked_at_every_use(tmp_path: Path, bucket: Bucket, monkeypatch):
    cache = ObjectCache(str(tmp_path), 100_000)
    walks = []
    walk = ObjectCache._files
    monkeypatch.setattr(ObjectCache, "_files", lambda self: walks.append(1) or walk(self))
    for number in range(300):
        cache.forget(str(get(cache, bucket, content(number, 100))))
        get(cache, bucket, content(number, 100))
    assert len(walks) <= 5  # 30,000 bytes, a look at every 10,000
    cache.forget()


def test_what_others_keep_in_the_folder_is_left_alone(tmp_path: Path, bucket: Bucket):
    theirs = [tmp_path / "thesis.tex", tmp_path / "ab/thesis.tex", tmp_path / "records/thesis.tex"]
    theirs += [tmp_path / "ab/cd/thesis.tex", tmp_path / "records/ab/thesis.tex"]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(10_000))
    cache = ObjectCache(str(tmp_path), 1000)
    for number in range(10):
        cache.forget(str(get(cache, bucket, content(number))))
    assert all(path.exists() for path in theirs)


# What is in the way


def test_a_cache_in_which_nothing_can_be_written_is_an_error_with_a_hint(tmp_path: Path, bucket: Bucket):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file/below", Path("/proc/nectar")):
        cache = ObjectCache(str(folder), 1000)
        with pytest.raises(errors.StoreUnreachable, match="cache") as caught:
            get(cache, bucket, content(1))
        assert "write" in str(caught.value.hint)
        with pytest.raises(errors.StoreUnreachable, match="cache"):
            cache.keep_record("etag", b"raw")
    assert bucket.fetched == []


def test_a_folder_without_leave_to_write_is_an_error_with_a_hint(tmp_path: Path):
    tmp_path.chmod(0o555)

    def without_leave() -> bool:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        with pytest.raises(errors.StoreUnreachable, match="permission denied") as caught:
            ObjectCache(str(tmp_path), 1000).path_of("0" * 64, "out.csv", 1, lambda path: None)
        return "write" in str(caught.value.hint)

    assert in_a_fork(without_leave)


def test_a_cache_that_was_deleted_meanwhile_is_made_again(cache: ObjectCache, bucket: Bucket):
    path = get(cache, bucket, content(1))
    subprocess.run(["rm", "-rf", cache.folder], check=True)
    assert cache.record("etag") is None
    assert get(cache, bucket, content(1)).read_bytes() == content(1)
    assert get(cache, bucket, content(2)).exists() and path.exists()


# Threads and processes


def test_threads_that_want_one_file_all_get_it(cache: ObjectCache, bucket: Bucket):
    barrier = threading.Barrier(8)

    def want(_: int) -> bytes:
        barrier.wait()
        return get(cache, bucket, content(1)).read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(want, range(8))) == {content(1)}
    assert len(files_in(cache.folder)) == 1


def use_many(folder: str, seed: int) -> int:
    """Use files that do not all fit, as a worker does, and return how often one had not its bytes."""
    cache, bucket, source, wrong = ObjectCache(folder, 20_000), Bucket(), random.Random(seed), 0
    for turn in range(60):
        numbers = source.sample(range(20), 3)
        paths = [get(cache, bucket, content(number, 2000), f"{number}.bin") for number in numbers]
        cache.keep_record(f"{seed} {turn}", content(turn, 100))
        for number, path in zip(numbers, paths, strict=True):
            wrong += path.read_bytes() != content(number, 2000)
        cache.forget()
    return wrong


def test_processes_that_fetch_and_evict_at_once_never_miss_what_they_were_handed(tmp_path: Path):
    folder = str(tmp_path)
    with SPAWN.Pool(4) as pool:
        assert pool.starmap(use_many, [(folder, seed) for seed in range(4)]) == [0, 0, 0, 0]
    assert leftovers_in(folder) == []
    assert sum(path.stat().st_size for path in files_in(folder)) <= 20_000 * 1.4 + 4 * 3 * 2000


def hold(folder: str, number: int, held, done) -> None:
    """Have a file handed out until told to end."""
    get(ObjectCache(folder, 1000), Bucket(), content(number))
    held.set()
    done.wait()


def test_what_another_process_was_handed_stays_until_that_process_dies(cache: ObjectCache, bucket: Bucket):
    held, done = SPAWN.Event(), SPAWN.Event()
    process = SPAWN.Process(target=hold, args=(cache.folder, 1, held, done))
    process.start()
    assert held.wait(60)
    path = Path(cache._place_of(digest(content(1)), "out.csv"))
    get(cache, bucket, content(2, 1000))
    assert path.exists()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    get(cache, bucket, content(3, 1000))
    assert not path.exists()


def hang_in_a_fetch(folder: str, started) -> None:
    """Begin to download, and never end."""

    def fetch(path: str) -> None:
        Path(path).write_bytes(content(1)[:100])
        Path(f"{path}.1a2b3c4d").write_bytes(b"a downloader's own")
        started.set()
        threading.Event().wait()

    ObjectCache(folder, 1000).path_of(digest(content(1)), "out.csv", 300, fetch)


def test_a_process_killed_in_a_fetch_leaves_nothing_in_place_and_its_leftovers_are_removed(
    cache: ObjectCache, bucket: Bucket
):
    started = SPAWN.Event()
    process = SPAWN.Process(target=hang_in_a_fetch, args=(cache.folder, started))
    process.start()
    assert started.wait(60)
    get(cache, bucket, content(2))
    assert len(leftovers_in(cache.folder)) == 2  # it is at work
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert files_in(cache.folder) == [Path(cache._place_of(digest(content(2)), "out.csv"))]
    path = Path(ObjectCache(cache.folder, 1000).path_of(digest(content(1)), "out.csv", 300, bucket.fetch(content(1))))
    assert path.read_bytes() == content(1)
    assert leftovers_in(cache.folder) == []


def test_a_forked_child_has_files_of_its_own(cache: ObjectCache, bucket: Bucket):
    path = get(cache, bucket, content(1))

    def child() -> bool:
        cache.forget()
        get(cache, bucket, content(2, 1000))
        get(cache, bucket, content(3, 1000))
        return path.exists()  # the parent has it still

    assert in_a_fork(child)
    assert path.read_bytes() == content(1)


def test_what_a_forked_child_was_handed_stays_when_its_parent_forgets_it(cache: ObjectCache, bucket: Bucket):
    path = get(cache, bucket, content(1))
    (told, tell), (asked, ask) = os.pipe(), os.pipe()

    def child() -> bool:
        get(cache, bucket, content(1))
        os.write(tell, b"!")
        os.read(asked, 1)
        return path.exists()

    def parent() -> None:
        os.read(told, 1)
        cache.forget()
        get(cache, bucket, content(2, 1000))
        os.write(ask, b"!")

    assert in_a_fork(child, parent)
    for end in (told, tell, asked, ask):
        os.close(end)
