"""What the tests of commit faults are given: the lab, the situations that a commit may find."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helper modules beside this file

pytest.register_assert_rewrite("fault_lab")

import fault_lab  # noqa: E402
from fault_lab import Dice, Lab  # noqa: E402

from nectar.address import Address  # noqa: E402


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Processes that run the chain."""
    lab = Lab(fault_lab.make_project(tmp_path_factory.mktemp("project") / "project"))
    yield lab
    lab.close()


@pytest.fixture(scope="session")
def tracing() -> None:
    """Skip where system calls cannot be disturbed."""
    problem = fault_lab.why_no_tracing()
    if problem is not None:
        pytest.skip(problem)


@pytest.fixture
def dice() -> Dice:
    """Chance, from NECTAR_TEST_SEED where it is set."""
    return Dice(os.environ.get("NECTAR_TEST_SEED") or str(random.SystemRandom().randrange(10**9)))


@dataclass(frozen=True)
class Situation:
    """What a commit finds at its address, ready to be copied."""

    name: str
    template: Path
    address: Address
    before: fault_lab.Sight
    forced: bool = False

    def copy(self, place: Path) -> Path:
        """Return a store in this situation, of its own."""
        shutil.copytree(self.template, place)
        return place


SITUATIONS = ("create", "leftover", "invalid", "forced")


@pytest.fixture(scope="session")
def situations(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Situation]:
    """A store for each situation that a commit may find."""
    base = tmp_path_factory.mktemp("situations")
    made: dict[str, Situation] = {}
    for name in SITUATIONS:
        root = base / name
        lab.succeed(root, task="PartTask")
        lab.succeed(root)
        address = fault_lab.the_target(root)
        target = root / address.path
        if name == "create":
            shutil.rmtree(target)
        elif name == "leftover":
            (target / "record.json").unlink()
        elif name == "invalid":
            (target / "out.txt").chmod(0o644)  # what is published may not be written
            os.truncate(target / "out.txt", 10)
        made[name] = Situation(name, root, address, fault_lab.look(root, address), name == "forced")
    return made


@pytest.fixture(params=SITUATIONS)
def situation(request: pytest.FixtureRequest, situations: dict[str, Situation]) -> Situation:
    """Each situation in turn."""
    return situations[request.param]
