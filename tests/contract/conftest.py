"""The stores that the contract is held against: each with the means to plant faults in it and to look behind it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from nectar.address import Address
from nectar.recording.sealing import digest_of
from nectar.records import RECORD_NAME, FileEntry, Record, new_attempt_id, utc_now
from nectar.settings import Durability, Publish
from nectar.stores import Finished, LocalStore, MemoryStore, Store
from nectar.stores.layered import LayeredStore
from nectar.stores.memory import _Held
from nectar.stores.s3.cache import ObjectCache
from nectar.stores.s3.client import S3Client, S3Config
from nectar.stores.s3.store import S3Store

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))

import s3_client


def pytest_configure(config: pytest.Config) -> None:
    """Let the contract have real S3 servers."""
    config.pluginmanager.import_plugin("s3_fixtures")


ATTEMPTS_KEPT = 3
LEASE_S = 6.0  #: of a store in a bucket; who wants to be alone there waits for a third of it


class Bench(Protocol):
    """A store, and what a test may do behind its back. Paths are relative to the store."""

    @property
    def store(self) -> Store:
        """The store."""

    @property
    def is_local(self) -> bool:
        """True where paths of the store are paths of the disk."""

    @property
    def is_near(self) -> bool:
        """True where asking the store costs microseconds, so that races can be tried often."""

    def put(self, path: str, raw: bytes) -> None:
        """Plant a file."""

    def remove(self, path: str) -> None:
        """Take a file away."""

    def files(self, path: str) -> dict[str, bytes]:
        """Return all files under a folder by their name in it."""


@dataclass
class LocalBench:
    """A local store in a folder of its own."""

    root: Path
    durability: Durability
    is_local: bool = True
    is_near: bool = True
    store: LocalStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = LocalStore(str(self.root), durability=self.durability, attempts_kept=ATTEMPTS_KEPT)

    def put(self, path: str, raw: bytes) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(raw)

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def files(self, path: str) -> dict[str, bytes]:
        top = self.root / path
        return {str(one.relative_to(top)): one.read_bytes() for one in sorted(top.rglob("*")) if one.is_file()}


@dataclass
class MemoryBench:
    """A store in memory."""

    is_local: bool = False
    is_near: bool = True
    store: MemoryStore = field(default_factory=lambda: MemoryStore("memory://contract", attempts_kept=ATTEMPTS_KEPT))

    def _split(self, path: str) -> tuple[str, str]:
        folders = [one for one in self.store.folders if path.startswith(f"{one}/")]
        if folders:
            return folders[0], path[len(folders[0]) + 1 :]
        folder = Address.parse(path).path
        return folder, path[len(folder) + 1 :]

    def put(self, path: str, raw: bytes) -> None:
        folder, name = self._split(path)
        self.store.folders.setdefault(folder, _Held()).files[name] = raw

    def remove(self, path: str) -> None:
        folder, name = self._split(path)
        del self.store.folders[folder].files[name]

    def files(self, path: str) -> dict[str, bytes]:
        return {
            f"{folder}/{name}"[len(path) + 1 :]: raw
            for folder, held in self.store.folders.items()
            for name, raw in held.files.items()
            if f"{folder}/".startswith(f"{path}/")
        }


@dataclass
class S3Bench:
    """A store in a folder of its own of a real server's bucket."""

    endpoint: str
    disk: Path
    is_local: bool = False
    is_near: bool = False
    store: S3Store = field(init=False)

    def __post_init__(self) -> None:
        self._raw = s3_client.client(self.endpoint)
        self._bucket = "contract"
        self._prefix = f"folder/{secrets.token_hex(8)}"
        with contextlib.suppress(self._raw.exceptions.BucketAlreadyOwnedByYou):
            s3_client.make_bucket(self._raw, self._bucket)
        client = S3Client(f"s3://{self._bucket}/{self._prefix}", S3Config(endpoint=self.endpoint, retries=1))
        cache = ObjectCache(str(self.disk / "cache"), 1 << 28)
        self.store = S3Store(client, cache, str(self.disk / "staging"), attempts_kept=ATTEMPTS_KEPT, lease_s=LEASE_S)

    def put(self, path: str, raw: bytes) -> None:
        self._raw.put_object(Bucket=self._bucket, Key=f"{self._prefix}/{path}", Body=raw)

    def remove(self, path: str) -> None:
        self._raw.delete_object(Bucket=self._bucket, Key=f"{self._prefix}/{path}")

    def files(self, path: str) -> dict[str, bytes]:
        """Return the files that a target's record names, and of a quarantine those that its records name.

        Objects are never written over or moved while somebody may read them: what is not in force any more stays where
        it is until it is cleared away. `left/` has what no record names.
        """
        *folders, name = path.split("/")
        if folders[-1] == ".quarantine":
            return self._kept("/".join(folders[:-1]), name)
        if folders[-2] == ".quarantine":
            kept = self._kept("/".join(folders[:-2]), folders[-1])
            return {one.removeprefix(f"{name}/"): raw for one, raw in kept.items() if one.startswith(f"{name}/")}
        there = self._objects(path)
        return self._named(there, there) if RECORD_NAME in there else there

    def _named(self, kept: dict[str, bytes], objects: dict[str, bytes]) -> dict[str, bytes]:
        """Return files by name, of a folder that has the record and one that has its objects."""
        raw = kept[RECORD_NAME]
        try:
            document = json.loads(raw)
            entries = {one["name"]: one["object"] for one in document["files"]}
        except (ValueError, LookupError):
            return kept if kept is objects else {RECORD_NAME: raw}
        for name in ("params.txt", "log/stdout.log", "log/stderr.log"):
            entries[name] = document.get("places", {}).get(name, name)
        found = {name: {**objects, **kept}.get(place) for name, place in entries.items()}
        return {RECORD_NAME: raw, **{name: one for name, one in found.items() if one is not None}}

    def _kept(self, prefix: str, key: str) -> dict[str, bytes]:
        at_target = self._objects(f"{prefix}/{key}")
        quarantined = self._objects(f"{prefix}/.quarantine/{key}")
        labels = sorted({name.split("/")[0] for name in quarantined})
        kept = {}
        for label in labels:
            of_label = {n.removeprefix(f"{label}/"): raw for n, raw in quarantined.items() if n.startswith(f"{label}/")}
            files = self._named(of_label, at_target) if RECORD_NAME in of_label else of_label
            kept.update({f"{label}/{name}": raw for name, raw in files.items()})
        in_force = self._named(at_target, at_target).values() if RECORD_NAME in at_target else ()
        known = {*in_force, *kept.values()}
        kept.update({f"left/{name}": raw for name, raw in at_target.items() if raw not in known})
        return kept

    def _objects(self, path: str) -> dict[str, bytes]:
        top = f"{self._prefix}/{path}/"
        pages = self._raw.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=top)
        keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
        bodies = {key: self._raw.get_object(Bucket=self._bucket, Key=key)["Body"].read() for key in keys}
        return {key.removeprefix(top): raw for key, raw in bodies.items()}

    def close(self) -> None:
        self.store.client.close()


@dataclass
class LayeredBench(LocalBench):
    """A local store over a shared one that has nothing: all promises are those of the local one."""

    durability: Durability = Durability.GROUP
    store: LayeredStore = field(init=False)  # type: ignore[assignment]  # which has one of the parent's in it

    def __post_init__(self) -> None:
        own = LocalStore(str(self.root), durability=self.durability, attempts_kept=ATTEMPTS_KEPT)
        self.store = LayeredStore(own, LocalStore(f"{self.root}-shared"), Publish.OWN)


BENCHES: dict[str, Callable[[Path], Bench]] = {
    "local-group": lambda folder: LocalBench(folder / "store", Durability.GROUP),
    "local-each": lambda folder: LocalBench(folder / "store", Durability.EACH),
    "local-none": lambda folder: LocalBench(folder / "store", Durability.NONE),
    "memory": lambda folder: MemoryBench(),
    "layered": lambda folder: LayeredBench(folder / "store"),
}


SERVERS = {"s3-moto": "moto", "s3-radosgw": "radosgw"}


@pytest.fixture(params=[*BENCHES, *SERVERS])
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Each store in turn, empty. Another store joins the contract by a line in BENCHES."""
    if request.param in BENCHES:
        yield BENCHES[request.param](tmp_path)
        return
    yield from _over_s3(request.getfixturevalue(SERVERS[request.param]), tmp_path, monkeypatch)


def _over_s3(server: Any, disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Bench]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_client.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_client.SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", s3_client.REGION)
    bench = S3Bench(getattr(server, "endpoint", server), disk)
    yield bench
    bench.close()


@pytest.fixture(params=["folder", "s3-moto"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that several share: a folder, a bucket."""
    if request.param == "folder":
        yield LocalStore(str(tmp_path / "shared"))
        return
    for bench in _over_s3(request.getfixturevalue(SERVERS[request.param]), tmp_path / "s3", monkeypatch):
        yield bench.store


@pytest.fixture
def store(bench: Bench) -> Store:
    """The store of the bench."""
    return bench.store


@pytest.fixture(params=["local-group", "local-each", "local-none"])
def local(request: pytest.FixtureRequest, tmp_path: Path) -> LocalBench:
    """A local store, at each durability."""
    bench = BENCHES[request.param](tmp_path)
    assert isinstance(bench, LocalBench)
    return bench


@pytest.fixture
def address() -> Address:
    """An address that no other test has."""
    return Address("chains/etl/contract_chain/ContractTask", secrets.token_hex(16))


Finish = Callable[..., Finished]


@pytest.fixture
def finish(store: Store) -> Finish:
    """Stage an attempt, write its files, and return it ready to be committed."""
    return finisher(store)


def finisher(store: Store) -> Finish:
    """Return the function that `finish` gives, for one store."""

    def make(address: Address, files: dict[str, bytes] | None = None, *, replaces: str | None = None) -> Finished:
        now = utc_now()
        staging = store.stage(address, new_attempt_id(address, now))
        entries = []
        for name, raw in (files or {"out.txt": b"made\n"}).items():
            path = os.path.join(staging.path, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            Path(path).write_bytes(raw)
            entries.append(FileEntry(name, name, *digest_of(path)))
        Path(staging.path, "params.txt").write_text("{}\n", encoding="utf-8")
        Path(staging.path, "log/stdout.log").write_text(f"log of {staging.attempt}\n", encoding="utf-8")
        record = Record(
            address=address,
            output_id=secrets.token_hex(32),
            identity={"task": "chains.etl.contract_chain.ContractTask", "version": "", "params": {}, "inputs": {}},
            files=tuple(entries),
            started_at=now,
            ended_at=utc_now(),
            attempt=staging.attempt,
        )
        return Finished(staging, record, replaces)

    return make


@pytest.fixture
def finish_in() -> Callable[[Store], Finish]:
    """Return the function that `finish` gives, for any store."""
    return finisher


@pytest.fixture
def local_finish(local: LocalBench) -> Finish:
    """Stage in the local store of `local`."""
    return finisher(local.store)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder that is outside of every store."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    return place
