"""Keep a server for as long as the process that started it, however that one ends.

Between the two stands a process of its own, this file run as a program: it starts the server, and ends it with SIGKILL
when its pipe is closed or its parent is another one, as after a `kill -9`. Then it removes the server's folder as well,
since nobody else is left to. Should the guard itself be killed, Linux kills the server (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PATIENCE_S = 60.0  #: until a server that should have started, or ended, counts as hanging
_PORTS = range(15_000, 32_000)  # below those that Linux hands out by itself: none is taken between two starts
_ROOM = 4 * 1024**3  # bytes that are free in memory before servers' files are put there
_END = b"."
_PR_SET_PDEATHSIG = 1
_LOOK_S = 0.5  # how often the guard looks whose child it is


class NotStarted(Exception):
    """A server did not start. The text ends with what it said."""


class Guarded:
    """A server in a process of its own, which ends with this process at the latest."""

    def __init__(self, command: Sequence[str], folder: Path, *, environment: Mapping[str, str] | None = None) -> None:
        """Start the command; what it writes is appended to `<its name>.log` in the folder.

        Raises: NotStarted: there is no such program.
        """
        self.log = folder / f"{Path(command[0]).name}.log"
        with self.log.open("ab") as said:
            self._guard = subprocess.Popen(
                [sys.executable, "-S", "-E", __file__, str(os.getpid()), str(folder), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=environment,
                start_new_session=True,  # a Ctrl-C in the terminal is for the tests, which then end the server
            )
        assert self._guard.stdout is not None
        self.pid = int(self._guard.stdout.readline() or 0)  #: of the server, not of its guard
        if not self.pid:
            self.end()
            raise NotStarted(f"`{command[0]}` cannot be started\n{self.said()}")

    @property
    def ended(self) -> bool:
        """True when the server is no more."""
        return self._guard.poll() is not None

    @property
    def code(self) -> int | None:
        """The server's exit code, or the number of the signal that ended it; None while it runs."""
        return self._guard.poll()

    def said(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])

    def send(self, number: int) -> None:
        """Send the server a signal, unless it has ended."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, number: int = signal.SIGKILL) -> None:
        """End the server and wait until it is gone; with another signal than SIGKILL it may take its time for that."""
        assert self._guard.stdin is not None and self._guard.stdout is not None
        if self._guard.stdin.closed:  # this is the second time
            return
        if number != signal.SIGKILL:
            self.send(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guard.wait(PATIENCE_S)
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself
            self._guard.stdin.write(_END)
            self._guard.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.close()
        self._guard.wait(PATIENCE_S)
        self._guard.stdout.close()


def quick_folder() -> str | None:
    """Return a folder in memory for a server's files, None where there is none with room: then they lie on the disk.

    A server that syncs each write waits for the disk most of the time, and what was synced is asked for only after its
    processes were killed, which memory outlives as well. TMPDIR counts where it is set.
    """
    place = Path("/dev/shm")
    if os.environ.get("TMPDIR") or not os.access(place, os.W_OK) or shutil.disk_usage(place).free < _ROOM:
        return None
    probe = place / f"direct-{os.getpid()}"
    try:  # Ceph goes around the page cache, which memory has only on Linux 6.6 and later
        os.close(os.open(probe, os.O_CREAT | os.O_RDWR | getattr(os, "O_DIRECT", 0)))
    except OSError:
        return None
    finally:
        probe.unlink(missing_ok=True)
    return str(place)


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", port))
            return port


def wait_until(true: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Wait until `true()`.

    Raises: TimeoutError: naming `what` did not happen within `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {patience_s:g} s")
        time.sleep(0.01)


def wait_for_answer(server: Guarded, port: int, path: str = "/") -> None:
    """Wait until a server answers HTTP, whatever it answers.

    Raises: NotStarted: it ended before, or took longer than PATIENCE_S.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not _answers(port, path):
        if server.ended or time.monotonic() > deadline:
            raise NotStarted(f"no answer from 127.0.0.1:{port}\n{server.said()}")
        time.sleep(0.02)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def main(words: Sequence[str]) -> None:
    """Run a command (`PARENT FOLDER COMMAND...`) until it ends, stdin says so, or the parent is no longer that one."""
    parent, folder, command = int(words[0]), words[1], words[2:]
    child_ended, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=2,
        preexec_fn=_die_with_the_guard,  # noqa: PLW1509  the guard has one thread
    )
    print(server.pid, flush=True)
    while server.poll() is None:
        ready, _, _ = select.select([0, child_ended], [], [], _LOOK_S)
        if child_ended in ready:
            os.read(child_ended, 1)
        elif 0 in ready or os.getppid() != parent:
            server.kill()
            server.wait()
            if 0 not in ready or os.read(0, 1) != _END:
                shutil.rmtree(folder, ignore_errors=True)
    sys.exit(abs(server.returncode))


def _die_with_the_guard() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
