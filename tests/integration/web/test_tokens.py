"""Where there are tokens every route is closed but one, and their secrets are written down nowhere."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nectar_server import NectarServer, NotStarted, serving
from web_answers import Tokens, check_headers, check_refusal, make_token, nectar, revoke_token

from nectar import settings
from nectar.service.whole import Service
from nectar.web.app import make_app

CANARIES = 20
KEY = "0" * 32
#: what stands for the variable parts of routes
PARTS = {
    "chain_type": "web",
    "name": "echo_chain",
    "chain": "echo_chain",
    "task": "EchoTask",
    "run_id": "no-such-run",
    "stream": "stdout",
    "address": f"chains/web/echo_chain/EchoTask/{KEY}",
}


@pytest.fixture(scope="module")
def routes(closed: Tokens) -> list[tuple[str, str]]:
    """Method and path of every route that the application has, from its own map."""
    environ = {"NECTAR_PROJECT": str(closed.server.root)}
    service = Service(settings.load(environ, closed.server.root))
    try:
        url_map = make_app(service).url_map
    finally:
        service.close()
    adapter = url_map.bind("localhost")
    found = []
    for rule in url_map.iter_rules():
        values: dict[str, Any] = {name: PARTS[name] for name in rule.arguments}
        if rule.endpoint.startswith("targets."):
            values["name"] = "out.txt"
        values = {name: value for name, value in values.items() if name in rule.arguments}
        for method in sorted(rule.methods or ()):
            found.append((method, adapter.build(rule.endpoint, values, method)))
    assert len({path for _, path in found}) >= 17  # what the walk has to find at the least
    return found


def test_no_route_but_healthz_answers_without_a_token(closed: Tokens, routes: list[tuple[str, str]]) -> None:
    opened = set()
    for method, path in routes:
        reply = closed.server.ask(method, path)
        check_headers(reply)
        if reply.status != 401:
            opened.add((method, path))
        elif method != "HEAD":
            check_refusal(reply, 401, code="not-authenticated")
            assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    assert opened == {("GET", "/healthz"), ("HEAD", "/healthz"), ("OPTIONS", "/healthz")}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
def test_what_is_no_route_is_not_told_without_a_token(closed: Tokens, method: str) -> None:
    for path in ("/no/such/route", "/api", "/api/", "/healthz/", "//healthz/..", "/static/x", "/api/../healthz"):
        check_refusal(closed.server.ask(method, path), 401)
    if method in ("POST", "PUT", "DELETE", "PROPFIND"):
        check_refusal(closed.server.ask(method, "/healthz"), 401)


def test_a_read_token_cannot_post_anywhere(closed: Tokens, routes: list[tuple[str, str]]) -> None:
    posts = [path for method, path in routes if method == "POST"]
    assert len(posts) >= 4
    for path in (*posts, "/healthz", "/no/such/route", "/api/runs"):
        for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"):
            reply = closed.server.ask(method, path, {}, bearer(closed.read))
            check_refusal(reply, 403, code="forbidden")
    assert not closed.server.ask("GET", "/api/runs", headers=bearer(closed.read)).data["runs"]


def test_a_revoked_token_opens_nothing(closed: Tokens, routes: list[tuple[str, str]]) -> None:
    for method, path in routes:
        if path != "/healthz":
            assert closed.server.ask(method, path, headers=bearer(closed.revoked)).status == 401, (method, path)


def test_a_read_token_looks_and_a_run_token_runs(closed: Tokens) -> None:
    server = closed.server
    for secret in (closed.read, closed.run):
        for path in (
            "/",
            "/metrics",
            "/api/chains",
            "/api/openapi.json",
            "/api/runs",
            "/api/plan/web/echo_chain/EchoTask",
        ):
            assert server.ask("GET", path, headers=bearer(secret)).status == 200, path
    reply = server.ask("POST", "/api/chains/web/echo_chain/EchoTask?value=by+token", headers=bearer(closed.run))
    assert reply.status == 200
    server.token = closed.run
    try:
        assert server.ended(reply.data["run_id"])["state"] == "SUCCESS"
    finally:
        server.token = None


def wrong_credentials(tokens: Tokens) -> Iterator[dict[str, str]]:
    """Yield headers that are not a valid token, though some are near one."""
    right = tokens.run
    basic = base64.b64encode(f"runner:{right}".encode()).decode()
    texts = [
        "",
        " ",
        "Bearer",
        "Bearer ",
        f"Basic {basic}",
        right,
        f"Token {right}",
        f"bearer:{right}",
        "Bearer runner",
    ]
    texts += [f"Bearer {right[:-1]}", f"Bearer {right}x", f"Bearer {right.upper()}", f"Bearer {right} {right}"]
    texts += [f"Bearer {right}, Bearer {right}", f"Bearer={right}", "Bearer nectar_" + "A" * 43, "Bearer \xff\xfe"]
    texts += ["Bearer ' OR 1=1 --", "Bearer %", f"Bearer {'x' * 60_000}", f"Digest {right}", f"Bearer\t{right}x"]
    for text in texts:
        yield {"Authorization": text}
    yield {"Cookie": f"token={right}; Authorization=Bearer {right}"}
    yield {"X-Authorization": f"Bearer {right}", "X-Api-Key": right, "Proxy-Authorization": f"Bearer {right}"}


def test_what_is_not_the_token_is_401(closed: Tokens) -> None:
    for headers in wrong_credentials(closed):
        for path in ("/api/chains", "/api/runs", "/no/such/route"):
            check_refusal(closed.server.ask("GET", path, headers=headers), 401)
        check_refusal(closed.server.ask("POST", "/api/chains/web/echo_chain/EchoTask", {}, headers), 401)


def test_a_token_in_the_query_or_the_body_opens_nothing(closed: Tokens) -> None:
    server, secret = closed.server, closed.run
    for name in ("token", "access_token", "Authorization", "authorization", "api_key", "bearer"):
        check_refusal(server.get("/api/chains", **{name: secret}), 401)
        check_refusal(server.get("/api/chains", **{name: f"Bearer {secret}"}), 401)
        check_refusal(server.post("/api/chains/web/echo_chain/EchoTask", {name: secret}), 401)


def test_a_token_that_is_revoked_while_the_server_runs_opens_nothing_more(closed: Tokens) -> None:
    server = closed.server
    made = nectar(server.root, "token", "create", "short-lived", "--scope", "run")
    secret = made.strip()
    assert server.ask("GET", "/api/chains", headers=bearer(secret)).status == 200
    nectar(server.root, "token", "revoke", "short-lived")
    check_refusal(server.ask("GET", "/api/chains", headers=bearer(secret)), 401)


def test_the_first_token_closes_a_server_that_was_open(project: Path) -> None:
    with serving(project) as server:
        assert server.get("/api/chains").status == 200
        secret = make_token(project, "first", "read")
        check_refusal(server.get("/api/chains"), 401)
        assert server.ask("GET", "/api/chains", headers=bearer(secret)).status == 200
        revoke_token(project, "first")
        check_refusal(server.get("/api/chains"), 401)  # to revoke the last one does not open it again


HOSTS = ("0.0.0.0", "::", "nectar.example", "192.0.2.1", "127.0.0.1.example", "")


def refused_to_listen(project: Path, host: str, **environ: str) -> str:
    """Return the hint with which a server refuses to be reached from elsewhere."""
    with pytest.raises(NotStarted) as told, serving(project, "--host", host, **environ):
        pass
    assert f"error: `{host}` can be reached from other machines" in str(told.value)
    (hint,) = [line for line in str(told.value).splitlines() if line.startswith("hint: ")]
    return hint


@pytest.mark.parametrize("host", HOSTS)
def test_another_address_is_refused_without_tokens_and_names(project: Path, host: str) -> None:
    hint = refused_to_listen(project, host)
    assert "nectar token create" in hint and "allowed_hosts" in hint


def test_another_address_in_the_settings_is_refused_as_well(project: Path) -> None:
    place = project / "configuration" / "nectar.toml"
    place.parent.mkdir()
    place.write_text('[serve]\nhost = "0.0.0.0"\n')
    with pytest.raises(NotStarted, match=r"`0\.0\.0\.0` can be reached from other machines"), serving(project):
        pass


def test_another_address_needs_a_valid_token_and_names_both(project: Path) -> None:
    names = {"NECTAR_SERVE_ALLOWED_HOSTS": "nectar.example"}
    hint = refused_to_listen(project, "0.0.0.0", **names)
    assert "nectar token create" in hint and "allowed_hosts" not in hint
    make_token(project, "one", "read")
    hint = refused_to_listen(project, "0.0.0.0")
    assert "nectar token create" not in hint and "allowed_hosts" in hint
    revoke_token(project, "one")
    assert "nectar token create" in refused_to_listen(project, "0.0.0.0", **names)


def test_another_address_with_token_and_names_is_served_under_those_names(project: Path) -> None:
    secret = make_token(project, "one", "read")
    with serving(project, "--host", "0.0.0.0", NECTAR_SERVE_ALLOWED_HOSTS="nectar.example") as server:
        named = {"Host": f"nectar.example:{server.port}"}
        check_refusal(server.ask("GET", "/api/chains", headers=named), 401)
        assert server.ask("GET", "/api/chains", headers=bearer(secret) | named).status == 200
        check_refusal(server.ask("GET", "/api/chains", headers=bearer(secret) | {"Host": "0.0.0.0"}), 400)


def test_by_default_only_this_machine_reaches_the_server(server: NectarServer) -> None:
    listening = listening_sockets(server.port)
    assert listening == {"0100007F"}  # 127.0.0.1, as the kernel writes it


def listening_sockets(port: int) -> set[str]:
    """Return the addresses on which somebody listens to a port, in the kernel's notation."""
    found = set()
    for name in ("tcp", "tcp6"):
        place = Path("/proc/net") / name
        for line in place.read_text().splitlines()[1:] if place.exists() else ():
            local, state = line.split()[1], line.split()[3]
            if local.endswith(f":{port:04X}") and state == "0A":
                found.add(local.partition(":")[0])
    return found


# Canaries


def test_secrets_of_tokens_are_in_no_file_log_answer_or_process(project: Path) -> None:
    made = {f"canary {number}": ("read", "run")[number % 2] for number in range(CANARIES)}
    canaries = {make_token(project, name, scope): name for name, scope in made.items()}
    unknown = [f"nectar_{secrets.token_urlsafe(32)}" for _ in range(CANARIES)]
    answers = []
    with serving(project) as server:
        for secret in (*canaries, *unknown):
            for method, path, body in (
                ("GET", "/api/runs", None),
                ("GET", f"/api/chains?token={secret}", None),
                ("GET", "/no/such/route", None),
                ("POST", "/api/chains/web/echo_chain/EchoTask", {"value": made.get(canaries.get(secret, ""), "x")}),
                ("POST", "/api/chains/web/echo_chain/NoTask", {"no": "parameter"}),
            ):
                reply = server.ask(method, path, body, bearer(secret))
                answers.append(reply.raw.decode("utf-8") + str(reply.headers))
        server.token = next(secret for secret, name in canaries.items() if made[name] == "run")
        answers.append(server.get("/metrics").raw.decode("utf-8"))
        for run in server.get("/api/runs").data["runs"]:
            server.ended(run["id"])
        answers += [Path(f"/proc/{pid}/cmdline").read_text() for pid in server.processes()]
        answers.append(server.log)
        server.end()
        answers.append(server.log)
    answers += [nectar(project, "token", "list"), nectar(project, "token", "list", "--json")]
    needles = [secret.removeprefix("nectar_").encode("ascii") for secret in (*canaries, *unknown)]
    for place in (one for one in project.rglob("*") if one.is_file()):
        raw = place.read_bytes()
        # In its query a canary was sent on purpose; nothing may keep that either.
        assert not [needle for needle in needles if needle in raw], place
    texts = "\n".join(answers).encode("utf-8")
    assert not [needle for needle in needles if needle in texts]
    assert not re.search(rb"nectar_[A-Za-z0-9_-]{40,}", texts)


def bearer(secret: str) -> dict[str, str]:
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {secret}"}
