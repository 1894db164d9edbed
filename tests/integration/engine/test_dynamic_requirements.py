"""What `run()` yields is made while it waits, without starting it anew where its process lives on."""

from __future__ import annotations

import os
import signal

import pytest

CHAIN = """
    def note(word):
        with open("notes", "a") as file:
            file.write(f"{word}\\n")


    class PartTask(nectar.Task):
        n = luigi.IntParameter()
        seconds = luigi.FloatParameter(default=0.0, significant=False)
        good = luigi.BoolParameter(default=True, significant=False)

        def run(self):
            note(f"part {self.n}")
            time.sleep(self.seconds)
            if not self.good:
                raise ValueError("a bad part")
            self.dump(str(self.n))


    class SumTask(nectar.Task):
        def run(self):
            note("sum starts")
            total = 0
            for n in range(5):
                part = yield PartTask(n=n)
                total += int(part.load())
            parts = yield [PartTask(n=n) for n in (5, 6)]
            self.dump(str(total + sum(int(one.load()) for one in parts)))


    class SumsTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [SumTask(), *(PartTask(n=100 + n) for n in range(10))]


    class GateTask(nectar.Task):
        def run(self):
            pathlib.Path("gate.new").write_text(str(os.getpid()))
            pathlib.Path("gate.new").rename("gate")
            while not pathlib.Path("go").exists():
                time.sleep(0.02)
            self.dump("open")


    class ParkedTask(nectar.Task):
        def run(self):
            note("parked starts")
            pathlib.Path("parked").write_text(str(os.getpid()))
            first = yield PartTask(n=1)
            while not (self.target_store().present([FirstInRowTask().target_address()])):
                time.sleep(0.02)
            time.sleep(0.2)
            gate = yield GateTask()
            last = yield PartTask(n=2)
            self.dump(first.load() + gate.load() + last.load())


    class FirstInRowTask(nectar.Task):
        priority = 1

        def run(self):
            while not pathlib.Path("parked").exists():
                time.sleep(0.02)
            self.dump("the first worker is free from now on")


    class AfterParkedTask(nectar.Task):
        def requires(self):
            return [ParkedTask(), FirstInRowTask()]

        def run(self):
            note("after parked")
            self.dump(self.input()[0].load())


    class HoldsTask(nectar.Task):
        resources = {"database": 1}

        def run(self):
            self.dump("held")


    class HoldsAndYieldsTask(nectar.Task):
        resources = {"database": 1}

        def run(self):
            held = yield HoldsTask()
            self.dump(held.load())


    class QuickTask(nectar.Task):
        def run(self):
            self.dump("quick")


    class RoomTask(nectar.Task):
        def run(self):
            yield QuickTask()
            time.sleep(0.3)
            self.dump("room")


    class AfterQuickTask(nectar.Task):
        n = luigi.IntParameter()

        def requires(self):
            return QuickTask()

        def run(self):
            self.dump("after quick")


    class NoRoomTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [RoomTask(), *(AfterQuickTask(n=n) for n in range(3))]


    class BrokenTask(nectar.Task):
        def requires(self):
            raise ZeroDivisionError("in requires")


    class YieldsBrokenTask(nectar.Task):
        def run(self):
            yield BrokenTask()


    class WithBrokenTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [YieldsBrokenTask(), *(PartTask(n=n) for n in range(4))]


    class YieldsItselfTask(nectar.Task):
        def run(self):
            yield YieldsItselfTask()


    class YieldsAboveTask(nectar.Task):
        def run(self):
            yield AboveTask()


    class AboveTask(nectar.Task):
        def requires(self):
            return YieldsAboveTask()

        def run(self):
            self.dump("above")


    class UnsendableTask(nectar.Task):
        def run(self):
            self.dump("x")


    class YieldsUnsendableTask(nectar.Task):
        def run(self):
            task = UnsendableTask()
            task.hook = lambda: None
            yield task


    class WithUnsendableTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [YieldsUnsendableTask(), *(PartTask(n=n) for n in range(4))]


    class YieldsBadTask(nectar.Task):
        def run(self):
            note("before")
            try:
                yield PartTask(n=-1, good=False)
            finally:
                note("cleaned up")
            note("never")


    class CleansUpBadlyTask(nectar.Task):
        def run(self):
            try:
                yield PartTask(n=-1, good=False)
            finally:
                raise RuntimeError("in the cleaning up")


    class WithBadlyTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [CleansUpBadlyTask(), *(PartTask(n=n, seconds=0.2) for n in range(4))]


    class BusyTask(nectar.Task):
        def run(self):
            while not pathlib.Path("opened").exists():
                time.sleep(0.02)
            time.sleep(1.0)
            self.dump("busy")


    class OpenTask(nectar.Task):
        def run(self):
            time.sleep(0.5)
            pathlib.Path("opened").touch()
            self.dump("open")


    class HangsAfterTask(nectar.Task):
        worker_timeout = 2

        def run(self):
            yield OpenTask()
            note("goes on")
            while True:
                time.sleep(1)


    class HangsTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [HangsAfterTask(), BusyTask()]
"""

EXECUTORS = pytest.mark.parametrize("options", [{}, {"workers": 2}], ids=["inline", "processes"])


@pytest.fixture
def chain(project):
    project.chain(CHAIN)
    return project


@EXECUTORS
def test_run_is_not_started_anew_for_what_it_yields(chain, options):
    ended = chain.run("SumsTask", **options).ok()
    assert ended.counts == {"succeeded": 19}
    assert chain.lines("notes").count("sum starts") == 1
    assert (chain.target("SumTask") / "out.txt").read_text() == "21"
    assert len(chain.record("SumTask")["dynamic"]) == 7
    assert chain.record("SumTask")["attempt"]["number"] == 1
    assert chain.failures() == chain.staged() == []


def kill_parking_worker(chain, until):
    """Start a run, and kill the worker in which a task waits for what it yielded."""
    run = chain.start_run("AfterParkedTask", workers=2)
    until((chain.root / "gate").exists)
    parking = int((chain.root / "parked").read_text())
    assert chain.lines("notes").count("parked starts") == 1
    assert (chain.root / "gate").read_text() != str(parking), "what is waited for is made by another worker"
    os.kill(parking, signal.SIGKILL)
    return run


def test_a_task_whose_parking_worker_is_killed_starts_anew_and_is_right(chain, until):
    run = kill_parking_worker(chain, until)
    until(lambda: chain.lines("notes").count("parked starts") == 2)
    (chain.root / "go").touch()
    ended = run.ended()
    assert ended.counts == {"succeeded": 6}, ended.steps
    assert (chain.target("AfterParkedTask") / "out.txt").read_text() == "1open2"
    assert chain.lines("notes").count("after parked") == 1
    chain.check_store()


@pytest.mark.parametrize("options", [{}, {"workers": 2}], ids=["inline", "processes"])
def test_a_yield_does_not_keep_the_resource_that_its_requirement_needs(chain, options):
    ended = chain.run("HoldsAndYieldsTask", limit_s=8.0, **options)
    assert ended.counts == {"succeeded": 2}


def test_going_on_and_beginning_at_the_same_moment_find_room(chain):
    ended = chain.run("NoRoomTask", executor="processes")
    assert ended.answer.get("raised") is None
    assert ended.counts == {"succeeded": 6}


@EXECUTORS
def test_a_yielded_task_that_cannot_be_planned_fails_who_yielded_it_alone(chain, options):
    ended = chain.run("WithBrokenTask", **options)
    assert ended.answer.get("raised") is None
    assert ended.counts == {"succeeded": 4, "failed": 1, "not run": 1}
    assert "in requires" in ended.steps["YieldsBrokenTask()"]["error"]


@EXECUTORS
@pytest.mark.parametrize("task", ["YieldsItselfTask", "AboveTask"])
def test_a_circle_closed_by_a_yield_fails_and_says_so(chain, task, options):
    ended = chain.run(task, **options)
    assert ended.code == 1
    failed = [step for step in ended.steps.values() if step["status"] == "failed"]
    assert len(failed) == 1 and "waits for" in failed[0]["error"] and failed[0]["hint"]


def test_a_yielded_task_that_cannot_be_sent_fails_who_yielded_it_alone(chain):
    ended = chain.run("WithUnsendableTask", workers=2)
    assert ended.counts == {"succeeded": 4, "failed": 1, "not run": 1}
    error = ended.steps["YieldsUnsendableTask()"]["error"]
    assert "cannot be sent" in error and "UnsendableTask" in error
    chain.nothing_runs()


@EXECUTORS
def test_a_task_whose_yield_fails_is_ended_without_a_failed_attempt_of_its_own(chain, options):
    ended = chain.run("YieldsBadTask", **options)
    assert ended.statuses == {"YieldsBadTask()": "not run", "PartTask(n=-1)": "failed"}
    assert chain.lines("notes") == ["before", "part -1", "cleaned up"]
    assert chain.failures("YieldsBadTask") == chain.staged() == []


@EXECUTORS
def test_an_error_while_a_task_is_ended_harms_nobody_else(chain, options):
    ended = chain.run("WithBadlyTask", **options)
    assert ended.answer.get("raised") is None
    assert [status for name, status in ended.statuses.items() if name.startswith("PartTask(n=-1")] == ["failed"]
    assert ended.counts["succeeded"] == 4
    assert chain.staged() == []


def test_a_time_limit_holds_for_a_task_that_went_on_behind_another(chain):
    ended = chain.run("HangsTask", workers=2, grace_s=0.5, limit_s=15.0)
    assert ended.statuses["HangsAfterTask()"] == "failed"
    assert "time limit" in ended.steps["HangsAfterTask()"]["error"]
