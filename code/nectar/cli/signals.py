"""Turn Ctrl-C into a drain, and a second one, or TERM, into a stop."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from nectar.cli import console
from nectar.execution.outcome import Runner


@contextlib.contextmanager
def stopping(runner: Runner) -> Iterator[Runner]:
    """Let signals stop a run while it runs."""
    asked = False
    stream = console.own_stream(sys.stderr)  # while a task runs here, the process's own stderr is its log

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked or number == signal.SIGTERM:
            raise KeyboardInterrupt
        asked = True
        console.line(("stopping when what is at work has ended; Ctrl-C again stops at once", "odd"), stream=stream)
        runner.drain()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield runner
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
