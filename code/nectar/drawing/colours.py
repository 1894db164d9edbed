"""The colours of boxes, on a light and on a dark ground."""

from __future__ import annotations

from typing import NamedTuple

from nectar.drawing.picture import Kind


class Colours(NamedTuple):
    """Of one box."""

    fill: str
    line: str
    text: str


LIGHT = {
    Kind.PLAIN: Colours("#f6f8fa", "#8c959f", "#1f2328"),
    Kind.HEAD: Colours("#fff8e6", "#bf8700", "#1f2328"),
    Kind.DONE: Colours("#dafbe1", "#2da44e", "#1f2328"),
    Kind.RUN: Colours("#ddf4ff", "#218bff", "#1f2328"),
    Kind.REUSE: Colours("#e0f7f5", "#1b8a80", "#1f2328"),
    Kind.RUNNING: Colours("#fff1c2", "#d4a72c", "#1f2328"),
    Kind.FAILED: Colours("#ffebe9", "#cf222e", "#1f2328"),
    Kind.WAITING: Colours("#eaeef2", "#8c959f", "#57606a"),
}
DARK = {
    Kind.PLAIN: Colours("#21262d", "#6e7681", "#e6edf3"),
    Kind.HEAD: Colours("#3a2d10", "#d29922", "#e6edf3"),
    Kind.DONE: Colours("#12381f", "#3fb950", "#e6edf3"),
    Kind.RUN: Colours("#0c2d4d", "#58a6ff", "#e6edf3"),
    Kind.REUSE: Colours("#0d3532", "#39c5bb", "#e6edf3"),
    Kind.RUNNING: Colours("#3d2e00", "#e3b341", "#e6edf3"),
    Kind.FAILED: Colours("#4a1417", "#f85149", "#e6edf3"),
    Kind.WAITING: Colours("#161b22", "#484f58", "#8b949e"),
}
ARROW_LIGHT, ARROW_DARK = "#8c959f", "#6e7681"
