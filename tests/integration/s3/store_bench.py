"""A bucket behind a proxy and stores before it, faults by name, and what a test makes sure of after them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from s3_client import client as plain_client
from s3_client import make_bucket
from s3_faults import FAILED_AFTER, FLIPPED, LOST, RESET, SLOW_DOWN, TRUNCATED, Action, Fault, Faults, Plan, Rule
from s3_proxy import Answered, S3Proxy
from store_bucket import Bucket, Place, finish, new_address, store_on

from nectar import errors
from nectar.address import Address
from nectar.stores.s3.client import S3Client
from nectar.stores.s3.store import S3Store

MIB = 1024**2
PART = 5 * MIB  #: bytes; the least that S3 takes for a part that is not the last
OF_TARGETS = "FaultTask"
RECORD = r"/record\.json$"

#: what a store outlives: a fault, and how often it may befall the same request
PASSING = {"503-twice": (SLOW_DOWN, 2), "reset": (RESET, 1), "lost": (LOST, 1), "failed-after": (FAILED_AFTER, 1)}
DAMAGE = {
    "truncated": TRUNCATED,
    "truncated-at-once": replace(TRUNCATED, at=0),
    "flipped": FLIPPED,
    "flipped-first": replace(FLIPPED, at=0),
}
LOST_AFTER_HANG = Fault(Action.HANG, applied=True)

#: where the proxy answers and not the server, or sends the same bytes whichever it is
one_server_is_enough = pytest.mark.parametrize("s3_endpoint", ["moto"], indirect=True)


def servers_for(fault: Fault) -> tuple[str, ...]:
    """Return where a fault is worth a try: at each server where it carries the request out, else at one."""
    return ("moto", "radosgw") if fault.applied else ("moto",)


def each_that_passes() -> pytest.MarkDecorator:
    """Give a test the name of each fault that passes, at the servers where it is worth a try."""
    cases = [(server, name) for name, (fault, _) in PASSING.items() for server in servers_for(fault)]
    return pytest.mark.parametrize(("s3_endpoint", "name"), cases, indirect=["s3_endpoint"])


@dataclass
class Ground:
    """A server's bucket with a proxy before it, which all tests share."""

    endpoint: str
    proxy: S3Proxy
    server: Any = field(init=False)
    bucket: str = field(init=False)

    def __post_init__(self) -> None:
        self.server = plain_client(self.endpoint)
        self.bucket = make_bucket(self.server)


class Bench:
    """A folder of a bucket behind a proxy, and stores before it."""

    def __init__(self, ground: Ground, disk: Path, prefix: str = "some/prefix") -> None:
        self.ground, self.proxy, self.disk = ground, ground.proxy, disk
        self.near = Place(ground.endpoint, ground.bucket, prefix)  #: behind the proxy
        self.far = Place(ground.proxy.endpoint, ground.bucket, prefix)  #: before the proxy
        self.bucket = Bucket(ground.server, self.near)
        self._clients: dict[str, S3Client] = {}
        self._stores = 0
        self._before = len(ground.proxy.requests)

    @property
    def requests(self) -> list[Answered]:
        """Return the requests that came to the proxy so far."""
        return self.proxy.requests[self._before :]

    def store(self, *, straight: bool = False, **config: Any) -> S3Store:
        """Return a store that has seen nothing yet, before the proxy or behind it."""
        place, config = self.near if straight else self.far, {"retries": 2} | config
        name = f"{place.endpoint} {config}"
        if name not in self._clients:
            self._clients[name] = place.client(**config)
        self._stores += 1
        return store_on(self._clients[name], self.disk / f"store{self._stores}")

    def made(self) -> Address:
        """Return the address of a target that is there."""
        store = self.store(straight=True)
        address = new_address()
        assert store.commit([finish(store, address)])[0].won
        return address

    @contextlib.contextmanager
    def elsewhere(self, name: str = "folder") -> Iterator[Bench]:
        """Give a bench in a folder of its own: what a server heeds is asked once a process and folder."""
        disk = self.disk / name
        other = Bench(self.ground, disk, f"{self.near.prefix}/{disk.parent.name}/{name}")
        yield other
        other.close()

    @contextlib.contextmanager
    def faults(self, *rules: Rule) -> Iterator[None]:
        """Let faults befall requests meanwhile."""
        with self.befalling(Plan(rules)):
            yield

    @contextlib.contextmanager
    def befalling(self, faults: Faults) -> Iterator[None]:
        """Let what a function chooses befall requests meanwhile."""
        self.proxy.faults = faults
        try:
            yield
        finally:
            self.proxy.faults = None

    def close(self) -> None:
        """Close the connections of the stores."""
        for client in self._clients.values():
            client.close()


@contextlib.contextmanager
def unreachable(said: str | None = None) -> Iterator[None]:
    """Make sure that the block ends as that of a store that cannot be reached, for a reason that is told."""
    with pytest.raises(errors.StoreUnreachable, match=said) as caught:
        yield
    assert caught.value.exit_code is errors.ExitCode.STORE_UNREACHABLE and caught.value.hint


def is_there(bench: Bench, address: Address, attempt: str) -> None:
    """Make sure that the whole target of an attempt is in force."""
    sight = bench.bucket.look(address)
    assert sight is not None and sight.attempt == attempt


def next_attempt_makes(bench: Bench, address: Address) -> None:
    """Make sure that nothing is complete at an address, and that the next attempt makes it there."""
    assert bench.bucket.look(address) is None
    store = bench.store(straight=True)
    assert store.present([address]) == set() and not store.inspect(address).complete
    finished = finish(store, address)
    assert store.commit([finished])[0].won
    is_there(bench, address, finished.staging.attempt)
