"""Find the task, or the target, that a command line names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import luigi

from nectar import errors
from nectar.address import Address
from nectar.chain.description import find_task
from nectar.chain.finder import ChainName, find_chain
from nectar.chain.inspection import describe_module, own_task
from nectar.chain.project import load_module
from nectar.parameters import parse_texts
from nectar.settings import Settings
from nectar.task import ground
from nectar.task.register import default_value


def task_class(settings: Settings, chain: ChainName, task_name: str) -> Any:
    """Import a chain in this process and return the class that a task's name means there.

    Raises:
        ChainNotFound, TaskNotFound: with what was probably meant.
        ChainBroken: when the chain cannot be imported.
    """
    module = load_module(settings, chain)
    found: Any = own_task(module, task_name)
    if found is None:  # an alias, or a mistake that a description helps to tell of
        source = Path(str(module.__file__)).read_bytes()
        found = getattr(module, find_task(describe_module(module, chain, source), task_name).name)
    ground.set_main_module(chain.module)
    return found


def find_root_task(settings: Settings, chain_text: str, task_name: str, texts: Mapping[str, str]) -> luigi.Task:
    """Return the task that a chain, a name and parameters as text mean.

    Raises:
        ChainNotFound, TaskNotFound: with what was probably meant.
        ChainBroken: when the chain cannot be imported.
        InvalidParameters: with every bad parameter, not only the first.
    """
    cls = task_class(settings, find_chain(settings.chains_dir, chain_text), task_name)
    return instance_of(cls, texts, task_name)


def instance_of(cls: Any, texts: Mapping[str, str], subject: str) -> luigi.Task:
    """Return the task of a class with parameters as text; `subject` is what messages call it.

    Raises:
        InvalidParameters: with every bad parameter, not only the first.
    """
    parameters = cls.get_params()
    names = ground.lookup_names(cls)
    no_value = luigi.parameter._no_value
    defaults = [name for name, one in parameters if default_value(names, name, one) is not no_value]
    return cls(**parse_texts(parameters, texts, defaults=defaults, subject=subject))  # type: ignore[no-any-return]


def split_parameters(words: Sequence[str], flags: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return parameter name -> text of `--name value`, `--name=value`, and `--flag` for boolean ones.

    Raises:
        InvalidParameters: for a word that belongs to no option, and for an option without a value.
    """
    texts: dict[str, str] = {}
    problems = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            problems.append(errors.ParameterProblem(word, f"`{word}` belongs to no parameter"))
            continue
        name, equals, text = word[2:].partition("=")
        name = name.replace("-", "_")
        if name in texts:
            problems.append(errors.ParameterProblem(name, f"`{name}` is given twice"))
        if equals:
            texts[name] = text
        elif name in flags and (not rest or rest[0].lower() not in ("true", "false")):
            texts[name] = "true"
        elif rest:
            texts[name] = rest.pop(0)
        else:
            problems.append(errors.ParameterProblem(name, f"`--{name}` has no value"))
    if problems:
        raise errors.InvalidParameters(
            "; ".join(problem.message for problem in problems),
            problems=problems,
            hint="parameters follow the task's name, as `--name value`; nectar's own options come before the chain",
        )
    return texts


def boolean_parameters(cls: Any) -> frozenset[str]:
    """Return the names of a task's boolean parameters, which need no value on a command line."""
    return frozenset(name for name, one in cls.get_params() if isinstance(one, luigi.BoolParameter))


def task_of(settings: Settings, chain_text: str, task_name: str, words: Sequence[str]) -> luigi.Task:
    """Return the task that the words of a command line mean.

    Raises: as `find_root_task` and `split_parameters`.
    """
    cls = task_class(settings, find_chain(settings.chains_dir, chain_text), task_name)
    return find_root_task(settings, chain_text, task_name, split_parameters(words, boolean_parameters(cls)))


AND = "--and"  #: between two tasks on a command line; no parameter can have a Python keyword's name


def tasks_of(settings: Settings, chain_text: str, task_name: str, words: Sequence[str]) -> list[luigi.Task]:
    """Return the tasks that `CHAIN TASK [--param value ...] --and CHAIN TASK ...` means.

    Raises: as `task_of`; UsageError where no chain and task follow an `--and`.
    """
    rest = list(words)
    if AND not in rest:
        return [task_of(settings, chain_text, task_name, rest)]
    first, more = rest[: rest.index(AND)], rest[rest.index(AND) + 1 :]
    if len(more) < 2 or more[0].startswith("-") or more[1].startswith("-"):
        raise errors.UsageError(f"no chain and task follow `{AND}`", hint=f"as in `{AND} etl/flights_chain ReportTask`")
    return [task_of(settings, chain_text, task_name, first), *tasks_of(settings, more[0], more[1], more[2:])]


def address_of(task: luigi.Task) -> Address:
    """Return where a task's target lies.

    Raises:
        TargetNotFound: for a task that is none of Nectar's and has no target in a store.
    """
    ask = getattr(task, "target_address", None)
    if ask is None:
        raise errors.TargetNotFound(
            f"`{task!r}` has no target in a store",
            hint="it is a plain luigi task; let it inherit from `nectar.Task`",
        )
    return ask()  # type: ignore[no-any-return]
