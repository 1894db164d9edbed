"""Write results to stdout, as text or JSON, and everything else to stderr.

Lines are written by click, which is there already; rich, which takes as long to load as a whole run that finds all
complete, is for tables and the progress display.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TextIO, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: style -> how click says it
_STYLES: dict[str, dict[str, Any]] = {
    "": {},
    "bold": {"bold": True},
    "dim": {"dim": True},
    "name": {"fg": "cyan"},
    "good": {"fg": "green"},
    "bad": {"fg": "red", "bold": True},
    "odd": {"fg": "yellow"},
}


def colours(stream: Any) -> bool:
    """Say whether a stream is to be coloured: a terminal, and nobody set NO_COLOR."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def own_stream(stream: TextIO) -> TextIO:
    """Return a stream of one's own to where another goes: a task that runs here has the other for its logs."""
    try:
        return os.fdopen(os.dup(stream.fileno()), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    except (OSError, ValueError):  # a stream without a descriptor, as in a test
        return stream


def line(*parts: str | tuple[str, str], err: bool = False, stream: TextIO | None = None) -> None:
    """Write one line made of plain texts and `(text, style)` parts, to stdout, to stderr, or to a stream."""
    stream = stream or (sys.stderr if err else sys.stdout)
    if all(isinstance(part, str) for part in parts) and not any("\x1b" in part for part in parts):
        _write("".join(map(str, parts)), stream)  # a run may say two for each of its tasks
        return
    tint = colours(stream)
    texts = []
    for part in parts:
        text, style = part if isinstance(part, tuple) else (part, "")
        texts.append(click.style(text, **_STYLES[style]) if tint and style else text)
    text = "".join(texts)
    _write(text if tint else click.unstyle(text), stream)


def print_json(document: object) -> None:
    """Write one JSON document to stdout."""
    _write(json.dumps(document, ensure_ascii=False, indent=2), sys.stdout)


class NobodyReads(Exception):
    """Whoever read the output has seen enough: `nectar list | head`."""


def _write(text: str, stream: TextIO) -> None:
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except BrokenPipeError as error:
        raise NobodyReads from error


def json_option(command: _Command) -> _Command:
    """Add `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")(command)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table to stdout; a heading that begins with `>` is of a column of numbers."""
    all_rows = [[heading.lstrip(">") for heading in headings], *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*all_rows, strict=True)]
    for number, row in enumerate(all_rows):
        cells = [
            cell.rjust(width) if heading.startswith(">") else cell.ljust(width)
            for heading, cell, width in zip(headings, row, widths, strict=True)
        ]
        line(("  ".join(cells).rstrip(), "bold" if number == 0 else ""))


def size_text(size: int) -> str:
    """Return a size in bytes as people read it."""
    if size < 1000:
        return f"{size} B"
    if size < 1_000_000:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.1f} MB" if size < 1_000_000_000 else f"{size / 1e9:.1f} GB"


def seconds_text(seconds: float) -> str:
    """Return a duration as people read it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def time_text(moment: datetime | None) -> str:
    """Return a moment in the reader's own time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment is not None else "-"


def count_text(count: int, noun: str) -> str:
    """Return `1 task`, `2 tasks`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def short_name(task: str, module: str | None) -> str:
    """Return a task's name without the module that everybody knows, `etl/x_chain SomeTask(...)` for others."""
    if module is not None and task.startswith(module + "."):
        return task[len(module) + 1 :]
    found = re.fullmatch(r"chains\.(\w+)\.(\w+)\.(\w+\(.*)", task, re.DOTALL)
    return f"{found[1]}/{found[2]} {found[3]}" if found else task


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return the first names in backticks, and how many more there are."""
    all_names = list(names)
    text = ", ".join(f"`{name}`" for name in all_names[:most])
    return text + (f" and {len(all_names) - most} more" if len(all_names) > most else "")
