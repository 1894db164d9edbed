"""`nectar render`."""

from __future__ import annotations

from pathlib import Path

import click

from nectar import errors, settings
from nectar.cli import console
from nectar.cli.words import CONTEXT, TaskCommand, asks_for_help

_TARGETS = ("bash", "argo", "step-functions", "airflow")
_FILE = click.Path(path_type=Path)


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@console.json_option
@click.option("--to", "to", type=click.Choice(_TARGETS), required=True, help="The engine.")
@click.option(
    "--out", "-o", "out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Write a file there."
)
@click.option("--config-file", "-c", "config", type=_FILE, metavar="FILE", help="Services of a pipeline.")
@click.option("--var-file", "-v", "variables", type=_FILE, metavar="FILE", help="Values for `${name}` in a pipeline.")
@click.option("--parameters-file", "-p", "parameters", type=_FILE, metavar="FILE", help="Parameters of a pipeline.")
@click.argument(
    "words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CHAIN TASK|FILE [--PARAMETER VALUE]..."
)
def render(
    as_json: bool,
    to: str,
    out: Path | None,
    config: Path | None,
    variables: Path | None,
    parameters: Path | None,
    words: tuple[str, ...],
) -> None:
    """Write TASK and all that it needs, or the pipeline in FILE, for another engine, which then carries it out.

    Each node runs the ordinary command, and makes one task or one step in the store that the settings name. What is
    written is printed, or goes into a file in DIR, whose name is printed.
    """
    from nectar.actions.render import SUFFIXES, Files, render_file
    from nectar.actions.render import render as render_chain

    current = settings.current()
    files = Files(config, variables, parameters)
    if words[0].endswith(SUFFIXES):
        made = render_file(current, to, Path(words[0]), words[1:], files)
    elif files != Files():
        raise errors.UsageError("only a pipeline has such files", hint="name its file: `nectar render ... p.yaml`")
    elif len(words) > 1 and asks_for_help(current, words[0], words[1], words[2:]):
        return
    else:
        made = render_chain(current, to, words)
    place = None if out is None else _written(out, made.file_name, made.text)
    if as_json:
        told = {"to": to, "file_name": made.file_name, "place": None if place is None else str(place)}
        console.print_json(told | {"warnings": list(made.warnings), "text": made.text})
        return
    for text in made.warnings:
        console.line(("warning: ", "odd"), text, err=True)
    if place is None:
        click.echo(made.text, nl=False)
    else:
        console.line(str(place))


def _written(folder: Path, name: str, text: str) -> Path:
    place = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise errors.UsageError(f"`{place}` cannot be written: {reason}", hint="name another folder") from error
    return place
