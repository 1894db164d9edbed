"""`make test` runs every test in one of two processes, and says at the end what failed in either."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).resolve().parents[1] / "in_halves.py"
FOLDERS = (*runpy.run_path(str(RUNNER))["FIRST"], "new")
GOOD, BAD = "def test_good():\n    pass\n", "def test_bad():\n    assert 0\n"


def halves(folder: Path, tests: dict[str, str], *words: str) -> tuple[int, list[str]]:
    """Run a suite of these files, and return the exit code and the lines of what was said."""
    for name in FOLDERS:
        (folder / "tests" / name).mkdir(parents=True)
    for name, text in tests.items():
        (folder / "tests" / name).write_text(text, encoding="utf-8")
    shutil.copy(RUNNER, folder / "tests")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -ra -p no:schemathesis -p no:cacheprovider\n")
    done = subprocess.run(
        [sys.executable, "tests/in_halves.py", *words], cwd=folder, stdout=subprocess.PIPE, text=True, timeout=120
    )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("bad", ["tests/unit/test_a.py", "tests/new/test_b.py"])
def test_what_fails_in_either_half_fails_the_whole_and_is_named_at_the_end(tmp_path: Path, bad: str) -> None:
    tests = {"unit/test_a.py": GOOD, "new/test_b.py": GOOD} | {bad.removeprefix("tests/"): BAD}
    code, said = halves(tmp_path, tests)
    assert code == 1
    assert sum("1 passed" in line for line in said) == sum("1 failed" in line for line in said) == 1
    assert said[-2].startswith(f"FAILED {bad}::test_bad")
    assert said[-1].startswith("both halves failed")


def test_a_half_that_is_left_without_a_test_fails_nothing(tmp_path: Path) -> None:
    code, said = halves(tmp_path, {"unit/test_a.py": GOOD, "new/test_b.py": BAD}, "-k", "good")
    assert code == 0
    assert said[-1].startswith("both halves passed")


def test_nothing_to_run_at_all_is_a_failure(tmp_path: Path) -> None:
    assert halves(tmp_path, {})[0] != 0
