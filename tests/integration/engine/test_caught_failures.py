"""A task that catches failures goes on when what it needs has ended, however it has ended."""

from __future__ import annotations

import pytest

EXECUTORS = [{"executor": "inline"}, {"workers": 2}]

CHAIN = """
    class GoodTask(nectar.Task):
        def run(self):
            self.dump("good")

    class BadTask(nectar.Task):
        retry_count = 2
        def run(self):
            raise ValueError("as it was meant")

    class AboveTask(nectar.Task):
        def requires(self):
            return BadTask()
        def run(self):
            self.dump("never")

    class SecondTask(nectar.Task):
        def run(self):
            self.dump("instead")

    class OtherBadTask(nectar.Task):
        def run(self):
            raise ValueError("this one, too")

    class CatchTask(nectar.Task):
        catches_failures = True
        instead = luigi.Parameter(default="SecondTask")
        def requires(self):
            return [GoodTask(), AboveTask()]
        def run(self):
            there = [one.complete() for one in self.requires()]
            assert there == [True, False], there
            other = globals()[self.instead]()
            yield other
            if not other.complete():
                raise RuntimeError("both ways failed")
            self.dump("caught")

    class TopTask(nectar.Task):
        instead = luigi.Parameter(default="SecondTask")
        def requires(self):
            return CatchTask(instead=self.instead)
        def run(self):
            self.dump("top")
"""


@pytest.mark.parametrize("options", EXECUTORS, ids=str)
def test_what_is_caught_is_no_failure_of_the_run(project, options):
    project.chain(CHAIN)
    ended = project.run("TopTask", **options).ok()
    assert ended.statuses == {
        "GoodTask()": "succeeded",
        "BadTask()": "failed",
        "AboveTask()": "not run",
        "SecondTask()": "succeeded",
        "CatchTask(instead=SecondTask)": "succeeded",
        "TopTask(instead=SecondTask)": "succeeded",
    }
    handled = {name for name, step in ended.steps.items() if step["handled"]}
    assert handled == {"BadTask()", "AboveTask()"}
    assert ended.steps["BadTask()"]["attempts"] == 2
    assert ended.answer["result"]["success"] is True


@pytest.mark.parametrize("options", EXECUTORS, ids=str)
def test_a_second_failure_that_is_not_survived_fails_the_run_with_all_that_led_to_it(project, options):
    project.chain(CHAIN)
    ended = project.run("TopTask", params={"instead": "OtherBadTask"}, **options)
    assert ended.code == 1
    assert ended.statuses["CatchTask(instead=OtherBadTask)"] == "failed"
    assert ended.statuses["TopTask(instead=OtherBadTask)"] == "not run"
    assert not any(step["handled"] for step in ended.steps.values())


@pytest.mark.parametrize("options", EXECUTORS, ids=str)
def test_a_failure_that_another_root_needs_is_a_failure_of_the_run(project, options):
    project.chain(
        CHAIN
        + """
    class BothTask(nectar.Task):
        def requires(self):
            return [TopTask(), BadTask()]
        def run(self):
            self.dump("never")
    """
    )
    ended = project.run("BothTask", **options)
    assert ended.code == 1
    assert not ended.steps["BadTask()"]["handled"]
    assert ended.statuses["TopTask(instead=SecondTask)"] == "succeeded"


@pytest.mark.parametrize("options", EXECUTORS, ids=str)
def test_a_task_that_yields_one_that_catches_goes_on_whatever_failed_below(project, options):
    project.chain(
        CHAIN
        + """
    class YieldingTask(nectar.Task):
        def run(self):
            caught = yield CatchTask()
            self.dump("after " + caught.load())
    """
    )
    ended = project.run("YieldingTask", **options).ok()
    assert ended.statuses["YieldingTask()"] == "succeeded"
    assert {name for name, step in ended.steps.items() if step["handled"]} == {"BadTask()", "AboveTask()"}
