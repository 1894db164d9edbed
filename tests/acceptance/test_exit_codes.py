"""The exit code tells the shell the truth, and what was finished is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FAILING = """
class FirstTask(nectar.Task):
    def run(self):
        self.dump("first")

class BadTask(nectar.Task):
    def requires(self):
        return FirstTask()
    def run(self):
        print("before the fall")
        raise ValueError("row 3 has no date")

class OtherTask(nectar.Task):
    def run(self):
        self.dump("other")

class LastTask(nectar.Task):
    def requires(self):
        return [BadTask(), OtherTask()]
    def run(self):
        self.dump("last")
"""
HELD = """
import pathlib
import luigi
import nectar

class FirstTask(nectar.Task):
    def run(self):
        self.dump("first")

class HeldTask(nectar.Task):
    def requires(self):
        return FirstTask()
    def run(self):
        print("begun", flush=True)
        pathlib.Path("bell").write_text("ding")
        self.dump(pathlib.Path("go").read_text())

class LastTask(nectar.Task):
    def requires(self):
        return HeldTask()
    def run(self):
        self.dump("last")
"""
LAST = ("etl/held_chain", "LastTask")
EXECUTORS = ["inline", "processes"]


@pytest.fixture
def held(project):
    project.chain("etl/held_chain", HELD)
    os.mkfifo(project.root / "go")
    return project


def complete(project, task):
    return project.nectar("path", "--json", "etl/held_chain", task).json["complete"]


def test_a_run_that_makes_everything_exits_0_and_so_does_the_one_that_finds_it(project):
    first, second = (project.nectar("run", "etl/daily_chain", "ReportTask") for _ in range(2))
    assert (first.code, second.code) == (0, 0)
    assert first.out == second.out
    assert "nothing to do" in second.err


def test_a_failed_task_exits_1_says_why_and_where_its_log_is_and_stops_only_what_requires_it(project):
    project.chain("etl/failing_chain", FAILING)
    answer = project.nectar("run", "etl/failing_chain", "LastTask")
    assert answer.code == 1
    assert answer.out == ""
    assert "ValueError: row 3 has no date" in answer.err
    assert ".attempts/" in answer.err
    assert project.nectar("path", "--json", "etl/failing_chain", "OtherTask").json["complete"]
    assert not project.nectar("path", "--json", "etl/failing_chain", "LastTask").json["complete"]
    logs = project.nectar("logs", "--json", "etl/failing_chain", "BadTask").json
    assert logs["stdout"] == "before the fall\n"
    assert logs["stderr"].endswith("ValueError: row 3 has no date\n")


def test_a_mended_chain_goes_on_where_it_failed(project):
    project.chain("etl/failing_chain", FAILING)
    project.nectar("run", "etl/failing_chain", "LastTask")
    project.chain("etl/failing_chain", FAILING.replace('raise ValueError("row 3 has no date")', 'self.dump("good")'))
    end = project.nectar("run", "--json", "etl/failing_chain", "LastTask").lines[-1]
    statuses = {step["task"].rpartition(".")[2]: step["status"] for step in end["steps"]}
    assert statuses == {
        "FirstTask()": "skipped",
        "BadTask()": "succeeded",
        "OtherTask()": "skipped",
        "LastTask()": "succeeded",
    }


@pytest.mark.parametrize("command", ["run", "plan", "show", "adopt"])
def test_a_broken_chain_exits_3_and_names_the_file_and_line(project, command):
    project.chain("etl/broken_chain", "import nothing_of_this_name\n")
    project.nectar(command, "etl/broken_chain", "SomeTask").failed(
        3, "etl/broken_chain", "nothing_of_this_name", "chains/etl/broken_chain.py"
    )


def test_a_broken_chain_hides_no_other(project):
    project.chain("etl/broken_chain", "def f(:\n")
    project.chain("etl/exiting_chain", "import os\nos._exit(7)\n")
    listed = project.nectar("list", "--json")
    assert listed.code == 0
    assert [chain["path"] for chain in listed.json["etl"]["chains"]] == ["etl/daily_chain"]
    broken = {one["path"]: one["error"] for one in listed.json["etl"]["broken"]}
    assert "SyntaxError" in broken["etl/broken_chain"]
    assert set(broken) == {"etl/broken_chain", "etl/exiting_chain"}
    assert project.nectar("run", "etl/daily_chain", "ReportTask").code == 0
    assert project.nectar("list", "etl/broken_chain").code == 3


@pytest.mark.parametrize("executor", EXECUTORS)
def test_ctrl_c_lets_what_is_at_work_end_begins_nothing_more_and_exits_4(held, executor):
    wait_for_the_task = held.bell()
    words = ("run", "--json", "--executor", executor, *LAST)
    with held.started(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for_the_task()
        process.send_signal(signal.SIGINT)
        (held.root / "go").write_text("held")
        out, err = process.communicate(timeout=60)
    assert process.returncode == 4, (out, err)
    assert "Traceback" not in err
    end = json.loads(out.splitlines()[-1])
    assert (end["success"], end["interrupted"]) == (False, True)
    assert [step["status"] for step in end["steps"]] == ["succeeded", "succeeded", "not run"]
    assert [complete(held, task) for task in ("FirstTask", "HeldTask", "LastTask")] == [True, True, False]


@pytest.mark.parametrize(
    "executor",
    ["inline", "processes"],
)
def test_ctrl_c_is_answered_with_what_happens_now(held, executor):
    wait_for_the_task = held.bell()
    words = ("run", "--executor", executor, *LAST)
    with held.started(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for_the_task()
        process.send_signal(signal.SIGINT)
        (held.root / "go").write_text("held")
        _, err = process.communicate(timeout=60)
    assert "stopping" in err


def is_handled(process, number):
    """Say whether a signal was taken and the main thread waits again."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return fields["State"].startswith("S") and not pending >> (number - 1) & 1


def send(process, number):
    """Send a signal and wait until it was taken."""
    process.send_signal(number)
    deadline = time.monotonic() + 60
    while process.poll() is None and not is_handled(process, number):
        assert time.monotonic() < deadline
        os.sched_yield()


STOPS = {"Ctrl-C twice": [signal.SIGINT, signal.SIGINT], "TERM": [signal.SIGTERM]}


@pytest.mark.parametrize("numbers", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_stop_at_once_exits_4_and_keeps_what_was_finished(held, executor, numbers):
    wait_for_the_task = held.bell()
    words = ("run", "--executor", executor, *LAST)
    with held.started(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for_the_task()
        for number in numbers[:-1]:
            send(process, number)
        process.send_signal(numbers[-1])
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (4, ""), err
    assert "Traceback" not in err
    assert "interrupted" in err
    assert [complete(held, task) for task in ("FirstTask", "HeldTask")] == [True, False]
    assert held.nectar("logs", "--stdout", "etl/held_chain", "HeldTask").out.startswith("begun\n")


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_a_stop_at_once_ends_the_attempt_and_says_why_in_its_log(held, executor):
    wait_for_the_task = held.bell()
    with held.started("run", "--executor", executor, *LAST, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for_the_task()
        process.terminate()
        process.communicate(timeout=60)
    shown = held.nectar("show", "--json", "etl/held_chain", "HeldTask").json
    assert [one["running"] for one in shown["attempts"]] == [False]
    assert held.nectar("logs", "--stderr", "etl/held_chain", "HeldTask").out


def test_a_store_that_cannot_be_written_exits_5(project):
    project.store.write_text("I am a file")
    project.nectar("run", "etl/daily_chain", "ReportTask").failed(5, "local_targets", "not a directory")
    assert project.store.read_text() == "I am a file"


@pytest.mark.parametrize("words", [["frobnicate"], ["list", "--frobnicate"], ["run"], ["run", "etl/daily_chain"], []])
def test_a_wrong_command_line_exits_2_with_nothing_on_stdout(project, words):
    answer = project.nectar(*words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err


def test_help_and_version_exit_0_on_stdout(project):
    for word in ("--help", "-h", "--version"):
        answer = project.nectar(word)
        assert (answer.code, answer.err) == (0, "")
        assert "nectar" in answer.out


def test_python_m_nectar_cli_is_the_command(project):
    done = subprocess.run(
        [sys.executable, "-m", "nectar.cli", "frobnicate"],
        cwd=project.root,
        env=project.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: no command `frobnicate`")
