"""What a newcomer gets wrong is answered with one clear sentence and the fix."""

from __future__ import annotations

import pytest

MISTAKES = """
import os
import luigi
import nectar

class SilentTask(nectar.Task):
    def run(self):
        print("I wrote nothing")

class PartTask(nectar.Task):
    outputs = ["a.txt", "b.txt", "c.txt"]
    def run(self):
        self.dump("a", "a.txt")

class LinkTask(nectar.Task):
    def run(self):
        os.symlink("/etc/hostname", self.output().path)

class OpenTask(nectar.Task):
    def run(self):
        self.file = open(self.output().path, "w")

class PickleTask(nectar.Task):
    filename = "model.pickle"
    def run(self):
        self.dump([1])

class WhichTask(nectar.Task):
    outputs = ["a.txt", "b.txt"]
    def run(self):
        self.dump("a")

class CycleATask(nectar.Task):
    def requires(self):
        return CycleBTask()

class CycleBTask(nectar.Task):
    def requires(self):
        return {"c": [CycleCTask()]}

class CycleCTask(nectar.Task):
    def requires(self):
        return CycleATask()

class SelfishTask(nectar.Task):
    def requires(self):
        return [] if self.output().exists() else SilentTask()

class ClassTask(nectar.Task):
    def requires(self):
        return SilentTask

class VersionTask(nectar.Task):
    version = 1.5

class OneTask(luigi.Task):
    def output(self):
        return luigi.LocalTarget("shared.txt")
    def run(self):
        with self.output().open("w") as file:
            file.write("one")

class OtherTask(OneTask):
    pass

class BothTask(nectar.Task):
    def requires(self):
        return OneTask(), OtherTask()
    def run(self):
        self.dump("both")

class RequiresRaisesTask(nectar.Task):
    def requires(self):
        return [][1]

class OutputRaisesTask(nectar.Task):
    def output(self):
        return {}["no"]
"""
CHAIN = "etl/mistakes_chain"


@pytest.fixture
def mistaken(project):
    project.chain(CHAIN, MISTAKES)
    return project


def test_no_chains_folder_is_named_with_the_fix(tmp_path, project):
    (tmp_path / "empty").mkdir()
    for command in (["list"], ["run", "etl/daily_chain", "ReportTask"], ["plan", "etl/daily_chain", "ReportTask"]):
        project.nectar(*command, NECTAR_PROJECT=str(tmp_path / "empty")).failed(2, "chains", "NECTAR_PROJECT")
    assert list((tmp_path / "empty").iterdir()) == []
    answer = project.nectar("doctor", NECTAR_PROJECT=str(tmp_path / "empty"))
    assert answer.code == 2
    assert "chains" in answer.out


def test_a_project_without_chains_says_where_the_first_one_goes(project):
    (project.root / "chains/etl/daily_chain.py").unlink()
    answer = project.nectar("list")
    assert answer.code == 0
    assert "chains/<type>/<name>_chain.py" in answer.out


@pytest.mark.parametrize(
    ("words", "what", "meant"),
    [
        (["rnu"], "no command `rnu`", "`run`"),
        (["run", "etl/daly_chain", "ReportTask"], "no chain `etl/daly_chain`", "`etl/daily_chain`"),
        (["run", "daily_chain", "ReportTask"], "no chain `daily_chain`", "`etl/daily_chain`"),
        (["run", "etl/daily_chain", "ReprotTask"], "no task `ReprotTask` in `etl/daily_chain`", "`ReportTask`"),
        (["run", "etl/daily_chain", "report"], "no task `report` in `etl/daily_chain`", "`ReportTask`"),
        (["plan", "etl/daily_chain", "ReportTask", "--titel", "x"], "no parameter `titel`", "`title`"),
        (["list", "etl/daly_chain"], "no chain or chain type `etl/daly_chain`", "`etl/daily_chain`"),
    ],
    ids=["command", "chain", "chain without its type", "task", "task in other letters", "parameter", "listed chain"],
)
def test_an_unknown_name_is_answered_with_what_was_meant(project, words, what, meant):
    project.nectar(*words).failed(2, what, meant)


FORMS = ["etl/daily_chain", "etl/daily_chain.py", "chains/etl/daily_chain.py", "chains.etl.daily_chain"]


@pytest.mark.parametrize("form", FORMS)
def test_a_chain_may_be_named_as_path_file_or_module(made_project, form):
    assert "nothing to do" in made_project.nectar("run", form, "ReportTask").err


@pytest.mark.parametrize("command", ["verify", "status"])
def test_an_unknown_chain_is_never_an_empty_answer(made_project, command):
    made_project.nectar(command, "etl/daly_chain").failed(2, "did you mean")


def test_a_cycle_is_drawn(mistaken):
    answer = mistaken.nectar("run", CHAIN, "CycleATask").failed(2, "circle")
    drawn = [line.strip(" └─") for line in answer.err.splitlines() if "Cycle" in line]
    names = [line.rpartition(".")[2] for line in drawn]
    assert names == ["CycleATask()", "CycleBTask()", "CycleCTask()", "CycleATask()"]
    indents = [len(line) - len(line.lstrip()) for line in answer.err.splitlines() if "Cycle" in line]
    assert indents == sorted(set(indents))


def test_two_tasks_with_one_target_are_both_named(mistaken):
    mistaken.nectar("run", CHAIN, "BothTask").failed(2, "OneTask()", "OtherTask()", "shared.txt")
    assert not (mistaken.root / "shared.txt").exists()


@pytest.mark.parametrize(
    ("task", "fragments"),
    [
        ("SelfishTask", ["requires()", "own output", "counts_inputs = False"]),
        ("ClassTask", ["not a task", "pass an instance, not a class"]),
        ("VersionTask", ["1.5", 'version = "2"']),
    ],
)
def test_a_graph_that_cannot_be_is_refused_before_anything_runs(mistaken, task, fragments):
    mistaken.nectar("run", CHAIN, task).failed(2, *fragments)
    assert not mistaken.store.exists()


FAILURES = {
    "SilentTask": ("without writing its output `out.txt`", "self.output().path"),
    "PartTask": ("`b.txt`, `c.txt`", "self.output().path"),
    "LinkTask": ("`out.txt`, which is not a plain file", "not a link"),
    "OpenTask": ("`out.txt` open for writing", "close the file"),
    "PickleTask": ("pickle", "json"),
    "WhichTask": ("which output is meant", "its outputs are `a.txt`, `b.txt`"),
}


@pytest.mark.parametrize(("task", "sentence"), [(task, words[0]) for task, words in FAILURES.items()], ids=FAILURES)
def test_a_task_that_breaks_a_rule_fails_with_the_sentence_and_publishes_nothing(mistaken, task, sentence):
    answer = mistaken.nectar("run", CHAIN, task)
    assert (answer.code, answer.out) == (1, "")
    assert sentence in answer.err
    assert "Traceback" not in answer.err
    assert not mistaken.nectar("path", "--json", CHAIN, task).json["complete"]
    assert sentence.split("`")[0] in mistaken.nectar("logs", "--stderr", CHAIN, task).out


@pytest.mark.parametrize(("task", "fix"), [(task, words[1]) for task, words in FAILURES.items()], ids=FAILURES)
def test_a_task_that_breaks_a_rule_fails_with_the_fix(mistaken, task, fix):
    assert fix in mistaken.nectar("run", CHAIN, task).err


@pytest.mark.parametrize("task", ["RequiresRaisesTask", "OutputRaisesTask"])
@pytest.mark.parametrize("command", ["run", "plan"])
def test_what_requires_or_output_raises_is_one_sentence_with_file_and_line(mistaken, command, task):
    answer = mistaken.nectar(command, CHAIN, task)
    assert answer.code in (1, 2)
    assert answer.err.startswith("error: ")
    assert "mistakes_chain.py" in answer.err
    assert "nectar/plans.py" not in answer.err


def test_an_impossible_file_name_is_refused_before_anything_runs(project):
    project.chain("etl/name_chain", 'class BadTask(nectar.Task):\n    filename = "../out.txt"\n')
    answer = project.nectar("plan", "etl/name_chain", "BadTask")
    assert answer.code in (2, 3)
    assert "`../out.txt` cannot be the name of an output" in answer.err
    assert "hint: " in answer.err


def test_the_counts_of_a_plan_are_english(project):
    project.chain(
        "etl/outside_chain",
        "class TableTask(luigi.ExternalTask):\n    def output(self):\n"
        "        return luigi.LocalTarget('not-there.csv')\n",
    )
    assert "to blocked" not in project.nectar("plan", "etl/outside_chain", "TableTask").out
