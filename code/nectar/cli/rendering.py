"""`nectar render`."""

from __future__ import annotations

from pathlib import Path

import click

from nectar import errors, settings
from nectar.cli import console
from nectar.cli.words import CONTEXT, TaskCommand, asks_for_help

_TARGETS = ("bash", "argo", "step-functions", "airflow")


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@click.option("--to", "to", type=click.Choice(_TARGETS), required=True, help="The engine.")
@click.option(
    "--out", "-o", "out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write a file there."
)
@click.argument("chain", metavar="CHAIN")
@click.argument("task", metavar="TASK")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[--PARAMETER VALUE]...")
def render(to: str, out: Path | None, chain: str, task: str, words: tuple[str, ...]) -> None:
    """Write TASK and all that it needs for another engine, which then makes it task by task.

    Each node runs the ordinary command, and makes one task in the store that the settings name. It is printed, or
    written to a file in DIR, whose name is printed.
    """
    from nectar.actions.render import render as make

    current = settings.current()
    if asks_for_help(current, chain, task, words):
        return
    made = make(current, to, (chain, task, *words))
    for text in made.warnings:
        console.line(("warning: ", "odd"), text, err=True)
    if out is None:
        click.echo(made.text, nl=False)
        return
    place = out / made.file_name
    try:
        out.mkdir(parents=True, exist_ok=True)
        place.write_text(made.text, encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise errors.UsageError(f"`{place}` cannot be written: {reason}", hint="name another folder") from error
    console.line(str(place))
