"""What luigi does in the benchmarks of S3: its `S3Target`, with one client a process for all of them.

Its workers are forked. With the client of their parent they would share its sockets, and the requests of one be mixed
with those of the other.
"""

from __future__ import annotations

import functools
import os

import luigi
import s3_bucket
from luigi.contrib.s3 import S3Client, S3Target
from timed import Action, Order, answer, expect


def _client() -> S3Client:
    return _client_of(os.getpid())


@functools.cache
def _client_of(process: int) -> S3Client:
    return S3Client()


class LeafTask(luigi.Task):
    """Writes a line."""

    number = luigi.IntParameter()

    def output(self) -> S3Target:
        bucket, prefix = s3_bucket.place()
        return S3Target(f"s3://{bucket}/{prefix}{self.task_id}.txt", client=_client())

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("done\n")


class SinkTask(LeafTask):
    """Requires many leaves."""

    tasks = luigi.IntParameter()

    def requires(self) -> list[luigi.Task]:
        return [LeafTask(number=number) for number in range(self.tasks)]


def _load(order: Order) -> Action:
    return lambda: None


def _exists(order: Order) -> Action:
    return _ask(s3_bucket.keys(order.tasks, "out.txt"), order.tasks, there=True)


def _misses(order: Order) -> Action:
    keys = [key.replace("out.txt", "no.txt") for key in s3_bucket.keys(order.tasks, "out.txt")]
    return _ask(keys, order.tasks, there=False)


def _ask(keys: list[str], tasks: int, *, there: bool) -> Action:
    expect(len(keys) == tasks, "there are not so many targets")
    bucket, _ = s3_bucket.place()

    def ask() -> None:
        found = [S3Target(f"s3://{bucket}/{key}", client=_client()).exists() for key in keys]
        expect(all(one is there for one in found), "a target is not what it should be")

    return ask


def _small(order: Order) -> Action:
    root = SinkTask(number=0, tasks=order.tasks)
    return lambda: expect(
        luigi.build([root], local_scheduler=True, workers=order.workers, log_level="CRITICAL"), "the build failed"
    )


if __name__ == "__main__":
    answer({"load": _load, "exists": _exists, "misses": _misses, "small": _small})
