"""The stores that the contract is held against: each with the means to plant faults in it and to look behind it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from nectar.address import Address
from nectar.recording.sealing import digest_of
from nectar.records import FileEntry, Record, new_attempt_id, utc_now
from nectar.settings import Durability
from nectar.stores import Finished, LocalStore, MemoryStore, Store
from nectar.stores.memory import _Held

ATTEMPTS_KEPT = 3


class Bench(Protocol):
    """A store, and what a test may do behind its back. Paths are relative to the store."""

    @property
    def store(self) -> Store:
        """The store."""

    @property
    def is_local(self) -> bool:
        """True where paths of the store are paths of the disk."""

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


BENCHES: dict[str, Callable[[Path], Bench]] = {
    "local-group": lambda folder: LocalBench(folder / "store", Durability.GROUP),
    "local-each": lambda folder: LocalBench(folder / "store", Durability.EACH),
    "local-none": lambda folder: LocalBench(folder / "store", Durability.NONE),
    "memory": lambda folder: MemoryBench(),
}


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """Each store in turn, empty. Another store joins the contract by a line in BENCHES."""
    return BENCHES[request.param](tmp_path)


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
def local_finish(local: LocalBench) -> Finish:
    """Stage in the local store of `local`."""
    return finisher(local.store)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder that is outside of every store."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    return place
