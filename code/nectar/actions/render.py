"""Write what is to be carried out for another engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nectar import errors
from nectar.actions.resolve import AND, split_parameters, task_of
from nectar.chain.finder import find_chain
from nectar.export.chains import chain_work
from nectar.export.pipeline_work import PipelineWork
from nectar.export.targets import TARGETS, Target, render_chain, render_pipeline
from nectar.export.work import Rendered
from nectar.pipeline.chains import ChainPipelineTask
from nectar.pipeline.model import Pipeline
from nectar.pipeline.reading import read_parameters, read_pipeline, read_variables
from nectar.pipeline.services import merge, of_settings, read_services
from nectar.settings import Settings

SUFFIXES = (".yaml", ".yml")  #: of pipeline files


@dataclass(frozen=True, slots=True)
class Files:
    """The files that go with a pipeline."""

    config: Path | None = None  #: its services
    variables: Path | None = None
    parameters: Path | None = None


def render(settings: Settings, to: str, words: Sequence[str]) -> Rendered:
    """Return `CHAIN TASK [--param value ...] [--and CHAIN TASK ...]` for an engine; nothing is run or written.

    Raises:
        NotRenderable: with all that the engine, or the settings, make impossible.
        ChainNotFound, TaskNotFound, ChainBroken, InvalidParameters: as for every command.
        GraphError: when there is no such graph; a circle is drawn.
    """
    target = TARGETS[to]
    asked = []
    for chain_text, name, *params in _apart(words):
        chain = find_chain(settings.chains_dir, chain_text)
        task = task_of(settings, chain_text, name, params)
        if isinstance(task, ChainPipelineTask):
            raise errors.NotRenderable(
                f"`{chain.path}` is a pipeline, whose steps are more than tasks",
                hint=f"render its file: `nectar render --to {to} chains/{chain.path}.yaml`",
            )
        asked.append((chain.path, name, task))
    return render_chain(chain_work(asked, warnings(settings, target)), target)


def render_file(settings: Settings, to: str, path: Path, words: Sequence[str], files: Files) -> Rendered:
    """Return a pipeline file for an engine; nothing is run, imported or written.

    The words are parameters that it begins with where the engine is given no others.

    Raises:
        NotRenderable: with all that the engine, or the settings, make impossible.
        PipelineInvalid, FileInvalid: with everything that is wrong with the files.
        UsageError: when a file cannot be read.
        InvalidParameters: for words that are no parameters.
    """
    target = TARGETS[to]
    variables = read_variables(files.variables) if files.variables is not None else None
    pipeline = read_pipeline(path, variables)
    if files.parameters is not None:
        read_parameters(files.parameters)  # so that what is wrong with it is told here, and not by each node
    given = split_parameters(words)
    taken = sorted(set(given).intersection(OPTIONS))
    if taken:
        listed = ", ".join(f"`--{one}`" for one in taken)
        raise errors.NotRenderable(
            f"{listed} is an option of `nectar execute`, and can be no parameter on its command line",
            hint="give it by a parameters file: `-p FILE`",
        )
    chosen = ["execute", "--file", _named(settings, path)]
    for option, file in (("-c", files.config), ("-v", files.variables), ("-p", files.parameters)):
        chosen += [] if file is None else [option, _named(settings, file)]
    told = [*warnings(settings, target), *_of_services(pipeline, files, target)]
    told += [f"`{one}` lies outside of the project" for one in (path, *_given(files)) if not _inside(settings, one)]
    text = pipeline.dag.description or pipeline.name
    work = PipelineWork(text, pipeline.name, tuple(chosen), given, pipeline.dag, tuple(told))
    return render_pipeline(work, target)


#: names that `nectar execute` reads itself
OPTIONS = frozenset(
    "json workers executor scheduler_url force force_all dry_run fail_fast echo quiet tag select file config_file "
    "var_file parameters_file run_id use_cached step items null log_level help".split()
)


def _given(files: Files) -> list[Path]:
    return [one for one in (files.config, files.variables, files.parameters) if one is not None]


def _inside(settings: Settings, path: Path) -> bool:
    return path.resolve().is_relative_to(settings.root.resolve())


def _named(settings: Settings, path: Path) -> str:
    """Return how a node names a file: from the project's folder, in which it works."""
    return path.resolve().relative_to(settings.root.resolve()).as_posix() if _inside(settings, path) else str(path)


def _of_services(pipeline: Pipeline, files: Files, target: Target) -> list[str]:
    """Return what the services of a pipeline mean for steps that are carried out on other machines.

    Raises:
        NotRenderable: when the run log would be lost.
    """
    first = read_services(files.config) if files.config is not None else pipeline.services
    services = merge(first, pipeline.services, of_settings())
    logs: Any = services.run_log_store
    catalog: Any = services.catalog
    if not target.elsewhere:
        return []
    if logs.type == "buffered":
        raise errors.NotRenderable(
            f"the run log store is `buffered`, and with {target.name} its buffer is gone with the last node",
            hint="choose another one, in the pipeline or by `-c FILE`: `run_log_store: {type: database}`",
        )
    found = []
    if logs.type == "file-system":
        found.append("run logs are kept in a folder of the last node: mount it, or choose the type `database`")
    if catalog.type == "file-system":
        found.append("the catalog is a folder of each node: choose the type `store`, or mount its `location` there")
    return found


def _apart(words: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == AND:
            parts.append([])
        else:
            parts[-1].append(word)
    if any(len(part) < 2 or part[0].startswith("-") or part[1].startswith("-") for part in parts):
        raise errors.UsageError(
            "there is no chain and task to render, and no pipeline file",
            hint="as in `nectar render --to bash etl/flights_chain ReportTask`",
        )
    return parts


def warnings(settings: Settings, target: Target) -> tuple[str, ...]:
    """Return what nodes on other machines would lack of these settings, one sentence each.

    Raises:
        NotRenderable: when no node could find what another one made.
    """
    if settings.store_url.startswith("memory:"):
        raise errors.NotRenderable(
            "the store is in memory, and each node is a process of its own",
            hint="set `[store] url` to a folder or a bucket",
        )
    if not target.elsewhere:
        return ()
    found = []
    if settings.store_url.startswith("file:"):
        found.append(
            "the store is a folder of this machine: every node needs it at the same path, or a bucket as `[store] url`"
        )
    if settings.run_store_url.startswith("sqlite:"):
        found.append(
            "the history of runs is a file of this machine: nodes elsewhere write one of their own, unless "
            "`[runs] url` is a PostgreSQL"
        )
    return tuple(found)
