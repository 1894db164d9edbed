"""Whatever the disk refuses during a commit: nothing is torn, the error says what to do, and the next run succeeds."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fault_lab
import pytest
from fault_lab import BEGINS, ENDS, RUN_BEGINS, RUN_ENDS, Call, Lab, Sight

from nectar.stores import State

#: what is injected into which call
FAULTS = {
    "write": ("ENOSPC", "EIO", "EFBIG"),
    "fsync": ("EIO", "ENOSPC"),
    "openat": ("EMFILE", "EIO"),
    "mkdir": ("ENOSPC",),
    "rename": ("EIO", "ENOSPC"),
    "renameat2": ("EIO", "ENOSPC"),
    "unlink": ("EIO",),
    "unlinkat": ("EIO",),
    "getdents64": ("EIO",),
    "fcntl": ("EMFILE",),
}
LASTING = " from then on"
LAST = {"write": "ENOSPC", "fsync": "EIO", "rename": "EIO", "mkdir": "ENOSPC", "openat": "EIO"}
NOBODY = 65534


# Faults injected at each call


@dataclass(frozen=True)
class Trial:
    """One attempt with one fault, and what came of it."""

    situation: str
    call: Call
    error: str
    in_run: bool  #: the fault hit the task's own code
    told: dict[str, Any]
    left: Sight
    synced: frozenset[str]  #: names of files and folders whose fsync succeeded

    def __str__(self) -> str:
        where = f"{self.situation}: {self.error} at {self.call} `{self.call.text[:160]}`"
        return f"{where}: {self.told['kind']}: {self.told.get('message')}"


@dataclass(frozen=True)
class Sweep:
    """Attempts in some situations, each with another fault."""

    trials: list[Trial]
    broken: list[str]  #: what was torn, or could not be made afterwards

    def listed(self, wrong: Callable[[Trial], bool]) -> str:
        """Return the trials of which something is true, one a line."""
        return "\n".join(f"  {trial}" for trial in self.trials if wrong(trial))


def faults_for(lab: Lab, situation: Any, folder: Path) -> list[tuple[Call, str, bool]]:
    """Return the faults that can be injected into an attempt's own calls, in order."""
    store = situation.copy(folder / "undisturbed")
    lab.run_traced(store, folder / "trace", "-y", forced=situation.forced)
    calls = fault_lab.calls_in(folder / "trace")
    in_run = {str(call) for call in fault_lab.between(calls, RUN_BEGINS, RUN_ENDS)}
    found = []
    for call in fault_lab.between(calls, BEGINS, ENDS):
        about_the_store = str(store) in call.text
        if call.name == "fcntl":
            about_the_store = "F_DUPFD" in call.text
        if about_the_store:
            wrong = [*FAULTS.get(call.name, ()), *(f"{LAST[name]}{LASTING}" for name in (call.name,) if name in LAST)]
            found += [(call, error, str(call) in in_run) for error in wrong]
    return found


def inject(lab: Lab, situation: Any, folder: Path, most: int | None) -> Sweep:
    folder.mkdir()
    faults = faults_for(lab, situation, folder)
    if most is not None:
        many = ("openat", "write", "fsync", "getdents64")
        often = [one for one in faults if one[0].name in many and "write(1<" not in one[0].text]
        seldom = [one for one in faults if one not in often]
        faults = seldom + fault_lab.spread(often, most - len(seldom))
    trials: list[Trial] = []
    broken: list[str] = []
    for number, (call, error, in_run) in enumerate(faults):
        store, trace = situation.copy(folder / f"store{number}"), folder / f"{number}.trace"
        once_or_on = "+" if error.endswith(LASTING) else ""
        option = f"inject={call.name}:error={error.removesuffix(LASTING)}:when={call.ordinal}{once_or_on}"
        told = lab.run_traced(store, trace, "-y", "-e", option, forced=situation.forced)["told"]
        try:
            left = fault_lab.look(store, situation.address)
            trials.append(Trial(situation.name, call, error, in_run, told, left, synced_in(trace)))
            lab.succeed(store)
            assert fault_lab.look(store, situation.address).state is State.COMPLETE, "the next run made nothing"
        except AssertionError as problem:
            broken.append(f"{error} at {call} `{call.text[:160]}`: {problem}")
        shutil.rmtree(store)
        trace.unlink()
    return Sweep(trials, broken)


def synced_in(trace: Path) -> frozenset[str]:
    calls = (call.text for call in fault_lab.calls_in(trace) if call.name == "fsync" and call.text.endswith("= 0"))
    return frozenset(re.sub(r".*/([^/>]+)>.*", r"\1", text) for text in calls)


@pytest.fixture(
    scope="module", params=[pytest.param(45, id="some"), pytest.param(None, id="all", marks=pytest.mark.stress)]
)
def sweep(
    request: pytest.FixtureRequest,
    lab: Lab,
    situations: dict[str, Any],
    tracing: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Sweep:
    """Some faults in two situations in the default run; under `stress` every fault in every situation."""
    folder = tmp_path_factory.mktemp("sweep")
    names = situations if request.param is None else ("create", "forced")
    swept = [inject(lab, situations[name], folder / name, request.param) for name in names]
    return Sweep([trial for one in swept for trial in one.trials], [text for one in swept for text in one.broken])


def test_a_fault_of_the_disk_tears_nothing_and_the_next_run_succeeds(
    sweep: Sweep, publish: Callable[..., None]
) -> None:
    failed = sum(trial.told["kind"] is not None for trial in sweep.trials)
    publish(faults=len(sweep.trials), attempts_failed=failed, broken=len(sweep.broken))
    assert not sweep.broken, "\n".join(sweep.broken)


def test_what_was_complete_stays_whatever_the_disk_refuses(sweep: Sweep) -> None:
    gone = sweep.listed(lambda trial: trial.situation == "forced" and trial.left.state is not State.COMPLETE)
    assert not gone, f"the old target is gone:\n{gone}"


def test_an_attempt_that_succeeds_has_published_whatever_the_disk_refused(sweep: Sweep) -> None:
    wrong = sweep.listed(lambda trial: trial.told["kind"] is None and trial.left.state is not State.COMPLETE)
    assert not wrong, f"these attempts returned, and there is nothing:\n{wrong}"


def test_a_fault_of_the_disk_is_told_in_a_clear_sentence(sweep: Sweep) -> None:
    def unclear(trial: Trial) -> bool:
        if trial.told["kind"] is None or trial.in_run:
            return False
        return "NectarError" not in trial.told["family"] or not trial.told["hint"]

    raw = sweep.listed(unclear)
    assert not raw, f"these say no more than the operating system:\n{raw}"


def test_the_console_is_given_back_whatever_the_disk_refuses(sweep: Sweep) -> None:
    kept = sweep.listed(lambda trial: trial.told["streams"] != "as before")
    assert not kept, f"stdout or stderr of the process still goes elsewhere after:\n{kept}"


def test_the_lease_is_given_back_whatever_the_disk_refuses(sweep: Sweep) -> None:
    kept = sweep.listed(lambda trial: trial.told["leases"] != 0)
    assert not kept, f"the process still holds the lease after:\n{kept}"


def test_what_a_commit_answered_for_was_synced_whatever_the_disk_refused(sweep: Sweep) -> None:
    wanted = {"out.txt", "parts", "more.bin", "params.txt", "record.json", "WholeTask"}
    torn = sweep.listed(
        lambda trial: trial.told["kind"] is None and bool(trial.told.get("won")) and not wanted <= trial.synced
    )
    assert not torn, f"these commits answered without having synced their files:\n{torn}"


# A disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function that gives a memory disk of some pages, one disk that is made larger and smaller."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "small"
    place.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(place)], check=True, capture_output=True)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"no tmpfs can be mounted here: {getattr(error, 'stderr', error)!r}")

    def sized(pages: int) -> Path:
        size = f"remount,size={pages * os.sysconf('SC_PAGE_SIZE')}"
        subprocess.run(["mount", "-o", size, str(place)], check=True, capture_output=True)
        return place

    try:
        yield sized
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True, capture_output=True)


def pages_used(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_blocks - found.f_bfree


@pytest.mark.root
@pytest.mark.parametrize("situation", ["create", "forced"], indirect=True)
def test_a_full_disk_tears_nothing_and_with_more_room_the_next_run_succeeds(
    lab: Lab, situation: Any, small_disk: Callable[[int], Path], publish: Callable[..., None]
) -> None:
    place = small_disk(1000)
    outcomes: dict[str, int] = {}
    for room in range(14):
        situation.copy(place / "store")
        small_disk(pages_used(place) + room)
        told = lab.run(place / "store", forced=situation.forced)["told"]
        left = fault_lab.look(place / "store", situation.address)
        outcomes[str(told["kind"])] = outcomes.get(str(told["kind"]), 0) + 1
        assert (told["kind"] is None) <= (left.state is State.COMPLETE)
        assert told["kind"] is None or "no space left" in told["message"].lower()
        assert not situation.forced or left.state is State.COMPLETE
        small_disk(1000)
        lab.succeed(place / "store")
        assert fault_lab.look(place / "store", situation.address).state is State.COMPLETE
        shutil.rmtree(place / "store")
    assert None in {None if kind == "None" else kind for kind in outcomes} and len(outcomes) > 1, outcomes
    publish(disks=14, outcomes=outcomes)


# Limits of the process


@pytest.mark.parametrize("limit", ["RLIMIT_NOFILE", "RLIMIT_FSIZE"])
def test_a_limit_of_the_process_tears_nothing_and_without_it_the_next_run_succeeds(
    lab: Lab, situations: dict[str, Any], tmp_path: Path, publish: Callable[..., None], limit: str
) -> None:
    values = range(3, 20) if limit == "RLIMIT_NOFILE" else range(0, 14_000, 1000)
    outcomes: dict[str, int] = {}
    for value in values:
        store = situations["forced"].copy(tmp_path / f"store{value}")
        told = lab.run(store, forced=True, limits={limit: value})["told"]
        outcomes[str(told["kind"])] = outcomes.get(str(told["kind"]), 0) + 1
        assert fault_lab.look(store, situations["forced"].address).state is State.COMPLETE
        assert told["kind"] is None or re.search("too many open files|file too large", told["message"].lower())
        lab.succeed(store, forced=True)
        assert fault_lab.look(store, situations["forced"].address).state is State.COMPLETE
    assert len(outcomes) > 1, outcomes
    publish(limits=len(values), outcomes=outcomes)


# Where nobody may write


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_a_store_that_may_not_be_written_is_unreachable_and_not_missing(
    lab: Lab, situations: dict[str, Any], public_folder: Path
) -> None:
    root = os.geteuid() == 0
    store = situations["forced"].copy(public_folder / "store")
    mode = 0o755 if root else 0o555
    folders = [store, *(one for one in store.rglob("*") if one.is_dir())]
    for one in folders:
        one.chmod(mode)
    before = fault_lab.look(store, situations["forced"].address)
    told = lab.run(store, forced=True, user=NOBODY if root else None)["told"]
    assert told["kind"] == "StoreUnreachable", told.get("text")
    assert "permission denied" in told["message"] and "permission" in told["hint"]
    assert fault_lab.look(store, situations["forced"].address) == before
    for one in folders:
        one.chmod(0o777)
    lab.succeed(store, forced=True)


def test_a_target_that_may_not_be_read_is_an_error_and_not_missing(
    lab: Lab, situations: dict[str, Any], public_folder: Path
) -> None:
    root = os.geteuid() == 0
    store = situations["forced"].copy(public_folder / "store")
    task = (store / situations["forced"].address.path).parent
    task.chmod(0o700 if root else 0o000)
    told = lab.run(store, user=NOBODY if root else None)["told"]
    task.chmod(0o755)
    assert told["kind"] == "StoreUnreachable", told.get("text")
    assert fault_lab.look(store, situations["forced"].address) == situations["forced"].before


@pytest.mark.root
def test_a_read_only_disk_is_unreachable_and_what_lies_there_stays(
    lab: Lab, situations: dict[str, Any], small_disk: Callable[[int], Path]
) -> None:
    place = small_disk(1000)
    store = situations["forced"].copy(place / "store")
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    told = lab.run(store, forced=True)["told"]
    assert told["kind"] == "StoreUnreachable", told.get("text")
    assert "read-only file system" in told["message"] and "read-only" in told["hint"]
    assert fault_lab.look(store, situations["forced"].address) == situations["forced"].before
    subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
    lab.succeed(store, forced=True)


# Who still holds an output open


@contextlib.contextmanager
def leftover_child(
    lab: Lab, folder: Path, way: str, user: int | None = None
) -> Iterator[tuple[Path, Callable[[], str]]]:
    """Run a task that leaves a child; give its store, and the function that lets the child write."""
    pipes = folder / "pipes"
    pipes.mkdir()
    for name in ("go", "done"):
        os.mkfifo(pipes / name)
        os.chmod(pipes / name, 0o666)
    store = folder / "store"
    store.mkdir()
    store.chmod(0o777)
    lab.succeed(store, task="LeftoverTask", params={"way": way, "pipes": str(pipes)}, user=user)

    def let_it_write() -> str:
        (pipes / "go").write_text("")
        return (pipes / "done").read_text()

    yield store, let_it_write


@pytest.mark.parametrize("way", ["open", "mapped"])
def test_a_leftover_child_that_holds_an_output_open_changes_nothing_that_is_published(
    lab: Lab, public_folder: Path, way: str
) -> None:
    with leftover_child(lab, public_folder, way) as (store, let_it_write):
        address = fault_lab.the_target(store, "LeftoverTask")
        before = fault_lab.look(store, address)
        assert before.state is State.COMPLETE
        assert let_it_write() == "written\n"
        assert fault_lab.look(store, address) == before
        assert (store / address.path / "out.txt").read_text() == "published\n"


def test_a_leftover_child_in_the_folder_of_an_output_changes_nothing_that_is_published(
    lab: Lab, public_folder: Path
) -> None:
    user = NOBODY if os.geteuid() == 0 else None  # no mode of a file stops root
    with leftover_child(lab, public_folder, "in its folder", user) as (store, let_it_write):
        address = fault_lab.the_target(store, "LeftoverTask")
        let_it_write()
        assert (store / address.path / "out.txt").read_text() == "published\n"
        assert fault_lab.look(store, address).state is State.COMPLETE


def test_an_output_that_the_task_itself_holds_open_is_an_error_with_the_way_out(lab: Lab, tmp_path: Path) -> None:
    told = lab.run(tmp_path / "store", task="StillOpenTask")["told"]
    assert told["kind"] == "OutputStillOpen"
    assert "`out.txt`" in told["message"] and "with self.output().open" in told["hint"]
    assert fault_lab.look_at_all(tmp_path / "store") == {}


def test_an_output_that_is_open_in_a_reference_cycle_is_not_published_without_what_was_written(
    lab: Lab, tmp_path: Path
) -> None:
    told = lab.run(tmp_path / "store", task="CycleTask")["told"]
    assert told["kind"] in (None, "OutputStillOpen"), told["text"]
    for address in fault_lab.look_at_all(tmp_path / "store"):
        assert (tmp_path / "store" / address.path / "out.txt").read_text() == "whole"


# What a task leaves beside its outputs


IMPOSSIBLE = ["record.json", "record.json/x", "back\\slash.txt", "line\nbreak.txt", "\xff.txt"]


@pytest.mark.parametrize("name", ["more.txt", "parts/.hidden", "with space.txt", "ünïcode.txt", ".part.crc"])
def test_a_target_is_complete_after_its_commit_whatever_lies_beside_the_output(
    lab: Lab, tmp_path: Path, name: str
) -> None:
    told = lab.run(tmp_path / "store", task="StrangeTask", params={"name": name.encode().decode("latin-1")})["told"]
    assert told["kind"] is None, told.get("text")
    address = fault_lab.the_target(tmp_path / "store", "StrangeTask")
    assert fault_lab.look(tmp_path / "store", address).state is State.COMPLETE


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_file_of_an_impossible_name_is_the_tasks_failure_or_published_with_the_rest(
    lab: Lab, tmp_path: Path, name: str
) -> None:
    told = lab.run(tmp_path / "store", task="StrangeTask", params={"name": name})["told"]
    states = [sight.state for sight in fault_lab.look_at_all(tmp_path / "store").values()]
    if told["kind"] is None:
        assert states == [State.COMPLETE]
    else:
        assert "TaskFailed" in told["family"] and told["hint"], told["text"]
        assert states == []


def test_a_target_that_lacks_an_output_which_its_task_has_now_is_made_again(lab: Lab, tmp_path: Path) -> None:
    lab.succeed(tmp_path / "store", task="OneTask")
    told = lab.succeed(tmp_path / "store", task="TwoTask")
    assert told["won"], "the old target, which lacks `more.txt`, stays for ever"
    address = fault_lab.the_target(tmp_path / "store", "SameTask")
    assert {"out.txt", "more.txt"} <= set(fault_lab.look(tmp_path / "store", address).files)
