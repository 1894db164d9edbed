"""Find all tasks that a task stands on, and identify each of them once, without recursion.

The identity of a task needs those of its requirements, and theirs of theirs. One walk over the whole closure, with a
stack of its own, finds them in the order of their requirements and tells a circle from a deep chain.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, cast

import luigi
from luigi.task import flatten

from nectar import errors
from nectar.identity import Identity, task_document
from nectar.identity import identify as identify_document
from nectar.parameters import canonical, is_private, private_digest
from nectar.task import ground
from nectar.task.state import TaskState

MOST_TASKS = 1_000_000
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

Requirements = dict[str, luigi.Task]  #: path -> requirement; paths as in DESIGN: `0`, `1`, `parts.3`, `+0`


@dataclass(slots=True)
class Closure:
    """Tasks and what they stand on, requirements before those who require them."""

    tasks: dict[str, luigi.Task] = field(default_factory=dict)  #: by reference
    identities: dict[str, Identity] = field(default_factory=dict)  #: by reference
    requirements: dict[str, dict[str, str]] = field(default_factory=dict)
    #: reference -> path -> reference; lacks tasks whose identity needed no look at their requirements


def reference(task: luigi.Task) -> str:
    """Return what a task is called within one process: equal tasks have equal references."""
    state = state_of(task)
    return state.ref if state is not None else f"{type(task).__module__}:{task.task_id}"


def state_of(task: luigi.Task) -> TaskState | None:
    """Return the memory of a task of ours, None for a plain luigi task."""
    state: TaskState | None = getattr(task, "_nectar", None)
    return state


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


def closure(roots: Sequence[luigi.Task]) -> Closure:
    """Return all tasks on whose identities those of `roots` stand.

    Raises: as `identify`.
    """
    found = Closure()
    for root in roots:
        _walk(root, found, whole=True)
    return found


def expand(found: Closure, ref: str) -> Mapping[str, str]:
    """Return path -> reference of a task's requirements, and take them in with all that their identities stand on.

    Raises: as `identify`.
    """
    if ref not in found.requirements:
        requirements = _ask_requirements(found.tasks[ref])
        for requirement in requirements.values():
            _walk(requirement, found, whole=True)
        found.requirements[ref] = {path: reference(requirement) for path, requirement in requirements.items()}
    return found.requirements[ref]


def requirements_of(task: luigi.Task) -> Requirements:
    """Return the requirements of one task by their paths, those that `deps()` adds under `+`.

    Raises:
        GraphError: when something required is no task.
    """
    given = task.requires()
    found: Requirements = {}
    _lay_out(given, "", found, task)
    kind = type(task)
    if kind.deps is not luigi.Task.deps or kind._requires is not luigi.Task._requires:
        seen = {reference(one) for one in found.values()}
        added = [one for one in flatten(task.deps()) if reference(one) not in seen]
        for position, one in enumerate(added):
            found[f"+{position}"] = one
    return found


def _lay_out(given: Any, path: str, found: Requirements, task: luigi.Task) -> None:
    if isinstance(given, luigi.Task):
        found[path or "0"] = given
    elif given is None:
        return
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
    refs: dict[str, str]
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
                raise cycle([*(open_tasks[name] for name in names[names.index(ref) :]), task])
            if ref not in found.identities and not _take_in(ref, task, found, whole):
                if len(found.identities) + len(stack) >= MOST_TASKS:
                    raise _too_large(root, task)
                requirements = _ask_requirements(task)
                stack.append(_Visit(ref, task, requirements, {}, iter(requirements.items())))
                open_tasks[ref] = task
                continue
        if not stack:
            return
        visit = stack[-1]
        step = next(visit.rest, None)
        if step is not None:
            path, requirement = step
            visit.refs[path] = reference(requirement)
            waiting = (visit.refs[path], requirement)
            continue
        stack.pop()
        del open_tasks[visit.ref]
        _settle(visit, found)


def cycle(tasks: Sequence[luigi.Task]) -> errors.CycleFound:
    """Return the error that draws a circle of tasks; its last is its first again."""
    lines = [f"{'   ' * depth}{'└─ ' if depth else ''}{task!r}" for depth, task in enumerate(tasks)]
    return errors.CycleFound(
        "tasks require each other in a circle:\n" + "\n".join(lines),
        hint="one of these tasks must not require the next",
    )


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
    state = state_of(task)
    if state is None or state.identity is None:
        return None
    return None if state.reads_files and state.epoch != ground.epoch() else state.identity


def _ask_requirements(task: luigi.Task) -> Requirements:
    state = state_of(task)
    if state is None:
        return requirements_of(task)
    if state.deriving:
        raise own_output(task)
    state.deriving = True
    try:
        return requirements_of(task)
    except (errors.NectarError, RecursionError):
        raise
    except Exception as error:
        raise broken_task(task, "requires()", error) from error
    finally:
        state.deriving = False


def broken_task(task: luigi.Task, method: str, error: Exception) -> errors.TaskBroken:
    """Return the error for a method of a task that raised before anything ran; it names the place in the file."""
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
    if known is None:
        inputs = {path: found.identities[ref].output_id for path, ref in visit.refs.items()}
        below = (state_of(requirement) for requirement in visit.requirements.values())
        known = _remember(task, state, inputs, reads_files=any(one.reads_files for one in below if one is not None))
    state.requirements = visit.requirements
    found.tasks[visit.ref] = task
    found.identities[visit.ref] = known
    found.requirements[visit.ref] = visit.refs


def _remember(task: Any, state: TaskState, inputs: Mapping[str, str], *, reads_files: bool) -> Identity:
    state.reads_files = reads_files or bool(task.reads_file)
    state.epoch = ground.epoch()
    state.identity = identity = cast(Identity, task.identify_with(inputs))
    return identity


def _identify_foreign(task: luigi.Task) -> Identity:
    """Identify a plain luigi task: it counts by module, family and parameters."""
    params = {}
    for name, parameter in task.get_params():
        if parameter.significant:
            form = canonical(parameter, name, getattr(task, name))
            params[name] = private_digest(form) if is_private(parameter) else form
    family = f"{type(task).__module__}.{type(task).__name__}"
    return identify_document(task_document(family, "", params, {}))
