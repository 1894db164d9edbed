"""A process that is stopped for longer than its lease holds, or killed: another takes over, and nobody is harmed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from store_bench import Bench
from store_bucket import ACCOUNT, new_address

from nectar.address import Address

HERE = Path(__file__).parent
LEASE_S = 1.5
PATIENCE_S = 60.0

OWNER = """
import sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from nectar.address import Address
from nectar.stores.s3.cache import ObjectCache
from nectar.stores.s3.store import S3Store
from store_bucket import Place, finish

client = Place(*{place!r}).client(retries=2)
store = S3Store(client, ObjectCache({disk!r} + "/cache", 1 << 24), {disk!r} + "/staging", lease_s={lease_s})
address = Address(*{address!r})
while (lease := store.lease(address)) is None:
    time.sleep(0.05)
finished = finish(store, address, {{"out.txt": {word!r}.encode()}})
print("leased", flush=True)
sys.stdin.readline()
[commitment] = store.commit([finished])
print("won" if commitment.won else "lost", lease.lost, flush=True)
sys.stdin.readline()
lease.release()
print("released", flush=True)
"""


class Owner:
    """A process that takes the lease on a target and makes it, step by step."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def says(self) -> str:
        """Return its next word."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        assert ready, "it says nothing"
        return self.process.stdout.readline().strip()

    def is_silent(self, seconds: float) -> bool:
        """Say whether no word comes for a while."""
        return not select.select([self.process.stdout], [], [], seconds)[0]

    def go_on(self) -> None:
        """Let it take the next step."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        """Stop it as a suspended machine is stopped."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def wake(self) -> None:
        """Let it run again."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def owner(bench: Bench, address: Address, word: str, lease_s: float = LEASE_S) -> Iterator[Owner]:
    """Start a process that wants to make a target with this word in it."""
    place = bench.near
    disk = bench.disk / word
    disk.mkdir(exist_ok=True)
    script = OWNER.format(
        path=[str(HERE), str(HERE.parents[1] / "servers"), *sys.path],
        place=(place.endpoint, place.bucket, place.prefix),
        disk=str(disk),
        lease_s=lease_s,
        address=(address.prefix, address.key),
        word=word,
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | ACCOUNT
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield Owner(process)
        finally:
            process.kill()


def content(bench: Bench, address: Address) -> bytes:
    sight = bench.bucket.look(address)  # which makes sure that it is whole
    assert sight is not None
    with bench.store(straight=True).reader(address).open("out.txt") as file:
        return file.read()


pytestmark = pytest.mark.parametrize("s3_endpoint", ["moto", "radosgw"], indirect=True)


def test_who_wakes_up_after_another_has_made_the_target_changes_nothing(bench: Bench) -> None:
    address = new_address()
    with owner(bench, address, "first") as first:
        assert first.says() == "leased"
        with owner(bench, address, "second") as second:
            assert second.is_silent(2 * LEASE_S)  # while it is renewed nobody else has it
            first.stop()
            assert second.says() == "leased"  # the other was found dead by the observer's own clock
            second.go_on()
            assert second.says() == "won False"
            first.wake()
            first.go_on()
            assert first.says() == "lost True"
            assert content(bench, address) == b"second"
            first.go_on()
            assert first.says() == "released"
            assert bench.bucket.keys(f"{address.prefix}/.leases") == [address.key]  # it is not taken from who has it
            second.go_on()
            assert second.says() == "released"
            assert bench.bucket.keys(f"{address.prefix}/.leases") == []


def test_who_wakes_up_first_to_publish_wins_and_the_target_is_made_once(bench: Bench) -> None:
    address = new_address()
    with owner(bench, address, "first") as first:
        assert first.says() == "leased"
        with owner(bench, address, "second") as second:
            first.stop()
            assert second.says() == "leased"
            first.wake()
            first.go_on()
            assert first.says() == "won True"  # it lost the lease, which is for economy; the record decides
            second.go_on()
            assert second.says() == "lost False"
            assert content(bench, address) == b"first"


def test_who_was_killed_is_waited_for_by_nobody_on_its_machine(bench: Bench) -> None:
    address = new_address()
    with owner(bench, address, "first", lease_s=3600.0) as first:
        assert first.says() == "leased"
        with owner(bench, address, "second", lease_s=3600.0) as second:
            assert second.is_silent(LEASE_S)
            first.process.kill()
            assert second.says() == "leased"  # long before the lease is over
            second.go_on()
            assert second.says() == "won False"
            assert content(bench, address) == b"second"
            second.go_on()
            assert second.says() == "released"
            assert address.key not in bench.bucket.keys(f"{address.prefix}/.leases")
