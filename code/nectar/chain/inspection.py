"""Describe the tasks of an imported chain. This module imports luigi: only importer processes load it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, cast

import luigi
from luigi.parameter import ParameterVisibility, _no_value

from nectar.chain.description import (
    MASK,
    ChainDescription,
    ParameterDescription,
    PresetDescription,
    TaskDescription,
)
from nectar.chain.finder import PRESETS, ChainName

TASK_SUFFIX = "Task"
_LIBRARIES = ("luigi", "nectar")  #: whose parameter classes have friendly names
_SCOPES = (  #: whose names are not the module's
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.comprehension,
)
_CHOICES = re.compile(r"\s*Choices: \{.*\}$", re.DOTALL)
_FRIENDLY = {
    "": "str",
    "Str": "str",
    "Int": "int",
    "Float": "float",
    "Bool": "bool",
    "Date": "date",
    "Month": "month",
    "Year": "year",
    "DateHour": "hour",
    "DateMinute": "minute",
    "DateSecond": "second",
    "DateInterval": "interval",
    "TimeDelta": "duration",
    "Task": "task",
    "Enum": "choice",
    "EnumList": "choices",
    "Choice": "choice",
    "ChoiceList": "choices",
    "Dict": "dict",
    "List": "list",
    "Tuple": "tuple",
    "Path": "path",
    "Secret": "secret",
}


def describe_module(module: ModuleType, name: ChainName, source: bytes) -> ChainDescription:
    """Return the description of a chain from its imported module and its source.

    Its tasks are the luigi tasks whose name in the module ends in `Task` and that the module defines itself or takes
    as aliases by an assignment at its top level; names that start with `_` are not listed.
    """
    is_module = str(module.__file__).endswith(".py")  # a pipeline has no names but its task's
    assigned = _assigned_names(ast.parse(source)) if is_module else frozenset()
    tasks = [
        _describe_task(task_name, value)
        for task_name, value in vars(module).items()
        if task_name.endswith(TASK_SUFFIX)
        and not task_name.startswith("_")
        and isinstance(value, type)
        and issubclass(value, luigi.Task)
        and (value.__module__ == module.__name__ or task_name in assigned)
    ]
    presets, faults = _presets(module, [vars(module)[task.name] for task in tasks])
    return ChainDescription(name, _first_paragraph(module.__doc__), tuple(tasks), presets, faults)


def _presets(
    module: ModuleType, tasks: list[type[luigi.Task]]
) -> tuple[tuple[PresetDescription, ...], tuple[str, ...]]:
    """Return the presets of a chain, and what is wrong with them; a parameter has to be one of any of its tasks."""
    if not hasattr(module, PRESETS):
        return (), ()
    from nectar.chain.presets import declared, texts  # late: most chains have none

    right, faults = declared(module)
    parameters = {name: parameter for task in reversed(tasks) for name, parameter in task.get_params()}
    described = []
    for preset in right:
        told, problems = texts(preset, parameters.items(), "no task of the chain has")
        faults += [problem.message for problem in problems]
        if not problems:
            params = {name: MASK if _is_private(parameters[name]) else text for name, text in told.items()}
            tags = dict(preset.tags)
            described.append(
                PresetDescription(preset.name, params, preset.select, tags, preset.executor, preset.workers)
            )
    return tuple(described), tuple(faults)


def own_task(module: ModuleType, task_name: str) -> type[luigi.Task] | None:
    """Return the class that `describe_module` lists under a name because the module defines it; None for all others.

    An alias of a class from elsewhere is among those others, since only the source tells it from an import.
    """
    value = vars(module).get(task_name)
    if not task_name.endswith(TASK_SUFFIX) or task_name.startswith("_") or not isinstance(value, type):
        return None
    return value if issubclass(value, luigi.Task) and value.__module__ == module.__name__ else None


def _assigned_names(tree: ast.Module) -> frozenset[str]:
    """Return the names that a module's own statements assign; those that it imports only are not among them."""
    return frozenset(name.id for name in _names_of_scope(tree) if isinstance(name.ctx, ast.Store))


def _names_of_scope(node: ast.AST) -> Iterator[ast.Name]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name):
            yield child
        elif not isinstance(child, _SCOPES):
            yield from _names_of_scope(child)


def _first_paragraph(doc: object) -> str:
    text = inspect.cleandoc(doc) if isinstance(doc, str) else ""
    return " ".join(re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0].split())


def _describe_task(name: str, task: type[luigi.Task]) -> TaskDescription:
    get_params = cast("Callable[[], list[tuple[str, luigi.Parameter[Any]]]]", task.get_params)
    return TaskDescription(
        name=name,
        doc=_first_paragraph(task.__doc__),
        family=str(task.get_task_family()),
        parameters=tuple(_describe_parameter(parameter_name, value) for parameter_name, value in get_params()),
    )


def _describe_parameter(name: str, parameter: luigi.Parameter[Any]) -> ParameterDescription:
    has_default = parameter._default is not _no_value
    is_private = _is_private(parameter)
    default = _default_text(parameter) if has_default else None
    return ParameterDescription(
        name=name,
        type=_type_word(type(parameter)),
        default=MASK if has_default and is_private else default,
        required=not has_default,
        significant=bool(parameter.significant),
        choices=_choices(parameter),
        # luigi appends the choices in an order that differs from process to process.
        description=_CHOICES.sub("", parameter.description or "").strip(),
        visibility=ParameterVisibility(parameter.visibility).name.lower(),
    )


def _is_private(parameter: luigi.Parameter[Any]) -> bool:
    return parameter.visibility == ParameterVisibility.PRIVATE


def _type_word(kind: type[luigi.Parameter[Any]]) -> str:
    if kind.__module__.partition(".")[0] not in _LIBRARIES:
        return kind.__name__
    word = kind.__name__.removeprefix("Optional").removesuffix("Parameter")
    return _FRIENDLY.get(word, "number" if word == "Numerical" else kind.__name__)


def _default_text(parameter: luigi.Parameter[Any]) -> str | None:
    value = parameter._default
    if value is None:
        return None
    serialize = cast("Callable[[Any], str]", parameter.serialize)
    try:
        return str(serialize(parameter.normalize(value)))
    except Exception:  # the author's own class may refuse it (a path must exist); it is still shown
        return str(value)


def _choices(parameter: luigi.Parameter[Any]) -> tuple[str, ...] | None:
    if isinstance(parameter, luigi.EnumParameter | luigi.EnumListParameter):
        return tuple(parameter._enum.__members__)
    if isinstance(parameter, luigi.ChoiceParameter):
        return tuple(map(str, _in_order(list(parameter._choices))))
    return None


def _in_order(choices: list[Any]) -> list[Any]:
    try:
        return sorted(choices)
    except TypeError:  # values that have no order: any order will do that is the same in every process
        return sorted(choices, key=str)
