"""What a la mode does in the benchmarks: a chain and a fan of described tasks, encoded and hashed."""

from __future__ import annotations

from a_la_mode import Dag
from timed import Action, Order, answer, expect


def _chain(order: Order) -> Action:
    dag = Dag({})
    for number in range(order.tasks):
        dag.task(f"t{number}", {"image": "work", "sha": "1qe34", "command": f"python work.py {number}"})
        if number:
            getattr(dag, f"t{number}").add_dep(getattr(dag, f"t{number - 1}"))
    return _encode(dag, order)


def _fan(order: Order) -> Action:
    dag = Dag({})
    dag.task("sink", {"image": "work", "sha": "1qe34", "command": "python sink.py"})
    for number in range(order.tasks - 1):
        dag.task(f"t{number}", {"image": "work", "sha": "1qe34", "command": f"python work.py {number}"})
        dag.sink.add_dep(getattr(dag, f"t{number}"))
    return _encode(dag, order)


def _encode(dag: Dag, order: Order) -> Action:
    return lambda: expect(len(dag.encode()["tasks"]) == order.tasks, "not all tasks are encoded")


if __name__ == "__main__":
    answer({"deep": _chain, "wide": _fan})
