"""What Nectar does in the benchmarks. Store and durability come from the environment, as for anybody."""

from __future__ import annotations

import sys
from pathlib import Path

from timed import Action, Order, answer, exhaust, expect

sys.path.insert(0, str(Path(__file__).parent.parent / "project"))

import nectar
from chains.load.shapes_chain import DatedTask, LeafTask, LinkTask, SinkTask, TopTask
from nectar.execution.choice import Options, make_runner
from nectar.plans import Action as Planned
from nectar.plans import make_plan
from nectar.plans.collection import without_collection
from nectar.recording.capture import Echo
from nectar.recording.run import new_run, running
from nectar.recording.uses import Uses


def _instantiate(order: Order) -> Action:
    return lambda: exhaust(DatedTask(number=number) for number in range(order.tasks))


def _instantiate_again(order: Order) -> Action:
    known = [DatedTask(number=number) for number in range(order.tasks)]
    return lambda: exhaust(DatedTask(number=task.number) for task in known)


def _identify(order: Order) -> Action:
    return lambda: exhaust(DatedTask(number=number).key for number in range(order.tasks))


def _complete(order: Order) -> Action:
    return _ask(order, complete=True)


def _absent(order: Order) -> Action:
    return _ask(order, complete=False)


def _ask(order: Order, complete: bool) -> Action:
    first = 0 if complete else order.tasks
    tasks = [LeafTask(number=number) for number in range(first, first + order.tasks)]
    expect(len({task.key for task in tasks}) == order.tasks, "tasks share a key")
    return lambda: expect(all(task.complete() is complete for task in tasks), "a target is not what it should be")


def _run(root: nectar.Task, order: Order) -> Action:
    workers = order.workers
    return lambda: expect(nectar.run(root, workers=workers, echo=False).success, "the run failed")


def _wide(order: Order) -> Action:
    return _run(SinkTask(tasks=order.tasks, turn=order.turn), order)


def _wide_unrecorded(order: Order) -> Action:
    """Do what `nectar.run` does, but for the history of the run."""
    tasks = [SinkTask(tasks=order.tasks, turn=order.turn)]

    def act() -> None:
        run, uses = new_run(echo=Echo.NO), Uses()
        with without_collection(keep=True), running(run), uses.counting():
            prepared = make_plan(tasks)
        runner = make_runner(prepared, tasks, run, lambda event: None, Options(echo=Echo.NO))
        uses.begin()
        with uses.counting():
            expect(runner.execute().success, "the run failed")
        uses.release()

    return act


def _deep(order: Order) -> Action:
    return _run(LinkTask(number=order.tasks - 1), order)


def _plan(root: nectar.Task, tasks: int) -> Action:
    return lambda: expect(nectar.plan(root).counts[Planned.RUN] == tasks, "the plan has not all tasks")


def _deep_plan(order: Order) -> Action:
    return _plan(LinkTask(number=order.tasks - 1), order.tasks)


def _layered_plan(order: Order) -> Action:
    return _plan(TopTask(width=order.tasks // 10), order.tasks + 1)


def _layered(order: Order) -> Action:
    return _run(TopTask(width=order.tasks // 10), order)


if __name__ == "__main__":
    answer(
        {
            "instantiate": _instantiate,
            "instantiate-again": _instantiate_again,
            "identify": _identify,
            "complete": _complete,
            "absent": _absent,
            "wide": _wide,  # cold in a fresh store; the sink alone where the leaves are there
            "wide-unrecorded": _wide_unrecorded,
            "deep": _deep,
            "deep-plan": _deep_plan,
            "layered-plan": _layered_plan,
            "layered": _layered,
        }
    )
