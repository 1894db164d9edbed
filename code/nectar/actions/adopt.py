"""Write records for targets that another tool made, so that they count as complete."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import luigi

from nectar import errors, records
from nectar.recording.sealing import seal
from nectar.recording.uses import using
from nectar.records import Record
from nectar.stores import Finished, Inspection, State, Store
from nectar.task import Task
from nectar.task.base import own_outputs
from nectar.task.closure import document_of, identify


@dataclass(frozen=True, slots=True)
class Adopted:
    """A target that has a record now."""

    task: str
    path: str
    files: tuple[str, ...]
    won: bool  #: False: a complete target was there already, and stays

    def to_json(self) -> dict[str, Any]:
        """Return the target as a JSON value."""
        return {"task": self.task, "path": self.path, "files": list(self.files), "adopted": self.won}


def adopt(task: luigi.Task, folder: Path | None = None) -> Adopted:
    """Give a task's target a record: of the files that lie there without one, or of copies of those in `folder`.

    The files are copied and then published as a whole; what lay there without a record is kept in quarantine.

    Raises:
        TargetNotFound: for a plain luigi task, or when there are no files.
        MissingOutput: when an output of the task is not among them.
        StoreUnreachable: when the store cannot be read or written.
    """
    if not isinstance(task, Task) or not own_outputs(task):
        raise errors.TargetNotFound(
            f"`{task!r}` has no target in a store", hint="only tasks with outputs of their own can be adopted"
        )
    with using([task.target_store()]):
        return _adopt(task, folder)


def _adopt(task: Task, folder: Path | None) -> Adopted:
    store, address, identity = task.target_store(), task.target_address(), identify(task)
    found = store.inspect(address, own_outputs(task))
    if found.complete and found.record is not None:
        return Adopted(repr(task), address.path, tuple(entry.name for entry in found.record.files), False)
    now = records.utc_now()
    staging = store.stage(address, records.new_attempt_id(address, now))
    try:
        _copy_outputs(task, store, found, folder, Path(staging.path))
        files = seal(staging.path, own_outputs(task), repr(task))
        record = Record(
            address=address,
            output_id=identity.output_id,
            identity=document_of(task),
            files=files,
            started_at=now,
            ended_at=records.utc_now(),
            attempt=staging.attempt,
            outputs=own_outputs(task),
            adopted=True,
        )
        [commitment] = store.commit([Finished(staging, record, outputs=own_outputs(task))])
    except BaseException:
        if os.path.isdir(staging.path):
            store.abandon(staging, keep_logs=False)
        raise
    return Adopted(repr(task), address.path, tuple(entry.name for entry in files), commitment.won)


def _copy_outputs(task: Task, store: Store, found: Inspection, folder: Path | None, place: Path) -> None:
    if folder is None and found.state is not State.LEFTOVER:
        raise errors.TargetNotFound(
            f"no files without a record lie at `{task.target_address()}`",
            hint="put them there, or name their folder: `nectar adopt --from FOLDER CHAIN TASK`",
        )
    reader = store.reader(task.target_address())
    for name in own_outputs(task):
        source = folder / name if folder is not None else Path(reader.path(name))
        if not source.is_file():
            continue  # sealing names every output that is missing, all at once
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place / name)
