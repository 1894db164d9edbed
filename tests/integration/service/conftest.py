"""What the tests of the service's faults are given: projects, whose servers and runs never outlive them."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "servers")]

pytest.register_assert_rewrite("service_lab")

from service_lab import Lab  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("postgres_fixtures")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A project without chains."""
    made = Lab(tmp_path / "project")
    yield made
    made.end_all()


@pytest.fixture(scope="module")
def make_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Lab]]:
    """Make projects that the tests of a module share."""
    made: list[Lab] = []

    def make(runs: str | None = None) -> Lab:
        made.append(Lab(tmp_path_factory.mktemp("service") / "project", runs))
        return made[-1]

    yield make
    for one in made:
        one.end_all()


@pytest.fixture
def chance() -> random.Random:
    """Chance, from NECTAR_TEST_SEED where it is set."""
    seed = os.environ.get("NECTAR_TEST_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"NECTAR_TEST_SEED={seed}")
    return random.Random(seed)
