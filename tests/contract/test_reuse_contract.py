"""What every store offers so that an earlier target's files are found again, and that much is asked at once."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nectar.address import Address
from nectar.records import attempt_key
from nectar.stores import Recipe, Store

PREFIX = "chains/etl/contract_chain/ContractTask"


def new_address() -> Address:
    return Address(PREFIX, secrets.token_hex(16))


def new_recipe() -> Recipe:
    return Recipe(PREFIX, secrets.token_hex(16))


def test_a_target_is_recalled_by_the_recipe_that_it_was_published_with(store: Store, finish: Any) -> None:
    assert not store.remembers(PREFIX)
    recipe, unknown = new_recipe(), new_recipe()
    address = new_address()
    store.commit([replace(finish(address), recipe=recipe)])
    assert store.remembers(PREFIX)
    assert not store.remembers("chains/etl/contract_chain/OtherTask")
    assert store.recall([unknown, recipe]) == {recipe: address}
    assert store.recall([]) == {}


def test_a_target_without_a_recipe_is_not_recalled(store: Store, finish: Any) -> None:
    store.commit([finish(new_address())])
    assert not store.remembers(PREFIX)


def test_who_lost_leaves_no_recipe_that_leads_to_nothing(store: Store, finish: Any) -> None:
    address, recipe = new_address(), new_recipe()
    first, second = finish(address, {"out.txt": b"1"}), replace(finish(address, {"out.txt": b"2"}), recipe=recipe)
    store.commit([first])
    [commitment] = store.commit([second])
    assert not commitment.won
    for found in store.recall([recipe]).values():
        assert store.inspect(found).complete


def test_a_staging_place_takes_over_files_and_logs(store: Store, finish: Any) -> None:
    address = new_address()
    store.commit([finish(address, {"out.txt": b"earlier", "parts/deep.bin": b"\0"})])
    record = store.inspect(address).record
    assert record is not None
    later = finish(new_address(), {})
    for name in ("out.txt", "log/stdout.log"):
        Path(later.staging.path, name).unlink(missing_ok=True)
    store.take_over(record, later.staging)
    place = Path(later.staging.path)
    assert (place / "out.txt").read_bytes() == b"earlier"
    assert (place / "parts" / "deep.bin").read_bytes() == b"\0"
    assert "log of" in (place / "log" / "stdout.log").read_text()
    store.commit([replace(later, record=replace(later.record, files=record.files))])
    with store.reader(later.staging.address).open("out.txt") as file:
        assert file.read() == b"earlier"


def test_what_is_gone_cannot_be_taken_over(bench: Any, finish: Any) -> None:
    address = new_address()
    bench.store.commit([finish(address)])
    record = bench.store.inspect(address).record
    bench.remove(f"{address}/out.txt")
    later = finish(new_address(), {"other.txt": b""})
    with pytest.raises(FileNotFoundError):
        bench.store.take_over(record, later.staging)


def test_the_records_of_many_targets_are_read_at_once(store: Store, finish: Any) -> None:
    addresses = [new_address() for _ in range(20)]
    made = addresses[:15]
    store.commit([finish(one, {"out.txt": one.key.encode()}) for one in made])
    found = store.records(addresses)
    assert set(found) == set(made)
    assert all(record.address == address for address, record in found.items())
    assert store.records([]) == {}


def test_a_stamp_tells_whether_a_record_is_still_the_same(store: Store, finish: Any) -> None:
    address, absent = new_address(), new_address()
    assert store.changed({}) == set()
    [commitment] = store.commit([finish(address)])
    found = store.inspect(address)
    assert found.stamp is not None
    assert store.changed({address: found.stamp, absent: found.stamp}) == {absent}
    elsewhere = Address("chains/none/none_chain/NoneTask", address.key)  # where nothing was ever made
    assert store.changed({address: found.stamp, elsewhere: found.stamp}) == {elsewhere}
    if commitment.stamp is not None:
        assert commitment.stamp == found.stamp
    store.commit([finish(address, {"out.txt": b"other"}, replaces=found.version)])
    assert store.changed({address: found.stamp}) == {address}
    store.quarantine(address, "removed")
    assert store.changed({address: found.stamp}) == {address}


def test_what_was_tried_is_known_by_its_key(store: Store, finish: Any) -> None:
    assert store.tried(PREFIX) == set()
    failed, at_work, made = (finish(new_address()) for _ in range(3))
    store.abandon(failed.staging, keep_logs=True)
    store.commit([made])
    keys = {one.staging.address.key for one in (failed, at_work)}
    assert store.tried(PREFIX) == keys
    assert attempt_key(os.path.basename(at_work.staging.path)) in keys


def test_a_link_leads_to_the_bytes(bench: Any, finish: Any) -> None:
    import urllib.request

    address = new_address()
    bench.store.commit([finish(address, {"out.txt": b"for all"})])
    link = bench.store.reader(address).link("out.txt", expires_s=60)
    if link.startswith("memory://"):
        return
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == b"for all"
