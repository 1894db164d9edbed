"""What it costs to show a run while it runs: the command `nectar run`, whole, with its output where the action says."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

from timed import Action, Order, answer, expect

BLOCK = 1 << 16


def _quiet(order: Order) -> Action:
    return lambda: _run(order, "--quiet")


def _lines(order: Order) -> Action:
    return lambda: _run(order)


def _json(order: Order) -> Action:
    return lambda: _run(order, "--json")


def _live(order: Order) -> Action:
    return lambda: _run(order, terminal=True)


def _run(order: Order, *options: str, terminal: bool = False) -> None:
    wanted = ("load/shapes_chain", "SinkTask", "--tasks", str(order.tasks), "--turn", str(order.turn))
    with _far_end(terminal=terminal) as (near, far):
        process = subprocess.Popen(
            [sys.executable, "-m", "nectar.cli", "run", *options, *wanted],
            stdin=subprocess.DEVNULL,
            stdout=far,
            stderr=far,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
        )
        os.close(far)
        shown = _read_all(near)
    expect(process.wait() == 0, f"the run failed: {shown[-1000:]!r}")
    expect(terminal is (b"\x1b[" in shown), "it was shown otherwise than it should be")


@contextlib.contextmanager
def _far_end(*, terminal: bool) -> Iterator[tuple[int, int]]:
    near, far = pty.openpty() if terminal else os.pipe()
    try:
        yield near, far
    finally:
        os.close(near)


def _read_all(near: int) -> bytes:
    """Read as a terminal does, until nobody writes any more."""
    blocks = []
    with contextlib.suppress(OSError):  # so a pseudo-terminal ends
        while block := os.read(near, BLOCK):
            blocks.append(block)
    return b"".join(blocks)


if __name__ == "__main__":
    answer({"wide": _quiet, "lines": _lines, "json": _json, "live": _live})
