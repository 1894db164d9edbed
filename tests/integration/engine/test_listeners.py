"""Whoever listens to a run sees it as it is; one that raises ends the run, is nobody's failure, and leaves nothing."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys

import pytest

CHAIN = """
    class TellsTask(nectar.Task):
        n = luigi.IntParameter()

        def run(self):
            self.set_status_message(f"telling {self.n}")
            time.sleep(0.05)
            self.dump(str(self.n))


    class AllTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [TellsTask(n=n) for n in range(10)]


    class MixedTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [AllTask(), BadTask()]


    class BadTask(nectar.Task):
        def run(self):
            raise ValueError("bad indeed")
"""

RAISES = """
import sys
import nectar
from nectar import settings
from nectar.actions.resolve import find_root_task
from nectar.execution.outcome import EventKind, StepStatus

kind, workers = EventKind(sys.argv[1]), int(sys.argv[2])
task = find_root_task(settings.current(), "etl/engine_chain", "AllTask", {})
statuses = []


class Mine(Exception):
    pass


def listen(event):
    if event.step is not None:
        statuses.append(event.step.status)
    if event.kind is kind:
        raise Mine("the listener's own fault")


try:
    nectar.run(task, workers=workers, echo=False, listener=listen)
except Mine:
    pass
else:
    raise SystemExit("the listener's fault was hidden")
assert StepStatus.FAILED not in statuses, statuses
for one in task.requires():
    store, address = one.target_store(), one.target_address()
    lease = store.lease(address)
    assert lease is not None, f"{one} is still leased"
    lease.release()
assert nectar.run(task, workers=workers, echo=False).success
"""


@pytest.fixture
def chain(project):
    project.chain(CHAIN)
    return project


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("kind", ["step started", "step message", "step ended"])
def test_a_listener_that_raises_ends_the_run_and_fails_no_task(chain, kind, workers):
    ended = chain.start([sys.executable, "-c", RAISES, kind, workers]).ended()
    assert ended.code == 0, ended.err
    chain.nothing_runs()
    assert [place for place in chain.failures() if "Mine" in (place / "log/stderr.log").read_text()] == []
    chain.check_store()


def test_without_a_terminal_progress_is_plain_lines(chain):
    ended = chain.nectar("run", "--workers", "2", "etl/engine_chain", "MixedTask")
    assert ended.code == 1
    assert "\x1b" not in ended.err + ended.out and "\r" not in ended.err
    lines = ended.err.splitlines()
    for n in range(10):
        assert sum(line.startswith("run ") and f"TellsTask(n={n})" in line for line in lines) == 1
        assert sum(line.startswith("done ") and f"TellsTask(n={n})" in line for line in lines) == 1
    assert "bad indeed" in ended.err


def test_on_a_terminal_a_failure_among_workers_is_shown_and_the_bar_goes(chain):
    leader, follower = pty.openpty()
    try:
        run = chain.start_nectar(
            "run",
            "-w",
            "2",
            "etl/engine_chain",
            "MixedTask",
            env={"TERM": "xterm-256color"},
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        shown = b""
        while select.select([leader], [], [], 60)[0]:
            try:
                block = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            shown += block
        assert run.ended().code == 1
    finally:
        os.close(leader)
    text = shown.decode(errors="replace")
    assert "bad indeed" in text and "/13" in text
    assert text.count("\x1b[?25h") >= text.count("\x1b[?25l")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_events_nobody_reads_any_more_do_not_make_a_broken_run_a_success(chain, workers):
    """`nectar run --json ... | head -1`: it ends, quietly, and no task is said to have failed for it."""
    run = f"{sys.executable} -m nectar.cli run --json -w {workers} etl/engine_chain AllTask"
    command = f"{run} | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=chain.root, env=chain.environment(), capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr, done.stderr
    chain.nothing_runs()
    said = [(place / "log/stderr.log").read_text() for place in chain.failures()]
    assert not any("BrokenPipe" in text or "NobodyReads" in text for text in said), said
