"""Turn the lines of a run's journal into what the books say of it. Knows no database.

The outcome is the same however often a line comes, since whoever calls leaves out those that were counted; and where
lines do not contradict each other, in whichever order they come.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nectar.runs import lines
from nectar.runs.lines import Line, storable
from nectar.runs.values import FINAL, LAST_MOMENT, NewRun, RunState, word_counts

_TEXTS = ("path", "error", "code", "hint", "logs")


@dataclass(slots=True)
class StepState:
    """What is known of a step; times in microseconds since 1970."""

    position: int  #: order in which steps were first heard of
    task: str = ""
    status: str = lines.RUNNING
    status_at: int = 0  #: time of the line that said so; 0: none did
    attempts: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    seconds: float | None = None
    path: str | None = None
    error: str | None = None
    code: str | None = None
    hint: str | None = None
    logs: str | None = None


@dataclass(slots=True)
class AttemptState:
    """What is known of an attempt; times in microseconds since 1970."""

    attempt: str | None = None
    started_at: int | None = None
    ended_at: int | None = None
    outcome: str | None = None
    error: str | None = None
    logs: str | None = None


@dataclass(slots=True)
class Ledger:
    """What is known of a run, while lines are folded into it; times in microseconds since 1970."""

    run_id: str
    state: RunState = RunState.QUEUED
    started_at: int | None = None
    ended_at: int | None = None
    heard_at: int = 0
    error: str | None = None
    process: Mapping[str, Any] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    events: int = 0  #: how many there are
    new: NewRun | None = None  #: where a line told it
    steps: dict[str, StepState] = field(default_factory=dict)  #: those that the lines name, by ref
    attempts: dict[tuple[str, int], AttemptState] = field(default_factory=dict)
    noted: list[tuple[int, Line, Any]] = field(default_factory=list)  #: new events: number, line, detail

    def fold(self, line: Line) -> None:
        """Take a line in that was not counted before."""
        self.events += 1
        self.heard_at = max(self.heard_at, line.at)
        detail = line.body.get("detail")
        for member, take in (
            ("created", self._created),
            ("state", self._stated),
            ("step", self._stepped),
            ("attempt", self._attempted),
        ):
            body = line.body.get(member)
            if isinstance(body, dict):
                take(line, body)
                detail = {"state": body.get("state")} if member == "created" else body
                break
        self.noted.append((self.events, line, detail))

    def advance(self, state: RunState, at: int, error: str | None) -> None:
        """Put the run into a state that may follow."""
        self.state = state
        if state in FINAL:
            self.ended_at = at
            self.error = error
        elif error is not None:
            self.error = error

    def _created(self, line: Line, body: dict[str, Any]) -> None:
        try:
            new = NewRun.from_json(body.get("new"))
        except ValueError:
            new = None  # cut to its limit, or damaged: the rest of what it says counts
        if new is not None and new.id == self.run_id:
            self.new = new
        self._stated(line, body)

    def _stated(self, line: Line, body: dict[str, Any]) -> None:
        state = lines.state_of(body)
        process = body.get("process")
        if isinstance(process, dict) and isinstance(process.get("host"), str) and _number(process, "pid"):
            start = _text(process, "start")
            self.process = {"host": storable(process["host"]), "pid": process["pid"], "start": start}
        if state is RunState.RUNNING:
            self.started_at = line.at if self.started_at is None else min(self.started_at, line.at)
        if state is not None and word_counts(self.state, state):
            self.advance(state, line.at, _text(body, "error"))

    def step(self, ref: str) -> StepState:
        """Return the step of this name, a new one where it was not heard of before."""
        step = self.steps.get(ref)
        if step is None:
            step = self.steps[ref] = StepState(position=self.events)
            self._count(step.status, 1)
        return step

    def _count(self, status: str, more: int) -> None:
        self.counts[status] = self.counts.get(status, 0) + more
        if not self.counts[status]:
            del self.counts[status]

    def _stepped(self, line: Line, body: dict[str, Any]) -> None:
        ref, status = _text(body, "ref"), _text(body, "status")
        if ref is None or status is None:
            return
        step = self.step(ref)
        began = status == lines.RUNNING
        if began:
            step.started_at = line.at if step.started_at is None else min(step.started_at, line.at)
        attempts = _number(body, "attempts")
        if attempts is not None:
            step.attempts = max(step.attempts, attempts)
        step.task = line.task or step.task or ref
        # The latest word counts; of two of one time the end.
        if line.at < step.status_at or (line.at == step.status_at and began):
            return
        self._count(step.status, -1)
        self._count(status, 1)
        step.status, step.status_at = status, line.at
        step.ended_at = None if began else line.at
        seconds = body.get("seconds")
        step.seconds = float(seconds) if isinstance(seconds, (int, float)) and _is_finite(seconds) else None
        for name in _TEXTS:
            said = _text(body, name)
            if said is not None or name != "path":
                setattr(step, name, said)

    def _attempted(self, line: Line, body: dict[str, Any]) -> None:
        ref, number = _text(body, "ref"), _number(body, "number")
        if ref is None or number is None:
            return
        step = self.step(ref)
        step.task = step.task or line.task or ref
        step.attempts = max(step.attempts, number)
        attempt = self.attempts.setdefault((ref, number), AttemptState())
        attempt.attempt = attempt.attempt or _text(body, "attempt")
        outcome = _text(body, "outcome")
        if outcome is None:
            attempt.started_at = line.at if attempt.started_at is None else min(attempt.started_at, line.at)
        elif attempt.outcome is None:
            attempt.outcome, attempt.ended_at = outcome, line.at
            attempt.error, attempt.logs = _text(body, "error"), _text(body, "logs")


def named_steps(said: Iterable[Line]) -> tuple[set[str], set[tuple[str, int]]]:
    """Return the refs of the steps, and those and the numbers of the attempts, that lines speak of."""
    refs, numbers = set(), set()
    for line in said:
        for member in ("step", "attempt"):
            body = line.body.get(member)
            ref = _text(body, "ref") if isinstance(body, dict) else None
            if ref is not None and isinstance(body, dict):
                refs.add(ref)
                number = _number(body, "number")
                if number is not None:
                    numbers.add((ref, number))
    return refs, numbers


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    return storable(value) if isinstance(value, str) else None


def _number(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    return value if isinstance(value, int) and 0 <= value <= LAST_MOMENT else None


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False
