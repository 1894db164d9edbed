"""What a chain is rendered to: golden files to read, Argo's own schema, and what is refused."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import luigi
import pytest
import yaml
from luigi.parameter import ParameterVisibility

import nectar
from nectar import errors
from nectar.export import airflow, argo, bash, step_functions
from nectar.export.chains import chain_work
from nectar.export.targets import TARGETS, render_chain
from nectar.export.work import ChainWork, Node
from nectar.selection import select

GOLDEN = Path(__file__).with_name("golden")
SCHEMA = json.loads(Path(__file__).with_name("argo.schema.json").read_text("utf-8"))
ODD = ["$(id)", "{{7*7}}", "{{{{=x}}}}", 'it\'s "q"', "a\nb", "-rf", "--help", "%(x)s {0}", "$$ ${HOME} `id`"]
ODD += ["é日", "\\n", "*", "a]b[c", ""]


class LoadTask(nectar.Task):
    day = luigi.IntParameter()
    word = luigi.Parameter(default="plain")
    priority = 3


class CleanTask(nectar.Task):
    word = luigi.Parameter(default="plain")

    def requires(self):
        return [LoadTask(day=day, word=self.word) for day in (1, 2)]


class CountTask(nectar.Task):
    def requires(self):
        return LoadTask(day=1)


class ReportTask(nectar.Task):
    word = luigi.Parameter(default="plain")
    loud = luigi.BoolParameter()

    def requires(self):
        return {"clean": CleanTask(word=self.word), "count": CountTask()}


def work_of(*tasks: luigi.Task, warnings: Sequence[str] = ()) -> ChainWork:
    return chain_work([("etl/daily_chain", type(task).__name__, task) for task in tasks], warnings)


def text_of(target: str, work: ChainWork) -> str:
    return render_chain(work, TARGETS[target]).text


@pytest.mark.parametrize("target", TARGETS)
def test_a_chain_is_rendered_as_the_golden_file_has_it(target):
    made = render_chain(work_of(ReportTask(), warnings=["a warning"]), TARGETS[target])
    place = GOLDEN / f"chain{TARGETS[target].suffix}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        place.write_text(made.text, "utf-8")
    assert made.text == place.read_text("utf-8")
    assert made.nodes == 5


def test_each_selection_means_its_task_alone():
    root = ReportTask()
    found = select([root], "*")
    work = work_of(root)
    assert len(work.nodes) == len(found.refs)
    for node, ref in zip(work.nodes, found.refs, strict=True):
        assert select([root], node.select).refs == (ref,)
    assert [node.name for node in work.nodes] == [
        "load-task-day-1",
        "load-task-day-2",
        "clean-task",
        "count-task",
        "report-task",
    ]
    assert work.nodes[2].needs == ("load-task-day-1", "load-task-day-2")


class WordTask(nectar.Task):
    word = luigi.Parameter()


class WordsTask(nectar.Task):
    def requires(self):
        return [
            WordTask(word=word) for word in (*ODD, "a(b", "c)d", "x, word=y", " edge ", "edge", "[ab]", "a", "{x", "x}")
        ]


def test_tasks_with_odd_values_are_told_apart():
    root = WordsTask()
    found = select([root], "*")
    for node, ref in zip(work_of(root).nodes, found.refs, strict=True):
        assert select([root], node.select).refs == (ref,), node.select


@pytest.mark.parametrize("word", ODD)
def test_a_value_arrives_as_data_in_every_engine(word, tmp_path):
    work = work_of(CleanTask(word=word))
    wanted = [f"--word={word}"]

    spy = tmp_path / "spy"
    spy.write_text('#!/bin/sh\nfor one; do printf "%s\\0" "$one"; done >> "$SPY_FILE"\n')
    spy.chmod(0o755)
    environ = {**os.environ, "NECTAR": str(spy), "SPY_FILE": str(tmp_path / "said")}
    done = subprocess.run(["bash", "-c", text_of("bash", work)], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "said").read_text("utf-8").split("\0")
    assert said[5:6] == wanted and said.count(wanted[0]) == 3

    manifest = yaml.safe_load(text_of("argo", work))
    node = manifest["spec"]["templates"][1]
    args = node["container"]["args"]
    assert "{{" not in args[-1]
    assert kubernetes_expands(args[-1], {"NECTAR_BRACE": "{"}) == wanted[0]

    machine = json.loads(text_of("step-functions", work))
    words = machine["States"]["clean-task"]["Parameters"]["MessageBody"]["words"]
    assert words[-1:] == wanted

    assigned = {
        one.targets[0].id: one.value
        for one in ast.parse(text_of("airflow", work)).body
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)
    }
    assert ast.literal_eval(assigned["WORDS"])[-1:] == wanted


def kubernetes_expands(text: str, variables: dict[str, str]) -> str:
    """Return what Kubernetes makes of an argument: `$$` is a dollar, `$(NAME)` the variable, if there is one."""
    made, position = "", 0
    while position < len(text):
        if text.startswith("$$", position):
            made, position = made + "$", position + 2
        elif text.startswith("$(", position) and ")" in text[position:]:
            end = text.index(")", position)
            name = text[position + 2 : end]
            made, position = made + variables.get(name, text[position : end + 1]), end + 1
        else:
            made, position = made + text[position], position + 1
    return made


def test_the_manifest_is_what_argos_own_types_say():
    manifest = yaml.safe_load(text_of("argo", work_of(ReportTask(word="{{x}}"))))
    jsonschema.validate(manifest, SCHEMA)
    manifest["spec"]["templates"][0]["dag"]["tasks"][0]["dependson"] = []
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, SCHEMA)


def test_comments_cannot_be_left_by_a_line_break():
    made = bash.comments(["one\nrm -rf everything\rtwo\u2028three", "", "four"])
    assert made.splitlines() == ["# one", "# rm -rf everything", "# two", "# three", "# ", "# four"]
    work = work_of(CleanTask(word="x\nassert False\rassert False"))
    assert "assert False" not in [line.strip() for line in text_of("airflow", work).splitlines()]


class SecretTask(nectar.Task):
    token = luigi.Parameter(default="none", visibility=ParameterVisibility.PRIVATE)


class ShownTask(nectar.Task):
    def requires(self):
        return [SecretTask(token="hunter2"), SecretTask(token="hunter3")]


class LateTask(nectar.Task):
    catches_failures = True


def test_what_cannot_be_rendered_is_refused_with_every_reason_and_no_secret():
    with pytest.raises(errors.NotRenderable) as refused:
        work_of(SecretTask(token="hunter2"), LateTask())
    assert "`token` of `SecretTask` is private" in refused.value.message
    assert "goes on where what it needs has failed" in refused.value.message
    with pytest.raises(errors.NotRenderable, match="no selection tells these from others") as alike:
        work_of(ShownTask())
    assert "hunter" not in str(refused.value) + str(alike.value)
    assert "--token" not in text_of("bash", work_of(SecretTask()))


def test_what_nobody_makes_is_no_node(tmp_path):
    place = tmp_path / "input.csv"
    place.write_text("1")

    class ReadTask(nectar.Task):
        def requires(self):
            return nectar.FileSource(path=str(place))

    assert [node.name for node in work_of(ReadTask()).nodes] == ["read-task"]
    with pytest.raises(errors.NotRenderable, match="nothing of it is made by a task"):
        work_of(nectar.FileSource(path=str(place)))


def made_up(count: int, words: tuple[str, ...] = ("etl/x_chain", "XTask")) -> ChainWork:
    told = [f"XTask(n={number})" for number in range(count)]
    nodes = (Node(f"task-{number}", f"chains.etl.x_chain.{one}", one, ()) for number, one in enumerate(told))
    return ChainWork("many", words, tuple(nodes))


def test_what_an_engine_could_not_take_is_refused():
    for target, most in (("argo", 20_000), ("step-functions", 3_001)):
        with pytest.raises(errors.NotRenderable, match=f"too large: .*{target} takes"):
            render_chain(made_up(most), TARGETS[target])
    with pytest.raises(errors.NotRenderable, match="250,000 bytes a node"):
        render_chain(made_up(1, ("x", "y", "--word=" + "x" * 300_000)), TARGETS["step-functions"])


@pytest.mark.parametrize("target", TARGETS)
def test_a_thousand_nodes_are_no_trouble(target):
    assert render_chain(made_up(1000), TARGETS[target]).nodes == 1000


def state_machine(**edges: Sequence[str]) -> dict[str, Any]:
    nodes = tuple(Node(name, name, name, tuple(needs)) for name, needs in edges.items())
    machine: dict[str, Any] = json.loads(step_functions.chain(ChainWork("t", ("c", "t"), nodes)))
    return machine


def test_a_state_comes_after_all_that_it_needs():
    machine = state_machine(a=(), b=("a",), c=("a",), d=("b",), e=("c", "d"))
    way, name = [], machine["StartAt"]
    while name:
        state = machine["States"][name]
        way.append(sorted(one["StartAt"] for one in state["Branches"]) if "Branches" in state else [name])
        name = state.get("Next")
    assert way == [["a"], ["b", "c"], ["d"], ["e"]]


def test_every_end_is_on_the_last_level_and_each_decides():
    machine = state_machine(a=(), early=(), b=("a",), c=("b",))
    last = machine["States"]["level 3"]
    assert sorted(one["StartAt"] for one in last["Branches"]) == ["c", "early"]
    assert last["Next"] == "all ends" and machine["States"]["all made?"]["Choices"][0]["Next"] == "not all made"


def test_the_words_of_a_script_are_read_back_by_a_shell():
    text = bash.chain(work_of(CleanTask(word="it's")))
    words = next(line for line in text.splitlines() if line.startswith("words=("))
    assert shlex.split(words[len("words=(") : -1]) == ["etl/daily_chain", "CleanTask", "--word=it's"]


def test_the_source_of_a_dag_is_ascii_and_compiles():
    text = airflow.chain(work_of(CleanTask(word="é日")))
    compile(text, "dag.py", "exec")
    assert text.isascii() or all(line.lstrip().startswith("#") for line in text.splitlines() if not line.isascii())


def test_braces_that_follow_each_other_leave_no_template():
    for text in ("{{", "{{{", "{{{{", "}}{{"):
        assert "{{" not in argo.literal(text)
        assert kubernetes_expands(argo.literal(text), {"NECTAR_BRACE": "{"}) == text
