"""Decide what would happen to each task that a root needs, and why, without doing anything.

Nothing above a complete target is looked at: who has the result does not ask for its ingredients.
"""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import luigi
from luigi.target import FileSystemTarget
from luigi.task import flatten

from nectar import errors
from nectar.address import Address
from nectar.settings import Drift
from nectar.stores import Inspection, State, Store
from nectar.task import Task, code, ground
from nectar.task.base import own_outputs, split_outputs
from nectar.task.closure import Closure, closure, cycle, expand, reference, state_of


class Action(str, Enum):
    """What would happen to a task."""

    RUN = "run"  #: it would be made
    SKIP = "skip"  #: it is complete
    BLOCKED = "blocked"  #: it cannot be made: something that nobody here makes is missing


class Why(str, Enum):
    """Why a task would run, or cannot."""

    NO_TARGET = "no target"
    LEFTOVER = "leftover"
    INVALID = "invalid target"
    NEWER = "made by a newer Nectar"
    DRIFT = "drift"
    FORCED = "forced"
    FOREIGN_MISSING = "foreign output missing"
    NEVER_COMPLETE = "no output"
    REQUIRED = "a requirement runs"
    EXTERNAL_MISSING = "external data missing"
    BLOCKED_BY = "blocked by"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, as a value that tells itself."""

    why: Why
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.why.value}: {self.detail}" if self.detail else self.why.value

    def to_json(self) -> dict[str, str]:
        """Return the reason as a JSON value."""
        return {"why": self.why.value, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One task of a plan."""

    ref: str  #: names the task within the plan
    task: str  #: as people read it: `chains.etl.flights_chain.ReportTask(month=3)`
    action: Action
    reasons: tuple[Reason, ...]
    path: str | None  #: of the target in the store; None where it has none
    requirements: tuple[str, ...]  #: refs; empty for what is complete, since nobody looked
    drift: bool = False  #: complete, but made by other code than the task has now

    def to_json(self) -> dict[str, Any]:
        """Return the step as a JSON value."""
        return {
            "task": self.task,
            "action": self.action.value,
            "reasons": [reason.to_json() for reason in self.reasons],
            "path": self.path,
            "requirements": list(self.requirements),
            "drift": self.drift,
            "ref": self.ref,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen, requirements before those who require them."""

    steps: tuple[PlanStep, ...]
    identified: int  #: tasks in the closure: those that the plan did not need to look at included

    @property
    def counts(self) -> dict[Action, int]:
        """How many tasks there are of each action."""
        counted = Counter(step.action for step in self.steps)
        return {action: counted[action] for action in Action}

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON value."""
        return {
            "counts": {action.value: count for action, count in self.counts.items()},
            "identified": self.identified,
            "steps": [step.to_json() for step in self.steps],
        }


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, and the live tasks that it speaks of."""

    plan: Plan
    tasks: Mapping[str, luigi.Task]  #: by ref


@dataclass(slots=True)
class _Finding:
    """What is known of one task while a plan is made."""

    complete: bool
    reasons: tuple[Reason, ...] = ()
    blocked: bool = False  #: it can neither be used nor made
    drift: bool = False


@dataclass(slots=True)
class _Survey:
    """What has been looked at."""

    closure: Closure
    findings: dict[str, _Finding] = field(default_factory=dict)
    owners: dict[object, str] = field(default_factory=dict)  #: target -> ref


class Force(str, Enum):
    """What is made again although it is complete."""

    NOTHING = "nothing"
    ROOTS = "roots"  #: the tasks that were asked for
    ALL = "all"  #: these, and all that they stand on


def make_plan(roots: Sequence[luigi.Task], force: Force = Force.NOTHING) -> Prepared:
    """Return the plan for some root tasks.

    Raises:
        CycleFound, ClosureTooLarge, SharedTarget: when the tasks cannot be carried out.
        IdentityError: when a task has no identity.
        StoreUnreachable: when a store cannot answer.
    """
    ground.begin_epoch()
    with _without_collection():
        return _plan(roots, force)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Keep Python from looking for cycles in a graph that only grows: a tenth to a fifth of a plan's time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _plan(roots: Sequence[luigi.Task], force: Force) -> Prepared:
    survey = _Survey(closure(roots))
    forced = set(map(reference, roots)) if force is not Force.NOTHING else set()
    level = list(dict.fromkeys(map(reference, roots)))
    while level:
        for ref in level:
            state = state_of(survey.closure.tasks[ref])
            if state is not None:
                state.forced = force is Force.ALL or ref in forced
        _look_at(survey, level)
        wanted: dict[str, None] = {}
        for ref in level:
            if _needs_requirements(survey, ref):
                wanted.update(dict.fromkeys(expand(survey.closure, ref).values()))
        level = [ref for ref in wanted if ref not in survey.findings]
    tasks = survey.closure.tasks
    steps: dict[str, PlanStep] = {}
    for ref in _in_order(survey, [reference(root) for root in roots]):
        steps[ref] = _step(survey, ref, steps)
    plan = Plan(tuple(steps.values()), len(tasks))
    return Prepared(plan, {ref: tasks[ref] for ref in steps})


def _needs_requirements(survey: _Survey, ref: str) -> bool:
    task = survey.closure.tasks[ref]
    if isinstance(task, luigi.WrapperTask):
        return True
    finding = survey.findings[ref]
    return not finding.complete and not finding.blocked and task.run is not None


def _look_at(survey: _Survey, refs: Sequence[str]) -> None:
    """Find out which tasks are complete, asking each store once for all that it has of them."""
    asked: dict[str, tuple[Store, dict[str, Address]]] = {}
    for ref in refs:
        task = survey.closure.tasks[ref]
        _claim_targets(survey, ref, task)
        if isinstance(task, luigi.WrapperTask):
            survey.findings[ref] = _Finding(True)
        elif isinstance(task, Task) and own_outputs(task):
            store = task.target_store()
            asked.setdefault(store.url, (store, {}))[1][ref] = task.target_address()
        else:
            survey.findings[ref] = _foreign(task)
    for store, addresses in asked.values():
        present = store.present(addresses.values())
        for ref, address in addresses.items():
            known = address in present
            found = store.inspect(address, _names(survey, ref)) if store.checks_in_plans or not known else None
            survey.findings[ref] = _own(_task(survey, ref), found)


def _names(survey: _Survey, ref: str) -> tuple[str, ...]:
    return own_outputs(_task(survey, ref))


def _task(survey: _Survey, ref: str) -> Task:
    task = survey.closure.tasks[ref]
    assert isinstance(task, Task)
    return task


def _own(task: Task, found: Inspection | None) -> _Finding:
    """Judge a task with outputs of its own; `found` is None where a record is present and not looked into."""
    if task.wants_force():
        return _Finding(False, (Reason(Why.FORCED),))
    if found is not None and not found.complete:
        if found.newer:
            return _Finding(False, (Reason(Why.NEWER, f"{found.problem}; update Nectar"),), blocked=True)
        why = {State.MISSING: Why.NO_TARGET, State.LEFTOVER: Why.LEFTOVER}.get(found.state, Why.INVALID)
        detail = found.problem or ("files without a record" if why is Why.LEFTOVER else "")
        return _Finding(False, (Reason(why, detail),))
    missing = [str(one) for one in split_outputs(task)[1] if not one.exists()] if _may_be_mixed(task) else []
    if missing:
        return _Finding(False, tuple(Reason(Why.FOREIGN_MISSING, name) for name in missing))
    policy = task.drift_policy()
    drift = (
        policy is not Drift.IGNORE
        and found is not None
        and found.record is not None
        and code.drifted(type(task), found.record.code)
    )
    if drift and policy is Drift.RERUN:
        return _Finding(False, (Reason(Why.DRIFT, "the task's code is not that of its record"),))
    return _Finding(True, drift=drift)


def _may_be_mixed(task: Task) -> bool:
    return type(task).output is not Task.output


def _foreign(task: luigi.Task) -> _Finding:
    """Judge a task whose completeness is luigi's business."""
    if task.run is not None and not flatten(task.output()) and type(task).complete in _PLAIN_COMPLETES:
        return _Finding(False, (Reason(Why.NEVER_COMPLETE, "no output says that it was done"),))
    if task.complete():
        return _Finding(True)
    if task.run is None:
        listed = ", ".join(_place(one) for one in flatten(task.output()))
        return _Finding(False, (Reason(Why.EXTERNAL_MISSING, listed),))
    missing = [_place(one) for one in flatten(task.output()) if not one.exists()]
    return _Finding(False, tuple(Reason(Why.FOREIGN_MISSING, name) for name in missing))


_PLAIN_COMPLETES = (luigi.Task.complete, Task.complete)


def _place(target: Any) -> str:
    return str(target) if hasattr(target, "path") else repr(target)


def _claim_targets(survey: _Survey, ref: str, task: luigi.Task) -> None:
    """Make sure that no two tasks write to one place."""
    places: list[object] = []
    if isinstance(task, Task) and own_outputs(task):
        places.append(task.target_address())
    if task.run is not None and (not isinstance(task, Task) or _may_be_mixed(task)):
        foreign = split_outputs(task)[1] if isinstance(task, Task) else flatten(task.output())
        places += [str(one.path) for one in foreign if isinstance(one, FileSystemTarget)]
    for place in places:
        other = survey.owners.setdefault(place, ref)
        if other != ref:
            raise errors.SharedTarget(
                f"`{survey.closure.tasks[other]!r}` and `{task!r}` have one target: `{place}`",
                hint="give one of them another output, or a parameter that tells them apart",
            )


def _in_order(survey: _Survey, roots: Sequence[str]) -> Iterator[str]:
    """Yield what was looked at, requirements first."""
    done: set[str] = set()
    for root in roots:
        stack: list[tuple[str, Iterator[str]]] = []
        open_refs: dict[str, None] = {}
        waiting: str | None = root
        while waiting is not None or stack:
            if waiting is not None:
                if waiting in open_refs:
                    names = list(open_refs)
                    circle = [*names[names.index(waiting) :], waiting]
                    raise cycle([survey.closure.tasks[ref] for ref in circle])
                if waiting not in done:
                    open_refs[waiting] = None
                    stack.append((waiting, iter(_looked_at_requirements(survey, waiting))))
            waiting = None
            if not stack:
                break
            ref, rest = stack[-1]
            waiting = next(rest, None)
            if waiting is None:
                stack.pop()
                del open_refs[ref]
                done.add(ref)
                yield ref


def _looked_at_requirements(survey: _Survey, ref: str) -> tuple[str, ...]:
    if not _needs_requirements(survey, ref):
        return ()
    return tuple(dict.fromkeys(survey.closure.requirements[ref].values()))


def _step(survey: _Survey, ref: str, before: Mapping[str, PlanStep]) -> PlanStep:
    task, finding = survey.closure.tasks[ref], survey.findings[ref]
    requirements = _looked_at_requirements(survey, ref)
    reasons = finding.reasons
    action = Action.SKIP if finding.complete else Action.RUN
    if finding.blocked or (task.run is None and not finding.complete):
        action = Action.BLOCKED
    elif isinstance(task, luigi.WrapperTask):
        running = [one for one in requirements if before[one].action is not Action.SKIP]
        action = Action.RUN if running else Action.SKIP
        reasons = tuple(Reason(Why.REQUIRED, before[one].task) for one in running[:1])
    if action is Action.RUN:
        blocking = [before[one].task for one in requirements if before[one].action is Action.BLOCKED]
        if blocking:
            action = Action.BLOCKED
            reasons = (*reasons, *(Reason(Why.BLOCKED_BY, name) for name in blocking))
    path = task.target_address().path if isinstance(task, Task) and own_outputs(task) else None
    return PlanStep(ref, repr(task), action, reasons, path, requirements, finding.drift)
