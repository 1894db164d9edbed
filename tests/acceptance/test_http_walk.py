"""datanectar's own walk over HTTP, step by step: POST to the task, ask `status_url`, read `resource_url`."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
import urllib.parse
from pathlib import Path

import pytest
import requests

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "servers")]
pytest_plugins = ["s3_fixtures"]
pytest.register_assert_rewrite("s3_cloud", "nectar_server")

from nectar_server import serving  # noqa: E402
from s3_cloud import machine_with_bucket  # noqa: E402

LIMIT_S = 60.0
TASK = "chains/testchains/hello_luigiworld_chain/TestS3Task"
SPELLINGS = ("testchains/TestS3Task", "testchains/hello_luigiworld_chain/TestS3Task")


@pytest.fixture(scope="module")
def server(shipped):
    """A server with the shipped chains, and with keys made as datanectar made them."""
    with serving(shipped, NECTAR_IDENTITY="datanectar") as running:
        yield running


@pytest.fixture(scope="module")
def session(server):
    """A client to which the server is at the address that datanectar's page has."""
    with requests.Session() as client:
        client.trust_env = False
        client.proxies = {"http": server.url}
        yield client


def statuses(client, status_url):
    """Yield what `status_url` says, as often as somebody asks who waits for the end."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        answer = client.get(status_url)
        assert (answer.status_code, answer.json()["message"], answer.json()["status"]) == (200, "success", 200)
        yield answer.json()["data"]
        if answer.json()["data"]["job_status"] != "RUNNING":
            return
    raise AssertionError("it is still running")


def test_a_post_is_answered_as_datanectar_answered_it(session):
    answer = session.post("http://localhost:5000/api/chains/testchains/TestS3Task")
    status_url = f"http://localhost:5000/api/chainstatus?chain={TASK}/b226f1826734303ca9d39d79f960b367/out.txt"
    assert answer.status_code == 200
    told = answer.json()
    assert (told["message"], told["status"]) == ("success", 200)
    assert (told["data"]["status_url"], told["data"]["expires_in"]) == (status_url, 600)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_status_leads_from_running_to_the_bytes(session, server, spelling):
    day = f"2016-06-{10 + SPELLINGS.index(spelling)}"
    asked = session.post(f"http://localhost:5000/api/chains/{spelling}", params={"day": day})
    *before, last = statuses(session, json.loads(asked.text)["data"]["status_url"])
    for status in before:
        told = {name: status[name] for name in ("job_status", "resource_url", "expires_in")}
        assert told == {"job_status": "RUNNING", "resource_url": None, "expires_in": None}
    assert last["job_status"] == "DONE"
    resource = session.get(last["resource_url"])
    assert resource.text == f"Hello, Luigi world of {day[-2:]} June 2016!\n"
    assert resource.headers["Content-Type"] == "text/plain; charset=utf-8"
    target = server.root / "local_targets" / asked.json()["data"]["target"]
    assert re.fullmatch(rf"{TASK}/[0-9a-f]{{32}}", asked.json()["data"]["target"])
    assert (target / "out.txt").read_bytes() == resource.content
    assert json.loads((target / "params.txt").read_text("utf-8")) == {"day": day}


def test_both_spellings_are_one_task(session):
    first, second = (session.post(f"http://localhost:5000/api/chains/{spelling}").json() for spelling in SPELLINGS)
    assert first["data"]["target"] == second["data"]["target"]


def test_in_a_bucket_the_resource_is_a_signed_link_to_it(shipped, moto, tmp_path, monkeypatch):
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    project = type(shipped)(tmp_path / "project")
    shutil.copytree(shipped.root / "chains", project.root / "chains", dirs_exist_ok=True)
    cloud = machine_with_bucket(project, moto)
    with serving(project, **cloud.variables) as server:
        asked = requests.post(f"{server.url}/api/chains/testchains/TestS3Task").json()["data"]
        *_, last = statuses(requests, asked["status_url"])
    assert (last["job_status"], last["expires_in"]) == ("DONE", 600)
    link = urllib.parse.urlsplit(last["resource_url"])
    assert f"{link.scheme}://{link.netloc}" == moto
    assert link.path == f"/{cloud.bucket}/{asked['target']}/out.txt"
    query = urllib.parse.parse_qs(link.query)
    assert query.get("X-Amz-Expires") == ["600"] or 590 <= int(query["Expires"][0]) - time.time() <= 600
    assert requests.get(last["resource_url"]).text == "Hello, Luigi world of 03 June 2016!\n"
    kept = {name for name in cloud.names() if name.startswith(asked["target"])}
    files = ("out.txt", "params.txt", "log/stdout.log", "log/stderr.log", "record.json")
    assert kept == {f"{asked['target']}/{name}" for name in files}
    assert not (project.root / "local_targets").exists()
