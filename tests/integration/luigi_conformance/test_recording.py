"""What a task leaves behind: outputs that appear as a whole, logs, parameters, records, and what a failure leaves."""

from __future__ import annotations

import json
from typing import Any

import pytest

CHAIN = """
    import ctypes
    import datetime
    import json
    import logging
    import multiprocessing
    import os
    import subprocess
    import sys
    import threading
    from pathlib import Path

    import luigi
    from luigi.parameter import ParameterVisibility

    import nectar
    import nectar.records

    libc = ctypes.CDLL(None)


    class LogsTask(nectar.Task):
        def run(self):
            print("python out")
            print("python err", file=sys.stderr)
            libc.printf(b"c out\\n")
            libc.printf(b"%s\\n", b"c" * 300_000)
            subprocess.run(["sh", "-c", "echo child out; echo child err >&2"], check=True)
            os.write(1, b"descriptor out\\n")
            logging.getLogger("chain").warning("logged")
            thread = threading.Thread(target=print, args=("thread out",))
            thread.start()
            thread.join()
            sys.stdout.write("no line end")
            self.dump("done")


    class NextLogsTask(nectar.Task):
        def requires(self):
            return LogsTask()

        def run(self):
            print("the next task's own")
            self.dump("done")


    class AtomicTask(nectar.Task):
        outputs = ["table.csv", "folder/second.txt"]

        def run(self):
            table, second = self.output()
            seen = []
            with open(table.path, "w") as file:  # as frame.to_csv(table.path) does
                file.write("a,b\\n")
                file.flush()
                seen.append([os.path.exists(table.final_path), table.exists(), self.complete()])
                file.write("1,2\\n")
            seen.append([os.path.exists(table.final_path), table.exists(), self.complete()])
            with second.open("w") as file:
                file.write("half")
                file.flush()
                seen.append([os.path.exists(second.path), os.path.exists(second.final_path), second.exists()])
            Path("seen.json").write_text(json.dumps([table.final_path, seen]))


    class ForeignTask(nectar.Task):
        def output(self):
            return luigi.LocalTarget("foreign/one.txt")

        def run(self):
            print("printed by a foreign task")
            with self.output().open("w") as file:
                file.write("one")


    class ForeignListTask(nectar.Task):
        def output(self):
            return [luigi.LocalTarget("foreign/2.txt"), luigi.LocalTarget("foreign/3.txt")]

        def run(self):
            for one in self.output():
                with one.open("w") as file:
                    file.write("several")


    class ForeignDictTask(nectar.Task):
        def output(self):
            return {"a": luigi.LocalTarget("foreign/4.txt"), "b": [luigi.LocalTarget("foreign/5.txt")]}

        def run(self):
            for one in luigi.task.flatten(self.output()):
                with one.open("w") as file:
                    file.write("nested")


    class MixedTask(nectar.Task):
        def output(self):
            return {"own": self.target("own.txt"), "foreign": luigi.LocalTarget("foreign/6.txt")}

        def run(self):
            self.dump("own", "own.txt")
            with self.output()["foreign"].open("w") as file:
                file.write("foreign")


    class MarkerTask(nectar.Task):
        def output(self):
            return None

        def complete(self):
            return os.path.exists("marker")

        def run(self):
            Path("marker").touch()


    class ParamsTask(nectar.Task):
        n = luigi.IntParameter(default=3)
        day = luigi.DateParameter(default=datetime.date(2024, 2, 29))
        tags = luigi.DictParameter(default={"b": [1, 2.5], "a": None})
        text = luigi.Parameter(default="Grüße \\"x\\"")
        password = luigi.Parameter(default="canary-secret", visibility=ParameterVisibility.PRIVATE)
        hidden = luigi.Parameter(default="hidden value", visibility=ParameterVisibility.HIDDEN)
        loud = luigi.BoolParameter(default=True, significant=False)

        def run(self):
            self.dump("done")


    class SecretTask(nectar.Task):
        password = luigi.Parameter(default="canary-secret", visibility=ParameterVisibility.PRIVATE)

        def run(self):
            print("I am", self, repr(self))
            self.dump(str(len(self.password)))


    class UsesSecretTask(nectar.Task):
        def requires(self):
            return SecretTask()

        def run(self):
            self.dump(self.input().load())


    class MidnightTask(nectar.Task):
        def run(self):
            Path("key").write_text(self.key)
            now = nectar.records.utc_now
            nectar.records.utc_now = lambda: now() + datetime.timedelta(days=1)
            self.dump("made on two days")


    class AfterMidnightTask(nectar.Task):
        def requires(self):
            return MidnightTask()

        def run(self):
            self.dump(self.input().load())


    def write_part(task, number):
        target = task.output()[number]
        with open(target.path, "w") as file:
            file.write(f"part {number} of {task.word}")
        print("child", number)
        return [target.path, task.key, task.complete()]


    class PoolTask(nectar.Task):
        word = luigi.Parameter(default="w")
        outputs = ["0.txt", "1.txt", "2.txt"]

        def run(self):
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                seen = pool.starmap(write_part, [(self, 0), (self, 1)])
            assert seen == [[self.output()[n].path, self.key, False] for n in (0, 1)], seen
            thread = threading.Thread(target=write_part, args=(self, 2))
            thread.start()
            thread.join()


    class StatusTask(nectar.Task):
        def run(self):
            self.set_status_message("half way")
            self.set_progress_percentage(50)
            self.set_tracking_url("http://localhost/x")
            self.dump("done")


    class AllTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [
                NextLogsTask(), AtomicTask(), ForeignTask(), ForeignListTask(), ForeignDictTask(), MixedTask(),
                MarkerTask(), ParamsTask(), UsesSecretTask(), AfterMidnightTask(), StatusTask(),
            ]


    class RaisesTask(nectar.Task):
        def run(self):
            print("before the fault")
            print("complaint", file=sys.stderr)
            with self.output().open("w") as file:
                file.write("written before the fault")
            subprocess.run(["sh", "-c", "echo the child says"], check=True)
            raise ValueError("the fault itself")


    class ExitsTask(nectar.Task):
        def run(self):
            sys.exit(0)


    class WritesNothingTask(nectar.Task):
        def run(self):
            print("forgot to write")


    class LateFaultTask(nectar.Task):
        def run(self):
            found = yield NextLogsTask()
            raise RuntimeError("after a requirement")


    class SpoilsTask(nectar.Task):
        def requires(self):
            return nectar.FileSource("source.txt")

        def run(self):
            self.dump(self.input().load())
            Path("source.txt").write_text("changed under the task's feet")


    class NoSourceTask(nectar.Task):
        def requires(self):
            return nectar.FileSource("missing.txt")

        def run(self):
            self.dump("never")


    class BadChainTask(nectar.Task):
        def requires(self):
            return RaisesTask()

        def run(self):
            self.dump("never")


    class FaultsTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [
                BadChainTask(), ExitsTask(), WritesNothingTask(), LateFaultTask(), SpoilsTask(), ForeignTask(),
            ]
"""


@pytest.fixture(scope="module")
def ran(engine: Any, new_project: Any) -> Any:
    """A project in which everything was made in one run."""
    project = new_project()
    project.chain("marks_chain", CHAIN)
    project.ended = engine.run(project, "marks_chain", "AllTask").ok()
    return project


@pytest.fixture(scope="module")
def broken(engine: Any, new_project: Any) -> Any:
    """A project in which several tasks failed in one run."""
    project = new_project()
    project.chain("marks_chain", CHAIN)
    project.put("source.txt", "as it was")
    project.ended = engine.run(project, "marks_chain", "FaultsTask").failed()
    return project


def test_the_two_streams_are_logged_apart_with_c_and_children_and_threads(ran):
    target = ran.target("LogsTask")
    lines = target.stdout.split("\n")
    assert lines[-1] == "no line end"
    expected = ["python out", "c out", "c" * 300_000, "child out", "descriptor out", "thread out", "no line end"]
    assert sorted(lines) == sorted(expected)
    errors = target.stderr
    assert "python err\n" in errors and "child err\n" in errors and "logged" in errors
    assert "out\n" not in errors
    assert ran.target("NextLogsTask").stdout == "the next task's own\n"


def test_what_tasks_print_is_also_shown(ran):
    assert "python out" in ran.ended.stdout and "child out" in ran.ended.stdout
    assert "child err" in ran.ended.stderr


def test_nothing_is_seen_at_the_final_place_before_the_commit(ran):
    final_path, seen = json.loads((ran.root / "seen.json").read_text())
    assert seen == [[False, False, False], [False, False, False], [False, False, False]]
    target = ran.target("AtomicTask")
    assert final_path == str(target.path / "table.csv")
    assert target.text("table.csv") == "a,b\n1,2\n"
    assert target.text("folder/second.txt") == "half"


def test_foreign_outputs_are_made_and_recorded(ran):
    assert (ran.root / "foreign/one.txt").read_text() == "one"
    record = ran.target("ForeignTask").record
    assert record["files"] == [] and len(record["foreign"]) == 1
    assert ran.target("ForeignTask").stdout == "printed by a foreign task\n"
    assert len(ran.target("ForeignListTask").record["foreign"]) == 2
    assert (ran.root / "foreign/5.txt").read_text() == "nested"


def test_own_and_foreign_outputs_go_together(ran):
    target = ran.target("MixedTask")
    assert target.text("own.txt") == "own"
    assert (ran.root / "foreign/6.txt").read_text() == "foreign"
    assert [entry["name"] for entry in target.record["files"]] == ["own.txt"]
    assert len(target.record["foreign"]) == 1


def test_a_task_without_outputs_is_complete_when_it_says_so(ran):
    assert (ran.root / "marker").exists()
    assert ran.target("MarkerTask").record["files"] == []


def test_params_txt_holds_all_parameters_with_private_ones_masked(ran):
    assert ran.target("ParamsTask").params == {
        "n": 3,
        "day": "2024-02-29",
        "tags": {"b": [1, 2.5], "a": None},
        "text": 'Grüße "x"',
        "password": "******",
        "hidden": "hidden value",
        "loud": True,
    }


def test_a_private_value_is_found_nowhere(ran):
    leaks = [path for path in ran.store.rglob("*") if path.is_file() and b"canary-secret" in path.read_bytes()]
    assert leaks == []
    assert "canary-secret" not in ran.ended.stdout + ran.ended.stderr


def test_a_run_that_crosses_midnight_keeps_its_key(ran):
    target = ran.target("MidnightTask")
    assert target.key == (ran.root / "key").read_text()
    record = target.record
    assert record["started_at"][:10] < record["ended_at"][:10]
    assert ran.target("AfterMidnightTask").text() == "made on two days"


def test_a_task_can_be_handed_to_a_spawned_pool_and_to_threads(engine, project):
    project.chain("marks_chain", CHAIN)
    engine.run(project, "marks_chain", "PoolTask").ok()
    target = project.target("PoolTask")
    assert [target.text(f"{n}.txt") for n in range(3)] == [f"part {n} of w" for n in range(3)]
    assert sorted(target.stdout.splitlines()) == ["child 0", "child 1", "child 2"]


def test_the_record_tells_where_when_and_with_what(ran):
    record = ran.target("LogsTask").record
    assert record["path"].startswith("chains/etl/marks_chain/LogsTask/")
    assert record["identity"]["task"] == "chains.etl.marks_chain.LogsTask"
    assert record["code"]["digest"] and record["provenance"]["versions"]["luigi"]
    assert record["files"][0]["size"] == 4 and len(record["files"][0]["sha256"]) == 64


def test_every_step_of_a_run_has_its_id_and_another_run_has_another(engine, ran, broken):
    ids = [{one.record["run_id"] for one in project.targets("*")} for project in (ran, broken)]
    assert len(ids[0]) == len(ids[1]) == 1
    assert ids[0] != ids[1]
    failed = {json.loads(one.text("attempt.json"))["run_id"] for one in broken.failures("*")}
    assert failed == ids[1]


def test_a_failed_attempt_keeps_its_logs_with_the_traceback_and_leaves_no_target(broken):
    attempt = broken.failures("RaisesTask")[-1]
    assert attempt.stdout == "before the fault\nthe child says\n"
    assert attempt.stderr.startswith("complaint\n")
    assert attempt.stderr.endswith("ValueError: the fault itself\n")
    assert 'raise ValueError("the fault itself")' in attempt.stderr
    assert "nectar/recording" not in attempt.stderr and "nectar/task/running" not in attempt.stderr
    assert sorted(path.name for path in attempt.path.iterdir()) == ["attempt.json", "log", "params.txt"]
    assert broken.targets("RaisesTask") == [] and broken.targets("BadChainTask") == []
    assert broken.staged() == []


def test_every_way_to_fail_is_a_failed_attempt(engine, broken):
    names = ["RaisesTask", "ExitsTask", "WritesNothingTask", "LateFaultTask"]
    if engine.url is None:  # the central scheduler of these tests may try again
        assert [len(broken.failures(name)) for name in names] == [1, 1, 1, 1]
    assert broken.failures("ExitsTask")[0].stderr.splitlines()[-1] == "SystemExit: 0"
    assert "returned without writing its output `out.txt`" in broken.failures("WritesNothingTask")[0].stderr
    assert broken.failures("LateFaultTask")[-1].stderr.endswith("RuntimeError: after a requirement\n")


def test_an_input_file_that_changes_during_the_run_fails_the_task(broken):
    assert broken.targets("SpoilsTask") == []
    assert "IdentityChanged: the input file `source.txt` changed" in broken.failures("SpoilsTask")[-1].stderr


def test_a_missing_input_file_is_said_and_nothing_runs(engine, project):
    project.chain("marks_chain", CHAIN)
    ended = engine.run(project, "marks_chain", "NoSourceTask").failed()
    assert "the input file `missing.txt` cannot be read: no such file or directory" in ended.stderr
    assert not project.store.exists()
    assert ended.code == 35 or not engine.luigi


def test_a_failure_stops_only_what_requires_it(broken):
    assert broken.failures("BadChainTask") == []
    assert (broken.root / "foreign/one.txt").exists()


def test_a_failed_task_makes_the_exit_code(engine, broken):
    assert broken.ended.code == (30 if engine.luigi else 1)
    assert "ValueError: the fault itself" in broken.ended.stderr or not engine.luigi
