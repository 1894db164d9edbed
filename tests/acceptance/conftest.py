"""Projects in temporary folders, and the command `nectar` as a person's shell starts it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))

import ready_python

COMMAND = Path(sys.executable).with_name("nectar")
SHIPPED = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0
#: what a person's own shell might have set, and a test must not depend on
FOREIGN = ("ENV", "PROJECT_BUCKET", "LUIGI_CONFIG_PATH", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")

DAILY = '''
"""Two tasks, one after the other."""

import luigi

import nectar


class LoadTask(nectar.Task):
    """Loads one day."""

    day = luigi.IntParameter(description="which day")

    def run(self):
        print(f"loading day {self.day}")
        self.dump(f"day {self.day}\\n")


class ReportTask(nectar.Task):
    """Reports one day."""

    day = luigi.IntParameter(default=1)
    title = luigi.Parameter(default="plain")
    kind = luigi.ChoiceParameter(choices=["long", "short"], default="long")
    loud = luigi.BoolParameter(description="in capitals")

    def requires(self):
        return LoadTask(day=self.day)

    def run(self):
        self.dump(f"{self.title}: {self.input().load()}")
'''


@dataclass(frozen=True)
class Answer:
    """What one command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    def failed(self, code: int, *fragments: str) -> Answer:
        """Check that one clear sentence and a hint say what is wrong, with this exit code and nothing on stdout."""
        assert self.code == code, self
        assert self.out == "", self
        lines = self.err.splitlines()
        first = next(number for number, line in enumerate(lines) if line.startswith("error: "))
        assert any(line.startswith("hint: ") for line in lines[first:]), self
        assert "Traceback" not in self.err, self
        for fragment in fragments:
            assert fragment in self.err, self
        return self


class Project:
    """A project in a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "local_targets"
        (root / "chains").mkdir(parents=True, exist_ok=True)

    def chain(self, name: str, source: str) -> Path:
        """Write a chain, with the imports that every chain has unless it has its own."""
        text = textwrap.dedent(source)
        if "import nectar" not in text:
            text = "import luigi\nimport nectar\n" + text
        return self.file(f"chains/{name}.py", text)

    def file(self, name: str, text: str) -> Path:
        place = self.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(textwrap.dedent(text), encoding="utf-8")
        return place

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in FOREIGN and not name.startswith(("NECTAR_", "_NECTAR_", "COMP_"))
        }
        return {**kept, "TERM": "xterm-256color", "NECTAR_PROJECT": str(self.root), **variables}

    def nectar(self, *words: str | bytes, **variables: str) -> Answer:
        """Run the command to its end, in the project's folder and with stdout and stderr apart."""
        assert COMMAND.is_file(), f"{COMMAND} is not there: install the project into this environment"
        return self._run([str(COMMAND), *words], variables)

    def python(self, code: str, *words: str, **variables: str) -> Answer:
        """Run a program to its end, in the same way."""
        return self._run([sys.executable, "-c", code, *words], variables)

    def _run(self, words: Sequence[str | bytes], variables: Mapping[str, str]) -> Answer:
        done = ready_python.run(words, cwd=self.root, env=self.environment(**variables), timeout=LIMIT_S)
        return Answer(done.returncode, done.stdout.decode(), done.stderr.decode())

    @contextlib.contextmanager
    def started(self, *words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """Start the command in a session of its own, and end the whole session when the test is over."""
        variables: Mapping[str, str] = options.pop("variables", {})
        process = subprocess.Popen(
            [str(COMMAND), *words],
            cwd=self.root,
            env=self.environment(**variables),
            text=True,
            start_new_session=True,
            **options,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait(LIMIT_S)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def bell(self) -> Callable[[], None]:
        """Make a pipe called `bell` in the project's folder; what is returned waits until a task writes to it."""
        place = self.root / "bell"
        os.mkfifo(place)
        descriptor = os.open(place, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

        def wait() -> None:
            ready, _, _ = select.select([descriptor], [], [], LIMIT_S)
            os.close(descriptor)
            assert ready, "no task rang the bell"

        return wait

    def make(self, *words: str) -> Path:
        """Make a target and return its folder."""
        made = self.nectar("run", *words)
        assert made.code == 0, made
        return Path(made.out.splitlines()[0]).parent

    def folder(self, *words: str) -> Path:
        """Return the folder of a target, there or not."""
        return Path(self.nectar("path", *words).out.splitlines()[0]).parent

    def copy(self, root: Path) -> Project:
        """Return a copy of the project with all that was made."""
        shutil.copytree(self.root, root, symlinks=True)
        return Project(root)

    def kept(self) -> dict[str, bytes]:
        """Return every file in the store."""
        return {
            str(place.relative_to(self.store)): place.read_bytes()
            for place in sorted(self.store.rglob("*"))
            if place.is_file() and not place.is_symlink()
        }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with one good chain, `etl/daily_chain`."""
    made = Project(tmp_path / "project")
    made.chain("etl/daily_chain", DAILY)
    return made


@pytest.fixture(scope="module")
def module_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project without chains, for all tests of a module."""
    return Project(tmp_path_factory.mktemp("module") / "project")


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """What `made_project` and `made` are copied from; no test touches it."""
    made = Project(tmp_path_factory.mktemp("pattern") / "project")
    made.chain("etl/daily_chain", DAILY)
    made.make("etl/daily_chain", "ReportTask")
    return made


@pytest.fixture(scope="module")
def made_project(pattern: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose `ReportTask` was made; for tests that only ask."""
    return pattern.copy(tmp_path_factory.mktemp("made") / "project")


@pytest.fixture
def made(pattern: Project, tmp_path: Path) -> Project:
    """A project whose `ReportTask` was made; for tests that break it."""
    return pattern.copy(tmp_path / "project")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The shipped chains, copied, with a store of their own."""
    root = tmp_path_factory.mktemp("shipped") / "project"
    root.mkdir()
    # Another test puts a chain type there for a moment, to see that it can be imported.
    unwanted = shutil.ignore_patterns("__pycache__", "probe_*")
    shutil.copytree(SHIPPED / "chains", root / "chains", ignore=unwanted)
    return Project(root)


@pytest.fixture
def unprivileged() -> Sequence[str]:
    """Words before a command that take away what lets root write where permissions forbid it."""
    if os.geteuid():
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may write everywhere, and setpriv (util-linux) is not here to change that")
    return (setpriv, "--bounding-set=-dac_override,-dac_read_search")
