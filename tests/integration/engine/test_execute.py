"""A run can be created, looked at and executed, each by itself, or all at once; and it tells all that came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import luigi
import pytest

import nectar
from nectar import errors, settings
from nectar.actions.history import opened
from nectar.execution.outcome import EventKind, RunResult, StepStatus
from nectar.plans import Force
from nectar.runs import Run, RunState


class LoadTask(nectar.Task):
    day = luigi.IntParameter(default=1)

    def run(self):
        self.dump(f"day {self.day}")


class CleanTask(nectar.Task):
    day = luigi.IntParameter(default=1)
    bad = luigi.BoolParameter()

    def requires(self):
        return LoadTask(day=self.day)

    def run(self):
        if self.bad:
            raise ValueError("no luck")
        self.dump(f"clean {self.input().load()}")


class ReportTask(nectar.Task):
    day = luigi.IntParameter(default=1)
    bad = luigi.BoolParameter()
    title = luigi.Parameter(default="plain")

    def requires(self):
        return CleanTask(day=self.day, bad=self.bad)

    def run(self):
        self.dump(f"{self.title}: {self.input().load()}")


class RoundTask(nectar.Task):
    def requires(self):
        return RoundTask()


class WayTask(luigi.Task):
    """Needs a value, and is none of Nectar's."""

    n = luigi.IntParameter()

    def run(self):
        self.done = True

    def complete(self):
        return getattr(self, "done", False)


PRESETS = [
    nectar.Preset("daily", params={"day": 5, "title": "daily"}, tags={"team": "red"}, executor="inline", workers=1),
    nectar.Preset("raw", select="LoadTask"),
    nectar.Preset("fast", workers=2),
    nectar.Preset("odd", params={"dya": 1, "day": "soon"}),
]


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Iterator[Path]:
    with settings.overridden(root=tmp_path, store_url=(tmp_path / "targets").as_uri(), runs_url=None):
        yield tmp_path


def in_books(run_id: str) -> Run:
    with opened(settings.current()) as books:
        return books.run(run_id)


def classes(result: RunResult) -> dict[str, StepStatus]:
    return {step.task.rpartition(".")[2].partition("(")[0]: step.status for step in result.steps}


def test_executing_a_task_tells_its_steps_outputs_and_events():
    result = nectar.execute(ReportTask(day=2))
    assert result.success
    assert classes(result) == dict.fromkeys(("LoadTask", "CleanTask", "ReportTask"), StepStatus.SUCCEEDED)
    assert {type(task).__name__: output.load() for task, output in result.outputs.items()} == {
        "LoadTask": "day 2",
        "CleanTask": "clean day 2",
        "ReportTask": "plain: clean day 2",
    }
    assert result.output_for(CleanTask(day=2)).load() == "clean day 2"
    kinds = [event.kind for event in result.events]
    assert kinds[0] is EventKind.RUN_STARTED and kinds[-1] is EventKind.RUN_ENDED
    assert kinds.count(EventKind.STEP_ENDED) == 3
    assert {event.run_id for event in result.events} == {result.run_id}
    assert in_books(result.run_id).state is RunState.SUCCESS


def test_what_run_returns_is_the_same():
    nectar.execute(LoadTask())
    result = nectar.run(CleanTask(), ReportTask(bad=True), echo=False)
    assert type(result) is type(nectar.execute(LoadTask()))
    assert not result.success
    assert result.output_for(LoadTask()).load() == "day 1", "also of what was complete before"
    assert [task for task in result.outputs if isinstance(task, ReportTask)] == []
    assert [event.kind for event in result.events].count(EventKind.STEP_ENDED) == 3


def test_there_is_no_output_of_what_was_not_made_or_not_asked_for():
    result = nectar.run(ReportTask(bad=True), echo=False)
    with pytest.raises(errors.TargetNotFound, match="it is failed in the run"):
        result.output_for(CleanTask(bad=True))
    with pytest.raises(errors.TargetNotFound, match="it is not run in the run"):
        result.output_for(ReportTask(bad=True))
    with pytest.raises(errors.TaskNotFound) as caught:
        result.output_for(LoadTask(day=9))
    assert caught.value.hint == "did you mean `LoadTask(day=1)`?"


def test_a_failure_is_raised_with_all_that_is_known_or_told_by_the_result():
    with pytest.raises(errors.RunFailed, match=r"CleanTask.*ValueError: no luck") as caught:
        nectar.execute(ReportTask(bad=True), {"echo": False})
    result = caught.value.result
    assert isinstance(result, RunResult)
    assert classes(result)["CleanTask"] is StepStatus.FAILED
    quiet = nectar.execute(ReportTask(bad=True), {"echo": False}, raise_on_error=False)
    assert not quiet.success and classes(quiet) == {
        "LoadTask": StepStatus.SKIPPED,
        "CleanTask": StepStatus.FAILED,
        "ReportTask": StepStatus.NOT_RUN,
    }


def test_a_run_is_created_planned_and_executed_each_by_itself(project):
    run = nectar.create_run(ReportTask(day=3), {"force": "roots"}, tags={"team": "red"}, select="+ReportTask")
    told = in_books(run.id)
    assert (told.state, told.tags, told.new.source) == (RunState.STARTING, {"team": "red"}, "python")
    assert told.new.options == {"force": "roots", "fail_fast": False, "select": "+ReportTask"}
    assert [(root.params["day"], root.key) for root in told.roots] == [("3", ReportTask(day=3).key)]
    with pytest.raises(errors.UpstreamMissing, match="LoadTask"):
        run.plan()
    nectar.execute(LoadTask(day=3))
    plan = run.plan()
    assert (plan.selected, plan.to_make) == (2, 2)
    assert not ReportTask(day=3).complete() and in_books(run.id).state is RunState.STARTING
    result = nectar.execute_run(run)
    assert (result.run_id, result.success) == (run.id, True)
    told = in_books(run.id)
    assert (told.state, dict(told.counts)) == (RunState.SUCCESS, {"skipped": 1, "succeeded": 2})
    with pytest.raises(errors.RunStateConflict, match="was executed before"):
        nectar.execute_run(run)


def test_a_created_run_that_cannot_be_planned_has_failed():
    run = nectar.create_run(RoundTask())
    with pytest.raises(errors.CycleFound):
        nectar.execute_run(run)
    assert in_books(run.id).state is RunState.FAILURE
    run = nectar.create_run(ReportTask(), select="NoTask")
    with pytest.raises(errors.SelectionInvalid, match="`NoTask` selects nothing"):
        nectar.execute_run(run, raise_on_error=False)
    assert in_books(run.id).error == "`NoTask` selects nothing"


def test_a_created_run_whose_process_ends_has_crashed(project):
    script = """
import sys
import nectar
class LoneTask(nectar.Task):
    pass
print(nectar.create_run(LoneTask()).id)
assert "sqlalchemy" not in sys.modules
"""
    where = {"NECTAR_PROJECT": str(project), "PYTHONPATH": str(Path(nectar.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], env=where, capture_output=True, text=True, check=True)
    told = in_books(done.stdout.strip())
    assert (told.state, told.error) == (RunState.CRASHED, "its process ended without a word")


def test_only_what_is_selected_is_made_and_outputs_are_those_of_the_run():
    nectar.execute(LoadTask(), tags={"a": "b"})
    result = nectar.execute(ReportTask(), select="CleanTask")
    assert classes(result) == {"LoadTask": StepStatus.SKIPPED, "CleanTask": StepStatus.SUCCEEDED}
    assert [result.tasks[ref] for ref in result.ends] == [CleanTask()]
    assert not ReportTask().complete()
    with pytest.raises(errors.UpstreamMissing, match=r"CleanTask.*which.*ReportTask.*needs"):
        nectar.execute(ReportTask(day=2), select="ReportTask")
    assert not LoadTask(day=2).complete()


@pytest.mark.parametrize("executor", ["inline", "processes", "luigi"])
def test_every_executor_makes_what_is_selected_and_nothing_else(executor, project):
    (project / "chains" / "etl").mkdir(parents=True)
    (project / "chains" / "etl" / "line_chain.py").write_text(LINE)
    script = """
import json, sys
from nectar.actions.resolve import find_root_task
import nectar
from nectar import settings
root = find_root_task(settings.current(), "etl/line_chain", "LastTask", {})
result = nectar.execute(root, {"executor": sys.argv[1], "echo": False}, select="*MiddleTask, AsideTask")
print(json.dumps({
    "steps": {type(result.tasks[step.ref]).__name__: step.status.value for step in result.steps},
    "outputs": sorted(type(task).__name__ for task in result.outputs),
    "ends": sorted(type(result.tasks[ref]).__name__ for ref in result.ends),
}))
"""
    where = {"NECTAR_PROJECT": str(project), "PYTHONPATH": str(Path(nectar.__file__).parents[1])}
    command = [sys.executable, "-c", script, executor]
    done = subprocess.run(command, env=where, cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout.splitlines()[-1])
    assert made == {
        "steps": dict.fromkeys(("FirstTask", "MiddleTask", "AsideTask"), "succeeded"),
        "outputs": ["AsideTask", "FirstTask", "MiddleTask"],
        "ends": ["AsideTask", "MiddleTask"],
    }
    assert {place.parts[-3] for place in project.rglob("record.json")} == set(made["steps"])


LINE = """
import nectar

class FirstTask(nectar.Task):
    def run(self):
        self.dump("first")

class AsideTask(nectar.Task):
    def run(self):
        self.dump("aside")

class MiddleTask(nectar.Task):
    def requires(self):
        return FirstTask()
    def run(self):
        self.dump("middle")

class LastTask(nectar.Task):
    def requires(self):
        return [MiddleTask(), AsideTask()]
    def run(self):
        self.dump("last")
"""


@pytest.mark.parametrize("force", ["roots", "all", Force.ROOTS])
def test_with_a_selection_force_means_what_is_selected(force):
    nectar.execute(ReportTask())
    result = nectar.execute(ReportTask(), {"force": force}, select="CleanTask")
    assert classes(result) == {"LoadTask": StepStatus.SKIPPED, "CleanTask": StepStatus.SUCCEEDED}


def test_every_wrong_option_is_named_at_once():
    with pytest.raises(errors.OptionsInvalid) as caught:
        nectar.create_run(
            ReportTask(),
            {"worker": 2, "workers": "4", "force": "some", "fail_fast": 1, "executor": "inlne", 3: 4},
            tags={"team": 1},
            select="a,,b",
        )
    for said in (
        "there is no option `worker`",
        "`workers` cannot be '4'",
        "`force` cannot be 'some'",
        "`fail_fast` cannot be 1",
        "no executor `inlne`",
        "there is no option `3`",
        "the tag 'team' cannot be 1",
        "a clause of the selection is empty",
    ):
        assert said in caught.value.message
    assert "did you mean `workers`?" in str(caught.value.hint)
    assert "did you mean `inline`?" in str(caught.value.hint)


def test_options_that_do_not_go_together_are_refused_with_all_of_them():
    with pytest.raises(errors.OptionsInvalid) as caught:
        nectar.execute(ReportTask(), {"executor": "luigi", "fail_fast": True, "workers": 0})
    assert "0 workers" in caught.value.message and "first failure" in caught.value.message


def test_a_preset_sets_parameters_tags_and_executor_of_a_class():
    result = nectar.execute(ReportTask, preset="daily")
    assert result.output_for(ReportTask(day=5, title="daily")).load() == "daily: clean day 5"
    told = in_books(result.run_id)
    assert (told.tags, told.new.executor, told.new.options["preset"]) == ({"team": "red"}, "inline", "daily")
    assert dict(told.roots[0].params)["day"] == "5"


def test_a_preset_goes_with_an_instance_where_it_sets_no_parameters():
    result = nectar.execute(ReportTask(day=6), preset="raw", tags={"team": "blue"})
    assert classes(result) == {"LoadTask": StepStatus.SUCCEEDED}
    assert in_books(result.run_id).new.options["select"] == "LoadTask"
    own = nectar.Preset("own", select="+CleanTask")
    assert set(classes(nectar.execute(ReportTask(day=6), preset=own))) == {"LoadTask", "CleanTask"}


def test_a_preset_and_the_same_thing_given_are_refused_by_both_names_at_once():
    preset = nectar.Preset("full", params={"day": 1}, select="*", tags={"team": "red"}, executor="inline", workers=1)
    with pytest.raises(errors.PresetInvalid) as caught:
        nectar.create_run(
            ReportTask(), {"workers": 1, "executor": "inline"}, preset, tags={"team": "x", "b": "c"}, select="*"
        )
    for said in ("`workers=1`", "`executor='inline'`", "`the tag team`", "`select='*'`"):
        assert f"{said} is given, and the preset `full` sets it too" in caught.value.message
    assert "has its `day`, and the preset `full` sets it too" in caught.value.message
    assert "the tag b" not in caught.value.message
    with opened(settings.current()) as books:
        assert not books.list().rows, "nothing was created"


def test_a_preset_that_is_not_there_or_not_right_says_so():
    with pytest.raises(errors.PresetNotFound) as caught:
        nectar.execute(ReportTask, preset="dialy")
    assert caught.value.hint == "did you mean `daily`?"
    with pytest.raises(errors.PresetInvalid) as caught_too:
        nectar.execute(ReportTask, preset="odd")
    assert "the preset `odd` sets `dya`, which `ReportTask` does not have" in caught_too.value.message
    assert caught_too.value.hint == "did you mean `day`?"
    with pytest.raises(errors.InvalidParameters, match="`day` cannot be `soon`"):
        nectar.execute(ReportTask, preset=nectar.Preset("soon", params={"day": "soon"}))
    with pytest.raises(errors.InvalidParameters, match="needs a value for `n`"):
        nectar.execute(WayTask)
    bad = nectar.Preset("bad", params=3, tags={"a": 1}, workers=0, select=4)  # type: ignore[arg-type]
    with pytest.raises(errors.PresetInvalid) as caught_last:
        nectar.execute(ReportTask, preset=bad)
    assert caught_last.value.message.count("of the preset `bad`") == 4


def test_a_class_without_a_preset_has_its_defaults():
    assert nectar.execute(WayTask, preset=nectar.Preset("three", params={"n": 3})).success
    assert nectar.execute(LoadTask).output_for(LoadTask()).load() == "day 1"
