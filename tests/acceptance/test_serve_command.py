"""`nectar serve` and `nectar token` as a newcomer meets them: what they say, exit codes, secrets shown once."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

sys.path[:0] = [str(Path(__file__).parents[1] / "servers")]
pytest.register_assert_rewrite("nectar_server")

from nectar_server import eventually, serving  # noqa: E402

LIMIT_S = 60.0
SECRET = re.compile(r"nectar_[\w-]{43}")
HELD = """
import pathlib
class HeldTask(nectar.Task):
    def run(self):
        pathlib.Path("bell").write_text("ding")
        while not pathlib.Path("go").exists():
            pathlib.Path("go").parent.exists()
        self.dump("held")
"""
SECRETIVE = """
class SecretiveTask(nectar.Task):
    password = luigi.Parameter(default="canary-7", visibility=luigi.parameter.ParameterVisibility.PRIVATE)
    def run(self):
        self.dump(str(len(self.password)))
"""


@pytest.fixture(scope="module")
def tokens(pattern, tmp_path_factory):
    """A project with a token `reader` that may read; how it was made is in `made`."""
    project = pattern.copy(tmp_path_factory.mktemp("tokens") / "project")
    project.made = project.nectar("token", "create", "reader")
    return project


@dataclass(frozen=True)
class Held:
    """A server that a person started, and a run at work that ends when `go` is there."""

    process: subprocess.Popen[str]
    log: Path
    url: str
    run_id: str
    go: Path

    def get(self, path):
        return requests.get(f"{self.url}{path}", timeout=LIMIT_S)

    def waiting(self):
        """Ask the server to end, and return the line that it says to that."""
        self.process.send_signal(signal.SIGINT)
        return said(self.log, r"^waiting .*$")[0]


def said(log, pattern):
    """Wait until the server says something, and return what matches."""
    return eventually(lambda: re.search(pattern, log.read_text("utf-8"), re.MULTILINE), f"it says {pattern}")


@pytest.fixture
def held(project):
    project.chain("etl/held_chain", HELD)
    rung = project.bell()
    log = project.root / "server.log"
    variables = {"NECTAR_SERVE_DRAIN_S": "60"}
    with log.open("w") as file, project.started("serve", "--port", "0", variables=variables, stderr=file) as process:
        url = said(log, r"^serving (.*)/api/chains\n.*\n")[1]
        run_id = requests.post(f"{url}/api/chains/etl/held_chain/HeldTask", timeout=LIMIT_S).json()["data"]["run_id"]
        rung()
        yield Held(process, log, url, run_id, project.root / "go")
        (project.root / "go").touch()  # the run has a session of its own


def test_help_says_how_to_begin_and_how_to_end(made_project):
    told = made_project.nectar("serve", "--help")
    assert (told.code, told.err) == (0, "")
    for words in ("POST to", "Ctrl-C", "--host", "--port", "--runs", "default 5000", "default 127.0.0.1"):
        assert words in " ".join(told.out.split())
    told = made_project.nectar("token", "--help")
    assert told.code == 0
    assert "every request needs one" in told.out
    assert "..." not in told.out.partition("Commands:")[2], "a line of the help is cut off"
    for command in ("create", "list", "revoke"):
        assert made_project.nectar("token", command, "--help").code == 0


def test_it_says_where_it_answers_and_answers_there(made_project):
    with serving(made_project) as server:
        first, second, *_ = server.log.splitlines()
        assert first == f"serving {server.url}/api/chains"
        assert "Ctrl-C" in second
        assert server.get("/api/chains").status == 200
        assert server.get("/").data["chains"] == first.removeprefix("serving ")


def test_a_port_in_use_is_one_sentence_and_a_way_out(made_project):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = made_project.nectar("serve", "--port", port)
    answer.failed(2, f"`127.0.0.1`, port {port}", "address already in use", "--port")


def test_settings_that_cannot_be_are_named_all_at_once(made_project):
    made_project.nectar("serve", "--port", "65536").failed(2, "--port")
    wrong = {"PORT": "70000", "RUNS": "0", "WAITING": "-1", "DRAIN_S": "soon"}
    answer = made_project.nectar("serve", **{f"NECTAR_SERVE_{name}": value for name, value in wrong.items()})
    answer.failed(2, "NECTAR_*", *(f"`{name.lower()}` is `{value}`" for name, value in wrong.items()))


def test_without_a_folder_of_chains_it_says_where_to_begin(tmp_path, project):
    (tmp_path / "empty").mkdir()
    answer = project.nectar("serve", "--port", "0", NECTAR_PROJECT=str(tmp_path / "empty"))
    answer.failed(2, "no readable folder `chains`", "NECTAR_PROJECT")
    assert list((tmp_path / "empty").iterdir()) == []


def test_with_an_empty_folder_of_chains_it_serves_and_finds_chains_that_come_later(project):
    (project.root / "chains/etl/daily_chain.py").rename(project.root / "later.py")
    with serving(project) as server:
        assert server.get("/api/chains").data == {}
        (project.root / "later.py").rename(project.root / "chains/etl/daily_chain.py")
        assert [one["path"] for one in server.get("/api/chains").data["etl"]["chains"]] == ["etl/daily_chain"]


def test_an_address_that_others_can_reach_needs_a_token_and_names(project):
    answer = project.nectar("serve", "--host", "0.0.0.0", "--port", "0")
    answer.failed(2, "can be reached from other machines", "nectar token create", "allowed_hosts")
    assert project.nectar("token", "create", "me").code == 0
    answer = project.nectar("serve", "--host", "0.0.0.0", "--port", "0")
    answer.failed(2, "allowed_hosts")
    assert "token create" not in answer.err
    variables = {"NECTAR_SERVE_ALLOWED_HOSTS": "nectar.example.org"}
    with project.started(
        "serve", "--host", "0.0.0.0", "--port", "0", variables=variables, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr.readline().startswith("serving http://0.0.0.0:")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_server_without_runs_at_once_and_well(made_project, number):
    with made_project.started("serve", "--port", "0", stderr=subprocess.PIPE) as process:
        assert process.stderr.readline().startswith("serving ")
        process.send_signal(number)
        _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert "waiting" not in said
    assert "Traceback" not in said


def test_ctrl_c_waits_for_the_run_at_work_says_so_and_takes_no_more(held, project):
    assert held.waiting() == "waiting up to 60 s for 1 run at work; Ctrl-C again leaves that to the next server"
    eventually(lambda: held.get("/healthz").json()["data"]["state"] == "draining", "it drains")
    refused = requests.post(f"{held.url}/api/chains/etl/daily_chain/LoadTask?day=1", timeout=LIMIT_S)
    assert (refused.status_code, refused.json()["code"]) == (503, "server-busy")
    eventually(lambda: held.get(f"/api/runs/{held.run_id}").json()["data"]["state"] == "RUNNING", "the run goes on")
    held.go.touch()
    assert held.process.wait(LIMIT_S) == 0
    assert project.nectar("runs", held.run_id, "--json").json["state"] == "SUCCESS"


def test_a_second_ctrl_c_ends_it_at_once_and_the_next_server_looks_after_the_run(held, project):
    held.waiting()
    held.process.send_signal(signal.SIGINT)
    assert held.process.wait(LIMIT_S) == 0
    assert "Traceback" not in held.log.read_text("utf-8")
    with serving(project) as following:
        eventually(lambda: following.get(f"/api/runs/{held.run_id}").data["state"] == "RUNNING", "the run goes on")
        held.go.touch()
        assert following.ended(held.run_id)["state"] == "SUCCESS"


def test_a_secret_is_shown_once_and_kept_nowhere(tokens):
    assert tokens.made.code == 0
    assert SECRET.fullmatch(tokens.made.out.strip())
    assert "only time" in tokens.made.err
    secret = tokens.made.out.strip()
    assert secret not in tokens.nectar("token", "list").out
    assert secret not in tokens.nectar("token", "list", "--json").out
    kept = [place for place in tokens.root.rglob("*") if place.is_file()]
    assert kept
    assert not [place.name for place in kept if secret.encode() in place.read_bytes()]


def test_tokens_are_listed_with_what_they_allow(tokens):
    created = tokens.nectar("token", "create", "runner", "--scope", "run", "--json")
    assert (created.code, created.err) == (0, "")
    assert set(created.json) == {"name", "scopes", "created_at", "revoked_at", "token"}
    assert SECRET.fullmatch(created.json["token"])
    listed = {one["name"]: one for one in tokens.nectar("token", "list", "--json").json}
    assert listed["reader"]["scopes"] == ["read"]
    assert listed["runner"]["scopes"] == ["read", "run"]
    assert all("token" not in one and one["revoked_at"] is None for one in listed.values())
    lines = tokens.nectar("token", "list").out.splitlines()
    assert [line.split()[:3] for line in lines] == [["reader", "read", "made"], ["runner", "read+run", "made"]]


def test_mistakes_with_tokens_are_one_sentence_and_a_way_out(tokens):
    tokens.nectar("token", "create", "reader").failed(2, "another token `reader`", "another name")
    tokens.nectar("token", "create", " ").failed(2, "cannot be the name")
    tokens.nectar("token", "create", "x" * 101).failed(2, "up to 100 characters")
    tokens.nectar("token", "create", "x", "--scope", "all").failed(2, "'read', 'run'")
    tokens.nectar("token", "revoke", "nobody").failed(2, "no token `nobody`", "nectar token list")


def test_a_project_without_tokens_says_so(project):
    answer = project.nectar("token", "list")
    assert (answer.code, answer.out) == (0, "")
    assert "no tokens" in answer.err
    assert project.nectar("token", "list", "--json").json == []


def test_a_token_is_heeded_by_a_server_that_runs_as_soon_as_it_is_made_and_until_it_is_revoked(project):
    with serving(project) as server:
        assert server.get("/api/runs").status == 200
        secret = project.nectar("token", "create", "reader").out.strip()
        assert server.get("/api/runs").status == 401
        server.token = secret
        assert server.get("/api/runs").status == 200
        refused = server.post("/api/chains/etl/daily_chain/LoadTask", day=1)
        assert (refused.status, refused.json["code"]) == (403, "forbidden")
        assert project.nectar("token", "revoke", "reader").err == "`reader` is revoked\n"
        assert server.get("/api/runs").status == 401
        server.token = None
        assert server.get("/api/runs").status == 401
        assert server.get("/healthz").status == 200
        assert secret not in server.log


def test_behind_a_proxy_urls_have_the_scheme_that_it_names(project):
    forwarded = {"X-Forwarded-Proto": "https", "Host": "nectar.example.org"}
    variables = {"NECTAR_SERVE_ALLOWED_HOSTS": "nectar.example.org"}
    for proxy, scheme in (("127.0.0.1", "https"), ("192.0.2.1", "http")):
        with serving(project, **variables, NECTAR_SERVE_PROXY=proxy) as server:
            index = server.ask("GET", "/", headers=forwarded).data
        assert index["chains"] == f"{scheme}://nectar.example.org/api/chains"


def test_a_private_parameter_is_refused_in_a_request_and_taken_from_where_the_server_runs(project):
    project.chain("etl/secretive_chain", SECRETIVE)
    project.file("luigi.cfg", "[chains.etl.secretive_chain.SecretiveTask]\npassword = canary-1234\n")
    with serving(project) as server:
        refused = server.post("/api/chains/etl/secretive_chain/SecretiveTask", password="canary-5")
        assert (refused.status, refused.json["field"]) == (400, "password")
        assert "canary-5" not in refused.raw.decode()
        told = server.run("etl/secretive_chain/SecretiveTask")
        assert told["state"] == "SUCCESS"
        resource = server.get(f"/api/targets/{told['roots'][0]['path']}/files/out.txt")
        assert resource.raw == b"11"
        answers = [server.get(place).raw for place in (f"/api/runs/{told['id']}", "/api/chains", "/api/openapi.json")]
        assert not [raw for raw in answers if b"canary" in raw]
    kept = [place for place in (project.root / ".nectar").rglob("*") if place.is_file()]
    assert not [place.name for place in kept if b"canary" in place.read_bytes()]
