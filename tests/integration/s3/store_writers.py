"""Writers in processes of their own, what they were told, and whether that is true.

A function that runs in such a process takes one argument that can be sent there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.retries.standard
from store_bucket import ACCOUNT, Bucket, Place, Sight, finish, no_pause, store_on

from nectar import errors
from nectar.address import Address
from nectar.records import Record
from nectar.stores import Finished
from nectar.stores.s3 import transfer
from nectar.stores.s3.store import S3Store

NEAR = 6  #: addresses to each side at which a writer is at work
MOST_AT_ONCE = 5  #: attempts in one commit

#: no thread of a test's process is copied, and what takes long to import is imported once
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["nectar.stores.s3.store", "boto3"])


@dataclass(frozen=True)
class Orders:
    """What a writer is to do."""

    place: Place
    disk: Path
    addresses: tuple[Address, ...]
    commits: int = 1
    seed: str = ""
    size: int = 0  #: bytes of its output; 0: few
    part: int = transfer.PART  #: bytes; what is larger goes up in parts of this size
    turns: Path | None = None  #: a file that is locked for each commit, for servers without a lock of their own

    @property
    def journal(self) -> Path:
        """Where it writes down what it was told."""
        return self.disk / "journal"


@dataclass(frozen=True)
class Try:
    """One attempt, as its writer saw it."""

    address: Address
    attempt: str
    replaces: str | None
    files: Mapping[str, str]  #: name -> sha256
    end: str  #: won, lost, or unknown where the commit failed
    stamp: str | None = None  #: of one that won
    winner: str | None = None  #: the attempt in force, as it was told


def commit_once(orders: Orders) -> None:
    """Make one target; the process is killed on the way."""
    store = _begin(orders)
    files = {"out.txt": random.Random(orders.seed).randbytes(orders.size)} if orders.size else None
    store.commit([finish(store, orders.addresses[0], files)])


def write(orders: Orders) -> None:
    """Make the targets again and again, always a few near each other, so that two writers meet there."""
    store, dice = _begin(orders), random.Random(f"{orders.seed} {orders.disk.name}")
    done = 0
    parent = multiprocessing.parent_process()
    assert parent is not None
    with open(orders.journal, "a", encoding="utf-8") as journal:
        while done < orders.commits and parent.is_alive():
            at = done * len(orders.addresses) // orders.commits
            near = orders.addresses[max(0, at - NEAR) : at + NEAR]
            batch = list(_staged(store, dice.sample(near, min(len(near), dice.randint(1, MOST_AT_ONCE))), dice))
            for one in _committed(store, batch, orders.turns):
                journal.write(json.dumps(one) + "\n")
            done += len(batch)
    store.client.close()


def _begin(orders: Orders) -> S3Store:
    os.environ.update(ACCOUNT)
    botocore.retries.standard.ExponentialBackoff.delay_amount = no_pause
    transfer.LARGE = transfer.PART = orders.part
    return store_on(orders.place.client(retries=3, timeout_s=30), orders.disk)


def _staged(store: S3Store, addresses: list[Address], dice: random.Random) -> Iterator[Finished]:
    for address in addresses:
        with contextlib.suppress(errors.StoreUnreachable):  # the question met a fault: no attempt then
            found = store.inspect(address)
            replaces = found.version if found.complete and dice.random() < 0.5 else None
            files = {f"{name}.txt": dice.randbytes(dice.randint(0, 5000)) for name in ("one", "two")}
            yield finish(store, address, files, replaces=replaces)


def _committed(store: S3Store, batch: list[Finished], turns: Path | None) -> Iterator[dict[str, Any]]:
    ends: list[dict[str, Any]]
    try:
        with _turn(turns):
            commitments = store.commit(batch)
    except errors.StoreUnreachable:
        ends = [{"end": "unknown"} for _ in batch]
        for one in batch:
            with contextlib.suppress(errors.StoreUnreachable):
                store.abandon(one.staging, keep_logs=False)
    else:
        ends = [
            {"end": "won" if one.won else "lost", "stamp": one.stamp, "winner": one.record.attempt}
            for one in commitments
        ]
    for one, end in zip(batch, ends, strict=True):
        files = {entry.name: entry.sha256 for entry in one.record.files}
        path, attempt = one.record.address.path, one.staging.attempt
        yield {"path": path, "attempt": attempt, "replaces": one.replaces, "files": files, **end}


@contextlib.contextmanager
def _turn(turns: Path | None) -> Iterator[None]:
    if turns is None:
        yield
        return
    with open(turns, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def tries_in(journal: Path) -> list[Try]:
    """Return what a writer wrote down."""
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    return [Try(Address.parse(line.pop("path")), **line) for line in lines]


def judge(bucket: Bucket, tries: list[Try]) -> Counter[str]:
    """Return how many attempts there were of each kind. What was torn, lost or written over is an AssertionError."""
    counts = Counter(one.end for one in tries)
    by_address: dict[Address, dict[str, Try]] = {}
    for one in tries:
        by_address.setdefault(one.address, {})[one.attempt] = one
    for address, known in by_address.items():
        sight = bucket.look(address)
        if sight is None:
            ends = {one.end for one in known.values()}
            assert ends == {"unknown"}, f"lost: nothing lies at {address}, where attempts ended as {ends}"
            continue
        assert sight.files == known[sight.attempt].files, f"{address} has other bytes than its attempt made"
        counts += _judge_told(bucket, address, known, sight)
        counts["targets"] += 1
    return counts


def _judge_told(bucket: Bucket, address: Address, known: Mapping[str, Try], sight: Sight) -> Counter[str]:
    """Hold what the writers of a target were told against the records that were ever in force."""
    replaced = {etag: record for record, etag in bucket.replaced(address)}
    chain = _chain(known, sight, replaced)
    in_force = {sight.attempt, *(record.attempt for record in replaced.values())}
    assert set(chain) == in_force, f"written over without being seen: {in_force - set(chain)} at {address}"
    counts = Counter({"replaced": len(chain) - 1})
    for one in known.values():
        if one.end == "won":
            assert chain.get(one.attempt) == one.stamp, f"lost: {one.attempt} was told that it won"
            if one.attempt != sight.attempt:
                assert one.stamp is not None
                assert bucket.whole(replaced[one.stamp], one.stamp).files == one.files
        elif one.end == "lost":
            assert one.winner in chain, f"{one.attempt} lost to {one.winner}, which was never in force"
            counts["lost after a reign"] += one.attempt in chain  # replaced before it heard that it had won
    return counts


def _chain(known: Mapping[str, Try], sight: Sight, replaced: Mapping[str, Record]) -> dict[str, str]:
    """Return the attempts that were in force, latest first, with the ETags of their records.

    The first replaced none, each other one replaced the one that its writer saw, and no two replaced the same one.
    """
    chain = {sight.attempt: sight.version}
    seen = known[sight.attempt].replaces
    while seen is not None:
        assert seen in replaced, f"{seen} was replaced and not kept: {sorted(replaced)}"
        attempt = replaced[seen].attempt
        chain[attempt], seen = seen, known[attempt].replaces
    return chain
