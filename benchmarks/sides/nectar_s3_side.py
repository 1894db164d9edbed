"""What Nectar does in the benchmarks of S3. The store comes from the environment, as for anybody.

Neither boto3 is loaded nor the server asked for anything before the clock starts.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from timed import Action, Order, answer, expect

sys.path.insert(0, str(Path(__file__).parent.parent / "project"))

import nectar
from chains.load.shapes_chain import BigTask, LeafTask, SinkTask
from nectar.plans import Action as Planned
from nectar.stores import open_store


def _load(order: Order) -> Action:
    return lambda: None


def _plan(order: Order) -> Action:
    """Plan a sink over leaves that are all there, or, in a bucket of its own, none."""

    def plan() -> None:
        counts = nectar.plan(SinkTask(tasks=order.tasks, turn=order.turn)).counts
        expect(counts[Planned.SKIP] + counts[Planned.RUN] == order.tasks + 1, "the plan has not all tasks")
        expect(counts[Planned.RUN] in (1, order.tasks + 1), "some leaves are there, and some are not")

    return plan


def _present(order: Order) -> Action:
    addresses = [LeafTask(number=number).target_address() for number in range(order.tasks)]
    return lambda: expect(len(open_store().present(addresses)) == order.tasks, "some targets are not there")


def _few_of_many(order: Order) -> Action:
    """Ask for some of which every other one is there."""
    numbers = [number if number % 2 else 10**9 + number for number in range(order.tasks)]
    addresses = [LeafTask(number=number).target_address() for number in numbers]
    return lambda: expect(len(open_store().present(addresses)) == order.tasks // 2, "half of them are there")


def _small(order: Order) -> Action:
    root = SinkTask(tasks=order.tasks, turn=order.turn)
    return lambda: expect(nectar.run(root, workers=order.workers, echo=False).success, "the run failed")


def _small_again(order: Order) -> Action:
    root = SinkTask(tasks=order.tasks, turn=0)

    def again() -> None:
        ended = nectar.run(root, workers=order.workers, echo=False)
        expect({step.status.value for step in ended.steps} == {"skipped"}, "something was made again")

    return again


def _write(order: Order) -> Action:
    from s3_bucket import big_file

    path = f"{os.environ['NECTAR_PROJECT']}/.nectar/big.bin"
    root = BigTask(turn=0, source=big_file(path, order.tasks))
    return lambda: expect(nectar.run(root, echo=False).success, "the run failed")


def _read(order: Order) -> Action:
    target = BigTask(turn=0, source="").output()
    return lambda: expect(os.path.getsize(target.path) == order.tasks << 20, "it is of another size")


if __name__ == "__main__":
    answer(
        {
            "load": _load,
            "plan": _plan,
            "present": _present,
            "few-of-many": _few_of_many,
            "small": _small,
            "small-again": _small_again,
            "write": _write,
            "read": _read,
        }
    )
