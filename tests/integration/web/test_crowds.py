"""Many clients at once, and clients that never finish, keep nobody else from an answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from echo_project import make_project
from guard import wait_until
from nectar_server import NectarServer, serving
from web_answers import check_well

SLOW = 900  #: clients that send their headers a byte at a time
DRIP_S = 5.0  #: between two of these bytes; the server gives up after 20 s without one
LIMIT_S = 400.0  #: for all of it
REQUEST = b"GET /api/chains/web/echo_chain/EchoTask HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def many_files() -> Iterator[int]:
    """Let this process have as many connections as it may; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[NectarServer]:
    """A server of its own, which may not open more files than a login shell lets it."""
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit (util-linux) is not here to give the server the limit of a login shell")
    with serving(make_project(tmp_path / "project"), before=("prlimit", "--nofile=512:20000")) as started:
        yield started


async def ask(server: NectarServer, tries: int = 1) -> int:
    """Connect, ask, read all of the answer; return its status.

    Where more connect at once than the kernel lets wait (net.core.somaxconn), it resets some before the server has seen
    them: these ask again, so often at most.
    """
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(REQUEST)
        answer = await reader.read()
    except ConnectionResetError:
        if tries > 1:
            return await ask(server, tries - 1)
        raise
    finally:
        writer.close()
    return int(answer.split(b" ", 2)[1])


@contextlib.asynccontextmanager
async def slow_clients(server: NectarServer, count: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Hold so many connections whose headers come a byte at a time, and never end."""
    opened = await asyncio.gather(*(asyncio.open_connection(server.host, server.port) for _ in range(count)))
    writers = [writer for _, writer in opened]
    for writer in writers:
        writer.write(b"GET /api/chains HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")

    async def drip() -> None:
        while True:
            await asyncio.sleep(DRIP_S)
            for writer in writers:
                writer.write(b"a")

    dripping = asyncio.create_task(drip())
    try:
        yield [reader for reader, _ in opened]
    finally:
        dripping.cancel()
        for writer in writers:
            writer.transport.abort()


@pytest.mark.parametrize("clients", [1000, pytest.param(10_000, marks=pytest.mark.stress)])
def test_each_of_many_clients_is_answered_while_slow_ones_are_held(
    crowded: NectarServer, many_files: int, publish: Callable[..., None], clients: int
) -> None:
    if many_files < clients + SLOW + 500:
        pytest.skip(f"this process may open {many_files} files, and {clients + SLOW + 500} are needed: ulimit -Hn")

    async def crowd() -> tuple[list[int], int, int]:
        async with slow_clients(crowded, SLOW) as held:
            alone = await ask(crowded)
            statuses = await asyncio.gather(*(ask(crowded, 1 if clients < 4000 else 20) for _ in range(clients)))
            return statuses, alone, sum(not reader.at_eof() for reader in held)

    statuses, alone, held = asyncio.run(asyncio.wait_for(crowd(), LIMIT_S))
    publish(answered=statuses.count(200), of=clients, slow_clients_held=held)
    assert alone == 200
    assert statuses == [200] * clients
    assert held == SLOW
    check_well(crowded)
    assert "Too many open files" not in crowded.log and " ERROR " not in crowded.log, crowded.log[-5000:]
    wait_until(lambda: len(os.listdir(f"/proc/{crowded.pid}/fd")) < 200, "the server closes what it opened")


@pytest.mark.stress
def test_a_client_that_says_nothing_is_let_go(crowded: NectarServer) -> None:
    async def wait() -> list[bytes]:
        opened = await asyncio.gather(*(asyncio.open_connection(crowded.host, crowded.port) for _ in range(20)))
        opened[0][1].write(b"GET / HTTP/1.1\r\n")
        opened[1][1].write(b"POST /api/runs/x/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n123")
        try:
            return await asyncio.gather(*(reader.read() for reader, _ in opened))
        finally:
            for _, writer in opened:
                writer.close()

    assert asyncio.run(asyncio.wait_for(wait(), LIMIT_S)) == [b""] * 20


def test_a_server_that_may_open_few_files_answers_more_clients_than_that(
    tmp_path: Path, many_files: int, chance: random.Random
) -> None:
    if shutil.which("prlimit") is None or many_files < 2000:
        pytest.skip("prlimit (util-linux) is not here, or this process may open too few files")
    with serving(make_project(tmp_path / "project"), before=("prlimit", "--nofile=400:400")) as server:

        async def crowd() -> list[int]:
            async with slow_clients(server, 150):
                return await asyncio.gather(*(ask(server) for _ in range(800)))

        assert asyncio.run(asyncio.wait_for(crowd(), LIMIT_S)) == [200] * 800
        assert server.run("web/echo_chain/EchoTask")["state"] == "SUCCESS"
        check_well(server)
        assert "Too many open files" not in server.log, server.log[-5000:]
