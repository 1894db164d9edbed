"""Whatever bytes arrive, the server answers without a fault of its own, or closes, and is well afterwards."""

from __future__ import annotations

import json
import os
import random
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from echo_project import make_project
from guard import wait_until
from nectar_server import NectarServer, serving
from request_fuzzer import mutants, seeds
from web_answers import check_well

FEW, MANY = 400, 20_000
CLIENTS = 8
_FIRST = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
_CODED = b"transfer-encoding"


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[NectarServer]:
    """A server that lets few runs wait, so that a flood of requests begins no flood of processes."""
    root = make_project(tmp_path / "project")
    with serving(root, "--runs", "1", NECTAR_SERVE_WAITING="20") as started:
        yield started


def exchange(server: NectarServer, request: bytes) -> bytes:
    """Send bytes, say that there are no more, and return all that comes back."""
    received = bytearray()
    with socket.create_connection((server.host, server.port), 120) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was refused, and the answer is here
        try:
            while chunk := connection.recv(1 << 16):
                received += chunk
        except ConnectionResetError:
            pass
    return bytes(received)


def status_of(received: bytes, request: bytes) -> int:
    """Return the status of the first answer, 0 where there is none.

    Raises: AssertionError: when it is one of a fault, or is not in the shape of all answers.
    """
    received = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not received:
        return 0
    found = _FIRST.match(received)
    assert found, (request, received[:2000])
    status = int(found[1])
    # 501 is what HTTP has for a transfer coding that nobody knows.
    assert not 300 <= status < 400, (request, received[:2000])
    assert status < 500 or (status == 501 and _CODED in request.lower()), (request, received[:2000])
    if status >= 400:
        head, _, rest = received.partition(b"\r\n\r\n")
        assert b"X-Content-Type-Options: nosniff" in head and b"Content-Type: application/json" in head, received
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length, received
        if rest:  # of an answer to HEAD there is nothing
            document = json.loads(rest[: int(length[1])])
            assert document["status"] == status and document["request_id"] and "Traceback" not in str(document)
    return status


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.stress)])
def test_mutated_requests_find_no_fault(
    busy: NectarServer, chance: random.Random, publish: Callable[..., None], count: int
) -> None:
    seed = chance.randrange(10**9)
    run = busy.run("web/echo_chain/EchoTask")
    good = seeds(run["id"], run["roots"][0]["path"])
    for request in good:
        assert status_of(exchange(busy, request), request) in (200, 400, 404, 409)
    open_before = open_files(busy)

    def status_for(request: bytes) -> int:
        return status_of(exchange(busy, request), request)

    print(f"NECTAR_TEST_SEED={seed}")
    with ThreadPoolExecutor(CLIENTS) as clients:
        statuses = Counter(clients.map(status_for, mutants(random.Random(seed), good, count), timeout=3600))
    publish(seed=seed, **{f"of_{status}": number for status, number in sorted(statuses.items())})
    assert statuses[200] and statuses[400] and statuses[404]
    check_well(busy)
    assert " ERROR " not in busy.log and "CRITICAL" not in busy.log, busy.log
    wait_until(lambda: open_files(busy) <= open_before + 10, "the server closes what it opened")
    wait_until(lambda: not busy.get("/api/runs?state=QUEUED").data["runs"], "all runs begin", patience_s=300)
    assert busy.run("web/echo_chain/EchoTask", {"value": "after all"})["state"] == "SUCCESS"


def open_files(server: NectarServer) -> int:
    """Return how many files and connections the server's own process has open."""
    return len(os.listdir(f"/proc/{server.pid}/fd"))
