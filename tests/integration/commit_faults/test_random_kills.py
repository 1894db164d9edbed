"""Two writers of the same targets, killed at any time: no target is torn, and what was complete once never changes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import fault_lab
import pytest
from fault_lab import Dice, Lab, Sight

from nectar.address import Address
from nectar.stores import State

TARGETS = 12  #: numbers that both writers make, two tasks each
LONGEST_LIFE_S = 0.15


class Watch:
    """What was ever seen complete in one store, and the promise that it stays."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: dict[Address, Sight] = {}

    def look(self) -> None:
        """Look at all targets: none torn, none changed, none gone."""
        now = {one: sight for one, sight in fault_lab.look_at_all(self.root).items() if sight.state is State.COMPLETE}
        for address, before in self.seen.items():
            assert now.get(address) == before, f"{address} was complete, and has changed"
        self.seen = now


def live(lab: Lab, store: Path, dice: Dice, racing: bool) -> int:
    """Start a writer that makes all the targets again and again, each time with other bytes.

    With `racing` it takes no leases, so that two writers do meet in their commits.
    """
    journal, seed = str(store.with_suffix(".journal")), dice.randrange(10**9)
    pid = lab.start(store, "without end", numbers=[0, TARGETS], seed=seed, journal=journal, racing=racing)
    lab.go(pid)
    return pid


def kill_writers(lab: Lab, folder: Path, dice: Dice, trials: int, racing: bool) -> dict[str, int]:
    folder.mkdir()
    stores = 1
    watch = Watch(folder / "store1")
    complete = 0
    writers = [live(lab, watch.root, dice, racing) for _ in range(2)]
    pause = threading.Event()  # never set: the moment of the kill is chance, there is nothing to wait for
    try:
        for _ in range(trials):
            pause.wait(dice.uniform(0, LONGEST_LIFE_S))
            victim = writers.pop(dice.randrange(2))
            os.kill(victim, signal.SIGKILL)
            assert lab.end(victim)["exit"] == -signal.SIGKILL
            watch.look()
            if len(watch.seen) == 2 * TARGETS:  # all made: from here on everybody would only lose
                complete += len(watch.seen)
                end_all(lab, writers)
                watch.look()
                stores += 1
                watch = Watch(folder / f"store{stores}")
                writers.append(live(lab, watch.root, dice, racing))
            writers.append(live(lab, watch.root, dice, racing))
    finally:
        end_all(lab, writers)
    watch.look()
    lab.succeed(watch.root, task="PartTask")
    lab.succeed(watch.root)
    watch.look()
    return {"trials": trials, "stores": stores, "targets_made": complete + len(watch.seen), "torn": 0}


def end_all(lab: Lab, writers: list[int]) -> None:
    while writers:
        pid = writers.pop()
        os.kill(pid, signal.SIGKILL)
        lab.end(pid)


@pytest.mark.parametrize("racing", [False, True], ids=["leased", "racing"])
def test_random_kills_of_two_writers_tear_nothing_and_the_first_wins(
    lab: Lab, tmp_path: Path, dice: Dice, publish: Callable[..., None], racing: bool
) -> None:
    publish(seed=dice.seed_text, **kill_writers(lab, tmp_path / "stores", dice, 40, racing))


@pytest.mark.stress
@pytest.mark.parametrize("racing", [False, True], ids=["leased", "racing"])
def test_a_thousand_random_kills_of_two_writers_tear_nothing_and_the_first_wins(
    lab: Lab, tmp_path: Path, dice: Dice, publish: Callable[..., None], racing: bool
) -> None:
    publish(seed=dice.seed_text, **kill_writers(lab, tmp_path / "stores", dice, 1000, racing))
