"""What a store says of many targets at once is what it says of each of them."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nectar import errors
from nectar.address import Address
from nectar.stores import Finished, Inspection, LocalStore, State, Store

Finish = Callable[..., Finished]
PREFIX = "chains/etl/contract_chain/ContractTask"
OTHER = "chains/etl/contract_chain/OtherTask"


def said_of_many(store: Store, addresses: Sequence[Address]) -> list[State]:
    """Return what is said of many at once, made sure that it is said of each alone."""
    wanted = [(one, ("out.txt",)) for one in addresses]
    many = list(store.inspect_many(iter(wanted)))
    alone = [store.inspect(*one) for one in wanted]
    assert [_told(one) for one in many] == [_told(one) for one in alone]
    return [one.state for one in many]


def _told(found: Inspection) -> Inspection:
    return replace(found, version=None)


def test_targets_of_several_classes_are_judged_in_their_order(bench: Any, finish: Finish) -> None:
    whole, unnamed, cut, odd, left, missing = (Address(PREFIX, secrets.token_hex(16)) for _ in range(6))
    other, nowhere = Address(OTHER, secrets.token_hex(16)), Address(f"{OTHER}s", secrets.token_hex(16))
    made = [finish(one) for one in (whole, cut, odd, other)]
    assert all(one.won for one in bench.store.commit([*made, finish(unnamed, {"another.txt": b"x"})]))
    bench.put(f"{cut}/out.txt", b"")
    bench.put(f"{odd}/record.json", b"garbage")
    bench.put(f"{left}/out.txt", b"x")
    expected = {
        whole: State.COMPLETE,
        other: State.COMPLETE,
        unnamed: State.INVALID,
        missing: State.MISSING,
        cut: State.INVALID,
        nowhere: State.MISSING,
        odd: State.INVALID,
        left: State.LEFTOVER,
    }
    assert said_of_many(bench.store, list(expected)) == list(expected.values())
    assert said_of_many(bench.store, []) == []


@pytest.fixture
def whole(local: Any, address: Address, local_finish: Finish) -> Path:
    """The folder of a complete target in the local store."""
    local.store.commit([local_finish(address)])
    return Path(local.root, address.path)


def test_a_target_that_became_a_link_or_a_file_is_invalid(
    local: Any, address: Address, whole: Path, elsewhere: Path
) -> None:
    whole.rename(elsewhere / "target")
    whole.symlink_to(elsewhere / "target")
    assert said_of_many(local.store, [address]) == [State.INVALID]
    whole.unlink()
    whole.write_bytes(b"")
    assert said_of_many(local.store, [address]) == [State.INVALID]


def test_a_folder_that_became_a_link_out_of_the_store_has_no_complete_target(
    local: Any, address: Address, whole: Path, elsewhere: Path
) -> None:
    fresh = LocalStore(str(local.root))
    assert said_of_many(local.store, [address]) == said_of_many(fresh, [address]) == [State.COMPLETE]
    shutil.copytree(whole.parent, elsewhere / "targets")
    whole.parent.rename(elsewhere / "before")
    whole.parent.symlink_to(elsewhere / "targets")
    for store in (local.store, fresh, LocalStore(str(local.root))):
        assert said_of_many(store, [address]) == [State.INVALID]


def test_a_folder_that_was_taken_away_and_made_anew_is_looked_at_anew(
    local: Any, address: Address, whole: Path, elsewhere: Path
) -> None:
    assert said_of_many(local.store, [address]) == [State.COMPLETE]
    whole.parent.rename(elsewhere / "targets")
    assert said_of_many(local.store, [address]) == [State.MISSING]
    whole.parent.mkdir()
    assert said_of_many(local.store, [address]) == [State.MISSING]


def test_a_store_that_cannot_be_read_is_an_error_for_many_as_for_one(tmp_path: Path, address: Address) -> None:
    (tmp_path / "unplugged").symlink_to(tmp_path / "nowhere")
    with pytest.raises(errors.StoreUnreachable):
        list(LocalStore(str(tmp_path / "unplugged")).inspect_many([(address, ())]))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.StoreUnreachable):
        list(LocalStore(str(tmp_path / "file")).inspect_many([(address, ())]))


def test_who_stops_in_the_middle_holds_no_folder(local: Any, address: Address, whole: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    looking = local.store.inspect_many([(address, ()), (address, ())])
    assert next(looking).complete
    looking.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
