"""Take a request for a task: what is complete is answered at once, what is being made is joined, all else is queued."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nectar import errors
from nectar.actions.history import Told
from nectar.address import Address
from nectar.chain.finder import ChainName
from nectar.parameters import MASK
from nectar.recording.run import new_run_id
from nectar.records import utc_now
from nectar.runs import NewRun, Root, Run, RunState, RunStore
from nectar.service.importers import Importers
from nectar.stores import store_at

OUTPUT = "out.txt"  #: by which a task without an output of its own in a store is asked for


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a request."""

    path: str  #: of the target
    output: str  #: the name of its first file
    run_id: str | None  #: of the run that makes it, or made it; None: another tool made it
    complete: bool  #: nothing had to be started
    joined: bool  #: a run that was there before makes it


def submit(
    books: RunStore,
    importers: Importers,
    chain: ChainName,
    task: str,
    params: Mapping[str, str],
    *,
    select: str | None = None,
    request_key: str | None = None,
    most_waiting: int | None = None,
) -> Submitted:
    """See to it that a task's target is there, or is going to be; nothing is carried out here.

    With `select` a run is queued in any case that makes what is selected of the task's graph; the task's own target may
    be there or not. With a `request_key` the same request again has the same run, whatever became of that.

    Raises:
        ChainNotFound, TaskNotFound, ChainBroken, InvalidParameters: when there is no such task.
        SelectionInvalid: when a clause of the selection cannot be read, or selects nothing.
        IdempotencyConflict: when the key was used for another request.
        QueueFull: when `most_waiting` runs wait already.
        RunStoreUnreachable, StoreUnreachable: when nobody can say what there is.
    """
    answer = importers.ask("task", chain, task, params, select)
    root = Root.from_json(answer["root"])
    output = (answer["outputs"] or [OUTPUT])[0]
    run_id = new_run_id()
    path = str(root.path)
    if request_key is not None:
        said = [chain.path, task, sorted(params.items()), *([] if select is None else [select])]
        digest = hashlib.sha256(json.dumps(said).encode("ascii")).hexdigest()
        run_id = books.idempotency(request_key, digest, run_id, at=utc_now())
        try:
            books.run(run_id)
        except errors.RunNotFound:
            pass  # the first time; or then it was complete, or another run was joined
        else:
            return Submitted(path, output, run_id, complete=False, joined=True)
    options = {"name": task} | ({} if select is None else {"select": select})
    new = NewRun(run_id, utc_now(), (root,), source="http", workers=1, options=options)
    if select is not None:
        run = books.enqueue(new, most=most_waiting)
        return Submitted(path, output, run.id, complete=False, joined=run.id != run_id)
    if answer["complete"]:
        return Submitted(path, output, _made_by(books, new), complete=True, joined=False)
    if answer["complete"] is None:
        found = store_at(answer["store"]).inspect(Address.parse(path), answer["outputs"])
        if found.complete and found.record is not None:
            return Submitted(path, output, found.record.run_id or None, complete=True, joined=False)
    run = books.enqueue(new, most=most_waiting)
    return Submitted(path, output, run.id, complete=False, joined=run.id != run_id)


_KEPT = ("name", "select")  # options of a run that the one has which repeats it


def submit_again(books: RunStore, told: Told, *, failed: bool, most_waiting: int | None = None) -> Run:
    """Queue a run that repeats another one: all that it was asked for, or what failed of it.

    Raises:
        RunStateConflict: when that one has not ended.
        UsageError: when it cannot be repeated from what the books hold of it.
        QueueFull: when `most_waiting` runs wait already.
    """
    old = told.run
    if not old.state.final:
        raise errors.RunStateConflict(
            f"the run `{old.id}` is {old.state.value}, and has not ended", hint="cancel it first, or wait"
        )
    if not old.roots or any(root.chain is None for root in old.roots):
        raise errors.UsageError(
            f"the run `{old.id}` was asked for tasks that are of no chain", hint="run it as you did the first time"
        )
    masked = sorted({name for root in old.roots for name, text in root.params.items() if text == MASK})
    if masked:
        named = ", ".join(f"`{name}`" for name in masked)
        raise errors.UsageError(
            f"the books do not hold the private {named}", hint="use `nectar run`, and give it there"
        )
    new = replace(
        old.new,
        id=new_run_id(),
        created_at=utc_now(),
        source="http",
        executor=None,  # as the tasks need it: who has a time limit is carried out by a worker that can be ended
        workers=1,
        options={name: value for name, value in old.new.options.items() if name in _KEPT} | {"failed": failed},
        parent_id=old.id,
        root_id=old.new.root_id or old.id,
    )
    return books.enqueue(new, most=most_waiting)


def _made_by(books: RunStore, new: NewRun) -> str:
    """Return the run that made something which no store has; one that did nothing, where the books know of none."""
    path = str(new.roots[0].path)
    for run in books.of_target(path):
        if run.state is RunState.SUCCESS and any(root.path == path for root in run.roots):
            return run.id
    books.create(new, RunState.STARTING)
    books.advance(new.id, RunState.RUNNING, at=utc_now())
    books.advance(new.id, RunState.SUCCESS, at=utc_now())
    return new.id
