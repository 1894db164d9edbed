"""What luigi's scheduler and events do for a task, they do for Nectar's."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

CHAIN = """
    import threading
    from pathlib import Path

    import luigi

    import nectar


    class Exclusive(nectar.Task):
        resources = {"database": 1}

        def run(self):
            marker = Path("in use")
            marker.touch(exist_ok=False)
            threading.Event().wait(0.1)
            marker.unlink()
            self.dump("alone")


    class AExclusiveTask(Exclusive):
        pass


    class BExclusiveTask(Exclusive):
        pass


    class CExclusiveTask(Exclusive):
        pass


    class ExclusiveTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [AExclusiveTask(), BExclusiveTask(), CExclusiveTask()]


    class RankedTask(nectar.Task):
        rank = luigi.IntParameter()

        @property
        def priority(self):
            return self.rank

        def run(self):
            threading.Event().wait(0.3)  # longer than it takes the other process to begin
            self.dump(str(self.rank))


    class RanksTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [RankedTask(rank=rank) for rank in (2, 5, 1, 4, 3)]


    class FlakyTask(nectar.Task):
        retry_count = 3

        def run(self):
            tries = Path("tries")
            tries.write_text((tries.read_text() if tries.exists() else "") + "x")
            if tries.read_text() == "x":
                raise RuntimeError("only the first time")
            self.dump(tries.read_text())


    class HopelessTask(nectar.Task):
        retry_count = 2

        def run(self):
            raise RuntimeError("every time")


    def note(*words):
        with open("events", "a") as file:
            file.write(" ".join(map(str, words)) + "\\n")


    class GoodTask(nectar.Task):
        def run(self):
            note("run", "GoodTask")
            self.dump("good")

        def on_success(self):
            note("on_success", type(self).__name__)


    class BadTask(nectar.Task):
        def run(self):
            raise ValueError("bad")

        def on_failure(self, error):
            note("on_failure", type(self).__name__, error)
            return super().on_failure(error)


    class PlainGood(luigi.Task):
        def output(self):
            return luigi.LocalTarget("plain.txt")

        def run(self):
            note("run", "PlainGood")
            with self.output().open("w") as file:
                file.write("good")


    class EventsTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [GoodTask(), BadTask(), PlainGood()]


    @nectar.Task.event_handler(luigi.Event.START)
    def started(task):
        note("START", type(task).__name__)


    @GoodTask.event_handler(luigi.Event.SUCCESS)
    def succeeded(task):
        note("SUCCESS", type(task).__name__, task.output().exists())


    @BadTask.event_handler(luigi.Event.FAILURE)
    def failed(task, error):
        note("FAILURE", type(task).__name__, repr(error))


    @GoodTask.event_handler(luigi.Event.PROCESSING_TIME)
    def timed(task, seconds):
        note("PROCESSING_TIME", type(task).__name__, 0 <= seconds < 60)


    @GoodTask.event_handler(luigi.Event.START)
    def raises(task):
        raise RuntimeError("a handler's own fault")


    class StatusTask(nectar.Task):
        def run(self):
            self.set_status_message("half way")
            self.set_progress_percentage(50)
            self.set_tracking_url("http://localhost/x")
            self.dump("done")


    class BatchTask(nectar.Task):
        n = luigi.IntParameter(batch_method=max)

        def run(self):
            self.dump(str(self.n))


    class BatchesTask(nectar.Task):
        def requires(self):
            return [BatchTask(n=n) for n in (1, 2, 3)]

        def run(self):
            self.dump("".join(one.load() for one in self.input()))


    class SecretTask(nectar.Task):
        word = luigi.Parameter(default="none", visibility=luigi.parameter.ParameterVisibility.PRIVATE)

        def run(self):
            self.dump(self.word)


    class SecretsTask(nectar.Task):
        def requires(self):
            return [SecretTask(word="a"), SecretTask(word="b")]

        def run(self):
            self.dump("".join(one.load() for one in self.input()))


    class YieldsSecretTask(nectar.Task):
        def run(self):
            found = yield SecretTask(word="a")
            self.dump(found.load())


    class HiddenTask(nectar.Task):
        word = luigi.Parameter(default="none", visibility=luigi.parameter.ParameterVisibility.HIDDEN)

        def run(self):
            self.dump(self.word)


    class HiddensTask(nectar.Task):
        def requires(self):
            return [HiddenTask(word="a"), HiddenTask(word="b")]

        def run(self):
            found = yield HiddenTask(word="c")
            self.dump("".join(one.load() for one in [*self.input(), found]))


    class LoudTask(nectar.Task):
        loud = luigi.IntParameter(significant=False)

        def run(self):
            self.dump("done")


    class LoudsTask(nectar.Task):
        def run(self):
            for loud in range(3):
                yield LoudTask(loud=loud)
            self.dump("past the loop")
"""


@pytest.fixture
def chain(project: Any) -> Any:
    project.chain("plans_chain", CHAIN)
    return project


def test_tasks_that_share_a_resource_never_run_at_once(engine, chain):
    engine.run(chain, "plans_chain", "ExclusiveTask").ok()
    times = sorted((one.record["started_at"], one.record["ended_at"]) for one in chain.targets("?ExclusiveTask"))
    assert len(times) == 3
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(times))


def test_the_higher_priority_runs_first(engine, chain):
    engine.run(chain, "plans_chain", "RanksTask").ok()
    order = [one.params["rank"] for one in chain.targets("RankedTask")]
    if "processes" in engine.name:  # a pair may begin in any order
        assert set(order[:2]) == {5, 4} and set(order[2:4]) == {3, 2}
    else:
        assert order == [5, 4, 3, 2, 1]


def retrying(engine: Any) -> list[str]:
    """Return the options that let luigi's worker stay for a second attempt, and soon make it."""
    local = ["--scheduler-retry-delay", "0.05"] if engine.url is None else []
    return ["--worker-keep-alive", *local]


def test_a_retry_policy_tries_again_and_the_record_counts_the_attempts(engine, chain):
    engine.run(chain, "plans_chain", "FlakyTask", options=retrying(engine)).ok()
    target = chain.target("FlakyTask")
    assert target.text() == "xx"
    assert target.record["attempt"]["number"] == 2
    [attempt] = chain.failures("FlakyTask")
    assert attempt.stderr.endswith("RuntimeError: only the first time\n")


def test_a_retry_policy_ends(engine, chain):
    engine.run(chain, "plans_chain", "HopelessTask", options=retrying(engine)).failed()
    assert len(chain.failures("HopelessTask")) == 2


def test_event_handlers_are_called_as_luigi_calls_them(engine, chain):
    engine.run(chain, "plans_chain", "EventsTask").failed()
    seen = (chain.root / "events").read_text().splitlines()
    good = [line for line in seen if "GoodTask" in line]
    assert good == [
        "START GoodTask",
        "run GoodTask",
        "PROCESSING_TIME GoodTask True",
        "on_success GoodTask",
        "SUCCESS GoodTask True",
    ]
    bad = [line for line in seen if "BadTask" in line]
    assert bad == ["START BadTask", "FAILURE BadTask ValueError('bad')", "on_failure BadTask bad"]
    assert seen.count("run PlainGood") == 1 and "START PlainGood" not in seen


def test_a_task_tells_of_its_progress(engine, chain, request):
    ended = engine.run(chain, "plans_chain", "StatusTask").ok()
    if engine.url is not None:
        ask = request.getfixturevalue("ask_luigid")
        listed = ask("task_search", task_str="plans_chain.StatusTask")["DONE"]
        [task_id] = listed
        assert ask("get_task_status_message", task_id=task_id)["statusMessage"] == "half way"
        assert ask("get_task_progress_percentage", task_id=task_id)["progressPercentage"] == 50
    elif not engine.luigi:
        told = [event["detail"] for event in ended.answer["events"] if "detail" in event]
        assert told == ["half way", "50", "http://localhost/x"]
    assert chain.target("StatusTask").text() == "done"


def test_tasks_with_a_batch_method_are_each_made(engine, chain):
    engine.run(chain, "plans_chain", "BatchesTask").ok()
    assert chain.target("BatchesTask").text() == "123"


def test_tasks_that_differ_in_a_private_value_are_each_made(engine, chain):
    engine.run(chain, "plans_chain", "SecretsTask").ok()
    assert chain.target("SecretsTask").text() == "ab"


def test_a_task_with_a_private_value_can_be_a_dynamic_requirement(inline, chain):
    inline.run(chain, "plans_chain", "YieldsSecretTask").ok()
    assert chain.target("YieldsSecretTask").text() == "a"


def test_luigi_makes_or_refuses_a_dynamic_requirement_with_a_private_value(one_process, chain):
    ended = one_process.run(chain, "plans_chain", "YieldsSecretTask", limit_s=30.0)
    if ended.code:
        assert "`word`" in chain.failures("YieldsSecretTask")[-1].stderr
    else:
        assert chain.target("YieldsSecretTask").text() == "a"


def test_tasks_that_differ_in_a_hidden_value_are_each_made(engine, chain):
    engine.run(chain, "plans_chain", "HiddensTask").ok()
    assert chain.target("HiddensTask").text() == "abc"


def test_insignificant_variants_yielded_in_a_loop_come_to_an_end(engine, chain):
    engine.run(chain, "plans_chain", "LoudsTask").ok()
    assert chain.target("LoudsTask").text() == "past the loop"
    assert len(chain.targets("LoudTask")) == 1
