"""A manifest for Argo leads to what `nectar run` and `nectar execute` lead to, by the rules of Argo's controller."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import days
import pytest
import ways
from argo_pods import Pods

COMMAND = Path(sys.executable).with_name("nectar")
FILE = "every_way.yaml"
ODD = "it's $(id) $$; {{7*7}} {{{\n-x"


@pytest.fixture
def flow(project: Any) -> Any:
    project.file("steps.py", ways.STEPS)
    project.file(FILE, ways.PIPELINE)
    return project


def test_a_chain_is_made(project):
    project.file("chains/etl/days_chain.py", days.CHAIN)
    manifest = project.render("argo", *days.ASKED, "--word", ODD)
    assert Pods(project, COMMAND, {"image": "x"}).run(manifest) == "Succeeded"
    assert sorted(project.noted()) == days.ALL
    whole = project.nectar("plan", "--json", *days.ASKED, "--word", ODD).stdout
    assert '"run": 0' in whole, "other parameters arrived"


def test_a_chain_goes_on_with_what_a_failure_does_not_stop(project):
    project.file("chains/etl/days_chain.py", days.CHAIN)
    manifest = project.render("argo", *days.ASKED, "--fails")
    assert Pods(project, COMMAND, {"image": "x"}).run(manifest) == "Failed"
    assert sorted(project.noted()) == days.WITHOUT_DAY_2


def test_a_pipeline_takes_its_ways(flow):
    manifest = flow.render("argo", FILE, "--x", "3")
    assert Pods(flow, COMMAND, {"image": "x"}).run(manifest) == "Succeeded"
    assert sorted(flow.noted()) == ways.ALL


@pytest.mark.stress
def test_a_pipeline_that_comes_to_its_fail_node_has_failed(flow):
    flow.file("fails", "")
    failing = Pods(flow, COMMAND, {"image": "x"})
    assert failing.run(flow.render("argo", FILE, "--x", "3")) == "Failed"
    assert "came to its fail node" in failing.said[-1]
    assert sorted(flow.noted()) == ways.ALL


def test_a_parameter_of_a_workflow_arrives_as_data(flow):
    pods = Pods(flow, COMMAND, {"image": "x", "x": ODD})
    pods.run(flow.render("argo", FILE, "--x", "3"))
    assert flow.noted()[0] == f"first {ODD}".splitlines()[0]
