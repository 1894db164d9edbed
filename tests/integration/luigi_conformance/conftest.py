"""Run chains of a temporary project by Nectar's own executors, by luigi's own worker, and against a `luigid`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import nectar

sys.path.insert(0, str(Path(__file__).parents[2] / "servers"))

import ready_python

LIMIT_S = 60.0
RETRY_DELAY_S = 1.0  #: of the `luigid`

LUIGI_CFG = """
[core]
no_lock = true
log_level = INFO
autoload_range = false

# Only to be quick: luigi waits a second or more by default. A `luigid` that keeps finished tasks in mind for ten
# seconds would take a target that a test removed for made.
[worker]
wait_interval = 0.02
wait_jitter = 0.0

[scheduler]
stable_done_cooldown_secs = 0
"""

LUIGID_CFG = f"{LUIGI_CFG}retry_delay = {RETRY_DELAY_S}\nprune_on_get_work = true\n"

OWN = """
import json, pathlib, sys
import nectar
from nectar import settings
from nectar.actions.resolve import find_root_task

chain, name, params, executor, answer = sys.argv[1:]
events = []
root = find_root_task(settings.current(), chain, name, json.loads(params))
workers = 2 if executor == "processes" else 1
result = nectar.run(root, executor=executor, workers=workers, listener=lambda event: events.append(event.to_json()))
pathlib.Path(answer).write_text(json.dumps({"result": result.to_json(), "events": events}))
sys.exit(int(result.exit_code))
"""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str
    answer: dict[str, Any] = field(default_factory=dict)  #: of our own executors: result and events

    def ok(self) -> Ended:
        assert self.code == 0, f"exit code {self.code}\n{self.stdout}\n{self.stderr}"
        return self

    def failed(self) -> Ended:
        assert self.code != 0, f"exit code 0\n{self.stdout}\n{self.stderr}"
        return self


@dataclass(frozen=True)
class Place:
    """A target, or a failed attempt, in the store."""

    path: Path

    @property
    def key(self) -> str:
        return self.path.name

    @property
    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.path / "record.json").read_text()))

    @property
    def params(self) -> dict[str, Any]:
        return dict(json.loads((self.path / "params.txt").read_text()))

    def text(self, name: str = "out.txt") -> str:
        return (self.path / name).read_text()

    @property
    def stdout(self) -> str:
        return self.text("log/stdout.log")

    @property
    def stderr(self) -> str:
        return self.text("log/stderr.log")


class Project:
    """A project in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put("chains/__init__.py", "")
        self.put("configuration/luigi.cfg", LUIGI_CFG)

    def put(self, file: str, text: str) -> Path:
        place = self.root / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(textwrap.dedent(text), encoding="utf-8")
        return place

    def chain(self, name: str, text: str) -> None:
        self.put(f"chains/etl/{name}.py", text)

    def environment(self, changes: Mapping[str, str]) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("NECTAR_", "LUIGI_")) and name not in ("ENV", "PROJECT_BUCKET", "PYTHONHASHSEED")
        }
        package = str(Path(str(nectar.__file__)).parents[1])
        path = os.pathsep.join([str(self.root), package, *filter(None, [kept.get("PYTHONPATH")])])
        # The disk is not what is tested here, and waiting for it takes most of the time.
        defaults = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "NECTAR_DURABILITY": "none"}
        return kept | defaults | dict(changes)

    def command(self, words: Sequence[str], env: Mapping[str, str] | None = None, limit_s: float = LIMIT_S) -> Ended:
        done = ready_python.run(words, cwd=self.root, env=self.environment(env or {}), timeout=limit_s)
        out, err = (raw.decode(errors="backslashreplace") for raw in (done.stdout, done.stderr))
        return Ended(done.returncode, out, err)

    def python(self, code: str, env: Mapping[str, str] | None = None) -> Ended:
        return self.command([sys.executable, "-c", textwrap.dedent(code)], env)

    # What is in the store

    @property
    def store(self) -> Path:
        return self.root / "local_targets"

    def targets(self, task: str, chain: str = "*") -> list[Place]:
        """Return a task class's targets, in the order in which they were begun."""
        found = self.store.glob(f"chains/etl/{chain}/{task}/[0-9a-f]*/record.json")
        return sorted((Place(path.parent) for path in found), key=lambda one: str(one.record["started_at"]))

    def target(self, task: str, chain: str = "*", **params: object) -> Place:
        """Return the only target of a task class with these parameters."""
        found = [one for one in self.targets(task, chain) if params.items() <= one.params.items()]
        assert len(found) == 1, f"{len(found)} targets of {task} {params}: {found}"
        return found[0]

    def failures(self, task: str, chain: str = "*") -> list[Place]:
        """Return the failed attempts at a task class, oldest first."""
        return sorted(map(Place, self.store.glob(f"chains/etl/{chain}/{task}/.attempts/*/*")), key=lambda one: one.key)

    def staged(self) -> list[Path]:
        """Return what is left of attempts at work."""
        return list(self.store.glob("chains/etl/*/*/.staging/*"))

    def made(self) -> list[str]:
        """Return the class name of every target, in the order in which they were begun."""
        return [one.path.parent.name for one in self.targets("*")]


@dataclass(frozen=True)
class Engine:
    """Who carries out a task: `luigi` with some options, or an executor of Nectar's own."""

    name: str
    options: tuple[str, ...] | None  #: of `luigi`; None: `name` is an executor of our own
    url: str | None = None  #: of the `luigid`

    @property
    def luigi(self) -> bool:
        return self.options is not None

    def run(
        self,
        project: Project,
        chain: str,
        task: str,
        params: Mapping[str, str] | None = None,
        *,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        limit_s: float = LIMIT_S,
    ) -> Ended:
        """Run one task of a chain; `options` are for luigi's command alone."""
        texts = dict(params or {})
        if self.options is None:
            answer = project.root / "answer.json"
            words = [sys.executable, "-c", OWN, f"etl/{chain}", task, json.dumps(texts), self.name, str(answer)]
            ended = project.command(words, env, limit_s)
            given = json.loads(answer.read_text()) if answer.exists() else {}
            answer.unlink(missing_ok=True)
            return Ended(ended.code, ended.stdout, ended.stderr, given)
        given = [word for name, text in texts.items() for word in (f"--{name.replace('_', '-')}", text)]
        luigi = str(Path(sys.executable).with_name("luigi"))
        words = [luigi, "--module", f"chains.etl.{chain}", task, *given, *self.options, *options]
        return project.command(words, env, limit_s)


@pytest.fixture(scope="session")
def luigid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real central scheduler on a free port; its URL."""
    folder = tmp_path_factory.mktemp("luigid")
    (folder / "luigi.cfg").write_text(LUIGID_CFG)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(Path(sys.executable).with_name("luigid"))]
    words += ["--address", "127.0.0.1", "--port", str(port), "--state-path", str(folder / "state.pickle")]
    environment = os.environ | {"LUIGI_CONFIG_PATH": str(folder / "luigi.cfg")}
    with (
        open(folder / "log", "wb") as log,
        subprocess.Popen(
            words, cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        ) as server,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: _answers(url) or server.poll() is not None)
            assert server.poll() is None, (folder / "log").read_text()
            yield url
        finally:
            server.terminate()


def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def ask(url: str, method: str, **arguments: object) -> Any:
    """Return what a central scheduler's API answers."""
    query = urllib.parse.urlencode({"data": json.dumps(arguments)})
    with urllib.request.urlopen(f"{url}/api/{method}?{query}", timeout=LIMIT_S) as answer:
        return json.loads(answer.read())["response"]


def _answers(url: str) -> bool:
    try:
        ask(url, "task_list", status="RUNNING", upstream_status="")
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


LOCAL = {
    "inline": None,
    "processes": None,
    "luigi, 1 process": ("--local-scheduler", "--workers", "1"),
    "luigi, 2 processes": ("--local-scheduler", "--workers", "2"),
}


def make_engine(name: str, request: pytest.FixtureRequest) -> Engine:
    if name in LOCAL:
        return Engine(name, LOCAL[name])
    url = request.getfixturevalue("luigid")
    return Engine(name, ("--scheduler-url", url, "--workers", "1"), url)


@pytest.fixture(scope="session", params=[*LOCAL, "luigid"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each way to carry out a task."""
    return make_engine(request.param, request)


@pytest.fixture(scope="session", params=[*(name for name, options in LOCAL.items() if options), "luigid"])
def luigi_engine(request: pytest.FixtureRequest) -> Engine:
    """Each way to carry out a task under luigi."""
    return make_engine(request.param, request)


@pytest.fixture(scope="session")
def inline() -> Engine:
    """Nectar's own execution in one process."""
    return Engine("inline", None)


@pytest.fixture(scope="session")
def one_process() -> Engine:
    """Luigi's worker in one process, with its local scheduler."""
    return Engine("luigi, 1 process", LOCAL["luigi, 1 process"])


@pytest.fixture(scope="session")
def ask_luigid(luigid: str) -> Callable[..., Any]:
    """Ask the central scheduler."""
    return lambda method, **arguments: ask(luigid, method, **arguments)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture(scope="module")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Make projects that several tests of a module look at."""
    return lambda: Project(tmp_path_factory.mktemp("module") / "project")
