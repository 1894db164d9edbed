"""Record around `run()`, under whichever engine calls it: once, outermost, and also where it is a generator."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import luigi
from luigi.task import DynamicRequirements, flatten

from nectar import errors, stores
from nectar.address import Address
from nectar.parameters import is_private
from nectar.recording import leases, reuse, uses
from nectar.recording.attempt import Attempt, Outcome, Work
from nectar.recording.group import Group, group_at_work, grouped
from nectar.records import InputEntry, Record
from nectar.redaction import filters
from nectar.redaction.known import cleanse, redacted, redacted_tree
from nectar.settings import Drift
from nectar.stores import Commitment, Recipe, State
from nectar.task import closure, code
from nectar.task.state import Found, TaskState

if TYPE_CHECKING:
    from nectar.task.base import Task


def wrap(task: Task) -> None:
    """Make `task.run()` record; an instance attribute, so that no override of `run` in a class can slip past it.

    Its `on_success()` and `on_failure()`, which run outside of the attempt, show no secret.
    """
    own, kind = task.__dict__, type(task)
    own["run"] = functools.partial(run_recorded, task)
    if kind.on_failure is not luigi.Task.on_failure:
        own["on_failure"] = functools.partial(_masked, task, "on_failure")
    if kind.on_success is not luigi.Task.on_success:
        own["on_success"] = functools.partial(_masked, task, "on_success")


def _masked(task: Task, name: str, *args: Any) -> Any:
    """Call a method of a task's class that runs outside of its attempt; luigi tells others what it returns."""
    body: Callable[..., Any] = getattr(type(task), name)
    try:
        with filters.console():
            return redacted_tree(body(task, *args))
    except BaseException as error:
        cleanse(error)
        raise


def run_recorded(task: Task) -> Any:
    """Run a task's own `run()` as one attempt; a generator is returned as one.

    Raises: what `run()` raises; MissingOutput and its like where its outputs are not fit to be published.
    """
    body: Callable[[Task], Any] = type(task).run
    group = group_at_work()
    if inspect.isgeneratorfunction(body):
        return _driven(task, functools.partial(body, task))
    attempt = _begin(task)
    if attempt is None:
        return None
    process = os.getpid()
    try:
        if _reused(attempt):
            _succeeded(task, attempt, group)
            return None
        with attempt.capturing(), grouped(None), no_stray_child(process):
            result = body(task)
        if isinstance(result, Generator):
            return _driven(task, lambda: result, attempt)
        _succeeded(task, attempt, group)
    except BaseException as error:
        _failed(task, attempt, error)
        raise
    return result


def _driven(
    task: Task, make: Callable[[], Generator[Any, Any, Any]], attempt: Attempt | None = None
) -> Generator[Any, Any, Any]:
    """Drive a generator's steps, each captured, until it ends, fails, or is dropped.

    luigi drops a generator at the first requirement that is not complete and later begins anew; what was written
    until then is gone, and it does not count as a failed attempt.
    """
    attempt = attempt or _begin(task)
    if attempt is None:
        return
    process = os.getpid()
    try:
        if _reused(attempt):
            _succeeded(task, attempt, group_at_work())
            return
        steps = make()
        answer = None
        while True:
            group = group_at_work()
            with attempt.capturing(), grouped(None), no_stray_child(process):
                try:
                    wanted = steps.send(answer)
                except StopIteration:
                    break
            flat = _flat(wanted)
            if group is None:
                _refuse_private(task, flat)
            attempt.note_dynamic(_entries(flat, with_files=False))
            answer = yield wanted
        _succeeded(task, attempt, group)
    except GeneratorExit:
        try:
            with attempt.capturing():
                steps.close()
        finally:
            task._nectar.staging = None
            attempt.drop()
            _let_go(task, attempt)
        raise
    except BaseException as error:
        _failed(task, attempt, error)
        raise


def _reused(attempt: Attempt) -> bool:
    """Take the files of a target that was made from inputs with the same bytes, if there is one."""
    work = attempt.work
    if work.replaces is not None or work.recipe is None or work.foreign:
        return False
    earlier = reuse.find(work.store, work.recipe, work.code, work.outputs)
    return earlier is not None and attempt.take_over(earlier)


@contextlib.contextmanager
def no_stray_child(process: int) -> Iterator[None]:
    """End a child that a task forked and let return here: it must not go on as if it were the one that runs tasks."""
    code = 0
    try:
        yield
    except BaseException as error:
        if os.getpid() == process:
            raise
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        if not isinstance(error, SystemExit):
            traceback.print_exc()
    if os.getpid() != process:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError, OSError):
                stream.flush()
        os._exit(code)


def _refuse_private(task: Task, wanted: Iterable[luigi.Task]) -> None:
    """Refuse what luigi's worker would make of other parameters: it makes what is yielded anew from public ones."""
    for one in wanted:
        for name, parameter in one.get_params():
            if is_private(parameter) and getattr(one, name) != parameter._default and not one.complete():
                raise errors.UsageError(
                    f"`{task!r}` yields `{one!r}`, and luigi's worker would lose the private parameter `{name}` of it",
                    hint="name it in `requires()`, or run by `nectar run`",
                )


def _succeeded(task: Task, attempt: Attempt, group: Group | None) -> None:
    finished = attempt.finish()
    if group is None:
        [commitment] = attempt.work.store.commit([finished])
        _published(task, attempt, commitment)
        _let_go(task, attempt)
    else:  # whoever opened the group holds the lease until it is committed
        group.add(attempt, finished, functools.partial(_published, task, attempt), functools.partial(_lost, task))
    task._nectar.staging = None


def _published(task: Task, attempt: Attempt, commitment: Commitment) -> None:
    task._nectar.outcome = attempt.published(commitment)
    remember_files(task, commitment.record, commitment.stamp)


def _lost(task: Task, outcome: Outcome) -> None:
    task._nectar.outcome = outcome


def _failed(task: Task, attempt: Attempt, error: BaseException) -> None:
    cleanse(error)  # before anybody is told of it
    task._nectar.staging = None
    task._nectar.retried = True  # the next attempt is not the first
    try:
        task._nectar.outcome = attempt.fail(error)
    finally:
        _let_go(task, attempt)


def _begin(task: Task) -> Attempt | None:
    """Begin an attempt, alone: None where another process made the target while this one waited for it."""
    state = task._nectar
    state.outcome = None
    store, address = task.target_store(), task.target_address()
    state.borrowed_lease = leases.holds(store, address)
    in_use = uses.of_an_attempt(_stores_of(task))
    try:
        if leases.wait_for(store, address) and not task.wants_force() and task.complete():
            leases.release(store, address)
            in_use.release()
            return None
        tried = state.retried or leases.was_tried(store, address)
        if tried:
            leases.bury_the_dead(store, address)
        attempt = Attempt(work_of(task), tried, in_use)
    except BaseException:
        if not state.borrowed_lease:
            leases.release(store, address)
        in_use.release()
        raise
    state.staging = attempt.staging
    return attempt


def _stores_of(task: Task) -> Iterator[stores.Store]:
    """Yield the store of a task's target, and where no run is at work, those of its inputs."""
    yield task.target_store()
    if not uses.run_at_work():
        for requirement in closure.known_requirements(task).values():
            if closure.state_of(requirement) is not None:
                yield cast("Task", requirement).target_store()


def _let_go(task: Task, attempt: Attempt) -> None:
    """Give the lease back, unless an engine took it for longer than the attempt."""
    if not task._nectar.borrowed_lease:
        leases.release(attempt.work.store, attempt.work.address)
    attempt.uses.release()


def work_of(task: Task) -> Work:
    """Return all that recording has to know of a task.

    Raises: as `nectar.task.closure.identify`, and StoreUnreachable.
    """
    from nectar.task.base import split_outputs

    identity = closure.identify(task)
    own, foreign = split_outputs(task)
    store, address = task.target_store(), task.target_address()
    requirements = closure.known_requirements(task)
    # Whoever took the lease for the task may have seen a moment ago that there is nothing.
    found = (
        stores.Inspection(State.MISSING) if task._nectar.absent else store.inspect(address, tuple(own), leftovers=False)
    )
    task._nectar.absent = False
    replaces = None if found.newer else found.version
    if found.complete and not _is_to_be_replaced(task, own, foreign, found):
        replaces = None
    inputs = dict(zip(requirements, _entries(requirements.values(), with_files=True), strict=True))
    document = closure.document_of(task)
    sources: list[Any] = [one for one in requirements.values() if getattr(one, "reads_file", False)]

    def still_valid() -> None:
        for source in sources:
            source.check_unchanged()

    return Work(
        subject=repr(task),
        address=address,
        identity=identity,
        document=document,
        store=store,
        outputs=tuple(own),
        foreign=tuple(map(str, foreign)),
        params=task.shown_params(),
        inputs=inputs,
        code=code.as_recorded(task.code_subject()),
        replaces=replaces,
        recipe=recipe_of(task, document, {path: entry.files for path, entry in inputs.items()}),
        still_valid=still_valid,
    )


def _is_to_be_replaced(task: Task, own: Any, foreign: list[luigi.Target], found: stores.Inspection) -> bool:
    """Say whether a complete target is in the way of an attempt that is wanted all the same."""
    if task.wants_force() or not own:
        return True
    if not all(one.exists() for one in foreign):
        return True
    recorded = found.record.code if found.record is not None else None
    return task.drift_policy() is Drift.RERUN and code.drifted(task.code_subject(), recorded)


def _entries(requirements: Iterable[luigi.Task], *, with_files: bool) -> list[InputEntry]:
    wanted: list[Any] = list(requirements)
    ours = [one for one in wanted if closure.state_of(one) is not None]
    files = iter(files_of(ours) if with_files else [None] * len(ours))
    entries = []
    for one in wanted:
        if closure.state_of(one) is None:
            entries.append(InputEntry(redacted(closure.reference(one)), None, None, None))
        else:
            entries.append(InputEntry(repr(one), one.target_address().path, one.output_id, next(files)))
    return entries


def known_of_inputs(task: luigi.Task) -> dict[str, Found]:
    """Return what this process knows of the targets that a task requires, by their paths; nobody is asked."""
    state = closure.state_of(task)
    if state is None or state.requirements is None:
        return {}
    states = ((one, closure.state_of(one)) for one in state.requirements[1])
    return {
        cast("Task", one).target_address().path: state.found
        for one, state in states
        if state is not None and state.found is not None
    }


@contextlib.contextmanager
def told_of_inputs(known: Mapping[str, Found]) -> Iterator[None]:
    """Let tasks use meanwhile what another process knew of the targets that they require, where it still holds."""
    _told.update(known)
    try:
        yield
    finally:
        _told.clear()


_told: dict[str, Found] = {}


def _look_again(tasks: Iterable[Task]) -> None:
    """Forget the digests of targets whose records have changed, and read many records that are not known at once."""
    by_store: dict[str, tuple[stores.Store, dict[Address, TaskState]]] = {}
    for task in tasks:
        store = task.target_store()
        state, address = task._nectar, task.target_address()
        state.found = state.found or _told.get(address.path)
        by_store.setdefault(store.url, (store, {}))[1][address] = state
    for store, states in by_store.values():
        known = {address: state.found[0] for address, state in states.items() if state.found is not None}
        for address in store.changed({address: stamp for address, stamp in known.items() if stamp is not None}):
            states[address].found = None
        unknown = [address for address, state in states.items() if state.found is None]
        if not store.checks_in_plans and len(unknown) > 1:
            for address, record in store.records(unknown).items():
                states[address].found = (None, record.digests)


def remember_files(task: Task, record: Record, stamp: Hashable) -> None:
    """Keep the digests of a complete target for those tasks that require it."""
    if stamp is not None:
        task._nectar.found = (stamp, record.digests)


def recipe_of(task: Task, document: Mapping[str, Any], inputs: Mapping[str, Mapping[str, str] | None]) -> Recipe | None:
    """Return the recipe by which a task's target is found again, None where nothing is to be gained by one."""
    if not closure.counts_inputs(task):
        return None  # its identity, and so its key, does not change with its inputs
    return reuse.recipe_of(task.target_address().prefix, document, inputs)


def files_of(tasks: Sequence[Task]) -> list[Mapping[str, str] | None]:
    """Return file -> sha256 of the target of each task, None where there is none.

    Raises:
        StoreUnreachable: when a store cannot answer.
    """
    _look_again(task for task in tasks if not task.reads_file)
    return [_files_of(task) for task in tasks]


def _files_of(task: Task) -> Mapping[str, str] | None:
    if task.reads_file:
        return cast("Any", task).digests()  # type: ignore[no-any-return]
    if task._nectar.found is not None:
        return task._nectar.found[1]
    found = task.target_store().inspect(task.target_address(), leftovers=False)
    if found.record is None:
        return None
    remember_files(task, found.record, found.stamp)
    return found.record.digests


def _flat(wanted: Any) -> list[luigi.Task]:
    return list(wanted.flat_requirements if isinstance(wanted, DynamicRequirements) else flatten(wanted))
