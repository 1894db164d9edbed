"""A project with chains that repeat what they are given, and real servers for it: one without tokens, one with some."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "servers")]

pytest.register_assert_rewrite("web_answers")

from echo_project import make_project  # noqa: E402
from nectar_server import NectarServer, serving  # noqa: E402
from web_answers import Tokens, make_token, revoke_token  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """Let tests have PostgreSQL for the books."""
    config.pluginmanager.import_plugin("postgres_fixtures")


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
