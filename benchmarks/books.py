"""Measure the run store: `python benchmarks/books.py [URL]`. Without an address the books are SQLite, in `.nectar/`.

On a machine that is busy the time of this process's CPU says more than that of the clock.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

from nectar.runs import Filter, Journal, NewRun, Root, RunState, RunStore, open_books

HERE = Path(__file__).resolve().parent
STEPS, RUNS, PAGE, TURNS = 5_000, 10_000, 50, 21
NOW = datetime(2026, 11, 20, tzinfo=timezone.utc)
Row = tuple[str, str, str, str]  # work, by the clock, of the CPU, the goal
KEY = "0123456789abcdef0123456789abcdef"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="of an empty database; it is left as it is then")
    given = parser.parse_args()
    parent = HERE.parent / ".nectar"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as place:
        folder = Path(place)
        books = open_books(given.url or f"sqlite:///{folder / 'runs.db'}")
        rows = [("work", "clock", "CPU", "goal"), *_journal(books, folder), *_listing(books)]
        books.close()
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for work, *figures in rows:
        aligned = [f"{figure:>{width}}" for figure, width in zip(figures, widths[1:], strict=True)]
        print(f"{work:<{widths[0]}}  {'  '.join(aligned)}")


def _journal(books: RunStore, folder: Path) -> list[Row]:
    """Write a run of STEPS steps, four lines each, and take it in."""
    journal = Journal(folder / "journals", "run-measured")
    journal.create(_run("run-measured", 0))
    journal.state(RunState.RUNNING)

    def write() -> None:
        for number in range(STEPS):
            ref, task = f"r{number}", f"LoadTask(day={number})"
            journal.step(ref, task, "running", path=f"chains/etl/flights_chain/LoadTask/{KEY}")
            journal.attempt(ref, 1)
            journal.attempt(ref, 1, outcome="succeeded", attempt=f"20261120T000000-{number:08}")
            journal.step(ref, task, "succeeded", seconds=0.25, attempts=1)

    rows = [_row("a line of a journal", write, "15 us", parts=4 * STEPS)]
    journal.state(RunState.SUCCESS)
    journal.close()
    books.tokens()  # opened
    rows.append(_row(f"taking in {STEPS:,} steps, 4 lines each", lambda: books.take_in(folder / "journals"), "1 s"))
    assert books.run("run-measured").counts == {"succeeded": STEPS}
    return [*rows, _row("taking in nothing new", lambda: books.take_in(folder / "journals"), "", turns=TURNS)]


def _listing(books: RunStore) -> list[Row]:
    """Make RUNS runs, and list PAGE of them in several ways."""

    def create() -> None:
        for number in range(RUNS):
            state = RunState.RUNNING if number % 500 == 0 else RunState.QUEUED
            books.create(_run(f"run-{number:06}", number), state)

    rows = [_row("making a run", create, "", parts=RUNS)]
    token = None
    for _ in range(5):
        token = books.list(Filter(), 1000, token).next
    ways = {
        "the newest": Filter(),
        "of a state that few have": Filter(states=(RunState.RUNNING,)),
        "of a chain that most have": Filter(chain="etl/flights"),
        "of a chain that few have": Filter(chain="etl/rare"),
        "of a tag that few have": Filter(tags={"group": "7"}),
        "of a chain, a state and a tag": Filter((RunState.QUEUED,), "etl/flights", tags={"env": "dev"}),
        "with a text that few have": Filter(text="LoadTask(day=99)"),
    }
    of_all = f"{PAGE} of {RUNS:,} runs"
    for name, wanted in ways.items():
        rows.append(
            _row(
                f"{of_all}, {name}",
                partial(books.list, wanted, PAGE),
                "20 ms" if wanted.text is None else "",
                turns=TURNS,
            )
        )
    rows.append(_row(f"{of_all}, after 5,000 others", partial(books.list, Filter(), PAGE, token), "20 ms", turns=TURNS))
    return [*rows, _row("taking a run from the queue", lambda: books.claim("bench", now=NOW), "", turns=TURNS)]


def _run(run_id: str, number: int) -> NewRun:
    chain = "etl/rare" if number % 1000 == 0 else "etl/flights"
    root = Root(f"LoadTask(day={number})", chain, {"day": number}, f"chains/{chain}/LoadTask/{KEY}", KEY)
    tags = {"env": "dev", "group": str(number % 400)}
    return NewRun(run_id, NOW + timedelta(seconds=number), (root,), tags, "http")


def _row(work: str, act: Callable[[], object], goal: str, *, turns: int = 1, parts: int = 1) -> Row:
    """Return the medians of so many turns, each divided by the parts that it has."""
    clock, cpu = [], []
    for _ in range(turns):
        began = time.perf_counter(), time.process_time()
        act()
        clock.append((time.perf_counter() - began[0]) / parts)
        cpu.append((time.process_time() - began[1]) / parts)
    return work, _time(statistics.median(clock)), _time(statistics.median(cpu)), goal


def _time(seconds: float) -> str:
    if seconds < 1e-4:
        return f"{seconds * 1e6:.1f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


if __name__ == "__main__":
    main()
