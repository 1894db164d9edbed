"""Answers that are cut off, or have other bytes than were sent, are never believed: no file, no record, no listing."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from s3_faults import FLIPPED, TRUNCATED, Kind, Rule
from store_bench import DAMAGE, MIB, OF_TARGETS, RECORD, Bench, one_server_is_enough, unreachable
from store_bucket import finish, new_address

from nectar import errors
from nectar.address import Address
from nectar.stores.s3.store import S3Store

BIG = random.Random(0).randbytes(17 * MIB)  #: comes down in ranges


@one_server_is_enough
@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
@pytest.mark.parametrize("name", DAMAGE)
def test_a_local_copy_never_has_other_bytes_than_were_made(bench: Bench, name: str, times: int | None) -> None:
    files = {"small.txt": b"0123456789" * 1000, "big.bin": BIG, "empty.txt": b""}
    store, address = bench.store(straight=True), new_address()
    assert store.commit([finish(store, address, files)])[0].won
    for file, raw in files.items():
        store = bench.store()
        with bench.faults(Rule(DAMAGE[name], methods=("GET",), path=f"{OF_TARGETS}.*{file}", times=times)):
            try:
                path = store.reader(address).path(file)
            except errors.NectarError:
                assert times is None and raw  # what passes is outlived
                assert not any(one.is_file() for one in Path(store.cache.folder).rglob(file))
            else:
                assert Path(path).read_bytes() == raw


READINGS: dict[str, Callable[[S3Store, Address], object]] = {
    "inspect": lambda store, address: store.inspect(address),
    "records": lambda store, address: store.records([address]),
}


@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
@pytest.mark.parametrize("name", DAMAGE)
def test_a_record_is_never_taken_for_another_one(bench: Bench, name: str, times: int | None) -> None:
    address = bench.made()
    true = bench.store(straight=True).inspect(address)
    for ask in READINGS.values():
        store = bench.store()
        with bench.faults(Rule(DAMAGE[name], methods=("GET",), path=RECORD, times=times)):
            try:
                answer = ask(store, address)
            except errors.StoreUnreachable:
                assert times is None
            else:
                assert answer in (true, {address: true.record})


@one_server_is_enough
@pytest.mark.parametrize("name", ["truncated", "truncated-at-once"])
def test_a_stream_that_breaks_goes_on_or_ends_in_an_error(bench: Bench, name: str) -> None:
    raw = b"0123456789" * 100_000
    store, address = bench.store(straight=True), new_address()
    assert store.commit([finish(store, address, {"out.txt": raw})])[0].won
    store = bench.store()
    for times in (1, 2, None):
        with (
            bench.faults(Rule(DAMAGE[name], methods=("GET",), path="out.txt", times=times)),
            contextlib.ExitStack() as stack,
        ):
            if times is None:
                stack.enter_context(unreachable("breaks whenever"))
            with store.reader(address).open("out.txt") as stream:
                assert stream.read() == raw


@pytest.mark.parametrize("name", ["flipped", "flipped-first"])
def test_a_stream_never_ends_well_with_other_bytes_than_were_made(bench: Bench, name: str) -> None:
    address = bench.made()
    with (
        bench.faults(Rule(DAMAGE[name], methods=("GET",), path="out.txt", times=1)),
        pytest.raises(errors.TargetCorrupt, match="other bytes"),
        bench.store().reader(address).open("out.txt") as stream,
    ):
        stream.read()


def test_a_target_that_takes_over_damaged_bytes_is_not_published_with_them(bench: Bench) -> None:
    address = bench.made()
    store = bench.store()
    before = store.inspect(address).record
    assert before is not None
    finished = finish(store, new_address())
    with (
        bench.faults(Rule(FLIPPED, methods=("GET",), path="out.txt", times=1)),
        contextlib.suppress(errors.NectarError),
    ):
        store.take_over(before, finished.staging)
        store.commit([replace(finished, record=replace(finished.record, files=before.files))])
    sight = bench.bucket.look(finished.record.address)
    assert sight is None or sight.files == {"out.txt": before.files[0].sha256}


@pytest.mark.parametrize("at", [0, 100, None], ids=["at-once", "at-100", "halfway"])
def test_a_listing_that_breaks_hides_no_target(bench: Bench, at: int | None) -> None:
    with bench.elsewhere() as bench:  # where nothing else would make it choose to ask one by one
        store = bench.store(straight=True)
        finished = [finish(store, new_address()) for _ in range(12)]
        assert all(one.won for one in store.commit(finished))
        wanted = {one.record.address for one in finished}
        store = bench.store()
        with bench.faults(Rule(replace(TRUNCATED, at=at), kinds=(Kind.LIST,), times=1)):
            assert store.present(wanted) == wanted
        with bench.faults(Rule(replace(TRUNCATED, at=at), kinds=(Kind.LIST,))), unreachable():
            store.present(wanted)
