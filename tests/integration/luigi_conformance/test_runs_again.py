"""What a second run makes: only what is missing, what changed, and what stands on it."""

from __future__ import annotations

import json
from typing import Any

import pytest

STEPS = """
    from pathlib import Path

    import nectar


    class Step1Task(nectar.Task):
        def run(self):
            self.dump("1")


    class Step2Task(nectar.Task):
        def requires(self):
            return Step1Task()

        def run(self):
            self.dump(self.input().load() + " 2")


    class Step3Task(nectar.Task):
        def requires(self):
            return Step2Task()

        def run(self):
            raise RuntimeError("a bug")


    class Step4Task(nectar.Task):
        def requires(self):
            return Step3Task()

        def run(self):
            self.dump(self.input().load() + " 4")


    class Step5Task(nectar.Task):
        def requires(self):
            return Step4Task()

        def run(self):
            self.dump(self.input().load() + " 5")
"""

CODE = """
    import luigi

    import nectar

    WORD = "old"


    class Base(nectar.Task):
        def run(self):
            self.dump(WORD)


    class IgnoreTask(Base):
        drift = "ignore"


    class WarnTask(Base):
        drift = "warn"


    class RerunTask(Base):
        drift = "rerun"


    class DefaultTask(Base):
        pass


    class CodeTask(Base):
        version = nectar.CODE


    class AboveCodeTask(nectar.Task):
        def requires(self):
            return CodeTask()

        def run(self):
            self.dump("above " + self.input().load())


    class AllTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [IgnoreTask(), WarnTask(), RerunTask(), DefaultTask(), AboveCodeTask()]
"""

SMALL = """
    import luigi

    import nectar


    class NumberTask(nectar.Task):
        n = luigi.IntParameter(default=1)
        loud = luigi.BoolParameter(significant=False)

        def run(self):
            self.dump(str(self.n))


    class ForeignTask(nectar.Task):
        def output(self):
            return luigi.LocalTarget("foreign.txt")

        def run(self):
            with self.output().open("w") as file:
                file.write(f"by {self._nectar.identity.key}")


    class MixedTask(nectar.Task):
        def output(self):
            return [self.target("own.txt"), luigi.LocalTarget("mixed.txt")]

        def run(self):
            for one in self.output():
                with one.open("w") as file:
                    file.write("mixed")


    class TotalTask(nectar.Task):
        def requires(self):
            return [NumberTask(n=1), NumberTask(n=2)]

        def run(self):
            self.dump(str(sum(int(one.load()) for one in self.input())))
"""

BUILD_TWICE = """
    import json, pathlib
    import luigi
    import nectar

    class WordsTask(nectar.Task):
        def requires(self):
            return nectar.FileSource("words.txt")

        def run(self):
            self.dump(self.input().load().upper())

    class CountTask(nectar.Task):
        def requires(self):
            return WordsTask()

        def run(self):
            self.dump(str(len(self.input().load())))

    source = pathlib.Path("words.txt")
    seen = []
    for text in ("one", "three", "three", "one"):
        source.write_text(text)
        task = CountTask()
        assert luigi.build([task], local_scheduler=True, workers=WORKERS)
        seen.append([task.key, task.output().load(), task.output().path])
    pathlib.Path("seen.json").write_text(json.dumps(seen))
"""


def test_a_chain_that_failed_at_its_third_step_goes_on_there(engine, project):
    project.chain("steps_chain", STEPS)
    engine.run(project, "steps_chain", "Step5Task").failed()
    assert project.made() == ["Step1Task", "Step2Task"]
    before = {one.path: one.record for one in project.targets("*")}
    project.chain("steps_chain", STEPS.replace('raise RuntimeError("a bug")', 'self.dump(self.input().load() + " 3")'))
    engine.run(project, "steps_chain", "Step5Task").ok()
    assert project.made() == [f"Step{number}Task" for number in range(1, 6)]
    assert {path: one.record for path in before for one in project.targets("*") if one.path == path} == before
    assert project.target("Step5Task").text() == "1 2 3 4 5"
    third = project.target("Step3Task").record
    assert third["attempt"]["number"] == 1 + len(project.failures("Step3Task"))
    assert third["run_id"] != project.target("Step2Task").record["run_id"]


def test_drift_is_acted_on_only_where_the_policy_says_so_and_a_code_version_makes_new_targets(engine, project):
    project.chain("code_chain", CODE)
    engine.run(project, "code_chain", "AllTask").ok()
    keys = {name: project.target(name).key for name in ("RerunTask", "CodeTask", "AboveCodeTask")}
    project.chain("code_chain", "    # a comment is no change\n" + CODE)
    engine.run(project, "code_chain", "AllTask").ok()
    assert len({one.record["run_id"] for one in project.targets("*Task") if one.path.parent.name != "AllTask"}) == 1
    project.chain("code_chain", CODE.replace('"old"', '"new"'))
    engine.run(project, "code_chain", "AllTask").ok()
    assert [project.target(name).text() for name in ("IgnoreTask", "WarnTask", "DefaultTask")] == ["old"] * 3
    assert (project.target("RerunTask").text(), project.target("RerunTask").key) == ("new", keys["RerunTask"])
    assert [one.text() for one in project.targets("CodeTask")] == ["old", "new"]
    assert [one.text() for one in project.targets("AboveCodeTask")] == ["above old", "above new"]
    run_id = project.target("RerunTask").record["run_id"]
    engine.run(project, "code_chain", "AllTask").ok()
    assert project.target("RerunTask").record["run_id"] == run_id


def test_the_project_may_say_that_drift_makes_targets_again(engine, project):
    project.chain("code_chain", CODE)
    engine.run(project, "code_chain", "DefaultTask").ok()
    project.chain("code_chain", CODE.replace('"old"', '"new"'))
    engine.run(project, "code_chain", "DefaultTask", env={"NECTAR_DRIFT": "rerun"}).ok()
    assert project.target("DefaultTask").text() == "new"


def test_insignificant_parameters_do_not_count(engine, project):
    project.chain("small_chain", SMALL)
    project.put("loud.cfg", "[NumberTask]\nloud = true\n")
    engine.run(project, "small_chain", "NumberTask", {"n": "3"}).ok()
    before = project.target("NumberTask").record
    engine.run(project, "small_chain", "NumberTask", {"n": "3"}, env={"LUIGI_CONFIG_PATH": "loud.cfg"}).ok()
    assert project.target("NumberTask").record == before
    assert project.target("NumberTask").params == {"n": 3, "loud": False}


def test_what_is_no_longer_complete_is_made_again_and_nothing_else(engine, project):
    project.chain("small_chain", SMALL)
    engine.run(project, "small_chain", "TotalTask").ok()
    first, second = (project.target("NumberTask", n=n) for n in (1, 2))
    total = project.target("TotalTask")
    runs = [one.record["run_id"] for one in (first, second, total)]
    (first.path / "out.txt").unlink()
    (total.path / "out.txt").unlink()
    engine.run(project, "small_chain", "TotalTask").ok()
    again = [one.record["run_id"] for one in (first, second, total)]
    assert again[1] == runs[1] and again[0] == again[2] != runs[0]
    assert total.text() == "3"


def test_an_output_without_a_record_is_not_complete(engine, project):
    project.chain("small_chain", SMALL)
    engine.run(project, "small_chain", "NumberTask").ok()
    target = project.target("NumberTask")
    (target.path / "record.json").unlink()
    (target.path / "out.txt").write_text("left over")
    engine.run(project, "small_chain", "NumberTask").ok()
    assert target.text() == "1" and target.record["files"][0]["size"] == 1


def test_a_target_cut_short_or_with_a_garbled_record_is_made_again(engine, project):
    project.chain("small_chain", SMALL)
    engine.run(project, "small_chain", "TotalTask").ok()
    first, total = project.target("NumberTask", n=1), project.target("TotalTask")
    (first.path / "out.txt").write_text("")
    (total.path / "record.json").write_text("{")
    engine.run(project, "small_chain", "TotalTask").ok()
    assert (first.text(), total.text()) == ("1", "3")


def test_a_foreign_output_alone_decides_and_a_mixed_task_needs_both(engine, project):
    project.chain("small_chain", SMALL)
    engine.run(project, "small_chain", "ForeignTask").ok()
    engine.run(project, "small_chain", "MixedTask").ok()
    foreign, mixed = project.target("ForeignTask"), project.target("MixedTask")
    (foreign.path / "record.json").unlink()
    engine.run(project, "small_chain", "ForeignTask").ok()
    assert not (foreign.path / "record.json").exists()
    (project.root / "foreign.txt").unlink()
    engine.run(project, "small_chain", "ForeignTask").ok()
    assert (project.root / "foreign.txt").exists() and foreign.record["files"] == []
    run_id = mixed.record["run_id"]
    (project.root / "mixed.txt").unlink()
    engine.run(project, "small_chain", "MixedTask").ok()
    assert (project.root / "mixed.txt").exists() and mixed.record["run_id"] != run_id
    (mixed.path / "own.txt").unlink()
    engine.run(project, "small_chain", "MixedTask").ok()
    assert mixed.text("own.txt") == "mixed"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_build_in_one_process_sees_a_changed_input_file(project: Any, workers: int):
    project.chain("words_chain", "")
    project.python(BUILD_TWICE.replace("WORKERS", str(workers))).ok()
    one, three, three_again, one_again = json.loads((project.root / "seen.json").read_text())
    assert one[0] != three[0]
    assert (one[1], three[1]) == ("3", "5")
    assert (three_again, one_again) == (three, one)
