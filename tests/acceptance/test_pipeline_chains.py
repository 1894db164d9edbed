"""A pipeline file among the chains is a chain: the commands, HTTP and a bucket treat it as they treat any other."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "servers")]
pytest.importorskip("boto3", reason="boto3 is not here: pip install boto3")
pytest_plugins = ["s3_fixtures"]
pytest.register_assert_rewrite("s3_cloud")

from nectar_server import NectarServer, serving  # noqa: E402
from s3_cloud import machine_with_bucket, statuses  # noqa: E402

SUMS, TASK = "etl/sums_chain", "PipelineTask"
#: what it needs is `n`, and it looks at `title`; the files of its branches go through the catalog
PIPELINE = """\
dag:
  description: Adds squares up
  start_at: numbers
  steps:
    numbers:
      type: task
      command_type: python-lambda
      command: "lambda n: {'numbers': list(range(int(n)))}"
      next: each
    each:
      type: map
      iterate_on: numbers
      iterate_as: number
      next: together
      branch:
        start_at: square
        steps:
          square:
            type: task
            command_type: shell
            command: |
              mkdir -p data
              echo $((NECTAR_MAP_number * NECTAR_MAP_number)) > data/$NECTAR_MAP_number.txt
            catalog: {put: ["*.txt"]}
            next: done
          done: {type: success}
          bad: {type: fail}
    together:
      type: task
      command_type: shell
      command: |
        test ! -e "$FORBIDDEN" || exit 3
        cat data/*.txt > data/all.csv
        echo "$NECTAR_PRM_title" > here
        ls -a
      catalog: {get: ["*.txt"], put: ["all.csv"]}
      next: last
    last: {type: task, command: sums.total, next: success}
    success: {type: success}
    fail: {type: fail}
"""
STEPS = """
from pathlib import Path

import nectar


def total(numbers):
    nectar.get_from_catalog("all.csv", "here")
    return {"total": sum(map(int, Path("here/all.csv").read_text().split()))}
"""
MENDED = """\
dag:
  start_at: a
  steps:
    a: {type: task, command_type: shell, command: exit 1, on_failure: b, next: success}
    b: {type: task, command_type: python-lambda, command: "lambda: {'mended': 1}", next: success}
    success: {type: success}
    fail: {type: fail}
"""
#: the same within a map whose values only a step knows
MENDED_BRANCHES = """\
dag:
  start_at: values
  steps:
    values: {type: task, command_type: python-lambda, command: "lambda: {'values': [1, 2]}", next: each}
    each:
      type: map
      iterate_on: values
      iterate_as: value
      next: success
      branch:
        start_at: a
        steps:
          a: {type: task, command_type: shell, command: 'test "$NECTAR_MAP_value" = 1', on_failure: b, next: success}
          b: {type: task, command_type: shell, command: 'true', next: success}
          success: {type: success}
          fail: {type: fail}
    success: {type: success}
    fail: {type: fail}
"""
BROKEN = """\
dag:
  start_at: a
  steps:
    a: {type: task, comand: x.y, next: success}
    success: {type: success}
    fail: {type: fail}
"""


def write(project: Any) -> Any:
    project.file("chains/etl/sums_chain.yaml", PIPELINE)
    project.file("sums.py", STEPS)
    return project


@pytest.fixture
def sums(project):
    return write(project)


def made_by(answer: Any) -> dict[str, str]:
    """What became of each step, by its name."""
    assert answer.lines, answer
    return {step["task"].removeprefix("chains.etl.sums_chain."): step["status"] for step in answer.lines[-1]["steps"]}


ALL = ["parameters", "numbers", "each.0.square", "each.1.square", "each.2.square", "each", "together", "last"]
ENDS = ["all steps", f"{TASK}(n=3, title=)"]


def test_it_is_listed_with_what_its_steps_need_and_look_at(sums):
    [chain] = [one for one in sums.nectar("list", "--json").json["etl"]["chains"] if one["path"] == SUMS]
    assert chain["description"] == "Adds squares up"
    [task] = chain["tasks"]
    assert task["task_name"] == TASK
    told = [(one["name"], one["default"], one["required"]) for one in task["parameters"]]
    assert told == [("n", None, True), ("title", None, False)]


def test_what_it_needs_changes_with_the_functions_of_its_steps(sums):
    assert f"{TASK} --n STR [--title str]" in sums.nectar("list", SUMS).out
    sums.file("sums.py", STEPS.replace("total(numbers)", "total(numbers, more)"))
    assert f"{TASK} --n STR --more STR [--title str]" in sums.nectar("list", SUMS).out


def test_it_is_planned_drawn_and_explained_and_nothing_runs(sums):
    plan = sums.nectar("plan", "--json", SUMS, TASK, "--n", "3")
    assert plan.code == 0, plan
    assert [step["task"].rpartition(".")[2] for step in plan.json["steps"]] == [
        "parameters",
        "numbers",
        "each",
        "together",
        "last",
        *ENDS,
    ]
    assert {step["action"] for step in plan.json["steps"]} == {"run"}
    drawn = sums.nectar("graph", SUMS, TASK, "--n", "3").out
    assert [line.lstrip(" └─") for line in drawn.splitlines()] == [
        *reversed(ENDS), "last", "together", "each", "numbers", "parameters",
    ]  # fmt: skip
    assert not sums.store.exists()
    sums.make(SUMS, TASK, "--n", "3")
    explained = sums.nectar("explain", SUMS, TASK, "--n", "4").out
    assert 'parameter `parameters` changed: {"n": "3"} -> {"n": "4"}' in explained


@pytest.mark.parametrize(
    "words",
    [(), ("--workers", "2"), ("--executor", "luigi"), ("--executor", "luigi", "--workers", "2")],
    ids=["inline", "workers", "luigi", "luigis-workers"],
)
def test_it_runs_once_in_folders_of_its_own_and_then_nothing(sums, words):
    first = sums.nectar("run", "--json", *words, SUMS, TASK, "--n", "3", "--title", "squares")
    assert first.code == 0, first
    assert set(made_by(first).values()) == {"succeeded"}
    assert set(made_by(first)) == {*ALL, ENDS[0], f"{TASK}(n=3, title=squares)"}
    out = sums.nectar("path", SUMS, TASK, "--n", "3", "--title", "squares").out.strip()
    told = json.loads(Path(out).read_text())
    assert told == {"n": "3", "title": "squares", "numbers": [0, 1, 2], "total": 5}
    assert sorted(place.name for place in sums.root.iterdir()) == [
        ".nectar", "chains", "local_targets", "sums.py",
    ]  # fmt: skip  # neither a data folder nor a catalog
    before = sums.kept()
    again = sums.nectar("run", *words, SUMS, TASK, "--n", "3", "--title", "squares")
    assert (again.code, "nothing to do" in again.err) == (0, True), again
    assert sums.kept() == before


def test_files_of_the_catalog_lie_in_the_targets_of_the_steps_that_put_them(sums):
    sums.make(SUMS, TASK, "--n", "3")
    files = {name.rpartition("/catalog/")[2]: raw for name, raw in sums.kept().items() if "/catalog/" in name}
    assert files == {"0.txt": b"0\n", "1.txt": b"1\n", "2.txt": b"4\n", "all.csv": b"0\n1\n4\n"}
    [path] = {name.rpartition("/catalog/")[0] for name in sums.kept() if name.endswith("all.csv")}
    assert "catalog/all.csv" in sums.nectar("show", path).out


def test_after_a_failure_it_goes_on_where_it_failed(sums):
    forbidden = str(sums.file("forbidden", ""))
    failed = sums.nectar("run", "--json", SUMS, TASK, "--n", "3", FORBIDDEN=forbidden)
    assert failed.code == 1, failed
    assert [name for name, status in made_by(failed).items() if status == "failed"] == ["together"]
    mended = made_by(sums.nectar("run", "--json", SUMS, TASK, "--n", "3"))
    assert sorted(name for name, status in mended.items() if status == "succeeded") == sorted(
        ["together", "last", *ENDS]
    )


def test_a_step_that_stands_on_what_was_removed_says_so_and_how_it_is_mended(sums):
    sums.file("here", "")
    sums.nectar("run", SUMS, TASK, "--n", "3", FORBIDDEN=str(sums.root / "here"))
    shutil.rmtree(sums.store / "chains" / "etl" / "sums_chain" / "ParametersTask")
    answer = sums.nectar("run", SUMS, TASK, "--n", "3")
    assert answer.code == 1, answer
    assert "which was removed" in answer.err
    assert "nectar run --force-all" in answer.err
    assert sums.nectar("run", "--force-all", SUMS, TASK, "--n", "3").code == 0


def test_a_changed_step_and_what_follows_it_is_made_again_and_no_more(sums):
    sums.make(SUMS, TASK, "--n", "3")
    sums.file("chains/etl/sums_chain.yaml", PIPELINE.replace("ls -a", "ls"))
    changed = made_by(sums.nectar("run", "--json", SUMS, TASK, "--n", "3"))
    assert sorted(name for name, status in changed.items() if status == "succeeded") == sorted(
        ["together", "last", *ENDS]
    )


def test_a_selection_names_steps_by_their_names(sums):
    def planned(selection: str) -> list[str]:
        plan = sums.nectar("plan", "--json", "--select", selection, SUMS, TASK, "--n", "3")
        assert plan.code == 0, plan
        return [step["task"].rpartition(".")[2] for step in plan.json["steps"]]

    assert planned("*numbers") == ["parameters", "numbers"]
    assert planned("*each, to?ether") == ["parameters", "numbers", "each", "together"]
    made = sums.nectar("run", "-q", "--select", "*together", SUMS, TASK, "--n", "3")
    assert made.code == 0, made
    assert not list(sums.store.rglob(f"{TASK}/*/record.json"))
    missed = sums.nectar("plan", "--select", "numbres", SUMS, TASK, "--n", "3")
    missed.failed(2, "`numbres` selects nothing", "did you mean `numbers`?")
    sums.nectar("plan", "--select", "cook", SUMS, TASK, "--n", "3").failed(2, "there is `parameters`, `numbers`, ")


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--n", "3", "--titel", "x"], ["has no parameter `titel`", "did you mean `title`?"]),
        (["--title", "x"], ["`PipelineTask` needs a value for `n`"]),
    ],
)
def test_parameters_that_it_does_not_have_or_that_are_missing_are_refused_before_anything_runs(sums, words, fragments):
    sums.nectar("run", SUMS, TASK, *words).failed(2, *fragments)
    assert not sums.store.exists()


def test_a_failure_takes_its_own_way_under_nectars_engine(project):
    project.file("chains/etl/sums_chain.yaml", MENDED)
    answer = project.nectar("run", "--json", SUMS, TASK)
    assert answer.code == 0, answer
    assert made_by(answer)["a"] == "failed"
    assert json.loads(Path(project.nectar("path", SUMS, TASK).out.strip()).read_text()) == {"mended": 1}


@pytest.mark.parametrize("text", [MENDED, MENDED_BRANCHES], ids=["at the top", "in branches"])
def test_luigis_worker_is_not_given_a_pipeline_in_which_failures_have_ways(project, text):
    project.file("chains/etl/sums_chain.yaml", text)
    refused = project.nectar("run", "--executor", "luigi", SUMS, TASK)
    refused.failed(2, "luigi's worker knows none", "leave out `--executor luigi`")
    assert not project.store.exists()
    assert project.nectar("run", SUMS, TASK).code == 0
    again = project.nectar("run", "--executor", "luigi", SUMS, TASK)
    assert (again.code, "nothing to do" in again.err) == (0, True), again


def test_a_file_with_a_fault_is_listed_with_its_line_and_harms_no_other(sums):
    sums.file("chains/etl/bad_chain.yaml", BROKEN)
    listed = sums.nectar("list", "--json").json["etl"]
    [broken] = listed["broken"]
    assert (broken["path"], broken["location"]) == ("etl/bad_chain", "chains/etl/bad_chain.yaml:4")
    assert broken["error"].startswith("chains/etl/bad_chain.yaml:4: the task step `a` has the unknown key `comand`")
    assert "Traceback" not in broken["traceback"]
    assert [chain["name"] for chain in listed["chains"]] == ["daily_chain", "sums_chain"]
    refused = sums.nectar("run", "etl/bad_chain", TASK)
    refused.failed(3, "chains/etl/bad_chain.yaml:4: ", "did you mean `command`?", "`nectar check etl/bad_chain`")
    assert sums.nectar("run", SUMS, TASK, "--n", "2").code == 0


def test_parameters_with_names_that_tasks_have_themselves_are_told_with_the_file(project):
    project.file("chains/etl/sums_chain.yaml", MENDED.replace("lambda:", "lambda output, requires:"))
    [broken] = project.nectar("list", "--json").json["etl"]["broken"]
    assert "chains/etl/sums_chain.yaml: tasks have the name of the parameter `output`" in broken["error"]
    assert "`requires`" in broken["traceback"]


def test_of_a_module_and_a_pipeline_of_one_name_it_is_the_module_and_the_other_is_told(sums):
    sums.chain(SUMS, "class OtherTask(nectar.Task):\n    def run(self):\n        self.dump('other')\n")
    listed = sums.nectar("list", "--json").json["etl"]
    [chain] = [one for one in listed["chains"] if one["path"] == SUMS]
    assert [task["task_name"] for task in chain["tasks"]] == ["OtherTask"]
    [left_out] = listed["broken"]
    assert left_out["path"] == "etl/sums_chain.yaml"
    assert left_out["error"] == "`sums_chain.py` has the same name: rename one of them"
    assert sums.nectar("run", SUMS, "OtherTask").code == 0
    sums.nectar("run", SUMS, TASK, "--n", "3").failed(2, f"`{TASK}`")


# Over HTTP


@pytest.fixture(scope="module")
def served(module_project: Any) -> Iterator[NectarServer]:
    write(module_project)
    module_project.file("chains/etl/bad_chain.yaml", BROKEN)
    module_project.file("chains/etl/stopping_chain.yaml", MENDED.replace("on_failure: b, next: success", "next: b"))
    with serving(module_project) as server:
        yield server


def test_the_server_lists_it_with_its_parameters_and_a_broken_one_with_its_line(served):
    etl = served.get("/api/chains").data["etl"]
    [task] = next(one for one in etl["chains"] if one["path"] == SUMS)["tasks"]
    assert [(one["name"], one["required"]) for one in task["parameters"]] == [("n", True), ("title", False)]
    [broken] = etl["broken"]
    assert broken["error"].startswith("chains/etl/bad_chain.yaml:4: ")


def test_a_post_carries_it_out_and_its_status_leads_to_the_parameters_at_its_end(served):
    posted = served.post(f"/api/chains/{SUMS}/{TASK}", n="3")
    assert (posted.status, posted.json["message"]) == (200, "success"), posted
    assert posted.data["status_url"].endswith("/parameters.json")
    assert served.ended(posted.data["run_id"])["state"] == "SUCCESS"
    status = served.get(posted.data["status_url"]).data
    assert status["job_status"] == "DONE"
    assert served.get(status["resource_url"]).json == {"n": "3", "numbers": [0, 1, 2], "total": 5}
    again = served.post(f"/api/chains/{SUMS}/{TASK}", {"n": "3"})
    assert (again.data["complete"], again.data["target"]) == (True, posted.data["target"])


def test_a_post_of_one_that_fails_tells_the_step_and_why(served):
    posted = served.post(f"/api/chains/etl/stopping_chain/{TASK}")
    assert served.ended(posted.data["run_id"])["state"] == "FAILURE"
    status = served.get(posted.data["status_url"]).data
    assert (status["job_status"], status["resource_url"]) == ("FAILED", None)
    assert status["error"]["message"] == "CommandFailed: the command of `a` ended with exit code 1"
    assert status["error"]["task"] == "chains.etl.stopping_chain.a"


@pytest.mark.parametrize(
    ("query", "fragment"),
    [({"n": "3", "module": "os"}, "no parameter `module`"), ({}, "needs a value for `n`")],
)
def test_a_post_with_an_unknown_or_without_a_needed_parameter_is_refused(served, query, fragment):
    refused = served.post(f"/api/chains/{SUMS}/{TASK}", **query)
    assert refused.status == 400
    assert fragment in refused.json["message"], refused.json
    assert served.post(f"/api/chains/etl/bad_chain/{TASK}").json["code"] == "chain-broken"


def test_the_server_heeds_a_pipeline_and_a_function_of_it_that_change(served, module_project):
    def parameters() -> list[str]:
        [task] = served.get("/api/chains/etl/changing_chain").data["tasks"]
        return [one["name"] for one in task["parameters"]]

    module_project.file("changing.py", "def first(a):\n    return {'got': a}\n")
    ends = "e: {type: success}, f: {type: fail}"
    text = f"dag: {{start_at: s, steps: {{s: {{type: task, command: changing.%s, next: e}}, {ends}}}}}"
    module_project.file("chains/etl/changing_chain.yaml", text % "first")
    assert parameters() == ["a"]
    assert served.run(f"etl/changing_chain/{TASK}", a="1")["state"] == "SUCCESS"
    module_project.file(
        "changing.py", "def first(a, b):\n    return {'got': a + b}\n\n\ndef second(c):\n    return {}\n"
    )
    assert parameters() == ["a", "b"]
    refused = served.post(f"/api/chains/etl/changing_chain/{TASK}", a="1")
    assert refused.status == 400 and "needs a value for `b`" in refused.json["message"]
    posted = served.post(f"/api/chains/etl/changing_chain/{TASK}", a="1", b="2")
    assert served.ended(posted.data["run_id"])["state"] == "SUCCESS"
    assert served.get(served.get(posted.data["status_url"]).data["resource_url"]).json["got"] == "12"
    module_project.file("chains/etl/changing_chain.yaml", text % "second")
    assert parameters() == ["c"]


# In a bucket


@pytest.fixture
def cloud(sums, moto, monkeypatch):
    """A project whose targets go to a bucket."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    return machine_with_bucket(sums, moto)


@pytest.mark.parametrize("words", [(), ("--workers", "2")], ids=["inline", "workers"])
def test_in_a_bucket_its_catalog_is_there_and_another_machine_makes_nothing_again(cloud, tmp_path, words):
    made = cloud.nectar("run", *words, SUMS, TASK, "--n", "3")
    assert made.code == 0, made
    kept = cloud.kept()
    files = {name.rpartition("/catalog/")[2]: raw for name, raw in kept.items() if "/catalog/" in name}
    assert files == {"0.txt": b"0\n", "1.txt": b"1\n", "2.txt": b"4\n", "all.csv": b"0\n1\n4\n"}
    result = json.loads(kept[f"{cloud.only_target(TASK)}/parameters.json"])
    assert result == {"n": "3", "numbers": [0, 1, 2], "total": 5}
    assert not cloud.project.store.exists()
    other = cloud.elsewhere(tmp_path / "other")
    other.project.file("sums.py", STEPS)
    again = other.nectar("run", SUMS, TASK, "--n", "3")
    assert (again.code, "nothing to do" in again.err, again.out) == (0, True, made.out), again
    # What one machine put, another gets: only the steps behind a changed one run there.
    changed = PIPELINE.replace("command: sums.total", "command: sums.total, command_config: {version: 2}")
    other.project.file("chains/etl/sums_chain.yaml", changed)
    told = statuses(other.end(SUMS, TASK, "--n", "3"))
    assert {name for name, status in told.items() if status == "succeeded"} == {"last", "all steps"}
    assert told[TASK] == "reused"  # the parameters came out as before
    assert [name for name in cloud.names() if name.endswith("all.csv")] == [
        name for name in kept if name.endswith("all.csv")
    ]
