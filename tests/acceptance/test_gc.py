"""`nectar gc` lists what no kept root needs, deletes it when told to, and never what is being written or read."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nectar.address import Address
from nectar.stores import LocalStore

CHAIN = "etl/kept_chain"
KEPT = f"{CHAIN}/ReportTask"
NOW = ("--older", "0m")
LIMIT_S = 60.0

SOURCE = '''
"""A report that is made of what it requires, and of what it finds out that it needs."""

class RawTask(nectar.Task):
    day = luigi.IntParameter()

    def run(self):
        self.dump("raw" * 1000 if self.day == 9 else f"raw {self.day}")

class LookupTask(nectar.Task):
    counts_inputs = False

    def run(self):
        self.dump("found")

class CleanTask(nectar.Task):
    day = luigi.IntParameter()

    def requires(self):
        return RawTask(day=self.day)

    def run(self):
        self.dump("clean " + self.input().load())

class ReportTask(nectar.Task):
    day = luigi.IntParameter()

    def requires(self):
        return {"clean": CleanTask(day=self.day)}

    def run(self):
        yield LookupTask()
        self.dump("report on " + self.input()["clean"].load())
'''
HELD = """
import pathlib

class HeldTask(nectar.Task):
    def run(self):
        pathlib.Path("bell").write_text("ding")
        self.dump(pathlib.Path("go").read_text())
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory, pattern):
    """A project with a report, all that it stands on, and targets of which it needs none."""
    made = type(pattern)(tmp_path_factory.mktemp("kept") / "project")
    made.chain(CHAIN, SOURCE)
    day = ("--day", "1")
    assert made.nectar("run", CHAIN, "ReportTask", *day, "--and", CHAIN, "CleanTask", "--day", "9").code == 0
    return made


@pytest.fixture
def kept(model, tmp_path):
    return model.copy(tmp_path / "project")


def paths(answer):
    """Return what is listed, by kind."""
    assert answer.code == 0, answer
    return {(one["kind"], one["path"].split("/")[3]): one["path"] for one in answer.json["garbage"]}


def target(project, task, day):
    words = ("--day", str(day)) if task != "LookupTask" else ()
    return project.nectar("path", "--json", CHAIN, task, *words).json["target"]


def made_targets(project):
    return {one.path for one in LocalStore(str(project.store)).walk()}


def changed_record(project, path, **changes):
    place = project.store / path / "record.json"
    os.chmod(place, 0o644)
    place.write_text(json.dumps(json.loads(place.read_text()) | changes), encoding="utf-8")


# What is listed, and what goes


def test_without_a_word_of_consent_nothing_is_changed_and_the_last_line_says_how_to_delete(kept):
    before = kept.kept()
    answer = kept.nectar("gc", "--keep", KEPT, *NOW)
    assert answer.code == 0
    last = answer.out.splitlines()[-1]
    assert "nothing was deleted" in last and f"nectar gc --keep {KEPT} --older 0m --yes" in last
    assert kept.kept() == before


def test_what_a_kept_task_was_made_from_stays_and_the_rest_goes(kept):
    garbage = {
        ("unneeded", "RawTask"): target(kept, "RawTask", 9),
        ("unneeded", "CleanTask"): target(kept, "CleanTask", 9),
    }
    assert paths(kept.nectar("gc", "--json", "--keep", KEPT, *NOW)) == garbage
    before = made_targets(kept)
    done = kept.nectar("gc", "--yes", "--keep", KEPT, *NOW)
    assert done.code == 0, done
    assert "deleted 2 folders" in done.out.splitlines()[-1]
    assert made_targets(kept) == before - set(garbage.values())
    assert {path.split("/")[3] for path in made_targets(kept)} == {"RawTask", "CleanTask", "ReportTask", "LookupTask"}
    assert kept.nectar("verify").code == 0
    assert "nothing to do" in kept.nectar("run", CHAIN, "ReportTask", "--day", "1").err
    again = kept.nectar("run", CHAIN, "CleanTask", "--day", "9")
    assert again.code == 0, again
    assert Path(again.out.strip()).read_text() == "clean " + "raw" * 1000
    assert made_targets(kept) == before


def test_the_largest_comes_first_and_a_total_at_the_end(kept):
    found = kept.nectar("gc", "--json", "--keep", KEPT, *NOW).json
    sizes = [one["size"] for one in found["garbage"]]
    assert sizes == sorted(sizes, reverse=True)
    assert found["size"] == sum(sizes)
    for one in found["garbage"]:
        place = kept.store / one["path"]
        assert one["size"] == sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    assert (found["needed"], found["kept"]) == (4, {KEPT: 1})
    assert found["store"] == kept.store.as_uri()
    assert found["deleted"] == {"count": 0, "size": 0}
    text = kept.nectar("gc", "--keep", KEPT, *NOW).out.splitlines()
    assert [line.split()[-1] for line in text[1:3]] == [one["path"] for one in found["garbage"]]
    assert text[3].startswith("2 folders, ")


def test_nothing_fresh_is_listed_unless_asked_for(kept):
    nobody = kept.nectar("gc", "--json")
    assert (nobody.code, nobody.json["garbage"]) == (0, [])
    old = target(kept, "RawTask", 9)
    changed_record(kept, old, ended_at="2020-01-01T00:00:00.000000+00:00")
    assert paths(kept.nectar("gc", "--json")) == {("unneeded", "RawTask"): old}
    assert paths(kept.nectar("gc", "--json", "--older", "999d")) == {("unneeded", "RawTask"): old}
    assert paths(kept.nectar("gc", "--json", "--older", "99999d")) == {}


def test_only_what_is_larger_is_listed_when_asked_for(kept):
    sizes = sorted(one["size"] for one in kept.nectar("gc", "--json", "--keep", KEPT, *NOW).json["garbage"])
    larger = kept.nectar("gc", "--json", "--keep", KEPT, *NOW, "--larger", str(sizes[0])).json
    assert [one["size"] for one in larger["garbage"]] == sizes[1:]
    assert kept.nectar("gc", "--json", *NOW, "--larger", "1MB").json["garbage"] == []


WAYS = {
    "a path": lambda project: target(project, "ReportTask", 1),
    "the beginning of a key": lambda project: target(project, "ReportTask", 1).rpartition("/")[2][:12],
    "a task": lambda project: KEPT,
    "a task of a chain without its ending": lambda project: "etl/kept/ReportTask",
    "a task by its folder": lambda project: f"chains/{KEPT}",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_is_kept_is_named_by(kept, way):
    found = kept.nectar("gc", "--json", "--keep", way(kept), *NOW)
    assert {path.rpartition("/")[2] for path in paths(found).values()} == {
        target(kept, task, 9).rpartition("/")[2] for task in ("RawTask", "CleanTask")
    }


def test_a_whole_chain_is_kept(kept):
    assert paths(kept.nectar("gc", "--json", "--keep", CHAIN, *NOW)) == {}


def test_what_the_settings_keep_is_kept_beside_what_is_named(kept):
    kept.file("configuration/nectar.toml", f'[gc]\nkeep = ["{KEPT}"]\n')
    assert {task for _, task in paths(kept.nectar("gc", "--json", *NOW))} == {"RawTask", "CleanTask"}
    more = kept.nectar("gc", "--json", "--keep", target(kept, "RawTask", 9), *NOW)
    assert {task for _, task in paths(more)} == {"CleanTask"}
    assert kept.nectar("gc", "--yes", *NOW).code == 0
    assert len(made_targets(kept)) == 4


def test_an_input_that_lies_in_another_store_leads_on(kept):
    """A kept root's inputs are followed through the local store while the store of the settings is another one."""
    kept.chain(
        "etl/near_chain",
        """
        class FarTask(nectar.Task):
            def run(self):
                self.dump("far")

        class NearTask(nectar.LocalTask):
            def requires(self):
                return FarTask()
            def run(self):
                self.dump("near " + self.input().load())

        class LastTask(nectar.Task):
            def requires(self):
                return NearTask()
            def run(self):
                self.dump("last " + self.input().load())
        """,
    )
    far = {"NECTAR_STORE": str(kept.root / "far")}
    assert kept.nectar("run", "etl/near_chain", "LastTask", **far).code == 0
    found = kept.nectar("gc", "--json", "--keep", "etl/near_chain/LastTask", *NOW, **far)
    assert (found.json["garbage"], found.json["needed"]) == ([], 3)


# What is broken


def test_what_is_broken_or_in_quarantine_is_listed_and_goes(kept):
    invalid, leftover, bad = target(kept, "RawTask", 9), target(kept, "CleanTask", 9), target(kept, "LookupTask", 0)
    (kept.store / invalid / "out.txt").unlink()
    (kept.store / leftover / "record.json").unlink()
    changed = kept.store / bad / "out.txt"
    os.chmod(changed, 0o644)
    changed.write_text("f0und")
    [verified] = [one for one in kept.nectar("verify", "--json", f"{CHAIN}/LookupTask").json if one["problem"]]
    found = kept.nectar("gc", "--json", "--keep", KEPT, *NOW)
    assert paths(found) == {
        ("broken", "RawTask"): invalid,
        ("broken", "CleanTask"): leftover,
        ("quarantined", "LookupTask"): verified["quarantined"],
    }
    problems = {one["kind"]: one["problem"] for one in found.json["garbage"] if one["path"] != leftover}
    assert "`out.txt` is missing" in problems["broken"] and problems["quarantined"] is None
    done = kept.nectar("gc", "--json", "--yes", "--keep", KEPT, *NOW).json
    assert {one["outcome"] for one in done["garbage"]} == {"deleted"}
    assert done["deleted"] == {"count": 3, "size": done["size"]}
    assert len(made_targets(kept)) == 3
    assert not list(kept.store.rglob(".quarantine")) and not list(kept.store.rglob(".trash"))


def test_what_is_named_to_be_kept_stays_though_it_is_broken(kept):
    report = target(kept, "ReportTask", 1)
    (kept.store / report / "record.json").unlink()
    found = paths(kept.nectar("gc", "--json", "--keep", report, "--keep", f"{CHAIN}/CleanTask", *NOW))
    assert report not in found.values()


def test_what_a_newer_nectar_made_is_neither_listed_nor_deleted(kept):
    newer = target(kept, "CleanTask", 9)
    changed_record(kept, newer, schema=99)
    assert set(paths(kept.nectar("gc", "--json", "--keep", KEPT, *NOW))) == {("unneeded", "RawTask")}
    assert kept.nectar("gc", "--yes", "--keep", KEPT, *NOW).code == 0
    assert newer in made_targets(kept)


def test_where_a_newer_nectar_made_what_is_kept_nothing_is_deleted(kept):
    """Nobody here can say what it was made from."""
    changed_record(kept, target(kept, "CleanTask", 1), schema=99)
    before = kept.kept()
    kept.nectar("gc", "--yes", "--keep", KEPT, *NOW).failed(1, "CleanTask", "schema 99", "update Nectar")
    assert kept.kept() == before


# What is refused


def test_consent_without_anything_to_keep_is_refused(kept):
    before = kept.kept()
    kept.nectar("gc", "--yes", *NOW).failed(2, "nothing is named to be kept", "--keep", "[gc]")
    assert kept.kept() == before


def test_consent_is_refused_where_there_is_nothing_yet_of_what_is_kept(kept):
    kept.chain("etl/new_chain", "class NewTask(nectar.Task):\n    pass\n")
    before = kept.kept()
    listed = kept.nectar("gc", "--keep", "etl/new_chain/NewTask", *NOW)
    assert (listed.code, "nothing of `etl/new_chain/NewTask`" in listed.err) == (0, True)
    assert "--yes" not in listed.out
    kept.nectar("gc", "--yes", "--keep", "etl/new_chain/NewTask", *NOW).failed(2, "there is no target")
    assert kept.kept() == before


BAD = {
    "chain": (["--keep", "etl/kpt_chain"], "etl/kpt_chain"),
    "task": (["--keep", f"{CHAIN}/ReprtTask"], "did you mean `ReportTask`?"),
    "key": (["--keep", "0000000"], "0000000"),
    "path": (["--keep", f"chains/{KEPT}/{'0' * 32}"], "0" * 32),
    "a path out of the store": (["--keep", "../.."], "../.."),
    "age": (["--older", "1w"], "`1w` is no age"),
    "size": (["--larger", "big"], "`big` is no size"),
    "a word too many": (["etl/kept_chain"], "etl/kept_chain"),
}


@pytest.mark.parametrize(("words", "said"), BAD.values(), ids=BAD)
def test_what_cannot_be_understood_is_refused_before_anything_is_deleted(kept, words, said):
    before = kept.kept()
    kept.nectar("gc", "--yes", "--keep", KEPT, *words).failed(2, said)
    assert kept.kept() == before


def test_a_bad_setting_is_refused(kept):
    kept.file("configuration/nectar.toml", "[gc]\nkeep = 7\n")
    kept.nectar("gc").failed(2, "`keep` is `7`")


def test_a_store_that_is_not_there_has_nothing_to_delete(kept):
    answer = kept.nectar("gc", NECTAR_STORE="nowhere")
    assert (answer.code, "nothing" in answer.out) == (0, True)
    assert not (kept.root / "nowhere").exists()


# What is being written or read


def program(kind):
    if kind == "luigi":
        return [sys.executable, "-m", "luigi", "--module", "chains.etl.held_chain", "HeldTask", "--local-scheduler"]
    task = "from chains.etl.held_chain import HeldTask; import luigi"
    if kind == "luigi.build":
        return [sys.executable, "-c", f"{task}; luigi.build([HeldTask()], local_scheduler=True, log_level='ERROR')"]
    if kind == "a lone task":
        return [sys.executable, "-c", f"{task}; HeldTask().run()"]
    words = {"nectar run": (), "processes": ("--workers", "2"), "luigi under nectar": ("--executor", "luigi")}[kind]
    return [str(Path(sys.executable).parent / "nectar"), "run", *words, "etl/held_chain", "HeldTask"]


@contextlib.contextmanager
def at_work(project, kind):
    """Let a task be at work until what is yielded is called; that waits for its end."""
    project.chain("etl/held_chain", HELD)
    wait_for_the_task = project.bell()
    os.mkfifo(project.root / "go")
    process = subprocess.Popen(
        program(kind), cwd=project.root, env=project.environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )

    def end():
        (project.root / "go").write_text("held")
        assert process.wait(LIMIT_S) == 0

    try:
        wait_for_the_task()
        yield end
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait(LIMIT_S)


@pytest.mark.parametrize(
    "kind", ["nectar run", "processes", "luigi under nectar", "luigi", "luigi.build", "a lone task"]
)
def test_nothing_is_deleted_while_a_run_is_at_work(kept, kind):
    before = made_targets(kept)
    with at_work(kept, kind) as end:
        refused = kept.nectar("gc", "--yes", "--keep", KEPT, *NOW)
        refused.failed(5, "a run is at work", "nothing is deleted")
        assert kept.nectar("gc", "--keep", KEPT, *NOW).code == 0
        assert made_targets(kept) == before
        end()
    assert kept.nectar("gc", "--yes", "--keep", KEPT, *NOW).code == 0
    assert len(made_targets(kept)) == len(before) - 2


def test_a_run_that_was_killed_holds_nobody_up(kept):
    with at_work(kept, "nectar run"):
        pass
    assert kept.nectar("gc", "--yes", "--keep", KEPT, *NOW).code == 0


def test_a_run_that_begins_while_targets_are_deleted_waits(kept):
    before = made_targets(kept)  # no look into `.locks`: whoever closes that file drops its process's locks
    alone = LocalStore(str(kept.store)).alone()
    with kept.started("run", CHAIN, "CleanTask", "--day", "5", stderr=subprocess.DEVNULL) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2.0)
        assert made_targets(kept) == before
        alone.release()
        assert process.wait(LIMIT_S) == 0
    assert len(made_targets(kept)) == len(before) + 2


def test_a_target_that_is_being_made_stays_and_is_said_to(kept):
    raw, clean = target(kept, "RawTask", 9), target(kept, "CleanTask", 9)
    lease = LocalStore(str(kept.store)).lease(Address.parse(raw))
    assert lease is not None
    done = kept.nectar("gc", "--json", "--yes", "--keep", KEPT, *NOW)
    assert {one["path"]: one["outcome"] for one in done.json["garbage"]} == {raw: "being made", clean: "deleted"}
    said = kept.nectar("gc", "--yes", "--keep", KEPT, *NOW)
    assert (said.code, f"{raw} (being made: it stays)" in said.out) == (0, True)
    assert said.out.splitlines()[-1].endswith("1 stayed")
    lease.release()
    assert kept.nectar("gc", "--yes", "--keep", KEPT, *NOW).code == 0
    assert raw not in made_targets(kept)
