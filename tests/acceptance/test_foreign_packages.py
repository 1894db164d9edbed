"""What other packages offer by entry points: a catalog, a run log store and an executor, used like those built in."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

PACKAGE = '''
"""A package of somebody else."""

import json
import shutil
from pathlib import Path

from nectar.execution.inline import InlineExecutor
from nectar.pipeline.standing import Entry


class Shelf:
    """Keeps files on one shelf, under their digests."""

    def __init__(self, config, around):
        self.place, self.run = Path(around.folder, config["shelf"]), around.run

    def put(self, file, name, sha256):
        self.place.mkdir(exist_ok=True)
        shutil.copyfile(file, self.place / sha256)
        return Entry(name, sha256, str(self.place), f"{self.run}/{sha256}")

    def has(self, entry):
        return (self.place / entry.sha256).is_file()

    def get(self, entry, destination):
        shutil.copyfile(self.place / entry.sha256, destination)


class Diary:
    """Keeps run logs in one file, a line each."""

    def __init__(self, config):
        self.place = Path(config["diary"])

    def keep(self, run_id, document):
        with self.place.open("a") as file:
            file.write(json.dumps({run_id: document}) + "\\n")

    def read(self, run_id):
        return None


class Noting(InlineExecutor):
    """Notes down what it is given."""

    def __init__(self, tell, run, workers, note="noted"):
        super().__init__(tell)
        self._note_in, self._run, self._workers = Path(note).resolve(), run, workers

    def submit(self, jobs):
        with self._note_in.open("a") as file:
            file.writelines(f"{self._run.id} {self._workers} {job.task}\\n" for job in jobs)
        super().submit(jobs)
'''
POINTS = """
[nectar.catalogs]
shelf = offers:Shelf

[nectar.run_log_stores]
diary = offers:Diary

[nectar.executors]
noting = offers:Noting
gone = offers:Gone
"""
CONFIGURATION = """
executor: {type: noting, config: {workers: 3, note: jobs.txt}}
run_log_store: {type: diary, config: {diary: diary.jsonl}}
catalog: {type: shelf, config: {shelf: shelf}}
"""
PIPELINE = """
dag:
  start_at: put
  steps:
    put:
      type: task
      command_type: shell
      command: mkdir -p data; echo one > data/one.txt
      catalog: {put: ["*"]}
      next: get
    get:
      type: task
      command_type: shell
      command: cat elsewhere/one.txt
      catalog: {compute_data_folder: elsewhere, get: ["one*"]}
      next: success
    success: {type: success}
    fail: {type: fail}
"""


@pytest.fixture
def steps(project: Any) -> dict[str, str]:
    """Install the package, as pip leaves it, beside a project; return the variables by which it is found."""
    name = "offers-1.0.dist-info"
    project.file("packages/offers.py", PACKAGE)
    project.file(f"packages/{name}/METADATA", "Metadata-Version: 2.1\nName: offers\nVersion: 1.0\n")
    project.file(f"packages/{name}/entry_points.txt", POINTS)
    project.file("p.yaml", PIPELINE)
    project.file("c.yaml", CONFIGURATION)
    known = project.environment().get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(project.root / "packages"), *([known] if known else [])])}


def test_a_pipeline_uses_them_by_their_names_and_settings(project, steps):
    answer = project.nectar("execute", "--file", "p.yaml", "-c", "c.yaml", **steps)
    assert answer.code == 0, answer
    log = answer.json
    [put], [got] = (log["steps"][name]["data_catalog"] for name in ("put", "get"))
    assert (project.root / "shelf" / put["data_hash"]).read_text() == "one\n"
    assert put["catalog_relative_path"] == f"{log['run_id']}/{put['data_hash']}"
    assert (got["stage"], got["data_hash"]) == ("get", put["data_hash"])
    diary = [json.loads(line) for line in (project.root / "diary.jsonl").read_text().splitlines()]
    assert diary[-1] == {log["run_id"]: log}
    noted = [line.split(" ", 2) for line in (project.root / "jobs.txt").read_text().splitlines()]
    assert {(run, workers) for run, workers, _ in noted} == {(log["run_id"], "3")}
    assert [task.rpartition(".")[2] for _, _, task in noted] == ["parameters", "put", "get", "all steps"]
    assert log["run_config"]["executor"] == {"type": "noting", "config": {"workers": 3, "note": "jobs.txt"}}
    told = project.nectar("runs", "--json", log["run_id"]).json
    assert told["executor"] == "noting"


def test_any_run_can_be_carried_out_by_such_an_executor(project, steps):
    ran = project.nectar("run", "--executor", "noting", "etl/daily_chain", "ReportTask", **steps)
    assert ran.code == 0, ran
    noted = (project.root / "noted").read_text().splitlines()
    assert [line.split(" ", 2)[2].partition("(")[0] for line in noted] == [
        "chains.etl.daily_chain.LoadTask",
        "chains.etl.daily_chain.ReportTask",
    ]


@pytest.mark.parametrize(
    ("executor", "fragments"),
    [
        ("notin", ["no executor `notin`", "did you mean `noting`?"]),
        ("gone", ["the executor `gone` cannot be imported", "look at the package of `offers:Gone`"]),
    ],
)
def test_an_executor_that_is_not_there_or_cannot_be_imported_is_refused(project, steps, executor, fragments):
    refused = project.nectar("run", "--executor", executor, "etl/daily_chain", "ReportTask", **steps)
    refused.failed(2, *fragments)
    assert not project.store.exists()


@pytest.mark.parametrize(
    ("settings", "fragments"),
    [
        ("executor: {type: noting, config: {colour: red}}", ["the executor `noting` does not take", "'colour'"]),
        ("run_log_store: {type: diary}", ["the run log store `diary` does not take its settings: KeyError: 'diary'"]),
        ("catalog: {type: shelv}", ["`type` is `shelv`", "did you mean `shelf`?"]),
    ],
)
def test_settings_that_they_do_not_take_are_refused_before_anything_runs(project, steps, settings, fragments):
    project.file("c.yaml", settings + "\n")
    project.nectar("execute", "--file", "p.yaml", "-c", "c.yaml", **steps).failed(2, *fragments)
    assert not project.store.exists()
    assert not (project.root / "data").exists()


def test_what_a_catalog_of_another_package_raises_fails_the_step_that_used_it(project, steps):
    project.file("c.yaml", "catalog: {type: shelf}\n")
    answer = project.nectar("execute", "--file", "p.yaml", "-c", "c.yaml", **steps)
    assert answer.code == 1
    assert answer.json["steps"]["put"]["message"] == "KeyError: 'shelf'"
