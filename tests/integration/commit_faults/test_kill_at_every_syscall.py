"""Killed at any system call of a commit, a target is absent, the old one, or complete; and the next run makes it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fault_lab
import pytest
from fault_lab import RUN_ENDS, Call, Lab

from nectar.stores import State

pytestmark = pytest.mark.usefixtures("tracing")

#: the calls that change what lies on the disk; every one of them is tried in the short form too
CHANGING = ("renameat2", "rename", "mkdir", "rmdir", "unlink", "unlinkat", "renameat", "mkdirat", "fsync", "syncfs")


def commit_calls(lab: Lab, situation: Any, folder: Path) -> list[Call]:
    """Return the system calls from the end of run() to the end of the process, of an undisturbed attempt."""
    store = situation.copy(folder / "undisturbed")
    answer = lab.run_traced(store, folder / "trace", forced=situation.forced)
    assert answer["told"]["kind"] is None, answer["told"]["text"]
    return fault_lab.between(fault_lab.calls_in(folder / "trace"), RUN_ENDS)


def assert_absent_old_or_complete(store: Path, situation: Any) -> fault_lab.Sight:
    sight = fault_lab.look(store, situation.address)
    if sight.state is not State.COMPLETE:
        assert not situation.forced, "a complete target that was to be replaced is gone"
        assert sight.state in (State.MISSING, situation.before.state)
    return sight


def kill_at(lab: Lab, situation: Any, store: Path, call: Call) -> str:
    """Kill an attempt at one call, check what is left, run again, check again; return what was left."""
    situation.copy(store)
    trace = store.with_suffix(".trace")
    inject = f"inject={call.name}:signal=KILL:when={call.ordinal}"
    answer = lab.run_traced(store, trace, "-e", inject, forced=situation.forced)
    killed = answer["exit"] == -signal.SIGKILL
    assert killed or answer["told"]["kind"] is None
    left = assert_absent_old_or_complete(store, situation)
    assert answer["told"] is None or left.state is State.COMPLETE, "an attempt that returned has published nothing"
    told = lab.succeed(store)
    after = fault_lab.look(store, situation.address)
    assert after.state is State.COMPLETE
    if left.state is State.COMPLETE:
        assert not told["won"] and after == left, "what was complete has changed"
    return left.state.value if killed else "not killed"


def kill_at_all(lab: Lab, situation: Any, folder: Path, calls: list[Call]) -> dict[str, int]:
    left: dict[str, int] = {}
    for number, call in enumerate(calls):
        try:
            state = kill_at(lab, situation, folder / f"store{number}", call)
        except AssertionError as error:
            raise AssertionError(f"killed at {call} ({call.text}): {error}") from error
        left[state] = left.get(state, 0) + 1
    assert left.get("not killed", 0) <= len(calls) // 10, f"too few kills hit: {left}"
    return left


def test_a_kill_at_a_system_call_of_a_commit_tears_nothing(
    lab: Lab, situation: Any, tmp_path: Path, publish: Callable[..., None]
) -> None:
    calls = commit_calls(lab, situation, tmp_path)
    chosen = fault_lab.sample(calls, CHANGING, most=30)
    publish(kills=len(chosen), of_system_calls=len(calls), left=kill_at_all(lab, situation, tmp_path, chosen))


@pytest.mark.stress
def test_a_kill_at_every_system_call_of_a_commit_tears_nothing(
    lab: Lab, situation: Any, tmp_path: Path, publish: Callable[..., None]
) -> None:
    calls = commit_calls(lab, situation, tmp_path)
    publish(kills=len(calls), of_system_calls=len(calls), left=kill_at_all(lab, situation, tmp_path, calls))


# Under luigi's own command line


def luigi(lab: Lab, store: Path, *tracer: str) -> int:
    """Run the chain by luigi's command line, under a tracer or not; return the exit code."""
    command = [*tracer, sys.executable, "-m", "luigi", "--module", "chains.etl.fault_chain", "WholeTask"]
    finished = subprocess.run(
        [*command, "--local-scheduler", "--no-lock"],
        env=fault_lab.environment(lab.project) | {"NECTAR_STORE": str(store)},
        cwd=lab.project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=fault_lab.PATIENCE_S,
    )
    return finished.returncode


def kill_luigi(
    lab: Lab, situation: Any, folder: Path, publish: Callable[..., None], choose: Callable[[list[Call]], list[Call]]
) -> None:
    tracer = ("strace", "-f", "-s", "512", "-o")
    assert luigi(lab, situation.copy(folder / "undisturbed"), *tracer, str(folder / "trace")) == 0
    calls = fault_lab.between(fault_lab.calls_in(folder / "trace"), RUN_ENDS)
    chosen = choose(calls)
    left: dict[str, int] = {}
    for number, call in enumerate(chosen):
        store = situation.copy(folder / f"store{number}")
        inject = f"inject={call.name}:signal=KILL:when={call.ordinal}"
        status = luigi(lab, store, *tracer, str(store.with_suffix(".trace")), "-e", inject)
        sight = assert_absent_old_or_complete(store, situation)
        state = sight.state.value if status in (-signal.SIGKILL, 128 + signal.SIGKILL) else "not killed"
        left[state] = left.get(state, 0) + 1
        assert luigi(lab, store) == 0
        after = fault_lab.look(store, situation.address)
        assert after.state is State.COMPLETE
        assert sight.state is not State.COMPLETE or after == sight
    assert left.get("not killed", 0) <= len(chosen) // 2, f"too few kills hit: {left}"
    publish(kills=len(chosen), of_system_calls=len(calls), left=left)


def publishing(calls: list[Call]) -> list[Call]:
    """Return the calls from the first sync to the last change: before, nothing is published, afterwards all is."""
    first = next(index for index, call in enumerate(calls) if call.name == "fsync")
    last = max(index for index, call in enumerate(calls) if call.name in CHANGING)
    return calls[first : last + 2]


@pytest.mark.parametrize("situation", ["create", "leftover"], indirect=True)
def test_a_kill_of_luigi_at_a_system_call_of_a_commit_tears_nothing(
    lab: Lab, situation: Any, tmp_path: Path, publish: Callable[..., None]
) -> None:
    def some(calls: list[Call]) -> list[Call]:
        return fault_lab.sample([call for call in publishing(calls) if call.name in CHANGING][-8:], CHANGING, most=4)

    kill_luigi(lab, situation, tmp_path, publish, some)


@pytest.mark.stress
@pytest.mark.parametrize("situation", ["create", "leftover", "invalid"], indirect=True)
def test_a_kill_of_luigi_at_every_system_call_that_publishes_tears_nothing(
    lab: Lab, situation: Any, tmp_path: Path, publish: Callable[..., None]
) -> None:
    def nearly_all(calls: list[Call]) -> list[Call]:
        every = publishing(calls)
        return every + fault_lab.sample([call for call in calls if call not in every], CHANGING, most=40)

    kill_luigi(lab, situation, tmp_path, publish, nearly_all)


# What was replaced


def test_what_a_killed_attempt_had_replaced_is_kept(lab: Lab, situations: dict[str, Any], tmp_path: Path) -> None:
    situation = situations["forced"]
    calls = commit_calls(lab, situation, tmp_path)
    exchange = next(index for index, call in enumerate(calls) if "RENAME_EXCHANGE" in call.text)
    old = (situation.template / situation.address.path / "out.txt").read_bytes()
    for number, call in enumerate(calls[exchange : exchange + 3]):
        store = situation.copy(tmp_path / f"store{number}")
        inject = f"inject={call.name}:signal=KILL:when={call.ordinal}"
        lab.run_traced(store, tmp_path / "killed", "-e", inject, forced=True)
        lab.succeed(store, forced=True)
        kept = [path for path in store.rglob("out.txt") if path.read_bytes() == old]
        assert kept, f"killed at {call}: the target that was replaced is gone after the next run"
