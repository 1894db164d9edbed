"""Fire luigi's events about what a plan has found: who needs what, what is there, and what nobody here makes."""

from __future__ import annotations

from luigi.event import Event as LuigiEvent
from luigi.task import Task as LuigiTask

from nectar.plans import Action, Prepared

_EVENTS = (LuigiEvent.DEPENDENCY_DISCOVERED, LuigiEvent.DEPENDENCY_PRESENT, LuigiEvent.DEPENDENCY_MISSING)


def fire_dependency_events(prepared: Prepared) -> None:
    """Fire them in the order in which luigi's worker does when it looks at the same tasks.

    Each root in turn, and of what it requires the last first; a task that is complete, or cannot be made, is the end
    of its branch. What a handler raises is logged by luigi.
    """
    if not _somebody_listens():
        return
    steps = {step.ref: step for step in prepared.plan.steps}
    required = {one for step in steps.values() for one in step.requirements}
    stack = [ref for ref in reversed(steps) if ref not in required]
    seen = set(stack)
    while stack:
        ref = stack.pop()
        step, task = steps[ref], prepared.tasks[ref]
        if step.action is Action.SKIP:
            task.trigger_event(LuigiEvent.DEPENDENCY_PRESENT, task)
        elif step.action is Action.BLOCKED and not step.requirements:
            task.trigger_event(LuigiEvent.DEPENDENCY_MISSING, task)
        else:
            for one in step.requirements:
                task.trigger_event(LuigiEvent.DEPENDENCY_DISCOVERED, task, prepared.tasks[one])
                if one not in seen:
                    seen.add(one)
                    stack.append(one)


def _somebody_listens() -> bool:
    return any(handlers.get(event) for handlers in LuigiTask._event_callbacks.values() for event in _EVENTS)
