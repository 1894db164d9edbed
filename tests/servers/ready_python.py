"""Run Python programs as `subprocess.run` does, but by a fork of a Python that has the libraries in memory already.

Most of the time of a short command goes by while it imports the libraries of others. Those are imported once here;
Nectar, luigi, and the chains are imported by each program anew, under its own environment and in its own folder.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

#: what the programs import, and with it nearly all that others wrote
_PROGRAMS = ("nectar.cli", "nectar.actions.run", "nectar.runs.sql", "luigi.cmdline", "rich.live", "boto3")
_ANEW = ("nectar", "luigi", "chains", "__main__")
_MESSAGE = 200_000  # bytes of a request at most
_READERS = 2  # each has another hash seed: of two commands in a row neither can rely on the other's order of a set
#: what a process heeds of its environment only when it starts, and a fork can be given
_GIVEN = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
_EARLY = ("PYTHON", "LC_", "LANG", "TZ", "LD_", "MALLOC_")


def run(
    words: Sequence[str | bytes], *, cwd: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[bytes]:
    """Run a script of this environment, or `python -c`, without input; return its exit code and what it wrote.

    Whatever cannot be had by a fork is started.

    Raises: subprocess.TimeoutExpired: after it was killed.
    """
    request = _request(words, cwd, env)
    if request is None:
        return subprocess.run(words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
    reader = next(_readers())
    out, err, told = reader.ask(request, time.monotonic() + timeout)
    if told.count(b"\n") < 2:
        raise subprocess.TimeoutExpired(list(words), timeout, out, err)
    return subprocess.CompletedProcess(words, int(told.split()[1]), out, err)


def _early(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_EARLY) and name not in _GIVEN}


def _request(words: Sequence[str | bytes], cwd: Path, env: Mapping[str, str]) -> bytes | None:
    """Return what a reader is asked, None where it cannot do that."""
    texts = [os.fsdecode(word) for word in words]
    script = Path(texts[0])
    code = texts[0] == sys.executable and texts[1:2] == ["-c"]
    if not hasattr(os, "pidfd_open") or _early(env) != _early(os.environ):
        return None
    if not code and (script.parent != Path(sys.executable).parent or script.name not in ("nectar", "luigi")):
        return None
    raw = json.dumps({"words": texts[2:] if code else texts, "code": code, "cwd": str(cwd), "env": dict(env)})
    return raw.encode() if len(raw) < _MESSAGE else None


@functools.cache
def _readers() -> itertools.cycle[_Reader]:
    return itertools.cycle([_Reader() for _ in range(_READERS)])


class _Reader:
    """The process that forks, as the tests see it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            env = {name: value for name, value in os.environ.items() if name not in _GIVEN}
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self.close)

    def close(self) -> None:
        """End the process; it has forked for the last time."""
        self._control.close()
        self._process.wait()

    def ask(self, request: bytes, deadline: float) -> tuple[bytes, bytes, bytes]:
        """Return what the program wrote to stdout and stderr, and process id and exit code, each with a newline.

        There is no exit code where it was killed at the deadline.
        """
        with contextlib.ExitStack() as stack:
            pipes = [os.pipe() for _ in range(3)]
            for reading, _ in pipes:
                stack.callback(os.close, reading)
            theirs = [os.open(os.devnull, os.O_RDONLY), *(writing for _, writing in pipes)]
            try:
                socket.send_fds(self._control, [request], theirs)
            finally:
                for descriptor in theirs:
                    os.close(descriptor)
            read = {reading: b"" for reading, _ in pipes}
            waiting = set(read)
            while waiting:
                ready, _, _ = select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))
                if not ready:
                    _kill(read[pipes[2][0]])
                    break
                for one in ready:
                    raw = os.read(one, 1 << 16)
                    read[one] += raw
                    waiting -= set() if raw else {one}
            out, err, told = read.values()
            return out, err, told


def _kill(told: bytes) -> None:
    with contextlib.suppress(ProcessLookupError, IndexError):
        os.kill(int(told.split()[0]), signal.SIGKILL)


# The process that forks.


def serve(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork for each request until nobody is left to ask; return in each child, with its request and its streams."""
    running: dict[int, tuple[int, int]] = {}  # by pidfd: process id, and where its end is told
    while True:
        ready, _, _ = select.select([control, *running], [], [])
        for one in ready:
            if one is control:
                raw, given, _, _ = socket.recv_fds(control, _MESSAGE, 4)
                if not raw:
                    os._exit(0)
                pid = os.fork()
                if not pid:
                    control.detach()
                    return json.loads(raw), given[:3]
                running[os.pidfd_open(pid)] = (pid, given[3])
                _tell(given[3], pid)
                for descriptor in given[:3]:
                    os.close(descriptor)
            else:
                pid, told = running.pop(one)
                _tell(told, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(told)
                os.close(one)


def _tell(descriptor: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody waits any more
        os.write(descriptor, b"%d\n" % number)


def become(request: Mapping[str, Any], streams: Sequence[int], path: Sequence[str]) -> NoReturn:
    """Be the program that a request names, as if Python had been started for it."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    words, main = request["words"], types.ModuleType("__main__")
    if request["code"]:
        source, name, first = words[0], "<string>", ""
        sys.argv = ["-c", *words[1:]]
    else:
        source, name, first = Path(words[0]).read_text(encoding="utf-8"), words[0], str(Path(words[0]).parent)
        sys.argv = words
        main.__file__ = name
    more = [os.path.abspath(one) for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    sys.path[:] = [first, *more, *path]
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].ORIGINAL_DIR = os.getcwd()  # type: ignore[attr-defined]
    main.__builtins__ = __builtins__  # type: ignore[attr-defined]
    sys.modules["__main__"] = main
    end(_ran(compile(source, name, "exec", dont_inherit=True), main))


def _ran(code: types.CodeType, main: types.ModuleType) -> int:
    """Run a program, and return its exit code; below zero it is the signal by which to end."""
    try:
        exec(code, main.__dict__)
    except SystemExit as asked:
        if isinstance(asked.code, str):
            print(asked.code, file=sys.stderr)
        return (asked.code if isinstance(asked.code, int) else int(asked.code is not None)) & 255
    except BaseException:  # noqa: BLE001  as the interpreter itself
        kind, value, trace = sys.exc_info()
        assert kind is not None and value is not None and trace is not None
        sys.excepthook(kind, value, trace.tb_next)
        return -signal.SIGINT if kind is KeyboardInterrupt else 1
    return 0


def end(code: int) -> NoReturn:
    """End as Python does, but leave it to the kernel to clear the memory: what was read for many is not taken apart."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def read_libraries() -> None:
    """Import what the programs import and others wrote."""
    show = f"import sys\nfor one in {_PROGRAMS!r}:\n    try: __import__(one)\n    except ImportError: pass\n"
    names = subprocess.run(
        [sys.executable, "-c", f"{show}print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout.split()
    for name in names:
        if name.partition(".")[0] not in _ANEW:
            with contextlib.suppress(ImportError):  # there are modules that are no modules, such as those of `six`
                importlib.import_module(name)


def main(descriptor: int) -> NoReturn:
    """Serve the tests at a socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the tests, which then end
    path = sys.path[1:]
    read_libraries()
    gc.freeze()  # a child whose collector looked at all that was read would copy it
    request, streams = serve(socket.socket(fileno=descriptor))
    become(request, streams, path)


if __name__ == "__main__":
    main(int(sys.argv[1]))
