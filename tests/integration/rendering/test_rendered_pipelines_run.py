"""What is rendered of a pipeline takes the ways that `nectar execute` takes, under engines that are the real ones."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from ways import ALL, PIPELINE, STEPS

ODD = "it's $(id); {{7*7}}\n-x"


@pytest.fixture
def ways(project: Any) -> Any:
    project.file("steps.py", STEPS)
    project.file("flow/every way.yaml", PIPELINE)
    return project


FILE = "flow/every way.yaml"


def succeeded_in_a_run(project: Any, run: str) -> Counter[str]:
    """Return how often each step of a run that was carried out one by one was good, as the history says."""
    rows = json.loads(project.nectar("runs", "--json", "--tag", f"pipeline_run={run}").stdout)["rows"]
    return Counter(row["tags"]["step"] for row in rows if row["state"] == "SUCCESS")


def test_nectar_itself_takes_these_ways(ways):
    done = ways.nectar("execute", "--file", FILE, "--x", "3")
    assert done.returncode == 0, done.stderr
    assert sorted(ways.noted()) == ALL


def test_a_script_takes_the_ways_of_the_pipeline(ways):
    script = ways.render("bash", FILE, "--x", "3")
    assert script.name == "every-way.sh"
    done = ways.run("bash", script, NECTAR_RUN_ID="R1")
    assert done.returncode == 0, done.stderr
    assert sorted(ways.noted()) == ALL
    good = succeeded_in_a_run(ways, "R1")
    assert good["m.c d.t"] == good["par.A.t"] == good["sub.z z"] == good["success"] == 1


@pytest.mark.stress
def test_a_script_fails_where_the_pipeline_comes_to_its_fail_node(ways):
    ways.file("fails", "")
    failed = ways.run("bash", ways.render("bash", FILE, "--x", "3"))
    assert failed.returncode == 1 and "came to its fail node" in failed.stderr
    assert sorted(ways.noted()) == ALL


def test_words_of_a_script_are_its_parameters_as_they_are(ways):
    script = ways.render("bash", FILE)
    done = ways.run("bash", script, f"--x={ODD}")
    assert done.returncode == 0, done.stderr
    assert f"first {ODD}".splitlines()[0] in ways.noted()


def test_a_state_machine_takes_the_ways_of_the_pipeline(ways, states):
    definition = ways.render("step-functions", FILE).read_text("utf-8")
    told = states.run(definition, "R2", parameters={"x": "3"})
    assert told["status"] == "SUCCEEDED", told
    assert sorted(ways.noted()) == ALL
    assert succeeded_in_a_run(ways, "R2")["m.c d.t"] == 1


@pytest.mark.stress
def test_a_state_machine_fails_where_the_pipeline_comes_to_its_fail_node(ways, states):
    ways.file("fails", "")
    failed = states.run(ways.render("step-functions", FILE, "--x", "3").read_text("utf-8"), "R3", parameters={})
    assert failed["status"] == "FAILED", failed
    assert sorted(ways.noted()) == ALL


def test_a_step_that_does_nothing_is_no_node_and_a_text_for_the_engine_is_one(ways):
    assert "nothing" not in ways.render("bash", FILE).read_text("utf-8")
    text = PIPELINE.replace("nothing: {type: as-is,", "nothing: {type: as-is, render_string: 'echo mine >> notes',")
    ways.file(FILE, text)
    done = ways.run("bash", ways.render("bash", FILE, "--x", "3"))
    assert done.returncode == 0, done.stderr
    assert sorted(ways.noted()) == sorted([*ALL, "mine"])
    for target, word in (("argo", "no template of Argo"), ("step-functions", "no state"), ("airflow", "no place")):
        refused = ways.nectar("render", "--to", target, FILE)
        assert refused.returncode == 2 and word in refused.stderr and refused.stdout == "", refused
