"""Find out where and with what an attempt was made: host, user, process, code version, packages."""

from __future__ import annotations

import functools
import getpass
import os
import platform
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Union

from nectar.records import Encoded

GIT_TIMEOUT_S = 10.0
_USER = re.compile(r"^(\w+://)[^/@]*@")

GitState = Union[dict[str, Any], None]  #: `{"commit", "dirty"}`


def provenance(root: Path) -> Encoded:
    """Return what a record says of this process; what does not change is found out once a process.

    The peak memory is that of the process, rounded up to a mebibyte.
    """
    peak = -(-resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024) << 20
    return _provenance(root, os.getpid(), len(sys.modules), peak)


@functools.lru_cache(maxsize=4)
def _provenance(root: Path, process: int, loaded: int, peak_memory_bytes: int) -> Encoded:
    return Encoded(
        {
            **_host(process),
            "git": git_state(root, process),
            "versions": _versions(loaded),
            "peak_memory_bytes": peak_memory_bytes,
        }
    )


@functools.lru_cache(maxsize=1)
def _host(process: int) -> dict[str, Any]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        user = str(os.getuid())
    return {"host": socket.gethostname(), "user": user, "process": process}


def git_state(root: Path, process: int) -> GitState:
    """Return `{"commit", "dirty"}` of the project's folder, None where git or a repository is missing.

    `dirty` is None where git did not answer in time. `process` makes a long-lived parent's answer its own.
    """
    if (root, process) not in _git_states:
        _git_states[root, process] = _ask_git(root)
    return _git_states[root, process]


def code_identities(folder: Path) -> list[dict[str, Any]]:
    """Return what says which code is in a folder, as magnus's run log has it; nothing where git or a repository is not.

    The address of the repository is without the user and password that may be in it.
    """
    state = git_state(folder, os.getpid())
    if state is None:
        return []
    url = _git(folder, "config", "--get", "remote.origin.url") or ""
    changed = state["dirty"]
    return [
        {
            "code_identifier": state["commit"],
            "code_identifier_type": "git",
            "code_identifier_dependable": changed is False,
            "code_identifier_url": _USER.sub(r"\1", url),
            "code_identifier_message": "" if changed is False else "the tree has changes that are in no commit",
        }
    ]


def known_git_state(root: Path) -> tuple[GitState, ...]:
    """Return what this process knows of the project's repository, nothing where it has not asked yet."""
    place = (root, os.getpid())
    return (_git_states[place],) if place in _git_states else ()


def learn_git_state(root: Path, state: GitState) -> None:
    """Take from another process what it found out of the project's repository."""
    _git_states[root, os.getpid()] = state


_git_states: dict[tuple[Path, int], GitState] = {}  #: by project and process


def _ask_git(root: Path) -> GitState:
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return None
    status = _git(root, "--no-optional-locks", "status", "--porcelain", "--untracked-files=normal")
    return {"commit": commit, "dirty": None if status is None else bool(status)}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ("git", "-C", str(root), *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.decode("utf-8", "replace").strip() if answer.returncode == 0 else None


@functools.lru_cache(maxsize=1)
def _versions(loaded: int) -> dict[str, str]:
    """Return the versions of Python, Nectar and every loaded package that tells its own.

    What is loaded is what can have had a part in the result; `loaded`, the number of modules, renews the answer.
    """
    versions = {"python": platform.python_version()}
    for name, module in sorted(sys.modules.items()):
        if "." in name or name.startswith("_") or name in sys.stdlib_module_names:
            continue
        version = vars(module).get("__version__") if module is not None else None
        if isinstance(version, str):
            versions[name] = version
    return versions
