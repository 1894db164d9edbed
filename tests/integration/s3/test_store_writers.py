"""Writers that meet, that are killed, or whose requests come twice leave each target whole or absent, and lose none."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import store_writers
from guard import PATIENCE_S, wait_until
from s3_faults import (
    EXPIRED_TOKEN,
    FAILED_AFTER,
    FLIPPED,
    FORBIDDEN,
    HANG,
    LOST,
    RESET,
    SLOW_DOWN,
    TRUNCATED,
    Fault,
    Faults,
    Kind,
    Plan,
    Request,
    Rule,
)
from s3_radosgw import radosgw_is_there
from store_bench import LOST_AFTER_HANG, OF_TARGETS, PART, Bench, is_there, next_attempt_makes, servers_for
from store_bucket import finish, new_address
from store_writers import Orders, processes

from nectar.stores import Commitment, State

# Requests that are made twice.


def test_a_loser_removes_nothing_under_a_plain_name(bench: Bench) -> None:
    """Tasks often make the same bytes again, and an ETag tells bytes only: a late removal would take them."""
    same = {"out.txt": b"the same in each attempt\n"}
    loser, other = bench.store(), bench.store(straight=True)
    address = new_address()
    lost, first, late = finish(loser, address, same), finish(other, address, same), finish(other, address, same)
    ends: list[Commitment] = []

    def befall(request: Request) -> None:
        if request.path.endswith("/record.json") and not ends:
            ends.extend(other.commit([first]))  # its plain names are taken: it has own ones, and wins

    with bench.befalling(befall):
        (commitment,) = loser.commit([lost])
    assert not commitment.won and commitment.record.attempt == first.staging.attempt
    is_there(bench, address, first.staging.attempt)
    assert not [one for one in bench.requests if one.method == "DELETE" and OF_TARGETS in one.path]
    assert other.quarantine(address, "asked") is not None
    assert other.commit([late])[0].won
    is_there(bench, address, late.staging.attempt)


def test_a_removal_of_own_names_that_is_repeated_costs_nothing(bench: Bench) -> None:
    address = bench.made()
    store = bench.store()
    finished = finish(store, address)
    with bench.faults(Rule(LOST, methods=("DELETE",), path=f"{finished.staging.attempt}/out.txt", times=1)):
        (commitment,) = store.commit([finished])
    assert not commitment.won
    assert sum(one.method == "DELETE" and one.path.endswith("out.txt") for one in bench.requests) == 2
    is_there(bench, address, commitment.record.attempt)
    assert not [key for key in bench.bucket.keys(address.path) if ".attempts/" in key]


# Two writers.


def faults_of_chance(seed: str) -> Faults:
    """Return faults of which about one request in ten meets one, whichever it is."""
    passing = [Rule(fault, path=OF_TARGETS, chance=0.02) for fault in (SLOW_DOWN, RESET, LOST, FAILED_AFTER)]
    damage = [
        Rule(fault, methods=("GET",), kinds=(Kind.KEY,), path=OF_TARGETS, chance=0.02) for fault in (TRUNCATED, FLIPPED)
    ]
    ending = [Rule(fault, path=OF_TARGETS, chance=0.0005) for fault in (EXPIRED_TOKEN, FORBIDDEN)]
    dice = random.Random(seed)
    plan = Plan((*passing, *damage, *ending), dice.randrange(2**32))

    def befall(request: Request) -> list[Fault]:
        # Each time another bit: that two damaged readings agree has a test of its own.
        return [replace(one, at=dice.randrange(900)) if one is FLIPPED else one for one in plan(request)]

    return befall


def run_two_writers(bench: Bench, commits: int, seed: str, publish: Callable[..., None], *, turns: bool) -> None:
    addresses = tuple(new_address() for _ in range(max(8, commits // 8)))
    orders = []
    for name in ("left", "right"):
        (bench.disk / name).mkdir()
        lock = bench.disk / "turns" if turns else None
        orders.append(Orders(bench.far, bench.disk / name, addresses, commits // 2, seed, turns=lock))
    began = time.monotonic()
    with bench.befalling(faults_of_chance(seed)):
        writers = [processes.Process(target=store_writers.write, args=(one,)) for one in orders]
        for one in writers:
            one.start()
        for one in writers:
            one.join()
    assert [one.exitcode for one in writers] == [0, 0]
    seconds = time.monotonic() - began
    requests = [one for one in bench.requests if OF_TARGETS in one.path]
    failed = sum(one.status in (0, 400, 403, 500, 503) for one in requests)
    tries = [one for each in orders for one in store_writers.tries_in(each.journal)]
    counts = store_writers.judge(bench.bucket, tries)
    judged = time.monotonic() - began - seconds
    publish(
        seed=seed,
        commits=len(tries),
        requests=len(requests),
        failed=failed,
        seconds=round(seconds, 1),
        seconds_to_judge=round(judged, 1),
        **counts,
    )
    assert counts["won"] > commits // 10 and counts["lost"] and counts["replaced"] and failed


def test_two_writers_tear_lose_and_overwrite_nothing_in_80_commits(
    bench: Bench, seed: str, publish: Callable[..., None], request: pytest.FixtureRequest
) -> None:
    on_moto = "moto" in request.node.name  # it has no lock around a conditional write: the writers take turns
    run_two_writers(bench, 40 if on_moto and radosgw_is_there() else 80, seed, publish, turns=on_moto)


@pytest.mark.stress
@pytest.mark.parametrize("s3_endpoint", ["radosgw"], indirect=True)
def test_two_writers_tear_lose_and_overwrite_nothing_in_10000_commits(
    bench: Bench, seed: str, publish: Callable[..., None]
) -> None:
    run_two_writers(bench, 10_000, seed, publish, turns=False)


# Killed writers.


HELD_UP = {"before": HANG, "after": LOST_AFTER_HANG}
killed = pytest.mark.parametrize(
    ("s3_endpoint", "when"),
    [(server, when) for when, fault in HELD_UP.items() for server in servers_for(fault)],
    indirect=["s3_endpoint"],
)


def kill_when_held_up(bench: Bench, orders: Orders, rule: Rule) -> None:
    """Start a writer, hold up the requests that a rule names, and kill it there."""
    orders.disk.mkdir()
    before = len(bench.requests)
    with bench.faults(rule):
        writer = processes.Process(target=store_writers.commit_once, args=(orders,))
        writer.start()
        assert writer.pid is not None

        def is_held_up() -> bool:
            assert writer.exitcode is None, f"ended with {writer.exitcode} on its own"
            return any(one.status == 0 for one in bench.requests[before:])

        wait_until(is_held_up, "a request is held up", patience_s=2 * PATIENCE_S)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert writer.exitcode == -signal.SIGKILL


@killed
def test_a_process_killed_at_any_request_of_a_commit_leaves_a_target_whole_or_absent(bench: Bench, when: str) -> None:
    fault = HELD_UP[when]
    for spared in range(5) if fault.applied else (0, 4):  # before one is as after the one before, but at both ends
        address = new_address()
        orders = Orders(bench.far, bench.disk / f"writer{spared}", (address,))
        kill_when_held_up(bench, orders, Rule(fault, path=OF_TARGETS, after=spared))
        if fault.applied and spared == 4:  # its record was put: that is a target
            sight, store = bench.bucket.look(address), bench.store(straight=True)
            assert sight is not None and store.inspect(address).state is State.COMPLETE
            (second,) = store.commit([finish(store, address)])
            assert not second.won and second.record.attempt == sight.attempt
            is_there(bench, address, sight.attempt)
        else:
            next_attempt_makes(bench, address)


@killed
@pytest.mark.parametrize(
    ("kind", "spared"),
    [(Kind.MULTIPART_CREATE, 0), (Kind.MULTIPART_PART, 1), (Kind.MULTIPART_COMPLETE, 0)],
    ids=["at-the-beginning", "in-the-middle", "at-the-end"],
)
def test_a_process_killed_in_an_upload_leaves_no_target(bench: Bench, kind: Kind, spared: int, when: str) -> None:
    address = new_address()
    orders = Orders(bench.far, bench.disk / "writer", (address,), size=2 * PART, part=PART)
    kill_when_held_up(bench, orders, Rule(HELD_UP[when], kinds=(kind,), after=spared))
    next_attempt_makes(bench, address)
