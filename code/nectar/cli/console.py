"""Write results to stdout, as text or JSON, and everything else to stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_Command = TypeVar("_Command", bound=Callable[..., Any])


def out() -> Console:
    """Return the console for results: coloured on a terminal only, and never wrapped elsewhere."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True, emoji=False, markup=False)


def err() -> Console:
    """Return the console for progress and hints."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True, emoji=False, markup=False)


def print_json(document: object) -> None:
    """Write one JSON document to stdout."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def json_option(command: _Command) -> _Command:
    """Add `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")(command)


def table(*headings: str) -> Table:
    """Return an empty table in the house's style."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for heading in headings:
        right = heading.startswith(">")
        made.add_column(heading.lstrip(">"), justify="right" if right else "left", overflow="fold")
    return made


def print_table(made: Table) -> None:
    """Write a table to stdout; off a terminal it is as wide as it needs, so that nothing is cut."""
    console = out()
    if not console.is_terminal:
        console = Console(file=sys.stdout, highlight=False, width=400, emoji=False, markup=False)
    console.print(made)


def tinted(*parts: tuple[str, str]) -> Text:
    """Return text made of `(text, style)` parts; what comes from users is never read as markup."""
    return Text.assemble(*parts)


def size_text(size: int) -> str:
    """Return a size in bytes as people read it."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError("unreachable")


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
