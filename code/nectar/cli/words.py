"""Take apart what follows a command: a chain, a task, and the task's own parameters, which are not click's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from nectar import settings

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: what follows the first word is the task's, also where nectar or click has an option of that name
CONTEXT = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": ["-h", "--help"]}


def task_arguments(command: _Command) -> _Command:
    """Add the arguments `CHAIN TASK [--parameter VALUE ...]` to a command."""
    command = click.argument(
        "words", nargs=-1, type=click.UNPROCESSED, metavar="[--PARAMETER VALUE]...", shell_complete=_complete_parameters
    )(command)
    command = click.argument("task", metavar="TASK", shell_complete=_complete_tasks)(command)
    return click.argument("chain", metavar="CHAIN", shell_complete=_complete_chains)(command)


def target_arguments(command: _Command) -> _Command:
    """Add the arguments that name a target: a path, a key, or a task."""
    return click.argument(
        "words",
        nargs=-1,
        required=True,
        type=click.UNPROCESSED,
        metavar="PATH|KEY|CHAIN TASK [--PARAMETER VALUE]...",
        shell_complete=_complete_words,
    )(command)


def _complete_words(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    before = context.params.get("words") or ()
    if not before:
        return _complete_chains(context, parameter, incomplete)
    context.params["chain"] = before[0]
    if len(before) == 1:
        return _complete_tasks(context, parameter, incomplete)
    context.params["task"] = before[1]
    return _complete_parameters(context, parameter, incomplete)


def _complete_chains(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from nectar.chain.catalog import discover

    return [
        CompletionItem(chain.name.path, help=chain.doc)
        for chain in discover(settings.current()).chains
        if chain.name.path.startswith(incomplete)
    ]


def _complete_tasks(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from nectar.chain.catalog import describe
    from nectar.chain.finder import find_chain

    current = settings.current()
    chain = describe(current, find_chain(current.chains_dir, context.params["chain"]))
    return [CompletionItem(task.name, help=task.doc) for task in chain.tasks if task.name.startswith(incomplete)]


def _complete_parameters(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from nectar.chain.catalog import describe
    from nectar.chain.description import find_task
    from nectar.chain.finder import find_chain

    current = settings.current()
    task = find_task(describe(current, find_chain(current.chains_dir, context.params["chain"])), context.params["task"])
    before = list(context.params.get("words") or ())
    known = {f"--{one.name.replace('_', '-')}": one for one in task.parameters}
    if before and before[-1] in known and known[before[-1]].type != "bool":
        return [CompletionItem(choice) for choice in known[before[-1]].choices or () if choice.startswith(incomplete)]
    return [
        CompletionItem(option, help=one.description)
        for option, one in known.items()
        if option.startswith(incomplete) and option not in before
    ]
