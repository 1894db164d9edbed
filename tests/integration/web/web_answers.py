"""What every answer of the server has to be, whatever was asked; and requests that no client library would send."""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nectar_server import COMMAND, NectarServer, Reply, environment

from nectar import settings
from nectar.actions.tokens import create_token
from nectar.records import utc_now
from nectar.runs import RunStore, open_books

PATIENCE_S = 30.0
SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_ID = re.compile(r"[0-9a-f]{16}")
_REFUSAL = {"data", "message", "status", "code", "hint", "field", "errors", "request_id"}


@dataclass(frozen=True)
class Tokens:
    """A server that was given tokens, and their secrets."""

    server: NectarServer
    read: str
    run: str
    revoked: str


def check_headers(reply: Reply) -> None:
    """Check what every answer carries, refusals included."""
    for name, value in SECURITY.items():
        assert reply.headers[name] == value, (name, reply)
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy, reply
    assert _ID.fullmatch(reply.headers["X-Request-Id"]), reply
    assert not [name for name in reply.headers if name.lower().startswith("access-control-")], reply
    assert "Server" not in reply.headers, reply


def check_refusal(reply: Reply, *statuses: int, code: str | None = None) -> dict[str, Any]:
    """Check that an answer refuses in the one shape, with one of these statuses; return its JSON."""
    assert reply.status in statuses, reply
    check_headers(reply)
    assert reply.headers["Content-Type"] == "application/json", reply
    document: dict[str, Any] = reply.json
    assert set(document) == _REFUSAL, document
    assert document["data"] is None and document["status"] == reply.status, document
    assert document["request_id"] == reply.headers["X-Request-Id"], document
    assert document["message"], document
    assert len(document["message"]) < 2000, document
    for word in ("Traceback", 'File "', "nectar/web", "site-packages"):
        assert word not in reply.raw.decode("utf-8"), document
    assert code is None or document["code"] == code, document
    return document


def run_ids(server: NectarServer) -> set[str]:
    """Return the ids of the newest thousand runs."""
    return {run["id"] for run in server.get("/api/runs?limit=1000").data["runs"]}


def check_well(server: NectarServer) -> None:
    """Check that a server answers what it should, and has not said that anything of its own went wrong."""
    assert server.get("/healthz").data["state"] == "ok"
    assert server.get("/api/chains").data["web"]["chains"][0]["name"] == "echo_chain"
    assert "Traceback" not in server.log, server.log


def raw_exchange(
    server: NectarServer, request: bytes | Iterable[bytes], *, patience_s: float = PATIENCE_S
) -> list[Reply]:
    """Send bytes as they are, close that direction, and return all answers that come until the other end closes."""
    with socket.create_connection((server.host, server.port), patience_s) as connection:
        try:
            for part in [request] if isinstance(request, bytes) else request:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has refused already, and its answer is here
        received = bytearray()
        try:
            while chunk := connection.recv(1 << 16):
                received += chunk
        except ConnectionResetError:
            pass
    return parsed(bytes(received))


def parsed(received: bytes) -> list[Reply]:
    """Return the answers that a connection brought, those to HEAD excluded; `100 Continue` is not one."""
    stream, replies = io.BytesIO(received), []
    while stream.tell() < len(received):
        line = stream.readline()
        found = re.fullmatch(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n", line)
        assert found, (line, received)
        headers = http.client.parse_headers(stream)
        status = int(found[1])
        if status == 100:
            continue
        length = headers.get("Content-Length")
        if headers.get("Transfer-Encoding") == "chunked":
            raw = _chunks(stream)
        else:
            raw = stream.read(int(length) if length is not None else -1)
        assert length is None or len(raw) == int(length), received
        replies.append(Reply(status, headers, raw))
    return replies


def _chunks(stream: io.BytesIO) -> bytes:
    found = bytearray()
    while size := int(stream.readline(), 16):
        found += stream.read(size)
        stream.readline()
    stream.readline()
    return bytes(found)


def request_bytes(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Return a request for a server that is addressed as `localhost`, unless `host` says otherwise."""
    named = {"host": "localhost", **headers}
    if body:
        named.setdefault("content_length", str(len(body)))
        named.setdefault("content_type", "application/json")
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1") + body


def nectar(root: Path, *words: str) -> str:
    """Run a command in a project, and return what it printed."""
    done = subprocess.run(
        [str(COMMAND), *words], cwd=root, env=environment(root), capture_output=True, timeout=PATIENCE_S, check=True
    )
    return done.stdout.decode("utf-8")


def make_token(root: Path, name: str, scope: str) -> str:
    """Return the secret of a new token, which is made as the command makes it."""
    with contextlib.closing(books_of(root)) as books:
        return create_token(books, name, scope)[1]


def revoke_token(root: Path, name: str) -> None:
    """Let a token be valid no more."""
    with contextlib.closing(books_of(root)) as books:
        books.revoke_token(name, at=utc_now())


def books_of(root: Path) -> RunStore:
    """Return the books of a project that has no settings."""
    return open_books(settings.load({"NECTAR_PROJECT": str(root)}, root).run_store_url)
