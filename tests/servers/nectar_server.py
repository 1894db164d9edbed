"""A real `nectar serve` for a project in a folder: started, talked to, and ended with all that it started."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guard import PATIENCE_S, Guarded, NotStarted, wait_until

COMMAND = Path(sys.executable).with_name("nectar")
FINAL = ("SUCCESS", "FAILURE", "CANCELED", "CRASHED")  #: states of a run that has ended
#: what a person's own shell might have set, and a test must not depend on
_FOREIGN = ("ENV", "PROJECT_BUCKET", "LUIGI_CONFIG_PATH", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
_MARK = "SERVED_FOR_A_TEST"  #: a variable that all processes of a server inherit, by which they are found
_SERVING = re.compile(rb"^serving (http://(\S+):(\d+))/api/chains$", re.MULTILINE)


@dataclass(frozen=True)
class Reply:
    """What the server answered."""

    status: int
    headers: http.client.HTTPMessage
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def data(self) -> Any:
        return self.json["data"]


@dataclass
class NectarServer:
    """A server that answers. It may be ended by a test; whatever is left of it is ended with the block."""

    root: Path  #: of the project
    url: str  #: `http://127.0.0.1:12345`
    host: str
    port: int
    process: Guarded
    mark: str
    token: str | None = None  #: sent with every request from now on
    headers: dict[str, str] = field(default_factory=dict)  #: sent with every request from now on

    @property
    def pid(self) -> int:
        """The server's own process."""
        return self.process.pid

    @property
    def log(self) -> str:
        """All that the server has written so far."""
        return self.process.log.read_text(encoding="utf-8", errors="replace")

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = PATIENCE_S,
    ) -> Reply:
        """Send one request through a connection of its own. A body that is neither bytes nor None is sent as JSON.

        The path, or URL, goes as it is: quote it where it needs that.
        """
        sent = {**self.headers, **({"Authorization": f"Bearer {self.token}"} if self.token else {})}
        if body is not None and not isinstance(body, bytes):
            sent["Content-Type"] = "application/json"
            body = json.dumps(body).encode("ascii")
        connection = http.client.HTTPConnection(self.host.strip("[]"), self.port, timeout=timeout_s)
        try:
            connection.request(method, path.removeprefix(self.url), body, {**sent, **(headers or {})})
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **query: Any) -> Reply:
        """GET a path, or a URL of this server."""
        return self.ask("GET", _with(path, query))

    def post(self, path: str, body: Any = None, /, **query: Any) -> Reply:
        """POST to a path, or a URL of this server."""
        return self.ask("POST", _with(path, query), body)

    def run(self, path: str, body: Any = None, /, **query: Any) -> dict[str, Any]:
        """POST to `/api/chains/<path>`, wait until the run has ended, and return `GET /api/runs/<run>`'s data."""
        reply = self.post(f"/api/chains/{path}", body, **query)
        assert reply.status == 200, reply
        return self.ended(reply.data["run_id"])

    def ended(self, run_id: str, *, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until a run has ended, and return what the server tells of it."""
        told: dict[str, Any] = {}

        def over() -> bool:
            told.update(self.get(f"/api/runs/{run_id}").data)
            return told["state"] in FINAL

        wait_until(over, f"the run {run_id} ends", patience_s=patience_s)
        return told

    def processes(self) -> list[int]:
        """Return the ids of all processes that the server started and that still live, its own included."""
        wanted = f"{_MARK}={self.mark}".encode("ascii")
        found = []
        for place in Path("/proc").iterdir():
            if place.name.isdecimal() and int(place.name) != os.getpid():
                with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                    if wanted in (place / "environ").read_bytes().split(b"\0"):
                        found.append(int(place.name))
        return found

    def end(self, number: int = signal.SIGTERM) -> None:
        """End the server by a signal, and wait until it is gone. What it started may go on."""
        self.process.end(number)

    def end_all(self) -> None:
        """Kill the server and every process that it started, and wait until they are gone."""
        self.process.end(signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        while left := self.processes():
            assert time.monotonic() < deadline, f"{left} do not end"
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


@contextlib.contextmanager
def serving(project: Any, *words: str, before: Sequence[str] = (), **environ: str) -> Iterator[NectarServer]:
    """Run `nectar serve --port 0` with these words more, and give the server once it answers.

    `project` is its folder, or something that has it as `root`. `before` holds the words of a command that becomes the
    server. `environ` holds variables beside those of this process, of which none is Nectar's. The server's output is in
    its `log`. It ends with the block, or with this process; with the block all that it started ends as well.

    Raises: NotStarted: with what the server said.
    """
    root = Path(project if isinstance(project, str | Path) else project.root)  # a path has a `root` as well
    mark = secrets.token_hex(16)
    # `env` goes to the folder, then becomes the server. Standard error is a file: nobody has to read it.
    command = ["env", "-C", str(root), f"{_MARK}={mark}", *before, str(COMMAND), "serve", "--port", "0"]
    with tempfile.TemporaryDirectory(prefix="nectar-serve-", ignore_cleanup_errors=True) as folder:
        process = Guarded([*command, *words], Path(folder), environment=environment(root, **environ))
        server = NectarServer(root, "", "", 0, process, mark)
        try:
            wait_until(lambda: process.ended or _serving(process) is not None, "the server listens")
            found = _serving(process)
            if found is None:
                raise NotStarted(f"`nectar serve` ended\n{process.said()}")
            server.url, server.host, server.port = found[1].decode(), found[2].decode(), int(found[3])
            yield server
        finally:
            server.end_all()


def environment(root: Path, **variables: str) -> dict[str, str]:
    """Return the variables of a command in a project: those of this process that are no settings, and `variables`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _FOREIGN and not name.startswith(("NECTAR_", "_NECTAR_", "COMP_", "FLASK_"))
    }
    return {**kept, "NECTAR_PROJECT": str(root), **variables}


def eventually(value: Callable[[], Any], what: str, *, patience_s: float = PATIENCE_S) -> Any:
    """Wait until `value()` is something true, and return it."""
    found: list[Any] = []

    def there() -> bool:
        found[:] = [value()]
        return bool(found[0])

    wait_until(there, what, patience_s=patience_s)
    return found[0]


def _serving(process: Guarded) -> re.Match[bytes] | None:
    return _SERVING.search(process.log.read_bytes())


def _with(path: str, query: Mapping[str, Any]) -> str:
    if not query:
        return path
    return f"{path}{'&' if '?' in path else '?'}{urllib.parse.urlencode(query, doseq=True)}"
