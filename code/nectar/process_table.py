"""Read what the kernel's table of processes says: which process a number names, and whether that one is still there.

https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
"""

from __future__ import annotations

import functools
import os

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_NAMESPACE = "/proc/self/ns/pid"


def fields(pid: int) -> list[bytes] | None:
    """Return what the kernel says of a process, from its state on: the third field of `stat` and those after it.

    The name of the program, the second, is in parentheses and may have any character.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None


def start_of(pid: int) -> str | None:
    """Return boot and clock ticks at which a process began, None where there is no such process, or no `/proc`."""
    found, boot = fields(pid), _boot()
    if found is None or boot is None:
        return None
    return None if _ended(found) else f"{boot[:8]}/{_ticks(found)}"


@functools.lru_cache(maxsize=1)  # a forked child asks with a number of its own
def name_of(pid: int) -> str:
    """Return a name of a process of this machine that no other one ever has; empty where the machine does not say.

    It consists of the boot, the namespace in which the number counts, the number, and since when the process is there.
    """
    found, place = fields(pid), _place()
    return "" if found is None or place is None else f"{place}/{pid}/{_ticks(found)}"


def has_ended(name: str) -> bool:
    """Say whether a process with such a name is surely not there any more.

    False for one of another machine, another boot or another namespace, of which nothing is known here.
    """
    place, _, process = name.partition("]/")
    pid, _, ticks = process.partition("/")
    if not pid.isdigit() or f"{place}]" != _place():
        return False
    found = fields(int(pid))
    if found is not None:
        return _ended(found) or str(_ticks(found)) != ticks
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's, which `/proc` may hide
        return False
    return False


def _place() -> str | None:
    boot = _boot()
    try:
        return None if boot is None else f"{boot}/{os.readlink(_NAMESPACE)}"  # such as `pid:[4026531836]`
    except OSError:
        return None


def _boot() -> str | None:
    try:
        with open(_BOOT_ID, "rb") as file:
            return file.read().decode("ascii").strip()
    except OSError:
        return None


def _ended(found: list[bytes]) -> bool:
    return found[0] in (b"Z", b"X")  # nobody has waited for it yet


def _ticks(found: list[bytes]) -> int:
    return int(found[19])  # the 22nd field of all
