"""A project with chains that repeat what they are given, and real servers for it: one without tokens, one with some."""

from __future__ import annotations

import os
import random
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "servers")]

pytest.register_assert_rewrite("web_answers")

from nectar_server import NectarServer, serving  # noqa: E402
from web_answers import Tokens, make_token, revoke_token  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """Let tests have PostgreSQL for the books."""
    config.pluginmanager.import_plugin("postgres_fixtures")


CHAIN = '''
"""Tasks that repeat what they are given."""

import sys

import luigi
from luigi.parameter import ParameterVisibility

import nectar


class EchoTask(nectar.Task):
    """Writes its value, and prints it."""

    value = luigi.Parameter(default="plain")

    def run(self):
        print(self.value)
        print(self.value, file=sys.stderr)
        with self.output().open("w") as file:
            file.write(self.value)


class KindsTask(nectar.Task):
    """Has a parameter of each kind."""

    count = luigi.IntParameter(default=1)
    share = luigi.FloatParameter(default=0.5)
    loud = luigi.BoolParameter(default=False)
    day = luigi.DateParameter(default=__import__("datetime").date(2026, 1, 2))
    size = luigi.ChoiceParameter(choices=["small", "large"], default="small")
    table = luigi.DictParameter(default={"a": 1})
    items = luigi.ListParameter(default=[1, 2])

    def run(self):
        self.dump(f"{self.count} {self.share} {self.loud} {self.day} {self.size} {self.table} {self.items}")


class LoginTask(nectar.Task):
    """Has a parameter that nobody may see."""

    password = luigi.Parameter(default="", visibility=ParameterVisibility.PRIVATE)
    code = luigi.Parameter(default="", visibility=ParameterVisibility.HIDDEN)

    def run(self):
        self.dump("in")


class FailTask(nectar.Task):
    """Fails, with what it was given in its message."""

    value = luigi.Parameter(default="plain")

    def run(self):
        raise ValueError(self.value)
'''


def make_project(root: Path) -> Path:
    """Write the chain into a folder, and return the folder."""
    place = root / "chains" / "web" / "echo_chain.py"
    place.parent.mkdir(parents=True)
    place.write_text(textwrap.dedent(CHAIN), encoding="utf-8")
    return root


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder of a test's own."""
    return make_project(tmp_path / "project")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NectarServer]:
    """A server without tokens, for all tests that leave it well. It was asked for one task before."""
    with serving(make_project(tmp_path_factory.mktemp("web") / "project")) as started:
        assert started.run("web/echo_chain/EchoTask")["state"] == "SUCCESS"
        yield started


TOKENS = (("reader", "read"), ("runner", "run"), ("gone", "run"))  #: names and scopes


@pytest.fixture(scope="session")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    """A server with three tokens, one of them revoked."""
    root = make_project(tmp_path_factory.mktemp("closed") / "project")
    read, run, revoked = (make_token(root, name, scope) for name, scope in TOKENS)
    revoke_token(root, "gone")
    with serving(root) as started:
        yield Tokens(started, read, run, revoked)


@pytest.fixture
def chance() -> random.Random:
    """Chance, from NECTAR_TEST_SEED where it is set."""
    seed = os.environ.get("NECTAR_TEST_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"NECTAR_TEST_SEED={seed}")
    return random.Random(seed)
