"""Any pipeline goes the way that its file says, as a small interpreter goes it: in one go, by workers, step by step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GIVEN = {"first": [1, "x"], "second": ["a", "a.b"]}  #: the parameters with which each pipeline begins
LEVELS = 3  #: of DAGs in each other
ENDS = {"ok": {"type": "success"}, "bad": {"type": "fail"}}


@st.composite
def commands(draw: st.DrawFn, values: tuple[str, ...]) -> str:
    """A lambda that sets parameters, or fails; within a map perhaps for one value alone."""
    told: dict[str, Any] = {draw(st.sampled_from("pq")): draw(st.integers(0, 99))}
    if draw(st.booleans()):
        told["second"] = draw(st.lists(st.sampled_from([1, 2, "x", "x.y", ""]), unique=True, max_size=2))
    if values and draw(st.booleans()):
        value = draw(st.sampled_from(values))
        return f"lambda {value}: {{**{told!r}, 'seen': str({value})}} if {value} not in (1, 'x', 'a') else 1/0"
    return draw(st.sampled_from(["lambda: 1/0", f"lambda: {told!r}", f"lambda: {told!r}"]))


@st.composite
def dags(draw: st.DrawFn, level: int = 1, values: tuple[str, ...] = ()) -> dict[str, Any]:
    """A DAG of up to four steps in a row, from which failures lead on."""
    names = draw(st.lists(st.sampled_from(["a", "b", "x", "same"]), min_size=1, max_size=4, unique=True))
    steps: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(names):
        after = [*names[number + 1 :], "ok"]
        kinds = ["task", "task", "task", "as-is", *(["parallel", "map", "dag"] if level < LEVELS else [])]
        step = steps[name] = {"type": draw(st.sampled_from(kinds)), "next": after[0]}
        if draw(st.booleans()):
            step["on_failure"] = draw(st.sampled_from([*after, "bad"]))
        if step["type"] == "task":
            step |= {"command_type": "python-lambda", "command": draw(commands(values))}
            step["retry"] = draw(st.sampled_from([1, 1, 2]))
        elif step["type"] == "parallel":
            branches = draw(st.lists(st.sampled_from(["A", "B", "a"]), min_size=1, max_size=2, unique=True))
            step["branches"] = {branch: draw(dags(level + 1, values)) for branch in branches}
        elif step["type"] == "map":
            step |= {"iterate_on": draw(st.sampled_from(list(GIVEN))), "iterate_as": f"value{draw(st.integers(1, 2))}"}
            step["branch"] = draw(dags(level + 1, (*values, step["iterate_as"])))
        elif step["type"] == "dag":
            step["dag_definition"] = draw(dags(level + 1, values))
    return {"start_at": names[0], "steps": {**steps, **ENDS}}


class Reference:
    """Goes through a pipeline as its format says."""

    def __init__(self, dag: dict[str, Any]) -> None:
        self.statuses: dict[str, str] = {}  #: of all steps that it came to, in the order in which they ended
        good, told = self._dag(dag, "", GIVEN, {})
        self.status, self.parameters = ("SUCCESS" if good else "FAIL"), {**GIVEN, **told}

    def _dag(self, dag: Any, before: str, known: Any, values: Any) -> tuple[bool, dict[str, Any]]:
        told: dict[str, Any] = {}
        step = dag["steps"][name := dag["start_at"]]
        while step["type"] not in ("success", "fail"):
            good, more = self._step(step, before + name, {**known, **told}, values)
            self.statuses[before + name] = "SUCCESS" if good else "FAIL"
            told |= more if good else {}
            name = step["next"] if good else step.get("on_failure", "bad")
            step = dag["steps"][name]
        self.statuses[before + name] = "SUCCESS"
        return step["type"] == "success", told

    def _step(self, step: Any, name: str, known: Any, values: Any) -> tuple[bool, dict[str, Any]]:
        if step["type"] == "task":
            function = eval(step["command"])
            try:
                return True, function(*(values[one] for one in function.__code__.co_varnames))
            except ZeroDivisionError:
                return False, {}
        ways = [
            self._dag(dag, f"{name}.{within}", known, own) for within, dag, own in self._within(step, known, values)
        ]
        told = {key: value for _, more in ways for key, value in more.items()}
        return all(good for good, _ in ways), told

    def _within(self, step: Any, known: Any, values: Any) -> Iterator[tuple[str, Any, Any]]:
        if step["type"] == "dag":
            yield "", step["dag_definition"], values
        for branch, dag in step.get("branches", {}).items():
            yield f"{branch}.", dag, values
        for value in known[step["iterate_on"]] if step["type"] == "map" else ():
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"{text}.", step["branch"], {**values, step["iterate_as"]: value}


def statuses(steps: dict[str, Any]) -> dict[str, str]:
    """Of all steps of a run log, those of branches included, in no order."""
    found = {name: step["status"] for name, step in steps.items()}
    for step in steps.values():
        for branch in step["branches"].values():
            found |= statuses(branch["steps"])
    return found


def as_told(log: dict[str, Any]) -> tuple[Any, ...]:
    return log["status"], log["parameters"], statuses(log["steps"])


def as_meant(reference: Reference) -> tuple[Any, ...]:
    return reference.status, reference.parameters, reference.statuses


@pytest.fixture
def carried_out(project):
    """A function that carries a DAG out in a new project, and returns the answer of each command."""
    numbers = iter(range(10_000))

    def carry_out(dag: dict[str, Any], *commands: tuple[str, ...]) -> list[Any]:
        root = project.root / f"project{next(numbers)}"
        (root / "chains").mkdir(parents=True)
        (root / "p.yaml").write_text(json.dumps({"dag": dag}))
        (root / "given.yaml").write_text(json.dumps(GIVEN))
        one = type(project)(root)
        answers = [one.nectar("execute", "-q", "--file", "p.yaml", "-p", "given.yaml", *words) for words in commands]
        shutil.rmtree(root)
        return answers

    return carry_out


@pytest.mark.parametrize("workers", ["1", "3"])
@settings(max_examples=settings().max_examples // 5, suppress_health_check=list(HealthCheck), deadline=None)
@given(dag=dags())
def test_in_one_go_it_goes_the_way_that_the_file_says(carried_out, workers, dag):
    [answer] = carried_out(dag, ("--workers", workers))
    wanted = Reference(dag)
    assert as_told(answer.json) == as_meant(wanted), answer
    assert answer.code == (0 if wanted.status == "SUCCESS" else 1)


@settings(max_examples=settings().max_examples // 10, suppress_health_check=list(HealthCheck), deadline=None)
@given(dag=dags())
def test_step_by_step_it_comes_to_the_same_end(carried_out, dag):
    wanted = Reference(dag)
    *_, last = carried_out(dag, *(("--run-id", "R", "--step", name) for name in wanted.statuses))
    assert as_told(last.json) == as_meant(wanted), last


ROUTES = """\
dag:
  start_at: a
  steps:
    a: {type: task, command_type: python-lambda, command: "lambda: 1/0", on_failure: b, next: ok}
    b: {type: task, command_type: python-lambda, command: "lambda: {'values': [1, 2]}", next: c}
    c: {type: task, command_type: python-lambda, command: "lambda: {'c': 1}", next: each}
    each:
      type: map
      iterate_on: values
      iterate_as: value
      next: ok
      branch:
        start_at: x
        steps:
          x: {type: task, command_type: python-lambda, command: "lambda value: {f'x{value}': 1}", next: y}
          y: {type: task, command_type: python-lambda, command: "lambda value: {f'y{value}': 1}", next: ok}
          ok: {type: success}
          bad: {type: fail}
    ok: {type: success}
    bad: {type: fail}
"""


def test_several_steps_after_a_failure_and_in_a_branch_that_a_step_set_are_done_by_workers(project):
    project.file("p.yaml", ROUTES)
    log = project.nectar("execute", "-q", "--file", "p.yaml", "--workers", "2").json
    assert log["status"] == "SUCCESS"
    assert log["parameters"] == {"values": [1, 2], "c": 1, "x1": 1, "y1": 1, "x2": 1, "y2": 1}


def test_a_step_is_found_where_values_of_its_map_begin_with_one_another(project):
    text = (
        ROUTES.replace("[1, 2]", "['a', 'a.b', '']").replace("{f'x{value}': 1}", "{}").replace("{f'y{value}': 1}", "{}")
    )
    project.file("p.yaml", text)
    values = ("a", "a.b", "")
    names = ("a", "b", "c", *(f"each.{value}.{step}" for value in values for step in "xy"), "each", "ok")
    words = ("execute", "-q", "--file", "p.yaml", "--run-id", "R", "--step")
    codes = {name: project.nectar(*words, name).code for name in names[:-1]}
    assert codes == {name: int(name == "a") for name in names[:-1]}
    log = project.nectar(*words, "ok").json
    assert list(log["steps"]["each"]["branches"]) == ["each.a", "each.a.b", "each."]
    assert "no step `each.a.z`" in project.nectar(*words, "each.a.z").failed(2).err
