"""Two servers over one PostgreSQL: one queue, each run started once, one run for requests that come at once."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from postgres import Postgres
from service_lab import Lab, Server

RUNS = 40
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


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab], postgres: Postgres) -> Lab:
    made = make_lab(postgres.new_database())
    made.chain(CHAIN)
    return made


@pytest.fixture(scope="module")
def servers(lab: Lab) -> tuple[Server, Server]:
    """Two servers over one database."""
    return lab.serve("--runs", "2"), lab.serve("--runs", "2")


def test_each_run_of_a_shared_queue_is_started_once(lab: Lab, servers: tuple[Server, Server]) -> None:
    runs = [servers[n % 2].task("QuickTask", n=n)["run_id"] for n in range(RUNS)]
    ended = [servers[n % 2].final(run_id) for n, run_id in enumerate(runs)]
    assert {run["state"] for run in ended} == {"SUCCESS"}
    assert Counter(lab.notes) == {f"made {n}": 1 for n in range(RUNS)}
    carriers = Counter(run["server"].split(":")[1] for run in ended)
    assert sorted(carriers) == sorted(str(server.pid) for server in servers), "both take part"
    starts = Counter(re.findall(r"run (\S+) started", "".join(server.log for server in servers)))
    assert starts == dict.fromkeys(runs, 1)
    for run_id in runs:
        events = servers[0].get(f"/api/runs/{run_id}/events").data["events"]
        said = [event["detail"].get("state") for event in events if event["kind"].startswith("run ")]
        assert [said.count(state) for state in ("QUEUED", "RUNNING", "SUCCESS")] == [1, 1, 1], said


def test_requests_that_come_at_once_to_both_have_one_run(lab: Lab, servers: tuple[Server, Server]) -> None:
    barrier = threading.Barrier(4)

    def ask(number: int, name: str) -> Any:
        barrier.wait(60)
        return servers[number % 2].task("HeldTask", name=name)

    with ThreadPoolExecutor(4) as pool:
        for name in ("x", "y", "z"):
            answers = list(pool.map(ask, range(4), [name] * 4))
            assert len({one["run_id"] for one in answers}) == 1
            assert sorted(one["joined"] for one in answers) == [False, True, True, True]
            lab.go(f"go-{name}")
            assert servers[1].final(answers[0]["run_id"])["state"] == "SUCCESS"
    assert Counter(note for note in lab.notes if note.startswith("begun")) == {f"begun {name}": 1 for name in "xyz"}


def test_what_one_server_was_asked_for_the_other_tells(lab: Lab, servers: tuple[Server, Server]) -> None:
    asked = servers[0].task("HeldTask", name="told")
    lab.noted("begun told")
    assert servers[1].status(asked)["job_status"] == "RUNNING"
    lab.go("go-told")
    assert servers[1].final(asked["run_id"])["state"] == "SUCCESS"
    told = servers[1].status(asked)
    assert told["job_status"] == "DONE"
    assert servers[1].get("/api/" + told["resource_url"].partition("/api/")[2]).raw == b"told"


def test_the_other_server_goes_on_when_one_is_killed(lab: Lab, servers: tuple[Server, Server]) -> None:
    one, other = servers
    held = [one.task("HeldTask", name=f"last{number}")["run_id"] for number in range(4)]
    for number in range(4):
        lab.noted(f"begun last{number}")
    waiting = one.task("QuickTask", n=1000)["run_id"]
    one.kill()
    lab.go(*(f"go-last{number}" for number in range(4)))
    for run_id in (*held, waiting):
        assert other.final(run_id)["state"] == "SUCCESS"
    assert lab.notes.count("made 1000") == 1
