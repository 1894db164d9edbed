"""Run all tests in two processes at once: `make test`. Words are for both: `python tests/in_halves.py -x -k gc`.

Most tests wait: for servers, for other processes, for the disk. What the first half says is shown as it comes, and
what the second one says after it. At the end stands what failed in either. The exit code is the worse of pytest's two.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parent
#: what the first process runs, of about half of the time; the other one runs the rest, whatever that is
FIRST = (
    "unit",
    "contract",
    "servers",
    "integration/s3",
    "integration/runs",
    "integration/commit_faults",
    "integration/luigi_conformance",
    "integration/engine",
    "integration/secrets",
)
_LOOK_S = 0.2  # how often what was said is looked at
_NONE_FOUND = 5  # pytest's exit code where the words leave no test
_STYLE = re.compile(rb"\x1b\[[0-9;]*m")
_BAD = re.compile(rb"^(?:FAILED|ERROR) .*$", re.MULTILINE)


class Half:
    """A process of pytest, which writes to a file: a pipe would stay open as long as any process that a test left."""

    def __init__(self, words: Sequence[str]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  as long as this process
        self._shown = 0
        command = [sys.executable, "-m", "pytest", *words]
        self._process = subprocess.Popen(command, stdout=self._said, cwd=TESTS.parent)

    def show(self) -> int:
        """Show what it says until it has ended, and return its exit code."""
        while (code := self._process.poll()) is None:
            self._show_more()
            time.sleep(_LOOK_S)
        self._show_more()
        return code

    def _show_more(self) -> None:
        size = os.fstat(self._said.fileno()).st_size
        show(os.pread(self._said.fileno(), size - self._shown, self._shown))
        self._shown = size

    def bad(self) -> list[bytes]:
        """Return the lines that say what failed."""
        return _BAD.findall(_STYLE.sub(b"", os.pread(self._said.fileno(), self._shown, 0)))


def show(raw: bytes) -> None:
    """Write to the terminal, if somebody is still there."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()


def main(words: Sequence[str]) -> int:
    """Run both halves, say at the end what failed, and return the exit code."""
    signal.signal(signal.SIGINT, lambda number, frame: None)  # the tests are told as well, and end in their own way
    began = time.monotonic()
    words = ["--color=yes" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else "--color=no", *words]
    first = [str(TESTS / one) for one in FIRST]
    halves = [Half([*first, *words]), Half([str(TESTS), *(f"--ignore={one}" for one in first), *words])]
    codes = [half.show() for half in halves]
    show(b"".join([b"\n", *(line + b"\n" for half in halves for line in half.bad())]))
    if set(codes) == {0, _NONE_FOUND}:
        codes = [0]
    worst = max(map(abs, codes))
    outcome = f"failed, with pytest's exit codes {codes}" if worst else "passed"
    show(f"both halves {outcome} in {time.monotonic() - began:.0f} s\n".encode())
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
