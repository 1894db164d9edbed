"""Results go to stdout and all else to stderr; colour and a live display are for terminals only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

TASK = ("etl/daily_chain", "ReportTask")
LIMIT_S = 60.0
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ASKING = [["list"], ["plan", *TASK], ["explain", *TASK, "--day", "9"], ["show", *TASK], ["status"], ["doctor"]]
WIDE = """
class OneTask(nectar.Task):
    n = luigi.IntParameter()
    def run(self):
        self.dump(str(self.n))

class ManyTask(nectar.Task):
    count = luigi.IntParameter()
    def requires(self):
        return [OneTask(n=n) for n in range(self.count)]
    def run(self):
        self.dump("all")

class LoudTask(nectar.Task):
    def run(self):
        for n in range(100_000):
            print("line", n)
        self.dump("x")
"""
TELLING = """
class TellingTask(nectar.Task):
    def run(self):
        self.set_status_message("half way")
        print("said by the task")
        self.dump("x")
"""
HELD = """
import pathlib
import luigi
import nectar

class HeldTask(nectar.Task):
    def run(self):
        self.set_status_message("half way")
        print("said by the task")
        pathlib.Path("bell").write_text("ding")
        with open("go") as go:
            go.read()
        self.dump("x")
"""


class Terminal:
    """What a command shows on a terminal of its own."""

    def __init__(self, leader: int, process: subprocess.Popen[str]) -> None:
        self._leader = leader
        self._process = process
        self.shown = ""

    def read_until(self, text: str, limit_s: float) -> bool:
        """Say whether `text` was shown before the limit or the end."""
        deadline = time.monotonic() + limit_s
        while text not in self.shown:
            ready, _, _ = select.select([self._leader], [], [], max(0.0, deadline - time.monotonic()))
            if not ready or not self._take():
                return text in self.shown
        return True

    def _take(self) -> bool:
        try:
            block = os.read(self._leader, 65536)
        except OSError:  # EIO: the other end was closed
            return False
        self.shown += block.decode(errors="replace")
        return bool(block)

    def read_all(self) -> int:
        """Read to the end and return the command's exit code."""
        while select.select([self._leader], [], [], LIMIT_S)[0] and self._take():
            pass
        return self._process.wait(LIMIT_S)


@contextlib.contextmanager
def terminal(project, *words, columns=100, **variables):
    """Start the command with a terminal for stdin, stdout and stderr."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    try:
        with project.started(*words, stdin=follower, stdout=follower, stderr=follower, variables=variables) as process:
            os.close(follower)
            yield Terminal(leader, process)
    finally:
        os.close(leader)


def on_terminal(project, *words, **options):
    """Run the command on a terminal to its end; return its exit code and all that it showed."""
    with terminal(project, *words, **options) as seen:
        return seen.read_all(), seen.shown


def test_run_prints_the_outputs_on_stdout_and_its_progress_on_stderr(project):
    answer = project.nectar("run", *TASK)
    [place] = answer.out.splitlines()
    assert Path(place).read_text() == "plain: day 1\n"
    assert "LoadTask" in answer.err and "2 tasks made" in answer.err
    assert "loading day 1" not in answer.err


def test_echo_shows_what_tasks_print_and_the_log_has_it_too(project):
    answer = project.nectar("run", "--echo", *TASK)
    assert "loading day 1\n" in answer.out + answer.err
    assert project.nectar("logs", "--stdout", "etl/daily_chain", "LoadTask", "--day", "1").out == "loading day 1\n"


def test_stdout_of_run_has_the_results_alone_with_echo_too(project):
    assert len(project.nectar("run", "--echo", *TASK).out.splitlines()) == 1


def test_quiet_says_nothing_but_what_went_wrong(project):
    assert project.nectar("run", "--quiet", *TASK).err == ""
    project.chain("etl/bad_chain", "class BadTask(nectar.Task):\n    def run(self):\n        1 / 0\n")
    assert "ZeroDivisionError" in project.nectar("run", "-q", "etl/bad_chain", "BadTask").err


@pytest.mark.parametrize("words", ASKING, ids=lambda words: words[0])
def test_no_colour_off_a_terminal(made_project, words):
    answer = made_project.nectar(*words)
    assert (answer.code, ESCAPE.findall(answer.out + answer.err)) == (0, [])


def test_no_colour_in_errors_off_a_terminal(made_project):
    assert made_project.nectar("rnu").err.startswith("error: no command")


@pytest.mark.parametrize("words", [*ASKING, ["rnu"]], ids=lambda words: words[0])
def test_no_colour_on_a_terminal_with_no_color(made_project, words):
    _, shown = on_terminal(made_project, *words, NO_COLOR="1")
    codes = [code for code in ESCAPE.findall(shown) if code.endswith("m")]
    coloured = [code for code in codes if re.search(r"\b(3[0-7]|38|4[0-7]|48|9[0-7])\b", code)]
    assert coloured == []


def test_colour_on_a_terminal(made_project):
    _, shown = on_terminal(made_project, "list")
    assert "\x1b[" in shown
    _, shown = on_terminal(made_project, "rnu")
    assert "\x1b[31m" in shown


EXECUTORS = ["inline", "processes"]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_terminal_shows_the_task_at_work_and_its_own_word(project, executor):
    project.chain("etl/held_chain", HELD)
    os.mkfifo(project.root / "go")
    wait_for_the_task = project.bell()
    with terminal(project, "run", "--executor", executor, "etl/held_chain", "HeldTask") as seen:
        wait_for_the_task()
        shown = seen.read_until("half way", 3.0)
        (project.root / "go").write_text("go")
        code = seen.read_all()
    assert shown, seen.shown
    assert "HeldTask" in seen.shown
    assert "0/1" in ESCAPE.sub("", seen.shown)
    assert code == 0


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_a_terminal_shows_the_summary_and_the_outputs_at_the_end(project, executor):
    code, shown = on_terminal(project, "run", "--executor", executor, *TASK)
    text = ESCAPE.sub("", shown)
    assert code == 0
    assert "2/2" in text and "2 tasks made" in text
    assert text.rstrip().endswith("out.txt")
    assert "loading day 1" not in text
    assert shown.count("\x1b[?25h") >= shown.count("\x1b[?25l"), "the cursor is back"


@pytest.mark.parametrize("words", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_tasks_own_word_goes_to_the_person_and_not_into_the_log(project, executor, words):
    project.chain("etl/telling_chain", TELLING)
    answer = project.nectar("run", "--executor", executor, *words, "etl/telling_chain", "TellingTask")
    logs = project.nectar("logs", "--json", "etl/telling_chain", "TellingTask").json
    assert (logs["stdout"], logs["stderr"]) == ("said by the task\n", "")
    assert "half way" in answer.out + answer.err


def test_a_narrow_terminal_cuts_no_path(made_project):
    _, shown = on_terminal(made_project, "path", *TASK, columns=40)
    assert shown.replace("\r\n", "\n") == made_project.nectar("path", *TASK).out


def test_a_failure_on_a_terminal_is_told_and_leaves_the_cursor_there(project):
    project.chain("etl/bad_chain", "class BadTask(nectar.Task):\n    def run(self):\n        1 / 0\n")
    code, shown = on_terminal(project, "run", "etl/bad_chain", "BadTask")
    assert code == 1
    assert "ZeroDivisionError" in shown
    assert shown.count("\x1b[?25h") >= shown.count("\x1b[?25l")


def test_a_failure_is_told_once(project):
    project.chain("etl/bad_chain", "class BadTask(nectar.Task):\n    def run(self):\n        1 / 0\n")
    err = project.nectar("run", "etl/bad_chain", "BadTask").err
    assert err.count("ZeroDivisionError") == 1
    assert err.count(".attempts/") == 1


def test_a_failure_has_one_line(project):
    project.chain("etl/bad_chain", "class BadTask(nectar.Task):\n    def run(self):\n        1 / 0\n")
    lines = project.nectar("run", "etl/bad_chain", "BadTask").err.splitlines()
    assert len([line for line in lines if line.startswith("failed")]) == 1


@pytest.fixture(scope="module")
def wide_project(made_project):
    made_project.chain("etl/wide_chain", WIDE)
    made_project.make("etl/wide_chain", "LoudTask")
    return made_project


def piped_to_head(project, *words):
    """Read one line of what a command prints, close the pipe, and return its exit code and stderr."""
    with project.started(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        return process.wait(60), err


LONG = {
    "plan": ["plan", "etl/wide_chain", "ManyTask", "--count", "3000"],
    "plan --json": ["plan", "--json", "etl/wide_chain", "ManyTask", "--count", "3000"],
    "explain": ["explain", "etl/wide_chain", "ManyTask", "--count", "3000"],
    "logs": ["logs", "--stdout", "etl/wide_chain", "LoudTask"],
    "list": ["list"],
}


@pytest.mark.parametrize("words", LONG.values(), ids=LONG)
def test_a_closed_pipe_is_quiet_and_no_failure(wide_project, words):
    assert piped_to_head(wide_project, *words) == (0, "")
