"""Runs, lines and journals to try run stores with."""

from __future__ import annotations

import multiprocessing
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from nectar.runs import Journal, NewRun, Process, Root, RunState
from nectar.runs.lines import Line
from nectar.runs.values import to_micros

NOW = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=timezone.utc)
PATIENCE_S = 60.0
KEY = "0123456789abcdef0123456789abcdef"
PATH = f"chains/etl/flights_chain/LoadTask/{KEY}"


def moment(seconds: float) -> datetime:
    """Return the moment so many seconds after NOW."""
    return NOW + timedelta(seconds=seconds)


def new_run(run_id: str | None = None, **given: Any) -> NewRun:
    """Return a run with everything that one can have, but for what is given."""
    root = Root("LoadTask(day=1)", "etl/flights", {"day": 1, "note": "ünï\0\ud800"}, PATH, KEY, KEY * 2)
    facts: dict[str, Any] = {
        "created_at": NOW,
        "roots": (root,),
        "tags": {"env": "dev", "owner": "nobody"},
        "source": "http",
        "executor": "processes",
        "workers": 4,
        "options": {"force": True, "select": ["a", "b"]},
        "parent_id": "parent-run",
        "root_id": "root-run",
        "priority": 3,
    }
    return NewRun(run_id or f"run-{secrets.token_hex(8)}", **facts | given)


def line(
    number: int, writer: str = "1-a", *, kind: str = "note", task: str | None = None, at: float = 0, **body: Any
) -> Line:
    """Return a journal's line, `at` seconds after NOW."""
    return Line(writer, number, to_micros(moment(at)), kind, task, body)


def state_line(number: int, state: RunState, *, writer: str = "1-a", at: float = 0, error: str | None = None) -> Line:
    """Return the line in which a run says where it stands."""
    said = {"state": state.value} | ({} if error is None else {"error": error})
    return line(number, writer, kind="run state", at=at, state=said)


def step_line(number: int, ref: str, status: str, *, writer: str = "1-a", at: float = 0, **said: Any) -> Line:
    """Return the line in which a step begins or ends."""
    step = {"ref": ref, "status": status} | said
    return line(number, writer, kind="step", task=f"{ref}Task()", at=at, step=step)


def write_run(folder: Path, run_id: str, *, steps: int = 3, final: RunState | None = RunState.SUCCESS) -> Journal:
    """Return the closed journal of a run whose steps all succeeded."""
    with Journal(folder, run_id) as journal:
        assert journal.create(new_run(run_id))
        journal.state(RunState.RUNNING)
        for number in range(steps):
            journal.step(f"s{number}", f"StepTask(n={number})", "running", path=f"{PATH}{number}")
            journal.attempt(f"s{number}", 1)
            journal.attempt(f"s{number}", 1, outcome="succeeded", attempt=f"try-{number}")
            journal.step(f"s{number}", f"StepTask(n={number})", "succeeded", seconds=0.25, logs=f"logs/{number}")
        if final is not None:
            assert journal.state(final)
    return journal


PROCESS = Process("somewhere", 4242, "boot/99")


def at_once(processes: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what `work(number, *arguments)` gives in each of so many forked processes, which begin together."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(processes), context.Queue()
    running = [
        context.Process(target=_begin_together, args=(barrier, answers, work, number, arguments))
        for number in range(processes)
    ]
    for one in running:
        one.start()
    given = [answers.get(timeout=PATIENCE_S) for _ in running]
    for one in running:
        one.join(PATIENCE_S)
    problems = [answer for ok, answer in given if not ok]
    assert not problems, problems[0]
    return [answer for _, answer in given]


def _begin_together(
    barrier: Any, answers: Any, work: Callable[..., Any], number: int, arguments: Sequence[Any]
) -> None:
    barrier.wait(PATIENCE_S)
    try:
        answers.put((True, work(number, *arguments)))
    except BaseException as problem:
        answers.put((False, repr(problem)))
        raise
