"""A task may print as much as it likes: its log keeps head and tail, and the disk does not fill."""

from __future__ import annotations

import re

import pytest

MIB = 1 << 20

CHAIN = """
import os, sys, time

import nectar


class FloodTask(nectar.Task):
    def run(self):
        block = b"0123456789abcde\\n" * (1 << 16)
        print("the beginning", flush=True)
        for _ in range(1024):
            os.write(1, block)
        deadline = time.monotonic() + 30
        while sys.platform == "linux" and os.fstat(1).st_blocks * 512 > 40 << 20:
            assert time.monotonic() < deadline, "the log fills the disk"
            time.sleep(0.01)
        print("the end", flush=True)
        self.dump("")


class FailedFloodTask(nectar.Task):
    def run(self):
        for _ in range(64):
            os.write(2, b"0123456789abcde\\n" * (1 << 16))
        raise ValueError("after a flood")
"""


@pytest.fixture
def floods(project):
    project.chain("etl/flood_chain", CHAIN)
    return project


def test_of_a_gibibyte_of_output_the_log_keeps_head_and_tail(floods):
    folder = floods.make("etl/flood_chain", "FloodTask")
    log = folder / "log/stdout.log"
    assert 32 * MIB - 8192 < log.stat().st_size < 32 * MIB + 100
    kept = log.read_bytes()
    assert kept.startswith(b"the beginning\n0123456789abcde\n") and kept.endswith(b"\n0123456789abcde\nthe end\n")
    assert re.findall(rb"^\[nectar: .*\]$", kept, re.MULTILINE) == [b"[nectar: 992 MiB of this log were left out]"]
    assert b"\0" not in kept and not (folder / "log/stderr.log").read_bytes()
    assert log.stat().st_blocks * 512 >= log.stat().st_size  # not a sparse file


def test_the_log_of_a_failed_attempt_keeps_its_head_and_ends_with_the_traceback(floods):
    failed = floods.nectar("run", "etl/flood_chain", "FailedFloodTask")
    assert failed.code == 1
    (log,) = floods.store.glob("chains/etl/flood_chain/FailedFloodTask/.attempts/*/*/log/stderr.log")
    kept = log.read_bytes()
    assert 32 * MIB - 8192 < len(kept) < 32 * MIB + 4096
    assert kept.startswith(b"0123456789abcde\n") and kept.endswith(b"ValueError: after a flood\n")
    assert kept.count(b"[nectar: 32 MiB of this log were left out]\n") == 1
