"""Only what is selected is made, by the command line and over HTTP; presets and tags name what is wanted often."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / "servers")]
from nectar_server import serving  # noqa: E402

# a -> b, a -> c, b -> f, f -> h, and all of them -> end: arrows point downstream
BRANCHES = """
import pathlib
import luigi
import nectar

class _Noted(nectar.Task):
    n = luigi.IntParameter(default=1)
    def run(self):
        with open("made", "a") as file:
            file.write(type(self).__name__[0].lower())
        self.dump(f"{type(self).__name__} {self.n}")

class ATask(_Noted):
    pass

class BTask(_Noted):
    def requires(self):
        return ATask(n=self.n)

class CTask(_Noted):
    def requires(self):
        return ATask(n=self.n)

class FTask(_Noted):
    def requires(self):
        return BTask(n=self.n)

class HTask(_Noted):
    fails = luigi.BoolParameter()
    def requires(self):
        return FTask(n=self.n)
    def run(self):
        if self.fails and not pathlib.Path("mended").exists():
            raise ValueError("not yet")
        super().run()

class EndTask(_Noted):
    fails = luigi.BoolParameter()
    def requires(self):
        return [CTask(n=self.n), HTask(n=self.n, fails=self.fails)]

PRESETS = [
    nectar.Preset("small", params={"n": 7}, select="*BTask", tags={"team": "red"}),
    nectar.Preset("wide", workers=2, executor="processes"),
]
"""
CHAIN = "etl/branch_chain"


@pytest.fixture
def branches(project: Any) -> Any:
    project.chain(CHAIN, BRANCHES)
    return project


def made(project: Any) -> str:
    """Return what was made, by first letters, since the last time."""
    place = project.root / "made"
    found = "".join(sorted(place.read_text())) if place.exists() else ""
    place.unlink(missing_ok=True)
    return found


def newest(project: Any) -> dict[str, Any]:
    row: dict[str, Any] = project.nectar("runs", "--json").json["rows"][0]
    return row


def test_a_run_makes_exactly_what_is_selected_and_skips_what_is_complete(branches):
    both = [CHAIN, "HTask", "--and", CHAIN, "CTask"]
    done = branches.nectar("run", "--select", "ATask++", *both)
    assert done.code == 0, done
    assert made(branches) == "abcf"
    assert [line.split("/")[-3] for line in done.out.splitlines()] == ["FTask", "CTask"], "what the selection leads to"
    again = branches.nectar("run", "--select", "*FTask, HTask", *both)
    assert again.code == 0 and made(branches) == "h"
    assert newest(branches)["options"]["select"] == "*FTask, HTask"
    assert [root["task"].rpartition(".")[2] for root in newest(branches)["roots"]] == [
        "HTask(n=1, fails=False)",
        "CTask(n=1)",
    ]
    assert branches.nectar("run", CHAIN, "EndTask").code == 0
    assert made(branches) == "e"
    assert "select" not in newest(branches)["options"]


def test_a_selected_task_whose_upstream_is_missing_is_refused_by_its_name_and_nothing_is_made(branches):
    refused = branches.nectar("run", "--select", "FTask", CHAIN, "EndTask")
    refused.failed(2, "what is not selected is not there", "BTask(n=1)", "which", "FTask(n=1)")
    assert made(branches) == ""
    run = newest(branches)
    assert run["state"] == "FAILURE" and "BTask" in run["error"]
    branches.nectar("run", "--select", "*BTask", CHAIN, "EndTask")
    assert branches.nectar("run", "--select", "FTask", CHAIN, "EndTask").code == 0
    assert made(branches) == "abf"


def test_a_selection_works_over_the_graph_of_several_roots_and_names_instances(branches):
    words = [CHAIN, "BTask", "--n", "1", "--and", CHAIN, "CTask", "--n", "2"]
    plan = branches.nectar("plan", "--json", "--select", f"{CHAIN}/ATask(n=2)*", *words).json
    assert [step["task"].rpartition(".")[2] for step in plan["steps"]] == ["ATask(n=2)", "CTask(n=2)"]
    assert plan["selected"] == 2
    assert branches.nectar("run", "--select", "?Task(n=2)", *words).code == 0
    assert made(branches) == "ac"


def test_plan_graph_and_explain_take_the_same_selection(branches):
    plan = branches.nectar("plan", "--select", "+CTask", CHAIN, "EndTask").out
    assert "2 tasks: 2 to run" in plan and "2 of 6 tasks selected" in plan
    dry = branches.nectar("run", "--dry-run", "--select", "+CTask", CHAIN, "EndTask").out
    assert dry == plan
    graph = branches.nectar("graph", "--select", "+CTask, HTask", CHAIN, "EndTask").out
    assert graph == "CTask(n=1)\n└─ ATask(n=1)\nHTask(n=1, fails=False)\n"
    explained = branches.nectar("explain", "--json", "--select", "+CTask", CHAIN, "EndTask").json
    assert [one["task"].rpartition(".")[2] for one in explained] == ["ATask(n=1)", "CTask(n=1)"]
    assert made(branches) == ""


def test_clauses_that_select_nothing_are_all_named_with_what_was_meant(branches):
    for verb in ("run", "plan", "graph", "explain"):
        refused = branches.nectar(verb, "--select", "Btask, ATask, CTsk", CHAIN, "EndTask")
        refused.failed(2, "`Btask` selects nothing; `CTsk` selects nothing", "did you mean `BTask`?", "`CTask`")
        assert "`ATask` selects" not in refused.err


def test_a_rerun_keeps_the_selection_also_where_it_repeats_only_what_failed(branches):
    failed = branches.nectar("run", "--select", "*HTask", CHAIN, "EndTask", "--fails")
    assert failed.code == 1 and made(branches) == "abf"
    assert "nectar run --select '*HTask' etl/branch_chain EndTask --fails" in failed.err
    first = newest(branches)
    branches.file("mended", "")
    done = branches.nectar("rerun", "--failed", first["id"])
    assert done.code == 0, done
    assert made(branches) == "h"
    second = newest(branches)
    assert (second["parent_id"], second["options"]["select"]) == (first["id"], "*HTask")
    assert second["counts"] == {"skipped": 1, "succeeded": 1}
    assert branches.nectar("rerun", second["id"]).code == 0
    assert made(branches) == "", "EndTask was never selected"
    assert newest(branches)["options"]["select"] == "*HTask"


def test_a_preset_sets_what_it_names_and_the_history_has_it(branches):
    done = branches.nectar("run", "--preset", "small", "--tag", "who=me", CHAIN, "EndTask")
    assert done.code == 0, done
    assert made(branches) == "ab"
    run = newest(branches)
    assert (run["tags"], run["roots"][0]["params"]["n"]) == ({"team": "red", "who": "me"}, "7")
    assert run["options"] | {"preset": "small", "select": "*BTask"} == run["options"]
    shown = branches.nectar("runs", run["id"]).out
    assert "preset    small" in shown and "select    *BTask" in shown and "tag       who=me" in shown
    assert "team=red, who=me" in branches.nectar("runs").out
    plan = branches.nectar("plan", "--json", "--preset", "small", CHAIN, "EndTask").json
    assert plan["selected"] == 2 and plan["counts"]["skip"] == 2
    assert branches.nectar("run", "--preset", "wide", CHAIN, "ATask").code == 0
    assert (newest(branches)["executor"], newest(branches)["workers"]) == ("processes", 2)


def test_a_preset_and_the_same_thing_given_are_refused_with_both_names_all_at_once(branches):
    words = ["--preset", "small", "--select", "*", "--tag", "team=blue", "--tag", "b=c", CHAIN, "EndTask", "--n", "1"]
    refused = branches.nectar("run", *words)
    refused.failed(2, *(f"`{word}` is given, and the preset `small` sets it too" for word in ("--n", "--select *")))
    assert "`--tag team=blue` is given, and the preset `small`" in refused.err and "b=c" not in refused.err
    both = ["--preset", "wide", "--workers", "2", "--executor", "processes", CHAIN, "ATask"]
    branches.nectar("run", *both).failed(2, "`--workers 2`", "`--executor processes`", "`wide`")
    branches.nectar("plan", "--preset", "small", CHAIN, "EndTask", "--n=3").failed(2, "`--n`", "`small`")
    words = ["--preset", "wide", CHAIN, "ATask", "--and", CHAIN, "BTask"]
    branches.nectar("run", *words).failed(2, "`--and`", "preset")
    assert branches.nectar("runs").out == "no runs yet\n"


def test_an_unknown_preset_and_faulty_ones_say_what_is_wrong_all_at_once(branches):
    branches.nectar("run", "--preset", "smal", CHAIN, "EndTask").failed(2, "no preset `smal`", "did you mean `small`?")
    branches.nectar("plan", "--preset", "x", "etl/daily_chain", "LoadTask").failed(2, "no preset `x`", "no `PRESETS`")
    presets = '[nectar.Preset("x", params={"m": 1, "n": "many"}), nectar.Preset("y")]'
    branches.chain("etl/odd_chain", BRANCHES + f"PRESETS = {presets}\n")
    refused = branches.nectar("run", "--preset", "x", "etl/odd_chain", "HTask", "--fals", "x")
    refused.failed(2, "the preset `x` sets `m`, which `HTask` does not have", "`n` cannot be `many`", "`fals`")
    broken = '[nectar.Preset("x"), nectar.Preset("x"), 3, nectar.Preset("w", workers=0)]'
    branches.chain("etl/odd_chain", BRANCHES + f"PRESETS = {broken}\n")
    refused = branches.nectar("run", "--preset", "x", "etl/odd_chain", "HTask")
    refused.failed(2, "two presets have the name `x`", "number 3 of `PRESETS` is a int", "`workers` of the preset `w`")
    assert branches.nectar("run", "etl/odd_chain", "ATask").code == 0, "without a preset the chain is as good as ever"


def test_list_shows_the_presets_of_a_chain_and_what_is_wrong_with_them(branches):
    shown = branches.nectar("list", CHAIN).out
    assert "  preset small --tag team=red --select '*BTask' --n 7\n" in shown
    assert "  preset wide --executor processes --workers 2\n" in shown
    listed = branches.nectar("list", "--json", CHAIN).json["etl"]["chains"][0]
    assert [one["name"] for one in listed["presets"]] == ["small", "wide"]
    assert listed["presets"][0]["params"] == {"n": "7"} and listed["preset_faults"] == []
    hidden = "    word = luigi.Parameter(default='', visibility=luigi.parameter.ParameterVisibility.PRIVATE)\n"
    presets = 'PRESETS = [nectar.Preset("x", params={"word": "hunter2"}), nectar.Preset("y", params={"m": 1}), "z"]\n'
    branches.chain("etl/odd_chain", "class XTask(nectar.Task):\n" + hidden + presets)
    shown = branches.nectar("list", "etl/odd_chain").out
    assert "preset x --word '******'" in shown and "hunter2" not in shown
    assert "the preset `y` sets `m`, which no task of the chain has" in shown and "number 3 of `PRESETS`" in shown


def test_tags_are_of_the_run_and_wrong_ones_are_refused(branches):
    assert branches.nectar("run", "--tag", "team=red", "--tag", "x=a=b", CHAIN, "ATask").code == 0
    assert newest(branches)["tags"] == {"team": "red", "x": "a=b"}
    assert "team=red, x=a=b" in branches.nectar("runs", "--tag", "team=red").out
    branches.nectar("run", "--tag", "=team", CHAIN, "ATask").failed(2, "`=team` is no tag", "NAME=VALUE")
    branches.nectar("run", "--tag", "a=1", "--tag", "a=2", CHAIN, "ATask").failed(2, "`a` is given twice")


def test_over_http_a_header_selects_for_plan_graph_and_post(branches):
    with serving(branches.root) as server:
        header = {"Nectar-Select": "+CTask"}
        plan = server.ask("GET", f"/api/plan/{CHAIN}/EndTask?n=3", headers=header).data
        assert (plan["selected"], plan["counts"]["run"]) == (2, 2)
        graph = server.ask("GET", f"/api/graph/{CHAIN}/EndTask?n=3", headers=header).data
        assert [node["task"].rpartition(".")[2] for node in graph["nodes"]] == ["ATask(n=3)", "CTask(n=3)"]
        posted = server.ask("POST", f"/api/chains/{CHAIN}/EndTask?n=3", headers=header).data
        assert posted["complete"] is False and posted["target"].startswith("chains/etl/branch_chain/EndTask/")
        run = server.ended(posted["run_id"])
        assert (run["state"], run["options"]["select"]) == ("SUCCESS", "+CTask")
        assert made(branches) == "ac"
        status = server.ask("GET", posted["status_url"].removeprefix(server.url))
        assert status.status == 404, "the selection made other tasks than this"

        refused = server.ask("POST", f"/api/chains/{CHAIN}/EndTask", headers={"Nectar-Select": "CTsk"})
        assert (refused.status, refused.json["code"]) == (400, "selection-invalid")
        assert "did you mean `CTask`?" in refused.json["hint"]
        for sent, said in (("\xff", "cannot be read"), ("Gr\xc3\xb6\xc3\x9fe", "`Größe` selects nothing")):
            odd = server.ask("POST", f"/api/chains/{CHAIN}/EndTask", headers={"Nectar-Select": sent})
            assert odd.status == 400 and said in odd.json["message"]
        missing = server.ask("GET", f"/api/plan/{CHAIN}/EndTask?n=3", headers={"Nectar-Select": "FTask"})
        assert (missing.status, missing.json["code"]) == (409, "upstream-missing")
        posted = server.ask("POST", f"/api/chains/{CHAIN}/EndTask?n=3", headers={"Nectar-Select": "FTask"}).data
        run = server.ended(posted["run_id"])
        assert run["state"] == "FAILURE" and "BTask(n=3)" in run["error"]
        status = server.ask("GET", posted["status_url"].removeprefix(server.url)).data
        assert status["job_status"] == "FAILED" and "BTask(n=3)" in status["error"]["message"]

        made_by_hand = branches.nectar("run", "--select", "*BTask", CHAIN, "EndTask", "--n", "3")
        assert made_by_hand.code == 0 and made(branches) == "b"
        again = server.ask("POST", f"/api/runs/{posted['run_id']}/rerun", body={}).data
        assert server.ended(again["id"])["options"]["select"] == "FTask"
        assert made(branches) == "f"
