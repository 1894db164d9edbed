"""Carry out the command of a step: a Python function, a lambda, a line of shell, or a notebook."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType
from typing import Any

from nectar import errors, settings
from nectar.pipeline.context import VARIABLE, StepContext
from nectar.pipeline.functions import not_set
from nectar.pipeline.model import CommandType, Node
from nectar.pipeline.names import text_of
from nectar.pipeline.standing import checked_parameters
from nectar.programs import carry_out, ending

PARAMETER, MAP, TRACK = "NECTAR_PRM_", "NECTAR_MAP_", "NECTAR_TRACK_"
PROJECT = "NECTAR_PROJECT"  #: its folder: a step's own need not lie in it
SHELL = ("/bin/sh", "-c")

_TRACKED = re.compile(rf"^{TRACK}([^\W\d]\w*)=(.*)$")
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,300})(\.\d+)?([eE][+-]?\d{1,2})?", re.ASCII)


def carry_out_command(node: Node, context: StepContext) -> None:
    """Carry a command out, and store what it returns as parameters.

    Raises:
        CommandFailed: when a program cannot be started, or ends with another exit code than 0.
        ParameterNotSet, ResultInvalid: when it asks for what is not there, or returns what cannot be parameters.
        Whatever a function raises.
    """
    _COMMANDS[node.command_type](node, context)


def _python(node: Node, context: StepContext) -> None:
    assert node.command is not None
    module, _, name = node.command.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise errors.CommandFailed(
            f"`{context.step}` cannot find `{node.command}`: {error}",
            hint="modules are looked for in the project, and in the folder in which the command was started",
        ) from error
    _call(function, context)


def _lambda(node: Node, context: StepContext) -> None:
    assert node.command is not None
    _call(eval(_compiled(node.command.strip(), node.name), {"__name__": "nectar_step"}), context)


@functools.lru_cache(maxsize=64)
def _compiled(text: str, step: str) -> CodeType:
    return compile(text, f"<the lambda of {step}>", "eval")


def _call(function: Callable[..., Any], context: StepContext) -> None:
    parameters = inspect.signature(function).parameters.values()
    arguments = dict(_arguments(parameters, context))
    by_place = (one.name for one in parameters if one.kind is one.POSITIONAL_ONLY)
    positional = [arguments.pop(name) for name in by_place if name in arguments]
    here = os.getcwd()
    os.chdir(context.around.folder)
    try:
        with context.sharing():
            returned = function(*positional, **arguments)
    finally:
        os.chdir(here)
    context.store_parameters(checked_parameters(context.step, returned))


def _arguments(parameters: Iterable[inspect.Parameter], context: StepContext) -> Iterator[tuple[str, Any]]:
    known = context.known
    taken = set()
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            yield from ((name, value) for name, value in known.items() if name not in taken)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            continue
        elif parameter.name in known:
            taken.add(parameter.name)
            yield parameter.name, known[parameter.name]
        elif parameter.default is parameter.empty:
            raise not_set(context.step, parameter.name, known)


def _shell(node: Node, context: StepContext) -> None:
    assert node.command is not None
    environment = variables(context) | context.share()
    try:
        code = carry_out([*SHELL, node.command], folder=context.around.folder, environment=environment)
    except (OSError, ValueError) as error:
        raise errors.CommandFailed(
            f"the command of `{context.step}` cannot be started: {error}",
            hint="parameters are in its environment: a value may not be longer than 128 KiB, or hold a null",
        ) from error
    finally:
        context.hear()
    if code != 0:
        raise errors.CommandFailed(f"the command of `{context.step}` {ending(code)}", hint="its logs tell more")


def _notebook(node: Node, context: StepContext) -> None:
    from nectar.pipeline.notebooks import carry_out_notebook  # late: it needs this module, and few need it

    carry_out_notebook(node, context)


_COMMANDS: Mapping[CommandType, Callable[[Node, StepContext], None]] = {
    CommandType.PYTHON: _python,
    CommandType.PYTHON_LAMBDA: _lambda,
    CommandType.SHELL: _shell,
    CommandType.NOTEBOOK: _notebook,
}


def variables(context: StepContext) -> dict[str, str]:
    """Return the environment of a program of a step: this process's, without another step's values, and its own."""
    ours = (PARAMETER, MAP, VARIABLE)
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    parameters = {f"{PARAMETER}{name}": text_of(value) for name, value in context.standing.parameters.items()}
    values = {f"{MAP}{name}": text_of(value) for name, value in context.values.items()}
    return inherited | parameters | values | {PROJECT: str(settings.current().root)}


def tracked(log: str) -> dict[str, int | float | str]:
    """Return the metrics that a program printed, as `NECTAR_TRACK_name=value` on lines of their own.

    What is a number in JSON is one; everything else is text.

    Raises:
        FileNotFoundError: when there is no such log.
    """
    found: dict[str, int | float | str] = {}
    if not os.path.getsize(log):
        return found
    with open(log, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if match := _TRACKED.match(line):
                text = match[2].rstrip()
                found[match[1]] = json.loads(text) if _NUMBER.fullmatch(text) else text
    return found
