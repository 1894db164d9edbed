"""Thousands of targets in a bucket far away: made, found again in few requests, and made to the end after a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "servers")]
pytest.importorskip("boto3", reason="boto3 is not here: pip install boto3")
pytest_plugins = ["s3_fixtures"]
pytest.register_assert_rewrite("s3_cloud")

from guard import wait_until  # noqa: E402
from s3_chains import SCALE  # noqa: E402
from s3_cloud import machine_with_bucket  # noqa: E402
from s3_proxy import S3Proxy  # noqa: E402

LATENCY_S = 0.025
PATIENCE_S = 1800.0
CHAIN = "etl/scale_chain"
#: what a run or a plan asks besides: about the root, what a failed attempt left, and whether recipes are kept
BESIDES = 8
MOST_IN_GROUP = 128  #: attempts that a worker commits together, at most
MANY = [400, pytest.param(5_000, marks=pytest.mark.stress)]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """Hide this machine's own AWS settings."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def far(project, request, count):
    """A project and its bucket, 25 ms away; the many on radosgw where it is installed, as moto is slow with them."""
    from s3_radosgw import radosgw_is_there

    slow = count < 1000 or not radosgw_is_there()
    server = request.getfixturevalue("moto") if slow else request.getfixturevalue("radosgw").endpoint
    project.chain(CHAIN, SCALE)
    with S3Proxy(server, latency_s=LATENCY_S) as proxy:
        yield machine_with_bucket(project, server).elsewhere(project.root, proxy.endpoint), proxy


def words(count):
    return ("run", "--json", "--workers", "2", CHAIN, "SinkTask", "--count", str(count))


def run(cloud, count):
    """Run to the end, which must be good, and return how many tasks ended in each way."""
    with cloud.started(*words(count)) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])["counts"]


def records(cloud):
    """Return the ETag of each record in force."""
    pages = cloud.s3.get_paginator("list_objects_v2").paginate(Bucket=cloud.bucket)
    objects = [one for page in pages for one in page.get("Contents", [])]
    return {one["Key"]: one["ETag"] for one in objects if re.search(r"Task/[0-9a-f]{32}/record\.json$", one["Key"])}


def kill_half_way(cloud, proxy, count):
    """Begin a run, and kill it when half of the tasks have ended."""
    with cloud.started(*words(count)) as process:
        ended = 0
        while ended < count // 2:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            event = json.loads(line)
            assert event.get("status") in (None, "succeeded"), event.get("error")
            ended += event["event"] == "step ended"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not proxy.connections, "its workers end with it")


def leases(cloud):
    """Return the keys of the targets that somebody has, or had, a lease on."""
    return {name.rpartition("/")[2] for name in cloud.names() if "/.leases/" in name}


def looks_at_leases(requests):
    return sum(one.method == "GET" and "/.leases/" in one.path for one in requests)


@pytest.mark.parametrize("count", MANY)
def test_a_run_that_was_killed_half_way_is_resumed_and_a_finished_one_costs_next_to_nothing(
    far, count, record_property
):
    cloud, proxy = far
    began = time.perf_counter()
    kill_half_way(cloud, proxy, count)
    there = records(cloud)
    assert count // 2 <= len(there) < count
    left = leases(cloud)
    assert len(left) <= 2 * MOST_IN_GROUP
    record_property("half", f"{len(there)} in {time.perf_counter() - began:.1f} s, {len(proxy.requests)} requests")

    began, before = time.perf_counter(), len(proxy.requests)
    counts = run(cloud, count)
    assert (counts["succeeded"], counts["skipped"]) == (count + 1 - len(there), len(there))
    # Whoever waits for the end of a lease looks at it again and again; that these were killed is seen at once.
    assert looks_at_leases(proxy.requests[before:]) <= len(left)
    # What was published before its lease was given back needs nothing more, and so nobody looks at that lease.
    assert leases(cloud) <= {name.split("/")[-2] for name in there}
    record_property("resumed", f"{time.perf_counter() - began:.1f} s, {len(proxy.requests) - before} requests")
    after = records(cloud)
    assert len(after) == count + 1
    assert {name: after[name] for name in there} == there
    objects = len(cloud.names())  # also of those that died without a record
    assert 5 * (count + 1) <= objects < 5 * (count + 1) + 4 * 2 * MOST_IN_GROUP

    began, before = time.perf_counter(), len(proxy.requests)
    assert run(cloud, count)["skipped"] == 1
    assert len(proxy.requests) - before <= BESIDES
    record_property("again", f"{time.perf_counter() - began:.1f} s, {len(proxy.requests) - before} requests")
    began, before = time.perf_counter(), len(proxy.requests)
    plan = cloud.nectar("plan", "--json", CHAIN, "SinkTask", "--count", str(count), "--turn", "1").json
    assert (plan["counts"]["run"], plan["counts"]["skip"]) == (1, count)
    assert len(proxy.requests) - before <= objects / 1000 + BESIDES
    record_property("planned", f"{time.perf_counter() - began:.1f} s, {len(proxy.requests) - before} requests")

    near = cloud.elsewhere(cloud.project.root, cloud.s3.meta.endpoint_url)
    with near.started("verify", "--json") as verifying:
        found, _ = verifying.communicate(timeout=PATIENCE_S)
    assert [one["problem"] for one in json.loads(found)] == [None] * (count + 1)


@pytest.mark.stress
@pytest.mark.parametrize("count", [5_000])
def test_five_thousand_targets_are_made_from_nothing(far, count, record_property):
    cloud, proxy = far
    began = time.perf_counter()
    assert run(cloud, count)["succeeded"] == count + 1
    record_property("cold", f"{time.perf_counter() - began:.1f} s, {len(proxy.requests)} requests")
    assert len(records(cloud)) == count + 1
