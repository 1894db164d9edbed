"""Cancel is final within 15 seconds, whatever a task does against it, and nothing is published afterwards."""

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
        self.dump(self.name)


class StubbornTask(nectar.Task):
    '''Ignores every signal that it can, and so does all that it starts, in its process group and outside.'''
    name = luigi.Parameter()
    def run(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # which what it starts inherits
        sleep = [sys.executable, "-c", "import time; time.sleep(3600)", self.name]
        for outside in (False, True):
            subprocess.Popen(sleep, start_new_session=outside)
        # Two that nobody is the parent of any more: in the group, and a daemon.
        for word in ("", "setsid"):
            subprocess.run(["sh", "-c", f"{word} \\"$@\\" >/dev/null 2>&1 &", "sh", *sleep])
        note(f"begun {self.name}")
        while not os.path.exists(f"go-{self.name}"):
            try:
                time.sleep(0.02)
            except BaseException:
                note("interrupted")
        self.dump(self.name)


class SwallowTask(nectar.Task):
    '''Takes what is raised in it for a reason to hurry.'''
    name = luigi.Parameter()
    def run(self):
        note(f"begun {self.name}")
        try:
            wait_for(f"go-{self.name}")
        except KeyboardInterrupt:
            note(f"swallowed {self.name}")
        self.dump(self.name)


class AfterTask(nectar.Task):
    name = luigi.Parameter()
    def requires(self):
        return SwallowTask(name=self.name)
    def run(self):
        note(f"after {self.name}")
        self.dump(self.name)
"""
SLOW = """
import sys
if "nectar.service.carrier" in sys.orig_argv:
    note("importing")
    wait_for("go-import")


class SlowTask(nectar.Task):
    name = luigi.Parameter()
    def run(self):
        note(f"begun {self.name}")
        self.dump(self.name)
"""
DEADLINE_S = 15.0  #: until a run that was canceled has to have ended


@pytest.fixture(scope="module")
def shared(make_lab: Callable[..., Lab]) -> Lab:
    """A project that the tests of this module share; each has names of its own in it."""
    lab = make_lab()
    lab.chain(CHAIN)
    lab.chain(SLOW, "slow")
    return lab


@pytest.fixture(scope="module")
def server(shared: Lab) -> Server:
    """A server that carries out many runs at once."""
    return shared.serve("--runs", "8")


@pytest.fixture
def name(request: pytest.FixtureRequest, shared: Lab) -> str:
    """A name that no other test has."""
    return request.node.name.split("[")[0].removeprefix("test_") + str(len(shared.notes))


def cancel(server: Server, run_id: str) -> str:
    return str(server.post(f"/api/runs/{run_id}/cancel").data["state"])


def _gone(lab: Lab, name: str, run_id: str) -> bool:
    return not lab.processes(name) and not lab.processes(run_id)


def test_a_run_that_waits_never_starts(lab: Lab) -> None:
    lab.chain(CHAIN)
    server = lab.serve("--runs", "1")
    held = server.task("HeldTask", name="a")
    lab.noted("begun a")
    waiting, last = server.task("QuickTask", n=1), server.task("QuickTask", n=2)
    assert cancel(server, waiting["run_id"]) == "CANCELED"
    lab.go("go-a")
    for run_id in (held["run_id"], last["run_id"]):
        assert server.final(run_id)["state"] == "SUCCESS"
    run = server.run(waiting["run_id"])
    assert (run["state"], run["started_at"], run["process"]) == ("CANCELED", None, None)
    assert run["error"] == "it was canceled before it began"
    assert server.status(waiting)["job_status"] == "FAILED"
    assert "canceled" in server.status(waiting)["error"]["message"]
    assert lab.notes == ["begun a", "made 2"]


def test_a_run_that_has_just_been_taken_is_canceled_before_it_does_anything(shared: Lab, server: Server) -> None:
    runs = [server.task("HeldTask", name=f"taken{number}")["run_id"] for number in range(4)]
    for run_id in runs:
        assert cancel(server, run_id) in ("CANCELING", "CANCELED")
    for run_id in runs:
        assert server.final(run_id, DEADLINE_S)["state"] == "CANCELED"
        until(lambda run_id=run_id: not shared.processes(run_id), "its process is gone")  # type: ignore[misc]
    assert not [one for one in shared.notes if one.startswith("begun taken")]


def test_a_run_whose_chain_is_still_being_imported_is_canceled(shared: Lab, server: Server, name: str) -> None:
    asked = server.task("slow/SlowTask", name=name)
    shared.noted("importing")
    assert server.run(asked["run_id"])["state"] == "STARTING"
    assert cancel(server, asked["run_id"]) == "CANCELING"
    assert server.final(asked["run_id"], DEADLINE_S)["state"] == "CANCELED"
    shared.go("go-import")
    until(lambda: _gone(shared, name, asked["run_id"]), "its processes are gone")
    assert f"begun {name}" not in shared.notes


def test_a_run_at_work_is_canceled_and_says_so(shared: Lab, server: Server, name: str) -> None:
    asked = server.task("HeldTask", name=name)
    shared.noted(f"begun {name}")
    assert cancel(server, asked["run_id"]) == "CANCELING"
    run = server.final(asked["run_id"], DEADLINE_S)
    assert run["state"] == "CANCELED" and "interrupted" in run["error"]
    until(lambda: _gone(shared, name, asked["run_id"]), "its processes are gone")
    shared.go(f"go-{name}")
    assert shared.targets("HeldTask", name=name) == []
    # Who asks again gets another run, of which nothing stands in the way.
    again = server.task("HeldTask", name=name)
    assert again["run_id"] != asked["run_id"]
    assert server.final(again["run_id"])["state"] == "SUCCESS"


def test_a_task_that_ignores_signals_is_ended_with_all_that_it_started(shared: Lab, server: Server, name: str) -> None:
    asked = server.task("StubbornTask", name=name)
    shared.noted(f"begun {name}")
    assert len(shared.processes(f"3600) {name}")) == 4
    assert cancel(server, asked["run_id"]) == "CANCELING"
    assert cancel(server, asked["run_id"]) == "CANCELING", "twice is as once"
    assert server.final(asked["run_id"], DEADLINE_S)["state"] == "CANCELED"
    assert shared.processes(f"3600) {name}") == {}
    until(lambda: _gone(shared, name, asked["run_id"]), "its processes are gone")
    shared.go(f"go-{name}")
    assert shared.targets("StubbornTask", name=name) == []
    shared.check_store()


def test_nothing_more_is_begun_where_a_task_swallows_the_interrupt(shared: Lab, server: Server, name: str) -> None:
    asked = server.task("AfterTask", name=name)
    shared.noted(f"begun {name}")
    cancel(server, asked["run_id"])
    assert server.final(asked["run_id"], DEADLINE_S)["state"] == "CANCELED"
    assert f"swallowed {name}" in shared.notes
    until(lambda: _gone(shared, name, asked["run_id"]), "its process is gone")
    assert f"after {name}" not in shared.notes
    assert shared.targets("AfterTask", name=name) == []


def test_the_command_cancels_what_the_server_carries_out(shared: Lab, server: Server, name: str) -> None:
    asked = server.task("HeldTask", name=name)
    shared.noted(f"begun {name}")
    code, said = shared.nectar("cancel", asked["run_id"])
    assert code == 0, said
    assert server.run(asked["run_id"])["state"] == "CANCELED"
    until(lambda: _gone(shared, name, asked["run_id"]), "its processes are gone")


def test_the_command_cancels_what_waits(lab: Lab) -> None:
    lab.chain(CHAIN)
    server = lab.serve("--runs", "1")
    server.task("HeldTask", name="a")
    lab.noted("begun a")
    waiting = server.task("QuickTask", n=1)
    code, said = lab.nectar("cancel", waiting["run_id"])
    assert code == 0, said
    assert server.run(waiting["run_id"])["state"] == "CANCELED"


def test_a_run_that_has_ended_cannot_be_canceled(shared: Lab, server: Server) -> None:
    asked = server.task("QuickTask", n=1)
    assert server.final(asked["run_id"])["state"] == "SUCCESS"
    told = refused(server.post(f"/api/runs/{asked['run_id']}/cancel"), 409, "run-state-conflict")
    assert "SUCCESS" in told["message"] and told["hint"]
    code, said = shared.nectar("cancel", asked["run_id"])
    assert code != 0 and "SUCCESS" in said
    assert server.run(asked["run_id"])["state"] == "SUCCESS"
    assert len(shared.targets("QuickTask")) == 1
    refused(server.post("/api/runs/20260101T000000-00000000/cancel"), 404, "run-not-found")


def test_a_run_of_an_earlier_server_can_be_canceled(lab: Lab) -> None:
    lab.chain(CHAIN)
    first = lab.serve()
    runs = {name: first.task("HeldTask", name=name)["run_id"] for name in "ab"}
    lab.noted("begun a"), lab.noted("begun b")
    with lab.books() as books:
        first.post(f"/api/runs/{runs['a']}/cancel")
        first.kill()  # perhaps before it has done anything about it
        assert books.run(runs["a"]).state in ("CANCELING", "CANCELED")
    second = lab.serve()
    assert second.final(runs["a"], DEADLINE_S)["state"] == "CANCELED"
    cancel(second, runs["b"])
    assert second.final(runs["b"], DEADLINE_S)["state"] == "CANCELED"
    until(lambda: not lab.processes("nectar.service.carrier"), "no process is left")
    assert lab.targets() == []


def test_the_server_whose_run_it_is_ends_it_whoever_was_asked(make_lab: Callable[..., Lab], postgres: object) -> None:
    url = postgres.new_database()  # type: ignore[attr-defined]
    lab = make_lab(url)
    lab.chain(CHAIN)
    servers = [lab.serve("--runs", "1"), lab.serve("--runs", "1")]
    runs = {name: servers[0].task("HeldTask", name=name)["run_id"] for name in "ab"}
    lab.noted("begun a"), lab.noted("begun b")
    owners = {run_id: servers[0].run(run_id)["server"].split(":")[1] for run_id in runs.values()}
    assert sorted(map(int, owners.values())) == sorted(server.pid for server in servers)
    for run_id, pid in owners.items():
        other = next(server for server in servers if server.pid != int(pid))
        assert cancel(other, run_id) == "CANCELING"
    for run_id in owners:
        assert servers[0].final(run_id, DEADLINE_S)["state"] == "CANCELED"
    until(lambda: not lab.processes("nectar.service.carrier"), "no process is left")
    assert lab.targets() == []
