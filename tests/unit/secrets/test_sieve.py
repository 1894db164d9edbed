"""What a sieve lets through has no secret in it, however the bytes come, and everything else as it was."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nectar.redaction import sieve as sieve_module
from nectar.redaction.sieve import MASK, Sieve

forms = st.lists(st.binary(min_size=4, max_size=9).filter(lambda form: b"*" not in form), min_size=1, max_size=5)
letters = st.lists(st.sampled_from([b"a", b"b", b"ab", b"aba", b"abab", b"\n", b"\xff"]), max_size=30).map(b"".join)
alike = st.lists(
    st.sampled_from([b"abab", b"ababab", b"baab", b"aabb", b"\xffab\n", b"bababa"]), min_size=1, max_size=4
)


def in_pieces(sieve: Sieve, raw: bytes, cuts: list[int]) -> bytes:
    """Return what comes through when the bytes come in pieces."""
    places = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    out, rest = b"", b""
    for start, stop in itertools.pairwise(places):
        told, rest = sieve.part(rest + raw[start:stop])
        out += told
    return out + sieve.mask(rest)


@given(alike, letters, st.lists(st.integers(0, 100), max_size=8))
def test_pieces_come_out_as_the_whole_does(known: list[bytes], raw: bytes, cuts: list[int]) -> None:
    sieve = Sieve(known)
    assert in_pieces(sieve, raw, cuts) == sieve.mask(raw)


@given(alike, letters)
def test_no_byte_of_a_secret_comes_through_and_every_other_one_does(known: list[bytes], raw: bytes) -> None:
    covered = bytearray(len(raw))
    for form in known:
        for at in range(len(raw)):
            if raw.startswith(form, at):
                covered[at : at + len(form)] = b"\1" * len(form)
    kept = bytes(byte for byte, hidden in zip(raw, covered, strict=True) if not hidden)
    assert Sieve(known).mask(raw).replace(MASK, b"") == kept


@given(forms, st.binary(max_size=60))
def test_bytes_without_a_secret_are_as_they_were(known: list[bytes], raw: bytes) -> None:
    if not any(form in raw for form in known):
        assert Sieve(known).mask(raw) == raw


def test_what_may_begin_a_secret_is_held_back_and_nothing_else() -> None:
    sieve = Sieve([b"hunter2"])
    assert sieve.part(b"a password: hunt") == (b"a password: ", b"hunt")
    assert sieve.part(b"a line\n") == (b"a line\n", b"")


class Process:
    """The script at work, as a filter between a pipe and a file."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "out.log"
        self.control, far = socket.socketpair()
        words = [sys.executable, "-I", "-S", sieve_module.__file__, str(far.fileno())]
        self.popen = subprocess.Popen(words, pass_fds=[far.fileno()])
        far.close()
        self.pipe = self.take(self.log)

    def take(self, log: Path) -> int:
        """Return a pipe that leads into a file."""
        source, pipe = os.pipe()
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        socket.send_fds(self.control, [b"take 0\n"], [source, target])
        assert self.control.recv(1) == b"\n"
        os.close(source)
        os.close(target)
        return pipe

    def ask(self, word: bytes, body: bytes = b"") -> bytes:
        self.control.sendall(b"%s %d\n%s" % (word, len(body), body))
        return self.control.recv(1)

    def write(self, raw: bytes) -> None:
        while raw:
            raw = raw[os.write(self.pipe, raw) :]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    made.popen.kill()
    made.popen.wait()
    made.control.close()


def test_the_script_masks_what_comes_and_has_all_written_when_it_says_so(process: Process) -> None:
    assert process.ask(b"add", b"hunter2".hex().encode()) == b"\n"
    process.write(b"one hunt")
    assert process.ask(b"sync") == b"\n"
    assert process.log.read_bytes() == b"one "
    process.write(b"er2 two\n" + b"x" * 300_000)
    assert process.ask(b"add", b" ".join([b"hunter2".hex().encode(), b"other3".hex().encode()])) == b"\n"
    process.write(b"other3 end")
    assert process.ask(b"sync") == b"\n"
    assert process.log.read_bytes() == b"one ****** two\n" + b"x" * 300_000 + b"****** end"
    other = process.log.with_name("other.log")
    pipe = process.take(other)
    os.write(pipe, b"hunter2 hunt")
    os.close(pipe)
    assert process.ask(b"sync") == b"\n"
    assert other.read_bytes() == b"****** hunt"


def test_the_script_ends_with_who_asks_and_who_prints(process: Process) -> None:
    os.close(process.pipe)
    assert process.ask(b"sync") == b"\n"
    assert process.popen.poll() is None
    process.control.close()
    assert process.popen.wait(20) == 0


def test_the_script_goes_on_without_who_started_it_until_nobody_prints(process: Process) -> None:
    assert process.ask(b"add", b"hunter2".hex().encode()) == b"\n"
    process.control.close()
    process.write(b"a hunter2 b hunt")
    os.close(process.pipe)
    assert process.popen.wait(20) == 0
    assert process.log.read_bytes() == b"a ****** b hunt"


def test_the_script_answers_while_somebody_writes_without_end(process: Process) -> None:
    with subprocess.Popen(["yes"], stdout=process.pipe) as flood:
        try:
            for _ in range(5):
                assert process.ask(b"sync") == b"\n"
        finally:
            flood.kill()
