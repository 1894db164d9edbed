"""What is rendered of a chain does what `nectar run` does, under engines that are the real ones."""

from __future__ import annotations

from typing import Any

import pytest
from days import ALL, ASKED, CHAIN, ODD, WITHOUT_DAY_2


@pytest.fixture
def days(project: Any) -> Any:
    project.file("chains/etl/days_chain.py", CHAIN)
    return project


def made_by_run(project: Any, *words: str) -> tuple[int, list[str]]:
    """Return what `nectar run` makes in a copy of the project: its exit code, and the targets."""
    other = type(project)(project.root.parent / "other")
    other.file("chains/etl/days_chain.py", CHAIN)
    return other.nectar("run", *ASKED, *words).returncode, other.targets()


def test_a_script_makes_what_a_run_makes_and_nothing_twice(days):
    script = days.render("bash", *ASKED, "--word", ODD)
    done = days.run("bash", script)
    assert done.returncode == 0, done.stderr
    assert sorted(days.noted()) == ALL
    assert (0, days.targets()) == made_by_run(days, "--word", ODD)
    again = days.run("bash", script)
    assert again.returncode == 0 and days.noted() == []


def test_a_script_goes_on_with_what_a_failure_does_not_stop_and_resumes(days):
    script = days.render("bash", *ASKED, "--fails")
    done = days.run("bash", script)
    assert done.returncode == 1
    assert "blocked chains.etl.days_chain.CleanTask(day=2" in done.stderr
    assert sorted(days.noted()) == WITHOUT_DAY_2
    assert (1, days.targets()) == made_by_run(days, "--fails")
    mended = days.run("bash", days.render("bash", *ASKED))
    assert mended.returncode == 0 and sorted(days.noted()) == ["CleanTask", "LoadTask", "ReportTask"]


def test_each_node_of_a_script_is_a_run_of_one_step(days):
    days.run("bash", days.render("bash", *ASKED))
    listed = days.nectar("runs", "--json").stdout
    assert listed.count('"succeeded": 1') == len(ALL)


def test_a_state_machine_makes_what_a_run_makes(days, states):
    definition = days.render("step-functions", *ASKED, "--word", ODD).read_text("utf-8")
    told = states.run(definition, "well")
    assert told["status"] == "SUCCEEDED", told
    assert sorted(days.noted()) == ALL
    assert (0, days.targets()) == made_by_run(days, "--word", ODD)


def test_a_state_machine_goes_on_with_what_a_failure_does_not_stop_and_fails(days, states):
    definition = days.render("step-functions", *ASKED, "--fails").read_text("utf-8")
    told = states.run(definition, "badly")
    assert told["status"] == "FAILED", told
    assert sorted(days.noted()) == WITHOUT_DAY_2
    assert (1, days.targets()) == made_by_run(days, "--fails")


def test_a_state_machine_with_several_ends_fails_if_one_of_them_does_after_all_others(days, states):
    both = (*ASKED, "--fails", "--and", "etl/days_chain", "LoadTask", "--day", "7")
    told = states.run(days.render("step-functions", *both).read_text("utf-8"), "ends")
    assert told["status"] == "FAILED", told
    assert sorted(days.noted()) == sorted([*WITHOUT_DAY_2, "LoadTask"])


def test_a_store_on_this_machine_is_told_of_and_one_in_memory_refused(days):
    warned = days.nectar("render", "--to", "argo", *ASKED)
    assert warned.returncode == 0 and warned.stderr.count("warning: ") == 2
    assert "# the store is a folder of this machine" in warned.stdout
    assert days.nectar("render", "--to", "bash", *ASKED).stderr == ""
    days.file("configuration/nectar.toml", '[store]\nurl = "memory://x"\n')
    refused = days.nectar("render", "--to", "bash", *ASKED)
    assert refused.returncode == 2 and "error: the store is in memory" in refused.stderr and refused.stdout == ""


def test_nothing_is_run_or_written_where_something_is_rendered(days):
    days.nectar("render", "--to", "airflow", *ASKED)
    assert days.noted() == [] and days.targets() == []
