"""What a pipeline file has to be: each fault with its line, all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from nectar import errors
from nectar.pipeline.faults import MOST_SOUGHT
from nectar.pipeline.model import CatalogWish, CommandType, NodeType
from nectar.pipeline.reading import pipeline_in, read_pipeline

GETTING_STARTED = """\
dag:
  description: Getting started
  start_at: step parameters
  steps:
    step parameters:
      type: task
      command_type: python-lambda
      command: "lambda x: {'x': int(x) + 1}"
      next: step shell
    step shell:
      type: task
      command_type: shell
      command: mkdir data ; env >> data/data.txt # For Linux/macOS
      next: success
      catalog:
        put:
          - "*"
    success:
      type: success
    fail:
      type: fail
"""


def faults_of(text: str) -> list[tuple[int | None, str]]:
    with pytest.raises(errors.PipelineInvalid) as caught:
        pipeline_in(text.encode(), "p.yaml")
    return [(fault.line, f"{fault.message}; {fault.hint}") for fault in caught.value.faults]


def test_the_getting_started_pipeline_has_the_digest_that_magnus_printed(tmp_path: Path) -> None:
    path = tmp_path / "getting-started.yaml"
    path.write_text(GETTING_STARTED, "utf-8")
    pipeline = read_pipeline(path)
    assert pipeline.name == "getting-started"
    assert pipeline.dag.digest == "ce0676d63e99c34848484f2df1744bab8d45e33a"  # as magnus has it, of the same file
    assert list(pipeline.dag.nodes) == ["step parameters", "step shell", "success", "fail"]
    node = pipeline.dag.nodes["step shell"]
    assert (node.type, node.command_type, node.line, node.next) == (NodeType.TASK, CommandType.SHELL, 10, "success")
    assert node.command == "mkdir data ; env >> data/data.txt"
    assert node.catalog == CatalogWish(put=("*",))


STEPS = """\
dag:
  start_at: a
  steps:
    a: {type: task, command: m.f, next: ok}
    ok: {type: success}
    bad: {type: fail}
"""
A = "    a: {type: task, command: m.f, next: ok}\n"
OK = "    ok: {type: success}\n"
BAD = "    bad: {type: fail}\n"
INNER = "{start_at: u, steps: {u: {type: task, command: m.f, next: v}, v: {type: success}, w: {type: fail}}}"


def step(inner: str) -> str:
    """Return a DAG whose first step, in line 4, is of this content."""
    return STEPS.replace(A, f"    a: {{{inner}}}\n")


def task(inner: str) -> str:
    return step(f"type: task, next: ok, {inner}")


GOOD = {
    "task": STEPS,
    "every key of the dag": STEPS.replace(
        "dag:\n",
        "dag:\n  description: ''\n  max_time: 3\n  schedule: '@daily'\n  mode_config: {local: {a: 1}}\n",
    ),
    "every key of a task": task(
        "command: m.f, command_type: python, command_config: {any: [1, null]}, retry: 3, on_failure: bad,"
        " mode_config: {}, catalog: {compute_data_folder: data, get: ['*', a/b.csv], put: []}"
    ),
    "lambda": task("command_type: python-lambda, command: 'lambda x, *y: {}'"),
    "lambda in parentheses": task("command_type: python-lambda, command: '(lambda: 1)'"),
    "shell": task("command_type: shell, command: 'a | b'"),
    "notebook": task("command_type: notebook, command: x/y.ipynb"),
    "parallel": step(f"type: parallel, next: ok, branches: {{x y: {INNER}, z: {INNER}}}"),
    "map": step(f"type: map, next: ok, iterate_on: xs, iterate_as: größe, branch: {INNER}"),
    "dag": step(f"type: dag, next: ok, dag_definition: {INNER}"),
    "as-is": step("type: as-is, next: ok, render_string: x, command: y"),
    "as-is without a string": step("type: as-is, next: ok"),
    "only a success": STEPS.replace(A, "").replace("start_at: a", "start_at: ok"),
    "services": STEPS + "executor: {type: local}\nsecrets: {type: dotenv, config: {location: x}}\n",
    "a fail step that is reached": step("type: task, command: m.f, next: bad, on_failure: ok"),
}

#: name -> file, line, a fragment of the fault, whether a schema can tell
BAD_FILES = {
    "empty": ("", 1, "the file is empty", True),
    "a list": ("[]", 1, "no mapping", True),
    "no dag": ("executor: {type: local}", 1, "has no `dag`", True),
    "unknown key of the file": (STEPS + "dags: 1\n", 7, "unknown key `dags`", True),
    "unknown section": (STEPS + "catalogue: {}\n", 7, "did you mean `catalog`?", True),
    "unknown service": (STEPS + "catalog: {type: s3}\n", 7, "do-nothing, file-system, store", True),
    "unknown key of a service": (STEPS + "catalog: {type: store, folder: x}\n", 7, "unknown key `folder`", True),
    "service without type": (STEPS + "catalog: {config: {}}\n", 7, "`catalog` has no `type`", True),
    "unknown key of the dag": (STEPS.replace("  steps", "  step: 1\n  steps"), 3, "unknown key `step`", True),
    "dag no mapping": ("dag: 3", 1, "`dag` is a whole number", True),
    "description no text": (STEPS.replace("dag:\n", "dag:\n  description: 3\n"), 2, "quote it", True),
    "max_time zero": (STEPS.replace("dag:\n", "dag:\n  max_time: 0\n"), 2, "`max_time` is 0", True),
    "schedule no text": (STEPS.replace("dag:\n", "dag:\n  schedule: [x]\n"), 2, "`schedule` is a list", True),
    "no start_at": (STEPS.replace("  start_at: a\n", ""), 1, "has no `start_at`", True),
    "unknown start_at": (STEPS.replace("at: a", "at: b"), 2, "`start_at` names `b`", False),
    "no steps": ("dag: {start_at: a}", 1, "has no `steps`", True),
    "empty steps": ("dag:\n  start_at: a\n  steps: {}", 3, "`steps` is empty", True),
    "no success": (
        STEPS.replace(OK, "").replace("next: ok", "next: bad"),
        3,
        "no step is of the type `success`",
        False,
    ),
    "two successes": (STEPS + "    too: {type: success}\n", 7, "`ok` and `too` are both", False),
    "no fail": (STEPS.replace(BAD, ""), 3, "no step is of the type `fail`", False),
    "two fails": (STEPS + "    worse: {type: fail}\n", 7, "`bad` and `worse` are both", False),
    "step no mapping": (STEPS.replace(A, "    a: m.f\n"), 4, "`a` is a text, and has to be a step", True),
    "step without type": (step("command: m.f, next: ok"), 4, "has no `type`", True),
    "unknown type": (step("type: tasks, command: m.f, next: ok"), 4, "did you mean `task`?", True),
    "no next": (step("type: task, command: m.f"), 4, "has no `next`", True),
    "unknown next": (STEPS.replace("next: ok", "next: okay"), 4, "did you mean `ok`?", False),
    "unknown on_failure": (task("command: m.f, on_failure: x"), 4, "`on_failure` names `x`", False),
    "next no text": (step("type: task, command: m.f, next: [ok]"), 4, "`next` is a list", True),
    "unknown key of a step": (step("type: task, command: m.f, nxt: ok"), 4, "did you mean `next`?", True),
    "key of another type": (task("command: m.f, branches: {}"), 4, "unknown key `branches`", True),
    "success with next": (STEPS.replace(OK, "    ok: {type: success, next: bad}\n"), 5, "unknown key `next`", True),
    "fail with on_failure": (STEPS.replace(BAD, "    bad: {type: fail, on_failure: ok}\n"), 6, "`on_failure`", True),
    "circle": (STEPS.replace("next: ok", "next: a"), 4, "a -> a", False),
    "circle by on_failure": (
        task("command: m.f, on_failure: b") + "    b: {type: as-is, next: a}\n",
        4,
        "a -> b -> a",
        False,
    ),
    "out of the way": (STEPS + "    b: {type: as-is, next: ok}\n", 7, "no way leads to the step `b`", False),
    "dot in a name": (STEPS.replace("ok", "o.k"), 5, "has a `.` in it", True),
    "percent in a name": (STEPS.replace("ok", "o%k"), 5, "has a `%` in it", True),
    "empty name": (STEPS.replace("a:", "'':").replace("at: a", "at: ok"), 4, "empty name", True),
    "name of two lines": (STEPS + '    "x\\ny": {type: as-is, next: ok}\n', 7, "breaks a line", True),
    "branch with a dot": (step(f"type: parallel, next: ok, branches: {{x.y: {INNER}}}"), 4, "of a branch", True),
    "retry zero": (task("command: m.f, retry: 0"), 4, "`retry` is 0", True),
    "retry true": (task("command: m.f, retry: true"), 4, "`retry` is a truth value", True),
    "retry text": (task("command: m.f, retry: '3'"), 4, "`retry` is a text", True),
    "no command": (step("type: task, next: ok"), 4, "has no `command`", True),
    "command no text": (task("command: 3"), 4, "`command` is a whole number", True),
    "blank command": (task("command: ' '"), 4, "empty text", True),
    "unknown command type": (task("command: m.f, command_type: bash"), 4, "python-lambda, shell", True),
    "command config no mapping": (task("command: m.f, command_config: x"), 4, "`command_config` is a text", True),
    "function without a dot": (task("command: f"), 4, "write `module.function`", True),
    "function with a blank": (task("command: m.f x"), 4, "`command_type: shell`", True),
    "function with a keyword's sign": (task("command: m.f-x"), 4, "no dotted name", False),
    "lambda as function": (task("command: 'lambda x: x.y'"), 4, "`command_type: python-lambda`", True),
    "notebook as function": (task("command: x/y.ipynb"), 4, "`command_type: notebook`", False),
    "no lambda": (task("command_type: python-lambda, command: m.f"), 4, "is no lambda", True),
    "no python": (task("command_type: python-lambda, command: 'lambda x:'"), 4, "no Python", False),
    "a call of a lambda": (task("command_type: python-lambda, command: '(lambda: 1)()'"), 4, "no lambda", False),
    "no notebook": (task("command_type: notebook, command: y.py"), 4, "ends in `.ipynb`", True),
    "catalog a list": (task("command: m.f, catalog: ['*']"), 4, "`catalog` is a list", True),
    "unknown key of a catalog": (task("command: m.f, catalog: {puts: []}"), 4, "did you mean `put`?", True),
    "catalog put a text": (task("command: m.f, catalog: {put: '*'}"), 4, "`put` is a text", True),
    "catalog put a number": (task("command: m.f, catalog: {put: [3]}"), 4, "`put` is a whole number", True),
    "catalog get out": (task("command: m.f, catalog: {get: [a/../../b]}"), 4, "leads out of", True),
    "catalog folder absolute": (task("command: m.f, catalog: {compute_data_folder: /etc}"), 4, "leads out of", True),
    "parallel without branches": (step("type: parallel, next: ok"), 4, "has no `branches`", True),
    "parallel with no branch": (step("type: parallel, next: ok, branches: {}"), 4, "`branches` is empty", True),
    "branch no dag": (step("type: parallel, next: ok, branches: {x: }"), 4, "`x` is empty", True),
    "fault in a branch": (
        step(f"type: parallel, next: ok, branches: {{x: {INNER}, y: {INNER.replace('next: v', 'next: z')}}}"),
        4,
        "`next` names `z`",
        False,
    ),
    "iterate_as": (step(f"type: map, next: ok, iterate_on: xs, iterate_as: a-b, branch: {INNER}"), 4, "`a-b`", True),
    "iterate_on": (step(f"type: map, next: ok, iterate_on: 3x, iterate_as: x, branch: {INNER}"), 4, "`3x`", True),
    "map without branch": (step("type: map, next: ok, iterate_on: xs, iterate_as: x"), 4, "no `branch`", True),
    "dag without definition": (step("type: dag, next: ok"), 4, "no `dag_definition`", True),
    "definition a text": (step("type: dag, next: ok, dag_definition: x.yaml"), 4, "`dag_definition` is a text", True),
    "render_string no text": (step("type: as-is, next: ok, render_string: 3"), 4, "`render_string`", True),
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_what_is_right_is_taken(text: str) -> None:
    dag = pipeline_in(text.encode(), "p.yaml").dag
    assert dag.nodes[dag.success].type is NodeType.SUCCESS and dag.nodes[dag.fail].type is NodeType.FAIL


@pytest.mark.parametrize(("text", "line", "fragment", "_told"), BAD_FILES.values(), ids=BAD_FILES)
def test_what_is_wrong_is_told_once_with_its_line(text: str, line: int, fragment: str, _told: bool) -> None:
    [(found, message)] = faults_of(text)
    assert found == line and fragment in message


def nested(levels: int) -> str:
    inner = INNER
    for _ in range(levels - 2):
        inner = (
            "{start_at: u, steps: {u: {type: dag, dag_definition: " + inner + ", next: v}, v: {type: success}, "
            "w: {type: fail}}}"
        )
    return step(f"type: dag, next: ok, dag_definition: {inner}")


def test_sixteen_dags_may_lie_in_each_other_and_no_more() -> None:
    assert pipeline_in(nested(16).encode(), "p.yaml").dag.nodes["a"].branch is not None
    [(line, message)] = faults_of(nested(17))
    assert line == 4 and "more than 16 DAGs" in message


def test_all_faults_are_told_at_once_by_line_those_of_branches_too() -> None:
    text = """\
dag:
  start_at: b
  max_time: never
  steps:
    a: {type: task, comand: m.f, next: a}
    p.q:
      type: parallel
      next: ok
      branches:
        x:
          start_at: u
          steps:
            u: {type: task, command: f, next: v, retry: 0}
            v: {type: success}
    ok: {type: success}
    ok2: {type: success}
exekutor: {type: local}
"""
    lines = [line for line, _ in faults_of(text)]
    assert lines == [2, 3, 4, 5, 5, 6, 12, 13, 13, 16, 17]


def test_a_fault_is_one_line_that_an_editor_can_jump_to() -> None:
    with pytest.raises(errors.PipelineInvalid) as caught:
        pipeline_in(STEPS.replace("next: ok", "next: okay").encode(), "some/p.yaml")
    [_, line] = caught.value.message.splitlines()
    assert line == "some/p.yaml:4: `next` names `okay`, and no step has this name; did you mean `ok`?"
    back = errors.from_json(caught.value.to_json())
    assert isinstance(back, errors.PipelineInvalid) and back.faults == caught.value.faults


def test_a_long_name_does_not_flood_the_screen() -> None:
    [(_, message)] = faults_of(STEPS.replace("next: ok", f"next: {'x' * 10_000}"))
    assert len(message) < 300


def test_circles_are_drawn_one_by_one_and_a_long_one_in_short() -> None:
    ring = [f"    s{n}: {{type: as-is, next: s{(n + 1) % 9000}, on_failure: ok}}\n" for n in range(9000)]
    pair = ["    x: {type: as-is, next: y}\n", "    y: {type: as-is, next: x}\n"]
    text = STEPS.replace(A, "".join(ring + pair)).replace("start_at: a", "start_at: s0")
    [(first, long), (second, short)] = faults_of(text)
    assert (first, second) == (4, 9004)
    assert "s0 -> s1 -> " in long and "more) -> " in long and len(long) < 300
    assert "x -> y -> x" in short


def test_near_names_are_looked_for_so_often_and_no_more_in_a_file_of_thousands_of_faults() -> None:
    steps = "".join(f"    s{n}: {{type: as-is, nxt: ok}}\n" for n in range(5000))
    found = faults_of(STEPS.replace(A, steps).replace("start_at: a", "start_at: S0"))
    near = [message for _, message in found if "did you mean" in message]
    assert len(found) > 5000 and len(near) == MOST_SOUGHT + 1
    assert "`S0`" in near[0] and "did you mean `s0`?" in near[0]  # of case alone: that costs nothing
