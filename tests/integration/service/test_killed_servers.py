"""Servers are killed at any moment: runs go on, what waits is carried out by the next one, and nothing is lost."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from nectar_server import FINAL
from service_lab import Lab, Server, until

from nectar.records import utc_now
from nectar.runs import NewRun, Process, Root, RunState, is_alive
from nectar.service.carrier import BEGUN_BEFORE

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
"""
DEADLINE_S = 30.0  #: until a run without a process has to be CRASHED
CANCELED_S = 15.0  #: until a run that was canceled has to have ended


@pytest.fixture
def lab(lab: Lab) -> Lab:
    lab.chain(CHAIN)
    return lab


def test_runs_go_on_without_their_server_and_the_next_one_sees_them_end(lab: Lab) -> None:
    first = lab.serve()
    early, late = first.task("HeldTask", name="early"), first.task("HeldTask", name="late")
    lab.noted("begun early"), lab.noted("begun late")
    first.kill()
    lab.go("go-early")  # which ends while there is no server
    until(lambda: not lab.processes(f"carrier {early['run_id']}"), "the run ends")
    assert len(lab.targets("HeldTask")) == 1

    second = lab.serve()
    assert second.final(early["run_id"])["state"] == "SUCCESS"
    assert second.run(late["run_id"])["state"] == "RUNNING"
    assert second.task("HeldTask", name="late")["run_id"] == late["run_id"], "it is joined as before"
    lab.go("go-late")
    assert second.final(late["run_id"])["state"] == "SUCCESS"
    assert second.status(late)["job_status"] == "DONE"
    assert sorted(lab.notes) == ["begun early", "begun late"]


def test_a_run_that_is_killed_with_its_server_is_crashed_and_can_be_asked_for_again(lab: Lab) -> None:
    first = lab.serve()
    asked = first.task("HeldTask", name="a")
    lab.noted("begun a")
    first.kill()
    os.kill(lab.carrier(asked["run_id"]), signal.SIGKILL)

    second = lab.serve()
    run = second.final(asked["run_id"], DEADLINE_S)
    assert (run["state"], run["error"]) == ("CRASHED", "its process ended without a word")
    assert second.status(asked)["job_status"] == "FAILED"
    lab.go("go-a")
    again = second.task("HeldTask", name="a")
    assert again["run_id"] != asked["run_id"]
    assert second.final(again["run_id"])["state"] == "SUCCESS"
    lab.check_store()


def test_what_waits_when_its_server_is_killed_is_carried_out_by_the_next(lab: Lab) -> None:
    first = lab.serve("--runs", "1")
    held = first.task("HeldTask", name="a")
    lab.noted("begun a")
    waiting = [first.task("QuickTask", n=n)["run_id"] for n in range(3)]
    first.kill()
    lab.go("go-a")

    second = lab.serve("--runs", "1")
    for run_id in (held["run_id"], *waiting):
        assert second.final(run_id)["state"] == "SUCCESS"
    assert lab.notes == ["begun a", "made 0", "made 1", "made 2"], "in the order in which they were asked for"


def _dead_process() -> Process:
    """Return the name of a process that has ended."""
    with subprocess.Popen(["sleep", "60"]) as popen:
        with open(f"/proc/{popen.pid}/stat", "rb") as file:
            start = int(file.read().rpartition(b")")[2].split()[19])
        with open("/proc/sys/kernel/random/boot_id") as file:
            named = Process(os.uname().nodename, popen.pid, f"{file.read(8)}/{start}")
        assert is_alive(named)
        popen.kill()
    assert is_alive(named) is False
    return named


def claimed(lab: Lab, ago_s: float = 0.0) -> str:
    """Return a run that a server took from the queue when it was killed, and started no process for."""
    now = utc_now()
    root = Root("chains.etl.work_chain.QuickTask(n=1)", "etl/work_chain", {"n": "1"})
    new = NewRun(f"claimed-{secrets.token_hex(6)}", now, (root,), source="http", options={"name": "QuickTask"})
    with lab.books() as books:
        books.enqueue(new)
        taken = books.claim(str(_dead_process()), now=now - timedelta(seconds=ago_s))
        assert taken is not None and taken.id == new.id
    return new.id


def test_a_run_that_was_taken_and_not_begun_is_begun_by_the_next_server(lab: Lab) -> None:
    run_id = claimed(lab)
    assert lab.serve().final(run_id)["state"] == "SUCCESS"
    assert lab.notes == ["made 1"]


def test_a_run_that_was_taken_and_not_begun_is_begun_once_whoever_tries(lab: Lab) -> None:
    run_id = claimed(lab)
    # As if the dead server had started a process at the last moment, which has not said a word yet.
    with lab.books() as books:
        told = json.dumps(books.run(run_id).new.to_json()).encode("ascii")
    carriers = [lab.start("-m", "nectar.service.carrier", run_id, told=told) for _ in range(2)]
    server = lab.serve()
    run = server.final(run_id)
    assert (run["state"], run["error"]) == ("SUCCESS", None)
    assert sorted(one.wait(60) for one in carriers) in ([0, BEGUN_BEFORE], [BEGUN_BEFORE, BEGUN_BEFORE])
    assert lab.notes == ["made 1"]


def test_a_run_that_was_taken_and_not_begun_can_be_canceled(lab: Lab) -> None:
    run_id = claimed(lab)
    code, said = lab.nectar("cancel", run_id)
    assert code == 0, said
    assert lab.serve().final(run_id, CANCELED_S)["state"] == "CANCELED"
    assert lab.notes == []


def test_a_run_that_nobody_begins_is_crashed_for_whoever_looks_at_the_history(lab: Lab) -> None:
    run_id = claimed(lab, DEADLINE_S)
    code, said = lab.nectar("runs", run_id, "--json")
    assert code == 0, said
    run = json.loads(said)
    assert (run["state"], run["error"]) == ("CRASHED", "its server ended before its process had begun")


def test_a_run_that_was_to_be_canceled_when_its_process_died_is_canceled(lab: Lab) -> None:
    run_id = claimed(lab)
    with lab.books() as books:
        books.advance(run_id, RunState.RUNNING, at=utc_now(), process=_dead_process())
        books.advance(run_id, RunState.CANCELING, at=utc_now())
    code, said = lab.nectar("runs", run_id, "--json")
    assert code == 0, said
    assert json.loads(said)["state"] == "CANCELED"


def test_a_run_of_an_earlier_server_takes_its_place_among_those_at_work(lab: Lab) -> None:
    first = lab.serve("--runs", "1")
    held = first.task("HeldTask", name="a")
    lab.noted("begun a")
    first.kill()
    second = lab.serve("--runs", "1")
    waiting = second.task("QuickTask", n=1)
    lab.looked(second)
    assert second.run(waiting["run_id"])["state"] == "QUEUED"
    lab.go("go-a")
    assert second.final(held["run_id"])["state"] == "SUCCESS"
    assert second.final(waiting["run_id"])["state"] == "SUCCESS"


@dataclass
class Client:
    """Asks for one target after the other, each until it is acknowledged, and keeps the run ids."""

    server: Server
    acknowledged: dict[int, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def ask(self, first: int, step: int) -> None:
        n = first
        while not self.done.is_set():
            key = secrets.token_hex(8)
            while n not in self.acknowledged and not self.done.is_set():
                with contextlib.suppress(OSError, http.client.HTTPException):  # the server is just being killed
                    path = f"/api/chains/etl/work_chain/QuickTask?n={n}"
                    reply = self.server.ask("POST", path, headers={"Idempotency-Key": key})
                    if reply.status != 200:
                        self.refused.append(repr(reply))
                        return
                    self.acknowledged[n] = reply.data["run_id"]
            n += step


def _kill_at_random(lab: Lab, chance: random.Random, kills: int, longest_s: float, most: int) -> dict[int, str]:
    """Kill servers while clients ask, and return which run was acknowledged for which number."""
    client = Client(lab.serve("--runs", "2"))
    threads = [threading.Thread(target=client.ask, args=(number, 2)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(kills):
            known = len(client.acknowledged)
            until(lambda known=known: len(client.acknowledged) > known or client.refused, "a run is acknowledged")  # type: ignore[misc]
            # Not a wait for anything: the moment of the death is what chance decides.
            threading.Event().wait(chance.uniform(0, longest_s))
            client.server.kill()
            client.server = lab.serve("--runs", "2", NECTAR_SERVE_WAITING="100000")
            if len(client.acknowledged) >= most:
                break
    finally:
        client.done.set()
        for thread in threads:
            thread.join()
    assert client.refused == []
    return client.acknowledged


def _check_history(lab: Lab, server: Server, acknowledged: dict[int, str]) -> dict[str, int]:
    """Make sure that every acknowledged run ended, each once; return how many ended how."""
    ended: dict[str, int] = {}
    for n, run_id in acknowledged.items():
        run = server.final(run_id, 120)
        ended[run["state"]] = ended.get(run["state"], 0) + 1
        assert run["roots"][0]["params"] == {"n": str(n)}
        if run["state"] != "SUCCESS":
            assert run["error"] == "its server ended before its process had begun", run
        else:
            assert lab.notes.count(f"made {n}") == 1
    lab.check_store()
    return ended


def test_no_acknowledged_run_is_lost_whenever_servers_are_killed(
    lab: Lab, chance: random.Random, publish: Callable[..., None]
) -> None:
    acknowledged = _kill_at_random(lab, chance, kills=4, longest_s=0.3, most=12)
    ended = _check_history(lab, lab.servers[-1], acknowledged)
    publish(kills=4, acknowledged=len(acknowledged), **ended)
    assert set(ended) <= set(FINAL)
    with lab.books() as books:
        assert RunState.QUEUED not in books.states()


@pytest.mark.stress
def test_no_acknowledged_run_is_lost_in_a_hundred_deaths(
    lab: Lab, chance: random.Random, publish: Callable[..., None]
) -> None:
    acknowledged = _kill_at_random(lab, chance, kills=100, longest_s=2.0, most=2000)
    publish(kills=100, acknowledged=len(acknowledged), **_check_history(lab, lab.servers[-1], acknowledged))
