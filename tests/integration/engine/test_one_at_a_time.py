"""One task runs once at a time: whoever else wants it waits for it and takes its target."""

from __future__ import annotations

import operator
import os
import signal
import sys

import pytest

CHAIN = """
    class OnceTask(nectar.Task):
        def run(self):
            with open("ran", "a") as file:
                file.write(f"{os.getpid()}\\n")
            while not pathlib.Path("go").exists():
                time.sleep(0.02)
            self.dump("once")


    class WantsTask(nectar.Task):
        def requires(self):
            return OnceTask()

        def run(self):
            self.dump("wants " + self.input().load())


    class FailsFirstTask(nectar.Task):
        def run(self):
            with open("ran", "a") as file:
                file.write("x")
            if pathlib.Path("ran").read_text() == "x":
                while not pathlib.Path("go").exists():
                    time.sleep(0.02)
                raise ValueError("the first time")
            self.dump("the second time")


    class CrashesTask(nectar.Task):
        def run(self):
            with open("ran", "a") as file:
                file.write("x")
            if pathlib.Path("ran").read_text() == "x":
                os._exit(1)
            self.dump("again")


    class CrashesAgainTask(CrashesTask):
        retry_count = 2


    class LeaksTask(nectar.Task):
        def run(self):
            raise ValueError("bad")


    class OtherTask(nectar.Task):
        n = luigi.IntParameter()

        def run(self):
            time.sleep(0.3)
            self.dump(str(self.n))


    class NestedTask(nectar.Task):
        def run(self):
            assert luigi.build([OtherTask(n=1)], local_scheduler=True, log_level="WARNING")
            assert nectar.run(OtherTask(n=2)).success
            OtherTask(n=3).run()
            self.dump("".join(OtherTask(n=n).load() for n in (1, 2, 3)))
"""

FORKS = """
import os, pathlib, sys, time
import nectar
from nectar import settings
from nectar.actions.resolve import find_root_task

task = find_root_task(settings.current(), "etl/engine_chain", "WantsTask", {})
children = []
for number in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        pathlib.Path(f"up.{number}").touch()
        code = 70
        try:
            result = nectar.run(task, echo=False)
            code = int(result.exit_code)
        finally:
            os._exit(code)
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
print(codes)
sys.exit(any(codes))
"""


@pytest.fixture
def chain(project):
    project.chain(CHAIN)
    return project


def test_fifty_processes_run_one_task_once_and_all_succeed(chain, until):
    run = chain.start([sys.executable, "-c", FORKS, "50"])
    until(lambda: len(list(chain.root.glob("up.*"))) == 50)
    until(lambda: chain.lines("ran"))
    (chain.root / "go").touch()
    ended = run.ended()
    assert ended.code == 0, ended
    assert len(chain.lines("ran")) == 1
    assert (chain.target("WantsTask") / "out.txt").read_text() == "wants once"
    assert chain.failures() == chain.staged() == []


@pytest.mark.stress
def test_fifty_commands_run_one_task_once_and_all_succeed(chain, until):
    runs = [chain.start_nectar("run", "etl/engine_chain", "WantsTask") for _ in range(50)]
    until(lambda: chain.lines("ran"))
    (chain.root / "go").touch()
    assert [run.ended().code for run in runs] == [0] * 50
    assert len(chain.lines("ran")) == 1


SECONDS = {
    "nectar inline": lambda chain: chain.start_nectar("run", "etl/engine_chain", "WantsTask"),
    "nectar processes": lambda chain: chain.start_nectar("run", "-w", "2", "etl/engine_chain", "WantsTask"),
    "luigi": operator.methodcaller("start_luigi", "WantsTask"),
}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("nectar inline", "nectar processes"),
        ("nectar processes", "nectar processes"),
        ("nectar processes", "luigi"),
        ("luigi", "nectar inline"),
        ("luigi", "luigi"),
    ],
)
def test_a_second_run_waits_for_the_first_and_takes_its_target(chain, until, first, second):
    one = SECONDS[first](chain)
    until(lambda: chain.lines("ran"))
    two = SECONDS[second](chain)
    until(lambda: _waits_for_the_lease(two) or two.popen.poll() is not None)
    (chain.root / "go").touch()
    assert one.ended().code == 0, one.err
    assert two.ended().code == 0, two.err
    assert len(chain.lines("ran")) == 1
    assert chain.failures() == chain.staged() == []


def _waits_for_the_lease(run) -> bool:
    """Say whether a process of the run has the store's lock file open: it has tried the lease."""
    for pid in _family(run.pid):
        folder = f"/proc/{pid}/fd"
        try:
            if any(os.readlink(f"{folder}/{name}").endswith("/.locks") for name in os.listdir(folder)):
                return True
        except OSError:
            continue
    return False


def _family(leader: int) -> list[int]:
    found = [leader]
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    for one in found:
        found += [pid for pid, parent in parents.items() if parent == one]
    return found


@pytest.mark.parametrize("words", [[], ["-w", "2"]], ids=["inline", "processes"])
def test_who_waits_for_a_task_that_fails_runs_it_itself(chain, until, words):
    one = chain.start_nectar("run", "etl/engine_chain", "FailsFirstTask")
    until((chain.root / "ran").exists)
    two = chain.start_nectar("run", *words, "etl/engine_chain", "FailsFirstTask")
    until(lambda: _waits_for_the_lease(two))
    (chain.root / "go").touch()
    assert one.ended().code == 1
    assert two.ended().code == 0
    assert (chain.target("FailsFirstTask") / "out.txt").read_text() == "the second time"


def test_who_waits_for_a_killed_run_runs_the_task_itself(chain, until):
    one = chain.start_nectar("run", "-w", "2", "etl/engine_chain", "OnceTask")
    until(lambda: chain.lines("ran"))
    two = chain.start_nectar("run", "etl/engine_chain", "OnceTask")
    until(lambda: _waits_for_the_lease(two))
    os.kill(one.pid, signal.SIGKILL)
    until(lambda: len(chain.lines("ran")) == 2)
    (chain.root / "go").touch()
    assert two.ended().code == 0
    assert one.ended().code == -signal.SIGKILL
    assert len(chain.failures("OnceTask")) == 1


def test_a_crashed_task_with_a_second_attempt_is_made(chain):
    ended = chain.run("CrashesAgainTask", workers=2).ok()
    assert ended.statuses == {"CrashesAgainTask()": "succeeded"}
    assert chain.record("CrashesAgainTask")["attempt"]["number"] == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_task_gives_its_lease_back_while_its_process_lives_on(chain, workers):
    ended = chain.python(f"""
        import subprocess, sys
        import nectar
        from nectar import settings
        from nectar.actions.resolve import find_root_task

        task = find_root_task(settings.current(), "etl/engine_chain", "LeaksTask", {{}})
        assert not nectar.run(task, workers={workers}, echo=False).success
        again = "import nectar; from nectar import settings; from nectar.actions.resolve import find_root_task as find;"
        again += "t = find(settings.current(), 'etl/engine_chain', 'LeaksTask', {{}});"
        again += "store, address = t.target_store(), t.target_address(); assert store.lease(address) is not None"
        subprocess.run([sys.executable, "-c", again], check=True, timeout=30)
    """)
    assert ended.code == 0, ended


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_within_a_task_is_published_when_it_says_so(chain, workers):
    ended = chain.run("NestedTask", executor="inline" if workers == 1 else "processes")
    assert ended.counts == {"succeeded": 1}, ended.steps
    assert (chain.target("NestedTask") / "out.txt").read_text() == "123"


def test_two_runs_in_two_threads_publish_what_they_say_they_did(chain):
    ended = chain.python("""
        import threading
        import nectar
        from nectar import settings
        from nectar.actions.resolve import find_root_task

        def find(n):
            return find_root_task(settings.current(), "etl/engine_chain", "OtherTask", {"n": str(n)})

        tasks = [find(n) for n in range(6)]
        wrong = []

        def work(mine):
            for task in mine:
                result = nectar.run(task, echo=False)
                if not result.success or not task.complete():
                    wrong.append((task, result))

        threads = [threading.Thread(target=work, args=(tasks[start::2],)) for start in range(2)]
        for one in threads: one.start()
        for one in threads: one.join()
        assert not wrong, wrong
    """)
    assert ended.code == 0, ended.err
    assert len(chain.targets("OtherTask")) == 6
