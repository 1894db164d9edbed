"""What gokart does in the benchmarks of S3: its hashed targets in a bucket, with one client for all of them.

That client is made in the parent of luigi's workers, which are forked and would share its sockets: one worker, then.
"""

from __future__ import annotations

import os

import gokart
import luigi
from timed import Action, Order, answer, exhaust, expect


class LeafTask(gokart.TaskOnKart[str]):
    """Dumps a line."""

    number = luigi.IntParameter()

    def run(self) -> None:
        self.dump("done")


class SinkTask(gokart.TaskOnKart[str]):
    """Requires many leaves."""

    tasks = luigi.IntParameter()

    def requires(self) -> list[LeafTask]:
        return _leaves(self.tasks)

    def run(self) -> None:
        self.dump("done")


def _leaves(tasks: int) -> list[LeafTask]:
    return [LeafTask(number=number, workspace_directory=os.environ["NECTAR_STORE"]) for number in range(tasks)]


def _load(order: Order) -> Action:
    return lambda: None


def _complete(order: Order) -> Action:
    tasks = _leaves(order.tasks)
    _put_all(tasks)
    return lambda: exhaust(expect(task.complete(), "a target is not there") for task in tasks)


def _put_all(tasks: list[LeafTask]) -> None:
    import s3_bucket

    bucket, _ = s3_bucket.place()
    for task in tasks:
        key = task.output().path().removeprefix(f"s3://{bucket}/")
        s3_bucket.raw_client().put_object(Bucket=bucket, Key=key, Body=b"done")


def _small(order: Order) -> Action:
    root = SinkTask(tasks=order.tasks, workspace_directory=os.environ["NECTAR_STORE"])
    return lambda: expect(
        luigi.build([root], local_scheduler=True, workers=order.workers, log_level="CRITICAL"), "the build failed"
    )


if __name__ == "__main__":
    answer({"load": _load, "complete": _complete, "small": _small})
