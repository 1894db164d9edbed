"""`nectar describe` and `nectar diff`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nectar import errors, settings
from nectar.cli import console
from nectar.cli.words import CONTEXT, TaskCommand, asks_for_help, task_arguments
from nectar.errors import ExitCode

if TYPE_CHECKING:
    from nectar.description import Dag
    from nectar.description.comparison import Comparison, Remade

_BENCODE = "--bencode"
_ID = re.compile(r"[0-9a-f]{64}")


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, which is what is printed anyway.")
@click.option(_BENCODE, "as_bencode", is_flag=True, help="Print bencode, the bytes of a description file.")
@task_arguments
def describe(as_json: bool, as_bencode: bool, chain: str, task: str, words: tuple[str, ...]) -> None:
    """Describe TASK and all that it stands on as data: each task's identity, its inputs, the id of its output.

    The ids are those of the targets; no store is asked. `--bencode` may also come last.
    """
    from nectar.actions.describe import describe as make
    from nectar.actions.resolve import tasks_of

    current = settings.current()
    if asks_for_help(current, chain, task, words):
        return
    if words[-1:] == (_BENCODE,):
        as_bencode, words = True, words[:-1]
    if as_json and as_bencode:
        raise errors.UsageError("a description is JSON or bencode, not both", hint="leave one of them out")
    dag = make(*tasks_of(current, chain, task, words))
    if as_bencode:
        sys.stdout.buffer.write(dag.bencode())
    else:
        click.echo(dag.json(), nl=False)


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@console.json_option
@click.argument(
    "words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="RUN RUN | FILE FILE | FILE CHAIN TASK ..."
)
def diff(as_json: bool, words: tuple[str, ...]) -> int:
    """Say what two runs did differently, or what was changed between two descriptions and will be remade.

    Of two RUNs: what they were asked for, which steps ended otherwise, and why keys differ. Of a description FILE and
    another, or a FILE and what `nectar describe CHAIN TASK ...` prints: what changed, and which outputs are other ones.
    """
    if _is_file(words[0]):
        _print_comparison(_compared(words), as_json=as_json)
    elif len(words) == 2 and not _is_file(words[1]):
        _print_runs(*words, as_json=as_json)
    else:
        raise errors.UsageError(
            "these are neither two runs nor two descriptions",
            hint="`nectar diff RUN RUN`, `nectar diff FILE FILE`, or `nectar diff FILE CHAIN TASK ...`: the file first",
        )
    return int(ExitCode.OK)


def _is_file(word: str) -> bool:
    return Path(word).suffix in (".dag", ".json") or Path(word).is_file()


def _compared(words: tuple[str, ...]) -> Comparison:
    from nectar.description.comparison import compare

    if len(words) < 2:
        raise errors.UsageError(
            f"nothing to compare `{words[0]}` with", hint="another description file follows, or CHAIN TASK"
        )
    return compare(_loaded(words[0]), _loaded(words[1]) if len(words) == 2 else _described(words[1:]))


def _loaded(path: str) -> Dag:
    from nectar.description import Dag

    return Dag.load(path)


def _described(words: tuple[str, ...]) -> Dag:
    from nectar.actions.describe import describe as make
    from nectar.actions.resolve import tasks_of

    return make(*tasks_of(settings.current(), words[0], words[1], words[2:]))


def _print_comparison(found: Comparison, *, as_json: bool) -> None:
    if as_json:
        console.print_json(found.to_json())
        return
    if not found.changes and not found.remade:
        console.line("no difference")
    for one in found.changes:
        _print_change(one.of, one.change.component, one.change.old, one.change.new)
    for remade in found.remade:
        _print_remade(remade)


def _print_remade(one: Remade) -> None:
    ids = f"{_said(one.was)} -> {_said(one.output)}"
    since = [console.short_name(name, None) for name in one.since]
    console.line(("remade  ", "good"), console.short_name(one.task, None), f"  {ids}", (f"  {', '.join(since)}", "dim"))


def _print_runs(first: str, second: str, *, as_json: bool) -> None:
    from nectar.actions.diff import diff as compare
    from nectar.actions.history import opened, tell
    from nectar.stores import stores_in_use

    with opened(settings.current()) as books:
        found = compare(stores_in_use(), tell(books, first), tell(books, second))
    if as_json:
        console.print_json([one.to_json() for one in found])
        return
    if not found:
        console.line("no difference")
    for one in found:
        _print_change(one.of, one.what, one.first, one.second)


def _print_change(of: str, what: str, old: object, new: object) -> None:
    console.line((console.short_name(of, None), "bold"), f"  {what}: {_said(old)} -> {_said(new)}")


def _said(value: object) -> str:
    if value is None:
        return "-"
    text = str(value)
    return f"{text[:12]}..." if _ID.fullmatch(text) else text
