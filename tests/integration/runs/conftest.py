"""What the tests of the run store's faults are given: samples, a server, a folder, a place for figures."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(TESTS / "contract" / "run_store"), str(TESTS / "servers")]

pytest.register_assert_rewrite("run_samples")

from nectar.runs import RunStore, open_books  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("postgres_fixtures")


@pytest.fixture
def chance() -> random.Random:
    """Chance, from NECTAR_TEST_SEED where it is set."""
    seed = os.environ.get("NECTAR_TEST_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"NECTAR_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def books_path(tmp_path: Path) -> Path:
    """Where SQLite's file will be."""
    return tmp_path / "state" / "runs.db"


@pytest.fixture
def books(books_path: Path) -> Iterator[RunStore]:
    """Empty books in SQLite."""
    store = open_books(f"sqlite:///{books_path}")
    yield store
    store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of journals, which the first journal makes."""
    return tmp_path / "journals"


Publish = Callable[..., None]
