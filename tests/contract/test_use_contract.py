"""Of those who use a store there may be many; who removes from it is alone, and the dead count for nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nectar.address import Address
from nectar.stores import Store

LIMIT_S = 60.0
LEASE_S = 2.0  #: how long the word of another process holds in a bucket


@contextmanager
def another_process(bench: Any, *lines: str) -> Iterator[subprocess.Popen[str]]:
    """Run lines of code on the same store in another process, and wait until it says a word."""
    if bench.store.of_one_process:
        pytest.skip("nobody else sees what is in the memory of a process")
    if bench.is_local:
        made = ["from nectar.stores import LocalStore", f"store = LocalStore({str(bench.root)!r})"]
    else:
        made = [
            "from nectar.stores.s3.cache import ObjectCache",
            "from nectar.stores.s3.client import S3Client, S3Config",
            "from nectar.stores.s3.store import S3Store",
            f"client = S3Client({bench.store.url!r}, S3Config(endpoint={bench.endpoint!r}, retries=1))",
            f"cache = ObjectCache({str(bench.disk / 'other')!r}, 1 << 20)",
            f"store = S3Store(client, cache, {str(bench.disk / 'work')!r}, lease_s={LEASE_S})",
        ]
    script = "\n".join(
        ["import sys", f"sys.path[:0] = {sys.path!r}", *made, *lines, "print('there', flush=True)", "sys.stdin.read()"]
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def is_alone(store: Store) -> bool:
    """Say whether somebody can be alone now."""
    alone = store.alone()
    if alone is not None:
        alone.release()
    return alone is not None


def test_many_have_a_store_in_use_and_nobody_is_alone_until_the_last_has_not(store: Store) -> None:
    first, second = store.in_use(to_write=True), store.in_use(to_write=True)
    assert not is_alone(store)
    first.release()
    first.release()
    assert not is_alone(store)
    second.release()
    assert is_alone(store)


def test_of_two_one_is_alone(store: Store) -> None:
    alone = store.alone()
    assert alone is not None and not alone.lost
    assert store.alone() is None
    alone.release()
    assert is_alone(store)


def test_who_comes_to_use_a_store_waits_for_who_is_alone(store: Store) -> None:
    alone = store.alone()
    assert alone is not None
    comes, is_there = threading.Event(), threading.Event()

    def use() -> None:
        comes.set()
        lease = store.in_use(to_write=True)
        is_there.set()
        lease.release()

    thread = threading.Thread(target=use)
    thread.start()
    assert comes.wait(LIMIT_S)
    assert not is_there.wait(0.3), "it did not wait"
    alone.release()
    assert is_there.wait(LIMIT_S)
    thread.join(LIMIT_S)
    assert is_alone(store)


def another_machine(bench: Any) -> Store:
    """Return the same store as another machine has it: in a bucket two objects know nothing of each other."""
    if bench.is_near:
        return bench.store  # type: ignore[no-any-return]
    from nectar.stores.s3.store import S3Store

    return S3Store(bench.store.client, bench.store.cache, str(bench.disk / "another"))


def test_who_comes_and_goes_never_meets_who_is_alone(bench: Any) -> None:
    store, rounds = bench.store, 50 if bench.is_near else 6
    other = another_machine(bench)
    using, problems = [0], []
    guard = threading.Lock()

    def use() -> None:
        for _ in range(rounds):
            lease = store.in_use(to_write=True)
            with guard:
                using[0] += 1
            list(store.contents())  # what takes its time, as a run does
            with guard:
                using[0] -= 1
            lease.release()

    def be_alone() -> None:
        for _ in range(rounds):
            alone = other.alone()
            if alone is not None:
                for _ in range(3):
                    list(other.contents())
                    problems.extend([using[0]] * bool(using[0]))
                alone.release()

    threads = [threading.Thread(target=use) for _ in range(4)] + [threading.Thread(target=be_alone)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert not problems
    assert not any(thread.is_alive() for thread in threads)
    assert is_alone(store)


def test_another_process_has_a_store_in_use_until_it_is_killed(bench: Any) -> None:
    with another_process(bench, "lease = store.in_use(to_write=True)") as process:
        assert not is_alone(bench.store)
        mine = bench.store.in_use(to_write=True)  # at the same time
        mine.release()
        process.kill()
        process.wait(LIMIT_S)
        assert is_alone(bench.store)


def test_another_process_is_alone_until_it_is_killed(bench: Any) -> None:
    with another_process(bench, "lease = store.alone()", "assert lease is not None") as process:
        assert not is_alone(bench.store)
        process.kill()
        process.wait(LIMIT_S)
        bench.store.in_use(to_write=True).release()
        assert is_alone(bench.store)


def test_a_forked_child_does_not_take_back_its_parents_word(store: Store) -> None:
    lease = store.in_use(to_write=True)
    child = os.fork()
    if not child:
        lease.release()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert not is_alone(store)
    lease.release()


def test_in_use_and_leases_are_apart(store: Store, address: Address) -> None:
    lease = store.lease(address)
    assert lease is not None
    assert is_alone(store)
    alone = store.alone()
    assert alone is not None
    assert store.lease(address) is None
    lease.release()
    alone.release()


def test_what_is_said_in_a_bucket_is_gone_when_it_is_taken_back(bench: Any) -> None:
    if bench.is_near:
        pytest.skip("only a bucket has objects for it")
    with another_process(bench, "lease = store.in_use(to_write=True)") as process:
        process.kill()
        process.wait(LIMIT_S)
    assert len(list(bench.store.client.list(".users/"))) == 1
    alone = bench.store.alone()
    assert [one.key for one in bench.store.client.list(".users/")] == [".users/alone"]
    alone.release()
    bench.store.in_use(to_write=True).release()
    assert list(bench.store.client.list(".users/")) == []


def test_a_store_that_was_removed_is_in_use_once_it_is_there_again(bench: Any) -> None:
    if not bench.is_local:
        pytest.skip("only a folder can be removed as a whole")
    import shutil

    before = bench.store.in_use(to_write=True)
    shutil.rmtree(bench.root)
    again = bench.store.in_use(to_write=True)
    assert not is_alone(bench.store)
    again.release()
    assert is_alone(bench.store)
    before.release()
    assert is_alone(bench.store)


def test_a_folder_that_is_not_there_is_not_made_by_who_only_reads(bench: Any) -> None:
    if not bench.is_local:
        pytest.skip("a bucket is always there, and so is memory")
    lease = bench.store.in_use()
    assert lease.lost
    lease.release()
    assert not bench.root.exists()
    bench.store.in_use(to_write=True).release()
    assert not bench.store.in_use().lost
