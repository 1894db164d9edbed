"""External data that is missing: what needs it is blocked, or waits for it where luigi's worker is told to stay."""

from __future__ import annotations

from typing import Any

import pytest

CHAIN = """
    import subprocess
    from pathlib import Path

    import luigi

    import nectar


    class Data(luigi.ExternalTask):
        def output(self):
            return luigi.LocalTarget("data.csv")


    class SendsTask(nectar.Task):
        late = luigi.IntParameter()

        def run(self):
            if self.late:  # when there is nothing left to do but wait
                subprocess.Popen(["sh", "-c", "sleep 0.5; echo there > data.csv.new; mv data.csv.new data.csv"])
            else:
                Path("data.csv").write_text("there")
            self.dump("sent")


    class ReadsTask(nectar.Task):
        def requires(self):
            return Data()

        def run(self):
            with self.input().open() as file:
                self.dump(file.read().strip())


    class AllTask(nectar.Task, luigi.WrapperTask):
        late = luigi.IntParameter()

        def requires(self):
            return [ReadsTask(), SendsTask(late=self.late)]


    class OtherTask(nectar.Task):
        def run(self):
            self.dump("other")


    class NeverTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [ReadsTask(), OtherTask()]
"""

STAY = "keep_alive = true\nretry_external_tasks = true\n"
IDLE = "max_keep_alive_idle_duration = 1 s\n"


@pytest.fixture
def chain(project: Any) -> Any:
    project.chain("data_chain", CHAIN)
    return project


def configure(project: Any, worker: str) -> None:
    """Add to the section of luigi's worker, and let luigi look again soon."""
    project.put(
        "configuration/luigi.cfg",
        "[core]\nno_lock = true\nautoload_range = false\n\n"
        "[scheduler]\nstable_done_cooldown_secs = 0\nretry_delay = 0.05\n\n"
        f"[worker]\nwait_interval = 0.05\nwait_jitter = 0.0\n{worker}",
    )


def test_what_needs_missing_data_is_blocked_at_once_and_the_rest_is_made(engine, chain):
    ended = engine.run(chain, "data_chain", "NeverTask").failed()
    assert chain.target("OtherTask").text() == "other"
    assert chain.targets("ReadsTask") == []
    if not engine.luigi:
        by_task = {step["task"].split(".")[-1]: step["status"] for step in ended.answer["result"]["steps"]}
        assert by_task == {
            "Data()": "blocked",
            "ReadsTask()": "blocked",
            "NeverTask()": "blocked",
            "OtherTask()": "succeeded",
        }


@pytest.mark.parametrize("late", ["0", "1"])
def test_data_that_comes_while_the_worker_stays_is_used(engine, chain, request, late):
    configure(chain, STAY)
    engine.run(chain, "data_chain", "AllTask", {"late": late}).ok()
    assert chain.target("ReadsTask").text() == "there"


@pytest.mark.parametrize("engine", ["inline", "processes"], indirect=True)  # each look begins luigi's patience anew
def test_who_waits_for_data_that_does_not_come_ends_as_blocked(engine, chain):
    configure(chain, STAY + IDLE)
    ended = engine.run(chain, "data_chain", "NeverTask").failed()
    assert chain.target("OtherTask").text() == "other"
    assert ended.answer["result"]["counts"]["blocked"] == 3
