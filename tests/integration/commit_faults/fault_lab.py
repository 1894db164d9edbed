"""What the tests of commit faults share: a project with a chain, processes to be hurt, and the look at what is left."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nectar
from nectar.address import Address
from nectar.stores import Inspection, LocalStore, State

HERE = Path(__file__).parent
#: paths that the chain and the server ask for, so that a trace tells where a process has come to
BEGINS, ENDS = "/a-mark-of-the-test/attempt-begins", "/a-mark-of-the-test/attempt-ends"
RUN_BEGINS, RUN_ENDS = "/a-mark-of-the-test/run-begins", "/a-mark-of-the-test/run-ends"
PATIENCE_S = 60.0  #: until something that should have happened counts as hanging


class Dice(random.Random):
    """Chance that can be had again by its seed."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.seed_text = seed


def make_project(folder: Path) -> Path:
    """Make a project whose one chain is `fault_chain.py`, and return its folder."""
    chain = folder / "chains/etl/fault_chain.py"
    chain.parent.mkdir(parents=True)
    for package in (folder / "chains", chain.parent):
        (package / "__init__.py").touch()
    shutil.copy(HERE / "fault_chain.py", chain)
    return folder


def environment(project: Path) -> dict[str, str]:
    """Return the environment in which processes of that project run."""
    code = Path(nectar.__file__).parents[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NECTAR_", "LUIGI_"))}
    path = [str(project), str(code), *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {
        "PYTHONPATH": os.pathsep.join(path),
        "NECTAR_PROJECT": str(project),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "ENV": "local",
    }


class Lab:
    """A server of processes that run the chain, see `fault_server.py`."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self._server = subprocess.Popen(
            [sys.executable, str(HERE / "fault_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(project),
            cwd=project,
        )

    def close(self) -> None:
        """End the server, and with it every child."""
        self._server.kill()
        self._server.communicate()

    def _ask(self, **request: Any) -> Any:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        self._server.stdin.flush()
        line = self._server.stdout.readline()
        assert line, "the server of the test's processes is gone"
        return json.loads(line)

    def start(self, store: Path, work: str = "once", **request: Any) -> int:
        """Fork a process that waits at its gate, and return its id."""
        return int(self._ask(do="start", store=str(store), work=work, **request))

    def go(self, pid: int) -> None:
        """Open the gate of a process."""
        self._ask(do="go", pid=pid)

    def end(self, pid: int) -> dict[str, Any]:
        """Wait for the end of a process; return `exit` (negative: the signal that killed it) and what it `told`."""
        answer: dict[str, Any] = self._ask(do="end", pid=pid)
        told = answer["told"]
        assert told is None or told["kind"] != "a defect of the test", told["text"]
        return answer

    def run(self, store: Path, **request: Any) -> dict[str, Any]:
        """Run a task to its end, undisturbed."""
        pid = self.start(store, **request)
        self.go(pid)
        return self.end(pid)

    def succeed(self, store: Path, **request: Any) -> dict[str, Any]:
        """Run a task that has to succeed."""
        told = self.run(store, **request)["told"]
        assert told is not None and told["kind"] is None, told and told["text"]
        return told  # type: ignore[no-any-return]

    def run_traced(self, store: Path, trace: Path, *options: str, **request: Any) -> dict[str, Any]:
        """Run a task under strace with these options, writing the calls to a file."""
        pid = self.start(store, **request)
        tracer = subprocess.Popen(
            ["strace", "-p", str(pid), "-o", str(trace), "-s", "512", *options], stderr=subprocess.PIPE, text=True
        )
        try:
            assert tracer.stderr is not None
            line = tracer.stderr.readline()
            assert "attached" in line, line
            self.go(pid)
            answer = self.end(pid)
            tracer.communicate(timeout=PATIENCE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                tracer.kill()
            tracer.communicate()
        return answer


def why_no_tracing() -> str | None:
    """Return why system calls cannot be disturbed here, None where they can."""
    if shutil.which("strace") is None:
        return "strace is not installed: no system call can be disturbed"
    waiting = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    try:
        tracer = subprocess.Popen(
            ["strace", "-p", str(waiting.pid), "-o", os.devnull, "-e", "inject=write:signal=KILL:when=1"],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        if "attached" not in line:
            tracer.communicate()
            return f"strace cannot trace here: {line.strip()}"
        waiting.communicate(b"x")
        tracer.communicate()
        return None if waiting.returncode == -signal.SIGKILL else "this strace cannot inject faults"
    finally:
        waiting.kill()
        waiting.communicate()


# System calls


@dataclass(frozen=True)
class Call:
    """One system call of a traced process."""

    name: str
    ordinal: int  #: the how manieth of this name since the gate opened, from 1: what strace counts
    text: str

    def __str__(self) -> str:
        return f"{self.name}:{self.ordinal}"

    def is_mark(self, path: str) -> bool:
        """Say whether this is the call by which a process tells that it has come to some point."""
        return self.name in ("access", "faccessat", "faccessat2") and f'"{path}"' in self.text


_CALL = re.compile(r"^(?:(\d+) +)?(\w+)\(")


def calls_in(trace: Path) -> list[Call]:
    """Return the calls of the first thread of a trace, in order."""
    seen: Counter[str] = Counter()
    calls = []
    first = None
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        first = first or found[1]
        if found[1] == first:
            seen[found[2]] += 1
            calls.append(Call(found[2], seen[found[2]], line))
    return calls


def between(calls: Sequence[Call], start: str, stop: str | None = None) -> list[Call]:
    """Return the calls after the mark `start`, up to the mark `stop`: paths that are asked for only to be seen here."""
    first = next(index for index, call in enumerate(calls) if call.is_mark(start))
    last = next((index for index, call in enumerate(calls) if stop is not None and call.is_mark(stop)), None)
    return list(calls[first + 1 : last])


def sample(calls: Sequence[Call], every: Sequence[str], most: int) -> list[Call]:
    """Return some calls: those whose names are in `every` and one of each other name, evenly thinned out to `most`."""
    chosen, names = [], set()
    for call in calls:
        if call.name in every or call.name not in names:
            chosen.append(call)
            names.add(call.name)
    return spread(chosen, most)


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many of the items, evenly spread."""
    return [items[index * len(items) // most] for index in range(most)] if len(items) > most else list(items)


# What is left


@dataclass(frozen=True)
class Sight:
    """What lies at an address: its state, and its bytes when it is complete."""

    state: State
    attempt: str | None
    files: dict[str, str]  #: name -> sha256 of the bytes that are there


def look(root: Path, address: Address) -> Sight:
    """Return what lies at an address, and make sure that it is not torn.

    A complete target must have exactly the bytes of its record; nothing else is promised of the rest.
    """
    found: Inspection = LocalStore(str(root)).inspect(address)
    if not found.complete or found.record is None:
        return Sight(found.state, None, {})
    files = {}
    for entry in found.record.files:
        raw = Path(root, address.path, entry.object).read_bytes()
        files[entry.name] = hashlib.sha256(raw).hexdigest()
        assert (len(raw), files[entry.name]) == (entry.size, entry.sha256), f"{address}/{entry.name} is torn"
    return Sight(found.state, found.record.attempt, files)


def look_at_all(root: Path) -> dict[Address, Sight]:
    """Return what lies at every address of a store, none of it torn."""
    return {address: look(root, address) for address in LocalStore(str(root)).walk()}


def the_target(root: Path, task: str = "WholeTask") -> Address:
    """Return the one address at which a target of a task lies."""
    [address] = [one for one in LocalStore(str(root)).walk() if one.prefix.endswith(f"/{task}")]
    return address
