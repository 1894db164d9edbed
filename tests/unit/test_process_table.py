"""A process is known by a name of its own, and taken for dead only where that is sure."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from nectar import process_table


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def test_a_process_has_ended_once_it_was_killed_even_if_nobody_waits_for_it(sleeper: subprocess.Popen[bytes]) -> None:
    name = process_table.name_of(sleeper.pid)
    assert not process_table.has_ended(name)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert process_table.has_ended(name)
    sleeper.wait()
    assert process_table.has_ended(name)


def test_a_process_whose_number_another_one_has_has_ended(sleeper: subprocess.Popen[bytes]) -> None:
    place, _, ticks = process_table.name_of(sleeper.pid).rpartition("/")
    assert process_table.has_ended(f"{place}/{int(ticks) + 1}")


def test_nothing_is_known_of_processes_elsewhere(sleeper: subprocess.Popen[bytes]) -> None:
    boot, namespace, *process = process_table.name_of(sleeper.pid).split("/")
    sleeper.kill()
    sleeper.wait()
    assert process_table.has_ended("/".join([boot, namespace, *process]))
    for elsewhere in ([boot.swapcase(), namespace], [f"0{boot}", namespace], [boot, "pid:[1]"], []):
        assert not process_table.has_ended("/".join([*elsewhere, *process]))


@pytest.mark.parametrize("name", ["", "/", "]/", "a/b]/1/2", "pid:[1]/0/0", "\x00", "]/1/2/3"])
def test_what_is_no_name_of_a_process_has_not_ended(name: str) -> None:
    assert not process_table.has_ended(name)


def test_a_process_that_is_hidden_is_taken_for_alive(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = process_table.name_of(sleeper.pid)
    monkeypatch.setattr(process_table, "fields", lambda pid: None)  # as `/proc` with hidepid=2 of others' processes
    assert not process_table.has_ended(name)
    sleeper.kill()
    sleeper.wait()
    assert process_table.has_ended(name)
