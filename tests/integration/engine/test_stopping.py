"""Ctrl-C once drains, twice stops; whatever ends the engine ends its workers and what their tasks started."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

CHAIN = """
    HOLD = "import os, sys, time; open(sys.argv[1], 'w').close(); time.sleep(1000)"


    class HeldTask(nectar.Task):
        n = luigi.IntParameter()
        kind = luigi.Parameter(default="sleeping", significant=False)

        def run(self):
            subprocess.Popen([sys.executable, "-c", HOLD, f"child.{self.n}"])
            while not pathlib.Path(f"child.{self.n}").exists():
                time.sleep(0.02)
            print("begun", flush=True)
            pathlib.Path(f"begun.{self.n}").touch()
            if self.kind == "computing":
                sum(range(10 ** 12))  # holds the interpreter's lock all the time
            if self.kind == "stubborn":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            while not pathlib.Path("go").exists():
                time.sleep(0.02)
            self.dump(str(self.n))


    class NextTask(nectar.Task):
        n = luigi.IntParameter()

        def requires(self):
            return HeldTask(n=self.n)

        def run(self):
            pathlib.Path("begun.next").touch()
            self.dump("next")


    class RunTask(nectar.Task, luigi.WrapperTask):
        kind = luigi.Parameter(default="sleeping")

        def requires(self):
            for n in range(2):
                HeldTask(n=n, kind=self.kind)
            return [NextTask(n=0), NextTask(n=1)]


    class OneTask(nectar.Task):
        kind = luigi.Parameter(default="sleeping")

        def requires(self):
            return HeldTask(n=0, kind=self.kind)

        def run(self):
            self.dump("one")


    class TwoTask(nectar.Task, luigi.WrapperTask):
        kind = luigi.Parameter(default="sleeping")

        def requires(self):
            return [HeldTask(n=n, kind=self.kind) for n in range(2)]


    class SlowTask(nectar.Task):
        n = luigi.IntParameter()

        def run(self):
            with open("slow", "a") as file:
                file.write(f"{self.n}\\n")
            if self.n >= 20:
                time.sleep(0.25)
            self.dump(str(self.n))

        def requires(self):
            return [SlowTask(n=n) for n in range(20)] if self.n >= 20 else []


    class FailsTask(SlowTask):
        def run(self):
            if self.n == 25:
                raise ValueError("the first failure")
            with open("slow", "a") as file:
                file.write(f"{self.n}\\n")
            self.dump(str(self.n))

        def requires(self):
            return [FailsTask(n=n) for n in range(20)] if self.n >= 20 else []


    class FailsFastTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [FailsTask(n=n) for n in range(60)]


    class SlowsTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [SlowTask(n=n) for n in range(32)]
"""


@pytest.fixture
def chain(project):
    project.chain(CHAIN)
    return project


def begun(chain, count=2):
    return lambda: len(list(chain.root.glob("begun.[0-9]"))) >= count


def start(chain, until, *words, task="TwoTask", kind="sleeping", count=2):
    """Start the command, and wait until its tasks are at work."""
    run = chain.start_nectar("run", *words, "etl/engine_chain", task, "--kind", kind)
    until(lambda: begun(chain, count)() or run.popen.poll() is not None)
    assert run.popen.poll() is None, run.err
    return run


def test_a_drain_lets_both_workers_end_what_they_are_at(chain, until):
    run = start(chain, until, "--workers", "2", "--json", task="RunTask")
    run.signal(signal.SIGINT)
    until(lambda: "stopping" in run.err)
    (chain.root / "go").touch()
    ended = run.ended()
    assert ended.code == 4
    last = json.loads(ended.out.splitlines()[-1])
    assert last["interrupted"] and last["counts"]["succeeded"] == 2 and last["counts"]["not run"] == 3
    assert not (chain.root / "begun.next").exists()
    assert len(chain.targets("HeldTask")) == 2
    chain.nothing_runs()


STOPS = {"Ctrl-C twice": [signal.SIGINT, signal.SIGINT], "TERM": [signal.SIGTERM]}


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        *((numbers, kind) for numbers in STOPS.values() for kind in ("sleeping", "computing")),
        (STOPS["TERM"], "stubborn"),
    ],
    ids=["Ctrl-C twice", "Ctrl-C twice, computing", "TERM", "TERM, computing", "TERM, stubborn"],
)
def test_a_stop_ends_workers_and_children_and_publishes_nothing_after(chain, until, numbers, kind):
    run = start(chain, until, "--workers", "2", kind=kind)
    began = time.monotonic()
    for number in numbers[:-1]:
        run.signal(number)
        until(lambda: "stopping" in run.err)
    run.signal(numbers[-1])
    ended = run.ended(15.0)
    assert ended.code == 4, ended
    assert time.monotonic() - began < 9
    chain.nothing_runs(1.0)
    assert chain.targets() == []
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_fail_fast_begins_no_other_task_of_a_batch(chain, executor):
    ended = chain.nectar("run", "--fail-fast", "--executor", executor, "etl/engine_chain", "FailsFastTask")
    assert ended.code == 1
    assert max(map(int, chain.lines("slow"))) < 25


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_a_drain_begins_no_other_task_of_a_batch(chain, until, executor):
    """Tasks of a class that was quick until now are handed over by the dozen."""
    run = chain.start_nectar("run", "--executor", executor, "etl/engine_chain", "SlowsTask")
    until(lambda: any(int(line) >= 20 for line in chain.lines("slow") if line.isdigit()))
    at_work = len(chain.lines("slow"))
    run.signal(signal.SIGINT)
    assert run.ended().code == 4
    assert len(chain.lines("slow")) <= at_work + 1


@pytest.mark.parametrize(
    "kind",
    [
        "sleeping",
        "computing",
        "stubborn",
    ],
)
def test_kill_9_of_the_engine_ends_its_workers_and_their_children(chain, until, kind):
    run = start(chain, until, "--workers", "2", kind=kind)
    assert len(chain.processes()) >= 5
    os.kill(run.pid, signal.SIGKILL)
    assert run.ended().code == -signal.SIGKILL
    chain.nothing_runs(3.0)
    (chain.root / "go").touch()
    assert chain.targets() == []


def test_kill_9_of_an_engine_that_runs_tasks_itself_ends_them(chain, until):
    run = start(chain, until, task="OneTask", count=1)
    os.kill(run.pid, signal.SIGKILL)
    assert run.ended().code == -signal.SIGKILL
    assert chain.targets() == []
    left = chain.processes()
    assert all("child.0" in command for command in left.values()), left


def test_the_next_run_buries_what_a_killed_engine_left_and_keeps_its_logs(chain, until):
    run = start(chain, until, "--workers", "2")
    os.kill(run.pid, signal.SIGKILL)
    run.ended()
    chain.nothing_runs()
    assert len(chain.staged()) == 2
    (chain.root / "go").touch()
    assert chain.nectar("run", "--workers", "2", "etl/engine_chain", "TwoTask").code == 0
    assert chain.staged() == []
    buried = chain.failures("HeldTask")
    assert len(buried) == 2
    for place in buried:
        assert (place / "log" / "stdout.log").read_text() == "begun\n"
        assert "died" in json.loads((place / "attempt.json").read_text())["error"]
    assert {chain.record("HeldTask", n=n)["attempt"]["number"] for n in range(2)} == {2}
    chain.check_store()


def test_kill_9_of_the_forkserver_costs_the_tasks_at_work_and_no_more(chain, until):
    run = start(chain, until, "--workers", "2", "--json", task="RunTask")
    servers = [pid for pid, command in chain.processes().items() if "multiprocessing.forkserver" in command]
    [server] = [pid for pid in servers if _parent(pid) == run.pid]
    os.kill(server, signal.SIGKILL)
    (chain.root / "go").touch()
    ended = run.ended(30.0)
    assert ended.code == 1, ended
    assert json.loads(ended.out.splitlines()[-1])["counts"]["failed"] == 2
    chain.nothing_runs()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
