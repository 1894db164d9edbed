"""One's own store over a shared one: what each of them has after every kind of commit, and what is read from where."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nectar import errors
from nectar.address import Address
from nectar.settings import Publish
from nectar.stores import LocalStore, Recipe, State, Store
from nectar.stores.layered import LayeredStore

PREFIX = "chains/etl/contract_chain/ContractTask"
Make = Callable[..., LayeredStore]


def new_address() -> Address:
    return Address(PREFIX, secrets.token_hex(16))


@pytest.fixture
def layered(shared: Store, tmp_path: Path) -> Make:
    """Return a colleague's store over the shared one."""

    def make(name: str, publish: Publish = Publish.OWN) -> LayeredStore:
        return LayeredStore(LocalStore(str(tmp_path / name)), shared, publish)

    return make


@pytest.fixture
def over_a_folder(tmp_path: Path) -> LayeredStore:
    """A store over a folder, both written to; a test may do what it likes to the folder."""
    return LayeredStore(LocalStore(str(tmp_path / "mine")), LocalStore(str(tmp_path / "folder")), Publish.BOTH)


@pytest.fixture
def put(finish_in: Any) -> Callable[..., Any]:
    """Publish a target in a store."""

    def make(store: Store, address: Address, raw: bytes = b"made\n", **more: Any) -> Any:
        [commitment] = store.commit([replace(finish_in(store)(address, {"out.txt": raw}), **more)])
        return commitment

    return make


def content(store: Store, address: Address) -> bytes:
    with store.reader(address).open("out.txt") as file:
        return file.read()


def test_what_the_shared_store_has_is_complete_here_and_read_from_there(shared: Store, layered: Make, put: Any) -> None:
    address, missing = new_address(), new_address()
    put(shared, address, b"a colleague's")
    mine = layered("mine")
    assert mine.present([address, missing]) == {address}
    found = mine.inspect(address, ("out.txt",))
    assert found.complete and not mine.changed({address: found.stamp})
    assert mine.records([address, missing]).keys() == {address}
    assert content(mine, address) == b"a colleague's"
    assert Path(mine.reader(address).path("out.txt")).read_bytes() == b"a colleague's"
    assert mine.reader(address).url("out.txt") == shared.reader(address).url("out.txt")
    assert list(mine.walk()) == [address]
    assert list(mine.own.walk()) == []  # nothing is copied


def test_new_targets_stay_in_ones_own_store(shared: Store, layered: Make, put: Any) -> None:
    mine, address = layered("mine"), new_address()
    assert put(mine, address).won
    assert mine.own.present([address]) == {address}
    assert shared.present([address]) == set()
    assert content(mine, address) == b"made\n"


def test_with_both_a_target_is_in_both_with_the_same_bytes_and_logs(shared: Store, layered: Make, put: Any) -> None:
    mine, address = layered("mine", Publish.BOTH), new_address()
    assert put(mine, address).won
    for store in (mine.own, shared):
        assert store.inspect(address, ("out.txt",)).complete
        assert content(store, address) == b"made\n"
        with store.reader(address).open("log/stdout.log") as log:
            assert log.read().startswith(b"log of ")


def test_with_both_the_first_in_the_shared_store_wins_for_everybody(
    shared: Store, layered: Make, put: Any, finish_in: Any
) -> None:
    first, second, address = layered("first", Publish.BOTH), layered("second", Publish.BOTH), new_address()
    late = finish_in(second)(address, {"out.txt": b"late"})
    put(first, address, b"early")
    [commitment] = second.commit([late])
    assert not commitment.won
    assert content(second, address) == b"early"
    assert second.own.inspect(address).state is State.MISSING
    assert not second.changed({address: commitment.stamp})


def test_a_forced_remake_replaces_what_both_have(shared: Store, layered: Make, put: Any) -> None:
    mine, address = layered("mine", Publish.BOTH), new_address()
    put(mine, address, b"old")
    assert put(mine, address, b"new", replaces=mine.inspect(address).version).won
    assert [content(store, address) for store in (mine, mine.own, shared)] == [b"new"] * 3


def test_a_forced_remake_of_a_colleagues_target_leaves_theirs_alone(shared: Store, layered: Make, put: Any) -> None:
    mine, address = layered("mine"), new_address()
    put(shared, address, b"theirs")
    assert put(mine, address, b"mine", replaces=mine.inspect(address).version).won
    assert (content(mine, address), content(shared, address)) == (b"mine", b"theirs")


def test_who_is_second_with_a_forced_remake_reads_the_first_ones(
    shared: Store, layered: Make, put: Any, finish_in: Any
) -> None:
    first, second, address = layered("first", Publish.BOTH), layered("second", Publish.BOTH), new_address()
    put(first, address, b"old")
    put(second.own, address, b"old")
    late = replace(finish_in(second)(address, {"out.txt": b"late"}), replaces=second.inspect(address).version)
    put(first, address, b"early", replaces=first.inspect(address).version)
    [commitment] = second.commit([late])
    assert not commitment.won
    assert content(second, address) == b"early"


def test_a_broken_target_of_ones_own_gives_way_to_a_whole_one_in_the_shared_store(
    shared: Store, layered: Make, tmp_path: Path, put: Any
) -> None:
    mine, address = layered("mine"), new_address()
    put(mine, address, b"whole")
    put(shared, address, b"whole")
    (tmp_path / "mine" / address.path / "out.txt").unlink()
    assert mine.inspect(address, ("out.txt",)).complete
    assert content(mine, address) == b"whole"


def test_a_leftover_of_ones_own_is_made_again(layered: Make, tmp_path: Path, put: Any) -> None:
    mine, address = layered("mine"), new_address()
    folder = tmp_path / "mine" / address.path
    folder.mkdir(parents=True)
    (folder / "out.txt").write_text("no record")
    assert mine.inspect(address).state is State.LEFTOVER
    assert put(mine, address).won


def test_a_flipped_bit_in_a_shared_folder_is_not_read(over_a_folder: LayeredStore, tmp_path: Path, put: Any) -> None:
    mine, address = over_a_folder, new_address()
    put(mine.shared, address, b"right")
    (tmp_path / "folder" / address.path / "out.txt").write_bytes(b"wrong")
    for read in (mine.reader(address).open, mine.reader(address).path):
        with pytest.raises(errors.TargetCorrupt, match=r"`out\.txt`"):
            read("out.txt")
    mine.quarantine(address, "verify")
    assert mine.inspect(address).state is State.MISSING


def test_an_earlier_target_of_a_colleague_is_found_by_its_recipe_and_taken_over(
    shared: Store, layered: Make, put: Any, finish_in: Any
) -> None:
    recipe, address = Recipe(PREFIX, secrets.token_hex(16)), new_address()
    put(shared, address, b"theirs", recipe=recipe)
    mine = layered("mine")
    assert mine.remembers(PREFIX) and mine.recall([recipe]) == {recipe: address}
    record = mine.records([address])[address]
    later = finish_in(mine)(new_address(), {})
    Path(later.staging.path, "out.txt").unlink(missing_ok=True)
    Path(later.staging.path, "log/stdout.log").unlink()
    mine.take_over(record, later.staging)
    assert Path(later.staging.path, "out.txt").read_bytes() == b"theirs"


def test_with_both_nobody_else_makes_what_a_colleague_is_making(layered: Make) -> None:
    first, second, address = layered("first", Publish.BOTH), layered("second", Publish.BOTH), new_address()
    lease = first.lease(address)
    assert lease is not None
    assert second.lease(address) is None
    assert second.own.lease(address) is not None  # what was refused in the shared store is given back here
    lease.release()


def test_a_shared_store_that_fails_is_never_missing(
    over_a_folder: LayeredStore, tmp_path: Path, finish_in: Any
) -> None:
    mine, address = over_a_folder, new_address()
    finished = finish_in(mine)(address)
    (tmp_path / "folder").write_text("not a folder")
    for ask in (lambda: mine.present([address]), lambda: mine.inspect(address), lambda: mine.commit([finished])):
        with pytest.raises(errors.StoreUnreachable):
            ask()
    assert mine.own.inspect(address).state is State.MISSING
