"""What lies in a store is listed with its size, and removed as a whole where it is still as it was listed."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from nectar import errors
from nectar.address import Address
from nectar.records import utc_now
from nectar.stores import Finished, Folder, Lies, State, Store

Finish = Callable[..., Finished]
PREFIX = "chains/etl/contract_chain/ContractTask"


def published(store: Store, finished: Finished) -> None:
    [commitment] = store.commit([finished])
    assert commitment.won


def only(store: Store, address: Address, lies: Lies = Lies.TARGET) -> Folder:
    [found] = [one for one in store.contents(address) if one.lies is lies]
    return found


def version_of(store: Store, address: Address) -> str:
    version = store.inspect(address).version
    assert version is not None
    return version


def test_an_empty_store_has_no_contents(store: Store, address: Address) -> None:
    assert list(store.contents()) == list(store.contents(address)) == []


def test_contents_are_targets_leftovers_and_quarantine_with_all_their_bytes(bench: Any, finish: Finish) -> None:
    store = bench.store
    made, leftover, gone, failed = (Address(PREFIX, key * 32) for key in "abcd")
    published(store, finish(made, {"out.txt": b"x" * 1000, "parts/more.bin": b"y" * 500}))
    bench.put(f"{leftover}/out.txt", b"z" * 300)
    published(store, finish(gone, {"out.txt": b"q" * 200}))
    aside = store.quarantine(gone, "verify")
    store.abandon(finish(failed).staging, keep_logs=True)
    finish(failed)
    lease = store.lease(failed)
    assert lease is not None
    found = {one.path: one for one in store.contents()}
    assert {path: (one.address, one.lies) for path, one in found.items()} == {
        made.path: (made, Lies.TARGET),
        leftover.path: (leftover, Lies.TARGET),
        aside: (gone, Lies.QUARANTINED),
    }
    assert found[made.path].size == sum(map(len, bench.files(made.path).values()))
    assert found[made.path].files[f"{made}/parts/more.bin"] == 500
    assert found[leftover.path].size == 300
    assert found[leftover.path].version is None
    assert found[aside].size > 200
    now = utc_now()
    assert all(timedelta(minutes=-1) < now - one.modified < timedelta(minutes=5) for one in found.values())
    by_key = sorted(found.values(), key=lambda one: one.address.key)
    assert [one for address in (made, leftover, gone, failed) for one in store.contents(address)] == by_key
    lease.release()


def test_contents_are_equal_until_something_changes(bench: Any, address: Address, finish: Finish) -> None:
    bench.put(f"{address}/out.txt", b"left")
    before = only(bench.store, address)
    assert only(bench.store, address) == before
    bench.put(f"{address}/more.txt", b"over")
    assert only(bench.store, address) != before


def test_a_target_is_removed_and_no_other(bench: Any, finish: Finish) -> None:
    store = bench.store
    first, second = (Address(PREFIX, secrets.token_hex(16)) for _ in range(2))
    for one in (first, second):
        published(store, finish(one, {"out.txt": b"x", "parts/deep/more.txt": b"y"}))
    kept = bench.files(second.path)
    assert store.remove(only(store, first))
    assert store.inspect(first).state is State.MISSING
    assert not store.present([first])
    assert store.records([first]) == {}
    assert bench.files(second.path) == kept
    assert store.inspect(second).complete
    assert list(store.walk()) == [second]


def test_what_was_removed_can_be_made_again(store: Store, address: Address, finish: Finish) -> None:
    for raw in (b"first", b"second"):
        published(store, finish(address, {"out.txt": raw}))
        with store.reader(address).open("out.txt") as file:
            assert file.read() == raw
        assert store.remove(only(store, address))


def test_a_leftover_is_removed(bench: Any, address: Address) -> None:
    bench.put(f"{address}/out.txt", b"left")
    bench.put(f"{address}/parts/x.txt", b"over")
    assert bench.store.remove(only(bench.store, address))
    assert bench.store.inspect(address).state is State.MISSING


def test_an_invalid_target_is_removed(bench: Any, address: Address, finish: Finish) -> None:
    published(bench.store, finish(address))
    bench.put(f"{address}/record.json", b"garbage")
    assert bench.store.remove(only(bench.store, address))
    assert bench.store.inspect(address).state is State.MISSING


def test_what_was_replaced_since_it_was_found_stays(store: Store, address: Address, finish: Finish) -> None:
    published(store, finish(address, {"out.txt": b"old"}))
    found = only(store, address)
    published(store, finish(address, {"out.txt": b"new"}, replaces=version_of(store, address)))
    assert not store.remove(found)
    assert store.inspect(address).complete


def test_a_leftover_that_became_a_target_stays(bench: Any, address: Address, finish: Finish) -> None:
    bench.put(f"{address}/out.txt", b"left")
    found = only(bench.store, address)
    published(bench.store, finish(address))
    assert not bench.store.remove(found)
    assert bench.store.inspect(address).complete


def test_what_is_gone_already_is_not_removed(store: Store, address: Address, finish: Finish) -> None:
    published(store, finish(address))
    found = only(store, address)
    assert store.remove(found)
    assert not store.remove(found)


def test_what_is_in_quarantine_is_removed_with_its_files_and_what_is_in_force_stays(
    bench: Any, address: Address, finish: Finish
) -> None:
    store = bench.store
    published(store, finish(address, {"out.txt": b"old" * 1000}))
    published(store, finish(address, {"out.txt": b"new"}, replaces=version_of(store, address)))
    aside, target = only(store, address, Lies.QUARANTINED), only(store, address)
    assert aside.size >= 3000 > target.size
    assert store.remove(aside)
    assert list(store.contents(address)) == [target]
    found = store.inspect(address)
    assert found.complete and found.record is not None
    with store.reader(address).open("out.txt") as file:
        assert file.read() == b"new"
    assert not [name for name, raw in bench.files(address.path).items() if raw == b"old" * 1000]


def test_what_is_in_quarantine_keeps_its_files_when_the_target_is_removed(
    bench: Any, address: Address, finish: Finish
) -> None:
    store = bench.store
    published(store, finish(address, {"out.txt": b"old" * 1000}))
    published(store, finish(address, {"out.txt": b"new"}, replaces=version_of(store, address)))
    assert store.remove(only(store, address))
    [aside] = store.contents(address)
    assert aside.lies is Lies.QUARANTINED and aside.size >= 3000
    kept = bench.files(f"{address.prefix}/.quarantine/{address.key}")
    assert b"old" * 1000 in kept.values()
    assert store.remove(aside)
    assert list(store.contents(address)) == []
    assert store.inspect(address).state is State.MISSING


def test_a_record_in_quarantine_that_a_newer_nectar_wrote_is_said_to_be_one(
    bench: Any, address: Address, finish: Finish
) -> None:
    store = bench.store
    published(store, finish(address))
    place = store.quarantine(address, "verify")
    raw = bench.files(place)["record.json"]
    bench.put(f"{place}/record.json", json.dumps(json.loads(raw) | {"schema": 99}).encode())
    assert only(store, address, Lies.QUARANTINED).newer


# Crashes


def test_what_a_crash_leaves_in_the_trash_is_found_and_removed(
    local: Any, address: Address, local_finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(local.store, local_finish(address))

    def die(path: str) -> None:
        raise KeyboardInterrupt

    found = only(local.store, address)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            local.store.remove(found)
    assert local.store.inspect(address).state is State.MISSING
    [trash] = local.store.contents()
    assert (trash.lies, trash.address) == (Lies.REMOVED, address)
    assert [trash] == list(local.store.contents(address))
    assert local.store.remove(trash)
    assert list(local.store.contents()) == []
    assert not (local.root / "chains").exists()


def test_a_bucket_in_which_removing_was_interrupted_has_a_leftover_that_can_be_removed(
    bench: Any, address: Address, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bench.is_near:
        pytest.skip("of the local disk another test tells")
    published(bench.store, finish(address))
    found = only(bench.store, address)
    client, asked = bench.store.client, []

    def do_all(requests: Any) -> Any:
        if requests:
            asked.append(requests)
            raise errors.StoreUnreachable("the network is gone")
        return []

    with monkeypatch.context() as patch:
        patch.setattr(client, "do_all", do_all)
        with pytest.raises(errors.StoreUnreachable):
            bench.store.remove(found)
    assert len(asked) == 1
    assert bench.store.inspect(address).state is State.LEFTOVER
    assert bench.store.remove(only(bench.store, address))
    assert bench.store.inspect(address).state is State.MISSING


# The local disk: what a file system can hold that nobody put there


def test_a_target_that_is_a_link_is_removed_and_what_it_leads_to_stays(
    local: Any, address: Address, elsewhere: Path
) -> None:
    (elsewhere / "out.txt").write_bytes(b"not ours")
    place = local.root / address.path
    place.parent.mkdir(parents=True)
    place.symlink_to(elsewhere)
    assert local.store.remove(only(local.store, address))
    assert not place.is_symlink()
    assert (elsewhere / "out.txt").read_bytes() == b"not ours"


def test_a_link_within_a_target_is_removed_and_what_it_leads_to_stays(
    local: Any, address: Address, elsewhere: Path, local_finish: Finish
) -> None:
    published(local.store, local_finish(address))
    (elsewhere / "out.txt").write_bytes(b"not ours")
    (local.root / address.path / "parts").symlink_to(elsewhere)
    assert local.store.remove(only(local.store, address))
    assert (elsewhere / "out.txt").read_bytes() == b"not ours"


def test_nothing_behind_a_link_out_of_the_store_is_listed_or_removed(
    local: Any, address: Address, elsewhere: Path
) -> None:
    outside = elsewhere / "contract_chain/ContractTask" / address.key
    outside.mkdir(parents=True)
    (outside / "out.txt").write_bytes(b"not ours")
    (local.root / "chains").mkdir(parents=True)
    (local.root / "chains/etl").symlink_to(elsewhere)
    assert list(local.store.contents()) == list(local.store.contents(address)) == []
    forged = Folder(address, address.path, Lies.TARGET, {f"{address}/out.txt": 8}, utc_now())
    assert not local.store.remove(forged)
    assert (outside / "out.txt").exists()
