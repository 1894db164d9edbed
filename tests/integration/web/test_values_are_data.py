"""The values of parameters arrive as they are, whatever they would mean to a shell, a template, luigi or a browser."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from echo_project import make_project
from nectar_server import NectarServer, serving
from web_answers import check_headers, check_refusal, check_well, run_ids

TASK = "/api/chains/web/echo_chain/EchoTask"
VALUES = {
    "a command": "$(touch pwned) `touch pwned`",
    "a second command": ";touch pwned; | touch pwned && touch pwned",
    "a newline": "one\ntwo\r\nthree\r",
    "a template": "{{7*7}} ${7*7} <%= 7*7 %> #{7*7} {0} {self.__class__} %s %(value)s",
    "an option of luigi": "--module os --workers 9",
    "a leading dash": "-",
    "a dash and a letter": "-h",
    "NUL": "before\0after",
    "900 KB": "long " * 180_000,
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "a path": "../../../etc/passwd",
    "spaces around": "  \t two words \n",
    "quotes": "'\" \\' \\\" ''' \"\"\"",
    "SQL": "'; DROP TABLE runs; --",
    "Unicode": "é e\u0301 日本 🎉 \u202e\u2028\ufeff\U0010ffff",
    "control characters": "\x01\x07\x08\x1b[31m\x7f\x85",
    "JSON": '{"a": [1, null]}',
    "a line of a journal": '\n{"kind":"state","state":"SUCCESS"}\n',
    "a section": "\n[core]\nno_lock=true\n",
    "a pickle": "cos\nsystem\n(S'touch pwned'\ntR.",
    "nothing": "",
}
NAMES = (
    *("module", "scheduler-url", "scheduler_url", "scheduler-host", "local_scheduler", "workers", "lock_pid_dir"),
    *("log_level", "logging_conf_file", "no_lock", "help", "-h", "--module", "h", "m", "self", "cls", "args", "kwargs"),
    *("endpoint", "endpoint_url", "AWS_ENDPOINT_URL", "bucket", "PROJECT_BUCKET", "ENV", "store", "NECTAR_STORE"),
    *(
        "region",
        "profile",
        "s3",
        "store_url",
        "task_family",
        "task_namespace",
        "__class__",
        "__init__",
        "run",
        "output",
    ),
    *(
        "value ",
        " value",
        "Value",
        "value\0",
        "value[]",
        "value.x",
        "$(id)",
        "{{7*7}}",
        "a" * 10_000,
        "é",
        "EchoTask-value",
    ),
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def echoing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NectarServer]:
    """A server with its books in SQLite, or in PostgreSQL, to which all values were sent."""
    books = {}
    if request.param == "postgresql":
        books["NECTAR_RUNS"] = request.getfixturevalue("postgres").new_schema()
    root = make_project(tmp_path_factory.mktemp("echoing") / "project")
    with serving(root, "--runs", "4", **books) as started:
        replies = [started.ask("POST", TASK, {"value": value}) for value in VALUES.values()]
        for reply in replies:
            assert reply.status == 200, reply.raw[:2000]
            started.ended(reply.data["run_id"])
        yield started


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_comes_out_as_it_went_in(echoing: NectarServer, kind: str) -> None:
    value = VALUES[kind]
    reply = echoing.ask("POST", TASK, {"value": value})
    assert reply.status == 200 and reply.data["complete"], reply
    folder = echoing.root / "local_targets" / reply.data["target"]
    assert (folder / "out.txt").read_bytes() == value.encode("utf-8")
    assert json.loads((folder / "params.txt").read_text(encoding="utf-8")) == {"value": value}
    place = f"/api/targets/{reply.data['target']}/files"
    assert echoing.get(f"{place}/out.txt").raw == value.encode("utf-8")
    assert echoing.get(f"{place}/params.txt").raw == (folder / "params.txt").read_bytes()
    assert echoing.get(f"{place}/log/stdout.log").raw == value.encode("utf-8") + b"\n" or kind in (
        "900 KB",
        "a newline",
    )
    if len(value) < 10_000:
        # The same in the query names the same target, so it is the same value.
        query = echoing.ask("POST", f"{TASK}?value={urllib.parse.quote(value, safe='')}")
        assert query.data["target"] == reply.data["target"] and query.data["complete"]


@pytest.mark.parametrize("kind", VALUES)
def test_the_run_of_a_value_tells_it_as_it_is(echoing: NectarServer, kind: str) -> None:
    run_id = echoing.ask("POST", TASK, {"value": VALUES[kind]}).data["run_id"]
    for path in ("", "/events", "/logs"):
        reply = echoing.get(f"/api/runs/{run_id}{path}")
        assert reply.status == 200
        check_headers(reply)
    told = echoing.get(f"/api/runs/{run_id}").data
    assert told["state"] == "SUCCESS" and told["roots"][0]["params"] == {"value": VALUES[kind]}


def test_no_value_was_carried_out(echoing: NectarServer) -> None:
    assert not list(echoing.root.rglob("pwned"))
    assert not list(Path.cwd().glob("pwned"))
    made = {place.name for place in (echoing.root / "local_targets/chains/web/echo_chain").iterdir()}
    assert made == {"EchoTask"}
    check_well(echoing)


def test_no_value_is_on_a_command_line(echoing: NectarServer) -> None:
    for pid in echoing.processes():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8").split("\0")
        assert not [word for word in words if "touch" in word or "alert" in word or len(word) > 20_000]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:20]))
def test_an_undeclared_parameter_is_400_and_leaves_nothing(echoing: NectarServer, name: str) -> None:
    before = run_ids(echoing)
    files = sorted((echoing.root / "local_targets").rglob("*"))
    quoted = urllib.parse.quote(name, safe="")
    for reply in (
        echoing.ask("POST", TASK, {name: "x"}),
        echoing.ask("POST", TASK, {name: "x", "value": "fine"}),
        echoing.ask("POST", f"{TASK}?{quoted}=x"),
        echoing.ask("GET", f"/api/plan/web/echo_chain/EchoTask?{quoted}=x"),
        echoing.ask("GET", f"/api/graph/web/echo_chain/EchoTask?{quoted}=x"),
    ):
        document = check_refusal(reply, 400, code="invalid-parameters")
        assert [one["field"] for one in document["errors"]] == [name]
    assert run_ids(echoing) == before
    assert sorted((echoing.root / "local_targets").rglob("*")) == files


def test_every_wrong_value_is_named_and_none_starts_anything(echoing: NectarServer) -> None:
    wrong = {
        "count": "$(id)",
        "share": "{{7*7}}",
        "day": "2026-13-01",
        "size": "'; DROP TABLE runs; --",
        "table": "{",
        "items": "[",
    }
    before = run_ids(echoing)
    document = check_refusal(echoing.ask("POST", "/api/chains/web/echo_chain/KindsTask", wrong), 400)
    assert {one["field"] for one in document["errors"]} == set(wrong)
    assert run_ids(echoing) == before


def test_a_very_long_wrong_value_is_not_repeated_whole(echoing: NectarServer) -> None:
    for name in ("count", "share", "day", "size", "table", "items"):
        reply = echoing.ask("POST", "/api/chains/web/echo_chain/KindsTask", {name: "z" * 900_000})
        check_refusal(reply, 400)
        assert len(reply.raw) < 10_000, reply.raw[:300]


def test_a_parameter_given_twice_is_400(echoing: NectarServer) -> None:
    check_refusal(echoing.post(f"{TASK}?value=a&value=b"), 400, code="invalid-parameters")
    check_refusal(echoing.post(f"{TASK}?value=a", {"value": "b"}), 400, code="invalid-parameters")


def test_markup_is_never_served_as_a_page(echoing: NectarServer) -> None:
    reply = echoing.ask("POST", TASK, {"value": VALUES["markup"]})
    run_id = reply.data["run_id"]
    logs = echoing.get(f"/api/runs/{run_id}/logs").data["logs"]
    places = [f"/api/targets/{reply.data['target']}/files/{name}" for name in ("out.txt", "log/stderr.log")]
    for place in (*places, logs[0]["stdout_url"]):
        served = echoing.get(place)
        assert b"<script>" in served.raw
        assert served.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert served.headers["X-Content-Type-Options"] == "nosniff"
    for place in (
        f"/api/runs/{run_id}",
        "/api/runs",
        f"/api/targets/{reply.data['target']}",
        "/<script>alert(1)</script>",
    ):
        assert echoing.get(place).headers["Content-Type"] == "application/json"
