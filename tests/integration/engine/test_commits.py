"""Attempts that end together are committed together: all or none of each, whatever happens in between."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

CHAIN = """
    from nectar.execution import engine, hands

    engine.BATCH_SECONDS = hands.GROUP_SECONDS = 30.0  # however slow the machine is, many go together
    WARM = 20
    ALL = 40


    class MemberTask(nectar.Task):
        n = luigi.IntParameter()

        def requires(self):
            return [MemberTask(n=n) for n in range(WARM)] if self.n >= WARM else []

        def run(self):
            with open("ran", "a") as file:
                file.write(f"{self.n}\\n")
            if self.n == ALL - 1 and pathlib.Path("hurt").exists():
                pathlib.Path("hurt").rename("hurting")
                os.kill(os.getpid(), signal.SIGKILL)
            self.dump(f"member {self.n}" * 20)


    class AllTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [MemberTask(n=n) for n in range(ALL)]


    class SmallTask(nectar.Task):
        n = luigi.IntParameter()

        def run(self):
            self.dump(str(self.n))


    class SmallsTask(nectar.Task, luigi.WrapperTask):
        count = luigi.IntParameter()

        def requires(self):
            return [SmallTask(n=n) for n in range(self.count)]


    class SumTask(nectar.Task):
        count = luigi.IntParameter()

        def requires(self):
            return [SmallTask(n=n) for n in range(self.count)]

        def run(self):
            self.dump("all")

"""


@pytest.fixture
def chain(project):
    project.chain(CHAIN)
    return project


@pytest.mark.parametrize("durability", ["group", "each", "none"])
def test_a_worker_killed_between_run_and_commit_leaves_nothing_torn(chain, durability):
    (chain.root / "hurt").touch()
    ended = chain.run("AllTask", executor="processes", env={"NECTAR_DURABILITY": durability})
    assert ended.counts == {"succeeded": 39, "failed": 1, "not run": 1}
    ran = chain.lines("ran")
    again = {n for n in ran if ran.count(n) > 1}
    assert again, "some of the group had run when the worker died"
    assert max(ran.count(n) for n in ran) == 2 and ran.count("39") == 1
    assert len(chain.targets("MemberTask")) == 39
    chain.check_store()
    assert chain.staged() == []
    buried = [json.loads((place / "attempt.json").read_text()) for place in chain.failures("MemberTask")]
    assert len(buried) == len(again) + 1


def test_a_worker_killed_within_the_group_commit_leaves_each_whole_or_absent(chain):
    """The n-th rename of the group kills the worker."""
    renames = 30
    ended = traced_run(chain, f"--inject=renameat2:signal=KILL:when={renames}")
    assert ended.code == 1
    chain.check_store()
    statuses = [json.loads(line) for line in ended.out.splitlines()][-1]["counts"]
    made = len(chain.targets("MemberTask"))
    assert statuses["failed"] == 1 and made >= statuses["succeeded"]
    again = chain.nectar("run", "--executor", "processes", "etl/engine_chain", "AllTask")
    assert again.code == 0, again
    assert len(chain.targets("MemberTask")) == 40
    chain.check_store()
    assert chain.staged() == []


def traced_run(chain, *options, durability="none", words=("AllTask",)):
    if shutil.which("strace") is None:
        pytest.skip("strace is not here")
    log = chain.root / "trace"
    command = ["strace", "-f", "-qq", "-o", str(log), *options]
    command += [sys.executable, "-m", "nectar.cli", "run", "--json", "--executor", "processes", "etl/engine_chain"]
    return chain.start([*command, *words], env={"NECTAR_DURABILITY": durability}).ended()


def syncs(chain, durability):
    """Return how often a run of 24 tasks asked the disk to keep something: all, and for the whole file system.

    What the history of the run asks for is left out: it has a promise of its own.
    """
    ended = traced_run(
        chain,
        "-y",
        "--trace=fsync,fdatasync,syncfs,sync",
        durability=durability,
        words=("SmallsTask", "--count", "24"),
    )
    assert ended.code == 0, ended
    lines = [line for line in (chain.root / "trace").read_text().splitlines() if "/.nectar/runs" not in line]
    calls = re.findall(r"\b(fsync|fdatasync|syncfs|sync)\(", "\n".join(lines))
    return len(calls), calls.count("syncfs")


def test_durability_says_what_is_waited_for(chain):
    """Nothing for `none`, the disk once a group for `group`, each file for `each`."""
    found = {}
    for durability in ("none", "group", "each"):
        found[durability] = syncs(chain, durability)
        subprocess.run(["rm", "-rf", str(chain.store)], check=True)
    assert found["none"] == (0, 0)
    assert 0 < found["group"][1] < 12 and found["group"][0] < 48
    assert found["each"][0] >= 3 * 24 and found["each"][1] == 0


def test_a_worker_learns_the_digests_of_inputs_from_the_engine(chain):
    """The records of what other workers made a moment ago, and of what the plan found, are not read once more."""
    made = traced_run(chain, "--trace=openat", words=("SumTask", "--count", "12"))
    assert made.code == 0, made
    read = re.compile(r'openat\(.*record\.json", O_RDONLY')
    assert not [line for line in (chain.root / "trace").read_text().splitlines() if read.search(line)]
    [summed] = [json.loads((place / "record.json").read_text()) for place in chain.targets("SumTask")]
    digests = sorted(entry["files"]["out.txt"] for entry in summed["inputs"].values())
    assert digests == sorted(hashlib.sha256(str(n).encode()).hexdigest() for n in range(12))


@pytest.mark.root
def test_a_full_disk_in_a_group_commit_fails_what_is_not_there_and_the_next_run_makes_it(chain):
    """Each staged task has its files; the records of the group are what does not fit any more."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    chain.store.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m,nr_inodes=400", "none", str(chain.store)]
    subprocess.run(mount, check=True)
    try:
        words = ("etl/engine_chain", "SmallsTask", "--count", "100")
        full = chain.nectar("run", "--executor", "processes", "--json", *words)
        assert full.code == 5, full
        steps = json.loads(full.out.splitlines()[-1])["steps"]
        made = {step["path"] for step in steps if step["status"] == "succeeded" and step["path"]}
        assert {str(one.relative_to(chain.store)) for one in chain.targets()} >= made
        assert any("no space" in (step["error"] or "") for step in steps)
        chain.check_store()
        subprocess.run(["mount", "-o", "remount,size=64m,nr_inodes=10000", str(chain.store)], check=True)
        assert chain.nectar("run", "--executor", "processes", *words).code == 0
        assert len(chain.targets("SmallTask")) == 100
        chain.check_store()
        assert chain.staged() == []
    finally:
        chain.end_all()
        subprocess.run(["umount", "-l", str(chain.store)], check=True)


@pytest.mark.stress
@pytest.mark.parametrize("when", range(1, 45))
def test_a_kill_at_every_rename_leaves_each_whole_or_absent(chain, when):
    traced_run(chain, f"--inject=renameat2:signal=KILL:when={when}")
    chain.check_store()
    assert chain.nectar("run", "-w", "2", "etl/engine_chain", "AllTask").code == 0
    assert len(chain.targets("MemberTask")) == 40
    chain.check_store()
