"""The databases that the contract of run stores is held against."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "servers")]

pytest.register_assert_rewrite("run_samples")

from guard import quick_folder  # noqa: E402

from nectar.runs import RunStore, open_books  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("postgres_fixtures")


@contextlib.contextmanager
def new_books(request: Any) -> Iterator[str]:
    """Give the address of a database of the kind that is asked for, with nothing in it."""
    if request.param == "postgresql":
        yield str(request.getfixturevalue("postgres").new_schema())
        return
    # What a disk keeps is for the tests of faults: there each commit waits for it.
    with tempfile.TemporaryDirectory(prefix="books-", dir=quick_folder()) as folder:
        yield f"sqlite:///{folder}/state/runs.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def books_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of each database in turn, with nothing in it."""
    with new_books(request) as url:
        yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def lasting_books(request: pytest.FixtureRequest) -> Iterator[RunStore]:
    """Books that tests share which only ask."""
    with new_books(request) as url:
        store = open_books(url)
        yield store
        store.close()


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
