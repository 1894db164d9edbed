"""A store that is damaged or cannot be used: a clear sentence, a hint, the right exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TASK = ("etl/daily_chain", "ReportTask")
TEXT = b"plain: day 1\n"


def edited(change):
    """Return a way to damage a record: its document is changed by `change`."""

    def damage(folder: Path) -> None:
        document = json.loads((folder / "record.json").read_text())
        change(document)
        (folder / "record.json").write_text(json.dumps(document))

    return damage


def linked_away(folder: Path, name: str) -> None:
    outside = folder.parents[6] / "outside.txt"
    os.rename(folder / name, outside)
    (folder / name).symlink_to(outside)


DAMAGES = {
    "the record is garbage": lambda folder: (folder / "record.json").write_bytes(b"\x00garbage\xff"),
    "the record is empty": lambda folder: (folder / "record.json").write_bytes(b""),
    "the record is cut": lambda folder: os.truncate(folder / "record.json", 300),
    "the record is a list": lambda folder: (folder / "record.json").write_text("[1, 2]"),
    "the record lacks its files": edited(lambda document: document.pop("files")),
    "the record names no output": edited(lambda document: document.update(files=[])),
    "the record is of another key": edited(lambda document: document.update(path=document["path"][:-4] + "0000")),
    "the record points out of the target": edited(
        lambda document: document["files"][0].update(object="../../../../../../chains/etl/daily_chain.py")
    ),
    "the record is a link": lambda folder: linked_away(folder, "record.json"),
    "the record is a folder": lambda folder: (os.unlink(folder / "record.json"), os.mkdir(folder / "record.json")),
    "the file is missing": lambda folder: (folder / "out.txt").unlink(),
    "the file is shorter": lambda folder: os.truncate(folder / "out.txt", 3),
    "the file is a link": lambda folder: linked_away(folder, "out.txt"),
    "the file is a folder": lambda folder: (os.unlink(folder / "out.txt"), os.mkdir(folder / "out.txt")),
    "there is no record": lambda folder: (folder / "record.json").unlink(),
}


@pytest.mark.parametrize(
    "damage",
    [pytest.param(one, id=name) for name, one in DAMAGES.items()],
)
def test_a_damaged_target_is_seen_kept_and_made_again(made, damage):
    folder = made.folder(*TASK)
    damage(folder)
    before = {place.name: place.read_bytes() for place in folder.iterdir() if place.is_file()}
    shown = made.nectar("show", "--json", *TASK)
    assert shown.code == 1
    assert shown.json["state"] in ("invalid", "leftover")
    assert shown.json["problem"] or shown.json["files"]

    answer = made.nectar("run", *TASK)
    assert answer.code == 0, answer
    assert "1 task made" in answer.err
    assert (folder / "out.txt").read_bytes() == TEXT
    assert not (folder / "out.txt").is_symlink()
    assert answer.out == f"{folder}/out.txt\n"
    [aside] = (folder.parent / ".quarantine" / folder.name).iterdir()
    assert {place.name: place.read_bytes() for place in aside.iterdir() if place.is_file()} == before


def test_status_tells_of_a_damaged_target_and_counts_the_others(made):
    (made.folder(*TASK) / "out.txt").unlink()
    answer = made.nectar("status", "--json")
    assert answer.code == 0
    assert [(one["complete"], one["broken"]) for one in answer.json["tasks"]] == [(1, 0), (0, 1)]
    assert "out.txt" in answer.json["tasks"][1]["problems"][0]
    assert "out.txt" in made.nectar("status").err


def test_verify_finds_a_flipped_bit_puts_the_target_aside_and_the_next_run_makes_it_again(made):
    folder = made.folder(*TASK)
    content = bytearray((folder / "out.txt").read_bytes())
    content[2] ^= 1
    (folder / "out.txt").write_bytes(content)
    assert "nothing to do" in made.nectar("run", *TASK).err, "only verify looks at the bytes"
    verified = made.nectar("verify", "--json")
    assert verified.code == 1
    [bad] = [one for one in verified.json if one["problem"]]
    assert "out.txt" in bad["problem"]
    assert (made.store / bad["quarantined"] / "out.txt").read_bytes() == bytes(content)
    assert not folder.exists()
    assert made.nectar("verify").code == 0
    assert "1 task made" in made.nectar("run", *TASK).err
    assert (folder / "out.txt").read_bytes() == TEXT


def test_verify_of_one_chain_leaves_the_others_alone(made):
    folder = made.folder(*TASK)
    (folder / "out.txt").write_text("other")
    made.file("chains/etl/other_chain.py", "")
    assert made.nectar("verify", "etl/other_chain").code == 0
    assert made.nectar("verify", str(folder.relative_to(made.store))).code == 1
    assert not folder.exists()


def test_a_link_planted_as_target_is_replaced_and_what_it_leads_to_stays(made, tmp_path):
    folder = made.folder(*TASK)
    outside = tmp_path / "outside"
    os.rename(folder, outside)
    folder.symlink_to(outside)
    before = {place.name: place.read_bytes() for place in outside.iterdir() if place.is_file()}
    assert "not a folder" in made.nectar("explain", *TASK).out
    assert "1 task made" in made.nectar("run", *TASK).err
    assert folder.is_dir() and not folder.is_symlink()
    assert {place.name: place.read_bytes() for place in outside.iterdir() if place.is_file()} == before


def test_a_link_planted_as_a_folder_of_the_prefix_lets_nothing_be_published_outside(project, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    place = project.store / "chains/etl/daily_chain"
    place.mkdir(parents=True)
    (place / "ReportTask").symlink_to(outside)
    answer = project.nectar("run", *TASK)
    assert answer.code != 0
    assert answer.out == ""
    assert "symbolic link" in answer.err
    assert [one for one in outside.rglob("*") if one.is_file()] == [outside / "mine.txt"]
    assert project.nectar("path", "--json", "etl/daily_chain", "LoadTask", "--day", "1").json["complete"]


def test_a_link_planted_in_the_prefix_lets_no_folder_be_made_outside(project, tmp_path):
    (tmp_path / "outside").mkdir()
    (project.store / "chains/etl/daily_chain").mkdir(parents=True)
    (project.store / "chains/etl/daily_chain/ReportTask").symlink_to(tmp_path / "outside")
    project.nectar("run", *TASK)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_planted_in_the_prefix_is_answered_with_a_hint(project, tmp_path):
    (tmp_path / "outside").mkdir()
    (project.store / "chains/etl/daily_chain").mkdir(parents=True)
    (project.store / "chains/etl/daily_chain/ReportTask").symlink_to(tmp_path / "outside")
    assert "remove the link" in project.nectar("run", *TASK).err


def test_a_target_behind_a_link_in_the_prefix_is_complete_for_all_commands_or_for_none(made, tmp_path):
    place = made.folder(*TASK).parent
    os.rename(place, tmp_path / "outside")
    place.symlink_to(tmp_path / "outside")
    complete = made.nectar("path", "--json", *TASK).json["complete"]
    counted = [one["task"] for one in made.nectar("status", "--json").json["tasks"]]
    assert complete == ("chains/etl/daily_chain/ReportTask" in counted)


def test_verify_names_a_link_planted_as_target(made, tmp_path):
    folder = made.folder(*TASK)
    os.rename(folder, tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside")
    assert made.nectar("verify").code == 1


def test_what_a_newer_nectar_made_is_left_as_it_is_by_every_command(project):
    folder = project.make(*TASK)
    edited(lambda document: document.update(schema=99))(folder)
    before = (folder / "record.json").read_bytes()
    ran = project.nectar("run", *TASK)
    assert ran.code == 1 and "update Nectar" in ran.err
    assert project.nectar("verify").code == 1
    assert "newer Nectar" in project.nectar("plan", *TASK).out
    assert (folder / "record.json").read_bytes() == before


@pytest.mark.parametrize("command", ["run", "adopt"])
def test_a_store_without_permission_is_named_with_the_fix(project, unprivileged, command):
    project.store.mkdir(mode=0o555)
    project.file("given/out.txt", "x")
    extra = ["--from", str(project.root / "given")] if command == "adopt" else []
    words = [*unprivileged, str(Path(sys.executable).with_name("nectar")), command, *extra, *TASK]
    done = subprocess.run(words, cwd=project.root, env=project.environment(), capture_output=True, text=True)
    assert done.returncode == 5, done
    assert done.stdout == ""
    assert "permission denied" in done.stderr
    assert "hint: give this user permission" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(project.store.iterdir()) == []


def test_doctor_names_a_store_that_cannot_be_written(project):
    project.store.write_text("I am a file")
    answer = project.nectar("doctor")
    assert answer.code == 5
    assert "Traceback" not in answer.err
    assert "cannot be written" in answer.out


@pytest.mark.parametrize("words", [["status"], ["verify"], ["plan", *TASK], ["explain", *TASK], ["show", *TASK]])
def test_a_store_that_cannot_be_read_is_an_error_and_not_an_empty_one(project, words):
    project.store.write_text("I am a file")
    project.nectar(*words).failed(5, "local_targets")


@pytest.mark.parametrize(
    ("variables", "fragments"),
    [
        ({"NECTAR_STORE": "ftp://x/y"}, ["ftp://x/y"]),
        ({"ENV": "qa"}, ["PROJECT_BUCKET"]),
        ({"NECTAR_DRIFT": "maybe", "NECTAR_ATTEMPTS_KEPT": "-1"}, ["`maybe`", "`-1`"]),
    ],
    ids=["unknown store", "no bucket", "two wrong settings"],
)
def test_wrong_settings_are_named_all_at_once(project, variables, fragments):
    project.nectar("run", *TASK, **variables).failed(2, *fragments)
    assert not project.store.exists()


def test_a_wrong_configuration_file_is_named(project):
    project.file("configuration/nectar.toml", '[stoer]\nurl = "x"\n[task]\ndrift = "maybe"\ndirft = 1\n')
    project.nectar("list").failed(2, "[stoer]", "`maybe`", "`dirft`", "configuration/nectar.toml")
    project.file("configuration/nectar.toml", "drift = [")
    project.nectar("list").failed(2, "nectar.toml")


@pytest.mark.parametrize("word", ["/etc/passwd", "../../etc/passwd", "chains/../../etc", "zzz"])
def test_no_text_leads_out_of_the_store(project, word):
    for command in ("show", "logs"):
        answer = project.nectar(command, word)
        assert answer.code in (1, 2)
        assert (answer.out, "root:" in answer.err) == ("", False)
        assert answer.err.startswith(f"error: `{word}` is not the path of a target\nhint: ")


def test_a_text_that_is_no_targets_path_is_a_matter_of_usage(project):
    project.nectar("show", "zzz").failed(2)


@pytest.mark.parametrize("command", ["verify", "status"])
def test_no_text_leads_a_walk_out_of_the_store(made, command):
    made.nectar(command, "../..").failed(2)
