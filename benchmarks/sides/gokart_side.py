"""What gokart does in the benchmarks: the wide graph with its hashed targets, no durability."""

from __future__ import annotations

import gokart
import luigi
from timed import Action, Order, answer, expect


class LeafTask(gokart.TaskOnKart[str]):
    """Dumps a line."""

    number = luigi.IntParameter()

    def run(self) -> None:
        self.dump("done")


class SinkTask(gokart.TaskOnKart[str]):
    """Requires many leaves."""

    tasks = luigi.IntParameter()

    def requires(self) -> list[LeafTask]:
        folder = self.workspace_directory
        return [LeafTask(number=number, workspace_directory=folder) for number in range(self.tasks)]

    def run(self) -> None:
        self.dump("done")


def _wide(order: Order) -> Action:
    root = SinkTask(tasks=order.tasks, workspace_directory=order.folder)
    return lambda: expect(luigi.build([root], local_scheduler=True, log_level="CRITICAL"), "the build failed")


if __name__ == "__main__":
    answer({"wide": _wide})
