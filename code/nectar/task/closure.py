"""Find all tasks that a task stands on, and identify each of them once, without recursion.

The identity of a task needs those of its requirements, and theirs of theirs. One walk over the whole closure, with a
stack of its own, finds them in the order of their requirements and tells a circle from a deep chain.
"""

from __future__ import annotations

import functools
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import luigi
from luigi.task import flatten

from nectar import errors
from nectar.identity import Identity, task_document
from nectar.identity import identify as identify_document
from nectar.parameters import canonical, is_private, private_digest
from nectar.redaction.known import cleanse
from nectar.task import ground
from nectar.task.state import TaskState

if TYPE_CHECKING:
    from nectar.task.base import Task

MOST_TASKS = 1_000_000
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

Requirements = dict[str, luigi.Task]  #: path -> requirement; paths as in DESIGN: `0`, `1`, `parts.3`, `+0`


@dataclass(slots=True)
class Closure:
    """Tasks and what they stand on, requirements before those who require them."""

    tasks: dict[str, luigi.Task] = field(default_factory=dict)  #: by reference
    identities: dict[str, Identity] = field(default_factory=dict)  #: by reference
    requirements: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: each once, by reference; lacks tasks whose identity needed no look at their requirements


def reference(task: luigi.Task) -> str:
    """Return what a task is called within one process: equal tasks have equal references."""
    state = getattr(task, "_nectar", None)
    return state.ref if type(state) is TaskState else f"{type(task).__module__}:{task.task_id}"


def state_of(task: luigi.Task) -> TaskState | None:
    """Return the memory of a task of ours, None for a plain luigi task and for what is no task."""
    state = getattr(task, "_nectar", None)
    return state if type(state) is TaskState else None


def identify(task: luigi.Task) -> Identity:
    """Return a task's identity; found once, and anew in each epoch where input files have a part in it.

    Raises:
        CycleFound, ClosureTooLarge, RequiresItsOwnOutput: when there is no identity.
        IdentityError: when a parameter or a `version` has no canonical form.
    """
    known = _known(task)
    if known is None:
        found = Closure()
        _walk(task, found, whole=False)
        known = found.identities[reference(task)]
    return known


def document_of(task: luigi.Task) -> dict[str, Any]:
    """Return what a task's identity is made of, in full: what its record holds. Also that of a plain luigi task.

    Raises: as `identify`.
    """
    if state_of(task) is None:
        return _foreign_document(task)
    identify(task)
    requirements = known_requirements(task) if counts_inputs(task) else {}
    inputs = {path: output_id_of(one) for path, one in requirements.items()}
    return cast("Task", task).identity_document(inputs)


def output_id_of(task: luigi.Task) -> str:
    """Return a task's output id, also that of a plain luigi task.

    Raises: as `identify`.
    """
    return (identify(task) if state_of(task) is not None else _identify_foreign(task)).output_id


def closure(roots: Sequence[luigi.Task]) -> Closure:
    """Return all tasks on whose identities those of `roots` stand.

    Raises: as `identify`.
    """
    found = Closure()
    for root in roots:
        _walk(root, found, whole=True)
    return found


def expand(found: Closure, ref: str) -> tuple[str, ...]:
    """Return what a task requires, each once, and take it in with all that its identity stands on.

    Raises: as `identify`.
    """
    if ref not in found.requirements:
        requirements = _ask_requirements(found.tasks[ref])
        for requirement in requirements.values():
            _walk(requirement, found, whole=True)
        found.requirements[ref] = tuple(dict.fromkeys(map(reference, requirements.values())))
    return found.requirements[ref]


@functools.lru_cache(maxsize=4096)
def _is_wrapper_class(kind: type) -> bool:
    return issubclass(kind, luigi.WrapperTask)


def is_wrapper(task: luigi.Task) -> bool:
    """Say whether a task only stands for what it requires; luigi's metaclass makes `isinstance` slow."""
    return _is_wrapper_class(type(task))


def in_order(
    roots: Iterable[str], requirements: Callable[[str], Iterable[str]], tasks: Mapping[str, luigi.Task]
) -> Iterator[str]:
    """Yield references, each once, requirements before those who require them; without recursion.

    Raises:
        CycleFound: for a circle, which is drawn.
    """
    done: set[str] = set()
    for root in roots:
        open_refs: dict[str, Iterator[str]] = {}
        waiting: str | None = root
        while waiting is not None or open_refs:
            if waiting in open_refs:
                names = list(open_refs)
                circle = [*names[names.index(waiting) :], waiting]
                raise errors.CycleFound.drawn(repr(tasks[ref]) for ref in circle)
            if waiting is not None and waiting not in done:
                open_refs[waiting] = iter(requirements(waiting))
            if not open_refs:
                break
            ref, rest = next(reversed(open_refs.items()))
            waiting = next(rest, None)
            if waiting is None:
                del open_refs[ref]
                done.add(ref)
                yield ref


def known_requirements(task: luigi.Task) -> Requirements:
    """Return the requirements of one task by their paths, as its identity was found with them.

    Raises: as `requirements_of`.
    """
    state = state_of(task)
    if state is not None and state.requirements is not None:
        return dict(zip(*state.requirements, strict=True))
    return requirements_of(task)


def requirements_of(task: luigi.Task) -> Requirements:
    """Return the requirements of one task by their paths, those that `deps()` adds under `+`.

    Raises:
        GraphError: when something required is no task.
    """
    given = task.requires()
    found: Requirements = {}
    _lay_out(given, "", found, task)
    if not _plain_deps(type(task)):
        seen = {reference(one) for one in found.values()}
        added = [one for one in flatten(task.deps()) if reference(one) not in seen]
        for position, one in enumerate(added):
            found[f"+{position}"] = one
    return found


def _lay_out(given: Any, path: str, found: Requirements, task: luigi.Task) -> None:
    if state_of(given) is not None or isinstance(given, luigi.Task):
        found[path or "0"] = given
    elif given is None:
        return
    elif type(given) is list or type(given) is tuple:  # before the checks that cost more: it is nearly always this
        _lay_out_list(given, path, found, task)
    elif isinstance(given, Mapping):
        for key, item in given.items():
            _lay_out(item, _below(path, str(key).replace("\\", "\\\\").replace(".", "\\.")), found, task)
    elif isinstance(given, AbstractSet):
        members = sorted(given, key=lambda one: identify(one).output_id)
        for position, item in enumerate(members):
            _lay_out(item, _below(path, str(position)), found, task)
    elif isinstance(given, str) or not hasattr(given, "__iter__"):
        raise errors.GraphError(
            f"`{task!r}` requires {given!r}, which is not a task",
            hint="`requires()` returns a task, a list or a mapping of tasks; pass an instance, not a class",
        )
    else:
        _lay_out_list(given, path, found, task)


def _lay_out_list(given: Iterable[Any], path: str, found: Requirements, task: luigi.Task) -> None:
    for position, item in enumerate(given):
        _lay_out(item, _below(path, str(position)), found, task)


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


@dataclass(slots=True)
class _Visit:
    """A task on the walk's stack, with those of its requirements that are still to be looked at."""

    ref: str
    task: luigi.Task
    requirements: Requirements
    refs: tuple[str, ...]  #: of its requirements, in their order
    rest: Iterator[tuple[str, luigi.Task]]


def _walk(root: luigi.Task, found: Closure, whole: bool) -> None:
    stack: list[_Visit] = []
    open_tasks: dict[str, luigi.Task] = {}
    waiting: tuple[str, luigi.Task] | None = (reference(root), root)
    while waiting is not None or stack:
        if waiting is not None:
            ref, task = waiting
            waiting = None
            if ref in open_tasks:
                names = list(open_tasks)
                circle = [*(open_tasks[name] for name in names[names.index(ref) :]), task]
                raise errors.CycleFound.drawn(map(repr, circle))
            if ref not in found.identities and not _take_in(ref, task, found, whole):
                if len(found.identities) + len(stack) >= MOST_TASKS:
                    raise _too_large(root, task)
                if _stands_alone(type(task)) and "requires" not in task.__dict__:
                    _settle_alone(ref, task, found)
                    continue
                requirements = _ask_requirements(task)
                refs = tuple(map(reference, requirements.values()))
                stack.append(_Visit(ref, task, requirements, refs, zip(refs, requirements.values(), strict=True)))
                open_tasks[ref] = task
                continue
        if not stack:
            return
        visit = stack[-1]
        waiting = next(visit.rest, None)
        if waiting is not None:
            continue
        stack.pop()
        del open_tasks[visit.ref]
        _settle(visit, found)


def _too_large(root: luigi.Task, task: luigi.Task) -> errors.ClosureTooLarge:
    return errors.ClosureTooLarge(
        f"`{root!r}` stands on more than {MOST_TASKS:,} tasks, the last of them of the family "
        f"`{task.get_task_family()}`",
        hint="a `requires()` that counts on without end, such as yesterday's yesterday? "
        "`counts_inputs = False` ends the walk at such a task",
    )


def _take_in(ref: str, task: luigi.Task, found: Closure, whole: bool) -> bool:
    """Take in a task whose requirements have no part in its identity, or need not be looked at."""
    known = _known(task)
    state = state_of(task)
    if state is None:
        known = _identify_foreign(task)
    elif not counts_inputs(task):
        known = known or _remember(task, state, {}, reads_files=False)
    elif whole or known is None:
        return False
    assert known is not None
    found.tasks[ref] = task
    found.identities[ref] = known
    return True


def counts_inputs(task: luigi.Task) -> bool:
    """Say whether a task's requirements have a part in its identity."""
    return bool(getattr(task, "counts_inputs", False))


def _known(task: luigi.Task) -> Identity | None:
    state = getattr(task, "_nectar", None)
    if state is None or state.identity is None:
        return None
    return None if state.reads_files and state.epoch != ground.epoch() else state.identity


@functools.lru_cache(maxsize=4096)
def _stands_alone(kind: type[luigi.Task]) -> bool:
    """Say whether a class requires nothing, as luigi's own `requires()` says: nobody has to be asked."""
    return kind.requires is luigi.Task.requires and _plain_deps(kind)


def _plain_deps(kind: type[luigi.Task]) -> bool:
    return kind.deps is luigi.Task.deps and kind._requires is luigi.Task._requires


def _ask_requirements(task: luigi.Task) -> Requirements:
    state = state_of(task)
    if state is not None:
        if state.deriving:
            raise own_output(task)
        state.deriving = True
    try:
        return requirements_of(task)
    except (errors.NectarError, RecursionError):
        raise
    except Exception as error:
        broken = broken_task(task, "requires()", error)
        broken.task = task
        raise broken from error
    finally:
        if state is not None:
            state.deriving = False


def broken_task(task: luigi.Task, method: str, error: Exception) -> errors.TaskBroken:
    """Return the error for a method of a task that raised before anything ran; it names the place in the file."""
    cleanse(error)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_PACKAGE)] or frames
    place = f"look at `{theirs[-1].filename}`, line {theirs[-1].lineno}" if theirs else None
    return errors.TaskBroken(f"`{method}` of `{task!r}` raised {type(error).__name__}: {error}", hint=place)


def own_output(task: luigi.Task) -> errors.RequiresItsOwnOutput:
    """Return the error for a task whose requires() leads back to where its own output lies."""
    return errors.RequiresItsOwnOutput(
        f"`requires()` of `{task!r}` asks where the task's own output lies, which depends on what it requires",
        hint="let `requires()` depend on parameters only, or set `counts_inputs = False`",
    )


def _settle(visit: _Visit, found: Closure) -> None:
    task, state = visit.task, state_of(visit.task)
    assert state is not None  # plain luigi tasks are taken in without a visit
    known = _known(task)
    required = visit.requirements.values()
    if known is None:
        ids = (found.identities[ref].output_id for ref in visit.refs)
        inputs = dict(zip(visit.requirements, ids, strict=True))
        below = map(state_of, required)
        known = _remember(task, state, inputs, reads_files=any(one.reads_files for one in below if one is not None))
    state.requirements = (_shared(tuple(visit.requirements)), tuple(required)) if required else _NOTHING
    found.tasks[visit.ref] = task
    found.identities[visit.ref] = known
    found.requirements[visit.ref] = tuple(dict.fromkeys(visit.refs))


def _settle_alone(ref: str, task: luigi.Task, found: Closure) -> None:
    """Settle a task that requires nothing: most of a wide graph."""
    state = state_of(task)
    assert state is not None
    found.identities[ref] = _known(task) or _remember(task, state, {}, reads_files=False)
    state.requirements = _NOTHING
    found.tasks[ref] = task
    found.requirements[ref] = ()


_NOTHING: tuple[tuple[str, ...], tuple[luigi.Task, ...]] = ((), ())


@functools.lru_cache(maxsize=256)
def _shared(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return one tuple for all tasks that have requirements at the same paths."""
    return paths


def _remember(task: Any, state: TaskState, inputs: Mapping[str, str], *, reads_files: bool) -> Identity:
    state.reads_files = reads_files or bool(task.reads_file)
    state.epoch = ground.epoch()
    state.identity = identity = cast(Identity, task.identify_with(inputs))
    return identity


def _identify_foreign(task: luigi.Task) -> Identity:
    return identify_document(_foreign_document(task))


def _foreign_document(task: luigi.Task) -> dict[str, Any]:
    """Return what identifies a plain luigi task: it counts by module, family and parameters."""
    params = {}
    for name, parameter in task.get_params():
        if parameter.significant:
            form = canonical(parameter, name, getattr(task, name))
            params[name] = private_digest(form) if is_private(parameter) else form
    family = f"{type(task).__module__}.{type(task).__name__}"
    return task_document(family, "", params, {})
