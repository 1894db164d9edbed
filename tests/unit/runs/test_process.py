"""What a process started is found: children, theirs, and the session that it leads, while any of it is there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from nectar.process_table import start_of
from nectar.runs import Process, descendants, is_alive

TREE = """
import subprocess, sys
sleep = ["sleep", "3600"]
own = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
subprocess.run(["sh", "-c", "sleep 3600 >/dev/null 2>&1 & echo $!"], stdout=sys.stdout)
print(*(one.pid for one in own), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def tree() -> Iterator[tuple[subprocess.Popen[str], Process, list[int]]]:
    """A leader of a session, with a child, a child in a session of its own, and an orphan; in this order."""
    leader = subprocess.Popen(
        [sys.executable, "-c", TREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert leader.stdout is not None and leader.stdin is not None
    orphan = int(leader.stdout.readline())
    pids = [*map(int, leader.stdout.readline().split()), orphan]
    yield leader, Process(os.uname().nodename, leader.pid, start_of(leader.pid)), pids
    leader.kill()
    for pid in pids:
        os.kill(pid, 9)
    leader.wait()
    leader.stdout.close()
    leader.stdin.close()


Tree = tuple["subprocess.Popen[str]", Process, list[int]]


def test_children_and_what_lost_its_parent_are_found(tree: Tree) -> None:
    _, process, pids = tree
    found = descendants(process)
    assert sorted(one.pid for one in found) == sorted(pids)
    assert all(is_alive(one) for one in found)


def test_what_is_left_of_a_session_is_found_when_its_leader_has_ended(tree: Tree) -> None:
    leader, process, pids = tree
    leader.kill()
    leader.wait()
    assert sorted(one.pid for one in descendants(process)) == sorted([pids[0], pids[2]])


def test_what_another_process_of_the_same_number_started_is_not_taken_for_it(tree: Tree) -> None:
    _, process, _ = tree
    assert descendants(Process(process.host, process.pid, "another/1")) == []
