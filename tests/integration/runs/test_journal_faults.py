"""A journal outlives its writer, and its writer a journal that cannot be written."""

from __future__ import annotations

import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard import wait_until
from run_samples import new_run

from nectar.runs import Journal, RunState, RunStore

WRITER = Path(__file__).with_name("journal_writer.py")
KILLS = 8


def start_writer(folder: Path, prefix: str) -> subprocess.Popen[bytes]:
    """Start a process that writes runs, and return it once it has acknowledged one."""
    command = [sys.executable, str(WRITER), str(folder), prefix]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert writer.stdout is not None and writer.stdout.readline()
    return writer


def test_after_kill_9_nothing_acknowledged_is_lost_and_no_half_line_is_taken(
    books: RunStore, folder: Path, chance: random.Random
) -> None:
    acknowledged: dict[str, str] = {}
    for turn in range(KILLS):
        writer = start_writer(folder, f"turn{turn}")
        assert writer.stdout is not None
        lines = []
        # Killed after some acknowledgements and a fraction of a run: at no moment that it knows of.
        for _ in range(chance.randrange(1, 40)):
            lines.append(writer.stdout.readline())
        fuse = threading.Timer(chance.random() * 0.01, os.killpg, (writer.pid, signal.SIGKILL))
        fuse.start()
        lines += writer.stdout.readlines()
        fuse.join()
        assert writer.wait() == -signal.SIGKILL
        writer.stdout.close()
        acknowledged[f"turn{turn}-0"] = "created"
        for line in lines:
            word, _, run_id = line.decode().strip().partition(" ")
            acknowledged[run_id] = word
        taken = books.take_in(folder)
        assert taken.damaged == 0
    for run_id, word in acknowledged.items():
        run = books.run(run_id)
        if word == "ended":
            assert (run.state, run.counts) == (RunState.SUCCESS, {"succeeded": 40 if run_id_forks(run_id) else 20})
        events = books.events(run_id)
        assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert len(acknowledged) > KILLS
    print(f"kills: {KILLS}, runs acknowledged: {len(acknowledged)}")


def run_id_forks(run_id: str) -> bool:
    """Say whether the run of this id has a forked child."""
    return int(run_id.rpartition("-")[2]) % 3 == 0


def test_whatever_is_left_of_a_last_line_the_rest_is_taken(books: RunStore, folder: Path) -> None:
    with Journal(folder, "run-whole") as journal:
        journal.create(new_run("run-whole"))
        journal.step("a", "ATask()", "running")
        journal.step("a", "ATask()", "succeeded")
    whole = journal.path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(whole)):
        name = f"run-{end:05}"  # as long as the other
        part = whole.replace(b"run-whole", name.encode())
        cut = part[: len(part) - (len(whole) - end)]
        (folder / f"{name}.jsonl").write_bytes(cut)
    taken = books.take_in(folder)
    assert taken.lines == 3 + 2 * (len(whole) - last) and taken.damaged == 0
    assert {tuple(run.counts.items()) for run in books.list(size=1000).rows if run.id != "run-whole"} == {
        (("running", 1),)
    }


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A memory disk of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "small"
    place.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)]
        subprocess.run(command, check=True, capture_output=True)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"no tmpfs can be mounted here: {getattr(error, 'stderr', error)!r}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True, capture_output=True)


@pytest.mark.root
def test_a_full_disk_stops_no_run_and_with_room_again_the_journal_goes_on(
    books: RunStore, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 200_000)
    with Journal(small_disk, "run-one") as journal, caplog.at_level(logging.WARNING, logger="nectar"):
        assert journal.create(new_run("run-one"))
        steps = 0
        while journal.step(f"s{steps}", "FillTask()", "succeeded", path="x" * 300):
            steps += 1
        assert steps > 10
        for number in range(500):
            assert not journal.step(f"t{number}", "FillTask()", "succeeded")
        assert not journal.state(RunState.SUCCESS), "not acknowledged: it waits"
        assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.WARNING
        assert caplog.records[0].name.startswith("nectar.") and "No space left" in caplog.text
        before = books.take_in(small_disk)
        assert books.run("run-one").state is not RunState.SUCCESS
        ballast.unlink()
        assert journal.state(RunState.SUCCESS)
    after = books.take_in(small_disk)
    run = books.run("run-one")
    # All of it is there, what was written and what waited: the half line that the full disk kept is none.
    assert (run.state, run.counts) == (RunState.SUCCESS, {"succeeded": steps + 501})
    assert before.lines + after.lines == steps + 501 + 3


@pytest.mark.root
def test_of_two_writers_on_a_full_disk_neither_hides_the_other_s_lines(books: RunStore, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 240_000)
    one, two = Journal(small_disk, "run-one"), Journal(small_disk, "run-one")
    one.create(new_run("run-one"))
    room = 0
    while one.step(f"a{room}", "FillTask()", "succeeded", path="x" * 700):
        room += 1
    os.truncate(ballast, 230_000)
    for number in range(100):
        two.step(f"b{number}", "FillTask()", "succeeded")
    ballast.unlink()
    assert two.state(RunState.RUNNING) is not None
    one.close()
    two.close()
    books.take_in(small_disk)
    assert books.run("run-one").counts == {"succeeded": room + 1 + 100}


def test_a_folder_that_cannot_be_made_stops_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    with Journal(tmp_path / "file" / "journals", "run-one") as journal:
        assert not journal.create(new_run("run-one"))
        for number in range(100):
            assert not journal.event("note", detail=number)
        journal.beat()
        assert not journal.state(RunState.SUCCESS)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    (tmp_path / "file").unlink()
    assert journal.state(RunState.SUCCESS), "the journal goes on when it can"
    journal.close()
    assert len(journal.path.read_bytes().splitlines()) == 103


@pytest.mark.parametrize("at_once", [False, True])
def test_a_file_size_limit_stops_no_run(books: RunStore, folder: Path, at_once: bool) -> None:
    child = os.fork()
    if not child:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            journal = Journal(folder, "run-one")
            journal.create(new_run("run-one"))
            steps = [(f"s{number}", "FillTask()", None) for number in range(50)]
            if at_once:
                said = [True, journal.steps(steps, "succeeded")]
            else:
                said = [journal.step(ref, task, "succeeded") for ref, task, _ in steps]
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            ended = journal.state(RunState.SUCCESS)
            code = 0 if ended and said[0] and not said[-1] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    books.take_in(folder)
    assert books.run("run-one").counts == {"succeeded": 50}


def test_of_more_lines_than_can_wait_those_about_steps_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "journals"
    place.write_bytes(b"in the way")
    with Journal(place, "run-one") as journal:
        journal.create(new_run("run-one"))
        for number in range(10_100):
            journal.event("chatter", detail=number)
        for number in range(100):
            journal.step(f"s{number}", "KeptTask()", "succeeded")
        place.unlink()
        assert journal.state(RunState.SUCCESS)
    lines = [json.loads(line) for line in journal.path.read_bytes().splitlines()]
    assert sum("step" in line for line in lines) == 100
    assert sum(line["kind"] == "chatter" for line in lines) == 9_999
    assert [line["detail"] for line in lines if line["kind"] == "lines lost"] == [{"lines": 101}]
    assert len({line["number"] for line in lines}) == len(lines)


def test_processes_and_threads_that_append_to_one_journal_tear_no_line(books: RunStore, folder: Path) -> None:
    journal = Journal(folder, "run-one")
    journal.create(new_run("run-one"))

    def write(name: str) -> None:
        for number in range(300):
            journal.step(f"{name}{number}", "SharedTask()", "succeeded", path="x" * (number % 7) * 1000)

    children = []
    for name in "abc":
        child = os.fork()
        if not child:
            code = 1
            try:
                threads = [threading.Thread(target=write, args=(f"{name}{thread}-",)) for thread in range(2)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    write("parent-")
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    journal.close()
    assert books.take_in(folder).lines == 1 + 7 * 300
    assert books.run("run-one").counts == {"succeeded": 7 * 300}
    writers = {json.loads(line)["writer"] for line in journal.path.read_bytes().splitlines()}
    assert len(writers) == 4


def test_a_signal_s_handler_may_write_into_the_journal_of_a_run(folder: Path) -> None:
    command = [sys.executable, "-c", SIGNALLED, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        sent = 0
        while process.poll() is None and sent < 300:
            process.send_signal(signal.SIGUSR1)
            sent += 1
            wait_until(lambda: process.poll() is not None or os.path.exists(folder), "the journal's folder")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    lines = [json.loads(line) for line in (folder / "run-one.jsonl").read_bytes().splitlines()]
    assert len({line["number"] for line in lines}) == len(lines)
    assert {line["kind"] for line in lines} >= {"signal", "step ended"}


SIGNALLED = """
import signal, sys
from nectar.runs import Journal
journal, ended = Journal(sys.argv[1], "run-one"), []
signal.signal(signal.SIGUSR1, lambda number, frame: journal.event("signal"))
signal.signal(signal.SIGTERM, lambda number, frame: ended.append(True))
journal.step("a", "ATask()", "succeeded")
print("ready", flush=True)
while not ended:
    journal.step("a", "ATask()", "succeeded")
journal.close()
"""
