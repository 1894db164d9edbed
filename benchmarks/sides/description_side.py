"""What `nectar.description` does in the benchmarks: a chain and a fan of described tasks, encoded and hashed."""

from __future__ import annotations

from timed import Action, Order, answer, expect

from nectar.description import Dag


def _chain(order: Order) -> Dag:
    dag = Dag({})
    for number in range(order.tasks):
        task = dag.task(f"t{number}", {"image": "work", "sha": "1qe34", "command": f"python work.py {number}"})
        if number:
            task.add_dep(dag[f"t{number - 1}"])
    return dag


def _fan(order: Order) -> Dag:
    dag = Dag({})
    sink = dag.task("sink", {"image": "work", "sha": "1qe34", "command": "python sink.py"})
    for number in range(order.tasks - 1):
        sink.add_dep(dag.task(f"t{number}", {"image": "work", "sha": "1qe34", "command": f"python work.py {number}"}))
    return dag


def _encode(dag: Dag, tasks: int) -> Action:
    return lambda: expect(len(dag.encode()["tasks"]) == tasks, "not all tasks are encoded")


def _decode(dag: Dag, tasks: int) -> Action:
    raw = dag.bencode()
    return lambda: expect(Dag.decode(raw).bencode() == raw, "what was read is not what was written")


if __name__ == "__main__":
    answer(
        {
            "deep": lambda order: _encode(_chain(order), order.tasks),
            "wide": lambda order: _encode(_fan(order), order.tasks),
            "deep-both-ways": lambda order: _decode(_chain(order), order.tasks),
            "wide-both-ways": lambda order: _decode(_fan(order), order.tasks),
        }
    )
