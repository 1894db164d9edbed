"""What listings and pictures do in the benchmarks: an order to read, a layout, many tasks as few boxes."""

from __future__ import annotations

import contextlib
import io

import luigi
from timed import Action, Order, answer, expect

import nectar
from nectar.actions.plan import listed
from nectar.drawing import Box, Picture, folded
from nectar.drawing.sizes import laid_out

WIDTH = 10  #: of what each step or task needs


class LeafTask(nectar.Task):
    """Needs nothing."""

    n = luigi.IntParameter()

    def run(self) -> None:
        self.dump("")


class MiddleTask(nectar.Task):
    """Needs ten leaves."""

    n = luigi.IntParameter()

    def requires(self) -> list[luigi.Task]:
        return [LeafTask(n=self.n * WIDTH + number) for number in range(WIDTH)]

    def run(self) -> None:
        self.dump("")


class HeadTask(nectar.Task):
    """Needs all in the middle."""

    n = luigi.IntParameter()

    def requires(self) -> list[luigi.Task]:
        return [MiddleTask(n=number) for number in range(self.n)]

    def run(self) -> None:
        self.dump("")


def _steps(order: Order) -> Action:
    leaves = [nectar.Step.from_data(number, name_alias=f"leaf{number}") for number in range(order.tasks)]
    middle = [
        nectar.Step.from_function(sum, leaves[start : start + WIDTH], name_alias=f"middle{start}")
        for start in range(0, order.tasks, WIDTH)
    ]
    head = nectar.Step.from_function(sum, middle, name_alias="head")

    def listing() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            expect(len(head.execution_plan().splitlines()) > order.tasks, "not all steps are listed")

    return listing


def _tasks(order: Order) -> Action:
    head = HeadTask(n=order.tasks // (WIDTH + 1))
    return lambda: expect(len(listed([head]).splitlines()) > order.tasks * 0.9, "not all tasks are listed")


def _picture(tasks: int) -> Picture:
    boxes = {str(one): Box(f"Task{one % 7}", f"n={one}", family=f"Task{one % 7}") for one in range(tasks)}
    arrows = [(str(max(one - step, 0)), str(one)) for one in range(1, tasks) for step in (1 + one % 13, 1 + one % 29)]
    return Picture(boxes, arrows)


def _layout(order: Order) -> Action:
    picture = _picture(order.tasks)
    return lambda: expect(len(laid_out(picture).places) == order.tasks, "not all boxes have a place")


def _folded(order: Order) -> Action:
    picture = _picture(order.tasks)
    return lambda: expect("Task0" in folded(picture).svg(), "a family is missing")


if __name__ == "__main__":
    answer({"wide": _steps, "tasks": _tasks, "layout": _layout, "folded": _folded})
