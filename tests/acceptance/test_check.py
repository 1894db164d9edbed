"""`nectar check` names every fault of a pipeline file with its line, and runs nothing."""

from __future__ import annotations

import json
import os

import pytest

STARTED = """\
dag:
  description: Getting started
  start_at: step parameters
  steps:
    step parameters:
      type: task
      command_type: python-lambda
      command: "lambda x: {'x': int(x) + 1}"
      next: step shell
    step shell:
      type: task
      command_type: shell
      command: mkdir data ; env >> data/data.txt # For Linux/macOS
      next: success
      catalog:
        put:
          - "*"
    success:
      type: success
    fail:
      type: fail
"""
DIGEST = "ce0676d63e99c34848484f2df1744bab8d45e33a"
TWO_FAULTS = STARTED.replace("next: success", "next: sucess").replace("command_type: shell", "comand_type: shell")


def test_a_file_without_a_fault_is_told_with_its_digest_and_nothing_runs(project):
    project.file("getting-started.yaml", STARTED)
    answer = project.nectar("check", "getting-started.yaml")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"getting-started.yaml: ok, 4 steps, dag_hash {DIGEST}\n"
    assert not (project.root / "data").exists()


def test_steps_within_steps_are_counted(project):
    inner = "{start_at: u, steps: {u: {type: success}, w: {type: fail}}}"
    steps = f"a: {{type: dag, next: b, dag_definition: {inner}}}, b: {{type: success}}, c: {{type: fail}}"
    project.file("p.yaml", f"dag: {{start_at: a, steps: {{{steps}}}}}\n")
    assert project.nectar("check", "--json", "p.yaml").json["steps"] == 5


def test_every_fault_is_told_with_its_line_and_the_exit_code_is_2(project):
    project.file("p.yaml", TWO_FAULTS)
    answer = project.nectar("check", "p.yaml")
    answer.failed(2)
    assert answer.out == ""
    lines = answer.err.splitlines()
    assert lines[0] == "error: `p.yaml` has 3 faults"
    assert [line.partition(": ")[0] for line in lines[1:4]] == ["p.yaml:12", "p.yaml:13", "p.yaml:14"]
    assert "did you mean `command_type`?" in lines[1] and "did you mean `success`?" in lines[3]


def test_json_tells_of_a_right_file_and_of_a_wrong_one_in_one_shape(project):
    project.file("right.yaml", STARTED)
    project.file("wrong.yaml", TWO_FAULTS)
    right, wrong = project.nectar("check", "--json", "right.yaml"), project.nectar("check", "--json", "wrong.yaml")
    assert right.json == {"file": "right.yaml", "ok": True, "steps": 4, "dag_hash": DIGEST, "faults": []}
    assert (right.code, wrong.code, wrong.err) == (0, 2, "")
    document = json.loads(wrong.out)
    assert (set(document), document["ok"]) == (set(right.json), False)
    assert [(fault["file"], fault["line"]) for fault in document["faults"]] == [("wrong.yaml", n) for n in (12, 13, 14)]


def test_variables_are_in_their_places_before_a_file_is_checked(project):
    project.file("p.yaml", STARTED.replace("next: success", "next: ${end}\n      retry: ${tries}"))
    project.file("v.yaml", "end: success\ntries: 3\n")
    assert project.nectar("check", "p.yaml", "-v", "v.yaml").code == 0
    project.nectar("check", "p.yaml").failed(2, "p.yaml:14: `next` names `${end}`", "p.yaml:15: `retry` is a text")


def test_the_faults_of_all_files_are_told_together(project):
    project.file("p.yaml", TWO_FAULTS)
    project.file("c.toml", "[catalogs]\ntype = 'store'\n")
    project.nectar("check", "p.yaml", "-c", "c.toml").failed(2, "p.yaml:14: ", "c.toml: ", "did you mean `catalog`?")
    project.file("v.yaml", "a: [1]\n")
    answer = project.nectar("check", "p.yaml", "-v", "v.yaml", "-c", "c.toml")
    answer.failed(2, "v.yaml:1: ", "c.toml: ")


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        ((), "no file to check"),
        (("none.yaml",), "`none.yaml` cannot be read: no such file"),
        ((".",), "is a directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(project, words, fragment):
    project.nectar("check", *words).failed(2, fragment)


def test_the_schema_is_printed_for_editors(project):
    document = project.nectar("check", "--schema").json
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(document["properties"]) == {"dag", "executor", "run_log_store", "catalog", "secrets"}


def test_a_pipeline_among_the_chains_is_checked_by_the_chain_s_name(project):
    project.file("chains/etl/nightly_chain.yaml", STARTED)
    answer = project.nectar("check", "etl/nightly_chain")
    assert answer.code == 0, answer
    assert answer.out == f"chains/etl/nightly_chain.yaml: ok, 4 steps, dag_hash {DIGEST}\n"
    project.chain("etl/module_chain", "import nectar\n")
    project.nectar("check", "etl/module_chain").failed(2, "`etl/module_chain` is a module")
    project.nectar("check", "etl/nightly2_chain").failed(2, "did you mean `etl/nightly_chain`?")


def test_what_other_packages_offer_is_in_the_schema(project):
    name = "offers-1.0.dist-info"
    project.file(f"packages/{name}/METADATA", "Metadata-Version: 2.1\nName: offers\nVersion: 1.0\n")
    project.file(f"packages/{name}/entry_points.txt", "[nectar.catalogs]\nshelf = offers:Shelf\n")
    known = project.environment().get("PYTHONPATH", "")
    path = os.pathsep.join([str(project.root / "packages"), *([known] if known else [])])
    document = project.nectar("check", "--schema", PYTHONPATH=path).json
    assert "shelf" in document["properties"]["catalog"]["properties"]["type"]["enum"]
