"""The databases that the contract of run stores is held against."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "servers")]

pytest.register_assert_rewrite("run_samples")

from nectar.runs import RunStore, open_books  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("postgres_fixtures")


@pytest.fixture(params=["sqlite", "postgresql"])
def books_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of each database in turn, with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'runs.db'}"
    return str(request.getfixturevalue("postgres").new_schema())


@pytest.fixture
def books(books_url: str) -> Iterator[RunStore]:
    """Empty books."""
    store = open_books(books_url)
    yield store
    store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of journals, which the first journal makes."""
    return tmp_path / "journals"
