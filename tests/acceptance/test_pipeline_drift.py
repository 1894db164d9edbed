"""A changed function of a pipeline's step is drift, as a changed class is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

PIPELINE = """\
dag:
  start_at: a
  steps:
    a: {type: task, command: helpers.one, next: b}
    b: {type: task, command_type: shell, command: 'true', next: success}
    success: {type: success}
    fail: {type: fail}
"""
HELPERS = "def two():\n    return 2\n\n\ndef one():\n    return {'n': two()}\n"
RUN = ("etl/p_chain", "PipelineTask")


@pytest.fixture
def helpers(project) -> Path:
    """A pipeline whose first step alone is there."""
    project.file("chains/etl/p_chain.yaml", PIPELINE)
    helpers = project.file("helpers.py", HELPERS)
    assert project.nectar("run", *RUN).code == 0
    for folder in (project.store / "chains/etl/p_chain").iterdir():
        if folder.name != "ATask":
            shutil.rmtree(folder)
    return helpers


def drifted(project) -> list[str]:
    steps = project.nectar("plan", "--json", "--all", *RUN).json["steps"]
    return [step["task"].rpartition(".")[2] for step in steps if step["drift"]]


def test_a_changed_function_is_shown_as_drift_also_where_it_is_used_by_another(project, helpers):
    assert drifted(project) == []
    helpers.write_text(HELPERS.replace("return 2", "return 3"))
    assert drifted(project) == ["a"]


def test_a_comment_in_a_function_is_no_drift(project, helpers):
    helpers.write_text("# of numbers\n" + HELPERS)
    assert drifted(project) == []


def test_a_changed_function_is_called_again_where_the_project_says_so(project, helpers):
    project.file("configuration/nectar.toml", '[task]\ndrift = "rerun"\n')
    helpers.write_text(HELPERS.replace("return 2", "return 3"))
    assert project.nectar("run", *RUN).code == 0
    [made] = project.store.glob("chains/etl/p_chain/PipelineTask/*/parameters.json")
    assert made.read_text().split() == ["{", '"n":', "3", "}"]
