"""`nectar explain` names what changed, from what to what, and how to silence it."""

from __future__ import annotations

import pytest

CHAIN = """
import luigi
import nectar
from chains.etl import rates

LIMIT = 10

class LoadTask(nectar.Task):
    day = luigi.IntParameter(default=1)
    version = "1"
    def run(self):
        self.dump(str(rates.rate(self.day) + LIMIT))

class ReportTask(nectar.Task):
    day = luigi.IntParameter(default=1)
    title = luigi.Parameter(default="plain")
    def requires(self):
        return LoadTask(day=self.day)
    def run(self):
        self.dump(self.title + self.input().load())
"""
RATES = '"""Rates."""\n\n\ndef rate(day):\n    """Return a rate."""\n    return 3 * day  # three\n'
REPORT = ("etl/rates_chain", "ReportTask")


@pytest.fixture
def rated(project):
    project.file("chains/etl/rates.py", RATES)
    project.chain("etl/rates_chain", CHAIN)
    return project


@pytest.fixture(scope="module")
def rated_pattern(pattern, tmp_path_factory):
    project = pattern.copy(tmp_path_factory.mktemp("rated") / "project")
    project.file("chains/etl/rates.py", RATES)
    project.chain("etl/rates_chain", CHAIN)
    project.make(*REPORT)
    return project


@pytest.fixture
def made(rated_pattern, tmp_path):
    return rated_pattern.copy(tmp_path / "project")


def explained(project, *words):
    """Return the explanations by task, as JSON."""
    answer = project.nectar("explain", "--json", *words)
    assert answer.code == 0, answer
    return {one["task"].rpartition("_chain.")[2].partition("(")[0]: one for one in answer.json}


def test_no_target(rated):
    found = explained(rated, *REPORT)
    assert list(found) == ["LoadTask", "ReportTask"]
    assert [reason["why"] for reason in found["LoadTask"]["reasons"]] == ["no target"]
    assert found["LoadTask"]["changes"] == []
    assert "no target" in rated.nectar("explain", *REPORT).out
    assert not rated.store.exists()


def test_nothing_to_explain_where_all_is_complete(made):
    answer = made.nectar("explain", *REPORT)
    assert (answer.code, answer.out) == (0, "all is complete: nothing would run\n")


def test_a_changed_parameter_old_and_new(made):
    found = explained(made, *REPORT, "--title", "grand")
    assert list(found) == ["ReportTask"]
    assert [(one["component"], one["old"], one["new"]) for one in found["ReportTask"]["changes"]] == [
        ("params.title", "plain", "grand")
    ]
    text = made.nectar("explain", *REPORT, "--title", "grand").out
    assert "parameter `title` changed" in text and "plain -> grand" in text
    assert found["ReportTask"]["compared_with"] in text


def test_a_changed_parameter_upstream_and_the_change_it_makes_downstream(made):
    found = explained(made, *REPORT, "--day", "2")
    assert [one["component"] for one in found["LoadTask"]["changes"]] == ["params.day"]
    changes = {one["component"]: one for one in found["ReportTask"]["changes"]}
    assert set(changes) == {"params.day", "inputs.0"}
    assert changes["inputs.0"]["task"] == "chains.etl.rates_chain.LoadTask(day=2)"
    assert changes["inputs.0"]["old"] != changes["inputs.0"]["new"]
    assert "LoadTask(day=2)" in made.nectar("explain", *REPORT, "--day", "2").out


def test_a_changed_version_and_the_upstream_change_it_makes(made):
    made.chain("etl/rates_chain", CHAIN.replace('version = "1"', 'version = "2"'))
    found = explained(made, *REPORT)
    [version] = found["LoadTask"]["changes"]
    assert (version["component"], version["old"], version["new"]) == ("version", "1", "2")
    [upstream] = found["ReportTask"]["changes"]
    assert upstream["component"] == "inputs.0"
    assert "version changed: 1 -> 2" in made.nectar("explain", *REPORT).out


def test_the_nearest_of_several_targets_is_compared(made):
    near = made.make(*REPORT, "--day", "2", "--title", "near")
    [change] = explained(made, *REPORT, "--day", "2", "--title", "nearer")["ReportTask"]["changes"]
    found = explained(made, *REPORT, "--day", "2", "--title", "nearer")["ReportTask"]
    assert (change["old"], change["new"]) == ("near", "nearer")
    assert found["compared_with"].endswith(near.name)


def test_drift_names_the_changed_helper_and_runs_nothing(made):
    made.file("chains/etl/rates.py", RATES.replace("3 * day", "4 * day"))
    load = ("etl/rates_chain", "LoadTask")
    found = explained(made, *load)["LoadTask"]
    assert found["action"] == "skip"
    assert ["rate" in part["name"] for part in found["drift"]] == [True]
    assert found["drift"][0]["kind"] == "changed"
    text = made.nectar("explain", *load).out
    assert "chains.etl.rates" in text and "rate" in text and "version" in text
    assert "nothing to do" in made.nectar("run", *load).err


def test_drift_names_a_changed_constant(made):
    made.chain("etl/rates_chain", CHAIN.replace("LIMIT = 10", "LIMIT = 11"))
    [part] = explained(made, "etl/rates_chain", "LoadTask")["LoadTask"]["drift"]
    assert "LIMIT" in part["name"]


def test_comments_docstrings_and_layout_are_no_drift(made):
    made.file("chains/etl/rates.py", RATES.replace("# three", "# 3").replace("Return a", "Give the"))
    made.chain("etl/rates_chain", CHAIN.replace("\n\n", "\n\n\n"))
    assert explained(made, *REPORT) == {}


def test_drift_that_reruns_is_a_reason_with_the_way_to_silence_it(made):
    made.file("chains/etl/rates.py", RATES.replace("3 * day", "4 * day"))
    answer = made.nectar("explain", "--json", "etl/rates_chain", "LoadTask", NECTAR_DRIFT="rerun")
    [one] = answer.json
    assert (one["action"], [reason["why"] for reason in one["reasons"]]) == ("run", ["drift"])
    assert "drift" in one["silence"]
    assert made.nectar("explain", "--json", "etl/rates_chain", "LoadTask", NECTAR_DRIFT="ignore").json == []


def test_a_leftover_names_the_way_to_adopt_it(made):
    (made.folder(*REPORT) / "record.json").unlink()
    found = explained(made, *REPORT)["ReportTask"]
    assert [reason["why"] for reason in found["reasons"]] == ["leftover"]
    assert "nectar adopt" in found["silence"]
    assert made.nectar("adopt", *REPORT).code == 0
    assert explained(made, *REPORT) == {}


def test_a_garbage_record_is_an_invalid_target(made):
    (made.folder(*REPORT) / "record.json").write_text("garbage")
    found = explained(made, *REPORT)["ReportTask"]
    assert [reason["why"] for reason in found["reasons"]] == ["invalid target"]
    assert "is not a record" in found["reasons"][0]["detail"]


def test_a_changed_input_file(project):
    project.chain(
        "etl/file_chain",
        """
        class CountTask(nectar.Task):
            def requires(self):
                return nectar.FileSource("data.csv")
            def run(self):
                self.dump(str(len(open(self.input().path).read())))
        """,
    )
    project.file("data.csv", "1,2\n")
    project.make("etl/file_chain", "CountTask")
    project.file("data.csv", "1,2\n3,4\n")
    found = explained(project, "etl/file_chain", "CountTask")["CountTask"]
    assert [one["component"] for one in found["changes"]] == ["inputs.0"]
    assert "data.csv" in project.nectar("explain", "etl/file_chain", "CountTask").out


def test_external_data_that_is_missing_blocks_and_says_so(project):
    project.chain(
        "etl/outside_chain",
        """
        class TableTask(luigi.ExternalTask):
            def output(self):
                return luigi.LocalTarget("not-there.csv")
        class CountTask(nectar.Task):
            def requires(self):
                return TableTask()
            def run(self):
                self.dump("x")
        """,
    )
    found = explained(project, "etl/outside_chain", "CountTask")
    assert {one["action"] for one in found.values()} == {"blocked"}
    answer = project.nectar("run", "etl/outside_chain", "CountTask")
    assert answer.code == 1
    assert "not-there.csv" in answer.err


def test_explain_and_plan_write_nothing(made):
    before = made.kept()
    for command in ("explain", "plan"):
        made.nectar(command, *REPORT, "--day", "9")
    assert made.kept() == before
