"""A project whose servers and runs are real processes: started, killed, watched, and always ended."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nectar_server import NectarServer, Reply, environment, serving

import nectar
from nectar.actions import verify
from nectar.records import utc_now
from nectar.runs import Journal, NewRun, RunState, RunStore, open_books
from nectar.stores import LocalStore

PATIENCE_S = 60.0  #: until what should have happened counts as hanging
_MARK = "SERVICE_TEST_MARK"  #: in the environment of every process that a test has to do with
_HEAD = """
import os, pathlib, resource, signal, subprocess, sys, time
import luigi
import nectar

def note(text):
    with open("notes", "a") as file:
        file.write(text + "\\n")

def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.02)


"""


def until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait for a condition, and return what it is."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {patience_s:g} s"
        time.sleep(0.02)
    return found


def refused(reply: Reply, status: int, code: str) -> Any:
    """Make sure that this is the envelope of an error, and return it."""
    told = reply.json
    assert (reply.status, told["status"], told["code"], told["data"]) == (status, status, code, None), reply
    assert told["request_id"] and told["message"], reply
    return told


class Server:
    """A `nectar serve` that answers."""

    def __init__(self, served: NectarServer) -> None:
        self._served = served
        self.ask, self.get, self.post, self.pid = served.ask, served.get, served.post, served.pid
        self.host, self.port = served.host, served.port

    @property
    def log(self) -> str:
        return self._served.log

    def kill(self) -> None:
        """End it at once, and nothing that it started."""
        self._served.process.end(signal.SIGKILL)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self._served.process.send(number)

    def ended(self, patience_s: float = PATIENCE_S) -> int | None:
        """Wait for its end, and return its exit code."""
        until(lambda: self._served.process.ended, "the server ends", patience_s)
        return self._served.process.code

    def draining(self) -> None:
        """Wait until it takes no more runs."""
        until(lambda: self.get("/healthz").data["state"] == "draining", "it drains")

    def task(self, task: str, /, **params: Any) -> Any:
        """POST to a task, as in `<chain>/<Task>` or of the chain `work`, and return what was answered of the run."""
        reply = self.try_task(task, **params)
        assert reply.status == 200, reply
        return reply.data

    def try_task(self, task: str, /, **params: Any) -> Reply:
        """POST to a task, as in `<chain>/<Task>` or of the chain `work`."""
        chain, _, name = task.rpartition("/")
        return self.post(f"/api/chains/etl/{chain or 'work'}_chain/{name}", **params)

    def run(self, run_id: str) -> Any:
        reply = self.get(f"/api/runs/{run_id}")
        assert reply.status == 200, reply
        return reply.data

    def final(self, run_id: str, patience_s: float = PATIENCE_S) -> Any:
        """Wait until a run has ended, and return it."""
        return self._served.ended(run_id, patience_s=patience_s)

    def status(self, submitted: Any) -> Any:
        """Return what the status URL of a request says, asked of this server."""
        reply = self.get("/api/" + submitted["status_url"].partition("/api/")[2])
        assert reply.status == 200, reply
        return reply.data


class Lab:
    """A project in a folder of its own."""

    def __init__(self, root: Path, runs: str | None = None) -> None:
        """Name the folder, and the books where they are not SQLite's."""
        self.root = root
        self.mark = secrets.token_hex(8)
        self.runs = runs
        self.servers: list[Server] = []
        self._open = contextlib.ExitStack()
        self.put("chains/__init__.py", "")
        self.put("configuration/luigi.cfg", "[core]\nno_lock = true\nautoload_range = false\n")

    # Writing

    def put(self, name: str, text: str) -> Path:
        place = self.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(textwrap.dedent(text), encoding="utf-8")
        return place

    def chain(self, text: str, name: str = "work") -> Path:
        """Write the chain `etl/<name>_chain`, with what these chains need."""
        return self.put(f"chains/etl/{name}_chain.py", _HEAD + textwrap.dedent(text))

    def go(self, *names: str) -> None:
        """Let tasks that wait for files of these names go on."""
        for name in names:
            self.put(name, "")

    # Running

    def environment(self, changes: Mapping[str, str]) -> dict[str, str]:
        package = str(Path(str(nectar.__file__)).parents[1])
        own = {"PYTHONPATH": os.pathsep.join([str(self.root), package]), "PYTHONDONTWRITEBYTECODE": "1"}
        # The disk is not what these tests are about, and waiting for it takes most of the time.
        own |= {"NECTAR_DURABILITY": "none", _MARK: self.mark}
        return own | ({} if self.runs is None else {"NECTAR_RUNS": self.runs}) | dict(changes)

    def serve(self, *words: str, **variables: str) -> Server:
        """Start a server, and wait until it listens."""
        served = self._open.enter_context(serving(self.root, *words, **self.environment(variables)))
        self.servers.append(Server(served))
        return self.servers[-1]

    def start(self, *words: str, told: bytes = b"", **variables: str) -> subprocess.Popen[bytes]:
        """Start a Python command that reads `told`, and prints nowhere."""
        with tempfile.TemporaryFile() as file:
            file.write(told)
            file.seek(0)
            return subprocess.Popen(
                [sys.executable, *words],
                cwd=self.root,
                env=environment(self.root, **self.environment(variables)),
                stdin=file,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def call(self, *words: str, **variables: str) -> tuple[int, str]:
        """Run a Python command to its end, and return its exit code and what it printed."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.root,
            env=environment(self.root, **self.environment(variables)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
        )
        return done.returncode, done.stdout.decode(errors="backslashreplace")

    def nectar(self, *words: str, **variables: str) -> tuple[int, str]:
        """Run `nectar` to its end, and return its exit code and what it printed."""
        return self.call("-m", "nectar.cli", *words, **variables)

    # Watching

    @property
    def notes(self) -> list[str]:
        """What tasks noted, in the order of time."""
        place = self.root / "notes"
        return place.read_text().splitlines() if place.exists() else []

    def noted(self, text: str) -> None:
        """Wait until a task has noted something."""
        until(lambda: text in self.notes, f"a task notes `{text}`")

    def targets(self, task: str = "*", **params: Any) -> list[Path]:
        """Return the folders of targets that have records, and these parameters."""
        found = self.root.glob(f"local_targets/chains/etl/*/{task}/[0-9a-f]*/record.json")
        made = sorted(path.parent for path in found)
        return [one for one in made if params.items() <= json.loads((one / "params.txt").read_text()).items()]

    def check_store(self) -> None:
        """Make sure that everything that reads as complete has the bytes that its record says."""
        store = LocalStore(str(self.root / "local_targets"))
        assert [one for one in verify.check(store) if one.problem is not None] == []

    def looked(self, server: Server) -> None:
        """Wait until the server has taken in journals and, after that, had its chance to take runs from the queue."""
        for _ in range(2):  # when it has seen the second, it is done with whatever follows the first
            run_id = f"beat-{secrets.token_hex(6)}"
            with Journal(self.root / ".nectar" / "runs" / "journals", run_id) as journal:
                journal.create(NewRun(run_id, utc_now()))
                journal.state(RunState.SUCCESS)
            until(lambda run_id=run_id: server.get(f"/api/runs/{run_id}").status == 200, "the server looks")  # type: ignore[misc]

    @contextlib.contextmanager
    def books(self) -> Iterator[RunStore]:
        """Open the books as they are, without a look at journals and the dead."""
        store = open_books(self.runs or f"sqlite:///{self.books_path}")
        try:
            yield store
        finally:
            store.close()

    @property
    def books_path(self) -> Path:
        return self.root / ".nectar" / "runs" / "runs.db"

    def processes(self, words: str = "") -> dict[int, str]:
        """Return the command lines of all processes that came of this project and have these words, by id."""
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):  # it has just ended, or is another user's
                if f"{_MARK}={self.mark}".encode() not in (folder / "environ").read_bytes().split(b"\0"):
                    continue
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z" and words in line:
                    found[int(folder.name)] = line
        return found

    def carrier(self, run_id: str) -> int:
        """Return the process that carries a run out."""
        return int(until(lambda: next(iter(self.processes(f"nectar.service.carrier {run_id}")), 0), "it has a process"))

    def end_all(self) -> None:
        """Kill all that the project ever started."""
        self._open.close()
        deadline = time.monotonic() + PATIENCE_S
        while left := self.processes():
            assert time.monotonic() < deadline, left
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
