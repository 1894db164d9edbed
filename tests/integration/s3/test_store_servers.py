"""Permissions that are missing, a server without conditions, clocks that are off, links that expire: each is told."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import botocore.auth
import pytest
from guard import wait_until
from s3_faults import FORBIDDEN, UNCONDITIONAL, Kind, Rule, skewed
from store_bench import (
    PASSING,
    Bench,
    each_that_passes,
    is_there,
    next_attempt_makes,
    one_server_is_enough,
    unreachable,
)
from store_bucket import finish, new_address

from nectar.address import Address
from nectar.stores.s3.probe import probe
from nectar.stores.s3.store import S3Store

where_signatures_are_looked_at = pytest.mark.parametrize("s3_endpoint", ["radosgw"], indirect=True)

# Permissions.


@one_server_is_enough
def test_without_the_permission_to_ask_for_an_object_nothing_is_missing(bench: Bench) -> None:
    address, store = bench.made(), bench.store()
    with bench.faults(Rule(FORBIDDEN, methods=("HEAD", "GET"))):
        for wanted in (address, new_address()):
            with unreachable(r"get objects(.|\n)*s3:GetObject(.|\n)*s3:ListBucket"):
                store.present([wanted])
        with unreachable("s3:GetObject"):
            store.inspect(address)


@one_server_is_enough
def test_the_first_look_at_a_target_that_is_missing_is_one_request(bench: Bench) -> None:
    with bench.elsewhere() as other:
        before = len(other.requests)
        assert other.store().present([new_address()]) == set()
        assert len(other.requests) == before + 1


LISTING: dict[str, Callable[[S3Store, Address], object]] = {
    "present of many": lambda store, address: store.present([address, *(new_address() for _ in range(20))]),
    "walk": lambda store, address: list(store.walk()),
    "tried": lambda store, address: store.tried(address.prefix),
    "remembers": lambda store, address: store.remembers(address.prefix),
    "inspect": lambda store, address: store.inspect(new_address()),
}


@one_server_is_enough
def test_without_the_permission_to_list_nothing_is_missing(bench: Bench) -> None:
    address, store = bench.made(), bench.store()
    with bench.faults(Rule(FORBIDDEN, kinds=(Kind.LIST,))):
        for question, ask in LISTING.items():
            with unreachable(r"list the bucket(.|\n)*s3:ListBucket"):
                pytest.fail(f"{question} was answered: {ask(store, address)!r}")
        assert store.present([address]) == {address} and store.inspect(address).complete


@one_server_is_enough
def test_without_the_permission_to_put_nothing_is_staged_or_published(bench: Bench) -> None:
    forbidden = Rule(FORBIDDEN, methods=("PUT",))
    with bench.elsewhere() as other, other.faults(forbidden), unreachable(r"put objects(.|\n)*s3:PutObject"):
        finish(other.store(), new_address())
    store = bench.store()
    finished = finish(store, new_address())
    with bench.faults(forbidden), unreachable(r"put objects(.|\n)*s3:PutObject"):
        store.commit([finished])
    next_attempt_makes(bench, finished.record.address)


@one_server_is_enough
def test_without_the_permission_to_delete_a_target_is_published_all_the_same(bench: Bench) -> None:
    store = bench.store()
    with bench.faults(Rule(FORBIDDEN, methods=("DELETE",))):
        finished = finish(store, new_address())
        assert store.commit([finished])[0].won
    is_there(bench, finished.record.address, finished.staging.attempt)


@one_server_is_enough
def test_a_commit_that_won_says_so_though_its_live_logs_cannot_be_deleted(bench: Bench) -> None:
    store = bench.store()
    finished = finish(store, new_address())
    store._shipper.follow(finished.staging)
    store._shipper.ship()  # as it does every few seconds
    with bench.faults(Rule(FORBIDDEN, methods=("DELETE",))):
        assert store.commit([finished])[0].won
    assert [one.status for one in bench.requests if one.method == "DELETE"] == [403]
    is_there(bench, finished.record.address, finished.staging.attempt)
    assert not Path(finished.staging.path).exists()


# Conditions.


def test_a_server_without_conditional_writes_is_refused_with_the_way_out(bench: Bench) -> None:
    address = new_address()
    with bench.elsewhere() as bench, bench.faults(Rule(UNCONDITIONAL)):
        store = bench.store()
        for _ in range(2):
            with unreachable(r"ignores the conditions(.|\n)*single_writer = true"):
                finish(store, address)
            with unreachable("ignores the conditions"):
                store.lease(address)
        assert bench.bucket.keys("chains") == bench.bucket.keys(".probe") == []


def test_a_single_writer_may_use_a_server_without_conditional_writes(bench: Bench) -> None:
    store = bench.store(single_writer=True)
    with bench.faults(Rule(UNCONDITIONAL)):
        lease = store.lease(new_address())
        finished = finish(store, new_address())
        assert store.commit([finished])[0].won
        again = finish(store, finished.record.address, replaces=store.inspect(finished.record.address).version)
        assert store.commit([again])[0].won
        assert lease is not None
        lease.release()
    is_there(bench, again.record.address, again.staging.attempt)


@each_that_passes()
def test_a_fault_does_not_make_a_server_look_as_if_it_ignored_conditions(bench: Bench, name: str) -> None:
    fault, times = PASSING[name]
    for spared in range(4):  # as many as it writes to find out
        with (
            bench.elsewhere(f"folder{spared}") as other,
            other.faults(Rule(fault, methods=("PUT",), after=spared, times=times)),
        ):
            other.store().stage(new_address(), "one")


# Clocks.


@one_server_is_enough
def test_a_server_whose_clock_is_half_an_hour_off_is_named(bench: Bench) -> None:
    store = bench.store()
    for ahead_s in (1800, -1800):
        with bench.faults(Rule(skewed(ahead_s))):
            (clock,) = [one for one in probe(store.client) if one.name == "clock"]
        assert not clock.ok and ("ahead" in clock.detail or "behind" in clock.detail), clock
        assert "NTP" in (clock.hint or "")


@where_signatures_are_looked_at
def test_a_machine_whose_clock_is_half_an_hour_off_is_told_so_by_a_server_that_looks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, now = bench.made(), botocore.auth.get_current_datetime
    store = bench.store()
    finished = finish(store, new_address())
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda *given, **named: now(*given, **named) + timedelta(minutes=30)
    )
    for act in (lambda: store.present([address]), lambda: store.commit([finished])):
        with unreachable(r"another time than this machine(.|\n)*NTP"):
            act()
    monkeypatch.setattr(botocore.auth, "get_current_datetime", now)
    next_attempt_makes(bench, finished.record.address)


def answered(link: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(link, timeout=30) as found:
            return found.status, found.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, b""


@where_signatures_are_looked_at
def test_a_link_gives_what_was_made_and_nothing_when_it_has_expired(bench: Bench) -> None:
    reader = bench.store(straight=True).reader(bench.made())
    with reader.open("out.txt") as stream:
        assert answered(reader.link("out.txt", expires_s=600)) == (200, stream.read())
    short = reader.link("out.txt", expires_s=1)
    wait_until(lambda: answered(short) == (403, b""), "the link expires")
