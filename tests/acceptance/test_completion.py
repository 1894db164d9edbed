"""The shell completes commands, chains, tasks, parameters and choices, through the installed command."""

from __future__ import annotations

import shutil
import subprocess

import pytest

CHAIN = "etl/daily_chain"


@pytest.fixture(scope="module")
def asked(made_project):
    made_project.chain("ds/topics_chain", '"""Topics."""\nimport nectar\nclass TopicsTask(nectar.Task):\n    pass\n')
    made_project.chain("ds/broken_chain", "import nothing_of_this_name\n")
    return made_project


def completed(project, *words):
    """Return what bash is offered for the last word."""
    answer = project.nectar(
        _NECTAR_COMPLETE="bash_complete",
        COMP_WORDS=" ".join(["nectar", *words]),
        COMP_CWORD=str(len(words)),
    )
    assert answer.code == 0, answer
    assert answer.err == "", answer
    return [line.partition(",")[2] for line in answer.out.splitlines() if line]


CASES = {
    "commands": (["ru"], ["run", "runs"]),
    "a command's options": (["run", "--ec"], ["--echo"]),
    "chains": (["run", ""], ["ds/topics_chain", CHAIN]),
    "chains by their beginning": (["plan", "etl/"], [CHAIN]),
    "tasks": (["run", CHAIN, ""], ["LoadTask", "ReportTask"]),
    "tasks by their beginning": (["explain", CHAIN, "Re"], ["ReportTask"]),
    "parameters": (["run", CHAIN, "ReportTask", ""], ["--day", "--title", "--kind", "--loud"]),
    "parameters not given yet": (["run", CHAIN, "ReportTask", "--day", "3", ""], ["--title", "--kind", "--loud"]),
    "parameters after a flag": (["path", CHAIN, "ReportTask", "--loud", ""], ["--day", "--title", "--kind"]),
    "choices": (["run", CHAIN, "ReportTask", "--kind", ""], ["long", "short"]),
    "choices by their beginning": (["run", CHAIN, "ReportTask", "--kind", "sh"], ["short"]),
    "chains of a target": (["show", "etl"], [CHAIN]),
    "tasks of a target": (["logs", CHAIN, "Load"], ["LoadTask"]),
    "chains that are kept": (["gc", "--keep", "etl"], [CHAIN]),
    "choices of a target": (["show", CHAIN, "ReportTask", "--kind", "l"], ["long"]),
}


@pytest.mark.parametrize(("words", "offered"), CASES.values(), ids=CASES)
def test_the_shell_is_offered(asked, words, offered):
    assert completed(asked, *words) == offered


@pytest.mark.parametrize("command", ["run", "show"])
@pytest.mark.parametrize(
    ("word", "offered"), [("--", ["--day", "--title", "--kind", "--loud"]), ("--ki", ["--kind"])], ids=["--", "--ki"]
)
def test_the_shell_is_offered_parameters_after_their_dashes(asked, command, word, offered):
    assert completed(asked, command, CHAIN, "ReportTask", word) == offered


@pytest.mark.parametrize("command", ["list", "status", "verify"])
def test_the_shell_is_offered_chains_where_they_may_stand_alone(asked, command):
    assert completed(asked, command, "etl/") == [CHAIN]


@pytest.mark.parametrize("chain", ["ds/broken_chain", "no/such_chain"])
def test_completing_what_cannot_be_known_offers_nothing_and_is_quiet(asked, chain):
    assert completed(asked, "run", chain, "") == []


def test_zsh_is_told_what_each_task_is(asked):
    answer = asked.nectar(_NECTAR_COMPLETE="zsh_complete", COMP_WORDS=f"nectar run {CHAIN} ", COMP_CWORD="3")
    assert answer.out.splitlines() == ["plain", "LoadTask", "Loads one day.", "plain", "ReportTask", "Reports one day."]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell_calls_the_command(asked, shell):
    answer = asked.nectar(_NECTAR_COMPLETE=f"{shell}_source")
    assert answer.code == 0
    assert f"_NECTAR_COMPLETE={shell}_complete" in answer.out


def test_a_real_bash_completes_a_task(asked):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    script = f"""
        eval "$(_NECTAR_COMPLETE=bash_source nectar)"
        COMP_WORDS=(nectar run {CHAIN} Re) COMP_CWORD=3 COMP_LINE="nectar run {CHAIN} Re" COMP_POINT=99
        _nectar_completion nectar
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = asked.environment()
    import sys
    from pathlib import Path

    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        [bash, "--norc", "-c", script], cwd=asked.root, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("ReportTask\n", "")
