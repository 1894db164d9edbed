"""Whatever a chain's code does to its process, only that run or request ends badly, and it says how."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from nectar_server import Reply
from service_lab import Lab, Server, refused, until

from nectar.service.importers import MOST

ANSWER_S, IMPORT_S = 3.0, 6.0  #: for an answer and for an import, here
CHAIN = """
class QuickTask(nectar.Task):
    n = luigi.IntParameter()
    def run(self):
        self.dump(f"{self.n}")


class HeldTask(nectar.Task):
    def run(self):
        note("held")
        wait_for("never")


class PoisonTask(nectar.Task):
    how = luigi.Parameter()
    def run(self):
        getattr(self, self.how)()
        self.dump("nobody gets here")

    def exit(self):
        print("a last word", file=sys.__stderr__, flush=True)
        os._exit(7)

    def exit_well(self):
        os._exit(0)

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def abort(self):
        os.abort()

    def memory(self):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, hard))
        self.eaten = []
        while True:
            self.eaten.append(bytearray(1 << 20))

    def stack(self):
        return self.stack()

    def system_exit(self):
        raise SystemExit(9)
"""
STUCK = """
class StuckTask(nectar.Task):
    how = luigi.Parameter()
    n = luigi.IntParameter(default=0)

    def requires(self):
        note(f"{self.how} {self.n}")
        if self.how == "hang":
            wait_for("never")
        if self.how == "exit":
            os._exit(5)
        if self.how == "raise":
            raise RuntimeError("nothing is required")
        if self.how == "change":
            os.environ["HOME"] = "/nowhere"
            StuckTask.requires = lambda self: []
        return []

    def run(self):
        self.dump("never")
"""
ANY = "class ATask(nectar.Task):\n    def run(self):\n        self.dump('a')\n"
BROKEN = {
    "hanging": 'wait_for("never")',
    "leaving": "os._exit(3)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "broken": "import no_such_module",
    "unfinished": "def half(:",
}
#: limits as they are would have these tests wait for a minute and a half
LIMITS = f"""
import sys
if "serve" in sys.orig_argv:
    from nectar.chain import isolation
    isolation.LIMIT_S = {IMPORT_S}
    from nectar.service import importers
    importers.Importers.__init__.__kwdefaults__["answer_s"] = {ANSWER_S}
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    made = make_lab()
    made.chain(CHAIN)
    made.chain(STUCK, "stuck")
    for name, text in BROKEN.items():
        made.chain(text, name)
    made.put("sitecustomize.py", LIMITS)
    return made


@pytest.fixture(scope="module")
def server(lab: Lab) -> Server:
    return lab.serve("--runs", "8")


def is_well(server: Server, n: int) -> None:
    """Make sure that the server still carries runs out."""
    assert server.final(server.task("QuickTask", n=n)["run_id"])["state"] == "SUCCESS"


def test_a_run_whose_process_ends_is_crashed_and_says_how(lab: Lab, server: Server) -> None:
    ways = {
        "exit": "its process ended with exit code 7 without a word",
        "exit_well": "its process ended with exit code 0 without a word",
        "kill": "its process was ended by signal 9 without a word",
        "abort": "its process was ended by signal 6 without a word",
    }
    asked = {how: server.task("PoisonTask", how=how) for how in ways}
    for how, error in ways.items():
        run = server.final(asked[how]["run_id"])
        assert (run["state"], run["error"].partition(";")[0]) == ("CRASHED", error), run
        told = server.status(asked[how])
        assert (told["job_status"], told["run_state"]) == ("FAILED", "CRASHED")
        assert told["error"]["message"].startswith(error)
        assert told["resource_url"] is None
    assert lab.targets("PoisonTask") == []
    is_well(server, 1)


def test_how_a_process_ended_is_for_its_server_to_say_whoever_looks_before(lab: Lab, server: Server) -> None:
    run_id = server.task("HeldTask")["run_id"]
    lab.noted("held")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        os.kill(lab.carrier(run_id), signal.SIGKILL)
        code, said = lab.nectar("runs", run_id, "--json")
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert code == 0 and json.loads(said)["state"] in ("STARTING", "RUNNING"), said
    run = server.final(run_id)
    assert (run["state"], run["error"]) == ("CRASHED", "its process was ended by signal 9 without a word")


def test_a_run_that_eats_its_memory_or_stack_ends_badly_and_alone(lab: Lab, server: Server) -> None:
    asked = {how: server.task("PoisonTask", how=how) for how in ("memory", "stack", "system_exit")}
    for how, one in asked.items():
        run = server.final(one["run_id"])
        assert run["state"] in ("FAILURE", "CRASHED"), (how, run)
        assert run["error"], (how, run)
        assert server.status(one)["job_status"] == "FAILED"
    assert lab.targets("PoisonTask") == []
    is_well(server, 2)


def test_a_poisoned_run_can_be_asked_for_again(server: Server) -> None:
    first, second = (server.final(server.task("PoisonTask", how="kill")["run_id"]) for _ in range(2))
    assert first["id"] != second["id"]
    assert second["state"] == "CRASHED"
    again = server.post(f"/api/runs/{second['id']}/rerun")
    assert again.status == 200 and again.data["parent_id"] == second["id"]
    assert server.final(again.data["id"])["state"] == "CRASHED"


def _while_it_waits(server: Server, path: str, n: int) -> Reply:
    """Return how a request is answered; meanwhile another chain has to answer."""
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(server.post, path)
        assert server.task("QuickTask", n=n)["run_id"]
        assert not reply.done(), "the other chain had to wait"
        return reply.result()


def test_a_requires_that_hangs_holds_up_its_own_request_alone(lab: Lab, server: Server) -> None:
    is_well(server, 3)
    server.task("stuck/StuckTask", how="none")  # the template is there
    reply = _while_it_waits(server, "/api/chains/etl/stuck_chain/StuckTask?how=hang", 4)
    told = refused(reply, 504, "no-answer")
    assert "no answer within 3 s" in told["message"] and "requires()" in told["hint"]
    assert server.get("/api/runs", text="hang").data["runs"] == []
    until(lambda: not [one for one in lab.processes("template") if _asked(one)], "the child is gone")


def _asked(pid: int) -> bool:
    """Say whether a process is the child of a template, which is the leader of its own session as well."""
    with open(f"/proc/{pid}/stat") as file:
        parent = int(file.read().rpartition(")")[2].split()[1])
    with open(f"/proc/{parent}/cmdline") as file:
        return "template" in file.read()


@pytest.mark.parametrize(
    ("how", "status", "code", "words"),
    [
        ("exit", 504, "no-answer", "ended without an answer"),
        ("raise", 400, "task-broken", "nothing is required"),
    ],
)
def test_a_requires_that_exits_or_raises_is_an_error_of_its_own_request(
    server: Server, how: str, status: int, code: str, words: str
) -> None:
    told = refused(server.try_task("stuck/StuckTask", how=how), status, code)
    assert words in told["message"]
    assert server.task("stuck/StuckTask", how="none")["target"]


def test_what_a_question_changes_in_its_process_no_other_one_sees(lab: Lab, server: Server) -> None:
    for n in range(2):
        server.task("stuck/StuckTask", how="change", n=n)
        lab.noted(f"change {n}")


def test_many_requests_for_a_chain_that_hangs_leave_room_for_others(server: Server) -> None:
    is_well(server, 5)
    began = threading.Barrier(25)

    def ask(number: int) -> Reply:
        began.wait(60)
        return server.try_task("stuck/StuckTask", how="hang", n=number)

    with ThreadPoolExecutor(24) as pool:
        replies = [pool.submit(ask, number) for number in range(24)]
        began.wait(60)
        assert server.task("QuickTask", n=6)["run_id"]
        early = [reply.result() for reply in replies if reply.done()]
        for reply in early:
            refused(reply, 503, "server-busy")
            assert reply.headers["Retry-After"]
        codes = Counter(reply.result().json["code"] for reply in replies)
    assert set(codes) == {"no-answer", "server-busy"}


def test_a_chain_that_cannot_be_imported_breaks_its_own_requests_alone(lab: Lab, server: Server) -> None:
    words = {
        "leaving": "exit code 3",
        "killed": "SIGKILL",
        "broken": "no_such_module",
        "unfinished": "SyntaxError",
    }
    for name, word in words.items():
        told = refused(server.try_task(f"{name}/SomeTask"), 500, "chain-broken")
        assert word in f"{told['message']} {told['hint']}", told
    is_well(server, 7)


def test_chains_beside_broken_ones_are_listed(server: Server) -> None:
    found = server.get("/api/chains").data["etl"]
    assert {"work_chain", "stuck_chain"} <= {one["name"] for one in found["chains"]}
    assert sorted(one["path"] for one in found["broken"]) == sorted(f"etl/{name}_chain" for name in BROKEN)
    assert all(one["error"] for one in found["broken"])


def test_a_chain_whose_import_hangs_holds_up_its_own_requests_alone(lab: Lab, server: Server) -> None:
    others = [f"many{number}" for number in range(MOST)]
    for name in others:
        lab.chain(ANY, name)

    def is_answered(name: str) -> bool:
        return server.get(f"/api/plan/etl/{name}_chain/ATask").status == 200

    assert all(is_answered(name) for name in others[:-1])
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(server.try_task, "hanging/SomeTask")
        until(lambda: "etl/hanging_chain" in " ".join(lab.processes("template").values()), "it is being imported")
        assert all(map(is_answered, others)), "the last one takes the place of the one that hangs"
        assert not reply.done(), "the others had to wait"
        told = refused(reply.result(), 500, "chain-broken")
    assert "longer than 6 s" in told["message"]
    until(lambda: "etl/hanging_chain" not in " ".join(lab.processes("template").values()), "it is ended")


def test_more_chains_than_there_are_templates_are_all_answered_at_once(lab: Lab, server: Server) -> None:
    names = [f"many{number}" for number in range(MOST + 2)]
    for name in names:
        lab.chain(ANY, name)
    began = threading.Barrier(len(names))

    def ask(name: str) -> list[int]:
        began.wait(60)
        return [server.get(f"/api/plan/etl/{name}_chain/ATask").status for _ in range(2)]

    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(ask, names)) == [[200, 200]] * len(names)
    until(lambda: len([pid for pid in lab.processes("template") if not _asked(pid)]) <= MOST, "the others are gone")


def test_a_chain_that_was_changed_is_another_one_for_the_next_request(lab: Lab, server: Server) -> None:
    text = "class ATask(nectar.Task):\n    a = luigi.IntParameter()\n    def run(self):\n        self.dump('a')\n"
    lab.chain(text, "changing")
    first = server.task("changing/ATask", a=1)
    refused(server.try_task("changing/ATask", a=1, b=2), 400, "invalid-parameters")
    lab.chain(text.replace("    def run", "    b = luigi.IntParameter(default=5)\n    def run"), "changing")
    second, third = server.task("changing/ATask", a=1), server.task("changing/ATask", a=1, b=2)
    assert len({first["target"], second["target"], third["target"]}) == 3
    runs = [server.final(one["run_id"]) for one in (second, third)]
    assert [run["state"] for run in runs] == ["SUCCESS", "SUCCESS"]
    described = server.get("/api/chains/etl/changing_chain/ATask").data["parameters"]
    assert [one["name"] for one in described] == ["a", "b"]
    lab.chain("raise RuntimeError('no more')", "changing")
    refused(server.try_task("changing/ATask", a=1), 500, "chain-broken")


def test_a_chain_that_was_added_is_there(lab: Lab, server: Server) -> None:
    refused(server.try_task("added/ATask"), 404, "chain-not-found")
    lab.chain(ANY, "added")
    assert server.final(server.task("added/ATask")["run_id"])["state"] == "SUCCESS"
    assert server.get("/api/chains/etl/added_chain").data["tasks"][0]["task_name"] == "ATask"
    (lab.root / "chains/etl/added_chain.py").unlink()
    refused(server.try_task("added/ATask"), 404, "chain-not-found")
