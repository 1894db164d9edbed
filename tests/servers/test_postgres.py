"""The PostgreSQL server that other tests stand on does what those tests take for granted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from guard import wait_until
from postgres import Postgres


def numbers(address: str) -> list[int]:
    with psycopg.connect(address) as connection:
        return [row[0] for row in connection.execute("SELECT number FROM kept ORDER BY number")]


@pytest.mark.parametrize("end", [Postgres.stop, Postgres.kill])
def test_what_was_acknowledged_outlives_a_restart(postgres: Postgres, end: object) -> None:
    address = postgres.new_database()
    with psycopg.connect(address) as connection:
        connection.execute("CREATE TABLE kept (number BIGINT)")
        connection.execute("INSERT INTO kept VALUES (1)")
    assert callable(end)
    end(postgres)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(address)
    postgres.start()
    assert numbers(address) == [1]


def test_each_schema_is_empty_and_its_own(postgres: Postgres) -> None:
    addresses = [postgres.new_schema() for _ in range(2)]
    for number, address in enumerate(addresses):
        with psycopg.connect(address) as connection:
            connection.execute("CREATE TABLE kept (number BIGINT)")
            connection.execute(f"INSERT INTO kept VALUES ({number})".encode())
    assert [numbers(address) for address in addresses] == [[0], [1]]


STARTER = """
from postgres import postgres_server
with postgres_server() as server:
    print(server._server.pid, server.folder, flush=True)
    input()
"""


def test_the_server_does_not_outlive_the_process_that_started_it() -> None:
    command = [sys.executable, "-c", STARTER]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True) as process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the server's end")
    wait_until(lambda: not Path(folder).exists(), "the removal of its folder")
