"""Take the figures that a task reports of itself: which attempt they belong to, and what they may be."""

from __future__ import annotations

import contextlib
import math
import numbers
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nectar import errors
from nectar.redaction.known import redacted

_DEEPEST = 50  #: lists and mappings within each other


@dataclass(eq=False, slots=True)
class _AtWork:
    """An attempt whose `run()` is at work."""

    metrics: dict[str, Any]
    process: int = field(default_factory=os.getpid)
    thread: int = field(default_factory=threading.get_ident)


_at_work: list[_AtWork] = []  #: in this process, the one that began last at the end


@contextlib.contextmanager
def reporting(metrics: dict[str, Any]) -> Iterator[None]:
    """Let what is reported meanwhile go into `metrics`: by this thread, and by those that know no other."""
    one = _AtWork(metrics)
    _at_work.append(one)
    try:
        yield
    finally:
        _at_work.remove(one)


def track_this(**metrics: Any) -> None:
    """Keep figures in the record of the task at work; the last value of a name wins. Its threads report as it does.

    Raises:
        UsageError: outside of a task's `run()`, in a process that the task forked, and as `checked`.
    """
    _of_this_thread().update(checked(metrics))


def checked(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures as JSON has them; what is no number (`nan`, `inf`) is text, since JSON has none for it.

    Raises:
        UsageError: for a value that is no JSON, naming all of them.
    """
    problems: list[str] = []
    plain = {redacted(name): _plain(name, value, problems, 0) for name, value in metrics.items()}
    if problems:
        raise errors.UsageError(
            "; ".join(problems), hint="report texts, numbers, bools, and lists or mappings of these with texts as keys"
        )
    return plain


def _of_this_thread() -> dict[str, Any]:
    here = [one for one in _at_work if one.process == os.getpid()]
    own = [one for one in here if one.thread == threading.get_ident()]
    if own:
        return own[-1].metrics
    if len(here) == 1:
        return here[0].metrics
    if here:
        raise errors.UsageError(
            "a thread reports a metric while several tasks are at work in its process",
            hint="let the thread return the value, and report it in `run()`",
        )
    if _at_work:
        raise errors.UsageError(
            "a metric is reported in a process that the task started",
            hint="let the process return the value, and report it in `run()`",
        )
    raise errors.UsageError("a metric is reported while no task is at work", hint="report metrics within `run()`")


def _plain(name: str, value: Any, problems: list[str], depth: int) -> Any:
    """Return a value as JSON has it, and a copy of what could change later; note what is none."""
    if value is None or isinstance(value, (bool, str)):
        return redacted(str(value)) if isinstance(value, str) else value
    if isinstance(value, numbers.Integral):  # numpy's, too
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) else repr(number)
    if depth < _DEEPEST:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {redacted(str(key)): _plain(name, item, problems, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [_plain(name, item, problems, depth + 1) for item in value]
    problems.append(f"the metric `{name}` holds a {type(value).__name__}, which is no JSON value")
    return None
