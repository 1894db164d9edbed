"""Every command answers in JSON of a fixed shape, alone on stdout."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

TASK = ("etl/daily_chain", "ReportTask")
KEY = re.compile(r"chains/etl/daily_chain/ReportTask/[0-9a-f]{32}")


def test_list_gives_types_chains_tasks_and_parameters(made_project):
    document = made_project.nectar("list", "--json").json
    assert list(document) == ["etl"]
    assert document["etl"]["broken"] == []
    [chain] = document["etl"]["chains"]
    assert (chain["name"], chain["path"]) == ("daily_chain", "etl/daily_chain")
    assert chain["description"] == "Two tasks, one after the other."
    assert [task["task_name"] for task in chain["tasks"]] == ["LoadTask", "ReportTask"]
    day, title, kind, loud = chain["tasks"][1]["parameters"]
    assert (day["name"], day["type"], day["default"], day["required"]) == ("day", "int", "1", False)
    assert (title["type"], kind["choices"], loud["type"]) == ("str", ["long", "short"], "bool")
    assert loud["description"] == "in capitals"
    [load_day] = chain["tasks"][0]["parameters"]
    assert (load_day["required"], load_day["default"], load_day["significant"]) == (True, None, True)


def test_plan_gives_counts_and_steps_in_order_with_reasons(made_project):
    document = made_project.nectar("plan", "--json", *TASK, "--day", "7").json
    assert document["counts"] == {"run": 2, "reuse": 0, "skip": 0, "blocked": 0}
    assert document["identified"] == 2
    load, report = document["steps"]
    assert (load["task"], load["action"]) == ("chains.etl.daily_chain.LoadTask(day=7)", "run")
    assert load["reasons"] == [{"why": "no target", "detail": ""}]
    assert report["requirements"] == [load["ref"]]
    assert KEY.fullmatch(report["path"])
    assert report["drift"] is False


def test_plan_of_what_is_complete_skips_it(made_project):
    document = made_project.nectar("plan", "--json", *TASK).json
    assert document["counts"] == {"run": 0, "reuse": 0, "skip": 1, "blocked": 0}


def test_explain_gives_the_changed_component(made_project):
    [one] = made_project.nectar("explain", "--json", *TASK, "--title", "grand").json
    assert one["action"] == "run"
    assert [reason["why"] for reason in one["reasons"]] == ["no target"]
    [change] = one["changes"]
    assert (change["component"], change["old"], change["new"]) == ("params.title", "plain", "grand")
    assert change["silence"]
    assert KEY.fullmatch(one["compared_with"])


def test_explain_of_what_is_complete_is_an_empty_list(made_project):
    assert made_project.nectar("explain", "--json", *TASK).json == []


def test_run_gives_events_a_line_each_and_the_result_last(project):
    answer = project.nectar("run", "--json", *TASK)
    events = answer.lines
    kinds = [event["event"] for event in events]
    assert kinds == ["run started", *["step started", "step ended"] * 2, "run ended"]
    assert answer.err == ""
    assert events[0]["planned"] == 2
    assert len({event["run_id"] for event in events}) == 1
    for event in events[:-1]:
        assert datetime.fromisoformat(event["at"]).utcoffset() is not None
    ended = events[-2]
    assert (ended["status"], ended["error"]) == ("succeeded", None)
    assert KEY.fullmatch(ended["path"])
    assert ended["logs"] == f"{ended['path']}/log"
    result = events[-1]
    assert (result["success"], result["interrupted"]) == (True, False)
    assert result["counts"] == {"skipped": 0, "succeeded": 2, "reused": 0, "failed": 0, "not run": 0, "blocked": 0}
    assert [step["status"] for step in result["steps"]] == ["succeeded", "succeeded"]


def test_run_tells_a_failure_in_json_too(project):
    project.chain("etl/bad_chain", "class BadTask(nectar.Task):\n    def run(self):\n        1 / 0\n")
    answer = project.nectar("run", "--json", "etl/bad_chain", "BadTask")
    assert answer.code == 1
    [step] = answer.lines[-1]["steps"]
    assert (step["status"], step["error"]) == ("failed", "ZeroDivisionError: division by zero")
    assert "/.attempts/" in step["logs"]


def test_show_gives_record_files_urls_and_attempts(made_project):
    document = made_project.nectar("show", "--json", *TASK).json
    assert (document["state"], document["problem"], document["attempts"]) == ("complete", None, [])
    assert document["store"] == made_project.store.as_uri()
    record = document["record"]
    assert record["identity"]["task"] == "chains.etl.daily_chain.ReportTask"
    assert record["identity"]["params"] == {"day": 1, "kind": "long", "loud": "False", "title": "plain"}
    [file] = record["files"]
    assert (file["name"], file["size"]) == ("out.txt", len("plain: day 1\n"))
    assert document["urls"]["out.txt"] == (made_project.store / document["path"] / "out.txt").as_uri()


def test_status_counts_each_task(made_project):
    document = made_project.nectar("status", "--json").json
    assert document["stores"] == [made_project.store.as_uri()]
    assert [(one["task"], one["complete"], one["broken"]) for one in document["tasks"]] == [
        ("chains/etl/daily_chain/LoadTask", 1, 0),
        ("chains/etl/daily_chain/ReportTask", 1, 0),
    ]
    assert document["tasks"][0]["size"] == len("day 1\n")
    assert datetime.fromisoformat(document["tasks"][0]["newest"]).utcoffset() is not None


def test_logs_gives_both_streams_apart(made_project):
    document = made_project.nectar("logs", "--json", "etl/daily_chain", "LoadTask", "--day", "1").json
    assert (document["state"], document["stdout"], document["stderr"]) == ("published", "loading day 1\n", "")
    assert document["path"].startswith("chains/etl/daily_chain/LoadTask/")


def test_path_gives_target_completeness_and_outputs(made_project):
    document = made_project.nectar("path", "--json", *TASK).json
    assert document["complete"] is True
    place = made_project.store / document["target"] / "out.txt"
    assert document["outputs"] == {"out.txt": {"path": str(place), "url": place.as_uri()}}
    assert made_project.nectar("path", *TASK).out == f"{place}\n"
    assert made_project.nectar("path", "--url", *TASK).out == f"{place.as_uri()}\n"


def test_verify_lists_every_target(made_project):
    document = made_project.nectar("verify", "--json").json
    assert [one["problem"] for one in document] == [None, None]
    assert [one["quarantined"] for one in document] == [None, None]


def test_adopt_tells_what_it_took(project):
    project.file("elsewhere/out.txt", "made by hand\n")
    words = ("--json", "--from", "elsewhere", "etl/daily_chain", "LoadTask", "--day", "3")
    document = project.nectar("adopt", *words).json
    assert (document["adopted"], document["files"]) == (True, ["out.txt"])
    assert project.nectar("adopt", *words).json["adopted"] is False
    assert project.nectar("path", "--json", "etl/daily_chain", "LoadTask", "--day", "3").json["complete"]


def test_doctor_lists_checks(made_project):
    document = made_project.nectar("doctor", "--json").json
    names = [check["name"] for check in document]
    assert {"python", "luigi", "project", "store", "chains", "git"} <= set(names)
    assert all(set(check) == {"name", "ok", "detail", "hint"} for check in document)
    assert all(check["ok"] for check in document)


@pytest.mark.parametrize("command", ["run", "plan", "explain", "show", "adopt"])
def test_an_error_leaves_stdout_empty_with_json_as_without(made_project, command):
    made_project.nectar(command, "--json", "etl/daily_chain", "NoSuchTask").failed(2, "NoSuchTask")


def test_a_failed_run_in_json_says_nothing_on_stderr(project):
    project.chain("etl/bad_chain", "class BadTask(nectar.Task):\n    def run(self):\n        1 / 0\n")
    assert project.nectar("run", "--json", "etl/bad_chain", "BadTask").err == ""


def test_graph_gives_each_task_once_with_requirements_before_those_who_require_them(made_project):
    document = made_project.nectar("graph", "--json", *TASK).json
    seen = set()
    for node in document["nodes"]:
        assert set(node["requirements"].values()) <= seen
        seen.add(node["ref"])
    assert document["nodes"][-1]["ref"] in document["roots"]
