"""Runs beside each other: each tells of itself alone, bounds are kept, and what was made before is not made again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from service_lab import Lab, Server, refused, until

CHAIN = """
class QuickTask(nectar.Task):
    n = luigi.IntParameter()
    def run(self):
        note(f"made {self.n}")
        self.dump(f"{self.n}")


class HeldTask(nectar.Task):
    name = luigi.Parameter()
    def run(self):
        note(f"begun {self.name}")
        wait_for(f"go-{self.name}")
        if self.name.startswith("bad"):
            raise ValueError(f"{self.name} is bad")
        self.dump(self.name)
        note(f"ended {self.name}")


class SlowTask(nectar.Task):
    worker_timeout = 1
    def run(self):
        wait_for("never")


class TurnTask(nectar.Task):
    n = luigi.IntParameter()
    def run(self):
        note(f"turn {self.n} begins")
        time.sleep(0.05)
        note(f"turn {self.n} ends")
        self.dump("done")
"""
STEPS = """
class OneTask(nectar.Task):
    def run(self):
        note("step 1")
        self.dump("1")

class TwoTask(nectar.Task):
    def requires(self):
        return OneTask()
    def run(self):
        note("step 2")
        self.dump("2")

class ThreeTask(nectar.Task):
    def requires(self):
        return TwoTask()
    def run(self):
        note("step 3")
        raise ValueError("not yet")
        self.dump("3")

class FourTask(nectar.Task):
    def requires(self):
        return ThreeTask()
    def run(self):
        note("step 4")
        self.dump("4")

class FiveTask(nectar.Task):
    def requires(self):
        return FourTask()
    def run(self):
        note("step 5")
        self.dump("5")
"""


@pytest.fixture(scope="module")
def shared(make_lab: Callable[..., Lab]) -> Lab:
    made = make_lab()
    made.chain(CHAIN)
    made.chain(STEPS, "steps")
    return made


@pytest.fixture(scope="module")
def server(shared: Lab) -> Server:
    return shared.serve("--runs", "3")


def test_each_of_two_values_in_flight_tells_of_itself_alone(shared: Lab, server: Server) -> None:
    good, bad = server.task("HeldTask", name="good"), server.task("HeldTask", name="bad")
    shared.noted("begun good"), shared.noted("begun bad")
    assert good["status_url"] != bad["status_url"] and good["run_id"] != bad["run_id"]
    assert [server.status(one)["job_status"] for one in (good, bad)] == ["RUNNING", "RUNNING"]
    shared.go("go-bad")
    assert server.final(bad["run_id"])["state"] == "FAILURE"
    told = server.status(bad)
    assert (told["job_status"], told["resource_url"]) == ("FAILED", None)
    assert "bad is bad" in told["error"]["message"] and "ValueError: bad is bad" in told["error"]["traceback"]
    assert server.status(good)["job_status"] == "RUNNING" and server.status(good)["error"] is None
    shared.go("go-good")
    assert server.final(good["run_id"])["state"] == "SUCCESS"
    assert [server.status(one)["job_status"] for one in (good, bad)] == ["DONE", "FAILED"]
    assert server.get("/api/" + server.status(good)["resource_url"].partition("/api/")[2]).raw == b"good"


def test_never_more_runs_are_at_work_than_the_server_was_told(shared: Lab, server: Server) -> None:
    runs = [server.task("TurnTask", n=n)["run_id"] for n in range(6)]
    for run_id in runs:
        assert server.final(run_id)["state"] == "SUCCESS"
    at_work, most = 0, 0
    for word in [note.rpartition(" ")[2] for note in shared.notes if note.startswith("turn")]:
        at_work += 1 if word == "begins" else -1
        most = max(most, at_work)
    assert most <= 3
    # What was begun at once as well: the processes.
    spans = [(run["started_at"], run["ended_at"]) for run in map(server.run, runs)]
    assert max(sum(one[0] <= begun < one[1] for one in spans) for begun, _ in spans) <= 3


def test_a_full_queue_refuses_more_and_says_when_to_come_again(lab: Lab) -> None:
    lab.chain(CHAIN)
    server = lab.serve("--runs", "1", NECTAR_SERVE_WAITING="2")
    done = server.task("QuickTask", n=0)
    assert server.final(done["run_id"])["state"] == "SUCCESS"
    held = server.task("HeldTask", name="a")
    lab.noted("begun a")
    waiting = [server.task("QuickTask", n=n)["run_id"] for n in (1, 2)]
    reply = server.try_task("QuickTask", n=3)
    told = refused(reply, 429, "queue-full")
    assert "2 runs wait" in told["message"] and told["hint"] and int(reply.headers["Retry-After"]) > 0
    refused(server.post(f"/api/runs/{done['run_id']}/rerun"), 429, "queue-full")
    # What is there, at work or waiting needs no place.
    assert server.task("QuickTask", n=0)["complete"]
    assert server.task("HeldTask", name="a")["run_id"] == held["run_id"]
    assert server.task("QuickTask", n=2)["run_id"] == waiting[1]
    lab.go("go-a")
    for run_id in (held["run_id"], *waiting):
        assert server.final(run_id)["state"] == "SUCCESS"
    assert server.final(server.task("QuickTask", n=3)["run_id"])["state"] == "SUCCESS"
    assert "made 3" in lab.notes


def test_a_mended_chain_goes_on_where_it_failed(shared: Lab, server: Server) -> None:
    first = server.task("steps/FiveTask")
    assert server.final(first["run_id"])["state"] == "FAILURE"
    told = server.status(first)["error"]
    assert "not yet" in told["message"] and "ThreeTask" in told["task"]
    shared.chain(STEPS.replace('        raise ValueError("not yet")\n', ""), "steps")
    second = server.task("steps/FiveTask")
    assert second["run_id"] != first["run_id"]
    run = server.final(second["run_id"])
    assert run["state"] == "SUCCESS"
    assert [note for note in shared.notes if note.startswith("step")] == [f"step {n}" for n in (1, 2, 3, 3, 4, 5)]
    assert server.status(second)["job_status"] == "DONE"
    assert run["counts"] == {"succeeded": 3, "skipped": 1}


def test_a_task_with_a_time_limit_has_it_here_too(server: Server) -> None:
    asked = server.task("SlowTask")
    assert server.final(asked["run_id"])["state"] == "FAILURE"
    told = server.status(asked)
    assert told["job_status"] == "FAILED" and "1 s" in told["error"]["message"], told


def test_runs_that_were_started_beside_the_server_are_seen_by_it(shared: Lab, server: Server) -> None:
    command = shared.start("-m", "nectar.cli", "run", "etl/work_chain", "HeldTask", "--name", "cli")
    shared.noted("begun cli")
    until(lambda: _of(server, "cli"), "the run is seen")
    assert [run["state"] for run in _of(server, "cli")] == ["RUNNING"]
    joined = server.task("HeldTask", name="cli")
    assert joined["joined"] and joined["run_id"] == _of(server, "cli")[0]["id"]
    assert server.status(joined)["job_status"] == "RUNNING"
    shared.go("go-cli")
    assert command.wait(60) == 0
    assert server.final(joined["run_id"])["state"] == "SUCCESS"
    assert server.status(joined)["job_status"] == "DONE"

    code, said = shared.call(
        *("-m", "luigi", "--module", "chains.etl.work_chain", "QuickTask", "--n", "77", "--local-scheduler")
    )
    assert code == 0, said
    until(lambda: _of(server, "luigi"), "the run is seen")
    run = server.final(_of(server, "luigi")[0]["id"])
    assert (run["state"], run["roots"][0]["params"]) == ("SUCCESS", {"n": "77"})
    again = server.task("QuickTask", n=77)
    assert again["complete"] and again["run_id"] == run["id"]


def _of(server: Server, source: str) -> list[dict[str, object]]:
    return list(server.get("/api/runs", source=source).data["runs"])


def test_a_run_beside_the_server_can_be_canceled_through_it(shared: Lab, server: Server) -> None:
    command = shared.start("-m", "nectar.cli", "run", "etl/work_chain", "HeldTask", "--name", "stop")
    shared.noted("begun stop")
    until(lambda: [run for run in _of(server, "cli") if run["state"] == "RUNNING"], "the run is seen")
    run_id = str(next(run["id"] for run in _of(server, "cli") if run["state"] == "RUNNING"))
    assert server.post(f"/api/runs/{run_id}/cancel").data["state"] == "CANCELING"
    assert server.final(run_id, 15)["state"] == "CANCELED"
    assert command.wait(60) == 4
    assert shared.targets("HeldTask", name="stop") == []
