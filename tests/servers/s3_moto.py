"""A moto server: S3 in memory, up in a second. It checks no signature, and has no lock around a conditional write."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from guard import PATIENCE_S, Guarded, free_port, wait_for_answer

#: what the server imports
MODULES = ("moto", "flask", "flask_cors", "py_partiql_parser")


def missing_modules() -> tuple[str, ...]:
    """Return which modules have to be installed before a moto server can be started."""
    return tuple(name for name in MODULES if importlib.util.find_spec(name) is None)


@contextlib.contextmanager
def moto_server(port: int | None = None) -> Iterator[str]:
    """Run a moto server in a process of its own, on a free port if none is given, and give its endpoint.

    It answers when it is given, and ends with the block or with this process, whichever comes first.

    Raises: NotStarted: with what the server said.
    """
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="moto-", ignore_cleanup_errors=True) as folder:
        # Away from AWS whatever the caller's environment says, and without a module `moto` that lies around here.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
        kept["MOTO_PORT"] = str(port)  # where its state machines reach its queues
        command = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-B", "-m", "moto.server"]
        server = Guarded([*command, "-H", "127.0.0.1", "-p", str(port)], Path(folder), environment=kept)
        try:
            wait_for_answer(server, port, "/moto-api/")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.end()


def reset_moto(endpoint: str) -> None:
    """Make a moto server forget all buckets."""
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=PATIENCE_S)
    connection.request("POST", "/moto-api/reset")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 200, f"moto answered {answer.status} to a reset"
