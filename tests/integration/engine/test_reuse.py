"""Early cut-off: a task whose inputs come out with the bytes they had before takes the files that it made from them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

CHAIN = """
class RawTask(nectar.Task):
    version = os.environ["RAW"]

    def run(self):
        self.dump(os.environ["RAW"])


class RoundTask(nectar.Task):
    def requires(self):
        return RawTask()

    def run(self):
        self.dump(str(int(self.input().load()) // 10))


class MiddleTask(nectar.Task):
    def requires(self):
        return {"round": RoundTask()}

    def run(self):
        print("made in the middle")
        self.dump("middle of " + self.input()["round"].load())


class LastTask(nectar.Task):
    outputs = ["parts/first.txt", "second.json"]

    def requires(self):
        return MiddleTask()

    def run(self):
        text = self.input().load()
        self.dump("last of " + text, "parts/first.txt")
        self.dump({"text": text}, "second.json")
"""


class Reusing:
    """A chain whose raw number, and with it every key, follows the environment; rounded it often is the same."""

    def __init__(self, project):
        self.project = project
        project.chain(CHAIN)

    def run(self, raw: int, task: str = "LastTask", **options):
        before = set(self.project.targets())
        ended = self.project.run(task, env={"RAW": str(raw)}, **options).ok()
        made = {place.parent.name: place for place in self.project.targets() if place not in before}
        return {name.partition("(")[0]: status for name, status in ended.statuses.items()}, made

    def nectar(self, raw: int, *words: str):
        return self.project.nectar(*words, "etl/engine_chain", "LastTask", env={"RAW": str(raw)}).ok()


@pytest.fixture
def reusing(project):
    return Reusing(project)


ENGINES = {
    "inline": {"workers": 1},
    "processes": {"workers": 2},
    "luigi": {"executor": "luigi", "workers": 1},
    "luigi, forking": {"executor": "luigi", "workers": 2},
}


def record_of(place: Path) -> dict:
    return json.loads((place / "record.json").read_text())


@pytest.mark.parametrize("engine", ENGINES.values(), ids=list(ENGINES))
def test_what_comes_out_as_before_ends_the_work_below_it(reusing, engine):
    _, earlier = reusing.run(1, **engine)
    statuses, later = reusing.run(2, **engine)
    assert statuses == {
        "RawTask": "succeeded",
        "RoundTask": "succeeded",
        "MiddleTask": "reused",
        "LastTask": "reused",
    }
    for name in ("parts/first.txt", "second.json", "params.txt"):
        assert (earlier["LastTask"] / name).read_bytes() == (later["LastTask"] / name).read_bytes()
    record = record_of(later["LastTask"])
    assert record["reused_from"] == f"chains/etl/engine_chain/LastTask/{earlier['LastTask'].name}"
    assert record["files"] == record_of(earlier["LastTask"])["files"]
    assert record["inputs"]["0"]["path"].endswith(later["MiddleTask"].name)
    assert "made in the middle" in (later["MiddleTask"] / "log" / "stdout.log").read_text()
    assert reusing.run(2, **engine)[0] == {"LastTask": "skipped"}
    reusing.project.check_store()


def test_other_bytes_are_made(reusing):
    reusing.run(1)
    assert set(reusing.run(11)[0].values()) == {"succeeded"}


def test_a_reused_target_is_found_again_like_the_one_it_came_from(reusing):
    reusing.run(1)
    _, second = reusing.run(2)
    statuses, third = reusing.run(3)
    assert statuses["LastTask"] == "reused"
    assert record_of(third["LastTask"])["reused_from"].endswith(second["LastTask"].name)


def test_a_plan_says_what_may_be_reused_and_what_will_be(reusing):
    first = json.loads(reusing.nectar(1, "plan", "--json").out)
    assert [step["may_be_reused"] for step in first["steps"]] == [False] * 4
    _, earlier = reusing.run(1)
    plan = json.loads(reusing.nectar(2, "plan", "--json").out)
    assert plan["counts"] == {"run": 4, "reuse": 0, "skip": 0, "blocked": 0}
    assert [step["may_be_reused"] for step in plan["steps"]] == [False, True, True, True]
    reusing.run(2, "RoundTask")
    plan = json.loads(reusing.nectar(2, "plan", "--json").out)
    assert plan["counts"] == {"run": 0, "reuse": 2, "skip": 1, "blocked": 0}
    assert plan["steps"][-1]["reuses"].endswith(earlier["LastTask"].name)
    assert "2 to reuse" in reusing.nectar(2, "plan").out
    assert "2 reused, 1 complete before" in reusing.nectar(2, "run").err


def test_code_that_changed_is_run(reusing):
    reusing.run(1)
    reusing.project.chain(CHAIN.replace("middle of ", "center of "))
    assert reusing.run(2)[0]["MiddleTask"] == "succeeded"


def test_force_makes_anew(reusing):
    reusing.run(1)
    reusing.run(2)
    last = json.loads(reusing.nectar(2, "run", "--json", "--force-all").out.splitlines()[-1])
    assert last["counts"]["succeeded"] == 4
    assert last["counts"]["reused"] == 0


def test_an_earlier_target_with_a_flipped_bit_is_not_used(reusing):
    _, earlier = reusing.run(1)
    middle = earlier["MiddleTask"] / "out.txt"
    raw = bytearray(middle.read_bytes())
    raw[0] ^= 1
    os.chmod(middle, 0o644)
    middle.write_bytes(raw)
    statuses, later = reusing.run(2)
    assert statuses["MiddleTask"] == "succeeded"
    assert (later["MiddleTask"] / "out.txt").read_bytes() == b"middle of 0"


def test_an_earlier_target_that_is_gone_is_made_anew(reusing):
    _, earlier = reusing.run(1)
    os.rename(earlier["MiddleTask"], earlier["MiddleTask"].with_name("away"))
    statuses, _ = reusing.run(2)
    assert statuses["MiddleTask"] == "succeeded"
    assert statuses["LastTask"] == "reused"
