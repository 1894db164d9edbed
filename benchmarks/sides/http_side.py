"""What is measured over HTTP: a server in a process of its own, and two threads that ask it through open connections.

The CPU time that is told is the server's, with all that it started, not that of the two threads.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from sqlalchemy import Connection
from timed import Action, Order, answer, expect

from nectar.runs import NewRun, Root, RunState
from nectar.runs.sql import keeping
from nectar.runs.sql.database import Database

HERE = Path(__file__).resolve().parent
THREADS = 2
WARM = 40  #: requests of each thread before the clock
CHAIN = "/api/chains/load/shapes_chain"
NOW = datetime(2026, 11, 20, tzinfo=timezone.utc)

Request = Callable[[int], bytes]  #: the n-th request


class Server:
    """A server that answers, and the processes that it started."""

    def __init__(self, command: list[str], folder: str) -> None:
        """Start it in a project of its own under the folder, which has the benchmarks' chains."""
        project = Path(folder) / "project"
        project.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (project / "chains").symlink_to(HERE.parent / "project" / "chains")
        variables = {"NECTAR_PROJECT": str(project), "NECTAR_SERVE_RUNS": "1", "NECTAR_SERVE_WAITING": "1000000"}
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **variables, "NECTAR_SERVE_DRAIN_S": "0", "NECTAR_SERVE_PORT": "0"},
            cwd=project,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        first = self.process.stderr.readline()
        if "http://127.0.0.1:" not in first:
            self.process.kill()
            raise SystemExit(f"error: the server does not start: {first}{self.process.stderr.read()}")
        self.port = int(first.split("http://127.0.0.1:")[1].partition("/")[0])
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def cpu_s(self) -> float:
        """Return the CPU seconds of the server, of its children, and of those of them that have ended."""
        ticks = sum(sum(map(int, _stat(pid)[11:15])) for pid in self._processes())
        return ticks / os.sysconf("SC_CLK_TCK")

    def _processes(self) -> Iterator[int]:
        yield self.process.pid
        for place in Path("/proc").iterdir():
            if place.name.isdecimal():
                with contextlib.suppress(OSError):
                    if int(_stat(int(place.name))[1]) == self.process.pid:
                        yield int(place.name)

    def end(self) -> None:
        """End it, and the run that it holds."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def _stat(pid: int) -> list[str]:
    """Return what /proc tells of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Client:
    """A connection that stays open; it does as little as can be done."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """Return the body of an answer, which must be a 200."""
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        expect(head.startswith(b"HTTP/1.1 200"), (head + body).decode()[:1000])
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(body) < size:
            body += self._more()
        return body

    def _more(self) -> bytes:
        received = self._socket.recv(1 << 16)
        expect(bool(received), "the server closed a connection")
        return received


def request(method: str, path: str) -> bytes:
    """Return a request without a body."""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()


def _load(server: Server, requests: int, of: Request) -> Action:
    """Return what sends so many requests by all threads, and tells how long each took."""
    numbers = itertools.count()
    clients = [Client(server.port) for _ in range(THREADS)]
    for client in clients:
        for _ in range(WARM):
            client.ask(of(next(numbers)))

    def act() -> dict[str, float]:
        taken: list[float] = []
        before, started = server.cpu_s(), time.perf_counter()

        def work(client: Client) -> None:
            for _ in range(requests // THREADS):
                one = of(next(numbers))
                began = time.perf_counter()
                client.ask(one)
                taken.append(time.perf_counter() - began)

        threads = [threading.Thread(target=work, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds, used = time.perf_counter() - started, server.cpu_s() - before
        server.end()
        expect(len(taken) == requests, "not all requests were answered")
        taken.sort()
        middle, late = taken[requests // 2], taken[requests * 99 // 100]
        return {"seconds": seconds, "cpu_s": used, "p50_s": middle, "p99_s": late}

    return act


def _serve(order: Order) -> Server:
    return Server([sys.executable, "-m", "nectar.cli", "serve"], order.folder)


def _held(server: Server) -> str:
    """Let the server's only place be taken by a run that does not end; return its `status_url`'s path."""
    client = Client(server.port)
    status_url = json.loads(client.ask(request("POST", f"{CHAIN}/HeldTask")))["data"]["status_url"]
    path = "/api/" + status_url.partition("/api/")[2]
    while json.loads(client.ask(request("GET", path)))["data"]["run_state"] != "RUNNING":
        pass
    return path


def _post(order: Order) -> Action:
    server = _serve(order)
    _held(server)
    return _load(server, order.tasks, lambda number: request("POST", f"{CHAIN}/SinkTask?tasks=3&turn={number}"))


def _post_complete(order: Order) -> Action:
    server = _serve(order)
    _made(server)
    return _load(server, order.tasks, lambda number: request("POST", f"{CHAIN}/OneTask"))


def _made(server: Server) -> str:
    """Have a task made, and return its `status_url`'s path."""
    client = Client(server.port)
    status_url = json.loads(client.ask(request("POST", f"{CHAIN}/OneTask")))["data"]["status_url"]
    path = "/api/" + status_url.partition("/api/")[2]
    while json.loads(client.ask(request("GET", path)))["data"]["job_status"] != "DONE":
        pass
    return path


def _status_done(order: Order) -> Action:
    server = _serve(order)
    path = _made(server)
    return _load(server, order.tasks, lambda number: request("GET", path))


def _status_running(order: Order) -> Action:
    server = _serve(order)
    path = _held(server)
    return _load(server, order.tasks, lambda number: request("GET", path))


def _runs(order: Order) -> Action:
    server = _serve(order)
    return _load(server, order.tasks, lambda number: request("GET", "/api/runs"))


def _fill(order: Order) -> Action:
    """Put so many runs into the books that a server of this folder has, all in one transaction."""
    place = Path(order.folder) / "project" / ".nectar" / "runs" / "runs.db"
    place.parent.mkdir(parents=True)

    def create(connection: Connection) -> None:
        for number in range(order.tasks):
            key = f"{number:032x}"
            path = f"chains/load/shapes_chain/LeafTask/{key}"
            root = Root(f"LeafTask(number={number})", "load/shapes_chain", {"number": number}, path, key)
            new = NewRun(f"run-{number:06}", NOW + timedelta(seconds=number), (root,), {"env": "dev"}, "http")
            keeping.create(connection, new, RunState.SUCCESS)

    return lambda: Database(f"sqlite:///{place}", patience_s=30).write(create)


def _bare(method: str) -> Callable[[Order], Action]:
    def prepare(order: Order) -> Action:
        server = Server([sys.executable, str(HERE / "bare_server.py")], order.folder)
        return _load(server, order.tasks, lambda number: request(method, f"/api/bare?number={number}"))

    return prepare


if __name__ == "__main__":
    answer(
        {
            "post": _post,
            "post-complete": _post_complete,
            "status-done": _status_done,
            "status-running": _status_running,
            "runs": _runs,
            "fill": _fill,
            "wide": _status_done,  # which is what every side does to be warm
            "bare-post": _bare("POST"),
            "bare-get": _bare("GET"),
        }
    )
