"""The description of the routes is valid, and the server does what it says, whatever is made up from it."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from echo_project import make_project
from nectar_server import NectarServer, serving
from openapi_spec_validator import OpenAPIV31SpecValidator
from web_answers import check_headers, check_well

SHORT_S, LONG_S = 25, 600  #: for which requests are made up
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[NectarServer]:
    """A server that lets few runs wait, so that a flood of requests begins no flood of processes."""
    root = make_project(tmp_path / "project")
    with serving(root, "--runs", "1", NECTAR_SERVE_WAITING="20") as started:
        assert started.run("web/echo_chain/EchoTask")["state"] == "SUCCESS"
        yield started


def test_the_description_is_valid(server: NectarServer) -> None:
    reply = server.get("/api/openapi.json")
    check_headers(reply)
    OpenAPIV31SpecValidator(reply.json).validate()


def test_every_task_has_a_route_with_the_types_of_its_parameters(server: NectarServer) -> None:
    paths = server.get("/api/openapi.json").json["paths"]
    for task in ("EchoTask", "KindsTask", "LoginTask", "FailTask"):
        for verb in ("chains", "plan", "graph"):
            assert f"/api/{verb}/web/echo_chain/{task}" in paths
    query = paths["/api/chains/web/echo_chain/KindsTask"]["post"]["parameters"]
    types = {one["name"]: one["schema"]["type"] for one in query if one["in"] == "query" and "schema" in one}
    assert types == {"count": "integer", "share": "number", "loud": "boolean", "day": "string", "size": "string"}


def made_up_requests(server: NectarServer, folder: Path, seconds: int, seed: int, phases: str) -> str:
    """Send what schemathesis makes up, for so long, and return what it says of the answers."""
    words = ["--max-time", str(seconds), "--seed", str(seed), "--phases", phases, "--request-timeout", "60"]
    # A parameter may stand in the query or in the body, which OpenAPI cannot say: valid parts can make a bad whole.
    words += ["--continue-on-failure", "--exclude-checks", "positive_data_acceptance", "--no-color"]
    command = [str(SCHEMATHESIS), "run", f"{server.url}/api/openapi.json", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds + 120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    ("seconds", "phases"),
    [
        pytest.param(SHORT_S, "coverage,fuzzing", id="short"),
        pytest.param(LONG_S, "examples,coverage,fuzzing,stateful", id="long", marks=pytest.mark.stress),
    ],
)
def test_requests_made_up_from_it_are_answered_as_it_says(
    busy: NectarServer,
    tmp_path: Path,
    chance: random.Random,
    publish: Callable[..., None],
    seconds: int,
    phases: str,
) -> None:
    seed = chance.randrange(10**9)
    said = made_up_requests(busy, tmp_path, seconds, seed, phases)
    publish(seed=seed, requests=re.findall(r"(\d+) generated", said))
    check_well(busy)
    assert " ERROR " not in busy.log, busy.log
