"""A page of another site cannot use the server, neither by a name of its own nor by what a browser lets it send."""

from __future__ import annotations

from http.client import HTTPMessage
from pathlib import Path

import pytest
from flask import Response
from nectar_server import NectarServer, Reply, serving
from web_answers import check_headers, check_refusal, check_well, raw_exchange, request_bytes, run_ids

from nectar import settings
from nectar.service.whole import Service
from nectar.web.app import make_app

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
TASK = "/api/chains/web/echo_chain/EchoTask"
#: a route of each kind, and none
PATHS = ("/", "/healthz", "/metrics", "/api/chains", TASK, "/api/openapi.json", "/api/runs", "/no/such/route")
EVIL_HOSTS = (
    "evil.example",
    "evil.example:80",
    "localhost.evil.example",
    "evil.example.localhost",
    "127.0.0.1.evil.example:{port}",
    "127.0.0.2",
    "2130706433",
    "0x7f000001",
    "0.0.0.0:{port}",
    "[::]:{port}",
    "::1",
    "localhost@evil.example",
    "evil.example@localhost",
    "localhost, evil.example",
    "localhost evil.example",
    "localhost:{port}:{port}",
    "localhost:",
    "localhost.",
    "localhost:x",
    "localhost/../evil.example",
    "",
    " ",
    "\xff",
)
FOREIGN = (
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://evil.example"},
    {"Origin": "https://evil.example"},
    {"Origin": "file://"},
    {"Origin": "http://localhost"},  # another port of this machine
    {"Origin": "http://localhost:{port}.evil.example"},
    {"Origin": "http://127.0.0.1:{port}/"},
    {"Origin": "http://evil.example, http://127.0.0.1:{port}"},
    {"Origin": "chrome-extension://abcdefghijklmnop"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
)


def ask_for(server: NectarServer, method: str, path: str, **headers: str) -> Reply:
    """Send a request with these headers, whatever they say, and return the answer."""
    (reply,) = raw_exchange(server, request_bytes(method, path, connection="close", **headers))
    return reply


@pytest.mark.parametrize("host", EVIL_HOSTS, ids=ascii)
def test_a_request_for_another_host_is_400_on_every_route(server: NectarServer, host: str) -> None:
    for path in PATHS:
        document = check_refusal(ask_for(server, "GET", path, host=host.format(port=server.port)), 400)
        assert "host" in document["message"] or "addressed" in document["message"]
    check_refusal(ask_for(server, "POST", TASK, host=host.format(port=server.port)), 400)


def test_a_request_without_a_host_is_400(server: NectarServer) -> None:
    for version in ("1.0", "1.1"):
        (reply,) = raw_exchange(server, f"GET /api/chains HTTP/{version}\r\nConnection: close\r\n\r\n".encode())
        check_refusal(reply, 400)


def test_two_hosts_are_400(server: NectarServer) -> None:
    for hosts in ("Host: localhost\r\nHost: evil.example", "Host: evil.example\r\nHost: localhost"):
        (reply,) = raw_exchange(server, f"GET /api/chains HTTP/1.1\r\n{hosts}\r\nConnection: close\r\n\r\n".encode())
        check_refusal(reply, 400)


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "[::1]"])
def test_the_names_of_this_machine_are_answered(server: NectarServer, host: str) -> None:
    for text in (host, f"{host}:{server.port}"):
        assert ask_for(server, "GET", "/api/chains", host=text).status == 200


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_of_another_site_is_403_with_every_method(
    server: NectarServer, method: str, headers: dict[str, str]
) -> None:
    sent = {name.replace("-", "_"): value.format(port=server.port) for name, value in headers.items()}
    for path in (TASK, "/healthz", "/no/such/route"):
        request = request_bytes(method, path, host=f"127.0.0.1:{server.port}", connection="close", **sent)
        if method == "HEAD":
            reply = server.ask("HEAD", path, headers={name: sent[name.replace("-", "_")] for name in headers})
            assert reply.status == 403 and not reply.raw
            check_headers(reply)
        else:
            (reply,) = raw_exchange(server, request)
            check_refusal(reply, 403, code="forbidden")


def test_a_page_of_another_site_starts_no_run(server: NectarServer) -> None:
    before = run_ids(server)
    for headers in FOREIGN:
        sent = {name: value.format(port=server.port) for name, value in headers.items()}
        assert server.ask("POST", f"{TASK}?value=foreign", headers=sent).status == 403
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "text/json"):
        assert server.ask("POST", TASK, b"value=foreign", {"Content-Type": kind}).status == 415
    assert run_ids(server) == before


def test_the_own_page_may_use_the_server(server: NectarServer) -> None:
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert server.ask("POST", TASK, {"value": "plain"}, own).status == 200
    for headers in (own, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-site"}):
        assert server.ask("GET", "/api/chains", headers=headers).status == 200
    # Another port of this machine is the same site, and may not change anything.
    check_refusal(server.ask("POST", TASK, {}, {"Sec-Fetch-Site": "same-site"}), 403)


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "", "text/html"]
)
def test_a_body_that_a_form_could_send_is_415(server: NectarServer, kind: str) -> None:
    for path in (TASK, "/api/runs/some-run/cancel", "/api/runs/some-run/rerun"):
        for body in (b'{"value": "x"}', b"value=x"):
            headers = {"Content-Type": kind} if kind else {}
            check_refusal(server.ask("POST", path, body, headers), 415)


def test_a_chunked_body_needs_a_type_as_well(server: NectarServer) -> None:
    head = request_bytes("POST", TASK, transfer_encoding="chunked", connection="close")
    (reply,) = raw_exchange(server, head + b'e\r\n{"value": "x"}\r\n0\r\n\r\n')
    check_refusal(reply, 415)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/api/runs/some-run/cancel", "/api/runs/some-run/rerun"])
def test_a_get_on_what_changes_something_is_405(server: NectarServer, method: str, path: str) -> None:
    reply = server.ask(method, path)
    assert reply.status == 405 and reply.headers["Allow"].replace(" ", "") in ("OPTIONS,POST", "POST,OPTIONS")
    check_headers(reply)


def test_a_get_with_parameters_starts_nothing(server: NectarServer) -> None:
    before = run_ids(server)
    check_refusal(server.get(f"{TASK}?value=by+get"), 400)
    assert run_ids(server) == before


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", PATHS)
def test_every_answer_carries_the_headers_that_protect_its_reader(server: NectarServer, method: str, path: str) -> None:
    reply = server.ask(method, path)
    check_headers(reply)
    assert reply.status in (200, 404, 405)
    if reply.status != 200 and method != "HEAD":
        check_refusal(reply, 404, 405)


def test_files_and_logs_carry_them_too(server: NectarServer) -> None:
    told = server.run("web/echo_chain/EchoTask", {"value": "<script>alert(1)</script>"})
    run = server.get(f"/api/runs/{told['id']}").data
    target = run["roots"][0]["path"]
    logs = server.get(f"/api/runs/{told['id']}/logs").data["logs"]
    places = [f"/api/targets/{target}/files/{name}" for name in ("out.txt", "params.txt", "log/stdout.log")]
    for place in (*places, logs[0]["stdout_url"], logs[0]["stderr_url"]):
        reply = server.get(place)
        assert reply.status == 200 and b"<script>alert(1)</script>" in reply.raw, (place, reply)
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8", (place, reply)
        check_headers(reply)


def test_no_answer_tells_who_may_read_it_from_elsewhere(server: NectarServer) -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    for path in PATHS:
        for method in ("GET", "OPTIONS"):
            check_headers(server.ask(method, path, headers=preflight))  # no `Access-Control-...` among them


def test_debug_cannot_be_switched_on(project: Path) -> None:
    wanted = {"FLASK_DEBUG": "1", "FLASK_ENV": "development", "NECTAR_SERVE_DEBUG": "1", "PYTHONASYNCIODEBUG": "1"}
    with serving(project, **wanted) as server:
        assert b"\n " not in server.get("/api/chains").raw  # in debug, Flask indents its JSON
        for path in ("/console", "/?__debugger__=yes&cmd=resource&f=style.css", "/debug"):
            check_refusal(server.get(path), 400, 404)


def test_a_fault_of_the_servers_own_tells_nothing_but_its_id(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")

    def fault() -> Response:
        raise RuntimeError("a secret of the server")

    service = Service(settings.load({"NECTAR_PROJECT": str(project)}, project))
    try:
        app = make_app(service)
        app.add_url_rule("/fault", view_func=fault)
        answer = app.test_client().get("/fault", base_url="http://localhost")
    finally:
        service.close()
    headers = HTTPMessage()
    for name, value in answer.headers.items():
        headers[name] = value
    document = check_refusal(Reply(answer.status_code, headers, answer.data), 500, code="internal")
    assert "secret" not in answer.text and "RuntimeError" not in answer.text
    (record,) = [one for one in caplog.records if one.exc_info]
    assert record.exc_info is not None and "a secret of the server" in str(record.exc_info[1])
    assert vars(record)["request_id"] == document["request_id"]


def test_what_a_request_brings_cannot_forge_a_line_of_the_log(project: Path) -> None:
    with serving(project) as server:
        assert server.get("/api/runs").status == 200
        (project / ".nectar").rename(project / "elsewhere")
        (project / ".nectar").write_text("no folder")  # each question is a 503 now, and in the log
        reply = server.get("/api/runs/x%0a2026-11-20%20INFO%20forged%0d%1b[31m%c2%85%e2%80%a8red")
        check_refusal(reply, 503)
        fault, request = [line for line in server.log.split("\n") if "forged" in line]
        assert "WARNING nectar.web.app: GET /api/runs/x" in fault
        assert "INFO nectar.web.health: GET /api/runs/x" in request
        assert fault.isprintable() and request.isprintable()


def test_the_server_is_well_after_all_this(server: NectarServer) -> None:
    check_well(server)
