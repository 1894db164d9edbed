"""Whatever was started, and by whichever way, is found afterwards: what it was asked for, and what became of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FLAKY = """
import pathlib
import luigi
import nectar

class FirstTask(nectar.Task):
    def run(self):
        self.dump("first")

class FlakyTask(nectar.Task):
    fails = luigi.IntParameter(default=1)
    secret = luigi.Parameter(default="s3cret", visibility=luigi.parameter.ParameterVisibility.PRIVATE)
    retry_count = 3
    def requires(self):
        return FirstTask()
    def run(self):
        tries = pathlib.Path(f"tries{self.fails}")
        count = int(tries.read_text()) if tries.exists() else 0
        tries.write_text(str(count + 1))
        if count < self.fails:
            raise ValueError(f"try {count + 1} is too early")
        self.dump("at last")

class LastTask(nectar.Task):
    fails = luigi.IntParameter(default=1)
    day = luigi.DateParameter(default=None)
    def requires(self):
        return FlakyTask(fails=self.fails)
    def run(self):
        yield FirstTask()
        self.dump("last")
"""
CIRCLE = """
class RoundTask(nectar.Task):
    def requires(self):
        return RoundTask()
"""
HELD = """
import pathlib
import luigi
import nectar

class HeldTask(nectar.Task):
    def run(self):
        pathlib.Path("bell").write_text("ding")
        while not pathlib.Path("go").exists():
            pathlib.Path("go").parent.exists()
        self.dump("held")
"""
TALKING = """
import pathlib
import nectar

class TalkTask(nectar.Task):
    def run(self):
        print("first", flush=True)
        while not pathlib.Path("go").exists():
            pathlib.Path("go").parent.exists()
        print("second", flush=True)
        self.dump("said")
"""
LAST = ("etl/flaky_chain", "LastTask")
LIMIT_S = 60.0


@pytest.fixture
def flaky(project):
    project.chain("etl/flaky_chain", FLAKY)
    return project


@pytest.fixture
def held(project):
    """A project in which a run is at work; gives it and its process."""
    project.chain("etl/held_chain", HELD)
    with project.started("run", "etl/held_chain", "HeldTask") as process:
        wait_for((project.root / "bell").exists)
        yield project, process


def wait_for(condition):
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def runs(project, *words):
    return project.nectar("runs", "--json", *words).json["rows"]


def one(project, run_id):
    return project.nectar("runs", "--json", run_id).json


def by_class(told):
    return {step["task"].rpartition(".")[2].partition("(")[0]: step for step in told["steps"]}


def test_a_run_is_in_the_books_with_its_tasks_parameters_and_steps(flaky):
    end = flaky.nectar("run", "--json", *LAST, "--fails", "2").lines[-1]
    [run] = runs(flaky)
    assert (run["id"], run["state"], run["source"], run["workers"]) == (end["run_id"], "SUCCESS", "cli", 1)
    [root] = run["roots"]
    assert (root["chain"], root["params"]["fails"]) == ("etl/flaky_chain", "2")
    assert f"{root['path']}/record.json" in flaky.kept()
    told = one(flaky, run["id"][:18])
    steps = by_class(told)
    assert {name: (step["status"], step["attempts"]) for name, step in steps.items()} == {
        "FirstTask": ("succeeded", 1),
        "FlakyTask": ("succeeded", 3),
        "LastTask": ("succeeded", 1),
    }
    assert [(one["number"], one["outcome"], one["error"]) for one in told["attempts"]] == [
        (1, "failed", "ValueError: try 1 is too early"),
        (2, "failed", "ValueError: try 2 is too early"),
    ]
    assert told["started_at"] <= told["ended_at"]


def test_what_was_complete_before_is_told_too_and_private_values_are_not(flaky):
    flaky.nectar("run", *LAST)
    flaky.nectar("run", "etl/flaky_chain", "FlakyTask", "--secret", "hunter2")
    [second, first] = runs(flaky)
    assert {name: step["status"] for name, step in by_class(one(flaky, second["id"])).items()} == {
        "FirstTask": "skipped",
        "FlakyTask": "succeeded",
    }
    assert second["roots"][0]["params"]["secret"] == "******"
    kept = [place.read_bytes() for place in (flaky.root / ".nectar").rglob("*") if place.is_file()]
    assert kept and not any(b"hunter2" in raw for raw in kept)
    assert first["counts"] == {"succeeded": 3}


def test_a_failure_is_told_with_its_error_and_its_logs(flaky):
    assert flaky.nectar("run", *LAST, "--fails", "9").code == 1
    [run] = runs(flaky, "--state", "failure")
    assert "try 3 is too early" in run["error"]
    steps = by_class(one(flaky, run["id"]))
    assert (steps["FlakyTask"]["status"], steps["LastTask"]["status"]) == ("failed", "not run")
    assert (flaky.store / steps["FlakyTask"]["logs"]).is_dir()
    shown = flaky.nectar("runs", run["id"])
    assert "FAILURE" in shown.out and "ValueError: try 3" in shown.out


def test_a_plan_that_cannot_be_made_is_a_failed_run_and_a_dry_run_is_none(flaky):
    flaky.chain(
        "etl/circle_chain", "class RoundTask(nectar.Task):\n    def requires(self):\n        return RoundTask()\n"
    )
    flaky.nectar("run", "--dry-run", *LAST)
    assert runs(flaky) == []
    assert flaky.nectar("run", "etl/circle_chain", "RoundTask").code != 0
    [run] = runs(flaky)
    assert (run["state"], run["error"]) == ("FAILURE", "tasks require each other in a circle:")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_luigis_own_command_is_in_the_books_and_says_under_which_id(flaky, workers):
    words = [
        "--module",
        "chains.etl.flaky_chain",
        "LastTask",
        "--local-scheduler",
        "--workers",
        workers,
        "--fails",
        "1",
    ]
    retry = ["--worker-keep-alive", "--scheduler-retry-delay", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "luigi", *words, *retry],
        cwd=flaky.root,
        env=flaky.environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    [run] = runs(flaky)
    assert (run["source"], run["state"]) == ("luigi", "SUCCESS")
    assert run["id"] in done.stderr
    told = one(flaky, run["id"])
    steps = by_class(told)
    assert {name: step["status"] for name, step in steps.items()} == dict.fromkeys(
        ("FirstTask", "FlakyTask", "LastTask"), "succeeded"
    )
    assert steps["FlakyTask"]["attempts"] == 2
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["failed"]


def test_a_script_that_runs_a_task_is_in_the_books(flaky):
    script = "import nectar; from chains.etl.flaky_chain import LastTask; nectar.run(LastTask(), tags={'team': 'red'})"
    subprocess.run(
        [sys.executable, "-c", script], cwd=flaky.root, env=flaky.environment(), check=True, capture_output=True
    )
    [run] = runs(flaky, "--tag", "team=red")
    assert (run["source"], run["tags"]) == ("python", {"team": "red"})
    assert runs(flaky, "--tag", "team=blue") == []


def test_runs_are_filtered_paged_and_named_by_how_their_id_begins(flaky):
    for number in range(3):
        flaky.nectar("run", "etl/flaky_chain", "FlakyTask", "--fails", str(-number))
    flaky.nectar("run", "etl/flaky_chain", "FirstTask")
    everything = runs(flaky)
    assert len(everything) == 4
    assert len(runs(flaky, "--text", "fails=-1")) == 1
    assert len(runs(flaky, "--chain", "etl/flaky", "--since", "1h")) == 4
    assert runs(flaky, "--chain", "etl/other") == runs(flaky, "--until", "1h") == []
    page = flaky.nectar("runs", "--json", "-n", "3").json
    rest = flaky.nectar("runs", "--json", "-n", "3", "--after", page["next"]).json
    assert [one["id"] for one in page["rows"] + rest["rows"]] == [one["id"] for one in everything]
    table = flaky.nectar("runs").out.splitlines()
    assert len(table) == 5 and "FirstTask" in table[1]


def test_questions_that_mean_nothing_say_so(flaky):
    flaky.nectar("runs", "--state", "DONE").failed(2, "`DONE`", "SUCCESS")
    flaky.nectar("runs", "--since", "yesterday").failed(2, "`yesterday`")
    flaky.nectar("runs", "--tag", "=red").failed(2, "NAME=VALUE")
    flaky.nectar("runs", "20260101T000000").failed(2, "20260101T000000")
    flaky.nectar("runs", "--after", "x").failed(2)
    assert flaky.nectar("runs").out == "no runs yet\n"


def test_a_rerun_goes_on_where_a_run_failed(flaky):
    flaky.nectar("run", *LAST, "--fails", "4")
    [failed] = runs(flaky)
    again = flaky.nectar("rerun", "--json", failed["id"])
    assert again.code == 0, again
    [second, _] = runs(flaky)
    assert (second["parent_id"], second["root_id"]) == (failed["id"], failed["id"])
    assert {name: step["status"] for name, step in by_class(one(flaky, second["id"])).items()} == {
        "FirstTask": "skipped",
        "FlakyTask": "succeeded",
        "LastTask": "succeeded",
    }
    flaky.nectar("rerun", second["id"])
    assert runs(flaky)[0]["root_id"] == failed["id"]


def test_a_rerun_of_what_failed_leaves_out_what_stands_on_it(flaky):
    flaky.nectar("run", "etl/flaky_chain", "LastTask", "--fails", "3", "--and", "etl/flaky_chain", "FirstTask")
    [failed] = runs(flaky)
    assert flaky.nectar("rerun", "--failed", failed["id"]).code == 0
    roots = {root["task"].partition("(")[0].rpartition(".")[2] for root in runs(flaky)[0]["roots"]}
    assert roots == {"FlakyTask", "LastTask"}
    flaky.nectar("run", "etl/flaky_chain", "FirstTask")
    flaky.nectar("rerun", "--failed", runs(flaky)[0]["id"]).failed(2, "no step of the run", "failed")


def test_a_diff_names_what_two_runs_did_differently(flaky):
    flaky.nectar("run", *LAST, "--fails", "0")
    flaky.nectar("run", *LAST, "--fails", "1")
    [second, first] = runs(flaky)
    found = flaky.nectar("diff", "--json", first["id"], second["id"]).json
    changes = {
        (one["of"].rpartition(".")[2].partition("(")[0], one["what"]): (one["first"], one["second"]) for one in found
    }
    assert changes["LastTask", "params.fails"] == (0, 1)
    assert changes["FlakyTask", "params.fails"] == (0, 1)
    assert changes["FirstTask", "status"] == ("succeeded", "skipped")
    assert flaky.nectar("diff", first["id"], first["id"]).out == "no difference\n"


def test_a_run_at_work_is_told_and_can_be_canceled(held):
    project, process = held
    [run] = runs(project)
    assert run["state"] == "RUNNING"
    wait_for(lambda: by_class(one(project, run["id"])).get("HeldTask", {}).get("status") == "running")
    assert project.nectar("cancel", run["id"]).out == f"{run['id']}: CANCELED\n"
    assert process.wait(LIMIT_S) != 0
    assert runs(project)[0]["state"] == "CANCELED"
    assert not any(name.endswith("record.json") for name in project.kept())
    project.nectar("cancel", run["id"]).failed(2, "has ended", "CANCELED")


def test_a_run_that_does_not_heed_a_request_to_end_is_ended(held):
    project, process = held
    [run] = runs(project)
    os.kill(process.pid, signal.SIGSTOP)
    quicker = "import nectar.actions.cancel as one, nectar.cli as cli; one.PATIENCE_S = 0.5; cli.main()"
    canceled = project.python(quicker, "cancel", "--json", run["id"]).json
    assert canceled["state"] == "CANCELED"
    assert process.wait(LIMIT_S) == -signal.SIGKILL


def test_canceling_a_run_of_luigis_ends_its_workers_too_and_nothing_is_published(project):
    project.chain("etl/held_chain", HELD)
    words = ["--module", "chains.etl.held_chain", "HeldTask", "--local-scheduler", "--workers", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "luigi", *words], cwd=project.root, env=project.environment(), stderr=subprocess.DEVNULL
    ) as process:
        wait_for((project.root / "bell").exists)
        [run] = runs(project)
        assert project.nectar("cancel", "--json", run["id"]).json["state"] == "CANCELED"
        assert process.wait(LIMIT_S) != 0
    assert not running_in(project.root)
    assert not any(name.endswith("record.json") for name in project.kept())


def running_in(folder):
    """Return the processes whose working folder this is."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if place.readlink() == folder:
                found.append(place.parent.name)
        except OSError:
            continue
    return found


def test_a_run_that_was_killed_has_crashed(held):
    project, process = held
    process.kill()
    process.wait()
    [run] = runs(project)
    assert (run["state"], run["error"]) == ("CRASHED", "its process ended without a word")
    (project.root / "go").write_text("")
    assert project.nectar("rerun", run["id"]).code == 0


def test_the_logs_of_a_run_are_those_of_its_tasks_the_failed_ones_too(flaky):
    flaky.nectar("run", *LAST, "--fails", "9")
    [run] = runs(flaky)
    found = flaky.nectar("logs", "--json", run["id"]).json
    assert [(one["task"].rpartition(".")[2].partition("(")[0], one["status"]) for one in found] == [
        ("FirstTask", "succeeded"),
        ("FlakyTask", "failed"),
    ]
    assert "ValueError: try 3 is too early" in found[1]["stderr"]
    assert "try 3 is too early" in flaky.nectar("logs", run["id"][:15]).out


@pytest.mark.parametrize("of", ["run", "target"])
def test_logs_are_followed_while_a_task_prints(project, of):
    project.chain("etl/talking_chain", TALKING)
    heard = project.root / "heard"
    with project.started("run", "etl/talking_chain", "TalkTask"), heard.open("w") as file:
        wait_for(lambda: runs(project) and by_class(one(project, runs(project)[0]["id"])))
        words = [runs(project)[0]["id"]] if of == "run" else ["etl/talking_chain", "TalkTask"]
        with project.started("logs", "-f", *words, stdout=file) as reader:
            wait_for(lambda: heard.read_text() == "first\n")
            (project.root / "go").write_text("")
            assert reader.wait(LIMIT_S) == 0
    assert heard.read_text() == "first\nsecond\n"


def test_a_history_that_cannot_be_written_stops_no_task(flaky):
    (flaky.root / ".nectar").mkdir(exist_ok=True)
    Path(flaky.root, ".nectar", "runs").write_text("in the way")
    done = flaky.nectar("run", *LAST)
    assert done.code == 0, done
    assert "history" in done.err


def test_a_history_that_is_no_history_is_refused_and_left_alone(flaky):
    flaky.nectar("run", *LAST)
    books = flaky.root / ".nectar" / "runs" / "runs.db"
    books.write_bytes(b"not a database, but a diary" * 100)
    before = books.read_bytes()
    flaky.nectar("runs").failed(5, "runs.db")
    assert books.read_bytes() == before
    assert flaky.nectar("run", *LAST).code == 0
