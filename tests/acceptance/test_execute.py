"""`nectar execute --file`: a description is carried out as chains are, by the same engine."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nectar.description import Dag

PLACE = "chains/dag/description/CommandTask"


def words() -> Dag:
    """Three tasks, one after the other, and one beside them."""
    dag = Dag({"schedule": "@daily"})
    dag.task("words", {"command": "echo listing; printf 'one two\\n' > $NECTAR_OUTPUT", "sha": "1"})
    dag.task("count", {"command": "echo oops >&2; wc -w < $NECTAR_INPUT_words > $NECTAR_OUTPUT"})
    dag.task("shout", {"command": ["/bin/sh", "-c", "tr a-z A-Z < $NECTAR_INPUT_words > $NECTAR_OUTPUT"]})
    dag.task("report", {"command": "cat $NECTAR_INPUT_shout $NECTAR_INPUT_count > $NECTAR_OUTPUT"})
    for name, other in (("count", "words"), ("shout", "words"), ("report", "count"), ("report", "shout")):
        dag[name].add_dep(dag[other])
    return dag


def one(command: Any, **spec: Any) -> Dag:
    dag = Dag()
    dag.task("only", {"command": command, **spec})
    return dag


@pytest.fixture
def save(project) -> Callable[..., str]:
    """Save a description in the project's folder."""

    def save(dag: Dag, name: str = "x.dag") -> str:
        dag.save(project.root / name)
        return name

    return save


def folders(project, dag: Dag) -> dict[str, Path]:
    return {name: project.store / PLACE / task["output"][:32] for name, task in dag.encode()["tasks"].items()}


@pytest.mark.parametrize("name", ["x.dag", "x.json"])
@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--executor", "luigi")], ids=" ".join)
def test_outputs_lie_under_their_ids_with_records_logs_and_params_however_they_are_made(project, save, name, options):
    dag = words()
    answer = project.nectar("execute", *options, "--file", save(dag, name))
    assert answer.code == 0, answer
    targets = folders(project, dag)
    assert answer.out == f"{targets['report'] / 'out.txt'}\n"
    assert (targets["report"] / "out.txt").read_text() == "ONE TWO\n2\n"
    assert (targets["words"] / "log" / "stdout.log").read_text() == "listing\n"
    assert (targets["count"] / "log" / "stderr.log").read_text() == "oops\n"
    for task, folder in targets.items():
        record = json.loads((folder / "record.json").read_bytes())
        encoded = dag.encode()["tasks"][task]
        assert record["output_id"] == encoded.pop("output") and record["identity"] == encoded
        assert json.loads((folder / "params.txt").read_bytes()) == dag[task].spec
        assert {path: entry["path"] for path, entry in record["inputs"].items()} == {
            other: f"{PLACE}/{targets[other].name}" for other in dag[task].inputs
        }
    before = project.kept()
    again = project.nectar("execute", *options, "--file", name)
    assert (again.code, again.out) == (0, answer.out) and "nothing to do" in again.err
    assert project.kept() == before


def test_what_was_made_before_is_skipped_in_whichever_file_and_by_whatever_name_it_is_described(project, save):
    assert project.nectar("execute", "-f", save(words())).code == 0
    other = Dag()
    other.task("renamed", words().words.spec)
    other.task("length", {"command": "wc -c < $NECTAR_INPUT_text > $NECTAR_OUTPUT"}).add_dep(other.renamed, "text")
    events = project.nectar("execute", "--json", "-f", save(other, "y.dag")).lines
    assert {step["task"].partition("(name=")[2]: step["status"] for step in events[-1]["steps"]} == {
        "renamed)": "skipped",
        "length)": "succeeded",
    }


def test_a_changed_spec_remakes_its_descendants_and_takes_files_again_where_bytes_are_equal(project, save):
    dag = words()
    project.nectar("execute", "-f", save(dag))
    dag.words.spec["sha"] = "2"
    events = project.nectar("execute", "--json", "-f", save(dag)).lines
    status = {step["task"].partition("(name=")[2][:-1]: step["status"] for step in events[-1]["steps"]}
    assert status == {"words": "succeeded", "count": "reused", "shout": "reused", "report": "reused"}


def test_each_command_runs_in_an_empty_folder_of_its_own_that_is_gone_afterwards(project, save):
    command = 'ls -A; touch litter; pwd > $NECTAR_OUTPUT; test "$NECTAR_PROJECT" = "' + str(project.root) + '"'
    dag = Dag()
    for name in ("a", "b"):
        dag.task(name, {"command": f"{command} # {name}"})
    assert project.nectar("execute", "-f", save(dag)).code == 0
    targets = folders(project, dag)
    places = {(folder / "out.txt").read_text().strip() for folder in targets.values()}
    assert len(places) == 2 and not any(map(os.path.exists, places))
    assert all((folder / "log" / "stdout.log").read_text() == "" for folder in targets.values())
    assert all({path.name for path in folder.iterdir()} >= {"out.txt"} for folder in targets.values())
    assert not list(project.store.rglob("litter"))


def test_words_reach_a_command_as_they_are(project, save):
    odd = ["$(id)", "; id", "a\nb", "--module os", "{{7*7}}", "ü'\""]
    program = "import json, os, sys; open(os.environ['NECTAR_OUTPUT'], 'w').write(json.dumps(sys.argv[1:]))"
    dag = one([sys.executable, "-c", program, *odd])
    answer = project.nectar("execute", "-f", save(dag))
    assert answer.code == 0, answer
    assert json.loads(Path(answer.out.strip()).read_text()) == odd


def test_a_command_sees_nothing_of_another_task_s_places(project, save):
    command = "env | grep -c NECTAR_INPUT > $NECTAR_OUTPUT || true"
    outer = {"NECTAR_INPUT_old": "/etc/passwd", "NECTAR_OUTPUT": "elsewhere"}
    answer = project.nectar("execute", "-f", save(one(command)), **outer)
    assert answer.code == 0, answer
    assert Path(answer.out.strip()).read_text() == "0\n"


def test_a_command_that_fails_stops_what_stands_on_it_and_the_next_run_goes_on_from_there(project, save):
    dag = words()
    dag.count.spec["command"] = "echo cannot count >&2; test -e $NECTAR_PROJECT/mended && echo 2 > $NECTAR_OUTPUT"
    answer = project.nectar("execute", "-f", save(dag))
    assert answer.code == 1 and answer.out == ""
    assert "CommandFailed: the command of `count` ended with exit code 1" in answer.err
    assert "hint: mend it and run again: nectar execute --file x.dag" in answer.err
    logs = project.nectar("logs", "--stderr", f"{PLACE}/{folders(project, dag)['count'].name}").out
    assert logs.startswith("cannot count\n") and "CommandFailed" in logs and "Traceback" not in logs
    project.file("mended", "")
    events = project.nectar("execute", "--json", "-f", "x.dag").lines
    status = {step["task"].partition("(name=")[2][:-1]: step["status"] for step in events[-1]["steps"]}
    assert status == {"words": "skipped", "shout": "skipped", "count": "succeeded", "report": "succeeded"}


@pytest.mark.parametrize(
    ("command", "fragment"),
    [
        (["/no/such/program"], "cannot be started: `/no/such/program`: no such file"),
        ("true", "ended well without writing its output"),
        ("mkdir $NECTAR_OUTPUT", "ended well without writing its output"),
        ("kill -9 $$", "was ended by SIGKILL"),
        ("no_such_command_here", "ended with exit code 127"),
    ],
)
def test_how_a_command_failed_is_told_in_one_sentence(project, save, command, fragment):
    answer = project.nectar("execute", "-f", save(one(command)))
    assert answer.code == 1 and fragment in answer.err and "Traceback" not in answer.err, answer


def test_a_command_is_tried_as_often_as_luigi_s_configuration_says(project, save):
    project.file("configuration/luigi.cfg", "[scheduler]\nretry_count = 3\n")
    dag = one('echo x >> "$NECTAR_PROJECT/tries"; test $(wc -l < "$NECTAR_PROJECT/tries") = 3 && echo > $NECTAR_OUTPUT')
    assert project.nectar("execute", "-f", save(dag)).code == 0
    [folder] = folders(project, dag).values()
    assert json.loads((folder / "record.json").read_bytes())["attempt"]["number"] == 3


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(project, save):
    project.file("configuration/luigi.cfg", "[worker]\ntimeout = 1\n")
    answer = project.nectar("execute", "-f", save(one('sleep 1000 & echo $! > "$NECTAR_PROJECT/pid"; wait')))
    assert answer.code == 1 and "time limit" in answer.err
    _until(lambda: not _is_at_work(int((project.root / "pid").read_text())))


def test_a_run_of_a_description_is_in_the_history_with_its_steps_and_logs(project, save):
    assert project.nectar("execute", "-f", save(words())).code == 0
    [run] = project.nectar("runs", "--json").json["rows"]
    told = project.nectar("runs", "--json", run["id"]).json
    assert sorted(step["task"] for step in told["steps"]) == [
        f"chains.dag.description.CommandTask(name={name})" for name in ("count", "report", "shout", "words")
    ]
    assert "listing" in project.nectar("logs", run["id"]).out
    project.nectar("rerun", run["id"]).failed(2, "is of no chain")  # the history holds no commands


def test_a_target_of_a_description_is_shown_counted_verified_and_kept(project, save):
    assert project.nectar("execute", "-f", save(words())).code == 0
    key = folders(project, words())["words"].name
    shown = project.nectar("show", key)
    assert shown.code == 0 and "sha       1" in shown.out and "command   echo listing" in shown.out
    [counted] = project.nectar("status", "--json", "dag/description").json["tasks"]
    assert (counted["task"], counted["complete"]) == (PLACE, 4)
    assert project.nectar("verify", "dag/description").code == 0
    swept = project.nectar("gc", "--json", "--keep", f"{PLACE}/{folders(project, words())['report'].name}").json
    assert swept["needed"] == 4


def test_a_dry_run_says_what_would_be_done_and_does_nothing(project, save):
    answer = project.nectar("execute", "--dry-run", "-f", save(words()))
    assert answer.code == 0 and "run     CommandTask(name=words)" in answer.out
    assert not list(project.store.rglob("record.json"))


def test_a_part_of_a_description_is_selected_by_the_names_of_its_tasks(project, save):
    answer = project.nectar("execute", "--select", "*CommandTask(name=count)", "--tag", "a=b", "-f", save(words()))
    assert answer.code == 0, answer
    made = {name for name, folder in folders(project, words()).items() if folder.exists()}
    assert made == {"words", "count"} and Path(answer.out.strip()).parent.parent == project.store / PLACE
    assert project.nectar("runs", "--json", "--tag", "a=b").json["rows"]


# What cannot be carried out


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "nothing that can be carried out"),
        (b"steps:\n  first: 1\n", "nothing that can be carried out"),
        (b"d4:meta", "no description that can be read: byte 7"),
        (b'{"meta": {}, "tasks": {}}', "it has no task"),
        (b'{"schema": 2, "meta": {}, "tasks": {}}', "schema 2"),
        (b'{"meta": {}, "tasks": {"a": {"inputs": {}, "output": "x"}}}', "`output` of `a`"),
    ],
)
def test_a_file_that_is_no_description_is_a_usage_error_that_names_it(project, content, fragment):
    (project.root / "x.dag").write_bytes(content)
    project.nectar("execute", "--file", "x.dag").failed(2, "`x.dag`", fragment)


def test_a_missing_file_is_a_usage_error(project):
    project.nectar("execute", "--file", "missing.dag").failed(2, "`missing.dag` cannot be read")


def test_the_description_of_a_chain_is_refused_with_the_way_to_run_it(project):
    project.file("chain.json", project.nectar("describe", "etl/daily_chain", "ReportTask").out)
    project.nectar("execute", "--file", "chain.json").failed(2, "has no `command`", "nectar run")


def test_a_circle_is_drawn_before_anything_runs(project):
    def task(other: str, own: str) -> dict[str, Any]:
        return {"command": "x", "inputs": {other: other * 64}, "output": own * 64}

    project.file("x.json", json.dumps({"meta": {}, "tasks": {"a": task("b", "a"), "b": task("a", "b")}}))
    project.nectar("execute", "--file", "x.json").failed(2, "in a circle:\n", "└─ ")


# Signals


def _until(condition: Callable[[], Any], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _is_at_work(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


RING = 'echo ring > "$NECTAR_PROJECT/bell"'


def test_ctrl_c_lets_a_command_end_and_begins_nothing_more(project, save):
    wait, go = project.bell(), project.root / "go"
    os.mkfifo(go)
    dag = one(f'{RING}; read line < "$NECTAR_PROJECT/go"; echo done > $NECTAR_OUTPUT')
    dag.task("after", {"command": "echo > $NECTAR_OUTPUT"}).add_dep(dag.only)
    with project.started("execute", "--echo", "-f", save(dag), stderr=-1) as process:
        wait()
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to all in the foreground
        assert any("stopping when" in line for line in process.stderr)
        go.write_text("on\n")
        assert process.wait(60) == 4
    targets = folders(project, dag)
    assert (targets["only"] / "out.txt").read_text() == "done\n" and not targets["after"].exists()


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["inline", "workers"])
def test_term_ends_a_command_with_all_that_it_started_and_publishes_nothing(project, save, options):
    wait = project.bell()
    dag = one(f'sleep 1000 & echo $! $$ > "$NECTAR_PROJECT/pids"; {RING}; wait; echo > $NECTAR_OUTPUT')
    with project.started("execute", *options, "-f", save(dag), stderr=-3, stdout=-3) as process:
        wait()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 4
    for pid in (project.root / "pids").read_text().split():
        _until(lambda pid=pid: not _is_at_work(int(pid)))
    assert not list(project.store.rglob("record.json"))


# Containers


STAND_IN = """#!PYTHON
import os, pathlib, subprocess, sys
words = sys.argv[1:]
if words == ["version"]:
    sys.exit(0)
pathlib.Path(CALLS).open("a").write(repr(words) + "\\n")
if words[0] != "run":
    sys.exit(0)
mounts, values, entry = {}, {}, None
words = words[2:] if words[1] == "--rm" else words
while words[0].startswith("--"):
    option, text, *words = words
    if option == "--mount":
        parts = dict(part.partition("=")[::2] for part in text.split(","))
        mounts[parts["target"]] = parts["source"]
    elif option == "--env":
        name, _, value = text.partition("=")
        values[name] = value
    elif option == "--entrypoint":
        entry = text
for name, value in values.items():
    target = next(one for one in mounts if value == one or value.startswith(one + "/"))
    values[name] = mounts[target] + value[len(target):]
sys.exit(subprocess.run([entry, *words[1:]], env={"PATH": os.environ["PATH"], **values}).returncode)
"""


def stand_in(project) -> str:
    return STAND_IN.replace("PYTHON", sys.executable).replace("CALLS", repr(str(project.root / "calls")))


def engine(project, name: str, source: str) -> dict[str, str]:
    """Put a stand-in for docker or podman, and no other, on the PATH: containers cannot be run in a test."""
    folder = project.root / "bin"
    folder.mkdir(exist_ok=True)
    for tool in ("cat", "env", "grep", "sh", "tr", "wc"):
        with contextlib.suppress(FileExistsError):
            (folder / tool).symlink_to(f"/bin/{tool}" if os.path.exists(f"/bin/{tool}") else f"/usr/bin/{tool}")
    if name:
        place = project.file(f"bin/{name}", source)
        place.chmod(place.stat().st_mode | stat.S_IEXEC)
    return {"PATH": str(folder)}


def in_containers() -> Dag:
    dag = words()
    for task in dag:
        task.spec["image"] = "collage:1"
    return dag


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_a_task_with_an_image_runs_in_a_container_that_sees_its_inputs_and_writes_its_output(project, save, name):
    dag = in_containers()
    path = engine(project, name, stand_in(project))
    answer = project.nectar("execute", "-f", save(dag), **path)
    assert answer.code == 0, answer
    assert Path(answer.out.strip()).read_text() == "ONE TWO\n2\n"
    calls = [ast.literal_eval(line) for line in (project.root / "calls").read_text().splitlines()]
    assert len(calls) == 4 and all(call[:2] == ["run", "--rm"] and "collage:1" in call for call in calls)
    reading = [part for call in calls for part in call if "/nectar/inputs/" in part and "source=" in part]
    assert len(reading) == 4 and all(part.endswith(",readonly") for part in reading)
    assert all(("--user" in call) == (name == "docker") for call in calls)
    for folder in folders(project, dag).values():
        assert {path.name for path in folder.iterdir()} == {"out.txt", "log", "params.txt", "record.json"}


def test_a_container_that_fails_leaves_no_part_of_an_output(project, save):
    path = engine(project, "docker", stand_in(project))
    dag = one("echo half > $NECTAR_OUTPUT; exit 3", image="collage")
    answer = project.nectar("execute", "-f", save(dag), **path)
    assert answer.code == 1 and "ended with exit code 3" in answer.err
    assert not list(project.store.rglob("out.txt*"))


def test_containers_are_refused_before_anything_runs_where_nothing_runs_them(project, save):
    dag = words()
    dag.report.spec["image"] = "collage:1"
    silent = engine(project, "docker", "#!/bin/sh\necho 'Cannot connect to the daemon' >&2\nexit 1\n")
    answer = project.nectar("execute", "-f", save(dag), **silent)
    answer.failed(2, "`report` (`collage:1`)", "`docker` does not answer: Cannot connect", "`podman` is not on")
    assert "install podman" in answer.err and not list(project.store.rglob("record.json"))
    assert project.nectar("execute", "--dry-run", "-f", "x.dag", **silent).code == 0


def test_what_a_container_made_before_needs_none(project, save):
    dag = in_containers()
    path = engine(project, "docker", stand_in(project))
    assert project.nectar("execute", "-f", save(dag), **path).code == 0
    (project.root / "bin" / "docker").unlink()
    answer = project.nectar("execute", "-f", "x.dag", **path)
    assert answer.code == 0 and "nothing to do" in answer.err
    project.nectar("execute", "--force", "-f", "x.dag", **path).failed(2, "`report` (`collage:1`)")


def test_a_container_whose_run_is_stopped_is_ended(project, save):
    wait = project.bell()
    path = engine(project, "docker", stand_in(project))
    dag = one(f"echo ring > {project.root}/bell; read line < {project.root}/never", image="collage")
    os.mkfifo(project.root / "never")
    with project.started("execute", "-f", save(dag), stderr=-3, stdout=-3, variables=path) as process:
        wait()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 4
    run, kill = (ast.literal_eval(line) for line in (project.root / "calls").read_text().splitlines())
    assert kill == ["kill", run[run.index("--name") + 1]]
