"""Carry one measured action out in a process of its own, and tell the parent what it took.

    python <side>.py ACTION --tasks N --folder F --turn T

The last line of stdout is `{"seconds", "cpu_s", "peak_bytes", "idle_bytes"}`.
"""

from __future__ import annotations

import argparse
import collections
import gc
import json
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

Action = Callable[[], Mapping[str, float] | None]  #: what it returns is told besides


@dataclass(frozen=True)
class Order:
    """What the parent wants."""

    tasks: int
    folder: str  #: fresh where the action writes for the first time
    turn: int  #: which repeat this is: shared folders keep what earlier ones wrote
    workers: int


def answer(actions: Mapping[str, Callable[[Order], Action]]) -> None:
    """Prepare the action that the command line names, carry it out under the clock, and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=actions)
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--turn", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    action = actions[given.action](Order(given.tasks, given.folder, given.turn, given.workers))
    gc.collect()
    idle = _peak()
    cpu_started, started = _cpu(), time.perf_counter()
    more = action() or {}
    seconds, cpu_s = time.perf_counter() - started, _cpu() - cpu_started
    taken = {"seconds": seconds, "cpu_s": cpu_s, "peak_bytes": _peak(), "idle_bytes": idle}
    print(json.dumps(taken | dict(more)))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _cpu() -> float:
    """Return the CPU seconds of this process and of its ended children."""
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def exhaust(values: Iterable[object]) -> None:
    """Take every value, and keep none: the tasks live on in luigi's cache of instances."""
    collections.deque(values, maxlen=0)


def expect(holds: bool, what: str) -> None:
    """Stop with an error where a measured action did not do its work: a fast failure must not look like speed."""
    if not holds:
        raise SystemExit(f"error: {what}")
