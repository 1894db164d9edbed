"""`nectar gc` in a bucket: what is kept, what goes, and what is being written or read."""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "servers")]
pytest.importorskip("boto3", reason="boto3 is not here: pip install boto3")
pytest_plugins = ["s3_fixtures"]
pytest.register_assert_rewrite("s3_cloud")

from s3_chains import HELD, MANY, MIXED, PINNED, WORD  # noqa: E402
from s3_client import client, make_bucket  # noqa: E402
from s3_cloud import LIMIT_S, Cloud, statuses  # noqa: E402
from s3_faults import FORBIDDEN, Plan, Rule  # noqa: E402
from s3_proxy import S3Proxy  # noqa: E402

from nectar.address import Address  # noqa: E402
from nectar.stores.s3.cache import ObjectCache  # noqa: E402
from nectar.stores.s3.client import S3Client, S3Config  # noqa: E402
from nectar.stores.s3.store import S3Store  # noqa: E402

MIXED_CHAIN, WORD_CHAIN = "etl/mixed_chain", "etl/word_chain"
NOW = ("--older", "0m")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """Hide this machine's own AWS settings."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)


@pytest.fixture(params=["moto", "radosgw"])
def either(request, project):
    """A project whose targets go to a bucket of its own, on each server."""
    server = request.getfixturevalue(request.param)
    return machine(project, server if request.param == "moto" else server.endpoint)


@pytest.fixture
def cloud(project, moto):
    """The same on moto alone."""
    return machine(project, moto)


def machine(project, endpoint):
    raw, name = client(endpoint), f"p-{secrets.token_hex(6)}"
    made = Cloud(project, endpoint, raw, name)
    make_bucket(raw, made.bucket)
    return made


def targets(cloud):
    """Return the path of each target that has a record."""
    return {name.removesuffix("/record.json") for name in cloud.kept() if name.endswith("/record.json")}


def open_store(cloud, folder, monkeypatch):
    """Return the bucket as a store of this process, which stands for another machine."""
    for name, value in cloud.variables.items():
        monkeypatch.setenv(name, value)
    config = S3Config(endpoint=cloud.endpoint)
    return S3Store(S3Client(f"s3://{cloud.bucket}", config), ObjectCache(str(folder / "cache"), 1 << 20), str(folder))


def test_what_a_kept_task_was_made_from_stays_in_the_bucket_and_the_rest_goes(either, tmp_path):
    either.project.chain(MIXED_CHAIN, MIXED)
    either.end(MIXED_CHAIN, "LastTask")
    either.end("etl/daily_chain", "ReportTask")
    needed = {path for path in targets(either) if "/mixed_chain/" in path}
    before = either.kept()
    other = either.elsewhere(tmp_path / "other")
    listed = other.nectar("gc", "--keep", f"{MIXED_CHAIN}/LastTask", *NOW)
    assert (listed.code, "nothing was deleted" in listed.out.splitlines()[-1]) == (0, True)
    assert either.kept() == before
    done = other.nectar("gc", "--json", "--yes", "--keep", f"{MIXED_CHAIN}/LastTask", *NOW)
    assert done.code == 0, done
    assert {(one["kind"], one["outcome"]) for one in done.json["garbage"]} == {("unneeded", "deleted")}
    sizes = {one["path"]: one["size"] for one in done.json["garbage"]}
    gone = {name: raw for name, raw in before.items() if "/daily_chain/" in name}
    assert sizes == {path: sum(len(raw) for name, raw in gone.items() if name.startswith(path)) for path in sizes}
    assert either.kept() == {name: raw for name, raw in before.items() if name not in gone}
    assert targets(either) == needed
    assert not [name for name in either.names() if ".users" in name or ".leases" in name]
    again = either.nectar("run", MIXED_CHAIN, "LastTask")
    assert (again.code, "nothing to do" in again.err) == (0, True)
    assert set(statuses(either.end("etl/daily_chain", "ReportTask")).values()) == {"succeeded"}
    assert {name for name in either.kept() if "/daily_chain/" in name} == gone.keys()
    assert either.nectar("verify").code == 0


def test_nothing_fresh_is_listed_unless_asked_for(cloud):
    cloud.end("etl/daily_chain", "ReportTask")
    assert cloud.nectar("gc", "--json").json["garbage"] == []
    assert len(cloud.nectar("gc", "--json", *NOW).json["garbage"]) == 2
    assert cloud.nectar("gc", "--json", *NOW, "--larger", "1MB").json["garbage"] == []


def test_what_was_replaced_goes_with_its_objects_and_what_is_in_force_stays(either):
    either.project.chain(WORD_CHAIN, WORD)
    word = (WORD_CHAIN, "WordTask")
    either.end(*word, WORD="one" * 1000)
    assert either.nectar("run", "--force", *word, WORD="three").code == 0
    [one] = either.nectar("gc", "--json", "--keep", WORD_CHAIN, *NOW).json["garbage"]
    assert one["kind"] == "quarantined" and one["size"] > 3000
    done = either.nectar("gc", "--yes", "--keep", WORD_CHAIN, *NOW)
    assert done.code == 0, done
    assert b"one" * 1000 not in [either.get(name) for name in either.names()]
    assert not [name for name in either.names() if "/.quarantine/" in name]
    assert Path(either.find(*word)["outputs"]["out.txt"]["path"]).read_text() == "three"
    assert either.nectar("verify").code == 0


def test_what_verify_put_aside_and_what_has_no_record_goes(cloud):
    cloud.end("etl/daily_chain", "ReportTask")
    cloud.put(f"{cloud.only_target('LoadTask')}/out.txt", b"DAY 1\n")
    report = cloud.only_target("ReportTask")
    assert cloud.nectar("verify", "etl/daily_chain").code == 1
    leftover = f"{report.rpartition('/')[0]}/{'0' * 32}"
    cloud.put(f"{leftover}/out.txt", b"left")
    found = cloud.nectar("gc", "--json", "--yes", "--keep", report, *NOW).json
    kinds = {one["kind"] for one in found["garbage"]}
    assert kinds >= {"broken", "quarantined"} and {one["outcome"] for one in found["garbage"]} == {"deleted"}
    assert targets(cloud) == {report}
    assert {name.rpartition("/")[0].removesuffix("/log") for name in cloud.kept()} == {report}


def test_what_a_newer_nectar_made_stays(cloud):
    cloud.end("etl/daily_chain", "ReportTask")
    load, report = cloud.only_target("LoadTask"), cloud.only_target("ReportTask")
    raw = cloud.get(f"{load}/record.json").replace(b'"schema": 1', b'"schema": 99')
    cloud.put(f"{load}/record.json", raw)
    assert [one["path"] for one in cloud.nectar("gc", "--json", *NOW).json["garbage"]] == [report]
    cloud.nectar("gc", "--yes", "--keep", report, *NOW).failed(1, "schema 99", "update Nectar")
    assert targets(cloud) == {load, report}


def test_targets_of_s3_tasks_lead_to_those_on_the_local_disk(cloud):
    cloud.project.chain("etl/pinned_chain", PINNED)
    local = {"NECTAR_STORE": "local_targets"}
    assert cloud.nectar("run", "etl/pinned_chain", "LastTask", **local).code == 0
    found = cloud.nectar("gc", "--json", "--keep", "etl/pinned_chain/LastTask", *NOW, **local)
    assert (found.json["garbage"], found.json["needed"]) == ([], 3)


# What is being written or read


def test_nothing_is_deleted_while_another_machine_has_a_run_at_work(cloud, tmp_path):
    cloud.end("etl/daily_chain", "ReportTask")
    before = targets(cloud)
    cloud.project.chain("etl/held_chain", HELD)
    wait_for_the_task = cloud.project.bell()
    os.mkfifo(cloud.project.root / "go")
    words = ("gc", "--yes", "--keep", "etl/daily_chain/LoadTask", *NOW)
    other = cloud.elsewhere(tmp_path / "other")
    with cloud.started("run", "etl/held_chain", "HeldTask") as process:
        wait_for_the_task()
        assert len([name for name in cloud.names() if name.startswith(".users/")]) == 1
        other.nectar(*words).failed(5, "a run is at work", "nothing is deleted")
        assert targets(cloud) == before
        (cloud.project.root / "go").write_text("held")
        out, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, (out, err)
    assert not [name for name in cloud.names() if name.startswith(".users/")]
    assert other.nectar(*words).code == 0
    assert {path.split("/")[3] for path in targets(cloud)} == {"LoadTask"}


def test_a_run_that_begins_while_targets_are_deleted_waits(cloud, tmp_path, monkeypatch):
    alone = open_store(cloud, tmp_path / "alone", monkeypatch).alone()
    assert alone is not None
    with S3Proxy(cloud.endpoint) as proxy:
        other = cloud.elsewhere(tmp_path / "other", proxy.endpoint)
        with other.started("run", "etl/daily_chain", "ReportTask") as process:
            deadline = time.monotonic() + LIMIT_S
            while sum("/.users/alone" in one.path for one in tuple(proxy.requests)) < 3:
                assert time.monotonic() < deadline
                os.sched_yield()
            assert targets(cloud) == set()
            alone.release()
            out, err = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0, (out, err)
    assert len(targets(cloud)) == 2


def test_a_target_that_another_machine_is_making_stays(cloud, tmp_path, monkeypatch):
    cloud.end("etl/daily_chain", "ReportTask")
    load, report = cloud.only_target("LoadTask"), cloud.only_target("ReportTask")
    lease = open_store(cloud, tmp_path / "lease", monkeypatch).lease(Address.parse(report))
    assert lease is not None
    [one] = cloud.nectar("gc", "--json", "--yes", "--keep", load, *NOW).json["garbage"]
    assert (one["path"], one["outcome"]) == (report, "being made")
    assert targets(cloud) == {load, report}
    lease.release()


def test_who_may_only_read_runs_what_is_complete_and_is_told_that_nobody_hears_of_it(cloud, tmp_path):
    cloud.end("etl/daily_chain", "ReportTask")
    with S3Proxy(cloud.endpoint, Plan((Rule(FORBIDDEN, methods=("PUT", "DELETE")),))) as proxy:
        reader = cloud.elsewhere(tmp_path / "reader", proxy.endpoint)
        run = reader.nectar("run", "etl/daily_chain", "ReportTask")
        assert (run.code, "nothing to do" in run.err, "nobody hears" in run.err) == (0, True, True), run
        assert reader.nectar("verify").code == 0
        words = ("gc", "--yes", "--keep", "etl/daily_chain/LoadTask", *NOW)
        reader.nectar(*words).failed(5, "do not allow")
    assert len(targets(cloud)) == 2


# What it costs


def test_a_run_says_that_it_uses_the_bucket_in_three_requests(cloud):
    with S3Proxy(cloud.endpoint) as proxy:
        near = cloud.elsewhere(cloud.project.root, proxy.endpoint)
        near.end("etl/daily_chain", "ReportTask")
        used = [(one.method, one.path.partition("?")[0]) for one in proxy.requests if "/.users/" in one.path]
    assert [method for method, _ in used] == ["PUT", "GET", "DELETE"]
    assert used[0][1] == used[2][1]
    assert re.search(r"/\.users/[0-9a-f]{16}$", used[0][1]) and used[1][1].endswith("/.users/alone")


def test_a_hundred_targets_are_listed_in_few_requests_besides_their_records(cloud, tmp_path):
    cloud.project.chain("etl/many_chain", MANY)
    made = cloud.project.nectar("run", "--quiet", "etl/many_chain", "AllTask", "--count", "100")
    assert made.code == 0, made
    cloud.put_all({name: raw for name, raw in cloud.project.kept().items() if name.startswith("chains/")})
    with S3Proxy(cloud.endpoint) as proxy:
        other = cloud.elsewhere(tmp_path / "other", proxy.endpoint)
        assert len(other.nectar("gc", "--json", *NOW).json["garbage"]) == 100
        assert len(proxy.requests) <= 110, proxy.counts
        asked = len(proxy.requests)
        assert len(other.nectar("gc", "--json", *NOW).json["garbage"]) == 100
        assert len(proxy.requests) - asked <= 10, "records are read again"
