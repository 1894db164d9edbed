"""Run cases in processes of their own, in rounds, and make medians and spreads of what they took.

All cases are run once before any is run again, so that a slow minute of the machine meets all of them; a ratio is
made of two times of the same round. Nothing is deleted before the end: on ext4 new files are slow for minutes after.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from cases import Case, Group
from s3_server import S3Server

HERE = Path(__file__).resolve().parent
PEERS = ("doit", "gokart", "a_la_mode")
OF_PEERS = (*PEERS, "gokart_s3")  #: the sides that the peers' interpreter runs

Samples = dict[str, list[dict[str, float]]]  #: by case; one a pass, in the order of rounds


class Bench:
    """One benchmark: its folder, its interpreters, its S3 server if it needs one, and what it has measured."""

    def __init__(
        self, folder: Path, peers: str | None, say: Callable[[str], None], server: S3Server | None = None
    ) -> None:
        self.folder = folder
        self.samples: Samples = {}
        self._peers = peers
        self._server = server
        self._say = say
        self._fresh = 0

    def warm_up(self, groups: Sequence[Group]) -> None:
        """Let every side load once, so that no measured process writes bytecode."""
        seen = set()
        for case in (case for group in groups for case in group.cases):
            if case.side != "command" and case.side not in seen:
                seen.add(case.side)
                self._run(Case("warm-up", case.side, "load" if case.s3 else "wide", 10, s3=case.s3), 0)

    def prepare(self, groups: Sequence[Group]) -> None:
        """Make what shared folders hold before anything is measured."""
        for case in dict.fromkeys(case for group in groups for case in group.prepared_by):
            self._say(f"preparing {case.name}")
            self._run(case, 0)

    def measure(self, groups: Sequence[Group], rounds: int, budget_s: float) -> int:
        """Run all cases in `rounds` rounds, and begin none that would end after `budget_s` seconds; return how many."""
        started = time.monotonic()
        for turn in range(1, rounds + 1):
            round_started = time.monotonic()
            for group in groups:
                self._say(f"round {turn}: {group.title}")
                self._measure_group(group, turn)
            now = time.monotonic()
            if now - started + (now - round_started) > budget_s:
                return turn
        return rounds

    def _measure_group(self, group: Group, turn: int) -> None:
        for number in range(max(case.passes for case in group.cases)):
            for case in group.cases:
                if number < case.passes:
                    self.samples.setdefault(case.name, []).append(self._run(case, turn))

    def _run(self, case: Case, turn: int) -> dict[str, float]:
        if case.shared is None:
            self._fresh += 1
        folder = self.folder / (case.shared or f"fresh-{self._fresh}")
        os.sync()  # otherwise a case that waits for the disk pays for what the one before it left to be written
        if case.side == "command":
            return self._command(case, folder)
        return self._counted(case, folder, turn) if case.s3 == "far" else self._side(case, folder, turn)

    def _counted(self, case: Case, folder: Path, turn: int) -> dict[str, float]:
        """Run a case whose requests pass through the proxy, and count them."""
        assert self._server is not None
        before = self._server.traffic()
        taken = self._side(case, folder, turn)
        after = self._server.traffic()
        return taken | {
            "requests": after.answered - before.answered,
            "waited_s": after.waited_s - before.waited_s,
            "most_at_once": after.most_at_once,
        }

    def _side(self, case: Case, folder: Path, turn: int) -> dict[str, float]:
        python = self._peers if case.side in OF_PEERS and self._peers else sys.executable
        script = str(HERE / "sides" / f"{case.side}_side.py")
        options = ("--tasks", case.tasks, "--folder", folder, "--turn", turn, "--workers", case.workers)
        output = self._checked(case, [python, script, case.action, *map(str, options)], folder)
        taken: dict[str, float] = json.loads(output.splitlines()[-1])
        return taken

    def _command(self, case: Case, folder: Path) -> dict[str, float]:
        before = os.times()
        started = time.perf_counter()
        self._checked(case, [sys.executable, *case.arguments], folder)
        seconds = time.perf_counter() - started
        after = os.times()
        cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
        return {"seconds": seconds, "cpu_s": cpu_s}

    def _checked(self, case: Case, command: list[str], folder: Path) -> str:
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=HERE, env=self._environment(case, folder)
        )
        if ended.returncode:
            raise SystemExit(f"error: `{case.name}` failed\n{ended.stdout[-1000:]}{ended.stderr[-3000:]}")
        return ended.stdout

    def _environment(self, case: Case, folder: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("NECTAR_", "PYTHONDONT"))}
        project = str(HERE / "project")
        in_s3: Mapping[str, str] = {}
        if case.s3:
            assert self._server is not None
            project = self._project_of_its_own()
            in_s3 = self._server.variables(folder.name, far=case.s3 == "far")
        path = os.pathsep.join(filter(None, (project if case.side == "command" else "", kept.get("PYTHONPATH", ""))))
        return kept | {
            "NECTAR_PROJECT": project,
            "NECTAR_STORE": str(folder),
            "NECTAR_DURABILITY": case.durability,
            "PYTHONPATH": path,
            "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode"),
            **in_s3,
        }

    def _project_of_its_own(self) -> str:
        """Return a folder with the chains that has no copies of objects from earlier cases."""
        self._fresh += 1
        project = self.folder / f"project-{self._fresh}"
        project.mkdir()
        (project / "chains").symlink_to(HERE / "project" / "chains")
        return str(project)


def peers_have_boto3(peers: str | None) -> bool:
    """Say whether the peers' interpreter can do what needs S3."""
    return peers is not None and can_import(peers, ("boto3",))


def can_import(python: str, names: Sequence[str]) -> bool:
    """Say whether an interpreter has some packages."""
    code = "; ".join(f"import {name}" for name in names)
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def ratios_by_round(samples: Samples, subject: str, against: str, quantity: str = "seconds") -> list[float]:
    """Return the subject's time (or its `cpu_s`) divided by the other's, one ratio a round and pass."""
    pairs = zip(samples[subject], samples[against], strict=True)
    return [one[quantity] / other[quantity] for one, other in pairs]


def median_seconds(samples: Samples, case: str) -> float:
    """Return the median time of a case, seconds."""
    return statistics.median(sample["seconds"] for sample in samples[case])


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the slope of time over size, both logarithmic, by least squares: 1 where time grows with the size."""
    xs, ys = [math.log(size) for size in sizes], [math.log(one) for one in seconds]
    return statistics.linear_regression(xs, ys).slope


def machine(folder: Path, peers: str | None) -> dict[str, Any]:
    """Return where and with what was measured."""
    return {
        "processors": os.cpu_count(),
        "processor": _processor(),
        "file_system": _file_system(folder),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("nectar-chains", "luigi")} | _peer_versions(peers),
        "load_average": [round(one, 1) for one in os.getloadavg()],
    }


def _peer_versions(python: str | None) -> dict[str, str]:
    if python is None:
        return {}
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {PEERS!r}}}))"
    found: dict[str, str] = json.loads(subprocess.check_output([python, "-c", code], text=True))
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _file_system(folder: Path) -> str:
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return "unknown"
    place = str(folder.resolve())
    holding = [(len(mount[1]), mount[2]) for mount in mounts if f"{place}/".startswith(f"{mount[1].rstrip('/')}/")]
    return max(holding)[1] if holding else "unknown"
