"""A server that is told to end lets runs at work end, takes no more, and leaves what waits to the next one."""

from __future__ import annotations

import http.client
import signal

import pytest
from service_lab import Lab, refused

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
        self.dump(self.name)


class StubbornTask(nectar.Task):
    def run(self):
        signal.signal(signal.SIGTERM, lambda number, frame: note("asked to end"))
        note("begun stubborn")
        wait_for("never")
"""


@pytest.fixture
def lab(lab: Lab) -> Lab:
    lab.chain(CHAIN)
    return lab


def test_a_server_that_is_told_to_end_finishes_its_runs_and_leaves_the_queue(lab: Lab) -> None:
    server = lab.serve("--runs", "1")
    held = server.task("HeldTask", name="a")
    lab.noted("begun a")
    waiting = server.task("QuickTask", n=1)
    server.signal()
    server.draining()

    for reply in (server.try_task("QuickTask", n=2), server.post(f"/api/runs/{held['run_id']}/rerun")):
        told = refused(reply, 503, "server-busy")
        assert "takes no more runs" in told["message"] and told["hint"]
        assert int(reply.headers["Retry-After"]) > 0
    assert server.run(held["run_id"])["state"] in ("STARTING", "RUNNING")  # as far as its journal was read
    assert server.status(waiting)["job_status"] == "RUNNING"
    assert server.get("/api/chains").status == 200
    lab.go("go-a")
    assert server.ended() == 0
    with lab.books() as books:
        assert books.run(held["run_id"]).state == "SUCCESS"
        assert books.run(waiting["run_id"]).state == "QUEUED"
    assert lab.notes == ["begun a"]

    second = lab.serve()
    assert second.final(waiting["run_id"])["state"] == "SUCCESS"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_without_runs_at_work_ends_at_once(lab: Lab, number: signal.Signals) -> None:
    server = lab.serve(NECTAR_SERVE_DRAIN_S="3600")
    server.signal(number)
    assert server.ended() == 0
    assert lab.processes() == {}


def test_what_has_not_ended_when_patience_does_is_canceled(lab: Lab) -> None:
    server = lab.serve(NECTAR_SERVE_DRAIN_S="1")
    runs = [server.task("HeldTask", name=name)["run_id"] for name in "ab"]
    lab.noted("begun a"), lab.noted("begun b")
    server.signal()
    assert server.ended() == 0
    with lab.books() as books:
        assert [books.run(run_id).state for run_id in runs] == ["CANCELED", "CANCELED"]
    assert lab.processes() == {}
    lab.go("go-a", "go-b")
    assert lab.targets() == []


def test_a_second_signal_ends_the_server_at_once_and_its_runs_go_on(lab: Lab) -> None:
    server = lab.serve(NECTAR_SERVE_DRAIN_S="3600")
    held = server.task("HeldTask", name="a")
    lab.noted("begun a")
    server.signal()
    server.draining()
    server.signal()
    server.ended(10)
    assert lab.processes(f"carrier {held['run_id']}")
    second = lab.serve()
    assert second.run(held["run_id"])["state"] in ("STARTING", "RUNNING")
    lab.go("go-a")
    assert second.final(held["run_id"])["state"] == "SUCCESS"


def test_a_second_signal_does_not_wait_for_what_is_being_canceled(lab: Lab) -> None:
    server = lab.serve(NECTAR_SERVE_DRAIN_S="0")
    asked = server.task("StubbornTask")
    lab.noted("begun stubborn")
    server.signal()
    lab.noted("asked to end")
    server.signal()
    server.ended()
    assert lab.processes(f"carrier {asked['run_id']}"), "the next server goes on with it"
    with lab.books() as books:
        assert books.run(asked["run_id"]).state == "CANCELING"


def test_who_follows_the_events_of_a_run_does_not_keep_the_server(lab: Lab) -> None:
    server = lab.serve()
    held = server.task("HeldTask", name="a")
    lab.noted("begun a")
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    connection.request("GET", f"/api/runs/{held['run_id']}/events", headers={"Accept": "text/event-stream"})
    stream = connection.getresponse()
    assert stream.readline() == b"retry: 1000\n"
    server.signal()
    server.draining()
    lab.go("go-a")
    assert server.ended() == 0
    stream.read()
    connection.close()
