"""Import one chain in a process of its own, so that nothing a chain does at its import harms anything else."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from enum import Enum
from io import FileIO
from pathlib import Path
from typing import Any

from nectar.chain.description import BrokenChain, ChainDescription
from nectar.chain.finder import ChainName

LIMIT_S = 60.0  #: seconds that an import may take
GRACE_S = 2.0  #: seconds beyond, in which the importer says itself where it hangs
PRINTED_LIMIT = 64 * 1024 * 1024  #: bytes that a module may print
ANSWER_LIMIT = 32 * 1024 * 1024  #: bytes of an answer
TAIL = 8 * 1024  #: bytes of what a module printed that are kept, the last ones
PIPE = 64 * 1024  #: bytes that are read at once, and that a pipe holds
POLL_S = 0.05  #: seconds between looks at a process whose pipes others keep open

_PACKAGES = Path(__file__).resolve().parents[2]  #: the folder from which `nectar` was imported


@dataclass(frozen=True, slots=True)
class Imported:
    """What an importer answers for a chain that can be imported."""

    description: ChainDescription
    files: dict[str, tuple[int, int]]  #: the project's files that it loaded: path below the root, mtime in ns, bytes
    is_settled: bool  #: whether all these files are older than the import: only then they prove what was read


class _End(Enum):
    """How the talk with an importer ended."""

    ANSWERED = "answered"
    DIED = "died"
    TIME = "time"
    PRINTED = "printed"
    ANSWER = "answer"
    STOPPED = "stopped"


@dataclass(slots=True)
class _Talk:
    """The pipes from an importer, and what has come through them so far."""

    answers: FileIO
    prints: FileIO
    answer: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)  #: of what the module printed
    printed: int = 0  #: bytes

    @property
    def is_answered(self) -> bool:
        return self.answer.endswith(b"\n")

    def receive(self, pipe: FileIO) -> int | None:
        """Take what a pipe holds and return how many bytes; 0: nothing can come any more, None: nothing yet."""
        chunk = pipe.read(PIPE)
        if chunk is None:
            return None
        if pipe is self.answers:
            self.answer += chunk
        else:
            self.printed += len(chunk)
            self.tail = (self.tail + chunk)[-TAIL:]
        return len(chunk)

    def receive_the_rest(self) -> None:
        """Take what the pipes hold and no more: a child that left the process group may go on printing for ever."""
        for pipe in (self.answers, self.prints):
            for _ in range(2):
                if not self.receive(pipe):
                    break


def import_chain(
    root: Path, chain: ChainName, *, limit_s: float = LIMIT_S, stop: threading.Event | None = None
) -> Imported | BrokenChain:
    """Return what an importer process says of a chain, within `limit_s` and `GRACE_S` seconds.

    The process is gone and all of its group are killed when this returns or raises. Setting `stop` ends it early.

    Raises:
        OSError: the machine cannot start a process.
    """
    with contextlib.ExitStack() as pipes:
        answers, answers_end = (pipes.enter_context(end) for end in _pipe())
        prints, prints_end = (pipes.enter_context(end) for end in _pipe())
        started = time.monotonic()
        process = _start(root, chain, answers_end, prints_end, limit_s)
        talk = _Talk(answers, prints)
        try:
            answers_end.close()
            prints_end.close()
            end = _listen(process, talk, started + limit_s + GRACE_S, stop or threading.Event())
        finally:
            _end(process)
        talk.receive_the_rest()
    if end is _End.DIED and talk.is_answered:
        end = _End.ANSWERED
    elif end is _End.DIED and time.monotonic() - started >= limit_s:
        end = _End.TIME
    if end is _End.ANSWERED:
        return _read_answer(chain, bytes(talk.answer))
    error = _reason(end, process.returncode, limit_s)
    return BrokenChain(chain.path, error, talk.tail.decode("utf-8", "replace"))


def _pipe() -> tuple[FileIO, FileIO]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return FileIO(reader, "r"), FileIO(writer, "w")


def _start(root: Path, chain: ChainName, answers: FileIO, prints: FileIO, limit_s: float) -> subprocess.Popen[bytes]:
    place = os.path.realpath(root)
    request = {
        "root": place,
        "chain": chain.path,
        "channel": answers.fileno(),
        "limit_s": limit_s,
        "path": [os.path.abspath(entry) for entry in sys.path],
    }
    return start_module(
        "nectar.chain.importer",
        json.dumps(request),
        root=place,
        unbuffered=True,  # what a module prints before it dies is all there is to show
        stdin=subprocess.DEVNULL,
        stdout=prints,
        stderr=prints,
        pass_fds=(answers.fileno(),),
    )


def start_module(
    module: str, word: str, *, root: str, unbuffered: bool = False, **pipes: Any
) -> subprocess.Popen[bytes]:
    """Start a module of this very `nectar`, installed or not, as a process of a project, in a session of its own.

    It begins in the folder of the packages, and goes to the project's root by itself. `pipes` are those of `Popen`.

    Raises:
        OSError: when it cannot be started.
    """
    return subprocess.Popen(
        [sys.executable, *(("-u",) if unbuffered else ()), "-m", module, word],
        cwd=_PACKAGES,
        env={**os.environ, "NECTAR_PROJECT": root},
        start_new_session=True,
        **pipes,
    )


def _listen(process: subprocess.Popen[bytes], talk: _Talk, deadline: float, stop: threading.Event) -> _End:
    with selectors.DefaultSelector() as selector:
        for pipe in (talk.answers, talk.prints):
            selector.register(pipe, selectors.EVENT_READ, pipe)
        while True:
            for key, _ in selector.select(POLL_S):
                if talk.receive(key.data) == 0:
                    selector.unregister(key.data)
            if talk.is_answered:
                return _End.ANSWERED
            if len(talk.answer) > ANSWER_LIMIT:
                return _End.ANSWER
            if talk.printed > PRINTED_LIMIT:
                return _End.PRINTED
            if process.poll() is not None:
                return _End.DIED
            if stop.is_set():
                return _End.STOPPED
            if time.monotonic() >= deadline:
                return _End.TIME


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all of its group, and wait for it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody of the group is left, or only zombies
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read_answer(chain: ChainName, answer: bytes) -> Imported | BrokenChain:
    try:
        document = json.loads(answer)
        if "broken" in document:
            return BrokenChain.from_json(document["broken"])
        files = {str(file): (int(modified_ns), int(size)) for file, (modified_ns, size) in document["files"].items()}
        return Imported(ChainDescription.from_json(document["description"]), files, document["settled"] is True)
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # the module wrote to the importer's own pipe
        return BrokenChain(chain.path, f"the importer's answer cannot be read: {error}", "")


def _reason(end: _End, returncode: int, limit_s: float) -> str:
    if end is _End.TIME:
        return f"the import took longer than {limit_s:g} s"
    if end is _End.PRINTED:
        return f"the import printed more than {PRINTED_LIMIT // 2**20} MiB"
    if end is _End.ANSWER:
        return f"the description is larger than {ANSWER_LIMIT // 2**20} MiB"
    if end is _End.STOPPED:
        return "the import was stopped"
    if returncode < 0:
        return f"the import was ended by {signal.Signals(-returncode).name}"
    return f"the import ended the process with exit code {returncode}"
