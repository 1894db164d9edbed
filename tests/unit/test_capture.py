"""Captures put the console back, share what they can, and keep the logs bounded: head and tail, never a NUL."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nectar import errors
from nectar.recording import log_bounds
from nectar.recording.capture import Echo, captured, many_captures
from nectar.recording.log_bounds import bound

KIB, MIB = 1 << 10, 1 << 20
LEFT_OUT = re.compile(rb"^\[nectar: (\d+) (bytes|KiB|MiB) of this log were left out\]\n", re.MULTILINE)
LINE = b"line %013d\n"  #: 19 bytes
needs_holes = pytest.mark.skipif(log_bounds._fallocate is None, reason="this platform cannot punch holes into files")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def lines(count: int, begin: int = 0) -> bytes:
    return b"".join(LINE % number for number in range(begin, begin + count))


def on_disk(path: Path) -> int:
    return path.stat().st_blocks * 512


def watching() -> int:
    return [thread.name for thread in threading.enumerate()].count("nectar-logs")


@pytest.fixture
def no_watch():
    until(lambda: watching() == 0)


@pytest.fixture
def logs(tmp_path):
    return tmp_path / "stdout.log", tmp_path / "stderr.log"


def capture(logs, limit=log_bounds.LOG_LIMIT_BYTES, echo=Echo.NO):
    return captured(str(logs[0]), str(logs[1]), echo, limit)


def check_cut(path: Path, whole: bytes, limit: int) -> None:
    """Check that the file is the head of `whole`, one line with what is missing, and its tail."""
    kept = path.read_bytes()
    assert len(kept) <= limit + 100
    found = LEFT_OUT.search(kept)
    assert found and len(LEFT_OUT.findall(kept)) == 1
    head, tail = kept[: found.start()], kept[found.end() :]
    assert whole.startswith(head.removesuffix(b"\n")) and whole.endswith(tail)
    assert limit // 2 - 4096 <= len(head) <= limit // 2 + 1 and limit // 2 - 4096 <= len(tail) <= limit // 2
    unit = {b"bytes": 1, b"KiB": KIB, b"MiB": MIB}[found[2]]
    assert int(found[1]) == round((len(whole) - len(head) - len(tail)) / unit)


@pytest.mark.parametrize("size", [0, 1, 64 * KIB])
def test_a_log_up_to_its_limit_is_kept_as_it_is(logs, size):
    with capture(logs, 64 * KIB):
        os.write(1, b"x" * size)
    assert logs[0].read_bytes() == b"x" * size


def test_a_log_beyond_its_limit_keeps_head_and_tail_in_whole_lines(logs):
    whole = lines(10_000)
    with capture(logs, 64 * KIB):
        os.write(1, whole)
        os.write(2, whole)
    for log in logs:
        check_cut(log, whole, 64 * KIB)
        assert all(re.fullmatch(rb"line \d{13}|\[nectar.*", line) for line in log.read_bytes().splitlines())


def test_a_long_line_is_cut_between_two_characters(logs):
    for shift in range(3):
        logs[0].unlink(missing_ok=True)
        with capture(logs, 64 * KIB):
            os.write(1, b"x" * shift + "€".encode() * 100_000)
        head, about, tail = logs[0].read_text().split("\n")  # which fails where a character was cut
        assert set(head) <= {"x", "€"} and set(tail) == {"€"} and about.startswith("[nectar: ")


@pytest.mark.parametrize("limit", [0, 1, 100, 5000])
def test_tiny_limits_hold_too(logs, limit):
    with capture(logs, limit):
        os.write(1, lines(5000))
        os.write(2, "€".encode() * 5000)
    for log in logs:
        kept = log.read_text()
        assert len(kept.encode()) <= limit + 100 and " of this log were left out]\n" in kept


def test_captures_into_one_file_count_together_what_they_leave_out(logs):
    whole = b""
    for step in range(40):  # the steps of one task that yields
        part = lines(1000, 1000 * step)
        whole += part
        with capture(logs, 64 * KIB):
            os.write(1, part)
        assert logs[0].stat().st_size <= 64 * KIB * 9 // 8
    kept = logs[0].read_bytes()
    (amount,) = [int(number) for number, unit in LEFT_OUT.findall(kept) if unit == b"KiB"]
    assert kept.startswith(lines(1700)) and kept.endswith(lines(1700, 38_300))
    assert amount == pytest.approx((len(whole) - len(kept)) / KIB, abs=40)  # each cut rounds


@needs_holes
def test_a_growing_log_gives_its_middle_back_while_the_task_runs(logs):
    with capture(logs, 4 * MIB):
        subprocess.run(["sh", "-c", "yes 0123456789 | head -c 67108864"], check=True)
        until(lambda: on_disk(logs[0]) < 8 * MIB)
        assert logs[0].stat().st_size == 64 * MIB
        os.write(1, b"the end\n")
    check_cut(logs[0], (b"0123456789\n" * 6_200_000)[: 64 * MIB] + b"the end\n", 4 * MIB)
    assert b"\0" not in logs[0].read_bytes() and on_disk(logs[0]) >= 3 * MIB


def test_without_holes_a_log_is_cut_at_its_end(logs, monkeypatch, no_watch):
    monkeypatch.setattr(log_bounds, "_fallocate", None)
    whole = lines(500_000)
    with capture(logs, MIB):
        os.write(1, whole)
        assert watching() == 0
    check_cut(logs[0], whole, MIB)


@needs_holes
def test_the_thread_that_watches_is_there_only_while_tasks_run(logs, no_watch):
    for _ in range(3):
        with capture(logs):
            assert watching() == 1
    until(lambda: watching() == 0)


WRITER = """
import os, sys
number = 0
while not os.path.exists(sys.argv[1]):
    os.write(1, b"line %013d\\n" % number * 50)
    number += 1
os.write(1, b"the end\\n")
"""


def test_a_child_that_goes_on_writing_does_not_tear_its_log(logs, tmp_path):
    stop = tmp_path / "stop"
    with capture(logs, MIB):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(stop)])
        until(lambda: logs[0].stat().st_size > 4 * MIB)
    cut = logs[0].stat().st_size
    until(lambda: logs[0].stat().st_size > cut + MIB)
    stop.touch()
    assert child.wait(30) == 0
    kept = logs[0].read_bytes()
    assert kept.endswith(b"the end\n")
    assert all(re.fullmatch(rb"line \d{13}|\[nectar: .*\]|the end", line) for line in kept.splitlines())


@needs_holes
def test_the_log_of_a_process_that_was_killed_can_be_bounded_by_another(tmp_path):
    log = tmp_path / "stdout.log"
    whole = lines(300_000)
    log.write_bytes(whole)
    held = log_bounds.BoundedLog(str(log), MIB)
    held.punch()
    assert held.hole and b"\0" in log.read_bytes()
    assert bound(str(log), MIB) > 0
    check_cut(log, whole, MIB)
    before = log.read_bytes()
    assert bound(str(log), MIB) == 0 and log.read_bytes() == before


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_file_that_a_task_linked_in_place_of_its_log_is_left_alone(logs, tmp_path, link):
    precious = tmp_path / "precious"
    precious.write_bytes(lines(100_000))
    with capture(logs, 64 * KIB):
        logs[0].unlink()
        link(precious, logs[0])
        log_bounds.BoundedLog(str(logs[0]), 64 * KIB).punch()
    assert precious.read_bytes() == lines(100_000)


def test_a_log_that_a_task_removed_is_no_error(logs):
    with capture(logs, 64 * KIB):
        os.write(1, lines(10_000))
        logs[0].unlink()
    assert not logs[0].exists()


@needs_holes
def test_a_log_that_a_task_emptied_keeps_no_hole(logs):
    with capture(logs, MIB):
        os.write(1, lines(500_000))
        until(lambda: on_disk(logs[0]) < 2 * MIB)
        os.truncate(logs[0], 700 * KIB)
        os.write(1, b"\nafter\n")
    kept = logs[0].read_bytes()
    assert b"\0" not in kept and kept.endswith(b"\nafter\n") and LEFT_OUT.search(kept)


@pytest.mark.parametrize("task_fails", [False, True])
def test_a_log_that_cannot_be_rewritten_has_no_hole_and_is_an_error(logs, task_fails):
    whole = lines(500_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def task():
        with capture(logs, 2 * MIB):
            os.write(1, whole)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1100 * KIB, before[1]))  # as little as a full disk lets through
            if task_fails:
                raise KeyError("of the task")

    try:
        with pytest.raises(KeyError if task_fails else errors.StoreUnreachable) as caught:
            task()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert task_fails or "`stdout.log` is too large and cannot be shortened" in str(caught.value)
    kept = logs[0].read_bytes()
    assert len(kept) <= 1100 * KIB and b"\0" not in kept and kept.startswith(whole[:1_000_000])


def test_a_forked_child_that_returns_does_not_cut_the_log(logs):
    whole = lines(100_000)
    with capture(logs, 64 * KIB):
        os.write(1, whole)
        within = capture((logs[0], logs[1]), 64 * KIB)
        assert within.__enter__() is None  # within another one: of no effect
        within.__exit__(None, None, None)
        code = (
            "import os, sys\nfrom nectar.recording.capture import Echo, captured\n"
            "place = sys.argv[1]\nchild = 1\n"
            "try:\n"
            "    with captured(place, place + '.err', Echo.NO, 1000):\n"
            "        os.write(1, b'x' * 5000)\n        child = os.fork()\n"
            "        if child:\n            os.waitpid(child, 0)\n            size = os.stat(place).st_size\n"
            "finally:\n    child or os._exit(0)\n"
            "print(size, os.stat(place).st_size < 1100)"
        )
        said = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(logs[0].with_name("other"))],
            capture_output=True,
            text=True,
            check=True,
        )
    assert said.stdout == "5000 True\n"
    check_cut(logs[0], whole, 64 * KIB)


SLOW_CONSOLE = """
import os, sys, time
from nectar.recording.capture import Echo, captured, many_captures
log = sys.argv[1]
with captured(log, log + ".err", Echo.SAME, 4 << 20):
    print("the beginning", flush=True)
    for number in range(64):
        os.write(1, b"0123456789abcde\\n" * 65536)
    while os.stat(log).st_blocks * 512 > 8 << 20:
        time.sleep(0.01)
    open(log + ".punched", "w").close()
    print("the end", flush=True)
"""


@needs_holes
def test_a_console_that_falls_behind_is_told_once_what_it_missed(tmp_path):
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", SLOW_CONSOLE, str(log)], stdout=subprocess.PIPE) as process:
        until((tmp_path / "log.punched").exists)  # nobody reads until then
        assert process.stdout is not None
        shown = process.stdout.read()
    assert process.returncode == 0
    assert shown.startswith(b"the beginning\n") and shown.endswith(b"the end\n") and b"\0" not in shown
    ((amount, _),) = LEFT_OUT.findall(shown)
    assert (64 * MIB - len(shown)) / MIB == pytest.approx(int(amount), abs=1)


def test_what_one_task_does_to_sys_stdout_is_over_with_it(logs, tmp_path):
    before = sys.stdout
    spoils: list[Callable[[Any], object]] = [
        lambda stream: stream.close(),
        lambda stream: stream.detach(),
        lambda stream: stream.reconfigure(encoding="ascii", errors="replace"),
        lambda stream: setattr(sys, "stdout", sys.stderr),
        lambda stream: stream.write("no line end"),
    ]
    for spoil in spoils:
        with capture((tmp_path / "spoilt", logs[1])):
            spoil(sys.stdout)
        sys.stdout = before
        with capture(logs):
            print("Grüße")
            assert logs[0].read_text() == "Grüße\n"  # line by line, as on a console
        logs[0].unlink()
        assert sys.stdout is before
    assert (tmp_path / "spoilt").read_text() == "no line end"


@contextlib.contextmanager
def plain_logging():
    """Let the root logger be meanwhile as it is where nobody set logging up, and return all levels that it gets."""
    root, levels = logging.getLogger(), []
    handlers, level, set_level = root.handlers[:], root.level, root.setLevel
    root.handlers.clear()
    root.setLevel(logging.WARNING)
    root.setLevel = lambda wanted: (levels.append(wanted), set_level(wanted))
    try:
        yield levels
    finally:
        del root.setLevel
        root.handlers[:] = handlers
        root.setLevel(level)


def test_many_captures_set_the_level_once_and_each_has_its_messages(logs):
    with plain_logging() as levels:
        with many_captures():
            for number in range(3):
                with capture(logs):
                    logging.getLogger("chains.a").info("message %d", number)
        assert levels == [logging.INFO, logging.WARNING] and not logging.getLogger().handlers
    assert re.findall(r"message \d", logs[1].read_text()) == ["message 0", "message 1", "message 2"]


def test_a_level_that_a_task_sets_stays_after_many_captures(logs):
    with plain_logging() as levels:
        with many_captures(), capture(logs):
            logging.getLogger().setLevel(logging.ERROR)
        assert levels == [logging.INFO, logging.ERROR]


def test_where_a_log_cannot_be_opened_all_is_as_before(logs, tmp_path):
    def console() -> list[object]:
        root = logging.getLogger()
        return [
            sys.stdout,
            sys.stderr,
            os.fstat(1).st_ino,
            os.fstat(2).st_ino,
            root.level,
            [*root.handlers],
            os.listdir("/dev/fd"),
        ]

    before = console()
    with pytest.raises(errors.StoreUnreachable, match=r"`none\.log`"), capture((logs[0], tmp_path / "no" / "none.log")):
        pytest.fail("no capture")
    assert console() == before
    with capture(logs):
        print("free again")
    assert logs[0].read_text() == "free again\n"
    assert console() == before
