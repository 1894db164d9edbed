"""Secrets that are found nowhere, whatever a task does with them and whoever carries it out.

Each case of `canary_chain` has a secret of its own, and some have a second. After all runs everything is searched:
every file of the project, every object of the bucket, what commands printed, what the server answered, and the command
lines of all processes while runs were at work.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from canary_chain import BROKEN, CHAIN, DEAD, DEFAULTS, HARD, LONG, MILD
from nectar_server import serving
from s3_client import ACCESS_KEY, REGION, SECRET_KEY, client, make_bucket

import nectar

LIMIT_S = 150.0
NAMES = (*MILD, *HARD, *LONG, "forks_2", "spawns_2", "spawns_first", "broken", "dead", "default", "requires")
ODD = "/+ 'x\"\\ü%="  #: within each secret, so that every way to write it down differs


@dataclass
class Canaries:
    """Secrets, and all that was told while they were in use."""

    root: Path
    seed: int
    heard: dict[str, bytes] = field(default_factory=dict)  #: what was told, by who told it
    values: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        for name in NAMES:
            self.values[name] = f"{chance.randbytes(6).hex()}{ODD}{chance.randbytes(6).hex()}"
        lines = [f"{name}='{value.translate(_ESCAPED)}'" for name, value in self.values.items()]
        self.dotenv = self.root.with_name("dotenv-file")
        self.dotenv.write_text("\n".join(lines), encoding="utf-8")
        for name, text in (("canary", CHAIN), ("broken", BROKEN), ("dead", DEAD), ("defaults", DEFAULTS)):
            place = self.root / "chains" / "leak" / f"{name}_chain.py"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        (self.root / "chains" / "__init__.py").write_text("")
        (self.root / "configuration").mkdir()
        settings = f'[secrets]\ntype = "dotenv"\nlocation = "{self.dotenv}"\n'
        (self.root / "configuration" / "nectar.toml").write_text(settings)
        (self.root / "configuration" / "luigi.cfg").write_text("[core]\nno_lock = true\n")

    @property
    def needles(self) -> dict[bytes, str]:
        """What is looked for: each half of each secret, and what base64 makes of its first six letters."""
        found = {}
        for name, value in self.values.items():
            for half in (value[:12], value[-12:]):
                found[half.encode()] = name
            for before in range(3):
                inner = base64.b64encode(b"\0" * before + value[:12].encode())
                found[inner[4:12]] = f"{name}, in base64"
        return found

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("NECTAR_", "LUIGI_")) and name not in ("ENV", "PROJECT_BUCKET")
        }
        path = os.pathsep.join([str(self.root), str(Path(str(nectar.__file__)).parents[1])])
        own = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "NECTAR_DURABILITY": "none"}
        return {**kept, **own, "CANARY_RUN": "none", "NECTAR_CANARIES": str(self.seed), **more}

    def command(self, who: str, *words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end, and remember what it said."""
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=self.root,
            env=self.environment({"CANARY_RUN": who, **more}),
            capture_output=True,
            timeout=LIMIT_S,
        )
        self.heard[f"{who}, stdout"], self.heard[f"{who}, stderr"] = done.stdout, done.stderr
        return done

    def let_daemons_speak(self, who: str) -> None:
        """Let what tasks left behind say its word, and wait until it has ended."""
        (self.root / f"go.{who}").write_text("")
        mark = f"CANARY_RUN={who}".encode()
        deadline = time.monotonic() + 30
        while any(mark in raw for raw in _read_all("environ")):
            assert time.monotonic() < deadline, "something is left"
            time.sleep(0.05)

    def end_all(self) -> None:
        """End what is left where a test failed."""
        mark = f"NECTAR_CANARIES={self.seed}".encode()
        for place in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in place.read_bytes().split(b"\0"):
                    os.kill(int(place.parent.name), signal.SIGKILL)

    def given_away(self) -> list[str]:
        """Return where a needle is in what was told or written."""
        needles = self.needles
        found = []
        for who, raw in [*self.heard.items(), *((str(place), place.read_bytes()) for place in _files(self.root))]:
            found += [f"{name} in {who}" for needle, name in needles.items() if needle in raw or needle in who.encode()]
        return found


_ESCAPED = str.maketrans({"\\": "\\\\", "'": "\\'"})


def _files(folder: Path) -> Iterator[Path]:
    for place in folder.rglob("*"):
        if place.is_file() and not place.is_symlink():
            yield place


def _read_all(name: str) -> Iterator[bytes]:
    for place in Path("/proc").glob(f"[0-9]*/{name}"):
        with contextlib.suppress(OSError):  # it has just ended, or is another user's
            yield place.read_bytes()


@contextlib.contextmanager
def watching_command_lines(canaries: Canaries) -> Iterator[None]:
    """Look at the command lines of all processes again and again."""
    over = threading.Event()
    seen: set[bytes] = set()

    def look() -> None:
        while not over.wait(0.02):
            seen.update(_read_all("cmdline"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        canaries.heard["command lines"] = b"\n".join(seen)


@pytest.fixture
def canaries(tmp_path: Path) -> Iterator[Canaries]:
    seed = int(os.environ.get("NECTAR_TEST_SEED") or random.SystemRandom().randrange(10**9))
    print(f"NECTAR_TEST_SEED={seed}")
    made = Canaries(tmp_path / "project", seed)
    with watching_command_lines(made):
        yield made
    made.end_all()
    assert made.heard["command lines"].count(b"python") > 0
    assert made.given_away() == []


def logs_of(canaries: Canaries, case: str) -> str:
    """Return all that is kept of what the tasks of a case printed."""
    found = []
    for params in canaries.root.rglob("params.txt"):
        if json.loads(params.read_bytes()).get("case") == case:
            found += [log.read_bytes().decode(errors="replace") for log in sorted(params.parent.glob("log/*.log"))]
    return "\n".join(found)


def check_that_cases_ran(canaries: Canaries, cases: tuple[str, ...]) -> None:
    """Make sure that what each case printed is there, but for the secret."""
    for case in cases:
        if case not in ("metric", "status", "parameter", "flood", "daemon"):
            assert "***" in logs_of(canaries, case), case
    assert logs_of(canaries, "split").count("*") == 12
    assert "cannot log in with ******" in logs_of(canaries, "raises")
    flood = logs_of(canaries, "flood")
    assert "flood" not in cases or ("left out" in flood and "xyz****** ." in flood)
    assert "is given the value of a secret as its parameter `case`" in logs_of(canaries, "parameter")
    assert "is given the value of a secret as its parameter `case`" in logs_of(canaries, "yields")


WAYS = {
    "inline": (MILD, ["nectar.cli", "run", "--workers", "1"], []),
    "processes": ((*MILD, *HARD, *LONG), ["nectar.cli", "run", "--workers", "2"], []),
    "events": (MILD[:6], ["nectar.cli", "run", "--json", "--workers", "2"], []),
    "luigi, 1 process": (MILD, ["luigi", "--module"], ["--local-scheduler", "--workers", "1"]),
    "luigi, 2 processes": ((*MILD, "killed"), ["luigi", "--module"], ["--local-scheduler", "--workers", "2"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_secret_is_given_away(canaries: Canaries, way: str) -> None:
    cases, words, options = WAYS[way]
    chain = "chains.leak.canary_chain" if words[0] == "luigi" else "leak/canary_chain"
    done = canaries.command(way, *words, chain, "AllTask", "--cases", "-".join(cases), *options)
    assert done.returncode != 0
    canaries.let_daemons_speak(way)
    if way != "events":
        check_that_cases_ran(canaries, cases)
    assert list(canaries.root.rglob("runs/journals/*")) or list(canaries.root.rglob("runs.db")), "no history"


def test_commands_that_tell_of_chains_and_targets_give_none_away(canaries: Canaries) -> None:
    leak = ("leak/canary_chain", "LeakTask")
    for number, case in enumerate(("prints", "raises", "metric", "status")):
        canaries.command(f"run {number}", "nectar.cli", "run", *leak, "--case", case, "--secret", case)
        for word in ("show", "logs", "explain", "describe", "plan", "graph"):
            told = canaries.command(
                f"{word} {number}", "nectar.cli", word, "--json", *leak, "--case", case, "--secret", case
            )
            assert told.stdout and b"Traceback (most recent call last)" not in told.stderr, told
    for words in (["list"], ["list", "--json"], ["doctor"], ["runs", "--json"], ["status"], ["runs"]):
        canaries.command(" ".join(words), "nectar.cli", *words)
    assert b"RuntimeError: ******" in canaries.heard["list, stdout"] + canaries.heard["list, stderr"]
    assert b"the last word is ******" in canaries.heard["list --json, stdout"]
    assert b"RuntimeError: ******" in canaries.heard["doctor, stdout"]
    assert b'"default": "******"' in canaries.heard["list --json, stdout"]
    assert b'"type": "secret"' in canaries.heard["list --json, stdout"]
    for chain, task in (("broken", "ATask"), ("defaults", "DefaultTask"), ("defaults", "RequiresTask")):
        done = canaries.command(f"{chain} {task}", "nectar.cli", "run", f"leak/{chain}_chain", task)
        assert done.returncode not in (0, 1) and b"hint: " in done.stderr, done


def test_an_error_that_nobody_catches_gives_none_away(canaries: Canaries) -> None:
    program = canaries.root / "script.py"
    program.write_text("import nectar\nraise ValueError(nectar.get_secret('raises'))\n")
    done = canaries.command("a script", "script")
    assert done.returncode == 1 and b"ValueError: ******" in done.stderr


def test_a_server_gives_none_away(canaries: Canaries) -> None:
    with serving(canaries.root, CANARY_RUN="served") as server:
        answers = []
        for case in (*MILD, *HARD):
            path = "/api/chains/leak/canary_chain/LeakTask"
            answers.append(server.post(path, case=case, secret=case))
        for answer in list(answers):
            assert answer.status == 200, answer
            run = answer.data["run_id"]
            server.ended(run, patience_s=LIMIT_S)
            answers += [server.get(answer.data["status_url"]), server.get(f"/api/runs/{run}")]
            answers += [server.get(f"/api/runs/{run}/events"), logs := server.get(f"/api/runs/{run}/logs")]
            for log in logs.data["logs"]:
                answers += [server.get(log[f"{stream}_url"]) for stream in ("stdout", "stderr")]
        answers += [server.get(path) for path in ("/api/chains", "/api/runs", "/metrics", "/openapi.json")]
        for chain, task in (("broken", "ATask"), ("defaults", "DefaultTask"), ("defaults", "RequiresTask")):
            answers.append(server.post(f"/api/chains/leak/{chain}_chain/{task}"))
        told = {answer.json["data"]["job_status"] for answer in answers if b"job_status" in answer.raw}
        assert told == {"DONE", "FAILED"}
        canaries.heard |= {f"answer {number}": answer.raw for number, answer in enumerate(answers)}
        canaries.heard["the server's log"] = server.log.encode()
        (canaries.root / "go.served").write_text("")
    canaries.let_daemons_speak("served")
    masked = [who for who, raw in canaries.heard.items() if b"******" in raw]
    assert len(masked) > 2 * len(MILD), "what tasks printed and why they failed is told, but for the secrets"


@pytest.mark.parametrize("way", ["processes", "luigi, 1 process"])
def test_a_bucket_holds_none(canaries: Canaries, moto: str, way: str) -> None:
    s3 = client(moto)
    name = f"p-{canaries.seed:x}-{len(way)}"
    make_bucket(s3, f"qa.{name}")
    cloud = {
        "ENV": "qa",
        "PROJECT_BUCKET": name,
        "AWS_ENDPOINT_URL_S3": moto,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
    }
    cases, words, options = WAYS[way]
    cases = tuple(case for case in cases if case not in LONG)
    chain = "chains.leak.canary_chain" if words[0] == "luigi" else "leak/canary_chain"
    canaries.command(way, *words, chain, "AllTask", "--cases", "-".join(cases), *options, **cloud)
    canaries.let_daemons_speak(way)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=f"qa.{name}")
    keys = [one["Key"] for page in pages for one in page.get("Contents", [])]
    for key in keys:
        canaries.heard[key] = s3.get_object(Bucket=f"qa.{name}", Key=key)["Body"].read()
    s3.close()
    logs = b"".join(raw for key, raw in canaries.heard.items() if key.endswith(".log"))
    assert b"cannot log in with ******" in logs and b"out ******" in logs
    if "killed" in cases:
        assert b"before the kill ******" in logs and b"before the end ******" in logs


def test_while_a_task_is_at_work_nothing_that_it_printed_lies_anywhere(canaries: Canaries) -> None:
    words = ["-m", "nectar.cli", "run", "--workers", "2", "leak/canary_chain", "LeakTask", "--case", "limit"]
    with subprocess.Popen(
        [sys.executable, *words, "--secret", "limit"],
        cwd=canaries.root,
        env=canaries.environment({"CANARY_RUN": "at work"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as run:
        deadline = time.monotonic() + 60
        while not any("before the limit ******" in log.read_text() for log in canaries.root.rglob("stdout.log")):
            assert canaries.given_away() == []
            assert time.monotonic() < deadline, "nothing is printed"
        run.terminate()
        canaries.heard["stopped"] = run.communicate(timeout=LIMIT_S)[0]
