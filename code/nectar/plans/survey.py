"""Decide what would happen to each task that a root needs, and why, without doing anything.

Nothing above a complete target is looked at: who has the result does not ask for its ingredients.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import luigi
from luigi.target import FileSystemTarget
from luigi.task import flatten

from nectar import errors
from nectar.address import Address
from nectar.plans.collection import without_collection
from nectar.plans.values import Action, Force, Plan, PlanStep, Prepared, Reason, Why
from nectar.recording import reuse, uses
from nectar.records import Record
from nectar.settings import Drift
from nectar.stores import Inspection, State, Store
from nectar.task import Task, code, ground
from nectar.task.base import own_outputs, split_outputs
from nectar.task.closure import (
    Closure,
    closure,
    counts_inputs,
    document_of,
    expand,
    in_order,
    is_wrapper,
    known_requirements,
    reference,
    state_of,
)
from nectar.task.running import files_of, recipe_of, remember_files


@dataclass(slots=True)
class _Look:
    """What is known of one task while a plan is made."""

    task: luigi.Task
    wrapper: bool
    outputs: tuple[str, ...] = ()  #: of its own, in a store
    path: str | None = None
    complete: bool = False
    reasons: tuple[Reason, ...] = ()
    blocked: bool = False  #: it can neither be used nor made
    drift: bool = False
    forced: bool = False
    given: bool = False  #: it was not selected: where it is not there, what needs it cannot be made

    @property
    def goes_on(self) -> bool:
        """Whether what the task requires has to be looked at, too."""
        return self.wrapper or not (self.complete or self.blocked or self.given or self.task.run is None)


@dataclass(slots=True)
class _Survey:
    """What has been looked at."""

    closure: Closure
    looks: dict[str, _Look] = field(default_factory=dict)  #: by ref
    owners: dict[str, str] = field(default_factory=dict)  #: place of an output -> ref
    answers: dict[str, dict[Address, bool]] = field(default_factory=dict)  #: by store: where a record lies
    expanded: bool = False  #: requirements were taken in that have no part in identities
    files: dict[str, Mapping[str, str]] = field(
        default_factory=dict
    )  #: of what would be reused: file -> sha256, by ref
    remembered: dict[tuple[str, str], bool] = field(default_factory=dict)  #: by store and prefix: it knows recipes
    selected: frozenset[str] | None = None  #: what may be made; None: everything


def make_plan(
    roots: Sequence[luigi.Task],
    force: Force = Force.NOTHING,
    select: str | None = None,
    only: Container[str] | None = None,
) -> Prepared:
    """Return the plan for some root tasks, or for what a selection means among all that they stand on.

    With a selection only what is selected is made, each of these tasks whether or not another one asks for it; it is
    what any `force` means. `only` names by ref those of them that the plan begins with; None: all.

    Raises:
        CycleFound, ClosureTooLarge, SharedTarget: when the tasks cannot be carried out.
        IdentityError: when a task has no identity.
        SelectionInvalid: when a clause of the selection cannot be read, or selects nothing.
        UpstreamMissing: when a selected task needs one that is neither selected nor there.
        StoreUnreachable: when a store cannot answer.
    """
    ground.begin_epoch()
    with without_collection():
        if select is None:
            survey = _Survey(closure(roots))
            return _plan(survey, list(dict.fromkeys(map(reference, roots))), force)
        from nectar.selection import select as choose  # late: most plans have none

        chosen = choose(roots, select)
        survey = _Survey(chosen.closure, expanded=True, selected=frozenset(chosen.refs))
        prepared = _plan(survey, [ref for ref in chosen.refs if only is None or ref in only], force)
        _refuse_missing(survey, prepared.plan)
        return replace(prepared, selected=chosen.refs, ends=chosen.ends)


def _plan(survey: _Survey, root_refs: list[str], force: Force) -> Prepared:
    level, ahead = root_refs, 1
    forced = frozenset(root_refs if survey.selected is None else survey.selected)
    everything = force is Force.ALL and survey.selected is None
    while level:
        for ref in level:
            _see(survey, ref, forced=everything or (force is not Force.NOTHING and ref in forced))
        _ask(survey, level, ahead)
        wanted: dict[str, None] = {}
        for ref in level:
            if survey.looks[ref].goes_on:
                wanted.update(dict.fromkeys(_requirements(survey, ref)))
        level, ahead = [ref for ref in wanted if ref not in survey.looks], ahead * 2
    steps: dict[str, PlanStep] = {}
    for ref in _in_order(survey, root_refs):
        steps[ref] = _step(survey, ref, steps)
    selected = None if survey.selected is None else len(survey.selected)
    return Prepared(
        Plan(tuple(steps.values()), len(survey.closure.tasks), selected), {ref: survey.looks[ref].task for ref in steps}
    )


def _requirements(survey: _Survey, ref: str) -> tuple[str, ...]:
    if ref not in survey.closure.requirements:
        survey.expanded = True
    return expand(survey.closure, ref)


def _refuse_missing(survey: _Survey, plan: Plan) -> None:
    """Make sure that all is there that selected tasks need and that is not selected itself.

    A wrapper that is not selected is there when all that it requires is.
    """
    missing: dict[str, PlanStep] = {}
    needed_by: dict[str, str] = {}
    for step in plan.steps:
        if step.action is Action.SKIP:
            continue
        if survey.looks[step.ref].given and not any(ref in missing for ref in step.requirements):
            missing[step.ref] = step
        for ref in step.requirements:
            needed_by.setdefault(ref, step.task)
    if missing:
        named = [
            f"`{step.task}`, which `{needed_by[ref]}` needs" + (f" ({step.reasons[0]})" if step.reasons else "")
            for ref, step in list(missing.items())[:_NAMED]
        ]
        more = f", and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise errors.UpstreamMissing(
            f"what is not selected is not there: {'; '.join(named)}{more}",
            hint="select it too (`+` before a name adds one level of what it needs, `*` all), or make it first",
        )


_NAMED = 5  # tasks that a message names


# Looking


def _see(survey: _Survey, ref: str, *, forced: bool) -> None:
    """Take a task in, and make sure that it shares no place with another."""
    task = survey.closure.tasks[ref]
    look = survey.looks[ref] = _Look(task, is_wrapper(task))
    if survey.selected is not None:
        look.given = ref not in survey.selected
    state = state_of(task)
    places: list[str] = []
    if state is not None:
        assert isinstance(task, Task)
        state.forced = forced
        look.outputs = own_outputs(task)
        if look.outputs:
            look.path = task.target_address().path
            places.append(look.path)
    if state is None or _may_be_mixed(task):
        foreign = flatten(task.output()) if state is None else split_outputs(task)[1]
        if task.run is not None:
            places += [str(one.path) for one in foreign if isinstance(one, FileSystemTarget)]
    for place in places:
        other = survey.owners.setdefault(place, ref)
        if other != ref:
            raise errors.SharedTarget(
                f"`{survey.closure.tasks[other]!r}` and `{task!r}` have one target: `{place}`",
                hint="give one of them another output, or a parameter that tells them apart",
            )


def _ask(survey: _Survey, refs: Sequence[str], ahead: int) -> None:
    """Find out which tasks are complete, asking each store once for all that it has of them."""
    asking: dict[str, tuple[Store, list[str]]] = {}
    for ref in refs:
        look = survey.looks[ref]
        if look.wrapper:
            look.complete = True
        elif look.outputs:
            store = cast(Task, look.task).target_store()
            asking.setdefault(store.url, (store, []))[1].append(ref)
        else:
            _judge_foreign(look)
    for store, of_store in asking.values():
        uses.note(store)
        looks = [survey.looks[ref] for ref in of_store]
        addresses = [cast(Task, look.task).target_address() for look in looks]
        if store.checks_in_plans:
            outputs = (look.outputs for look in looks)
            for look, found in zip(looks, store.inspect_many(zip(addresses, outputs, strict=True)), strict=True):
                _judge_own(look, cast(Task, look.task), found)
            continue
        present = _present(survey, store, of_store, ahead)
        for look, address in zip(looks, addresses, strict=True):
            # A question for each would be too dear: what lies there without a record is found when it is made.
            _judge_own(look, cast(Task, look.task), None if present[address] else _MISSING)


def _present(survey: _Survey, store: Store, refs: Sequence[str], ahead: int) -> Mapping[Address, bool]:
    """Ask a store where records lie, also for what will be asked next if these are not complete.

    Each question of a plan looks twice as many generations ahead as the one before it: so a chain of N tasks needs
    log N questions, each of which costs at least one request, and a complete root needs one.
    """
    answers = survey.answers.setdefault(store.url, {})
    asked: dict[Address, None] = {}
    seen: set[str] = set()
    level = list(refs)
    for _ in range(ahead):
        seen.update(level)
        for ref in level:
            task = survey.closure.tasks[ref]
            if state_of(task) is not None and own_outputs(cast(Task, task)):
                if cast(Task, task).target_store() is store:
                    asked[cast(Task, task).target_address()] = None
        if all(address in answers for address in asked):
            break  # what an earlier question has answered
        known = survey.closure.requirements
        level = [one for one in dict.fromkeys(o for ref in level for o in known.get(ref, ())) if one not in seen]
    unknown = [address for address in asked if address not in answers]
    if unknown:
        present = store.present(unknown)
        answers.update((address, address in present) for address in unknown)
    return answers


# Judging


def _judge_own(look: _Look, task: Task, found: Inspection | None) -> None:
    """Judge a task with outputs of its own; `found` is None where a record is present and not looked into."""
    if task.wants_force():
        look.reasons, look.forced = (Reason(Why.FORCED),), True
        return
    if found is not None and not found.complete:
        if found.newer:
            look.reasons, look.blocked = (Reason(Why.NEWER, f"{found.problem}; update Nectar"),), True
            return
        if found.state is State.MISSING:
            look.reasons = _NO_TARGET
            return
        why = Why.LEFTOVER if found.state is State.LEFTOVER else Why.INVALID
        look.reasons = (Reason(why, found.problem or ("files without a record" if why is Why.LEFTOVER else "")),)
        return
    missing = [str(one) for one in split_outputs(task)[1] if not one.exists()] if _may_be_mixed(task) else []
    if missing:
        look.reasons = tuple(Reason(Why.FOREIGN_MISSING, name) for name in missing)
        return
    record = found.record if found is not None else None
    if found is not None and record is not None:
        remember_files(task, record, found.stamp)
        policy = task.drift_policy()
        look.drift = policy is not Drift.IGNORE and code.drifted(task.code_subject(), record.code)
        if look.drift and policy is Drift.RERUN:
            look.reasons = (Reason(Why.DRIFT, "the task's code is not that of its record"),)
            look.drift = False
            return
    look.complete = True


_NO_TARGET = (Reason(Why.NO_TARGET),)
_MISSING = Inspection(State.MISSING)


def _may_be_mixed(task: luigi.Task) -> bool:
    return type(task).output is not Task.output


def _judge_foreign(look: _Look) -> None:
    """Judge a task whose completeness is luigi's business."""
    task = look.task
    if task.run is not None and not flatten(task.output()) and type(task).complete in _PLAIN_COMPLETES:
        look.reasons = (Reason(Why.NEVER_COMPLETE, "no output says that it was done"),)
    elif task.complete():
        look.complete = True
    elif task.run is None:
        listed = ", ".join(_place(one) for one in flatten(task.output()))
        look.reasons = (Reason(Why.EXTERNAL_MISSING, listed),)
    else:
        missing = [_place(one) for one in flatten(task.output()) if not one.exists()]
        look.reasons = tuple(Reason(Why.FOREIGN_MISSING, name) for name in missing)


_PLAIN_COMPLETES = (luigi.Task.complete, Task.complete)


def _place(target: Any) -> str:
    return str(target) if hasattr(target, "path") else repr(target)


# Putting in order


def _in_order(survey: _Survey, roots: Sequence[str]) -> Iterator[str]:
    """Yield what was looked at, requirements first."""
    if not survey.expanded:  # the closure is in this order, and has no circle
        yield from (ref for ref in survey.closure.tasks if ref in survey.looks)
        return
    yield from in_order(roots, lambda ref: _looked_at_requirements(survey, ref), survey.closure.tasks)


def _looked_at_requirements(survey: _Survey, ref: str) -> tuple[str, ...]:
    return survey.closure.requirements[ref] if survey.looks[ref].goes_on else ()


def _step(survey: _Survey, ref: str, before: Mapping[str, PlanStep]) -> PlanStep:
    look = survey.looks[ref]
    requirements = _looked_at_requirements(survey, ref)
    reasons = look.reasons
    action = Action.SKIP if look.complete else Action.RUN
    if look.blocked or (look.task.run is None and not look.complete):
        action = Action.BLOCKED
    elif look.wrapper:
        running = [one for one in requirements if before[one].action is not Action.SKIP]
        action = Action.RUN if running else Action.SKIP
        reasons = tuple(Reason(Why.REQUIRED, before[one].task) for one in running[:1])
    if action is Action.RUN:
        blocking = [before[one].task for one in requirements if before[one].action is Action.BLOCKED]
        if blocking:
            action = Action.BLOCKED
            reasons = (*reasons, *(Reason(Why.BLOCKED_BY, name) for name in blocking))
    earlier, may_be = None, False
    if action is Action.RUN and look.path is not None and requirements and not look.forced:
        earlier, may_be = _earlier(survey, look, [before[one] for one in requirements])
    if earlier is not None:
        survey.files[ref] = earlier.digests
        action = Action.REUSE
    reuses = earlier.address.path if earlier is not None else None
    return PlanStep(ref, repr(look.task), action, reasons, look.path, requirements, look.drift, reuses, may_be)


def _earlier(survey: _Survey, look: _Look, required: Sequence[PlanStep]) -> tuple[Record | None, bool]:
    """Return the target whose files a task can take; otherwise, whether there may be one once its inputs are made."""
    task = cast(Task, look.task)
    store, prefix = task.target_store(), task.target_address().prefix
    place = (store.url, prefix)
    if place not in survey.remembered:
        survey.remembered[place] = store.remembers(prefix)
    if not survey.remembered[place] or not counts_inputs(task):
        return None, False
    if any(one.action is Action.RUN and one.path is not None for one in required) or not store.checks_in_plans:
        return None, True
    inputs: dict[str, Mapping[str, str] | None] = {}
    for path, requirement in known_requirements(task).items():
        known = survey.files.get(reference(requirement))
        state = state_of(requirement)
        if known is None and state is not None:
            known = state.found[1] if state.found is not None else files_of([cast(Task, requirement)])[0]
        inputs[path] = known
    recipe = recipe_of(task, document_of(task), inputs)
    if recipe is None:
        return None, False
    return reuse.find(store, recipe, code.as_recorded(task.code_subject()), look.outputs), False
