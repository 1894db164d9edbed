"""Name this process so that no other one is taken for it, and tell whether a named one is still there."""

from __future__ import annotations

import contextlib
import functools
import os
import socket

from nectar.runs.values import Process

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def this_process() -> Process:
    """Return the name of the calling process."""
    return _named(os.getpid())


@functools.lru_cache(maxsize=1)  # a forked child asks with a number of its own
def _named(pid: int) -> Process:
    return Process(socket.gethostname(), pid, _start_of(pid))


def is_alive(process: Process) -> bool | None:
    """Say whether a process is still there; None where this host cannot know.

    A process whose number another one has by now is not there any more, nor is one that nobody has waited for.
    """
    if process.host != socket.gethostname() or process.start is None:
        return None
    return _start_of(process.pid) == process.start


def descendants(process: Process) -> list[Process]:
    """Return the children of a process of this host, and theirs, as they are now; none where the host does not say."""
    children: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            fields = _fields(int(name)) if name.isdigit() else None
            if fields is not None:
                children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    stack = list(children.get(process.pid, ()))
    while stack:
        pid = stack.pop()
        found.append(pid)
        stack += children.get(pid, ())
    return [Process(process.host, pid, _start_of(pid)) for pid in found]


def _start_of(pid: int) -> str | None:
    """Return boot and clock ticks at which a process began, None where there is no such process, or no `/proc`."""
    fields = _fields(pid)
    try:
        with open(_BOOT_ID, "rb") as file:
            boot = file.read(8)
    except OSError:
        return None
    if fields is None:
        return None
    state, start = fields[0], fields[19]  # the 3rd and the 22nd of all
    return None if state in (b"Z", b"X") else f"{boot.decode('ascii')}/{int(start)}"


def _fields(pid: int) -> list[bytes] | None:
    """Return what the kernel says of a process, from its state on: the third field of `stat` and those after it.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html. The name of the program, the second, is in parentheses
    and may have any character.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None
