"""Write small tables as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

CELL = 80  #: characters of a cell


def facts(title: str, rows: Iterable[tuple[str, object]]) -> str:
    """Return names and values under a title; all text is escaped."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{_cell(value)}</td></tr>"
        for name, value in rows
    )
    return f"<p style='margin:0'><b>{escape(title)}</b></p><table>{cells}</table>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, more: bool = False) -> str:
    """Return a table; `more` says that it goes on."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    end = "<p style='margin:0'>…</p>" if more else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{end}"


def lines(texts: Iterable[object], *, more: bool = False) -> str:
    """Return lines as they are; `more` says that there are more of them."""
    end = "\n…" if more else ""
    return f"<pre>{escape(chr(10).join(str(text) for text in texts))}{end}</pre>"


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return escape(text if len(text) <= CELL else f"{text[: CELL - 1]}…")
