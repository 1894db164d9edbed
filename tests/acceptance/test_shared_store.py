"""Colleagues who share a bucket: what one has made the other does not make again, and nobody's new targets get lost."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "servers")]
pytest_plugins = ["s3_fixtures"]
pytest.register_assert_rewrite("s3_cloud")

from s3_client import client, make_bucket  # noqa: E402
from s3_cloud import Cloud, statuses  # noqa: E402

TASK = ("etl/daily_chain", "ReportTask")


@pytest.fixture
def cloud(project, moto, monkeypatch):
    """The machine of the one who fills the bucket."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    raw, name = client(moto), f"p-{secrets.token_hex(6)}"
    made = Cloud(project, moto, raw, name)
    make_bucket(raw, made.bucket)
    return made


def colleague(cloud, folder, *, publish="own"):
    """Return how a colleague runs commands: with a local store of their own over the bucket."""
    other = cloud.elsewhere(folder)

    def nectar(*words):
        variables = {"ENV": "", "NECTAR_SHARED": f"s3://{cloud.bucket}", "NECTAR_PUBLISH": publish}
        return other.nectar(*words, **variables)

    return other.project, nectar


def test_a_colleagues_targets_are_used_and_new_ones_stay_at_home(cloud, tmp_path):
    cloud.end(*TASK)
    before = cloud.kept()
    home, nectar = colleague(cloud, tmp_path / "home")
    plan = nectar("plan", "--json", *TASK, "--title", "mine").json
    assert (plan["counts"]["skip"], plan["counts"]["run"]) == (1, 1)
    end = nectar("run", "--json", *TASK, "--title", "mine").lines[-1]
    assert statuses(end) == {"LoadTask": "skipped", "ReportTask": "succeeded"}
    assert cloud.kept() == before
    [made] = {name.split("/")[3] for name in home.kept() if name.endswith("/record.json")}
    assert made == "ReportTask"
    [report] = [raw for name, raw in home.kept().items() if name.endswith("/out.txt")]
    assert report == b"mine: day 1\n"
    assert "nothing to do" in nectar("run", *TASK, "--title", "mine").err
    assert "nothing to do" in nectar("run", *TASK).err


def test_status_says_from_where_each_target_comes(cloud, tmp_path):
    cloud.end(*TASK)
    home, nectar = colleague(cloud, tmp_path / "home")
    nectar("run", *TASK, "--title", "mine")
    rows = nectar("status", "--json").json["tasks"]
    local, shared = home.store.as_uri(), f"s3://{cloud.bucket}"
    assert [(one["store"], one["task"].split("/")[-1], one["complete"]) for one in rows] == [
        (local, "ReportTask", 1),
        (shared, "LoadTask", 1),
        (shared, "ReportTask", 1),
    ]
    table = nectar("status").out
    assert local in table and shared in table


def test_show_path_and_logs_read_through(cloud, tmp_path):
    cloud.end(*TASK)
    _, nectar = colleague(cloud, tmp_path / "home")
    target = cloud.only_target("LoadTask")
    shown = nectar("show", "--json", target).json
    assert (shown["state"], shown["urls"]["out.txt"]) == ("complete", f"s3://{cloud.bucket}/{target}/out.txt")
    assert nectar("show", "--json", f"s3://{cloud.bucket}/{target}/out.txt").json["path"] == target
    assert nectar("logs", target).code == 0


def test_with_both_a_new_target_is_a_colleagues_at_once(cloud, tmp_path):
    _, first = colleague(cloud, tmp_path / "first", publish="both")
    home, second = colleague(cloud, tmp_path / "second", publish="both")
    assert first("run", *TASK).code == 0
    assert statuses(second("run", "--json", *TASK).lines[-1])["ReportTask"] == "skipped"
    assert home.kept().keys() <= {".locks"}
    assert {name.split("/")[3] for name in cloud.kept()} == {"LoadTask", "ReportTask"}
    assert not [name for name in cloud.names() if ".leases" in name]


def test_bytes_that_were_changed_in_the_bucket_are_not_used(cloud, tmp_path):
    cloud.end(*TASK)
    target = cloud.only_target("LoadTask")
    cloud.put(f"{target}/out.txt", b"day 2\n")
    _, nectar = colleague(cloud, tmp_path / "home")
    failed = nectar("run", "--json", *TASK, "--title", "mine").lines[-1]
    assert statuses(failed)["ReportTask"] == "failed"
    assert nectar("verify", target).code == 1
    end = nectar("run", "--json", *TASK, "--title", "mine").lines[-1]
    assert statuses(end) == {"LoadTask": "succeeded", "ReportTask": "succeeded"}


def test_verify_leaves_the_shared_store_to_those_who_write_there(cloud, tmp_path):
    cloud.end(*TASK)
    _, nectar = colleague(cloud, tmp_path / "home")
    assert json.loads(nectar("verify", "--json").out) == []


def test_settings_that_cannot_be_are_named_all_at_once(cloud, tmp_path):
    home, _ = colleague(cloud, tmp_path / "home")
    answer = home.nectar("status", NECTAR_SHARED="local_targets", NECTAR_PUBLISH="neither", NECTAR_S3_RETRIES="many")
    answer.failed(2, "`shared` is the store itself", "`publish` is `neither`", "`retries` is `many`")
    home.nectar("status", NECTAR_SHARED="s3://bucket/../other").failed(2, "`s3://bucket/../other` has `.` or `..`")


def test_a_shared_store_that_cannot_be_reached_is_an_error_and_nothing_runs(cloud, tmp_path):
    home, nectar = colleague(cloud, tmp_path / "home")
    cloud.s3.delete_bucket(Bucket=cloud.bucket)
    answer = nectar("run", *TASK)
    assert answer.code == 5
    assert not home.store.exists()
