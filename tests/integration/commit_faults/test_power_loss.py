"""After a power loss nothing that reads as complete is torn, and what a commit had answered for is still there.

A file system in a loop-mounted image loses its power by `ioctl(EXT4_IOC_SHUTDOWN, NOLOGFLUSH)`, which ext4 and xfs
both know: from then on nothing reaches the disk, not even what waits in the log.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fault_lab
import pytest
from fault_lab import Dice, Lab

from nectar.address import Address
from nectar.stores import State

SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2
IMAGE_BYTES = 400 << 20  #: xfs takes no less than 300 MiB
LONGEST_LIFE_S = 0.4
WRITERS = [("without end", 1), ("without end", 1), ("batches", 5)]  #: work, attempts a commit

pytestmark = pytest.mark.root


class Disk:
    """A file system in an image, mounted at a folder; it can lose its power."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.image = folder / f"{kind}.image"
        self.place = folder / kind
        self.place.mkdir()
        self.mounted = False
        with open(self.image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        options = ["-q", "-F"] if kind == "ext4" else ["-q", "-f"]
        subprocess.run([f"mkfs.{kind}", *options, str(self.image)], check=True, capture_output=True)

    def mount(self) -> None:
        """Mount the image, which repairs it by its log."""
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.place)], check=True, capture_output=True)
        self.mounted = True

    def lose_power(self) -> None:
        """Let nothing reach the image any more."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Take the file system away, whatever its state."""
        if self.mounted:
            subprocess.run(["umount", str(self.place)], check=True, capture_output=True)
            self.mounted = False


@pytest.fixture(params=["ext4", "xfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A disk of each kind that this machine can make and mount."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system and take its power away")
    if shutil.which(f"mkfs.{request.param}") is None:
        pytest.skip(f"mkfs.{request.param} is not installed: no power loss on {request.param}")
    disk = Disk(tmp_path, request.param)
    try:
        disk.mount()
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"no {request.param} image can be mounted here: {getattr(error, 'stderr', error)!r}")
    try:
        yield disk
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            disk.unmount()
        if disk.mounted:
            subprocess.run(["umount", "--lazy", str(disk.place)], check=False, capture_output=True)
        disk.image.unlink()


def acknowledged(journals: list[Path]) -> set[Address]:
    """Return the targets of which a commit had returned; the journals lie on a disk that keeps its power."""
    lines = [line for journal in journals if journal.exists() for line in journal.read_text().splitlines()]
    return {Address.parse(line.split()[0]) for line in lines if line.endswith(("True", "False"))}


def lose_power_while_writing(lab: Lab, disk: Disk, journals: Path, dice: Dice, durability: str) -> set[Address]:
    """Let writers work, take the power away at some moment, and return the targets that had been promised."""
    first = dice.randrange(10**9)
    writers, notes = [], []
    for number, (work, size) in enumerate(WRITERS):
        notes.append(journals / f"{first}-{number}")
        numbers = [first + 1000 * (number // 2), first + 1000 * (number // 2) + 500]  # the first two share theirs
        writers.append(
            lab.start(
                disk.place / "store",
                work,
                durability=durability,
                numbers=numbers,
                size=size,
                seed=first,
                journal=str(notes[-1]),
            )
        )
    for pid in writers:
        lab.go(pid)
    threading.Event().wait(dice.uniform(0.02, LONGEST_LIFE_S))  # the moment is chance: there is nothing to wait for
    promised = acknowledged(notes)  # before the loss: a sync that it overtakes may still be told of as done
    disk.lose_power()
    for pid in writers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        lab.end(pid)
    disk.unmount()
    disk.mount()
    return promised


def lose_power_often(lab: Lab, disk: Disk, folder: Path, dice: Dice, durability: str, trials: int) -> dict[str, object]:
    journals = folder / "journals"
    journals.mkdir()
    promised: set[Address] = set()
    for trial in range(trials):
        new = lose_power_while_writing(lab, disk, journals, dice, durability)
        promised |= new
        sights = fault_lab.look_at_all(disk.place / "store")
        lost = [str(one) for one in promised if one not in sights or sights[one].state is not State.COMPLETE]
        assert not lost, f"loss {trial}: of {len(promised)} targets whose commit had returned are gone: {lost}"
        torn = [f"{one}: {sight.state.value}" for one, sight in sights.items() if sight.state is not State.COMPLETE]
        assert not torn, f"loss {trial}: a power loss left what is neither absent nor complete: {torn}"
    return {"losses": trials, "promised": len(promised), "lost": 0, "torn": 0}


def test_the_loss_of_power_is_one(disk: Disk) -> None:
    """What nobody synced is gone; otherwise the tests here would prove nothing."""
    (disk.place / "synced").write_bytes(b"x" * 10_000)
    for path in (disk.place / "synced", disk.place):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    (disk.place / "not synced").write_bytes(b"x" * 10_000)
    disk.lose_power()
    disk.unmount()
    disk.mount()
    assert (disk.place / "synced").read_bytes() == b"x" * 10_000
    assert not (disk.place / "not synced").exists()


@pytest.mark.parametrize("durability", ["group", "each"])
def test_a_power_loss_tears_nothing_and_takes_nothing_that_was_promised(
    lab: Lab, disk: Disk, tmp_path: Path, dice: Dice, publish: Callable[..., None], durability: str
) -> None:
    figures = lose_power_often(lab, disk, tmp_path, dice, durability, 4)
    publish(seed=dice.seed_text, disk=disk.place.name, **figures)


@pytest.mark.stress
@pytest.mark.parametrize("durability", ["group", "each"])
def test_a_hundred_power_losses_tear_nothing_and_take_nothing_that_was_promised(
    lab: Lab, disk: Disk, tmp_path: Path, dice: Dice, publish: Callable[..., None], durability: str
) -> None:
    figures = lose_power_often(lab, disk, tmp_path, dice, durability, 100)
    publish(seed=dice.seed_text, disk=disk.place.name, **figures)
