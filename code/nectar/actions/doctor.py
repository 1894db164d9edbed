"""Look at everything that a project needs, and say what to do about what is wrong."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from nectar import errors, records
from nectar.address import Address
from nectar.chain.catalog import discover
from nectar.errors import ExitCode
from nectar.recording.provenance import git_state
from nectar.secrets.fetching import opened
from nectar.settings import Settings
from nectar.stores import LocalStore, Store, renaming, stores_in_use


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None
    exit_code: ExitCode = ExitCode.OK  #: what a fault here means for a command

    def to_json(self) -> dict[str, Any]:
        """Return the check as a JSON value."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "hint": self.hint}


def examine(settings: Settings) -> list[Check]:
    """Return every check; one that fails does not keep the others from being made."""
    checks: list[Callable[[Settings], list[Check]]] = [_python, _project, _store, _local_disk, _secrets, _chains, _git]
    found: list[Check] = []
    for check in checks:
        try:
            found += check(settings)
        except errors.NectarError as error:
            name = check.__name__.lstrip("_").replace("_", " ")
            found.append(Check(name, False, error.message, error.hint, type(error).exit_code))
        except OSError as error:
            name = check.__name__.lstrip("_").replace("_", " ")
            detail = f"{os.strerror(error.errno or 0).lower()}: {error.filename}"
            found.append(Check(name, False, detail, "look at the disk", ExitCode.STORE_UNREACHABLE))
    return found


def _python(settings: Settings) -> list[Check]:
    ok = sys.version_info >= (3, 10)
    hint = None if ok else "install Python 3.10 or later"
    found = [Check("python", ok, platform.python_version(), hint, ExitCode.OK if ok else ExitCode.USAGE)]
    return [*found, Check("luigi", True, metadata.version("luigi"))]


def _project(settings: Settings) -> list[Check]:
    if settings.chains_dir.is_dir():
        return [Check("project", True, str(settings.root))]
    raise errors.ProjectNotFound(
        f"no `chains/` folder in `{settings.root}`", hint="go to the project's folder, or set NECTAR_PROJECT"
    )


def _store(settings: Settings) -> list[Check]:
    written = stores_in_use(shared=False)
    found = [check for store in written for check in _one_store(store)]
    for store in stores_in_use():
        if store not in written:
            next(store.walk(), None)
            found.append(Check("shared store", True, f"{store.url} can be read"))
    return found


def _one_store(store: Store) -> list[Check]:
    if store.url.startswith("s3://"):
        return _bucket(store)
    address = Address("doctor", "0" * 32)
    staging = store.stage(address, records.new_attempt_id(address, records.utc_now()))
    store.abandon(staging, keep_logs=False)
    if isinstance(store, LocalStore):
        for folder in ("doctor/.staging", "doctor"):
            os.rmdir(os.path.join(store.root, folder))
    return [Check("store", True, f"{store.url} can be written")]


def _bucket(store: Any) -> list[Check]:
    from nectar.stores.s3.probe import probe  # late: it loads boto3

    found = []
    for one in probe(store.client):
        code = ExitCode.OK if one.ok else ExitCode.STORE_UNREACHABLE
        found.append(Check(f"store, {one.name}", one.ok, one.detail, one.hint, code))
    return found


def _local_disk(settings: Settings) -> list[Check]:
    store = stores_in_use()[0]
    if not isinstance(store, LocalStore):
        return []
    with tempfile.TemporaryDirectory(dir=store.root, prefix=".doctor-") as folder:
        Path(folder, "a").mkdir()
        Path(folder, "b").mkdir()
        try:
            renaming.exchange(f"{folder}/a", f"{folder}/b")
        except OSError as error:
            if error.errno not in renaming.UNSUPPORTED:
                raise
            return [Check("local disk", True, "no exchange of names here: commits take a lock instead")]
    return [Check("local disk", True, "commits by one atomic rename")]


def _secrets(settings: Settings) -> list[Check]:
    opened(settings)
    chosen = settings.secrets.type
    detail = "none are set up: each has the empty text" if chosen == "do-nothing" else f"from `{chosen}`"
    return [Check("secrets", True, detail)]


def _chains(settings: Settings) -> list[Check]:
    found = discover(settings)
    checks = [Check("chains", True, f"{len(found.chains)} can be imported")]
    for broken in found.broken:
        hint = f"look at `{broken.location or 'chains/' + broken.path}`"
        checks.append(Check(f"chain {broken.path}", False, broken.error, hint, ExitCode.IMPORT_FAILED))
    return checks


def _git(settings: Settings) -> list[Check]:
    state = git_state(settings.root, os.getpid())
    if state is None:
        return [Check("git", True, "no repository: records will not name a commit")]
    return [Check("git", True, f"{state['commit'][:12]}" + (", with uncommitted changes" if state["dirty"] else ""))]
