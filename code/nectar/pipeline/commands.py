"""Say what is wrong with a command, as far as that can be told without running it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from nectar.pipeline.faults import quoted
from nectar.pipeline.model import CommandType

_Wrong = tuple[str, str]  #: what is wrong, and the hint


def wrong(command: str, kind: CommandType) -> _Wrong | None:
    """Return what is wrong with a command of a kind and how it is put right, None where nothing is."""
    return _CHECKS[kind](command)


def _function(command: str) -> _Wrong | None:
    parts = command.split(".")
    if len(parts) > 1 and all(part.isidentifier() for part in parts):
        return None
    message = f"the command {quoted(command)} is no dotted name of a function"
    if command.lstrip().startswith("lambda"):
        return message, "a lambda has `command_type: python-lambda`"
    if command.endswith(".ipynb"):
        return message, "a notebook has `command_type: notebook`"
    if any(character in command for character in " /|;&"):
        return message, "a line for the shell has `command_type: shell`"
    return message, "write `module.function`"


def _lambda(command: str) -> _Wrong | None:
    hint = "write `lambda x: {'x': x + 1}`, on one line or in parentheses"
    try:
        with warnings.catch_warnings():  # of the compiler: they are told when the command runs
            warnings.simplefilter("ignore")
            tree = ast.parse(command.strip(), mode="eval")
    except SyntaxError as error:
        return f"the command {quoted(command)} is no Python: {error.msg}", hint
    except (MemoryError, RecursionError, ValueError):
        return f"the command {quoted(command)} is no Python that can be read", hint
    if not isinstance(tree.body, ast.Lambda):
        return f"the command {quoted(command)} is no lambda", hint
    return None


def _shell(command: str) -> _Wrong | None:
    return None  # only a shell can tell


def _notebook(command: str) -> _Wrong | None:
    if command.endswith(".ipynb") and PurePosixPath(command).stem != ".ipynb":
        return None
    return f"the command {quoted(command)} is no path of a notebook", "it ends in `.ipynb`"


_CHECKS: Mapping[CommandType, Callable[[str], _Wrong | None]] = {
    CommandType.PYTHON: _function,
    CommandType.PYTHON_LAMBDA: _lambda,
    CommandType.SHELL: _shell,
    CommandType.NOTEBOOK: _notebook,
}
