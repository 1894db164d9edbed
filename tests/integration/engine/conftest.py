"""Projects whose runs are real processes: watched, hurt, and always ended when the test is over."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import nectar
from nectar.actions import verify
from nectar.stores import LocalStore

LIMIT_S = 60.0  #: until something that should have happened counts as hanging
MARK = "ENGINE_TEST_MARK"  #: in the environment of every process that a test has to do with, daemons included

DRIVER = """
import json, pathlib, sys, traceback
import nectar
from nectar import settings
from nectar.actions.resolve import find_root_task
from nectar.execution import processes

wish = json.loads(sys.argv[1])
processes.GRACE_S = wish["grace_s"]
root = find_root_task(settings.current(), wish["chain"], wish["task"], wish["params"])
answer = {"events": []}
code = 70
try:
    result = nectar.run(root, listener=lambda event: answer["events"].append(event.to_json()), **wish["options"])
    answer["result"] = result.to_json()
    code = int(result.exit_code)
except BaseException as error:
    answer["raised"] = f"{type(error).__name__}: {error}"
    traceback.print_exc()
finally:
    pathlib.Path(wish["answer"]).write_text(json.dumps(answer))
sys.exit(code)
"""


def until(condition: Callable[[], Any], limit_s: float = 20.0) -> Any:
    """Wait for a condition, and return what it is."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


@dataclass
class Ended:
    """A process that has ended."""

    code: int
    out: str
    err: str
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        """Every task's result, by its name without the module."""
        assert "result" in self.answer, self
        found = self.answer["result"]["steps"]
        steps = {step["task"].split("_chain.")[-1]: step for step in found}
        assert len(steps) == len(found), "a task ended more than once"
        return steps

    @property
    def statuses(self) -> dict[str, str]:
        return {name: step["status"] for name, step in self.steps.items()}

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(self.statuses.values()))

    def ok(self) -> Ended:
        assert self.code == 0, self
        return self


class Started:
    """A process of a test: the leader of a session of its own, with its output in files."""

    def __init__(self, popen: subprocess.Popen[bytes], out: Path, err: Path, answer: Path | None) -> None:
        self.popen, self._out, self._err, self._answer = popen, out, err, answer

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def err(self) -> str:
        return self._err.read_text(errors="backslashreplace")

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def ended(self, limit_s: float = LIMIT_S) -> Ended:
        """Wait for the end; one that does not come is a failure."""
        try:
            code = self.popen.wait(limit_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it did not end within {limit_s:g} s:\n{self.err[-3000:]}")
        given = json.loads(self._answer.read_text()) if self._answer and self._answer.exists() else {}
        return Ended(code, self._out.read_text(errors="backslashreplace"), self.err, given)


class Project:
    """A project in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mark = secrets.token_hex(8)
        self._number = 0
        self.put("chains/__init__.py", "")
        self.put("configuration/luigi.cfg", "[core]\nno_lock = true\nautoload_range = false\n")

    # Writing

    def put(self, name: str, text: str) -> Path:
        place = self.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(textwrap.dedent(text), encoding="utf-8")
        return place

    def chain(self, text: str, name: str = "engine") -> None:
        """Write the chain `etl/<name>_chain`, with the imports that these chains need."""
        head = "import os, pathlib, signal, subprocess, sys, threading, time\n\nimport luigi\n\nimport nectar\n\n\n"
        self.put(f"chains/etl/{name}_chain.py", head + textwrap.dedent(text))

    # Running

    def environment(self, changes: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("NECTAR_", "LUIGI_")) and name not in ("ENV", "PROJECT_BUCKET", "PYTHONHASHSEED")
        }
        package = str(Path(str(nectar.__file__)).parents[1])
        path = os.pathsep.join([str(self.root), package])
        # The disk is not what most tests are about, and waiting for it takes most of the time.
        own = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "NECTAR_DURABILITY": "none", MARK: self.mark}
        return kept | own | dict(changes or {})

    def start(
        self, words: Sequence[str], *, env: Mapping[str, str] | None = None, answer: Path | None = None, **options: Any
    ) -> Started:
        self._number += 1
        out, err = self.root / f"out.{self._number}", self.root / f"err.{self._number}"
        with open(out, "wb") as out_file, open(err, "wb") as err_file:
            options = {"stdin": subprocess.DEVNULL, "stdout": out_file, "stderr": err_file} | options
            popen = subprocess.Popen(
                list(words), cwd=self.root, env=self.environment(env), start_new_session=True, **options
            )
        return Started(popen, out, err, answer)

    def start_run(
        self,
        task: str,
        *,
        chain: str = "engine",
        grace_s: float = 5.0,
        env: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Started:
        """Start `nectar.run(task, **options)`; its result and events are in the answer."""
        answer = self.root / f"answer.{self._number + 1}"
        wish = {
            "chain": f"etl/{chain}_chain",
            "task": task,
            "params": dict(params or {}),
            "grace_s": grace_s,
            "answer": str(answer),
            "options": {"echo": False} | options,
        }
        return self.start([sys.executable, "-c", DRIVER, json.dumps(wish)], env=env, answer=answer)

    def run(self, task: str, *, limit_s: float = LIMIT_S, **options: Any) -> Ended:
        return self.start_run(task, **options).ended(limit_s)

    def start_nectar(self, *words: str, **options: Any) -> Started:
        """Start the command line."""
        return self.start([sys.executable, "-m", "nectar.cli", *words], **options)

    def nectar(self, *words: str, limit_s: float = LIMIT_S, **options: Any) -> Ended:
        return self.start_nectar(*words, **options).ended(limit_s)

    def start_luigi(self, task: str, *words: str, chain: str = "engine") -> Started:
        command = [sys.executable, "-m", "luigi", "--module", f"chains.etl.{chain}_chain", task, "--local-scheduler"]
        return self.start([*command, *words])

    def python(self, code: str, limit_s: float = LIMIT_S) -> Ended:
        return self.start([sys.executable, "-c", textwrap.dedent(code)]).ended(limit_s)

    # Watching

    def processes(self) -> dict[int, str]:
        """Return the command lines of all processes that came of this project, daemons included, by process id."""
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):  # it has just ended, or is another user's
                if f"{MARK}={self.mark}".encode() not in (folder / "environ").read_bytes().split(b"\0"):
                    continue
                if (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def nothing_runs(self, limit_s: float = 5.0) -> None:
        """Make sure that within some seconds no process is left."""
        deadline = time.monotonic() + limit_s
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.02)

    def end_all(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # What is in the store

    @property
    def store(self) -> Path:
        return self.root / "local_targets"

    def targets(self, task: str = "*") -> list[Path]:
        """Return the folders of complete-looking targets."""
        return sorted(path.parent for path in self.store.glob(f"chains/etl/*/{task}/[0-9a-f]*/record.json"))

    def target(self, task: str, **params: object) -> Path:
        """Return the only target of a task with these parameters."""
        found = [one for one in self.targets(task) if params.items() <= _json(one / "params.txt").items()]
        assert len(found) == 1, f"{len(found)} targets of {task} {params}"
        return found[0]

    def record(self, task: str, **params: object) -> dict[str, Any]:
        return _json(self.target(task, **params) / "record.json")

    def failures(self, task: str = "*") -> list[Path]:
        """Return the kept folders of failed attempts, oldest first."""
        return sorted(self.store.glob(f"chains/etl/*/{task}/.attempts/*/*"), key=lambda one: one.name)

    def staged(self) -> list[Path]:
        return list(self.store.glob("chains/etl/*/*/.staging/*"))

    def lines(self, name: str) -> list[str]:
        """Return what tasks noted in a file of the project's folder."""
        place = self.root / name
        return place.read_text().splitlines() if place.exists() else []

    def check_store(self) -> None:
        """Make sure that everything that reads as complete has the bytes that its record says."""
        found = [(one.path, one.problem) for one in verify.check(LocalStore(str(self.store)))]
        assert [one for one in found if one[1] is not None] == []


def _json(place: Path) -> dict[str, Any]:
    return dict(json.loads(place.read_text()))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project")
    yield made
    made.end_all()


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Any]:
    """Wait for a condition, and return what it is."""
    return until


@pytest.fixture(scope="module")
def new_project() -> Iterator[Callable[[Path], Project]]:
    """Make projects that several tests of a module look at."""
    made: list[Project] = []

    def make(root: Path) -> Project:
        made.append(Project(root))
        return made[-1]

    yield make
    for project in made:
        project.end_all()
