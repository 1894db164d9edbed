"""`nectar execute`: carry out what a file describes, whatever kind of file it is."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click

from nectar import errors
from nectar.cli.running import Wish, fulfil, run_options
from nectar.cli.words import select_option


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file that can be carried out."""

    looks_so: Callable[[Path, bytes], bool]  #: by its name and its content
    execute: Callable[[Wish, Path], int]  #: returns the exit code


@click.command()
@run_options
@select_option
@click.option(
    "--file",
    "-f",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A description: bencode or JSON, as `Dag.save` writes it.",
)
def execute(wish: Wish, select: str | None, path: Path) -> int:
    """Carry out what FILE describes; what is complete is left as it is.

    The commands in a description run as they stand there: execute only a file that you trust. Each runs in a folder of
    its own and writes the file that `$NECTAR_OUTPUT` names; `$NECTAR_INPUT_<name>` are the files of its inputs.
    """
    from nectar.description.files import read

    raw = read(path)
    wish = replace(wish, options=replace(wish.options, select=select))
    for kind in KINDS:
        if kind.looks_so(path, raw):
            return kind.execute(wish, path)
    raise errors.UsageError(
        f"`{path}` is nothing that can be carried out",
        hint="give a description, as `Dag.save` of `nectar.description` writes it: bencode, or JSON in UTF-8",
    )


def _is_description(path: Path, raw: bytes) -> bool:
    from nectar.description.files import looks_like_a_description

    return looks_like_a_description(raw)


def _execute_description(wish: Wish, path: Path) -> int:
    from nectar.actions.execute import check_containers, read_description

    described = read_description(path)
    if not wish.dry_run:
        check_containers(described, wish.options.force, wish.options.select)
    selected = ("--select", wish.options.select) if wish.options.select else ()
    return fulfil(wish, described.roots, lambda: shlex.join(("execute", *selected, "--file", str(path))))


#: the first that takes a file carries it out
KINDS = (Kind(_is_description, _execute_description),)
