"""Ask processes that have imported a chain about its tasks, so that this process never imports one.

For each chain that is asked about one template process is kept (`nectar.service.template`), until a file that the
import loaded changes, nobody asks for a while, or more recent ones need the place.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nectar import errors
from nectar.chain.description import BrokenChain, broken_error
from nectar.chain.finder import ChainName, find_chain
from nectar.chain.isolation import ANSWER_LIMIT, GRACE_S, LIMIT_S, start_module
from nectar.settings import Settings

ANSWER_S = 30.0  #: seconds that an answer may take
MOST = 8  #: templates at the same time
AT_ONCE = 8  #: questions about one chain at the same time: half of the server's threads
STUCK_S = 1.0  #: after which a question counts as one that will not be answered soon
IDLE_S = 600.0  #: seconds after which a template that nobody asks is ended
QUARTER_S = 900  #: a template does not outlive it: `default=date.today()` is what the day was when it was imported
PRECISE = ("minute", "second")  #: types of parameters whose defaults are too old in the same quarter of an hour

_BLOCK = 1 << 16


class _Template:
    """A process that has imported a chain, and forks for each question."""

    def __init__(self, settings: Settings, chain: ChainName, limit_s: float) -> None:
        """Start it, and wait for its import.

        Raises:
            ChainBroken: when the chain cannot be imported.
        """
        self._root = str(settings.root)
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = here
        self.used_at = time.monotonic()
        with there:
            self._process = _start(settings.root, chain, there.fileno(), limit_s)
        try:
            told = json.loads(_receive(self.ask(b""), time.monotonic() + LIMIT_S + GRACE_S) or b"{}")
            if "broken" in told:
                raise broken_error(BrokenChain.from_json(told["broken"]))
            if "files" not in told:
                raise broken_error(BrokenChain(chain.path, self._ending(), ""))
            self._files = {file: tuple(stamp) for file, stamp in told["files"].items()}
            self._settled = told["settled"] is True and not _has_precise_default(told["description"])
            self._quarter = time.time() // QUARTER_S
        except BaseException:
            self.end()
            raise

    def _ending(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"the import was ended by {signal.Signals(-code).name}"
        return f"the import took longer than {LIMIT_S:g} s, or ended the process with exit code {code}"

    def is_current(self) -> bool:
        """Say whether the process is there, and has imported what the files, and the time, are now."""
        if not self._settled or self._process.poll() is not None or self._quarter != time.time() // QUARTER_S:
            return False
        try:
            for file, stamp in self._files.items():
                status = os.stat(os.path.join(self._root, file))
                if (status.st_mtime_ns, status.st_size) != stamp:
                    return False
        except OSError:
            return False
        return True

    def ask(self, question: bytes) -> int:
        """Send a question, and return the descriptor of the pipe that its answer comes through.

        Raises:
            OSError: when the process is gone.
        """
        self.used_at = time.monotonic()
        answer, answered = os.pipe()
        try:
            # A file in memory, not a pipe: whether or not anybody reads it, whoever asks does not wait for that.
            with open(os.memfd_create("question"), "w+b", buffering=0) as asked:
                asked.write(question)
                asked.seek(0)
                socket.send_fds(self._control, [b"?"], [asked.fileno(), answered])
        except OSError:
            os.close(answer)
            raise
        finally:
            os.close(answered)
        return answer

    def leave(self) -> None:
        """Ask nothing more: the process ends by itself when it has taken what it was asked before."""
        self._control.close()

    @property
    def ended(self) -> bool:
        """True when the process is gone."""
        return self._process.poll() is not None

    def end(self) -> None:
        """End the process; children that are at an answer go on."""
        self._control.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class _Slot:
    """The place of a chain's template."""

    def __init__(self) -> None:
        self.template: _Template | None = None
        self.guard = threading.Lock()
        self.retired = False  # the place is for another chain now
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._begun: list[float] = []  # when the questions that are not answered yet were asked

    @contextlib.contextmanager
    def room(self, chain: ChainName) -> Iterator[None]:
        """Take part in asking, without waiting for long: a chain that hangs must not keep all threads of the server.

        Raises:
            ServerBusy: when many questions about this chain wait for their answers already.
        """
        now = time.monotonic()
        stuck = now - min(tuple(self._begun), default=now) > STUCK_S
        if not self._room.acquire(blocking=not stuck, timeout=None if stuck else STUCK_S):
            raise errors.ServerBusy(
                f"{AT_ONCE} questions about `{chain.path}` have no answer yet",
                hint="ask again later; what its tasks require, or import, may take long",
            )
        self._begun.append(now)
        try:
            yield
        finally:
            self._begun.remove(now)
            self._room.release()


class Importers:
    """The templates of a server. Threads share it."""

    def __init__(self, settings: Settings, *, most: int = MOST, answer_s: float = ANSWER_S) -> None:
        self._settings, self._most, self._answer_s = settings, most, answer_s
        self._slots: OrderedDict[ChainName, _Slot] = OrderedDict()  # the one asked last comes last
        self._guard = threading.Lock()
        self._leaving: list[_Template] = []  # that may still take what they were asked

    def ask(
        self, ask: str, chain: ChainName, task: str, params: Mapping[str, str], select: str | None = None
    ) -> dict[str, Any]:
        """Return the answer to a question; see `nectar.service.questions`.

        Raises:
            NectarError: the error that it ends with, of the class that it has there.
            ChainNotFound, ChainBroken: when there is no such chain, or it cannot be imported.
            NoAnswer: when the process ended, or took too long.
            ServerBusy: when too many questions about this chain wait.
        """
        if not chain.is_in(self._settings.root):
            find_chain(self._settings.chains_dir, chain.path)
        question = {"ask": ask, "chain": chain.path, "task": task, "params": dict(params), "select": select}
        slot = self._slot(chain)
        with slot.room(chain):
            pipe = self._send(slot, chain, json.dumps(question).encode("ascii"))
            raw = _receive(pipe, time.monotonic() + self._answer_s)
        if raw is None:
            raise errors.NoAnswer(
                f"`{task}` of `{chain.path}` gave no answer within {self._answer_s:g} s",
                hint="look at what its `requires()` and `output()` wait for",
            )
        if not raw.endswith(b"\n"):
            raise errors.NoAnswer(
                f"the process that looked at `{task}` of `{chain.path}` ended without an answer",
                hint="its code ends the process, or needs more memory than there is",
            )
        told = json.loads(raw)
        if "error" in told:
            raise errors.from_json(told["error"])
        answer: dict[str, Any] = told["answer"]
        return answer

    def close(self) -> None:
        """End all templates."""
        with self._guard:
            templates = [slot.template for slot in self._slots.values() if slot.template is not None] + self._leaving
            self._slots.clear()
        for template in templates:
            template.end()

    def _send(self, slot: _Slot, chain: ChainName, question: bytes) -> int:
        """Send a question to the chain's template, a new one where need be; return the pipe of its answer."""
        try:
            with slot.guard:
                if slot.template is not None and slot.template.is_current():
                    with contextlib.suppress(OSError):  # it ended a moment ago
                        return slot.template.ask(question)
                self._let_go(slot)
                slot.template = _Template(self._settings, chain, self._answer_s)
                return slot.template.ask(question)
        finally:
            if slot.retired:
                self._retire(slot)

    def _slot(self, chain: ChainName) -> _Slot:
        """Return the place of a chain, and let go templates that are idle, or too many."""
        limit = time.monotonic() - IDLE_S
        with self._guard:
            slot = self._slots.setdefault(chain, _Slot())
            self._slots.move_to_end(chain)
            others = [one for one in self._slots if one != chain]
            surplus = others[: max(len(self._slots) - self._most, 0)]
            idle = [one for one in others if (made := self._slots[one].template) and made.used_at < limit]
            gone = [self._slots.pop(one) for one in dict.fromkeys([*surplus, *idle])]
        for one in gone:
            self._retire(one)
        return slot

    def _retire(self, slot: _Slot) -> None:
        """Let the template of a place go; where somebody is just asking it, or importing, that one does."""
        slot.retired = True
        if slot.guard.acquire(blocking=False):
            try:
                self._let_go(slot)
            finally:
                slot.guard.release()

    def _let_go(self, slot: _Slot) -> None:
        """Leave a place's template to itself. It is not killed: another thread may have asked it a moment ago."""
        template, slot.template = slot.template, None
        with self._guard:
            self._leaving = [one for one in self._leaving if not one.ended]  # which also waits for the processes
            if template is not None:
                template.leave()
                self._leaving.append(template)


def _has_precise_default(description: Mapping[str, Any]) -> bool:
    parameters = [one for task in description["tasks"] for one in task["parameters"]]
    return any(one["type"] in PRECISE and one["default"] is not None for one in parameters)


def _start(root: Path, chain: ChainName, control: int, limit_s: float) -> subprocess.Popen[bytes]:
    place = os.path.realpath(root)
    request = {
        "root": place,
        "chain": chain.path,
        "control": control,
        "limit_s": limit_s,
        "import_limit_s": LIMIT_S,
        "path": [os.path.abspath(entry) for entry in sys.path],
    }
    nowhere: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    return start_module("nectar.service.template", json.dumps(request), root=place, pass_fds=(control,), **nowhere)


def _receive(pipe: int, deadline: float) -> bytes | None:
    """Return all that comes through a pipe until its other end is closed; None where that takes too long."""
    received = bytearray()
    with open(pipe, "rb", buffering=0) as file, selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        while len(received) <= ANSWER_LIMIT:
            if not selector.select(max(deadline - time.monotonic(), 0)):
                return None
            chunk = file.read(_BLOCK)
            if not chunk:
                return bytes(received)
            received += chunk
    raise errors.NoAnswer(
        f"the answer is larger than {ANSWER_LIMIT >> 20} MiB", hint="ask for less of the graph, by the command line"
    )
