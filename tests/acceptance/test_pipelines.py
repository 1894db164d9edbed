"""Pipelines in YAML, carried out by `nectar execute`: order, parameters, failures, branches, catalog, run log."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

GETTING_STARTED = """\
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
DAG_HASH = "ce0676d63e99c34848484f2df1744bab8d45e33a"  # of the seed
#: the keys of a run log, of a step in it and of an attempt, as the seed prints them
RUN_KEYS = "run_id dag_hash use_cached tag original_run_id status steps parameters run_config".split()
STEP_KEYS = (
    "name internal_name status step_type message mock code_identities attempts user_defined_metrics branches "
    "data_catalog"
).split()
ATTEMPT_KEYS = "attempt_number start_time end_time duration status message".split()
CODE_KEYS = "identifier identifier_type identifier_dependable identifier_url identifier_message".split()

STEPS = """
import os
from pathlib import Path

import nectar


def note(word):
    with open("notes", "a") as file:
        file.write(word + "\\n")


def count(x, y=10):
    return {"sum": int(x) + y}


def every(**values):
    return {"seen": sorted(values)}


def number():
    return 5


def nothing():
    note("nothing")


def broken():
    raise ValueError("as it was meant")


def second_time(name="second"):
    note(name)
    if len([line for line in Path("notes").read_text().split() if line == name]) < 2:
        raise ValueError("not yet")


def talk():
    nectar.store_parameter(stored=nectar.get_parameter("x") + "!")
    nectar.track_this(n=3)
    nectar.report_metric("share", 0.5)
    Path("data").mkdir(exist_ok=True)
    Path("data/made.txt").write_text("made by talk")
    return {"put": nectar.put_in_catalog("made*")}


def listen(stored):
    return {"got": nectar.get_from_catalog("made.txt", "elsewhere"), "all": sorted(nectar.get_parameter())}


def chunks():
    return {"chunks": ["a", "b", "c"]}


def one(chunk):
    if os.environ.get("BAD") == chunk:
        raise ValueError(f"bad {chunk}")
    return {f"did_{chunk}": chunk.upper(), "last": chunk}
"""


def pipeline(*steps: str, start: str | None = None) -> str:
    """A pipeline of steps, each `name: {flow mapping}` without its `next`, one after the other."""
    lines = []
    for number, step in enumerate(steps):
        following = steps[number + 1].partition(":")[0] if number + 1 < len(steps) else "success"
        name, _, rest = step.partition(":")
        body = rest.strip()
        if "next:" not in body:
            body = body[:-1] + f", next: {following}}}"
        lines.append(f"    {name}: {body}")
    first = start or steps[0].partition(":")[0]
    ends = "    success: {type: success}\n    fail: {type: fail}\n"
    return f"dag:\n  start_at: {first}\n  steps:\n" + "\n".join(lines) + "\n" + ends


@pytest.fixture
def steps(project):
    project.file("steps.py", STEPS)
    return project


def executed(project, text: str, *words: str, code: int = 0, name: str = "p.yaml", **variables: str) -> Any:
    project.file(name, text)
    answer = project.nectar("execute", "--file", name, *words, **variables)
    assert answer.code == code, answer
    return answer.json


def test_the_seeds_own_file_runs_as_printed(project):
    log = executed(project, GETTING_STARTED, "--x", "3", name="getting-started.yaml")
    assert list(log) == RUN_KEYS
    assert log["dag_hash"] == DAG_HASH
    assert (log["status"], log["parameters"]) == ("SUCCESS", {"x": 4})
    assert list(log["steps"]) == ["step parameters", "step shell", "success"]
    for step in log["steps"].values():
        assert list(step) == STEP_KEYS
        assert [list(one) for one in step["attempts"]] == [ATTEMPT_KEYS]
        assert (step["status"], step["mock"]) == ("SUCCESS", False)
    assert log["run_config"] == {
        "executor": {"type": "local", "config": {}},
        "run_log_store": {"type": "buffered", "config": {}},
        "catalog": {"type": "file-system", "config": {}},
        "secrets": {"type": "do-nothing", "config": {}},
    }
    written = (project.root / "data" / "data.txt").read_bytes()
    assert b"\nNECTAR_PRM_x=4\n" in b"\n" + written
    [put] = log["steps"]["step shell"]["data_catalog"]
    assert put == {
        "name": "data.txt",
        "data_hash": hashlib.sha256(written).hexdigest(),
        "catalog_relative_path": f"{log['run_id']}/data.txt",
        "catalog_handler_location": ".catalog",
        "stage": "put",
    }
    assert (project.root / ".catalog" / log["run_id"] / "data.txt").read_bytes() == written


def test_a_second_execution_runs_every_step_again(steps):
    text = pipeline("a: {type: task, command: steps.nothing}")
    assert executed(steps, text)["run_id"] != executed(steps, text)["run_id"]
    assert (steps.root / "notes").read_text().split() == ["nothing", "nothing"]


def test_functions_get_parameters_by_their_names_and_what_they_return_are_parameters(steps):
    log = executed(
        steps, pipeline("a: {type: task, command: steps.count}", "b: {type: task, command: steps.every}"), "--x", "3"
    )
    assert log["parameters"] == {"x": "3", "sum": 13, "seen": ["sum", "x"]}


@pytest.mark.parametrize(
    ("step", "word"),
    [
        ("{type: task, command: steps.number}", "`a` returned a int, which cannot be parameters"),
        ("{type: task, command: steps.count}", "`a` needs the parameter `x`, which nothing has set"),
        ("{type: task, command: steps.absent}", "`a` cannot find `steps.absent`"),
        ("{type: task, command_type: python-lambda, command: 'lambda: {\"no name\": 1}'}", "`no name` is no name"),
        ("{type: task, command_type: python-lambda, command: 'lambda: {\"f\": len}'}", "JSON cannot hold"),
        ("{type: task, command_type: shell, command: exit 3}", "the command of `a` ended with exit code 3"),
        ("{type: task, command_type: shell, command: 'true', catalog: {get: ['*.csv']}}", "`a` gets `*.csv`"),
    ],
)
def test_a_step_that_fails_says_why_in_the_run_log(steps, step, word):
    log = executed(steps, pipeline(f"a: {step}"), code=1)
    assert log["status"] == "FAIL"
    assert word in log["steps"]["a"]["message"], log["steps"]["a"]
    assert log["steps"]["a"]["attempts"][0]["status"] == "FAIL"
    assert list(log["steps"]) == ["a", "fail"]


def test_steps_ask_and_tell_by_functions(steps):
    log = executed(
        steps, pipeline("a: {type: task, command: steps.talk}", "b: {type: task, command: steps.listen}"), "--x", "hi"
    )
    assert log["parameters"] == {
        "x": "hi",
        "stored": "hi!",
        "put": ["made.txt"],
        "got": ["made.txt"],
        "all": ["put", "stored", "x"],
    }
    assert log["steps"]["a"]["user_defined_metrics"] == {"n": 3, "share": 0.5}
    assert log["steps"]["b"]["user_defined_metrics"] == {}
    assert [one["stage"] for one in log["steps"]["b"]["data_catalog"]] == ["get"]
    assert (steps.root / "elsewhere" / "made.txt").read_text() == "made by talk"


def test_programs_of_a_shell_step_ask_and_tell_too(steps):
    log = executed(
        steps,
        pipeline(
            "a: {type: task, command_type: shell, command: 'echo NECTAR_TRACK_lines=12; python -c \"import steps; "
            "steps.talk()\"'}",
            "b: {type: task, command: steps.listen}",
        ),
        "--x",
        "hi",
        PATH=f"{Path(__import__('sys').executable).parent}:/usr/bin:/bin",
    )
    assert log["steps"]["a"]["user_defined_metrics"] == {"lines": 12, "n": 3, "share": 0.5}
    assert log["parameters"]["stored"] == "hi!"
    assert log["parameters"]["got"] == ["made.txt"]


HELPERS = """
import multiprocessing
import subprocess
import sys
import threading

import nectar

TELL = "import nectar; nectar.store_parameter(told=nectar.get_parameter('x') + '!'); nectar.track_this(n=3)"


def tell():
    exec(TELL)


def forked():
    process = multiprocessing.get_context("fork").Process(target=tell)
    process.start()
    process.join()


def spawned():
    process = multiprocessing.get_context("spawn").Process(target=tell)
    process.start()
    process.join()


def program():
    subprocess.run([sys.executable, "-c", TELL], check=True)


def tell_many(number):
    for other in range(50):
        nectar.store_parameter(**{f"p{number}_{other}": other})


def threads():
    sys.setswitchinterval(1e-6)
    each = [threading.Thread(target=tell_many, args=[number]) for number in range(8)]
    for one in each:
        one.start()
    for one in each:
        one.join()
"""


@pytest.mark.parametrize("way", ["forked", "spawned", "program"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_processes_of_a_python_step_ask_and_tell_too(steps, way, workers):
    steps.file("helpers.py", HELPERS)
    log = executed(steps, pipeline(f"a: {{type: task, command: helpers.{way}}}"), "--x", "5", "--workers", workers)
    assert log["parameters"] == {"x": "5", "told": "5!"}
    assert log["steps"]["a"]["user_defined_metrics"] == {"n": 3}


def test_nothing_that_threads_of_a_step_tell_at_once_is_lost(steps):
    steps.file("helpers.py", HELPERS)
    log = executed(steps, pipeline("a: {type: task, command: helpers.threads}"))
    assert len(log["parameters"]) == 400


@pytest.mark.parametrize(
    ("step", "attempts", "status"), [("steps.broken", 3, "FAIL"), ("steps.second_time", 2, "SUCCESS")]
)
def test_retry_is_the_number_of_attempts(steps, step, attempts, status):
    log = executed(steps, pipeline(f"a: {{type: task, command: {step}, retry: 3}}"), code=int(status == "FAIL"))
    found = log["steps"]["a"]["attempts"]
    assert [one["attempt_number"] for one in found] == list(range(attempts))
    assert [one["status"] for one in found] == ["FAIL"] * (attempts - 1) + [status]
    assert log["status"] == status


def test_a_failure_goes_where_the_step_says_and_the_run_is_good_if_that_is(steps):
    text = pipeline(
        "a: {type: task, command: steps.chunks}",
        "b: {type: task, command: steps.broken, on_failure: mend}",
        "c: {type: task, command: steps.nothing, next: success}",
        "mend: {type: task, command_type: python-lambda, command: 'lambda chunks: {\"mended\": chunks}'}",
    )
    log = executed(steps, text)
    assert log["status"] == "SUCCESS"
    assert {name: step["status"] for name, step in log["steps"].items()} == {
        "a": "SUCCESS",
        "b": "FAIL",
        "mend": "SUCCESS",
        "success": "SUCCESS",
    }
    assert log["parameters"]["mended"] == ["a", "b", "c"]
    assert not (steps.root / "notes").exists()


def test_a_run_is_bad_only_where_it_comes_to_the_fail_node(steps):
    text = pipeline(
        "b: {type: task, command: steps.broken, on_failure: note, next: success}",
        "note: {type: task, command: steps.nothing, next: fail}",
    )
    log = executed(steps, text, code=1)
    assert list(log["steps"]) == ["b", "note", "fail"]
    assert log["steps"]["note"]["status"] == "SUCCESS"
    assert (steps.root / "notes").read_text() == "nothing\n"


BRANCHES = """\
dag:
  start_at: par
  steps:
    par:
      type: parallel
      next: m
      branches:
        A:
          start_at: s
          steps:
            s: {type: task, command_type: python-lambda, command: "lambda: {'both': 'A', 'a': 1}", next: done}
            done: {type: success}
            bad: {type: fail}
        B:
          start_at: s
          steps:
            s: {type: task, command_type: shell, command: '%s', next: t}
            t: {type: task, command_type: python-lambda, command: "lambda: {'both': 'B'}", next: done}
            done: {type: success}
            bad: {type: fail}
    m:
      type: map
      iterate_on: chunks
      iterate_as: chunk
      next: sub
      branch:
        start_at: t
        steps:
          t: {type: task, command: steps.one, next: done}
          done: {type: success}
          bad: {type: fail}
    sub:
      type: dag
      next: raw
      dag_definition:
        start_at: z
        steps:
          z: {type: task, command_type: shell, command: 'test "$NECTAR_PRM_last" = c', next: done}
          done: {type: success}
          bad: {type: fail}
    raw: {type: as-is, render_string: anything, command: never run, next: success}
    success: {type: success}
    fail: {type: fail}
"""


@pytest.mark.parametrize("workers", ["1", "3"])
def test_branches_have_dotted_names_and_join_in_the_order_of_the_file(steps, workers):
    text = (
        BRANCHES.replace("%s", "sleep 0.2")
        .replace("start_at: par\n", "start_at: first\n", 1)
        .replace(
            "  steps:\n    par:", "  steps:\n    first: {type: task, command: steps.chunks, next: par}\n    par:", 1
        )
    )
    log = executed(steps, text, "--workers", workers)
    assert log["status"] == "SUCCESS"
    assert list(log["steps"]) == ["first", "par", "m", "sub", "raw", "success"]
    par, mapped, sub = log["steps"]["par"], log["steps"]["m"], log["steps"]["sub"]
    assert list(par["branches"]) == ["par.A", "par.B"]
    assert list(par["branches"]["par.A"]["steps"]) == ["par.A.s", "par.A.done"]
    assert list(mapped["branches"]) == ["m.a", "m.b", "m.c"]
    assert list(mapped["branches"]["m.b"]["steps"]) == ["m.b.t", "m.b.done"]
    assert list(sub["branches"]["sub"]["steps"]) == ["sub.z", "sub.done"]
    expected = {"both": "B", "a": 1, "did_a": "A", "did_b": "B", "did_c": "C", "last": "c"}
    assert {name: log["parameters"][name] for name in expected} == expected


def test_if_one_branch_fails_the_step_fails_and_the_others_end(steps):
    text = BRANCHES.replace("%s", "exit 1").replace("next: m\n", "next: success\n", 1)
    text = text[: text.index("    m:\n")] + text[text.index("    success: {type: success}\n    fail") :]
    log = executed(steps, text, code=1)
    par = log["steps"]["par"]
    assert par["status"] == "FAIL"
    assert {name: one["status"] for name, one in par["branches"].items()} == {"par.A": "SUCCESS", "par.B": "FAIL"}
    assert par["branches"]["par.B"]["steps"]["par.B.s"]["status"] == "FAIL"
    assert list(log["steps"]) == ["par", "fail"]


def test_a_failure_within_a_branch_has_its_own_way_there(steps):
    text = """\
dag:
  start_at: m
  steps:
    m:
      type: map
      iterate_on: chunks
      iterate_as: chunk
      next: success
      branch:
        start_at: t
        steps:
          t: {type: task, command: steps.one, on_failure: mend, next: done}
          mend: {type: task, command_type: python-lambda, command: "lambda chunk: {'mended': chunk}", next: done}
          done: {type: success}
          bad: {type: fail}
    success: {type: success}
    fail: {type: fail}
"""
    steps.file("given.yaml", "chunks: [a, b]\n")
    log = executed(steps, text, "-p", "given.yaml", BAD="b")
    assert log["status"] == "SUCCESS"
    assert log["parameters"] == {"chunks": ["a", "b"], "did_a": "A", "last": "a", "mended": "b"}
    inner = log["steps"]["m"]["branches"]["m.b"]["steps"]
    assert {name: one["status"] for name, one in inner.items()} == {
        "m.b.t": "FAIL",
        "m.b.mend": "SUCCESS",
        "m.b.done": "SUCCESS",
    }


def test_a_map_over_what_is_no_list_of_different_values_says_so(steps):
    text = BRANCHES[: BRANCHES.index("    par:")] + BRANCHES[BRANCHES.index("    m:\n") : BRANCHES.index("    sub:")]
    text = text.replace("start_at: par", "start_at: m").replace("next: sub", "next: success")
    text += "    success: {type: success}\n    fail: {type: fail}\n"
    steps.file("p.yaml", text)
    answer = steps.nectar("execute", "--file", "p.yaml", "--chunks", '["a", "a"]')
    assert answer.code == 1
    assert "has `a` more than once" in answer.err + answer.out


def test_what_a_run_had_done_is_kept_by_the_run_that_repeats_it(steps):
    text = pipeline(
        "a: {type: task, command: steps.chunks}",
        "b: {type: task, command_type: shell, command: 'echo b >> notes; test -e allowed'}",
        "c: {type: task, command: steps.nothing}",
    )
    first = executed(steps, text, "--run-id", "first", code=1)
    assert first["run_id"] == "first"
    steps.file("allowed", "")
    second = executed(steps, text, "--use-cached", "first")
    assert (second["use_cached"], second["original_run_id"]) == (True, "first")
    assert {name: step["mock"] for name, step in second["steps"].items()} == {
        "a": True,
        "b": False,
        "c": False,
        "success": False,
    }
    third = executed(steps, text, "--use-cached", second["run_id"])
    assert all(third["steps"][name]["mock"] for name in "abc")
    changed = text.replace("steps.nothing}", "steps.nothing, command_config: {version: 2}}").replace(
        "steps.nothing, next", "steps.nothing, command_config: {version: 2}, next"
    )
    steps.file("p.yaml", changed)
    answer = steps.nectar("execute", "--file", "p.yaml", "--use-cached", third["run_id"])
    assert "is not as it was in the run" in answer.err
    assert {name: answer.json["steps"][name]["mock"] for name in "abc"} == {"a": True, "b": True, "c": False}


def test_a_parameter_may_have_the_name_of_an_option_and_a_value_begin_with_a_dash(steps):
    text = pipeline("a: {type: task, command: steps.nothing}")
    log = executed(steps, text, "--workers", "1", "--x=-fast", "--", "--workers", "3", "--tag=--file")
    assert log["parameters"] == {"x": "-fast", "workers": "3", "tag": "--file"}
    answer = steps.nectar("execute", "--file", "p.yaml", "--1a", "3")
    answer.failed(1, "`1a` is no name", "hint: write `--name value`")


@pytest.mark.parametrize("removed", ["ParametersTask", "ATask", "BTask", "CTask"])
def test_what_was_removed_since_the_run_that_is_repeated_is_made_again_with_all_after_it(steps, removed):
    each = [f"{name}: {{type: task, command_type: python-lambda, command: 'lambda: {{}}'}}" for name in "abc"]
    text = pipeline(*each, "d: {type: task, command_type: shell, command: test -e mended}")
    first = executed(steps, text, code=1)
    shutil.rmtree(steps.store / "chains" / "pipelines" / "p_chain" / removed)
    steps.file("mended", "")
    log = executed(steps, text, "--use-cached", first["run_id"])
    kept = [name for name in "abc" if log["steps"][name]["mock"]]
    assert kept == list({"P": "", "A": "", "B": "a", "C": "ab"}[removed[0]])


def test_a_new_parameter_wins_over_that_of_the_repeated_run_and_its_steps_run_again(steps):
    text = pipeline("a: {type: task, command: steps.count}")
    executed(steps, text, "--x", "1", "--run-id", "first")
    kept = executed(steps, text, "--use-cached", "first")
    assert (kept["parameters"]["sum"], kept["steps"]["a"]["mock"]) == (11, True)
    again = executed(steps, text, "--use-cached", "first", "--x", "2")
    assert (again["parameters"]["sum"], again["steps"]["a"]["mock"]) == (12, False)


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["--run-id", "../../x"], "cannot be the id of a run"),
        (["--run-id", "used"], "was used before"),
        (["--use-cached", "absent-run"], "absent-run"),
        (["-c", "bad.yaml"], "`file-sistem`"),
        (["-c", "absent.yaml"], "absent.yaml"),
        (["--x"], "`--x` has no value"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(steps, words, fragment):
    text = pipeline("a: {type: task, command: steps.nothing}")
    executed(steps, text, "--run-id", "used")
    steps.file("bad.yaml", "catalog: {type: file-sistem}\n")
    steps.nectar("execute", "--file", "p.yaml", *words).failed(2, fragment)
    assert (steps.root / "notes").read_text() == "nothing\n"


@pytest.mark.parametrize("kind", ["file-system", "database"])
def test_run_logs_are_kept_where_the_configuration_says(steps, kind):
    steps.file("c.toml", f'[run_log_store]\ntype = "{kind}"\n')
    log = executed(steps, pipeline("a: {type: task, command: steps.broken}"), "-c", "c.toml", code=1)
    if kind == "file-system":
        assert json.loads((steps.root / ".run_log_store" / f"{log['run_id']}.json").read_text()) == log
    else:
        code = "import json, sys; from nectar import settings; from nectar.runs import open_books\n"
        code += "print(json.dumps(open_books(settings.current().run_store_url).run_log(sys.argv[1])))"
        assert steps.python(code, log["run_id"]).json == log
    assert log["run_config"]["run_log_store"] == {"type": kind, "config": {}}


def test_the_configuration_of_the_command_wins_over_the_files_own(steps):
    text = "catalog: {type: do-nothing}\nrun_log_store: {type: file-system}\n" + pipeline(
        "a: {type: task, command_type: shell, command: 'mkdir -p data; echo 1 > data/x', catalog: {put: ['*']}}"
    )
    own = executed(steps, text)
    assert own["steps"]["a"]["data_catalog"] == []
    assert own["run_config"]["catalog"]["type"] == "do-nothing"
    steps.file("c.yaml", "catalog: {type: store}\n")
    given = executed(steps, text, "-c", "c.yaml")
    assert given["run_config"]["catalog"]["type"] == "store"
    assert given["run_config"]["run_log_store"]["type"] == "file-system"
    [entry] = given["steps"]["a"]["data_catalog"]
    assert (steps.store / entry["catalog_relative_path"]).read_text() == "1\n"


def test_two_patterns_are_both_put_and_what_is_unchanged_is_not_copied_again(steps):
    shell = "command_type: shell, command: 'mkdir -p data; echo 1 > data/a.csv; echo 2 > data/b.txt'"
    text = pipeline(
        f"a: {{type: task, {shell}, catalog: {{put: ['*.csv', 'b*']}}}}",
        "b: {type: task, command_type: shell, command: 'echo 3 > data/b.txt', catalog: {put: ['*']}}",
    )
    log = executed(steps, text)
    assert [one["name"] for one in log["steps"]["a"]["data_catalog"]] == ["a.csv", "b.txt"]
    a, b = (steps.root / ".catalog" / one["catalog_relative_path"] for one in log["steps"]["b"]["data_catalog"])
    assert (a.read_text(), b.read_text()) == ("1\n", "3\n")
    assert a.stat().st_mtime_ns < b.stat().st_mtime_ns


def test_each_step_gets_the_bytes_that_it_was_told_of_whoever_else_puts_that_name(steps):
    """Of branches side by side, and of steps that a later run keeps."""
    branch = (
        "{start_at: s, steps: {s: {type: task, command_type: shell, catalog: {compute_data_folder: %s, put: [x]}, "
        "command: '%s; mkdir -p %s; echo %s > %s/x', next: t}, t: {type: task, command_type: shell, "
        "command: 'cat of_%s/x', catalog: {compute_data_folder: of_%s, get: [x]}, next: done}, "
        "done: {type: success}, bad: {type: fail}}}"
    )
    late = branch % ("a", "until test -e b_ended; do sleep 0.01; done", "a", "late", "a", "a", "a")
    soon = branch % ("b", "true", "b", "soon", "b", "b", "b")
    text = pipeline(
        f"par: {{type: parallel, next: c, branches: {{A: {late}, B: {soon.replace('cat of_b/x', 'touch b_ended')}}}}}",
        "c: {type: task, catalog: {get: [x], put: [x]}, command_type: shell, command: 'cp data/x c; echo c > data/x'}",
        "d: {type: task, command_type: shell, command: 'cat data/x > d; test -e mended', catalog: {get: [x]}}",
    )
    log = executed(steps, text, "--workers", "2", code=1)
    assert [(steps.root / name).read_text() for name in ("of_a/x", "of_b/x", "c", "d")] == [
        "late\n",
        "soon\n",
        "soon\n",
        "c\n",
    ]
    steps.file("mended", "")
    executed(steps, text.replace("cp data/x c", "cp data/x again"), "--use-cached", log["run_id"])
    assert [(steps.root / name).read_text() for name in ("again", "d")] == ["soon\n", "c\n"]


def test_a_file_with_the_longest_name_that_there_is_is_put(steps):
    command = "mkdir -p data; echo > data/$NECTAR_PRM_name"
    text = pipeline(f"a: {{type: task, command_type: shell, command: '{command}', catalog: {{put: ['*']}}}}")
    name = "n" * 255
    log = executed(steps, text, "--name", name)
    assert [one["name"] for one in log["steps"]["a"]["data_catalog"]] == [name]


def test_a_pattern_that_puts_nothing_is_named_in_the_steps_log(steps):
    log = executed(steps, pipeline("a: {type: task, command: steps.nothing, catalog: {put: ['*.none']}}"))
    assert log["status"] == "SUCCESS"
    assert "nothing in `data` matches `*.none`" in str(steps.nectar("logs", log["run_id"]))


def test_variables_are_put_in_where_the_file_names_them(steps):
    steps.file("vars.yaml", "word: hello\nn: 2\n")
    command = (
        "{type: task, command_type: shell, command: 'echo ${word} ${HOME} $$ > said', catalog: {put: ['${word}']}}"
    )
    executed(steps, pipeline(f"a: {command}"), "-v", "vars.yaml", HOME="/nowhere")
    said = (steps.root / "said").read_text().split()
    assert said[:2] == ["hello", "/nowhere"]
    assert said[2].isdigit()


def test_types_come_from_the_parameters_file_and_the_command_line_wins(steps):
    steps.file("given.yaml", "x: 1\nlist: [1, 2]\ntext: '0755'\n")
    text = pipeline("a: {type: task, command_type: shell, command: 'env > seen'}")
    log = executed(steps, text, "-p", "given.yaml", "--x", "2")
    assert log["parameters"] == {"x": "2", "list": [1, 2], "text": "0755"}
    seen = (steps.root / "seen").read_text().splitlines()
    assert {"NECTAR_PRM_x=2", "NECTAR_PRM_list=[1, 2]", "NECTAR_PRM_text=0755"} <= set(seen)


def test_hostile_values_arrive_in_the_shell_as_they_are(steps):
    value = "$(touch pwned); `touch pwned` 'x' \"y\"\nz"
    log = executed(
        steps,
        pipeline("a: {type: task, command_type: shell, command: 'printf %s \"$NECTAR_PRM_x\" > seen'}"),
        "--x",
        value,
    )
    assert (steps.root / "seen").read_text() == value
    assert log["parameters"] == {"x": value}
    assert not (steps.root / "pwned").exists()


def test_the_commit_and_a_dirty_tree_are_told(steps):
    def git(*words: str) -> str:
        own = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *own, *words], cwd=steps.root, check=True, capture_output=True, text=True).stdout

    text = pipeline("a: {type: task, command: steps.nothing}")
    assert executed(steps, text)["steps"]["a"]["code_identities"] == []
    steps.file(".gitignore", "local_targets\n.nectar\n.catalog\nnotes\n")
    git("init", "-q")
    git("remote", "add", "origin", "https://me:secret@example.org/x.git")
    git("add", ".")
    git("commit", "-qm", "one")
    [clean] = executed(steps, text)["steps"]["a"]["code_identities"]
    assert list(clean) == [f"code_{key}" for key in CODE_KEYS]
    assert (clean["code_identifier"], clean["code_identifier_dependable"]) == (git("rev-parse", "HEAD").strip(), True)
    assert clean["code_identifier_url"] == "https://example.org/x.git"
    steps.file("other.py", "")
    [dirty] = executed(steps, text)["steps"]["a"]["code_identities"]
    assert dirty["code_identifier_dependable"] is False


def test_a_tag_is_told_and_runs_are_found_by_it(steps):
    text = pipeline("a: {type: task, command: steps.nothing}")
    log = executed(steps, text, "--tag", "nightly")
    assert log["tag"] == "nightly"
    runs = steps.nectar("runs", "--json").json
    assert log["run_id"] in json.dumps(runs)


def test_the_target_of_a_step_is_found_and_shown(steps):
    log = executed(steps, GETTING_STARTED, "--x", "3")
    told = steps.nectar("runs", "--json", log["run_id"]).json
    path = next(step["path"] for step in told["steps"] if step["task"].endswith("step shell"))
    shown = steps.nectar("show", path)
    assert shown.code == 0
    assert "data.txt" in shown.out
    assert log["steps"]["step shell"]["data_catalog"][0]["data_hash"] in steps.nectar("show", "--json", path).out


def test_no_step_takes_longer_than_its_dag_may(steps):
    text = pipeline("a: {type: task, command_type: shell, command: sleep 100}").replace(
        "dag:\n", "dag:\n  max_time: 1\n"
    )
    log = executed(steps, text, code=1)
    assert "longer than its time limit of 1 s" in log["steps"]["a"]["message"]


@pytest.mark.parametrize("inner", ["", "max_time: 2, ", "max_time: 50, "])
@pytest.mark.parametrize("kind", ["dag", "parallel", "map"])
def test_nor_does_a_step_in_a_dag_within_it(steps, kind, inner):
    inside = "s: {type: task, command_type: shell, command: sleep 100, next: ok}, ok: {type: success}, no: {type: fail}"
    dag = f"{{start_at: s, {inner}steps: {{{inside}}}}}"
    more = {
        "dag": f"dag_definition: {dag}",
        "parallel": f"branches: {{A: {dag}}}",
        "map": f"iterate_on: chunks, iterate_as: chunk, branch: {dag}",
    }
    text = pipeline(
        "first: {type: task, command: steps.chunks, next: a}", f"a: {{type: {kind}, next: success, {more[kind]}}}"
    ).replace("dag:\n", "dag:\n  max_time: 1\n", 1)
    log = executed(steps, text, "--workers", "3", code=1)
    for branch in log["steps"]["a"]["branches"].values():
        [failed] = [one for one in branch["steps"].values() if one["status"] == "FAIL"]
        assert "longer than its time limit of 1 s" in failed["message"]


def test_a_pipeline_of_which_nothing_is_carried_out_succeeds(steps):
    text = """\
dag:
  start_at: raw
  steps:
    raw: {type: as-is, render_string: anything, next: par}
    par:
      type: parallel
      next: success
      branches:
        A:
          start_at: s
          steps:
            s: {type: as-is, render_string: anything, next: done}
            done: {type: success}
            bad: {type: fail}
    success: {type: success}
    fail: {type: fail}
"""
    log = executed(steps, text, "--x", "1")
    assert (log["status"], log["parameters"]) == ("SUCCESS", {"x": "1"})
    assert list(log["steps"]) == ["raw", "par", "success"]


def test_a_run_log_that_cannot_be_kept_is_said_before_anything_runs(steps):
    steps.file("in_the_way", "")
    text = "run_log_store: {type: file-system, config: {location: in_the_way}}\n"
    steps.file("p.yaml", text + pipeline("a: {type: task, command: steps.nothing}"))
    steps.nectar("execute", "--file", "p.yaml").failed(5, "the run log cannot be kept in `in_the_way`")
    assert not (steps.root / "notes").exists()


def test_arguments_that_have_no_name_are_given_by_their_place(steps):
    text = pipeline("a: {type: task, command_type: python-lambda, command: 'lambda x, /, *y: {\"z\": x}'}")
    assert executed(steps, text, "--x", "1")["parameters"]["z"] == "1"


def test_rerun_of_a_pipelines_run_says_how_it_is_repeated(steps):
    log = executed(steps, pipeline("a: {type: task, command: steps.nothing}"))
    steps.nectar("rerun", log["run_id"]).failed(2, "--use-cached")


def test_plan_of_a_pipeline_runs_nothing(steps):
    steps.file("p.yaml", pipeline("a: {type: task, command: steps.nothing}"))
    answer = steps.nectar("execute", "--file", "p.yaml", "--dry-run")
    assert answer.code == 0
    assert not (steps.root / "notes").exists()


# Secrets

SECRET = "canary-7f3a91c2d8"


@pytest.fixture
def secrets(steps):
    steps.file(".env", f"db_password={SECRET}\n")
    steps.file(
        "holders.py",
        """
        import subprocess
        import nectar


        def prints():
            secret = nectar.get_secret("db_password")
            print("it is", secret, flush=True)
            subprocess.run(["sh", "-c", 'echo child "$1"', "sh", secret])
            nectar.track_this(leak=secret)
            return {"length": len(secret)}


        def returns():
            return {"password": nectar.get_secret("db_password")}


        def raises():
            raise ValueError("with " + nectar.get_secret("db_password"))


        def lacks():
            nectar.get_secret("absent")
        """,
    )
    return steps


def everything(root: Path) -> bytes:
    """All bytes in the files of a project but the secret's own."""
    return b"".join(place.read_bytes() for place in root.rglob("*") if place.is_file() and place.name != ".env")


DOTENV = "secrets: {type: dotenv}\n"


def test_a_secret_is_in_no_log_parameter_or_run_log(secrets):
    log = executed(secrets, DOTENV + pipeline("a: {type: task, command: holders.prints}"))
    assert log["parameters"] == {"length": len(SECRET)}
    shown = str(secrets.nectar("logs", log["run_id"]))
    assert "it is ***" in shown
    assert "child ***" in shown
    assert SECRET not in json.dumps(log) + shown
    assert SECRET.encode() not in everything(secrets.root)


@pytest.mark.parametrize(
    ("function", "word"),
    [("returns", "`password` holds the value of a secret"), ("raises", "with ***"), ("lacks", "absent")],
)
def test_a_step_that_fails_with_a_secret_does_not_tell_it(secrets, function, word):
    text = DOTENV + pipeline(f"a: {{type: task, command: holders.{function}}}")
    log = executed(secrets, "run_log_store: {type: file-system}\n" + text, code=1)
    assert word in log["steps"]["a"]["message"]
    assert SECRET.encode() not in everything(secrets.root)


def test_programs_of_a_shell_step_have_the_pipelines_secrets(secrets):
    secrets.file("told.py", "import nectar\nprint('it is', nectar.get_secret('db_password'))\n")
    text = DOTENV + pipeline("a: {type: task, command_type: shell, command: python told.py}")
    path = f"{Path(__import__('sys').executable).parent}:/usr/bin:/bin"
    log = executed(secrets, text, PATH=path)
    assert "it is ***" in str(secrets.nectar("logs", log["run_id"]))
    assert SECRET.encode() not in everything(secrets.root)


# One step after the other, as other engines carry them out


def step(project, name: str, code: int = 0, **variables: str) -> str:
    answer = project.nectar("execute", "--file", "p.yaml", "--run-id", "R", "--step", name, "-q", **variables)
    assert answer.code == code, answer
    return answer.err


def items(project, name: str) -> Any:
    return project.nectar("execute", "--file", "p.yaml", "--run-id", "R", "--items", name).json


def test_steps_are_carried_out_one_by_one_by_their_names(steps):
    text = (
        BRANCHES.replace("%s", "true")
        .replace("start_at: par\n", "start_at: first\n", 1)
        .replace(
            "  steps:\n    par:", "  steps:\n    first: {type: task, command: steps.chunks, next: par}\n    par:", 1
        )
    )
    steps.file("p.yaml", text)
    assert "`first` comes before it" in step(steps, "par.A.s", 2)
    for name in ("first", "par.B.s", "par.A.s", "par.B.t", "par.A.done", "par"):
        step(steps, name)
    assert items(steps, "m") == ["a", "b", "c"]
    for name in ("m.c.t", "m.a.t", "m.b.t", "m", "sub.z", "sub", "raw", "success"):
        step(steps, name)
    runs = steps.nectar("runs", "--json", "--tag", "pipeline_run=R").json
    assert len(json.dumps(runs).split('"pipeline_run"')) - 1 == 12
    assert "no step `par.C.s`" in step(steps, "par.C.s", 2)
    assert "did you mean `first`" in step(steps, "frist", 2)


def test_one_step_is_found_on_the_way_that_the_run_took(steps):
    text = pipeline(
        "a: {type: task, command: steps.chunks}",
        "b: {type: task, command: steps.broken, on_failure: mend, retry: 3}",
        "c: {type: task, command: steps.nothing, next: success}",
        "mend: {type: task, command_type: python-lambda, command: 'lambda chunks: {\"mended\": chunks}'}",
    )
    steps.file("p.yaml", text)
    step(steps, "a")
    assert "has not come to the step `mend`" in step(steps, "mend", 2)
    for _ in range(2):  # whoever carries steps out tries again
        assert step(steps, "b", 1).count("as it was meant") == 1
    step(steps, "mend")
    assert "does not come to the step `c`" in step(steps, "c", 2)
    log = json.loads(steps.nectar("execute", "--file", "p.yaml", "--run-id", "R", "--step", "success", "-q").out)
    assert (log["run_id"], log["status"], log["parameters"]["mended"]) == ("R", "SUCCESS", ["a", "b", "c"])
    assert {name: one["status"] for name, one in log["steps"].items()} == {
        "a": "SUCCESS",
        "b": "FAIL",
        "mend": "SUCCESS",
        "success": "SUCCESS",
    }
    assert not (steps.root / "notes").exists()


def test_the_end_of_a_pipeline_of_which_nothing_is_carried_out_is_a_step_too(steps):
    steps.file("p.yaml", pipeline("a: {type: as-is, render_string: anything}"))
    words = ("execute", "--file", "p.yaml", "--run-id", "R", "--x", "1", "-q", "--step", "success")
    log = steps.nectar(*words).json
    assert (log["status"], log["parameters"]) == ("SUCCESS", {"x": "1"})


def test_the_fail_node_of_the_pipeline_fails(steps):
    steps.file("p.yaml", pipeline("b: {type: task, command: steps.broken}"))
    step(steps, "b", 1)
    assert "came to its fail node" in step(steps, "fail", 1)


WITH_WAYS = """\
dag:
  start_at: first
  steps:
    first: {type: task, command: steps.chunks, next: par}
    par:
      type: parallel
      next: success
      on_failure: m
      branches:
        A:
          start_at: s
          steps:
            s: {type: task, command: steps.broken, next: t}
            t: {type: task, command: steps.nothing, next: done}
            done: {type: success}
            fail: {type: fail}
    m:
      type: map
      iterate_on: chunks
      iterate_as: chunk
      next: success
      on_failure: sub
      branch:
        start_at: s
        steps:
          s: {type: task, command: steps.not_b, next: t}
          t: {type: task, command: steps.nothing, next: done}
          done: {type: success}
          fail: {type: fail}
    sub:
      type: dag
      next: success
      on_failure: last
      dag_definition:
        start_at: s
        steps:
          s: {type: task, command: steps.broken, next: done, on_failure: t}
          t: {type: task, command: steps.broken, next: done}
          done: {type: success}
          fail: {type: fail}
    last: {type: task, command: steps.nothing, next: success}
    success: {type: success}
    fail: {type: fail}
"""


def test_a_step_with_branches_has_failed_where_a_step_within_it_has_and_nothing_is_carried_out_again(steps):
    own = "def not_b(chunk):\n    note(chunk)\n    if chunk == 'b':\n        raise ValueError(chunk)\n"
    place = steps.root / "steps.py"
    place.write_text(f"{place.read_text()}\n\n{own}")
    steps.file("p.yaml", WITH_WAYS)
    step(steps, "first")
    step(steps, "par.A.s", 1)
    assert "does not come to the step `par.A.t`" in step(steps, "par.A.t", 2)
    for name, code in (("m.a.s", 0), ("m.a.t", 0), ("m.b.s", 1), ("m.c.s", 0), ("m.c.t", 0)):
        step(steps, name, code)
    for name, code in (("sub.s", 1), ("sub.t", 1), ("sub.fail", 1), ("last", 0)):
        step(steps, name, code)
    before = (steps.root / "notes").read_text()
    step(steps, "success")
    assert (steps.root / "notes").read_text() == before
    assert sorted(before.split()) == ["a", "b", "c", "nothing", "nothing", "nothing"]


def test_the_values_of_a_map_can_be_had_for_a_shell(steps):
    steps.file("p.yaml", WITH_WAYS)
    step(steps, "first")
    step(steps, "par.A.s", 1)
    words = ("execute", "--file", "p.yaml", "--run-id", "R")
    assert steps.nectar(*words, "--items", "m", "--null").out == "a\0b\0c\0"
    steps.nectar(*words, "--null").failed(2, "`--null` is for the values of a map step")
