"""Every error can be told apart, and every command is described and documented."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import re
from pathlib import Path

import pytest

import nectar
from nectar import errors
from nectar.cli.entry import COMMANDS
from nectar.errors import ExitCode, NectarError

ROOT = Path(__file__).resolve().parents[2]


def tree(cls):
    yield cls
    for child in cls.__subclasses__():
        yield from tree(child)


for module in pkgutil.walk_packages(nectar.__path__, "nectar."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
CLASSES = list(dict.fromkeys(tree(NectarError)))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_class_has_a_code_a_sentence_an_exit_code_and_a_status(cls):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", vars(cls)["code"]), "a code of its own"
    first = cls.__doc__.strip().splitlines()[0]
    assert re.fullmatch(r"[A-Z`].*[^.]\.", first), "its docstring begins with one sentence"
    assert isinstance(cls.exit_code, ExitCode) and cls.exit_code is not ExitCode.OK
    assert 400 <= cls.http_status <= 599


def test_no_two_error_classes_share_a_code():
    codes = [cls.code for cls in CLASSES]
    assert sorted(codes) == sorted(set(codes))


def test_all_errors_are_of_one_tree_in_one_module():
    assert {cls.__module__ for cls in CLASSES} == {errors.__name__}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_survives_the_way_between_processes(cls):
    error = cls("no chain `x`", hint="did you mean `y`?")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, copy.hint, str(copy)) == (cls, error.message, error.hint, str(error))


def test_usage_errors_exit_2_and_store_errors_5():
    assert all(cls.exit_code is ExitCode.USAGE for cls in tree(errors.UsageError))
    assert all(cls.http_status < 500 for cls in tree(errors.UsageError))
    assert errors.StoreUnreachable.exit_code is ExitCode.STORE_UNREACHABLE
    assert errors.ChainBroken.exit_code is ExitCode.IMPORT_FAILED


def test_the_commands_are_those_that_were_promised():
    assert set("run plan explain list show status logs path verify adopt gc doctor".split()) <= set(COMMANDS)


@pytest.fixture(scope="module")
def helps(made_project):
    return {name: made_project.nectar(name, "--help") for name in COMMANDS}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_help_and_json(helps, name):
    answer = helps[name]
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"Usage: nectar {name} ")
    assert "--help" in answer.out
    assert "--json" in answer.out or name in SILENT


#: `serve` answers over HTTP, and it is the commands of `token` that answer
SILENT = ("serve", "token")


def stems(text):
    return {word[:5] for word in re.findall(r"[a-z]{5,}", text.lower())}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_the_list_of_commands_says_what_the_help_says(helps, name):
    line = COMMANDS[name][1]
    full = helps[name].out
    shared = stems(line) & stems(full)
    assert line.endswith(".")
    assert len(shared) >= len(stems(line)) / 2, (stems(line) - shared, full)


def test_help_lists_every_command_and_every_exit_code(made_project):
    text = made_project.nectar("--help").out
    for name, (_, line) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", text, re.MULTILINE)
    for code in ExitCode:
        assert re.search(rf"\b{int(code)} [a-z]", text)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_names_every_command(name):
    assert re.search(rf"\bnectar {name}\b", (ROOT / "README.md").read_text(encoding="utf-8"))
