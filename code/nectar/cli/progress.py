"""Show a run while it runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from nectar.cli import console
from nectar.execution.outcome import Event, EventKind, StepResult, StepStatus

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

REFRESH_PER_SECOND = 4  #: each takes some milliseconds, which tasks do not have
SHOWN_TASKS = 8  #: of those at work


class Progress:
    """A listener that shows on stderr what it hears."""

    def __init__(self, module: str, store_url: str, *, quiet: bool, plain: bool) -> None:
        self._module = module
        self._store_url = store_url
        self._quiet = quiet
        self._planned = 0
        self._ended = 0
        self._failed = 0
        self._at_work: dict[str, tuple[float, str]] = {}  # task -> monotonic start, its own word
        self._started = time.monotonic()
        self._guard = threading.RLock()
        self._stream = console.own_stream(sys.stderr)
        self._wants_live = console.colours(self._stream) and not quiet and not plain
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        self._stream.flush()

    def _start(self) -> None:
        from rich.console import Console
        from rich.live import Live

        terminal = Console(file=self._stream, highlight=False, emoji=False, markup=False)
        self._live = Live(
            get_renderable=self._picture, console=terminal, refresh_per_second=REFRESH_PER_SECOND, transient=True
        )
        self._live.start()

    def listen(self, event: Event) -> None:
        """Take in one event."""
        with self._guard:
            if event.kind is EventKind.RUN_STARTED:
                self._planned = event.planned or 0
                if self._wants_live and self._planned:
                    self._start()
            elif event.kind is EventKind.STEP_STARTED and event.task is not None:
                self._at_work.setdefault(event.task, (time.monotonic(), ""))
                self._say("run     ", event.task)
            elif event.kind in (EventKind.STEP_MESSAGE, EventKind.STEP_PROGRESS) and event.task is not None:
                started, _ = self._at_work.get(event.task, (time.monotonic(), ""))
                unit = " %" if event.kind is EventKind.STEP_PROGRESS else ""
                self._at_work[event.task] = (started, f"{event.detail}{unit}")
                self._say("        ", event.task, f": {event.detail}{unit}")
            elif event.kind is EventKind.STEP_ENDED and event.step is not None:
                self._take_end(event)

    def _take_end(self, event: Event) -> None:
        step = event.step
        assert step is not None
        self._at_work.pop(step.task, None)
        if step.status in (StepStatus.SUCCEEDED, StepStatus.REUSED):
            self._ended += 1
            word = "done    " if step.status is StepStatus.SUCCEEDED else "reused  "
            self._say(word, step.task, f"  {console.seconds_text(step.seconds)}")
        elif step.status is StepStatus.FAILED:
            self._ended += 1
            self._failed += 1
            self._say_failure(step)

    def _say_failure(self, step: StepResult) -> None:
        """Say at once, and whatever the options, what failed, why, and where its log is."""
        lines = [f"failed  {self._short(step.task)}", f"        {step.error}"]
        if step.hint:
            lines.append(f"        hint: {step.hint}")
        if step.logs:
            lines.append(f"        logs: {self._store_url}/{step.logs}")
        if self._live is not None:
            from rich.text import Text

            text = Text("\n".join(lines))
            text.stylize("bold red", 0, 6)
            self._live.console.print(text, soft_wrap=True)
        else:
            for line in lines:
                head, tail = (line[:8], line[8:]) if line.startswith("failed") else ("", line)
                console.line((head, "bad"), tail, stream=self._stream)

    def _say(self, word: str, task: str, more: str = "") -> None:
        if self._live is None and not self._quiet:
            console.line(word, self._short(task), more, stream=self._stream)

    def _short(self, task: str) -> str:
        return console.short_name(task, self._module)

    def _picture(self) -> Table:
        """Return what the terminal shows now."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with self._guard:
            grid = Table.grid(padding=(0, 1))
            total = max(self._planned, self._ended + len(self._at_work), 1)
            counts = f"{self._ended}/{total}" + (f", {self._failed} failed" if self._failed else "")
            elapsed = console.seconds_text(time.monotonic() - self._started)
            grid.add_row(ProgressBar(total=total, completed=self._ended, width=30), counts, elapsed)
            for task, (started, word) in list(self._at_work.items())[:SHOWN_TASKS]:
                seconds = console.seconds_text(time.monotonic() - started)
                grid.add_row(Text(self._short(task), "cyan"), Text(word), seconds)
            return grid
