"""Somebody who does what a page says, in its order, and compares what comes with what the page shows.

Run ids, attempts, secrets and tokens of pages are other ones each time: where the page shows one, what came first in
its place stands for it from then on, in answers and in commands. `...` stands for anything; so do times.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LIMIT_S = 30.0
PORT = 5000  #: of the pages' server; requests come to the test's own through it as a proxy, with this one in their URLs

#: what differs from time to time, and means the same wherever it stands
BOUND = {
    "attempt": r"\d{8}T\d{12}-[0-9a-f]{32}-[0-9a-f]{6}",
    "run": r"\d{8}T\d{6}-[0-9a-f]{8}",
    "secret": r"nectar_[\w-]{43}",
    "page": r"[\w-]{65,}",
}
#: what differs, and means nothing
MASKED = (r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", r"\b[0-9a-f]{16}\b", r"\b\d+\.\d s\b")
_PARTS = re.compile("|".join([r"\.\.\.", *(f"(?P<{kind}>{pattern})" for kind, pattern in BOUND.items()), *MASKED]))


class Reader:
    """A reader with a shell in a project's folder, and what was shown and came so far."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        path = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        self.environment = environment | {"PATH": path, "NECTAR_SERVE_PORT": "0", "NECTAR_SERVE_DRAIN_S": "1"}
        self.server: subprocess.Popen[str] | None = None
        self.done: list[str] = []  #: commands and scripts
        self._log = threading.Thread()  # that reads what the server says
        self._known: dict[str, str] = {}  # what came, by what the page shows in its place

    def follow(self, page: str) -> None:
        """Do what all blocks of a page, or of a part of it, say."""
        blocks = FENCE.findall(page)
        for number, (language, text) in enumerate(blocks):
            if language == "console":
                for command, shown in steps(text):
                    self._do(command, shown)
            elif place := re.match(r"# ([\w/-]+\.(?:py|yaml))\n", text):
                self.write(place[1], text)
            elif language == "python":
                [after, shown] = blocks[number + 1]
                assert after == "text", "a script stands without what it prints"
                self._check(text, shown, self._run([sys.executable, "-c", text]))

    def write(self, place: str, text: str) -> None:
        """Write a file, such as a chain."""
        file = self.root / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def _do(self, command: str, shown: str) -> None:
        for said, came in self._known.items():
            command = command.replace(said, came)
        if command == "nectar serve":
            self._check(command, shown, self._serve(shown.count("\n")))
            return
        deadline = time.monotonic() + LIMIT_S
        while True:
            came = self._run(["bash", "-c", f"exec 2>&1; {command}"])
            asks = command.startswith("curl ") and not re.search(r" -X POST | --json ", command)
            if not asks or self._matches(shown, came) or time.monotonic() > deadline:  # who only asks may ask again
                break
        self._check(command, shown, came)

    def end(self) -> int | None:
        """End the server as a person does, with the runs that are at work, and return its exit code."""
        if self.server is None:
            return None
        if self.server.poll() is None:
            self.server.send_signal(signal.SIGINT)
        try:
            return self.server.wait(LIMIT_S)
        finally:
            self.server.kill()
            self.server.wait(LIMIT_S)
            if self._log.ident is not None:  # it has said where it answers
                self._log.join(LIMIT_S)

    def _serve(self, count: int) -> str:
        """Start the server as the page has it, and return as many lines of what it says as the page shows."""
        self.server = subprocess.Popen(
            ["nectar", "serve"],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.server.stderr is not None
        said = "".join(self.server.stderr.readline() for _ in range(count))
        found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
        assert found, said
        self.environment["http_proxy"] = found[0]
        self._log = threading.Thread(target=self._read_log, args=(self.server.stderr,), daemon=True)
        self._log.start()
        return said.replace(found[1], str(PORT))

    def _read_log(self, log: IO[str]) -> None:
        """Take what the server goes on to say: it would wait for somebody who reads it."""
        with log:
            log.read()

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
        )
        return done.stdout.replace(str(self.root), "~/nectar")

    def _check(self, action: str, shown: str, came: str) -> None:
        assert self._matches(shown, came), f"$ {action}\n{came}\nthe page says:\n{shown}"
        self.done.append(action)

    def _matches(self, shown: str, came: str) -> bool:
        found = matched(shown, came, self._known)
        self._known |= found or {}
        return found is not None


def steps(console: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with what it is said to print."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


def matched(shown: str, came: str, known: dict[str, str]) -> dict[str, str] | None:
    """Return what came where a text shows what is another one each time; None where the text is not what came."""
    document = _json(came)
    if document is not None:
        shown, came = _dense(shown), _dense(json.dumps(document, ensure_ascii=False))
    shown, came = ("\n".join(line.rstrip() for line in text.strip().splitlines()) for text in (shown, came))
    pattern, names, at = "", {}, 0
    for part in _PARTS.finditer(shown):
        pattern += re.escape(shown[at : part.start()])
        at, text = part.end(), part[0]
        if text == "...":
            pattern += ".*?"
        elif part.lastgroup is None:
            pattern += f"(?:{'|'.join(MASKED)})"
        elif text in known:
            pattern += re.escape(known[text])
        elif text in names:
            pattern += f"(?P={names[text]})"
        else:
            names[text] = f"{part.lastgroup}{len(names)}"
            pattern += f"(?P<{names[text]}>{BOUND[part.lastgroup]})"
    found = re.fullmatch(pattern + re.escape(shown[at:]), came, re.DOTALL)
    return None if found is None else {text: found[name] for text, name in names.items()}


def _json(text: str) -> Any:
    """Return a JSON object, None for all else."""
    try:
        return json.loads(text) if text.startswith("{") else None
    except ValueError:
        return None


def _dense(text: str) -> str:
    return re.sub(r"(?<=[\[{]) | (?=[\]}])", "", re.sub(r"\s+", " ", text.strip()))
