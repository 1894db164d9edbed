"""A proxy before an S3 server that counts requests, slows them down, and lets faults befall them.

Heads pass byte for byte, the Host among them, since it is signed. In a thread of this process:

    with S3Proxy(endpoint) as proxy:
        proxy.faults = Plan((Rule(LOST, methods=("PUT",), times=1),))
        ...                       # against proxy.endpoint
        assert proxy.requests == [("PUT", "/bucket/key", 0), ("PUT", "/bucket/key", 412)]

In a process of its own: `with proxy_process(endpoint, plan) as proxy:`, or by hand `python -m s3_proxy ENDPOINT`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from guard import PATIENCE_S
from http1 import PIECE, Head
from s3_client import ACCESS_KEY, SECRET_KEY
from s3_faults import Faults, Kind, Plan, Request, kind_of
from s3_relay import Connection

_BACKLOG = 1024
_LOOK_S = 0.5  # how often a process of its own looks whose child it is
#: by access key: a condition that is taken out of a request was signed, and a new signature needs the secret
SECRETS: Mapping[str, str] = {ACCESS_KEY: SECRET_KEY}


class Answered(NamedTuple):
    """One request and its end. It equals the tuple of its three fields."""

    method: str
    path: str  #: with the query, as it was sent
    status: int  #: 0 where the client got no answer

    @property
    def kind(self) -> Kind:
        """What it was about."""
        return kind_of(self.method, self.path)


class Traffic(NamedTuple):
    """What passed through a proxy so far."""

    answered: int  #: requests
    waited_s: float  #: the sum over all requests, each from when its head came in until it was answered
    most_at_once: int  #: requests that waited for their answer at the same time, since somebody last asked


def counted(requests: Sequence[Answered]) -> Counter[tuple[str, Kind]]:
    """Return how many requests there were of each method and kind."""
    return Counter((one.method, one.kind) for one in requests)


class S3Proxy:
    """A proxy in a thread. A request is in `requests` before its answer is sent; attributes hold from the next request.

    Raises on close: what its own code raised, if anything.
    """

    def __init__(
        self,
        upstream: str,
        faults: Faults | None = None,
        *,
        latency_s: float = 0.0,
        port: int = 0,
        secrets: Mapping[str, str] = SECRETS,
    ) -> None:
        """Set a proxy up for the server at a URL such as `http://127.0.0.1:9000`; it listens when it is entered."""
        place = urlsplit(upstream)
        self.upstream = (place.hostname or "127.0.0.1", place.port or 80)
        self.faults = faults  #: called for each request, from another thread
        self.latency_s = latency_s  #: before each request is passed on
        self.requests: list[Answered] = []  #: in the order of their answers
        self.secrets = secrets
        self.port = port
        self._number = 0
        self._since: dict[int, float] = {}  # when the requests came in that wait for their answer, by number
        self._waited_s = 0.0
        self._most_at_once = 0
        self._loop = asyncio.new_event_loop()
        self._serving: set[asyncio.Task[None]] = set()
        self._problems: list[BaseException] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="s3-proxy", daemon=True)

    @property
    def endpoint(self) -> str:
        """Return the URL to ask instead of the server's."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def counts(self) -> Counter[tuple[str, Kind]]:
        """Return how many requests there were of each method and kind."""
        return counted(tuple(self.requests))

    def traffic(self) -> Traffic:
        """Return how much passed through; the most at the same time is counted anew from here on."""
        most, self._most_at_once = self._most_at_once, len(self._since)
        return Traffic(len(self.requests), self._waited_s, most)

    @property
    def connections(self) -> int:
        """Return how many clients are connected now."""
        return len(self._serving)

    def __enter__(self) -> S3Proxy:
        self._thread.start()
        try:
            self._call(self._listen())
        except BaseException:
            self._end_thread()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self._call(self._close())
        self._end_thread()
        if self._problems:
            raise self._problems[0]

    def came_in(self, head: Head) -> Request:
        """Return the request of a head, numbered."""
        method, path, _ = head.first.decode("latin-1").split(" ")
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.fields}
        self._since[self._number] = time.monotonic()
        self._most_at_once = max(self._most_at_once, len(self._since))
        self._number += 1
        return Request(self._number - 1, method, path, kind_of(method, path), headers)

    def answered(self, request: Request, status: int) -> None:
        """Take note of a request's end."""
        self._waited_s += time.monotonic() - self._since.pop(request.number)
        self.requests.append(Answered(request.method, request.path, status))

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=PIECE, backlog=_BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(Connection(self, reader, writer).serve())
        self._serving.add(task)
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._problems.append(problem)

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}  # those of connections that just come in as well
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class ProxyProcess:
    """A proxy in a process of its own. What it is told holds when the call returns."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lock = threading.Lock()
        self.pid = process.pid
        self.endpoint: str = self._ask({"ask": "endpoint"})  #: the URL to ask instead of the server's

    @property
    def requests(self) -> list[Answered]:
        """Return all requests so far, in the order of their answers."""
        return [Answered(*one) for one in self._ask({"ask": "requests"})]

    @property
    def counts(self) -> Counter[tuple[str, Kind]]:
        """Return how many requests there were of each method and kind."""
        return counted(self.requests)

    def traffic(self) -> Traffic:
        """Return how much passed through; the most at the same time is counted anew from here on."""
        return Traffic(*self._ask({"ask": "traffic"}))

    def tell(self, *, plan: Plan | None = None, latency_s: float = 0.0) -> None:
        """Follow another plan, with its counts and chances at their beginning, or none."""
        self._ask({"plan": None if plan is None else plan.to_json(), "latency_s": latency_s})

    def _ask(self, request: dict[str, Any]) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        with self._lock:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            return json.loads(stdout.readline())


@contextlib.contextmanager
def proxy_process(upstream: str, plan: Plan | None = None, *, latency_s: float = 0.0) -> Iterator[ProxyProcess]:
    """Run a proxy in a process of its own until the block or this process ends, whichever comes first."""
    command = [sys.executable, __file__, upstream, "--controlled", "--latency-s", str(latency_s)]
    command += [] if plan is None else ["--plan", plan.to_json()]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield ProxyProcess(process)
    finally:
        process.stdin.close()
        process.wait(PATIENCE_S)
        process.stdout.close()


def main(words: Sequence[str]) -> None:
    """Run a proxy from the command line until it is interrupted, or told by the process that controls it."""
    parser = argparse.ArgumentParser(prog="s3_proxy", description="A fault proxy before an S3 server.")
    parser.add_argument("upstream", help="the server, such as http://127.0.0.1:9000")
    parser.add_argument("--port", type=int, default=0, help="where to listen; a free port if none is given")
    parser.add_argument("--plan", default="{}", help="faults as JSON; see Plan.from_json in s3_faults.py")
    parser.add_argument("--latency-s", type=float, default=0.0, help="seconds before each request is passed on")
    parser.add_argument("--controlled", action="store_true", help="take orders as JSON lines, and end with stdin")
    given = parser.parse_args(words)
    parent = os.getppid()
    with S3Proxy(given.upstream, Plan.from_json(given.plan), latency_s=given.latency_s, port=given.port) as proxy:
        if given.controlled:
            _obey(proxy, parent)
        else:
            print(proxy.endpoint, flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()


def _obey(proxy: S3Proxy, parent: int) -> None:
    while os.getppid() == parent:
        ready, _, _ = select.select([sys.stdin], [], [], _LOOK_S)
        if not ready:
            continue
        line = sys.stdin.readline()  # one order at a time: the next one waits for the answer
        if not line:
            return
        order = json.loads(line)
        answer: Any = None
        if order.get("ask") == "endpoint":
            answer = proxy.endpoint
        elif order.get("ask") == "requests":
            answer = list(proxy.requests)
        elif order.get("ask") == "traffic":
            answer = proxy.traffic()
        else:
            proxy.latency_s = order["latency_s"]
            proxy.faults = None if order["plan"] is None else Plan.from_json(order["plan"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
