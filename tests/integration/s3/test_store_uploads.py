"""A file that goes up in parts is there or not, whatever befalls the beginning, a part, or the end of its upload."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace

import pytest
from s3_faults import ERROR_IN_200, EXPIRED_TOKEN, FAILED_AFTER, RESET, SLOW_DOWN, TRUNCATED, Kind, Rule
from store_bench import MIB, PART, PASSING, Bench, is_there, next_attempt_makes, one_server_is_enough, servers_for
from store_bucket import finish, new_address

from nectar import errors
from nectar.stores import Finished
from nectar.stores.s3 import transfer
from nectar.stores.s3.store import S3Store

STEPS = (Kind.MULTIPART_CREATE, Kind.MULTIPART_PART, Kind.MULTIPART_COMPLETE)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Upload what is larger than 5 MiB in parts; return a size of two of them."""
    monkeypatch.setattr(transfer, "LARGE", PART)
    monkeypatch.setattr(transfer, "PART", PART)
    return PART + 1


def finish_big(store: S3Store, size: int) -> Finished:
    """Stage a big file, whose sha256 nobody knows before it is sent."""
    finished = finish(store, new_address(), {"big.bin": random.Random(0).randbytes(size)})
    files = tuple(replace(one, sha256="") for one in finished.record.files)
    return replace(finished, record=replace(finished.record, files=files))


def commit_big(bench: Bench, size: int, *rules: Rule) -> None:
    """Commit a target of a big file while faults befall it, which it must outlive."""
    store = bench.store()
    finished = finish_big(store, size)
    with bench.faults(*rules):
        (commitment,) = store.commit([finished])
    is_there(bench, finished.record.address, finished.staging.attempt)
    assert commitment.won
    assert bench.bucket.uploads(finished.record.address) == 0


@one_server_is_enough
def test_an_upload_whose_end_is_answered_200_with_an_error_is_ended_again(bench: Bench) -> None:
    commit_big(bench, 65 * MIB, Rule(ERROR_IN_200, kinds=(Kind.MULTIPART_COMPLETE,), times=1))
    assert [one.status for one in bench.requests if one.kind is Kind.MULTIPART_COMPLETE] == [200, 200]


#: but not where its beginning is carried out and the answer lost: an upload that nobody knows of is left then, as after
#: any crash, until a rule of the bucket removes it
OUTLIVED = [
    (server, kind, name)
    for kind in STEPS
    for name, (fault, _) in PASSING.items()
    for server in servers_for(fault)
    if not (kind is Kind.MULTIPART_CREATE and fault.applied)
]


@pytest.mark.parametrize(("s3_endpoint", "kind", "name"), OUTLIVED, indirect=["s3_endpoint"])
def test_an_upload_outlives_a_fault_that_passes(bench: Bench, small_parts: int, kind: Kind, name: str) -> None:
    fault, times = PASSING[name]
    commit_big(bench, small_parts, Rule(fault, kinds=(kind,), times=times))


@pytest.mark.parametrize("kind", [Kind.MULTIPART_CREATE, Kind.MULTIPART_COMPLETE])
def test_an_upload_outlives_an_answer_without_its_body(bench: Bench, small_parts: int, kind: Kind) -> None:
    store = bench.store()
    finished = finish_big(store, small_parts)
    with bench.faults(Rule(replace(TRUNCATED, at=0), kinds=(kind,), times=1)):
        assert store.commit([finished])[0].won
    is_there(bench, finished.record.address, finished.staging.attempt)


FAILING = {"503": SLOW_DOWN, "failed-after": FAILED_AFTER, "expired": EXPIRED_TOKEN, "reset": RESET}
FAILING_STEPS = [
    *((server, kind, name) for kind in STEPS for name, fault in FAILING.items() for server in servers_for(fault)),
    ("moto", Kind.MULTIPART_COMPLETE, "error-in-200"),  # no server answers anything else so
]


@pytest.mark.parametrize(("s3_endpoint", "kind", "name"), FAILING_STEPS, indirect=["s3_endpoint"])
def test_an_upload_that_fails_leaves_no_target(bench: Bench, small_parts: int, kind: Kind, name: str) -> None:
    fault = FAILING.get(name, ERROR_IN_200)
    store = bench.store(retries=1)
    finished = finish_big(store, small_parts)
    with bench.faults(Rule(fault, kinds=(kind,))), contextlib.suppress(errors.StoreUnreachable):
        (commitment,) = store.commit([finished])
        assert commitment.won and fault is FAILED_AFTER  # what was applied is found out by asking
        is_there(bench, finished.record.address, finished.staging.attempt)
        return
    if kind is not Kind.MULTIPART_CREATE:
        assert bench.bucket.uploads(finished.record.address) == 0
    next_attempt_makes(bench, finished.record.address)
