"""Airflow itself loads what is rendered for it, and carries it out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ways
from days import ALL, ASKED, CHAIN, ODD, WITHOUT_DAY_2

pytestmark = pytest.mark.stress
LIMIT_S = 1200.0
#: loads the DAGs of a folder, runs the one that is there, and prints how its run and its tasks have ended
PROGRAM = """
import json, sys
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models import DagBag

bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
(dag,) = bag.dags.values()
run = dag.test(run_conf=json.loads(sys.argv[3]))
tasks = {}
for one in run.get_task_instances():
    tasks.setdefault(one.task_id, []).append(str(getattr(one.state, "value", one.state)))
with open(sys.argv[2], "w") as file:
    json.dump({"state": str(getattr(run.state, "value", run.state)), "tasks": tasks}, file)
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Airflow in an environment of its own, since it pins what Nectar needs in other versions."""
    home = tmp_path_factory.mktemp("airflow")
    subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
    python = home / "venv" / "bin" / "python"
    got = subprocess.run([python, "-m", "pip", "install", "-q", "apache-airflow>=2.9"], capture_output=True, text=True)
    if got.returncode:
        pytest.skip(f"Airflow cannot be installed here: {got.stderr[-300:]}")
    own = {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([python.with_name("airflow"), "db", "migrate"], env={**kept, **own}, check=True, capture_output=True)

    def run(project: Any, file: Path, **conf: Any) -> dict[str, Any]:
        folder = project.root / "dags"
        folder.mkdir()
        file.rename(folder / file.name)
        answer = project.root / "answer.json"
        # Airflow's Python is not to find this one's libraries, which are those of the command alone.
        found = os.environ.get("PYTHONPATH", "")
        command = project.file("command", f'#!/bin/sh\nPYTHONPATH={found} exec {COMMAND} "$@"\n')
        command.chmod(0o755)
        environment = project.environment(
            **own, AIRFLOW__CORE__DAGS_FOLDER=str(folder), NECTAR=str(command), PYTHONPATH=""
        )
        words = [python, "-c", PROGRAM, folder, answer, json.dumps(conf)]
        done = subprocess.run(words, cwd=project.root, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
        assert answer.exists(), done.stdout[-3000:] + done.stderr[-3000:]
        told: dict[str, Any] = json.loads(answer.read_text("utf-8"))
        return told

    return run


COMMAND = Path(sys.executable).with_name("nectar")


def test_airflow_makes_what_a_run_makes(project, airflow):
    project.file("chains/etl/days_chain.py", CHAIN)
    told = airflow(project, project.render("airflow", *ASKED, "--word", ODD))
    assert told["state"] == "success" and {"success"} == {one for states in told["tasks"].values() for one in states}
    assert sorted(project.noted()) == ALL


def test_airflow_goes_on_with_what_a_failure_does_not_stop_and_fails(project, airflow):
    project.file("chains/etl/days_chain.py", CHAIN)
    told = airflow(project, project.render("airflow", *ASKED, "--fails"))
    assert told["state"] == "failed"
    assert told["tasks"]["load-task-day-2"] == ["failed"]
    assert told["tasks"]["report-task"] == ["upstream_failed"]
    assert sorted(project.noted()) == WITHOUT_DAY_2


def test_airflow_takes_the_ways_of_a_pipeline(project, airflow):
    project.file("steps.py", ways.STEPS)
    file = project.file("every_way.yaml", ways.PIPELINE)
    told = airflow(project, project.render("airflow", str(file), "--x", "4"), x="3")
    assert told["state"] == "success", told
    assert told["tasks"]["bad"] == ["failed"] and told["tasks"]["m2.each.t2"].count("skipped") == 1
    assert sorted(project.noted()) == ways.ALL


def test_airflow_fails_where_the_pipeline_comes_to_its_fail_node(project, airflow):
    project.file("steps.py", ways.STEPS)
    project.file("fails", "")
    told = airflow(project, project.render("airflow", str(project.file("every_way.yaml", ways.PIPELINE)), "--x", "3"))
    assert told["state"] == "failed" and told["tasks"]["end"] == ["failed"]
    assert sorted(project.noted()) == ways.ALL
