"""`nectar execute`: carry out what a file describes, whatever kind of file it is."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click

from nectar import errors
from nectar.cli.running import Wish, fulfil, run_options
from nectar.cli.words import select_option

_LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a file is to be carried out with, beside how; some of it only pipelines know."""

    path: Path
    select: str | None
    words: tuple[str, ...]  #: `--name value ...` of parameters
    config: Path | None
    variables: Path | None
    parameters: Path | None
    run_id: str | None
    use_cached: str | None
    step: str | None
    items: str | None
    null: bool  #: the values of `items` are not JSON, and each ends with a NUL

    @property
    def of_pipelines(self) -> Mapping[str, object]:
        """What only a pipeline can be told, by option."""
        given = {
            "--config-file": self.config,
            "--var-file": self.variables,
            "--parameters-file": self.parameters,
            "--run-id": self.run_id,
            "--use-cached": self.use_cached,
            "--step": self.step,
            "--items": self.items,
            "--null": self.null or None,
        }
        return {option: value for option, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file that can be carried out."""

    looks_so: Callable[[Path, bytes], bool]  #: by its name and its content
    execute: Callable[[Wish, Asked], int]  #: returns the exit code


def _path(*names: str, what: str) -> Callable[..., Callable[..., int]]:
    return click.option(*names, type=click.Path(path_type=Path), metavar="FILE", help=what)


@click.command(context_settings={"ignore_unknown_options": True})
@run_options
@select_option
@_path("--file", "-f", "path", what="A pipeline in YAML, or a description as `Dag.save` writes it.")
@_path("--config-file", "-c", "config", what="Services of a pipeline, YAML or TOML; wins over the pipeline's own.")
@_path("--var-file", "-v", "variables", what="Values for `${name}` in the pipeline and its configuration.")
@_path("--parameters-file", "-p", "parameters", what="Parameters with their types, YAML or JSON.")
@click.option("--run-id", metavar="ID", help="The run's id; with `--step`, of the run that the step is of.")
@click.option("--use-cached", metavar="RUN", help="Repeat a run; what succeeded in it and is unchanged is kept.")
@click.option("--step", metavar="NAME", help="One step of the run `--run-id` alone, such as `par.A.s`.")
@click.option("--items", metavar="NAME", help="Print the values of the map step NAME of the run `--run-id`, as JSON.")
@click.option("--null", is_flag=True, help="Print the values of `--items` as they are, a NUL byte after each.")
@click.option("--log-level", type=click.Choice(_LEVELS, case_sensitive=False), help="What of the log is shown.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[--PARAMETER VALUE]...")
def execute(wish: Wish, log_level: str | None, path: Path | None, **given: object) -> int:
    """Carry out what a file says: a pipeline, or a description.

    Every step of a pipeline runs, whatever was made before, and a run log is printed at its end. Of a description only
    what is missing is made: each command runs in a folder of its own and writes the file that `$NECTAR_OUTPUT` names,
    `$NECTAR_INPUT_<name>` are the files of its inputs. What stands in the file is carried out: execute only what you
    trust.
    """
    from nectar.description.files import read

    if path is None:
        raise errors.UsageError("no file is named", hint="`nectar execute --file pipeline.yaml`")
    if log_level is not None:
        import logging

        logging.getLogger().setLevel(log_level.upper())
        logging.getLogger("luigi-interface").setLevel(log_level.upper())
    asked = Asked(path, **given)  # type: ignore[arg-type]  # click gives them by these names
    raw = read(path)
    wish = replace(wish, options=replace(wish.options, select=asked.select))
    for kind in KINDS:
        if kind.looks_so(path, raw):
            return kind.execute(wish, asked)
    raise errors.UsageError(
        f"`{path}` is nothing that can be carried out",
        hint="give a pipeline, `*.yaml`, or a description, as `Dag.save` of `nectar.description` writes it",
    )


def _is_description(path: Path, raw: bytes) -> bool:
    from nectar.description.files import looks_like_a_description

    return path.suffix not in (".yaml", ".yml") and looks_like_a_description(raw)


def _execute_description(wish: Wish, asked: Asked) -> int:
    from nectar.actions.execute import check_containers, read_description

    surplus = [*asked.of_pipelines, *asked.words]
    if surplus:
        hint = "a description has neither parameters nor services"
        raise errors.UsageError(f"`{surplus[0]}` is for pipelines, and `{asked.path}` is a description", hint=hint)
    described = read_description(asked.path)
    if not wish.dry_run:
        check_containers(described, wish.options.force, wish.options.select)
    selected = ("--select", wish.options.select) if wish.options.select else ()
    return fulfil(wish, described.roots, lambda: shlex.join(("execute", *selected, "--file", str(asked.path))))


def _is_pipeline(path: Path, raw: bytes) -> bool:
    return path.suffix in (".yaml", ".yml")


def _execute_pipeline(wish: Wish, asked: Asked) -> int:
    from nectar.cli.pipelines import execute_pipeline

    return execute_pipeline(wish, asked)


#: the first that takes a file carries it out
KINDS = (Kind(_is_pipeline, _execute_pipeline), Kind(_is_description, _execute_description))
