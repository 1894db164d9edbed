"""Two descriptions compared: what was changed, and exactly which outputs are other ones because of it."""

from __future__ import annotations

from nectar.description import Dag
from nectar.description.comparison import compare
from nectar.identity import Change


def diamond() -> Dag:
    dag = Dag({"schedule": "@daily"})
    for name in ("load", "left", "right", "join"):
        dag[name] = {"command": f"do {name}", "params": {"month": 3, "deep": {"x": [1]}}}
    for name in ("left", "right"):
        dag[name].add_dep(dag["load"])
        dag.join.add_dep(dag[name])
    return dag


def told(first: Dag, second: Dag) -> tuple[list[tuple[str, Change]], dict[str, tuple[str, ...]]]:
    found = compare(first, second)
    outputs = {name: task["output"] for name, task in second.encode()["tasks"].items()}
    assert all(one.output == outputs[one.task] != one.was for one in found.remade)
    known = {task["output"] for task in first.encode()["tasks"].values()}
    assert {one.task for one in found.remade} == {name for name, output in outputs.items() if output not in known}
    return [(one.of, one.change) for one in found.changes], {one.task: one.since for one in found.remade}


def test_equal_descriptions_have_no_difference():
    assert told(diamond(), Dag.decode(diamond().bencode())) == ([], {})


def test_a_changed_spec_is_told_by_its_key_and_remakes_what_stands_on_it():
    changed = diamond()
    changed.left.spec["params"] = {"month": 4, "deep": {"x": [1], "y": "z"}}
    assert told(diamond(), changed) == (
        [("left", Change("params.deep.y", None, "z")), ("left", Change("params.month", 3, 4))],
        {"left": ("params.deep.y", "params.month"), "join": ("left",)},
    )


def test_a_changed_meta_remakes_nothing():
    changed = diamond()
    changed.meta["schedule"] = "@hourly"
    assert told(diamond(), changed) == ([("meta", Change("schedule", "@daily", "@hourly"))], {})


def test_new_tasks_and_those_that_are_gone_are_told():
    changed = Dag.decode(diamond().bencode())
    changed.task("extra", {"command": "x"})
    outputs = {name: task["output"] for name, task in changed.encode()["tasks"].items()}
    new = Change("task", None, outputs["extra"])
    assert told(diamond(), changed) == ([("extra", new)], {"extra": ("task",)})
    gone = Change("task", outputs["extra"], None)
    assert told(changed, diamond()) == ([("extra", gone)], {})


def test_a_renamed_task_is_the_same_work_and_what_calls_it_otherwise_is_other_work():
    renamed = Dag.decode(diamond().bencode())
    first, second = Dag(), Dag()
    for dag, name in ((first, "old"), (second, "new")):
        dag.task(name, {"command": "x"})
        dag.task("sink", {"command": "y"}).add_dep(dag[name], "input" if name == "old" else "other")
    assert told(first, second) == (
        [
            ("new", Change("name", "old", "new")),
            ("sink", Change("inputs.input", "old", None)),
            ("sink", Change("inputs.other", None, "new")),
        ],
        {"sink": ("inputs.input", "inputs.other")},
    )
    assert told(diamond(), renamed) == ([], {})


def test_an_input_from_another_task_is_a_change():
    changed = diamond()
    changed.task("more", {"command": "x"})
    del changed._tasks["right"]._inputs["load"]
    changed.right.add_dep(changed.more, "load")
    changes, remade = told(diamond(), changed)
    assert ("right", Change("inputs.load", "load", "more")) in changes
    assert remade == {"more": ("task",), "right": ("inputs.load", "more"), "join": ("right",)}


def test_the_only_task_of_a_class_is_compared_with_the_only_one_there_was():
    first, second = Dag(), Dag()
    first.task("a.LoadTask(month=3)", {"params": {"month": 3}})
    second.task("a.LoadTask(month=4)", {"params": {"month": 4}})
    changes, remade = told(first, second)
    assert ("a.LoadTask(month=4)", Change("params.month", 3, 4)) in changes
    assert remade == {"a.LoadTask(month=4)": ("params.month",)}
    second.task("a.LoadTask(month=5)", {"params": {"month": 5}})
    assert {one.component for _, one in told(first, second)[0]} == {"task"}
