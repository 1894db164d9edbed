"""What a pipeline is rendered to: golden files to read, Argo's own schema, settings, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from nectar import errors, settings
from nectar.actions.render import Files, render_file
from nectar.export.pipeline_work import steps_of
from nectar.export.targets import TARGETS
from nectar.pipeline.reading import pipeline_in

GOLDEN = Path(__file__).with_name("golden")
SCHEMA = json.loads(Path(__file__).with_name("argo.schema.json").read_text("utf-8"))
PIPELINE = """
dag:
  description: every kind of step
  start_at: first
  steps:
    first: {type: task, command: steps.first, retry: 3, next: raw, on_failure: mend}
    raw: {type: as-is, next: par}
    mend: {type: task, command: steps.mend, next: par}
    par:
      type: parallel
      next: m
      branches:
        A:
          start_at: s t
          steps:
            s t: {type: task, command: steps.one, next: done}
            done: {type: success}
            fail: {type: fail}
        B:
          start_at: s
          steps:
            s: {type: task, command: steps.one, next: done, on_failure: other}
            other: {type: task, command: steps.one, next: done}
            done: {type: success}
            fail: {type: fail}
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
          fail: {type: fail}
    sub:
      type: dag
      next: success
      dag_definition:
        start_at: z
        steps:
          z: {type: task, command: steps.one, next: done}
          done: {type: success}
          fail: {type: fail}
    success: {type: success}
    fail: {type: fail}
"""
SERVICES = "run_log_store: {type: database}\n"
TWO = """
dag:
  start_at: a
  {more}
  steps:
    a: {{type: task, command: steps.a, next: b{first}}}
    b: {{type: task, command: steps.b, next: success}}
    success: {{type: success}}
    fail: {{type: fail}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    with settings.overridden(root=tmp_path, store_url="s3://bucket", runs_url="postgresql://server/runs"):
        yield tmp_path


def rendered(folder: Path, to: str, text: str, *words: str, **files: Path) -> Any:
    place = folder / "flow.yaml"
    place.write_text(text + SERVICES, "utf-8")
    return render_file(settings.current(), to, place, words, Files(**files))


@pytest.mark.parametrize("target", TARGETS)
def test_a_pipeline_is_rendered_as_the_golden_file_has_it(folder, target):
    made = rendered(folder, target, PIPELINE, "--x", "it's $(id) {{7*7}}")
    place = GOLDEN / f"pipeline{TARGETS[target].suffix}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        place.write_text(made.text, "utf-8")
    assert made.text == place.read_text("utf-8")
    assert made.file_name == f"flow{TARGETS[target].suffix}"


def test_steps_come_after_their_ways_and_those_that_do_nothing_are_passed_over():
    steps = steps_of(pipeline_in(PIPELINE.encode(), "p.yaml").dag, root=True)
    assert [node.name for node in steps.order] == ["first", "mend", "par", "m", "sub"]
    assert {(way.after, way.good) for way in steps.ways("par")} == {("first", True), ("mend", True)}
    bad = {("mend", False), ("par", False), ("m", False), ("sub", False)}
    assert {(way.after, way.good) for way in steps.ways("fail")} == bad


def test_manifests_are_what_argos_own_types_say(folder):
    for more in ("max_time: 60", "schedule: '@daily'\n  mode_config: {argo: {image: i:1, timezone: Europe/Berlin}}"):
        made = yaml.safe_load(rendered(folder, "argo", TWO.format(more=more, first=""), "--x", "3").text)
        jsonschema.validate(made, SCHEMA)
    assert (made["kind"], made["spec"]["schedules"], made["spec"]["timezone"]) == (
        "CronWorkflow",
        ["@daily"],
        "Europe/Berlin",
    )
    assert made["spec"]["workflowSpec"]["arguments"]["parameters"] == [
        {"name": "image", "value": "i:1"},
        {"name": "x", "value": "3"},
    ]
    jsonschema.validate(yaml.safe_load(rendered(folder, "argo", PIPELINE).text), SCHEMA)


def test_settings_of_a_step_are_those_of_its_node(folder):
    own = "argo: {image: gpu:2, resources: {limits: {cpu: '4'}}, node_selector: {gpu: 'yes'}}"
    own += ", step-functions: {queue: 'https://q'}, airflow: {pool: big, priority_weight: 7}"
    text = TWO.format(more="max_time: 60\n  schedule: '@daily'", first=f", mode_config: {{{own}}}")
    argo = yaml.safe_load(rendered(folder, "argo", text).text)["spec"]["workflowSpec"]
    assert argo["activeDeadlineSeconds"] == 60
    pods = {one["container"]["image"]: one for one in argo["templates"] if "container" in one}
    assert pods["gpu:2"]["nodeSelector"] == {"gpu": "yes"}
    assert pods["gpu:2"]["container"]["resources"] == {"limits": {"cpu": "4"}}
    assert pods.keys() == {"gpu:2", "{{workflow.parameters.image}}"}
    made = rendered(folder, "step-functions", text)
    machine = json.loads(made.text)
    assert machine["TimeoutSeconds"] == 60
    assert machine["States"]["a"]["Parameters"]["QueueUrl"] == "https://q"
    assert "QueueUrl.$" in machine["States"]["b"]["Parameters"]
    assert any("EventBridge" in one for one in made.warnings)
    dag = rendered(folder, "airflow", text).text
    assert "'pool': 'big'" in dag and "SCHEDULE = '@daily'" in dag and "timedelta(seconds=60)" in dag
    script = rendered(folder, "bash", text)
    assert any("`max_time` of the pipeline bounds each of its steps under bash" in one for one in script.warnings)
    assert any("cron" in one for one in script.warnings)


def test_a_retry_is_made_by_the_engine_as_often_as_the_step_says(folder):
    argo = yaml.safe_load(rendered(folder, "argo", PIPELINE).text)["spec"]
    graph = next(one for one in argo["templates"] if one["name"] == argo["entrypoint"])
    pod = next(one["template"] for one in graph["dag"]["tasks"] if one["name"] == "first")
    retry = next(one for one in argo["templates"] if one["name"] == pod)["retryStrategy"]
    assert retry == {"limit": "2", "retryPolicy": "Always"}
    machine = json.loads(rendered(folder, "step-functions", PIPELINE).text)
    (retried,) = machine["States"]["first"]["Retry"]
    assert (retried["MaxAttempts"], "Nectar.TaskFailed" in retried["ErrorEquals"]) == (2, True)
    (once,) = machine["States"]["mend"]["Retry"]
    assert once["ErrorEquals"] == ["Nectar.StoreUnreachable"]
    assert 'step "$1"first 3' in rendered(folder, "bash", PIPELINE).text


def test_everything_that_an_engine_does_not_know_is_told_at_once(folder):
    own = ", mode_config: {argo: {imgae: x, resources: 3}, bash: {shell: zsh}}"
    text = TWO.format(more="mode_config: {argo: {iamge: y}}", first=own)
    with pytest.raises(errors.NotRenderable) as refused:
        rendered(folder, "argo", text)
    for word in (
        "`argo.iamge`",
        "did you mean `image`?",
        "`argo.imgae`",
        "`argo.resources` of the step `a` is no mapping",
    ):
        assert word in refused.value.message
    with pytest.raises(errors.NotRenderable, match=r"`bash.shell`, which is unknown \(there is none\)"):
        rendered(folder, "bash", text)
    rendered(folder, "step-functions", text)


def test_a_map_within_a_map_is_refused_for_airflow_alone(folder):
    inner = "{type: map, iterate_on: c, iterate_as: d, next: done, branch: %s}"
    leaf = "{start_at: done, steps: {done: {type: success}, fail: {type: fail}}}"
    branch = "{start_at: n, steps: {n: %s, done: {type: success}, fail: {type: fail}}}" % (inner % leaf)
    text = f"""
dag:
  start_at: m
  steps:
    m: {{type: map, iterate_on: a, iterate_as: b, next: success, branch: {branch}}}
    success: {{type: success}}
    fail: {{type: fail}}
"""
    with pytest.raises(errors.NotRenderable, match="`n` is within another one"):
        rendered(folder, "airflow", text)
    machine = json.loads(rendered(folder, "step-functions", text).text)
    inside = machine["States"]["m%each"]["ItemProcessor"]["States"]["m.*.n"]
    assert inside["Parameters"]["MessageBody"]["name"] == [{"text": "m"}, {"text.$": "$.v1"}, {"text": "n"}]
    jsonschema.validate(yaml.safe_load(rendered(folder, "argo", text).text), SCHEMA)
    script = rendered(folder, "bash", text).text
    assert subprocess.run(["bash", "-n", "-c", script], check=False).returncode == 0


def test_a_parameter_that_is_an_option_of_the_command_is_refused(folder):
    with pytest.raises(errors.NotRenderable, match="`--step` is an option of `nectar execute`"):
        rendered(folder, "bash", PIPELINE, "--step", "3")


def test_files_are_named_from_the_projects_folder(folder):
    parameters = folder / "values.json"
    parameters.write_text('{"x": 3}')
    made = rendered(folder, "bash", PIPELINE, parameters=parameters)
    assert "words=(execute --file flow.yaml -p values.json)" in made.text
    assert not any("outside" in one for one in made.warnings)
    elsewhere = folder.parent / "elsewhere.json"
    elsewhere.write_text("{}")
    assert any("outside" in one for one in rendered(folder, "bash", PIPELINE, parameters=elsewhere).warnings)


def test_services_of_one_machine_are_told_of_and_a_buffered_run_log_is_refused(folder):
    assert rendered(folder, "bash", PIPELINE).warnings == ()
    assert any("the catalog is a folder of each node" in one for one in rendered(folder, "argo", PIPELINE).warnings)
    assert rendered(folder, "argo", PIPELINE + "catalog: {type: store}\n").warnings == ()
    plain = folder / "plain.yaml"
    plain.write_text(PIPELINE, "utf-8")
    for target in ("argo", "step-functions", "airflow"):
        with pytest.raises(errors.NotRenderable, match="the run log store is `buffered`") as refused:
            render_file(settings.current(), target, plain, (), Files())
        assert "{type: database}" in str(refused.value.hint)


def test_long_names_of_states_stay_short_and_their_own(folder):
    text = TWO.format(more="", first="").replace(" b", " b" + "x" * 100).replace(" a", " b" + "x" * 99)
    states = json.loads(rendered(folder, "step-functions", text).text)["States"]
    assert all(len(name) <= 80 for name in states)
    assert sum(name.startswith("bxxx") for name in states) == 2


def test_a_step_may_be_called_like_a_word_of_the_shell(folder):
    text = TWO.format(more="", first="").replace(" b", " esac").replace(" a", " it's")
    script = rendered(folder, "bash", text).text
    said = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "NECTAR": "echo"}, capture_output=True, text=True, check=True
    )
    assert [line.split("--step=")[1] for line in said.stdout.splitlines()] == ["it's", "esac", "success"]
