"""What doit does in the benchmarks: the wide graph, one file a task, no durability."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from timed import Action, Order, answer, expect


def _wide(order: Order) -> Action:
    """Make all of a folder, or, where an earlier turn did, what another sink needs."""
    os.makedirs(order.folder, exist_ok=True)
    leaves = [f"{order.folder}/{number}.txt" for number in range(order.tasks)]
    sink = f"{order.folder}/sink-{order.turn}.txt"

    def task_leaf() -> Iterator[dict[str, Any]]:
        for path in leaves:
            yield {"name": path, "actions": [(_write, [path])], "targets": [path], "uptodate": [True]}

    def task_sink() -> dict[str, Any]:
        return {"actions": [(_write, [sink])], "file_dep": leaves, "targets": [sink]}

    namespace = {"task_leaf": task_leaf, "task_sink": task_sink}
    arguments = ["run", "--db-file", f"{order.folder}/doit.db", "--verbosity", "0", "--reporter", "zero"]
    return lambda: expect(DoitMain(ModuleTaskLoader(namespace)).run(arguments) == 0, "the run failed")


def _write(path: str) -> bool:
    with open(path, "w") as file:
        file.write("done\n")
    return True


if __name__ == "__main__":
    answer({"wide": _wide})
