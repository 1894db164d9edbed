"""No name, id, path, filter or key of a request leads anywhere but to what it names."""

from __future__ import annotations

import json
import os
import shutil
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nectar_server import NectarServer
from web_answers import check_headers, check_refusal, check_well, raw_exchange, request_bytes, run_ids

TASK = "/api/chains/web/echo_chain/EchoTask"
SECRET = "what nobody asked for"  #: in a file outside of the store
NAMES = {
    "two dots": "..",
    "dots and a slash": "../../../../etc/passwd",
    "quoted slashes": "..%2f..%2f..%2fetc%2fpasswd",
    "quoted twice": "%252e%252e%252f%252e%252e%252fetc%252fpasswd",
    "quoted dots": "%2e%2e/%2e%2e",
    "a backslash": "..%5c..%5cetc",
    "NUL": "%00",
    "a name and NUL": "echo_chain%00.txt",
    "CR LF": "x%0d%0aSet-Cookie:%20a=b%0d%0a%0d%0a<html>",
    "__import__": "__import__('os').system('id')",
    "a module": "os.path",
    "__init__": "__init__",
    "dunder": "__class__",
    "10,000 characters": "a" * 10_000,
    "50,000 characters": "%61" * 16_000,
    "invalid UTF-8": "%ff%fe",
    "overlong UTF-8": "%c0%ae%c0%ae%c0%af",
    "a surrogate": "%ed%a0%80",
    "half a quote": "%",
    "a bad quote": "%zz",
    "a template": "{{7*7}}",
    "a format": "%25s%25n{0.__class__}",
    "a command": "$(id)",
    "spaces": "%20",
    "a tab": "%09",
    "a parameter": ";jsessionid=1",
    "markup": "<script>alert(1)</script>",
    "Unicode": "%E6%97%A5%E6%9C%AC",
    "another shape of letters": "%EF%BD%85cho_chain",
    "a right-to-left mark": "%E2%80%AEecho",
    "a dot": ".",
    "a hidden file": ".git",
    "Windows": "C:%5cWindows",
    "a URL": "http:%2f%2fevil.example%2f",
    "an absolute path": "%2fetc%2fpasswd",
    "SQL": "'%20OR%201=1--",
    "a wildcard": "%25",
    "an asterisk": "*",
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_that_is_none_is_400_or_404(server: NectarServer, kind: str) -> None:
    name = NAMES[kind]
    for path in (
        f"/api/chains/{name}",
        f"/api/chains/web/{name}",
        f"/api/chains/web/{name}Task",
        f"/api/chains/web/echo_chain/{name}",
        f"/api/chains/{name}/echo_chain/EchoTask",
        f"/api/chains/web/{name}/EchoTask",
        f"/api/plan/web/echo_chain/{name}",
        f"/api/graph/{name}/echo_chain/EchoTask",
        f"/api/runs/{name}",
        f"/api/runs/{name}/events",
        f"/api/runs/{name}/logs",
        f"/api/runs/{name}/logs/stdout?attempt={name}",
        f"/{name}",
        f"/api/targets/{name}",
    ):
        for method in ("GET", "POST"):
            request = request_bytes(method, path, connection="close")
            (reply,) = raw_exchange(server, request)
            document = check_refusal(reply, 400, 404, 405, 431)
            assert "root:" not in document["message"] and len(reply.raw) < 4000
            assert "Set-Cookie" not in reply.headers
            check_headers(reply)


@pytest.mark.parametrize("kind", NAMES)
def test_a_run_that_is_none_can_be_neither_stopped_nor_repeated(server: NectarServer, kind: str) -> None:
    for verb in ("cancel", "rerun"):
        (reply,) = raw_exchange(server, request_bytes("POST", f"/api/runs/{NAMES[kind]}/{verb}", connection="close"))
        check_refusal(reply, 400, 404, 405, 431)


def test_the_beginning_of_a_runs_id_is_not_its_id(server: NectarServer) -> None:
    run_id = server.get("/api/runs").data["runs"][-1]["id"]
    for text in (run_id[:-1], run_id.upper(), f"{run_id}x", f"{run_id[:-1]}_", f"{run_id[:8]}%25", f"{run_id}%00"):
        if text != run_id:
            check_refusal(server.get(f"/api/runs/{text}"), 404)


# Targets


@pytest.fixture(scope="module")
def target(server: NectarServer) -> str:
    """The path of a target that is complete."""
    return str(server.post(TASK).data["target"])


def paths_that_lead_away(target: str) -> dict[str, str]:
    """Return texts that name no target, though a file system might read them as the way to one."""
    key = target.rpartition("/")[2]
    return {
        "dots before": f"../../{target}",
        "dots inside": f"chains/web/../web/echo_chain/EchoTask/{key}",
        "dots after": f"{target}/..",
        "more dots after": f"{target}/../../../../../../etc/passwd",
        "absolute": f"/{target}",
        "another root": "/etc/passwd",
        "backslashes": target.replace("/", "\\"),
        "a backslash": target.replace("/EchoTask", "\\EchoTask"),
        "a dot": f"./{target}",
        "two slashes": target.replace("/EchoTask", "//EchoTask"),
        "NUL": f"{target}\0",
        "NUL before": f"\0{target}",
        "a newline": f"{target}\n",
        "a capital key": target.replace(key, key.upper()) if key != key.upper() else f"{target}X",
        "a short key": target[:-1],
        "a long key": f"{target}0",
        "another key": target.replace(key, "0" * 32),
        "no key": target.removesuffix(f"/{key}"),
        "staging": f"chains/web/echo_chain/EchoTask/.staging/{key}",
        "attempts": f"chains/web/echo_chain/EchoTask/.attempts/{key}",
        "quoted": urllib.parse.quote(target.replace("/EchoTask", "/../echo_chain/EchoTask"), safe=""),
        "another store": f"s3://bucket/{target}",
        "a URL": f"file:///{target}",
        "a host": f"//evil.example/{target}",
        "a tilde": f"~/{target}",
        "a long part": target.replace("EchoTask", "E" * 256),
        "a long part in bytes": target.replace("EchoTask", "\u65e5" * 100),
        "many parts": "/".join(["chains"] * 800 + [key]),
        "wide digits": target[:-1] + "０",
    }


KINDS = tuple(paths_that_lead_away("chains/web/echo_chain/EchoTask/" + "0123456789abcdef" * 2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_that_is_no_targets_is_404(server: NectarServer, target: str, kind: str) -> None:
    path = paths_that_lead_away(target)[kind]
    quoted = {urllib.parse.quote(path, safe="/\\:~"), urllib.parse.quote(path, safe="")}
    for text in quoted:
        for place in ("", "/history", "/files/out.txt", "/preview/out.txt"):
            if kind == "dots after" and place:
                continue
            reply = server.get(f"/api/targets/{text}{place}")
            if reply.status == 200 and place == "/history":  # of a target that nobody made
                assert kind == "another key" and not reply.data["runs"]
            elif reply.status == 200 and not place:
                assert kind == "another key" and reply.data["complete"] is False, reply
            else:
                check_refusal(reply, 404, 400)
        status = server.get(f"/api/chainstatus?chain={urllib.parse.quote(path, safe='')}")
        if status.status == 200:  # white space around a path does not count
            assert kind == "a newline" and status.data["job_status"] == "DONE"
        else:
            check_refusal(status, 404, 400)
            assert "http" not in status.json["message"]


FILES = {
    "dots": "../out.txt",
    "many dots": "../../../../../../etc/passwd",
    "quoted dots": "%2e%2e%2fout.txt",
    "quoted twice": "%252e%252e%252fout.txt",
    "absolute": "/etc/passwd",
    "quoted absolute": "%2fetc%2fpasswd",
    "backslashes": "..\\out.txt",
    "a dot": "./out.txt",
    "dots within": "log/../out.txt",
    "a folder": "log",
    "a folder with a slash": "log/",
    "nothing": "",
    "NUL": "out.txt%00",
    "a newline": "out.txt%0a",
    "a space": "out.txt%20",
    "capitals": "OUT.TXT",
    "a lock": ".lock",
    "attempt.json": "attempt.json",
    "another tree": "log/stdout.log/../../record.json",
}


@pytest.mark.parametrize("kind", FILES)
def test_a_name_that_is_no_files_of_the_target_is_404(server: NectarServer, target: str, kind: str) -> None:
    for verb in ("files", "preview"):
        (reply,) = raw_exchange(
            server, request_bytes("GET", f"/api/targets/{target}/{verb}/{FILES[kind]}", connection="close")
        )
        check_refusal(reply, 404)
    if kind != "nothing":
        quoted = urllib.parse.quote(f"{target}/", safe="") + FILES[kind]
        reply = server.get(f"/api/chainstatus?chain={quoted}")
        if reply.status == 200:  # white space around a path does not count
            assert kind in ("a newline", "a space") and reply.data["resource_url"].endswith("/out.txt")
        else:
            check_refusal(reply, 404)


Break = Callable[[Path, Path], None]


def _file_as_link(folder: Path, outside: Path) -> None:
    place = folder / "out.txt"
    outside.write_bytes(SECRET.encode()[: place.stat().st_size].ljust(place.stat().st_size, b"!"))
    place.unlink()
    place.symlink_to(outside)


def _log_as_link(folder: Path, outside: Path) -> None:
    outside.write_text(SECRET)
    for name in ("stdout.log", "stderr.log"):
        (folder / "log" / name).unlink()
        (folder / "log" / name).symlink_to(outside)
    (folder / "params.txt").unlink()
    (folder / "params.txt").symlink_to(outside)


def _logs_as_link(folder: Path, outside: Path) -> None:
    outside.mkdir()
    for name in ("stdout.log", "stderr.log"):
        (outside / name).write_text(SECRET)
    shutil.rmtree(folder / "log")
    (folder / "log").symlink_to(outside)
    (folder / "params.txt").unlink()
    (folder / "params.txt").symlink_to(outside / "stdout.log")


def _log_as_pipe(folder: Path, outside: Path) -> None:
    outside.write_text(SECRET)
    (folder / "params.txt").unlink()
    (folder / "params.txt").symlink_to(outside)
    (folder / "log" / "stdout.log").unlink()
    os.mkfifo(folder / "log" / "stdout.log")  # whoever opens it waits for a writer


def _target_as_link(folder: Path, outside: Path) -> None:
    shutil.move(folder, outside)
    (outside / "out.txt").write_bytes(SECRET.encode()[: (outside / "out.txt").stat().st_size])
    folder.symlink_to(outside)


def _record_as_link(folder: Path, outside: Path) -> None:
    shutil.move(folder / "record.json", outside)
    (folder / "record.json").symlink_to(outside)


@pytest.mark.parametrize(
    "broken",
    [_file_as_link, _log_as_link, _logs_as_link, _log_as_pipe, _target_as_link, _record_as_link],
    ids=lambda one: one.__name__,
)
def test_a_link_out_of_the_store_is_404(server: NectarServer, tmp_path: Path, broken: Break) -> None:
    run = server.run("web/echo_chain/EchoTask", {"value": f"to be broken by {broken.__name__}"})
    target = run["roots"][0]["path"]
    folder = server.root / "local_targets" / target
    broken(folder, tmp_path / "outside")
    names = ("out.txt", "params.txt", "record.json", "log/stdout.log", "log/stderr.log")
    linked = [name for name in names if (folder / name).is_fifo() or "outside" in str((folder / name).resolve())]
    assert linked
    for name in linked:
        for verb in ("files", "preview"):
            check_refusal(server.get(f"/api/targets/{target}/{verb}/{name}"), 404)
    for path in (f"/api/targets/{target}", f"/api/runs/{run['id']}/logs", f"/api/chainstatus?chain={target}/out.txt"):
        assert SECRET.encode() not in server.get(path).raw


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../../../../../../etc/passwd", "..", "log/../../x", "\\x", ""])
def test_a_record_cannot_name_a_file_elsewhere(server: NectarServer, name: str) -> None:
    run = server.run("web/echo_chain/EchoTask", {"value": f"record {name}"})
    target = run["roots"][0]["path"]
    place = server.root / "local_targets" / target / "record.json"
    document = json.loads(place.read_text())
    text = json.dumps(document).replace('"out.txt"', json.dumps(name))
    place.chmod(0o644)
    place.write_text(text)
    quoted = urllib.parse.quote(name, safe="")
    for text in (name, quoted):
        reply = server.get(f"/api/targets/{target}/files/{text}")
        check_refusal(reply, 404)
    assert b"root:" not in server.get(f"/api/targets/{target}").raw


# The same request again


def keyed(server: NectarServer, key: str, body: Any) -> Any:
    """POST with an idempotency key."""
    return server.ask("POST", TASK, body, {"Idempotency-Key": key})


def test_the_same_request_with_the_same_key_has_the_same_run(server: NectarServer) -> None:
    first = keyed(server, "order 1", {"value": "by key"})
    assert first.status == 200
    server.ended(first.data["run_id"])
    for reply in (
        keyed(server, "order 1", {"value": "by key"}),
        server.ask("POST", f"{TASK}?value=by%20key", None, {"Idempotency-Key": "order 1"}),
    ):
        assert reply.status == 200 and reply.data["run_id"] == first.data["run_id"]


def test_another_request_with_the_same_key_is_409(server: NectarServer) -> None:
    first = keyed(server, "order 2", {"value": "first"})
    before = run_ids(server)
    for reply in (
        keyed(server, "order 2", {"value": "second"}),
        keyed(server, "order 2", {}),
        server.ask("POST", "/api/chains/web/echo_chain/FailTask?value=first", None, {"Idempotency-Key": "order 2"}),
    ):
        check_refusal(reply, 409)
    assert run_ids(server) == before
    assert keyed(server, "order 2", {"value": "first"}).data["run_id"] == first.data["run_id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "x" * 60_000, "a\tb", "\x80", "a\x7fb"], ids=lambda key: ascii(key[:9]))
def test_a_key_that_cannot_be_one_is_400(server: NectarServer, key: str) -> None:
    (reply,) = raw_exchange(server, request_bytes("POST", TASK, b"{}", idempotency_key=key, connection="close"))
    check_refusal(reply, 400)


def test_nothing_of_all_this_left_the_project(server: NectarServer) -> None:
    check_well(server)
    made = {place.name for place in server.root.iterdir()}
    assert made <= {"chains", "local_targets", ".nectar"}
    assert not os.path.lexists("/tmp/pwned")
