"""Say how it stands with a target that somebody asked for: the books are asked first, then the stores."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from nectar import errors
from nectar.actions.following import logs_of
from nectar.address import Address
from nectar.runs import Run, RunState, RunStore, Step
from nectar.stores import Reader, stores_to_ask

LINK_S = 600  #: seconds for which a link to a file is good
TAIL = 8 * 1024  #: characters of what a failed task printed that are told, the last ones


class JobStatus(str, Enum):
    """The words of `chainstatus`."""

    RUNNING = "RUNNING"  #: it waits for its turn, or is being made
    DONE = "DONE"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a run ended without the target."""

    message: str
    code: str | None = None
    hint: str | None = None
    task: str | None = None  #: that failed, which may be one that it needs
    path: str | None = None  #: of that task's target
    traceback: str | None = None  #: the last that it printed on its standard error


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with a target."""

    status: JobStatus
    run: Run | None  #: that makes it, made it, or failed to; None: the books do not know
    reader: Reader | None = None  #: of DONE: its files; None: it has none
    fault: Fault | None = None  #: of FAILED


_AT_WORK = frozenset({RunState.QUEUED, RunState.STARTING, RunState.RUNNING, RunState.CANCELING})


def standing(books: RunStore, address: Address, output: str) -> Standing:
    """Return how it stands with one file of a target.

    Raises:
        TargetNotFound: when nobody was asked for it, and it is not there; or when it has no such file.
        StoreUnreachable, RunStoreUnreachable: when nobody can say.
    """
    runs = books.of_target(address.path)
    asked = [run for run in runs if any(root.path == address.path for root in run.roots)]
    at_work = next((run for run in asked if run.state in _AT_WORK), None)
    if at_work is not None:
        return Standing(JobStatus.RUNNING, at_work)
    found = _in_a_store(address, output)
    if found is not None:
        return Standing(JobStatus.DONE, next(iter(runs), None), found)
    for run in runs:
        if run.state in _AT_WORK:  # a task that the run needs for another one
            return Standing(JobStatus.RUNNING, run)
        if run.state is RunState.SUCCESS:
            if run in asked and all(step.path != address.path for step in books.steps(run.id)):
                if run.new.select is not None:
                    continue  # it made other tasks of the graph
                return Standing(JobStatus.DONE, run)  # it has no files
            raise errors.TargetNotFound(f"the target `{address}` is not there any more", hint="ask for it again")
        fault = _fault(books, run, address, whole=run in asked)
        if fault is not None:
            return Standing(JobStatus.FAILED, run, fault=fault)
    raise errors.TargetNotFound(f"nobody asked for `{address}`, and it is not there", hint="POST to its task first")


def _in_a_store(address: Address, output: str) -> Reader | None:
    """Return the files of a target that is complete in any store of the settings.

    Raises:
        TargetNotFound: when there is a target, and no such file in it.
    """
    for store in stores_to_ask():
        inspection = store.inspect(address)
        if inspection.complete and inspection.record is not None:
            names = [entry.name for entry in inspection.record.files]
            if output not in names:
                hint = f"its files are {', '.join(f'`{name}`' for name in names)}"
                raise errors.TargetNotFound(f"`{address}` has no file `{output[:100]}`", hint=hint)
            return store.reader(address)
    return None


def _fault(books: RunStore, run: Run, address: Address, *, whole: bool) -> Fault | None:
    """Return why a run has not made a target; None where that was none of its faults."""
    if run.state is RunState.CANCELED and whole:
        return Fault("the run was canceled", hint="ask for it again")
    steps = books.steps(run.id)
    failed = [step for step in steps if step.status in ("failed", "blocked")]
    # Its own fault first, then that of whatever it needed.
    for step in sorted(failed, key=lambda one: one.path != address.path):
        if whole or step.path == address.path:
            return fault_of(step)
    if whole:
        return Fault(run.error or f"the run ended as {run.state.value}")
    return None


def fault_of(step: Step) -> Fault:
    """Return why a step failed, with the end of what it printed on its standard error."""
    try:
        found = logs_of(step)
    except errors.StoreError:  # the reason is known from the books; its log is an addition
        found = None
    printed = found.stderr[-TAIL:] if found is not None else None
    return Fault(step.error or step.status, step.code, step.hint, step.task, step.path, printed)
