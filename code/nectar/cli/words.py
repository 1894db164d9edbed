"""Take apart what follows a command: a chain, a task, and the task's own parameters, which are not click's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from nectar import errors, settings
from nectar.settings import Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])
_Complete = TypeVar("_Complete", bound=Callable[..., list[CompletionItem]])

#: what follows the first word is the task's, also where nectar or click has an option of that name
CONTEXT = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": ["-h", "--help"]}


TAG = "tag"  #: the name of a tag that is given as one word


class TaskCommand(click.Command):
    """A command whose own options come before its arguments, and whose later words are a task's."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(context, args)
        first = context.params.get("chain") or (context.params.get("words") or ("",))[0]
        if first.startswith("-") and not context.resilient_parsing:
            own = [option for parameter in self.params for option in parameter.opts if option.startswith("-")]
            hint = errors.did_you_mean(first, own) or f"`nectar {self.name} --help` lists the options"
            raise errors.UsageError(f"no option `{first}`", hint=hint)
        return rest

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        named = context.params.get("task") or len(context.params.get("words") or ()) > 1
        if incomplete.startswith("-") and named:
            words = next(parameter for parameter in self.params if parameter.name == "words")
            return words.shell_complete(context, incomplete)
        return super().shell_complete(context, incomplete)


def quiet(complete: _Complete) -> _Complete:
    """Let a completion offer nothing where it fails: its complaint would land in the person's prompt."""

    @functools.wraps(complete)
    def guarded(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            return complete(context, parameter, incomplete)
        except (errors.NectarError, KeyError):
            return []

    return guarded  # type: ignore[return-value]


def tag_of(text: str) -> tuple[str, str]:
    """Return the name and the value of `NAME=VALUE`; a word alone is the value of the tag `tag`.

    Raises:
        UsageError: for any other text.
    """
    name, equals, value = text.partition("=")
    if not name:
        raise errors.UsageError(f"`{text}` is no tag", hint="give it as NAME=VALUE")
    return (name, value) if equals else (TAG, name)


def select_option(command: _Command) -> _Command:
    """Add `--select` to a command."""
    words = "Only what WHAT names: `Class`, `type/chain/Class`, `Class(param=value)`, patterns, between commas. "
    words += "A `*` before or behind a name adds all upstream or downstream of it, each `+` one level."
    return click.option("--select", "-s", metavar="WHAT", help=words)(command)


def preset_option(command: _Command) -> _Command:
    """Add `--preset` to a command."""
    words = "What a preset of the chain sets: parameters, selection, tags, executor; `nectar list` shows them."
    return click.option("--preset", metavar="NAME", help=words)(command)


def asks_for_help(current: Settings, chain: str, task: str, words: tuple[str, ...]) -> bool:
    """Print a task's parameters where that is what its words ask for."""
    from nectar.chain.catalog import describe
    from nectar.chain.description import find_task
    from nectar.chain.finder import find_chain
    from nectar.cli.chains import print_task

    if not {"--help", "-h"}.intersection(words):
        return False
    found = find_task(describe(current, find_chain(current.chains_dir, chain)), task)
    if any(one.name == "help" for one in found.parameters):
        return False
    print_task(found, details=True)
    return True


@quiet
def _complete_words(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    before = context.params.get("words") or ()
    if not before:
        return complete_chains(context, parameter, incomplete)
    context.params["chain"] = before[0]
    if len(before) == 1:
        return _complete_tasks(context, parameter, incomplete)
    context.params["task"] = before[1]
    return _complete_parameters(context, parameter, incomplete)


@quiet
def complete_chains(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of chains."""
    from nectar.chain.catalog import discover

    return [
        CompletionItem(chain.name.path, help=chain.doc)
        for chain in discover(settings.current()).chains
        if chain.name.path.startswith(incomplete)
    ]


@quiet
def _complete_tasks(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from nectar.chain.catalog import describe
    from nectar.chain.finder import find_chain

    current = settings.current()
    chain = describe(current, find_chain(current.chains_dir, context.params["chain"]))
    return [CompletionItem(task.name, help=task.doc) for task in chain.tasks if task.name.startswith(incomplete)]


@quiet
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


def task_arguments(command: _Command) -> _Command:
    """Add the arguments `CHAIN TASK [--parameter VALUE ...]` to a command."""
    command = click.argument(
        "words", nargs=-1, type=click.UNPROCESSED, metavar="[--PARAMETER VALUE]...", shell_complete=_complete_parameters
    )(command)
    command = click.argument("task", metavar="TASK", shell_complete=_complete_tasks)(command)
    return click.argument("chain", metavar="CHAIN", shell_complete=complete_chains)(command)


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
