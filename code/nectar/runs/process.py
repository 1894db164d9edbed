"""Name this process so that no other one is taken for it, and tell whether a named one is still there."""

from __future__ import annotations

import contextlib
import functools
import os
import socket

from nectar.process_table import fields, start_of
from nectar.runs.values import Process


def this_process() -> Process:
    """Return the name of the calling process."""
    return _named(os.getpid())


@functools.lru_cache(maxsize=1)  # a forked child asks with a number of its own
def _named(pid: int) -> Process:
    return Process(socket.gethostname(), pid, start_of(pid))


def is_alive(process: Process) -> bool | None:
    """Say whether a process is still there; None where this host cannot know.

    A process whose number another one has by now is not there any more, nor is one that nobody has waited for.
    """
    if process.host != socket.gethostname() or process.start is None:
        return None
    return start_of(process.pid) == process.start


def descendants(process: Process) -> list[Process]:
    """Return the children of a process of this host, theirs, and all of the session that it leads, as they are now.

    Those of a session are found when their parents have ended, too, and the process itself. None where the host does
    not say, or where another process has the number by now.
    """
    if start_of(process.pid) not in (None, process.start):
        return []
    children: dict[int, list[int]] = {}
    stack: list[int] = []
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            facts = fields(int(name)) if name.isdigit() else None
            if facts is not None:
                children.setdefault(int(facts[1]), []).append(int(name))
                if int(facts[3]) == process.pid:
                    stack.append(int(name))
    stack += children.get(process.pid, ())
    found = {process.pid: False}
    while stack:
        pid = stack.pop()
        if pid not in found:
            found[pid] = True
            stack += children.get(pid, ())
    return [Process(process.host, pid, start_of(pid)) for pid, below in found.items() if below]
