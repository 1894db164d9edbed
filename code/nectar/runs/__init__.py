"""Keep the history of runs: journals, which runs write, and books, which whoever asks reads.

The books need SQLAlchemy, which takes as long to import as luigi: `open_books` imports it when it is called.
"""

from __future__ import annotations

from nectar.runs.asking import (
    EVERYTHING,
    NO_LIMITS,
    Filter,
    Limits,
    Page,
    TagLimit,
    Taken,
    Token,
)
from nectar.runs.base import RunStore
from nectar.runs.journal import Journal
from nectar.runs.opening import open_books
from nectar.runs.process import descendants, is_alive, this_process
from nectar.runs.values import (
    ACTIVE,
    FINAL,
    Attempt,
    Event,
    NewRun,
    Process,
    Root,
    Run,
    RunState,
    Step,
    may_follow,
    word_counts,
)

__all__ = [
    "ACTIVE",
    "EVERYTHING",
    "FINAL",
    "NO_LIMITS",
    "Attempt",
    "Event",
    "Filter",
    "Journal",
    "Limits",
    "NewRun",
    "Page",
    "Process",
    "Root",
    "Run",
    "RunState",
    "RunStore",
    "Step",
    "TagLimit",
    "Taken",
    "Token",
    "descendants",
    "is_alive",
    "may_follow",
    "open_books",
    "this_process",
    "word_counts",
]
