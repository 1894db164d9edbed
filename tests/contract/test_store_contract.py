"""What every store keeps to, whatever it is made of. A new store joins by one line in conftest.py."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nectar import errors, records
from nectar.address import Address
from nectar.records import new_attempt_id, utc_now
from nectar.stores import Finished, Inspection, LocalStore, State, Store
from nectar.stores.layered import LayeredStore

Finish = Callable[..., Finished]
PREFIX = "chains/etl/contract_chain/ContractTask"
NEAR_WRITERS, FAR_WRITERS = 20, 8  #: threads that meet: where asking costs microseconds, and where it is a request


def published(store: Store, finished: Finished) -> None:
    [commitment] = store.commit([finished])
    assert commitment.won


def version_of(store: Store, address: Address) -> str:
    found = store.inspect(address)
    assert found.complete and found.version is not None
    return found.version


def assert_bytes_are_the_records(store: Store, address: Address) -> None:
    found = store.inspect(address)
    assert found.complete and found.record is not None
    for entry in found.record.files:
        with store.reader(address).open(entry.object) as file:
            raw = file.read()
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (entry.size, entry.sha256)


def quarantined(bench: Any, address: Address) -> dict[str, bytes]:
    files: dict[str, bytes] = bench.files(f"{address.prefix}/.quarantine/{address.key}")
    return files


def changed(raw: bytes, **changes: Any) -> bytes:
    return json.dumps(json.loads(raw) | changes).encode("utf-8")


# Presence


def test_an_empty_store_has_nothing(store: Store, address: Address) -> None:
    assert store.present([address]) == set()
    assert store.inspect(address).state is State.MISSING
    assert list(store.walk()) == []


def test_present_names_exactly_the_addresses_with_a_record(bench: Any, finish: Finish) -> None:
    made, leftover, missing = (Address(PREFIX, secrets.token_hex(16)) for _ in range(3))
    published(bench.store, finish(made))
    bench.put(f"{leftover}/out.txt", b"no record")
    assert bench.store.present(iter([made, leftover, missing])) == {made}


def test_present_asks_no_more_than_that_there_is_a_record(bench: Any, address: Address) -> None:
    bench.put(f"{address}/record.json", b"garbage")
    looks_closer = isinstance(
        bench.store, LayeredStore
    )  # what one's own store has broken, the shared one may have whole
    assert bench.store.present([address]) == (set() if looks_closer else {address})
    assert not bench.store.inspect(address).complete


def test_present_of_nothing_is_nothing(store: Store) -> None:
    assert store.present([]) == set()


# Inspection


def test_what_was_committed_is_complete_with_its_record(store: Store, address: Address, finish: Finish) -> None:
    one = finish(address, {"out.txt": b"abc", "parts/deep/x.bin": b"\0\1"})
    published(store, one)
    found = store.inspect(address, ("out.txt", "parts/deep/x.bin"))
    assert found.complete and found.problem is None
    assert found.record is not None
    assert [(entry.name, entry.size, entry.sha256) for entry in found.record.files] == [
        (entry.name, entry.size, entry.sha256) for entry in one.record.files
    ]
    assert found.version == version_of(store, address)
    assert_bytes_are_the_records(store, address)


def test_files_without_a_record_are_a_leftover_and_are_named(bench: Any, address: Address) -> None:
    bench.put(f"{address}/out.txt", b"x")
    bench.put(f"{address}/log/stdout.log", b"y")
    found = bench.store.inspect(address, ("out.txt",))
    assert found.state is State.LEFTOVER
    assert sorted(found.files) == ["log/stdout.log", "out.txt"]
    assert found.record is None and found.version is None


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "blank": lambda raw: b" \n",
    "garbage": lambda raw: b"\x80\xff\x00garbage",
    "half": lambda raw: raw[: len(raw) // 2],
    "no mapping": lambda raw: b"[1, 2]",
    "a number": lambda raw: b"7",
    "nested deeply": lambda raw: b"[" * 100_000,
    "newer": lambda raw: changed(raw, schema=records.SCHEMA + 1),
    "no schema": lambda raw: changed(raw, schema=None),
    "schema of a text": lambda raw: changed(raw, schema="1"),
    "no files": lambda raw: changed(raw, files=None),
    "file leads out": lambda raw: changed(
        raw, files=[{"name": "out.txt", "object": "../x", "size": 1, "sha256": "0" * 64}]
    ),
    "file is absolute": lambda raw: changed(
        raw, files=[{"name": "out.txt", "object": "/etc/passwd", "size": 1, "sha256": "0" * 64}]
    ),
    "size below zero": lambda raw: changed(
        raw, files=[{"name": "out.txt", "object": "out.txt", "size": -1, "sha256": "0" * 64}]
    ),
    "another target's": lambda raw: changed(raw, path=f"{PREFIX}/{'0' * 32}"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_record_that_cannot_be_used_is_invalid_and_says_why(
    bench: Any, address: Address, finish: Finish, broken: str
) -> None:
    published(bench.store, finish(address))
    raw = bench.files(address.path)["record.json"]
    bench.put(f"{address}/record.json", BROKEN[broken](raw))
    found = bench.store.inspect(address, ("out.txt",))
    assert found.state is State.INVALID
    assert found.problem is not None and address.key in found.problem
    assert found.version is not None


def test_a_missing_file_makes_a_target_invalid(bench: Any, address: Address, finish: Finish) -> None:
    published(bench.store, finish(address, {"out.txt": b"abc", "more.txt": b"d"}))
    bench.remove(f"{address}/more.txt")
    found = bench.store.inspect(address)
    assert found.state is State.INVALID
    assert "`more.txt`" in (found.problem or "")


def test_a_shortened_and_a_lengthened_file_make_a_target_invalid(bench: Any, address: Address, finish: Finish) -> None:
    published(bench.store, finish(address, {"out.txt": b"abc"}))
    for raw in (b"ab", b"abcd", b""):
        bench.put(f"{address}/out.txt", raw)
        found = bench.store.inspect(address)
        assert found.state is State.INVALID
        assert "3 bytes" in (found.problem or "") or "says 3" in (found.problem or "")


def test_an_output_that_the_record_does_not_name_makes_it_invalid(
    store: Store, address: Address, finish: Finish
) -> None:
    published(store, finish(address))
    assert store.inspect(address, ("out.txt",)).complete
    found = store.inspect(address, ("out.txt", "late.txt"))
    assert found.state is State.INVALID
    assert "`late.txt`" in (found.problem or "")


def test_a_file_beside_the_outputs_does_not_matter(bench: Any, address: Address, finish: Finish) -> None:
    published(bench.store, finish(address))
    bench.put(f"{address}/stranger.txt", b"not in the record")
    assert bench.store.inspect(address).complete


# Staging


def test_staging_is_a_writable_folder_with_a_place_for_logs(store: Store, address: Address) -> None:
    staging = store.stage(address, new_attempt_id(address, utc_now()))
    assert os.path.isabs(staging.path)
    assert os.listdir(staging.path) == ["log"]
    assert staging.address == address


def test_what_is_staged_is_not_there(store: Store, address: Address, finish: Finish) -> None:
    finish(address)
    assert store.inspect(address).state is State.MISSING
    assert store.present([address]) == set()
    assert list(store.walk()) == []


def test_attempts_at_one_address_have_places_of_their_own(store: Store, address: Address, finish: Finish) -> None:
    first, second = finish(address, {"out.txt": b"1"}), finish(address, {"out.txt": b"2"})
    assert first.staging.path != second.staging.path
    assert Path(first.staging.path, "out.txt").read_bytes() == b"1"


# Commit


def test_the_first_writer_wins_and_the_second_gets_its_record(store: Store, address: Address, finish: Finish) -> None:
    first, second = finish(address, {"out.txt": b"first"}), finish(address, {"out.txt": b"second"})
    published(store, first)
    before = version_of(store, address)
    [commitment] = store.commit([second])
    assert not commitment.won
    assert commitment.record.attempt == first.staging.attempt
    assert version_of(store, address) == before
    assert_bytes_are_the_records(store, address)


@pytest.mark.parametrize("winner", ["first", "second"])
def test_no_staging_is_left_by_a_commit(store: Store, address: Address, finish: Finish, winner: str) -> None:
    first, second = finish(address), finish(address)
    store.commit([first, second] if winner == "first" else [second, first])
    assert not os.path.exists(first.staging.path) and not os.path.exists(second.staging.path)
    assert store.reader(address).attempts() == []


def test_a_lost_commit_changes_nothing_of_the_winners(bench: Any, address: Address, finish: Finish) -> None:
    published(bench.store, finish(address, {"out.txt": b"a"}))
    before = bench.files(address.path)
    bench.store.commit([finish(address, {"out.txt": b"b", "extra.txt": b"c"})])
    assert bench.files(address.path) == before
    # In S3 a name that was free stays taken, by an object that no record names.
    assert quarantined(bench, address) == ({} if bench.is_near else {"left/extra.txt": b"c"})


def test_a_commit_replaces_the_version_that_it_saw(bench: Any, address: Address, finish: Finish) -> None:
    published(bench.store, finish(address, {"out.txt": b"old", "gone.txt": b"x"}))
    old = bench.files(address.path)
    published(bench.store, finish(address, {"out.txt": b"new"}, replaces=version_of(bench.store, address)))
    assert_bytes_are_the_records(bench.store, address)
    files = bench.files(address.path)
    assert files["out.txt"] == b"new" and "gone.txt" not in files
    kept = quarantined(bench, address)
    assert {name.split("/", 1)[1]: raw for name, raw in kept.items()} == old


def test_a_commit_with_a_stale_version_loses(bench: Any, address: Address, finish: Finish) -> None:
    published(bench.store, finish(address, {"out.txt": b"1"}))
    seen = version_of(bench.store, address)
    published(bench.store, finish(address, {"out.txt": b"2"}, replaces=seen))
    now = bench.files(address.path)
    [commitment] = bench.store.commit([finish(address, {"out.txt": b"3"}, replaces=seen)])
    assert not commitment.won
    assert bench.files(address.path) == now


def test_a_commit_that_replaces_what_is_gone_is_a_create(store: Store, address: Address, finish: Finish) -> None:
    published(store, finish(address))
    seen = version_of(store, address)
    store.quarantine(address, "removed")
    published(store, finish(address, {"out.txt": b"again"}, replaces=seen))
    assert_bytes_are_the_records(store, address)


def test_a_leftover_is_replaced_and_kept_in_quarantine(bench: Any, address: Address, finish: Finish) -> None:
    bench.put(f"{address}/out.txt", b"left over")
    bench.put(f"{address}/sub/x", b"too")
    published(bench.store, finish(address, {"out.txt": b"made"}))
    assert_bytes_are_the_records(bench.store, address)
    assert "sub/x" not in bench.files(address.path)
    assert sorted(quarantined(bench, address).values()) == [b"left over", b"too"]


@pytest.mark.parametrize("broken", ["empty", "garbage", "another target's"])
def test_an_invalid_target_is_replaced_and_kept_in_quarantine(
    bench: Any, address: Address, finish: Finish, broken: str
) -> None:
    published(bench.store, finish(address, {"out.txt": b"old"}))
    bad = BROKEN[broken](bench.files(address.path)["record.json"])
    bench.put(f"{address}/record.json", bad)
    published(bench.store, finish(address, {"out.txt": b"new"}, replaces=bench.store.inspect(address).version))
    assert_bytes_are_the_records(bench.store, address)
    assert {b"old", bad} <= set(quarantined(bench, address).values())


def test_what_a_newer_nectar_made_is_never_replaced(bench: Any, address: Address, finish: Finish) -> None:
    published(bench.store, finish(address, {"out.txt": b"theirs"}))
    newer = BROKEN["newer"](bench.files(address.path)["record.json"])
    bench.put(f"{address}/record.json", newer)
    found = bench.store.inspect(address)
    assert found.state is State.INVALID and found.newer
    with pytest.raises(errors.RecordNewer):
        bench.store.commit([finish(address, {"out.txt": b"ours"})])
    assert bench.files(address.path)["record.json"] == newer
    assert bench.files(address.path)["out.txt"] == b"theirs"


def test_a_target_with_a_shortened_file_is_replaced(bench: Any, address: Address, finish: Finish) -> None:
    published(bench.store, finish(address, {"out.txt": b"whole"}))
    bench.put(f"{address}/out.txt", b"who")
    published(bench.store, finish(address, {"out.txt": b"whole again"}, replaces=bench.store.inspect(address).version))
    assert_bytes_are_the_records(bench.store, address)
    assert b"who" in quarantined(bench, address).values()


def test_every_replaced_target_is_kept(bench: Any, address: Address, finish: Finish) -> None:
    for number in range(4):
        seen = bench.store.inspect(address).version
        published(bench.store, finish(address, {"out.txt": b"%d" % number}, replaces=seen))
    kept = [raw for name, raw in quarantined(bench, address).items() if name.endswith("out.txt")]
    assert sorted(kept) == [b"0", b"1", b"2"]


def test_a_batch_answers_in_its_order_and_publishes_each(store: Store, finish: Finish) -> None:
    addresses = [Address(PREFIX, secrets.token_hex(16)) for _ in range(7)]
    addresses += [Address("chains/ds/other_chain/OtherTask", secrets.token_hex(16)) for _ in range(3)]
    published(store, finish(addresses[4], {"out.txt": b"there before"}))
    batch = [finish(one, {"out.txt": one.key.encode()}) for one in addresses]
    commitments = store.commit(batch)
    assert [one.won for one in commitments] == [True] * 4 + [False] + [True] * 5
    assert [one.record.address for one in commitments] == addresses
    assert store.present(addresses) == set(addresses)
    for one in addresses:
        assert_bytes_are_the_records(store, one)


def test_of_two_attempts_of_one_address_in_a_batch_the_first_wins(
    store: Store, address: Address, finish: Finish
) -> None:
    batch = [finish(address, {"out.txt": b"%d" % number}) for number in range(2)]
    assert [one.won for one in store.commit(batch)] == [True, False]
    with store.reader(address).open("out.txt") as file:
        assert file.read() == b"0"


def test_an_empty_batch_is_nothing(store: Store) -> None:
    assert store.commit([]) == []


def test_an_attempt_whose_staging_is_gone_is_not_published(
    request: pytest.FixtureRequest, bench: Any, store: Store, address: Address, finish: Finish
) -> None:
    one = finish(address)
    store.abandon(one.staging, keep_logs=False)
    with pytest.raises(errors.StoreUnreachable):
        store.commit([one])
    assert store.inspect(address).state is State.MISSING


# Leases


def test_a_lease_is_had_by_one_at_a_time_and_by_the_next_after_it(store: Store, address: Address) -> None:
    first = store.lease(address)
    assert first is not None
    assert store.lease(address) is None
    first.release()
    second = store.lease(address)
    assert second is not None
    second.release()


def test_leases_on_different_addresses_do_not_meet(store: Store, address: Address) -> None:
    other = Address(PREFIX, secrets.token_hex(16))
    leases = [store.lease(address), store.lease(other)]
    assert None not in leases
    for lease in leases:
        assert lease is not None
        lease.release()


def test_the_leases_on_many_addresses_are_had_together_but_those_that_another_has(
    store: Store, address: Address
) -> None:
    taken, *free = [Address(address.prefix, f"{number:032x}") for number in range(5)]
    theirs = store.lease(taken)
    assert theirs is not None
    leases = store.lease_all([taken, *free])
    assert leases[0] is None
    held = [lease for lease in leases if lease is not None]
    assert len(held) == 4 and not any(lease.lost or lease.taken_over for lease in held)
    assert store.lease_all([taken, *free]) == [None] * 5
    store.release_all(held)
    again = store.lease_all([taken, *free])
    assert [lease is None for lease in again] == [True, False, False, False, False]
    store.release_all([theirs, *(lease for lease in again if lease is not None)])
    assert store.lease_all([]) == []


def test_who_holds_a_lease_can_commit_abandon_and_quarantine(store: Store, address: Address, finish: Finish) -> None:
    lease = store.lease(address)
    assert lease is not None
    store.abandon(finish(address).staging, keep_logs=True)
    published(store, finish(address))
    published(store, finish(address, replaces=version_of(store, address)))
    assert store.quarantine(address, "verify") is not None
    lease.release()


# Abandon, attempts, quarantine


def test_an_abandoned_attempt_keeps_its_logs_and_nothing_else(bench: Any, address: Address, finish: Finish) -> None:
    one = finish(address, {"out.txt": b"half", "parts/x.bin": b"half"})
    place = bench.store.abandon(one.staging, keep_logs=True)
    assert place == f"{address.prefix}/.attempts/{address.key}/{one.staging.attempt}"
    assert sorted(bench.files(place)) == ["log/stdout.log", "params.txt"]
    assert not os.path.exists(one.staging.path)
    assert bench.store.inspect(address).state is State.MISSING
    [found] = bench.store.reader(address).attempts()
    assert (found.attempt, found.running, found.path) == (one.staging.attempt, False, place)


def test_a_dropped_attempt_leaves_nothing(store: Store, address: Address, finish: Finish) -> None:
    one = finish(address)
    assert store.abandon(one.staging, keep_logs=False) is None
    assert not os.path.exists(one.staging.path)
    assert store.reader(address).attempts() == []


def test_only_the_newest_attempts_are_kept(store: Store, address: Address, finish: Finish) -> None:
    staged = [finish(address).staging for _ in range(7)]
    for one in staged:
        store.abandon(one, keep_logs=True)
    kept = [one.attempt for one in store.reader(address).attempts()]
    assert kept == [one.attempt for one in staged[-3:]]


def test_attempts_of_one_target_do_not_push_out_anothers(store: Store, finish: Finish) -> None:
    first, second = (Address(PREFIX, secrets.token_hex(16)) for _ in range(2))
    store.abandon(finish(first).staging, keep_logs=True)
    for _ in range(5):
        store.abandon(finish(second).staging, keep_logs=True)
    assert len(store.reader(first).attempts()) == 1
    assert len(store.reader(second).attempts()) == 3


def test_an_attempt_at_work_is_listed_as_running(store: Store, address: Address, finish: Finish) -> None:
    other = Address(PREFIX, secrets.token_hex(16))
    failed, running = finish(address), finish(address)
    finish(other)
    store.abandon(failed.staging, keep_logs=True)
    found = store.reader(address).attempts()
    assert [(one.attempt, one.running) for one in found] == [
        (failed.staging.attempt, False),
        (running.staging.attempt, True),
    ]


@pytest.mark.parametrize("ended", [True, False])
def test_the_logs_of_an_attempt_can_be_read(store: Store, address: Address, finish: Finish, ended: bool) -> None:
    one = finish(address)
    if ended:
        store.abandon(one.staging, keep_logs=True)
    reader = store.reader(address, one.staging.attempt)
    with reader.open("log/stdout.log") as file:
        assert file.read().decode() == f"log of {one.staging.attempt}\n"
    assert Path(reader.path("log/stdout.log")).read_text() == f"log of {one.staging.attempt}\n"


def test_quarantine_takes_a_target_away_and_keeps_it(bench: Any, address: Address, finish: Finish) -> None:
    published(bench.store, finish(address, {"out.txt": b"kept"}))
    before = bench.files(address.path)
    place = bench.store.quarantine(address, "verify")
    assert place is not None and place.startswith(f"{address.prefix}/.quarantine/{address.key}/")
    assert bench.files(place) == before
    assert not bench.store.inspect(address).complete
    assert not bench.store.present([address])


def test_quarantine_of_nothing_is_nothing(store: Store, address: Address, finish: Finish) -> None:
    assert store.quarantine(address, "verify") is None
    published(store, finish(address))
    assert store.quarantine(Address(PREFIX, "0" * 32), "verify") is None


def test_quarantine_for_one_reason_twice_keeps_both(bench: Any, address: Address, finish: Finish) -> None:
    for raw in (b"1", b"2"):
        published(bench.store, finish(address, {"out.txt": raw}))
        bench.store.quarantine(address, "verify")
    kept = [raw for name, raw in quarantined(bench, address).items() if name.endswith("out.txt")]
    assert sorted(kept) == [b"1", b"2"]


# Walking


def test_walk_yields_all_that_lies_there_sorted_and_once(bench: Any, finish: Finish) -> None:
    prefixes = ["chains/etl/a_chain/ATask", "chains/etl/ab_chain/ATask", "chains/ds/z_chain/ZTask"]
    made = [Address(prefix, secrets.token_hex(16)) for prefix in prefixes for _ in range(3)]
    for one in made:
        published(bench.store, finish(one, {"out.txt": b"x", "parts/more.txt": b"y"}))
    leftover = Address(prefixes[1], secrets.token_hex(16))
    bench.put(f"{leftover}/out.txt", b"no record")
    bench.store.abandon(finish(made[0]).staging, keep_logs=True)
    finish(made[0])
    gone = made.pop()
    bench.store.quarantine(gone, "verify")
    left = [gone] if bench.store.inspect(gone).state is State.LEFTOVER else []  # its files stay, in some stores
    expected = sorted([*made, leftover, *left])
    assert list(bench.store.walk()) == expected
    assert list(bench.store.walk("chains/etl")) == [one for one in expected if one.prefix.startswith("chains/etl/")]
    assert list(bench.store.walk("chains/etl/a_chain")) == [one for one in expected if "/a_chain/" in one.prefix]
    assert list(bench.store.walk("chains/nowhere")) == []


def test_walk_of_a_target_itself_yields_it_once(
    request: pytest.FixtureRequest, bench: Any, store: Store, address: Address, finish: Finish
) -> None:
    published(store, finish(address, {"out.txt": b"x", "parts/more.txt": b"y"}))
    assert list(store.walk(address.path)) == [address]


# Reading


def test_a_reader_gives_the_bytes_a_path_and_a_url(store: Store, address: Address, finish: Finish) -> None:
    published(store, finish(address, {"out.txt": b"bytes", "parts/x.txt": b"deep"}))
    reader = store.reader(address)
    for name, raw in (("out.txt", b"bytes"), ("parts/x.txt", b"deep")):
        with reader.open(name) as file:
            assert file.read() == raw
        assert Path(reader.path(name)).read_bytes() == raw
        scheme, _, place = reader.url(name).partition("://")
        assert scheme and place.endswith(f"{address}/{name}")


def test_a_reader_says_what_is_not_there(store: Store, address: Address, finish: Finish) -> None:
    with pytest.raises(FileNotFoundError):
        store.reader(address).open("out.txt")
    assert not os.path.exists(store.reader(address).path("out.txt"))
    published(store, finish(address))
    with pytest.raises(FileNotFoundError):
        store.reader(address).open("other.txt")


def test_a_file_that_is_open_keeps_its_bytes_when_the_target_is_replaced(
    store: Store, address: Address, finish: Finish
) -> None:
    published(store, finish(address, {"out.txt": b"old" * 100_000}))
    with store.reader(address).open("out.txt") as file:
        start = file.read(10)
        published(store, finish(address, {"out.txt": b"new"}, replaces=version_of(store, address)))
        assert start + file.read() == b"old" * 100_000


# Together


def in_threads(work: Callable[[int], Any], number: int) -> list[Any]:
    """Do the same in many threads that start together."""
    start = threading.Barrier(number)

    def one(which: int) -> Any:
        start.wait()
        return work(which)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


@pytest.fixture
def writers(bench: Any) -> Iterator[int]:
    """How many meet. They interrupt each other all the time where the store is code of this process alone."""
    before = sys.getswitchinterval()
    if bench.is_near:
        sys.setswitchinterval(1e-6)
    yield NEAR_WRITERS if bench.is_near else FAR_WRITERS
    sys.setswitchinterval(before)


@pytest.mark.parametrize("before", ["nothing", "leftover", "invalid"])
def test_of_many_writers_exactly_one_wins(
    bench: Any, address: Address, finish: Finish, before: str, writers: int, request: pytest.FixtureRequest
) -> None:
    if before == "leftover":
        bench.put(f"{address}/out.txt", b"left over")
    if before == "invalid":
        bench.put(f"{address}/record.json", b"garbage")
    seen = bench.store.inspect(address).version
    staged = [finish(address, {"out.txt": b"%d " % number * 1000}, replaces=seen) for number in range(writers)]
    answers = in_threads(lambda number: bench.store.commit([staged[number]])[0], writers)
    [winner] = [one.staging.attempt for one, answer in zip(staged, answers, strict=True) if answer.won]
    assert {answer.record.attempt for answer in answers} == {winner}
    assert_bytes_are_the_records(bench.store, address)
    found = bench.store.inspect(address)
    assert found.record is not None and found.record.attempt == winner
    left = [one.attempt for one in bench.store.reader(address).attempts()]
    assert winner not in left
    # radosgw answers some lost races by 500. Whoever repeats such a request cannot tell any more whether its record was
    # in force for a moment, and leaves its files to `nectar gc`: they may be somebody's.
    assert not left or "radosgw" in request.node.name


def test_of_many_that_replace_one_version_exactly_one_wins(
    bench: Any, address: Address, finish: Finish, writers: int
) -> None:
    published(bench.store, finish(address, {"out.txt": b"old"}))
    seen = version_of(bench.store, address)
    staged = [finish(address, {"out.txt": b"%d" % number}, replaces=seen) for number in range(writers)]
    answers = in_threads(lambda number: bench.store.commit([staged[number]])[0], writers)
    assert sum(answer.won for answer in answers) == 1
    assert_bytes_are_the_records(bench.store, address)
    kept = [raw for name, raw in quarantined(bench, address).items() if name.endswith("out.txt")]
    assert kept == [b"old"]


def test_writers_of_many_addresses_do_not_meet(store: Store, finish: Finish, writers: int) -> None:
    addresses = [Address(PREFIX, secrets.token_hex(16)) for _ in range(writers)]
    in_threads(lambda number: published(store, finish(addresses[number], {"out.txt": b"%d" % number})), writers)
    assert store.present(addresses) == set(addresses)
    for one in addresses:
        assert_bytes_are_the_records(store, one)


def test_attempts_can_be_abandoned_and_listed_together(
    bench: Any, store: Store, address: Address, finish: Finish, writers: int
) -> None:
    def fail_often(_: int) -> None:
        for _ in range(10 if bench.is_near else 2):
            store.abandon(finish(address).staging, keep_logs=True)
            store.reader(address).attempts()

    in_threads(fail_often, writers)
    assert len(store.reader(address).attempts()) == 3


def test_targets_can_be_made_and_taken_away_together(
    bench: Any, store: Store, address: Address, finish: Finish, writers: int
) -> None:
    def make_and_take(number: int) -> None:
        for _ in range(10 if bench.is_near else 3):
            if number % 2:
                store.commit([finish(address)])
            else:
                store.quarantine(address, "removed")

    in_threads(make_and_take, writers)
    published_last = finish(address)
    store.commit([published_last])
    assert_bytes_are_the_records(store, address)


# The local store: what a file system can hold that nobody put there


def test_a_store_that_comes_and_goes_is_a_folder_or_missing_and_never_called_anything_else(
    tmp_path: Path, address: Address
) -> None:
    root = tmp_path / "coming_and_going"
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            root.mkdir()
            root.rmdir()

    store = LocalStore(str(root))
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(come_and_go)
        try:
            states = {store.inspect(address).state for _ in range(3000)}
        finally:
            done.set()
        other.result()
    assert states == {State.MISSING}


def test_a_link_to_nowhere_is_a_disk_that_is_not_there_and_no_empty_store(tmp_path: Path, address: Address) -> None:
    (tmp_path / "unplugged").symlink_to(tmp_path / "nowhere")
    with pytest.raises(errors.StoreUnreachable):
        LocalStore(str(tmp_path / "unplugged")).inspect(address)


@pytest.fixture
def whole(local: Any, address: Address, local_finish: Finish) -> Path:
    """The folder of a complete target in the local store."""
    published(local.store, local_finish(address, {"out.txt": b"whole", "parts/x.txt": b"part"}))
    return Path(local.root, address.path)


def test_an_output_that_became_a_link_is_invalid(local: Any, address: Address, whole: Path, elsewhere: Path) -> None:
    (elsewhere / "out.txt").write_bytes(b"fooey")
    (whole / "out.txt").unlink()
    (whole / "out.txt").symlink_to(elsewhere / "out.txt")
    assert local.store.inspect(address).state is State.INVALID


def test_a_folder_of_outputs_that_became_a_link_is_invalid(
    local: Any, address: Address, whole: Path, elsewhere: Path
) -> None:
    (elsewhere / "x.txt").write_bytes(b"evil")
    (whole / "parts/x.txt").unlink()
    (whole / "parts").rmdir()
    (whole / "parts").symlink_to(elsewhere)
    assert local.store.inspect(address).state is State.INVALID


def test_a_record_that_became_a_link_is_invalid(local: Any, address: Address, whole: Path, elsewhere: Path) -> None:
    (whole / "record.json").rename(elsewhere / "record.json")
    (whole / "record.json").symlink_to(elsewhere / "record.json")
    assert local.store.inspect(address).state is State.INVALID


def test_a_target_that_became_a_link_is_invalid_and_replaced(
    local: Any, address: Address, whole: Path, elsewhere: Path, local_finish: Finish
) -> None:
    whole.rename(elsewhere / "target")
    whole.symlink_to(elsewhere / "target")
    assert local.store.inspect(address).state is State.INVALID
    published(local.store, local_finish(address, {"out.txt": b"new"}))
    assert_bytes_are_the_records(local.store, address)
    assert not whole.is_symlink()
    assert (elsewhere / "target/out.txt").read_bytes() == b"whole"


def test_a_target_that_is_a_file_is_invalid_and_replaced(local: Any, address: Address, local_finish: Finish) -> None:
    place = Path(local.root, address.path)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"not a folder")
    assert local.store.present([address]) == set()
    assert local.store.inspect(address).state is State.INVALID
    published(local.store, local_finish(address))
    assert_bytes_are_the_records(local.store, address)


def test_an_empty_folder_is_replaced(local: Any, address: Address, local_finish: Finish) -> None:
    Path(local.root, address.path).mkdir(parents=True)
    assert local.store.inspect(address).state is State.LEFTOVER
    published(local.store, local_finish(address))
    assert_bytes_are_the_records(local.store, address)


def test_a_record_that_is_a_folder_is_invalid(local: Any, address: Address, whole: Path) -> None:
    (whole / "record.json").unlink()
    (whole / "record.json").mkdir()
    assert local.store.inspect(address).state is State.INVALID


def test_a_record_that_is_a_pipe_is_invalid_and_nobody_waits_for_it(local: Any, address: Address, whole: Path) -> None:
    (whole / "record.json").unlink()
    os.mkfifo(whole / "record.json")
    answers: list[Inspection] = []
    asking = threading.Thread(target=lambda: answers.append(local.store.inspect(address)), daemon=True)
    asking.start()
    asking.join(2.0)
    if asking.is_alive():  # let it go, or it would hold the whole test run
        os.close(os.open(whole / "record.json", os.O_RDWR))
        pytest.fail("inspect waits for somebody to write into a pipe")
    assert answers[0].state is State.INVALID


def test_an_output_that_became_a_folder_is_invalid(local: Any, address: Address, whole: Path) -> None:
    (whole / "out.txt").unlink()
    (whole / "out.txt").mkdir()
    assert local.store.inspect(address).state is State.INVALID


def test_nothing_is_staged_through_a_link_out_of_the_store(local: Any, address: Address, elsewhere: Path) -> None:
    (local.root / "chains").mkdir(parents=True)
    (local.root / "chains/etl").symlink_to(elsewhere)
    with pytest.raises(errors.UnsafePath):
        local.store.stage(address, new_attempt_id(address, utc_now()))
    assert not list(elsewhere.rglob("*/.staging/*"))


def test_a_reader_does_not_follow_a_planted_link(local: Any, address: Address, whole: Path, elsewhere: Path) -> None:
    (elsewhere / "secret").write_bytes(b"secret")
    (whole / "out.txt").unlink()
    (whole / "out.txt").symlink_to(elsewhere / "secret")
    (elsewhere / "x.txt").write_bytes(b"secret")
    (whole / "parts/x.txt").unlink()
    (whole / "parts").rmdir()
    (whole / "parts").symlink_to(elsewhere)
    for name in ("out.txt", "parts/x.txt", "parts"):
        with pytest.raises(FileNotFoundError):
            local.store.reader(address).open(name)


def test_a_reader_does_not_wait_for_a_planted_pipe(local: Any, address: Address, whole: Path) -> None:
    (whole / "out.txt").unlink()
    os.mkfifo(whole / "out.txt")
    with pytest.raises(FileNotFoundError):
        local.store.reader(address).open("out.txt")


def test_walk_does_not_leave_the_store(local: Any, whole: Path, elsewhere: Path) -> None:
    outside = elsewhere / PREFIX / ("0" * 32)
    outside.mkdir(parents=True)
    try:
        found = list(local.store.walk("../elsewhere"))
    except errors.UnsafePath:
        found = []
    assert found == []


def test_who_is_overtaken_between_looking_and_renaming_loses(
    local: Any, address: Address, whole: Path, elsewhere: Path, local_finish: Finish
) -> None:
    class Overtaken(LocalStore):
        """Another process took the target away before it looked, and makes it anew before it renames."""

        def inspect(self, address: Address, outputs: Sequence[str] = (), *, leftovers: bool = True) -> Inspection:
            if (elsewhere / "taken").exists():
                return super().inspect(address, outputs)
            whole.rename(elsewhere / "taken")
            found = super().inspect(address, outputs)
            published(local.store, quicker)
            return found

    quicker, slower = local_finish(address, {"out.txt": b"quicker"}), local_finish(address, {"out.txt": b"slower"})
    [commitment] = Overtaken(str(local.root)).commit([slower])
    assert not commitment.won
    assert (whole / "out.txt").read_bytes() == b"quicker"


def test_what_was_replaced_is_kept_when_it_cannot_be_put_into_quarantine(
    local: Any, address: Address, whole: Path, local_finish: Finish
) -> None:
    class Blocked(LocalStore):
        """A store whose quarantine place is taken by another folder at the last moment."""

        def _quarantine_place(self, address: Address, label: str) -> str:
            place = super()._quarantine_place(address, label)
            Path(place, "in the way").mkdir(parents=True)
            return place

    store = Blocked(str(local.root))
    one = local_finish(address, {"out.txt": b"new"}, replaces=version_of(store, address))
    with pytest.raises(errors.StoreUnreachable):
        store.commit([one])
    store.abandon(one.staging, keep_logs=True)  # what an attempt does when its commit fails
    kept = [path for path in local.root.rglob("out.txt") if path.read_bytes() == b"whole"]
    assert kept, "the target that was replaced is gone"
    assert_bytes_are_the_records(store, address)


def test_processes_with_many_threads_do_not_seem_to_deadlock(tmp_path: Path) -> None:
    """Two processes, each with a thread that holds one lock and a thread that waits for the other's."""
    lock_file = str(tmp_path / "locks")
    script = f"""
import sys, threading
sys.path[:0] = {sys.path!r}
from nectar.stores.locks import locked
mine, theirs = sys.argv[1:]
with locked({lock_file!r}, mine):
    print("holds", flush=True)
    sys.stdin.readline()
    problems = []
    def wait_for_theirs():
        try:
            with locked({lock_file!r}, theirs):
                pass
        except OSError as error:
            problems.append(error.strerror)
    waiting = threading.Thread(target=wait_for_theirs)
    waiting.start()
    print("waits", flush=True)
    sys.stdin.readline()
waiting.join()
print(problems, flush=True)
"""
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script, mine, theirs], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for mine, theirs in (("a", "b"), ("b", "a"))
    ]
    try:
        for process in both:
            assert answer_of(process) == "holds\n"
        for process in both:
            go_on(process)
            assert answer_of(process) == "waits\n"
            if process is both[0]:  # the kernel lets only the first wait: the second asks again and again
                wait_until_blocked_or_over(process.pid)
        for process in both:
            go_on(process)
        assert [answer_of(process) for process in both] == ["[]\n", "[]\n"]
    finally:
        for process in both:
            process.kill()
            process.communicate()


def test_a_lease_holds_also_after_somebody_removed_the_store(local: Any, address: Address) -> None:
    before = local.store.lease(address)
    assert before is not None
    before.release()
    shutil.rmtree(local.root)
    script = f"""
import sys
sys.path[:0] = {sys.path!r}
from nectar.address import Address
from nectar.stores import LocalStore
lease = LocalStore({str(local.root)!r}).lease(Address({address.prefix!r}, {address.key!r}))
print("holds" if lease else "does not hold", flush=True)
sys.stdin.readline()
"""
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert answer_of(other) == "holds\n"
        again = local.store.lease(address)
        if again is not None:
            again.release()
        assert again is None, "two processes hold the lease"
    finally:
        other.kill()
        other.communicate()


def answer_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def wait_until_blocked_or_over(pid: int) -> None:
    """Wait until a thread of a process waits for a lock, or its second thread has ended."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
        if any(str(pid) in words for words in waiting) or len(os.listdir(f"/proc/{pid}/task")) == 1:
            return
    pytest.fail("the thread neither waits nor ends")
