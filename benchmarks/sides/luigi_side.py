"""What luigi does in the benchmarks: the same graphs as plain luigi tasks, one file each, no durability."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence

import luigi
from timed import Action, Order, answer, exhaust, expect

_FOLDER = ""


class DatedTask(luigi.Task):
    """Is only ever instantiated."""

    number = luigi.IntParameter()
    day = luigi.DateParameter(default=datetime.date(2013, 1, 1))


class _WritingTask(luigi.Task):
    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(f"{_FOLDER}/{self.task_id}.txt")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("done\n")


class LeafTask(_WritingTask):
    """Writes a line."""

    number = luigi.IntParameter()


class SinkTask(_WritingTask):
    """Requires many leaves."""

    tasks = luigi.IntParameter()
    turn = luigi.IntParameter()

    def requires(self) -> list[luigi.Task]:
        return [LeafTask(number=number) for number in range(self.tasks)]


class LinkTask(_WritingTask):
    """Requires the link before it."""

    number = luigi.IntParameter()

    def requires(self) -> luigi.Task | list[luigi.Task]:
        return LinkTask(number=self.number - 1) if self.number else []


class LayerTask(_WritingTask):
    """Requires ten of the layer below it."""

    layer = luigi.IntParameter()
    number = luigi.IntParameter()
    width = luigi.IntParameter()

    def requires(self) -> list[luigi.Task]:
        if not self.layer:
            return []
        numbers = (self.number + step for step in range(10))
        return [LayerTask(layer=self.layer - 1, number=one % self.width, width=self.width) for one in numbers]


def _instantiate(order: Order) -> Action:
    return lambda: exhaust(DatedTask(number=number) for number in range(order.tasks))


def _instantiate_again(order: Order) -> Action:
    known = [DatedTask(number=number) for number in range(order.tasks)]
    return lambda: exhaust(DatedTask(number=task.number) for task in known)


def _make_leaves(order: Order) -> Action:
    _write_into(order.folder)
    return lambda: exhaust(_touch(LeafTask(number=number)) for number in range(order.tasks))


def _touch(task: LeafTask) -> None:
    with open(task.output().path, "w") as file:
        file.write("done\n")


def _complete(order: Order) -> Action:
    return _ask(order, complete=True)


def _absent(order: Order) -> Action:
    return _ask(order, complete=False)


def _ask(order: Order, complete: bool) -> Action:
    _write_into(order.folder)
    first = 0 if complete else order.tasks
    tasks = [LeafTask(number=number) for number in range(first, first + order.tasks)]
    return lambda: expect(all(task.complete() is complete for task in tasks), "a target is not what it should be")


def _wide(order: Order) -> Action:
    return _build(order, SinkTask(tasks=order.tasks, turn=order.turn))


def _deep(order: Order) -> Action:
    return _build(order, LinkTask(number=order.tasks - 1))


def _build(order: Order, root: luigi.Task) -> Action:
    _write_into(order.folder)
    workers = order.workers
    return lambda: expect(
        luigi.build([root], local_scheduler=True, workers=workers, log_level="CRITICAL"), "the build failed"
    )


def _layered_plan(order: Order) -> Action:
    """Do what luigi's worker does before it runs anything: ask each task for its requirements and its output."""
    _write_into(order.folder)
    width = order.tasks // 10
    roots = [LayerTask(layer=9, number=number, width=width) for number in range(width)]
    return lambda: expect(_walk(roots) == order.tasks, "the walk has not found all tasks")


def _walk(roots: Sequence[luigi.Task]) -> int:
    waiting, seen = list(roots), set(roots)
    while waiting:
        task = waiting.pop()
        expect(not task.complete(), "a target is there already")
        for one in task.deps():
            if one not in seen:
                seen.add(one)
                waiting.append(one)
    return len(seen)


def _write_into(folder: str) -> None:
    global _FOLDER
    os.makedirs(folder, exist_ok=True)
    _FOLDER = folder


if __name__ == "__main__":
    answer(
        {
            "instantiate": _instantiate,
            "instantiate-again": _instantiate_again,
            "make-leaves": _make_leaves,
            "complete": _complete,
            "absent": _absent,
            "wide": _wide,
            "deep": _deep,
            "layered-plan": _layered_plan,
        }
    )
