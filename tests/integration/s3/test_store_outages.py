"""A server or network that fails for a while costs a store nothing; one that goes on failing is told as what it is."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from s3_faults import (
    EXPIRED_TOKEN,
    FAILED_AFTER,
    FORBIDDEN,
    HANG,
    LOST,
    RESET,
    SLOW_DOWN,
    TOO_SKEWED,
    Action,
    Fault,
    Rule,
)
from store_bench import (
    LOST_AFTER_HANG,
    PASSING,
    RECORD,
    Bench,
    each_that_passes,
    is_there,
    next_attempt_makes,
    one_server_is_enough,
    unreachable,
)
from store_bucket import finish, new_address

from nectar.address import Address
from nectar.stores.base import Recipe
from nectar.stores.s3.store import S3Store

# Faults that pass.


@each_that_passes()
def test_a_fault_that_passes_costs_a_commit_nothing_whichever_request_it_befalls(bench: Bench, name: str) -> None:
    fault, times = PASSING[name]
    store = bench.store()
    for spared in range(5):  # four files, then the record
        finished = finish(store, new_address())
        before = len(bench.requests)
        with bench.faults(Rule(fault, after=spared, times=times)):
            (commitment,) = store.commit([finished])
        assert len(bench.requests) > before + 5  # it did befall one
        assert commitment.won and commitment.record.attempt == finished.staging.attempt
        is_there(bench, finished.record.address, finished.staging.attempt)
        assert len(bench.bucket.keys(finished.record.address.path)) == 5  # nothing twice


@each_that_passes()
def test_a_fault_that_passes_costs_a_replacement_nothing_whichever_request_it_befalls(bench: Bench, name: str) -> None:
    fault, times = PASSING[name]
    store = bench.store()
    address = bench.made()
    for spared in range(7):
        before = store.inspect(address)
        assert before.record is not None and before.version is not None
        finished = finish(store, address, replaces=before.version)
        with bench.faults(Rule(fault, after=spared, times=times)):
            assert store.commit([finished])[0].won
        is_there(bench, address, finished.staging.attempt)
        kept = {etag: record for record, etag in bench.bucket.replaced(address)}
        assert bench.bucket.whole(kept[before.version], before.version).attempt == before.record.attempt


def test_a_commit_whose_record_was_put_and_whose_answer_never_came_loses_nothing(bench: Bench) -> None:
    store = bench.store(retries=0)
    for fault in (LOST, FAILED_AFTER):
        finished = finish(store, new_address())
        with bench.faults(Rule(fault, methods=("PUT",), path=RECORD)), unreachable():
            store.commit([finished])
        store.abandon(finished.staging, keep_logs=True)
        is_there(bench, finished.record.address, finished.staging.attempt)
        (second,) = store.commit([finish(store, finished.record.address)])
        assert not second.won and second.record.attempt == finished.staging.attempt
        is_there(bench, finished.record.address, finished.staging.attempt)


# Faults that stay: each question is answered by an error.

STAYING = {
    "503": (SLOW_DOWN, "asks for fewer requests"),
    "500": (Fault(Action.ANSWER), "answered"),
    "reset": (RESET, "the connection to .* broke"),
    "hang": (HANG, "took too long to answer"),
    "forbidden": (FORBIDDEN, "do not allow"),
    "expired": (EXPIRED_TOKEN, "have expired"),
    "skewed": (TOO_SKEWED, r"another time than this machine(.|\n)*NTP"),
}
QUESTIONS: dict[str, Callable[[S3Store, Address], object]] = {
    "present of one": lambda store, address: store.present([address]),
    "present of many": lambda store, address: store.present([address, *(new_address() for _ in range(20))]),
    "inspect": lambda store, address: store.inspect(address),
    "records": lambda store, address: store.records([address]),
    "walk": lambda store, address: list(store.walk()),
    "tried": lambda store, address: store.tried(address.prefix),
    "remembers": lambda store, address: store.remembers(address.prefix),
    "recall": lambda store, address: store.recall([Recipe(address.prefix, address.key)]),
    "lease": lambda store, address: store.lease(address),
    "stage": lambda store, address: store.stage(address, "none"),
    "quarantine": lambda store, address: store.quarantine(address, "invalid"),
    "path": lambda store, address: store.reader(address).path("out.txt"),
    "open": lambda store, address: store.reader(address).open("out.txt"),
    "attempts": lambda store, address: store.reader(address).attempts(),
}


@one_server_is_enough
@pytest.mark.parametrize("name", STAYING)
def test_a_server_that_fails_is_an_error_and_never_a_missing_target(bench: Bench, name: str) -> None:
    fault, said = STAYING[name]
    hangs = fault is HANG
    with bench.elsewhere() as bench:
        address = bench.made()
        store = bench.store(retries=0 if hangs else 1, timeout_s=0.2 if hangs else 30)
        with bench.faults(Rule(fault)):
            for question, ask in QUESTIONS.items():
                for wanted in (address,) if hangs else (address, new_address()):
                    with unreachable(said):
                        pytest.fail(f"{question} was answered: {ask(store, wanted)!r}")
        is_there(bench, address, bench.store().records([address])[address].attempt)


@one_server_is_enough
@pytest.mark.parametrize("name", STAYING)
def test_a_commit_to_a_server_that_fails_for_ever_is_an_error_and_the_next_attempt_makes_it(
    bench: Bench, name: str
) -> None:
    fault, said = STAYING[name]
    hangs = fault is HANG
    store = bench.store(retries=0 if hangs else 1, timeout_s=0.3 if hangs else 30)
    for spared in (0, 4) if hangs else (0, 2, 4):  # as credentials that expire in the middle do
        finished = finish(bench.store(), new_address())  # by one that is patient
        with bench.faults(Rule(fault, after=spared)), unreachable(said):
            store.commit([finished])
        store.abandon(finished.staging, keep_logs=False)
        next_attempt_makes(bench, finished.record.address)


def test_a_commit_that_hangs_ends_within_its_timeout_and_wins_if_the_record_was_put(bench: Bench) -> None:
    store = bench.store(retries=3, timeout_s=1)
    finished = finish(store, new_address())
    began = time.monotonic()
    with bench.faults(Rule(LOST_AFTER_HANG, path=RECORD, times=1)):
        (commitment,) = store.commit([finished])
    assert time.monotonic() - began < 20  # a busy machine; without a timeout it would be for ever
    assert commitment.won
    is_there(bench, finished.record.address, finished.staging.attempt)


def test_attempts_that_are_published_stay_so_when_another_of_the_same_commit_fails(bench: Bench) -> None:
    store = bench.store(retries=0)
    one, two = finish(store, new_address()), finish(store, new_address())
    with bench.faults(Rule(FORBIDDEN, path=f"{two.record.address.key}/record")), unreachable("s3:PutObject"):
        store.commit([one, two])
    is_there(bench, one.record.address, one.staging.attempt)
    next_attempt_makes(bench, two.record.address)
