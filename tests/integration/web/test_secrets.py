"""What a private parameter is given is refused before anybody can write it down, and written down nowhere."""

from __future__ import annotations

import secrets
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from echo_project import make_project
from nectar_server import NectarServer, serving
from web_answers import check_refusal, check_well

CANARIES = 20

#: tasks that would tell a secret as soon as they have it
TELLING = '''
import logging
import sys

import luigi
from luigi.parameter import ParameterVisibility

import nectar


class PinParameter(luigi.IntParameter):
    def parse(self, text):
        print(f"parsing {text}", file=sys.stderr)
        logging.getLogger("chain").error("parsing %s", text)
        return super().parse(text)


class SetupTask(nectar.Task):
    """Repeats a secret where it is made."""

    password = luigi.Parameter(default="", visibility=ParameterVisibility.PRIVATE)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.password:
            raise ValueError(f"the password is {self.password}")

    def run(self):
        self.dump("set up")


class NeedsTask(nectar.Task):
    """Repeats a secret where it says what it needs."""

    password = luigi.Parameter(default="", visibility=ParameterVisibility.PRIVATE)
    pin = PinParameter(default=0, visibility=ParameterVisibility.PRIVATE)

    def requires(self):
        if self.password:
            raise ValueError(f"the password is {self.password}")
        return []

    def run(self):
        self.dump("needed")
'''


@pytest.fixture
def telling(tmp_path: Path) -> Iterator[NectarServer]:
    """A server for tasks that would tell secrets."""
    root = make_project(tmp_path / "project")
    (root / "chains" / "web" / "telling_chain.py").write_text(textwrap.dedent(TELLING), encoding="utf-8")
    with serving(root) as started:
        yield started


def test_a_private_parameter_is_refused_and_leaves_no_trace(telling: NectarServer) -> None:
    places = {
        "echo_chain/LoginTask": "password",
        "telling_chain/SetupTask": "password",
        "telling_chain/NeedsTask": "password",
        "telling_chain/NeedsTask?": "pin",
    }
    canaries, answers = [], []
    for _ in range(CANARIES // 4):
        for place, name in places.items():
            task, canary = place.rstrip("?"), f"canary-{secrets.token_hex(12)}"
            canaries.append(canary)
            replies = [
                telling.ask("POST", f"/api/chains/web/{task}", {name: canary}),
                telling.ask("POST", f"/api/chains/web/{task}?{name}={canary}"),
                telling.ask("POST", f"/api/chains/web/{task}", {name: canary}, {"Idempotency-Key": f"again {task}"}),
                telling.get(f"/api/plan/web/{task}?{name}={canary}"),
                telling.get(f"/api/graph/web/{task}?{name}={canary}"),
            ]
            for reply in replies:
                document = check_refusal(reply, 400, code="invalid-parameters")
                assert [one["field"] for one in document["errors"]] == [name]
                assert "private" in document["message"]
            answers += [reply.raw for reply in replies]
    for task in ("echo_chain/LoginTask", "telling_chain/SetupTask", "telling_chain/NeedsTask"):
        assert telling.run(f"web/{task}")["state"] == "SUCCESS"  # with its default
    assert len(canaries) == CANARIES
    answers += [telling.get(path).raw for path in ("/api/runs", "/api/chains", "/api/openapi.json", "/metrics")]
    answers += [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in telling.processes()]
    check_well(telling)
    telling.end()
    answers.append(telling.log.encode("utf-8"))
    answers += [place.read_bytes() for place in telling.root.rglob("*") if place.is_file()]
    told = [canary for canary in canaries if any(canary.encode("ascii") in answer for answer in answers)]
    assert not told


def test_a_private_parameter_is_not_offered(server: NectarServer) -> None:
    reply = server.get("/api/openapi.json")
    assert b'"code"' in reply.raw and b"password" not in reply.raw
    (task,) = [one for one in server.get("/api/chains/web/echo_chain").data["tasks"] if one["task_name"] == "LoginTask"]
    assert [(one["name"], one["visibility"]) for one in task["parameters"]] == [
        ("password", "private"),
        ("code", "hidden"),
    ]


def test_the_values_of_a_failed_run_are_told_only_as_data(server: NectarServer) -> None:
    told = server.run("web/echo_chain/FailTask", {"value": "<b>not a page</b>"})
    assert told["state"] == "FAILURE"
    reply = server.get(f"/api/chainstatus?chain={told['roots'][0]['path']}/out.txt")
    assert reply.data["job_status"] == "FAILED"
    assert "ValueError: <b>not a page</b>" in reply.data["error"]["traceback"]
    assert reply.headers["Content-Type"] == "application/json"
