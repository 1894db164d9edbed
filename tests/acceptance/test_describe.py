"""`nectar describe` and `nectar diff` of descriptions, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nectar.description import Dag

CHAIN = """
import luigi
import nectar
from luigi.parameter import ParameterVisibility


class PlainTask(luigi.Task):
    n = luigi.IntParameter()
    word = luigi.Parameter(visibility=ParameterVisibility.PRIVATE)

    def output(self):
        return luigi.LocalTarget(f"plain-{self.n}.txt")

    def run(self):
        with self.output().open("w") as file:
            file.write("plain")


class LoadTask(nectar.Task):
    month = luigi.IntParameter()
    version = "2"
    outputs = ["a.txt", "b.txt"]

    def requires(self):
        return {"words": nectar.FileSource("words.txt"), "plain.one": PlainTask(n=self.month, word="canary-1")}

    def run(self):
        for target in self.output():
            with target.open("w") as file:
                file.write("x")


class SecretTask(nectar.Task):
    word = luigi.Parameter(visibility=ParameterVisibility.PRIVATE)

    def run(self):
        self.dump("x")


class ReportTask(nectar.Task):
    month = luigi.IntParameter(default=3)
    title = luigi.Parameter(default="ü" * 100)

    def requires(self):
        return [LoadTask(month=self.month), SecretTask(word="canary-2"), SecretTask(word="canary-3")]

    def run(self):
        self.dump("done")
"""


@pytest.fixture
def told(project):
    project.chain("etl/told_chain", CHAIN)
    project.file("words.txt", "some words\n")
    return project


def test_the_ids_of_a_description_are_those_of_the_targets(told):
    described = told.nectar("describe", "etl/told_chain", "ReportTask").json
    assert told.nectar("run", "etl/told_chain", "ReportTask").code == 0
    records = [json.loads(path.read_bytes()) for path in told.store.rglob("record.json")]
    tasks = {task["output"]: task for task in described["tasks"].values()}
    assert len(records) == 4 and len(tasks) == 6  # beside them the input file and luigi's own task
    for record in records:
        task = tasks[record["output_id"]]
        assert {key: value for key, value in task.items() if key != "output"} == record["identity"]
    [root] = described["meta"]["roots"]
    assert root.startswith("chains.etl.told_chain.ReportTask(month=3, title=üüü")
    assert set(described["tasks"][root]["inputs"]) == {"0", "1", "2"}


def test_a_description_shows_nothing_private_and_no_folder(told):
    answer = told.nectar("describe", "etl/told_chain", "ReportTask")
    assert "canary" not in answer.out and str(told.root) not in answer.out
    names = [name for name in answer.json["tasks"] if "SecretTask" in name]
    assert len(names) == 2 and all("SecretTask(word=******) " in name for name in names)


def test_bencode_and_json_of_a_chain_are_one_description_that_is_read_back_byte_for_byte(told):
    for words in (("--bencode", "etl/told_chain", "ReportTask"), ("etl/told_chain", "ReportTask", "--bencode")):
        environment = told.environment(PYTHONHASHSEED=str(len(words[0])))
        raw = _bytes(told, words, environment)
        dag = Dag.decode(raw)
        assert dag.bencode() == raw
        assert dag.json() == told.nectar("describe", "etl/told_chain", "ReportTask").out


def _bytes(project, words, environment) -> bytes:
    path = project.root / "raw"
    with path.open("wb") as file, project.started("describe", *words, stdout=file, variables=environment) as process:
        assert process.wait(60) == 0
    return path.read_bytes()


def test_a_description_is_json_or_bencode_and_not_both(told):
    told.nectar("describe", "--json", "--bencode", "etl/told_chain", "ReportTask").failed(2, "not both")


def saved(project, name: str, *words: str) -> Path:
    return project.file(name, project.nectar("describe", *words).out)


def test_a_diff_of_two_files_lists_what_changed_and_what_will_be_remade(told):
    saved(told, "march.json", "etl/told_chain", "ReportTask")
    saved(told, "april.json", "etl/told_chain", "ReportTask", "--month", "4")
    answer = told.nectar("diff", "march.json", "april.json")
    assert answer.code == 0, answer
    lines = answer.out.splitlines()
    assert any("LoadTask(month=4)  params.month: 3 -> 4" in line for line in lines), lines
    assert [line.split("Task(")[0] for line in lines if line.startswith("remade")] == [
        "remade  chains.etl.told_chain.Plain".replace("chains.etl.told_chain.", "etl/told_chain "),
        "remade  etl/told_chain Load",
        "remade  etl/told_chain Report",
    ]
    assert told.nectar("diff", "march.json", "march.json").out == "no difference\n"


def test_a_file_is_compared_with_what_a_chain_is_now(told):
    saved(told, "before.json", "etl/told_chain", "ReportTask")
    words = ("diff", "--json", "before.json", "etl/told_chain", "ReportTask")
    assert told.nectar(*words).json == {"changes": [], "remade": []}
    told.chain("etl/told_chain", CHAIN.replace('version = "2"', 'version = "3"'))
    found = told.nectar(*words).json
    [change] = found["changes"]
    assert change == {"of": "chains.etl.told_chain.LoadTask(month=3)", "what": "version", "first": "2", "second": "3"}
    assert [one["since"] for one in found["remade"]] == [["version"], [change["of"]]]


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("a.json",), "nothing to compare `a.json` with"),
        (("a.json", "missing.json"), "`missing.json` cannot be read: no such file"),
        (("a.json", "etl/told_chain"), "`etl/told_chain` cannot be read"),
        (("etl/told_chain", "ReportTask", "a.json"), "the file first"),
        (("20261120T202757", "a.json"), "the file first"),
        (("bad.dag", "a.json"), "`bad.dag` is no description"),
        (("a.json", "etl/told_chain", "ReportTsk"), "did you mean `ReportTask`"),
    ],
)
def test_what_cannot_be_compared_is_a_usage_error(told, words, fragment):
    Dag().save(told.root / "a.json")
    told.file("bad.dag", "d4:meta")
    told.nectar("diff", *words).failed(2, fragment)
