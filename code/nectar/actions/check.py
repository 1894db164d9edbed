"""Say whether a pipeline file can be carried out, as far as that can be told without running anything."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from nectar import errors, settings
from nectar.chain.finder import SUFFIX, find_chain
from nectar.extensions import offered
from nectar.pipeline import vocabulary
from nectar.pipeline.model import Dag, Pipeline
from nectar.pipeline.reading import read_pipeline, read_variables
from nectar.pipeline.services import read_services


@dataclass(frozen=True, slots=True)
class Checked:
    """A pipeline file without a fault."""

    file: str  #: as it was named
    pipeline: Pipeline

    @property
    def steps(self) -> int:
        """How many steps it has, those of the DAGs within it included."""
        return _count(self.pipeline.dag)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        digest = self.pipeline.dag.digest
        return {"file": self.file, "ok": True, "steps": self.steps, "dag_hash": digest, "faults": []}


def _count(dag: Dag) -> int:
    return sum(1 + sum(_count(inner) for inner in node.dags) for node in dag.nodes.values())


def pipeline_file(text: str) -> Path:
    """Return the file that is meant: one by its path, or the pipeline that is the chain of this name.

    Raises:
        ChainNotFound, ProjectNotFound: for the name of a chain that is not there.
        UsageError: for a chain that is a module.
    """
    path = Path(text)
    if path.exists() or not path.name.endswith(SUFFIX):
        return path
    chains_dir = settings.current().chains_dir  # asked for here: a file by its path needs no project
    chain = find_chain(chains_dir, text)
    file = chains_dir.parent / chain.file_in(chains_dir.parent)
    if file.suffix == ".py":
        hint = f"`nectar list {chain}` tells what is in it"
        raise errors.UsageError(f"the chain `{chain}` is a module, and no pipeline file", hint=hint)
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def check(path: Path, *, variables: Path | None = None, configuration: Path | None = None) -> Checked:
    """Return what a pipeline file is; nothing is run, imported or written.

    Raises:
        PipelineInvalid: with all that is wrong in it, and in the files of its variables and its configuration.
        UsageError: when one of them cannot be read.
    """
    found: list[errors.FileInvalid] = []
    known, pipeline = None, None
    try:
        known = None if variables is None else read_variables(variables)
    except errors.FileInvalid as error:
        found.append(error)
    if not found:  # without its variables a file would be told faults that it does not have
        try:
            pipeline = read_pipeline(path, known)
        except errors.FileInvalid as error:
            found.append(error)
    try:
        if configuration is not None:
            read_services(configuration)
    except errors.FileInvalid as error:
        found.append(error)
    if found or pipeline is None:
        raise _together(found)
    return Checked(str(path), pipeline)


def _together(found: list[errors.FileInvalid]) -> errors.PipelineInvalid:
    faults = [fault for error in found for fault in error.faults]
    return errors.PipelineInvalid("\n".join(error.message for error in found), faults=faults, hint=found[0].hint)


def schema() -> str:
    """Return the JSON schema of pipeline files, draft 2020-12: an editor that knows it completes and checks them.

    The implementations of services that other installed packages offer are in it.
    """
    document = json.loads(resources.files("nectar.pipeline").joinpath("pipeline.schema.json").read_text("utf-8"))
    for service, group in vocabulary.GROUPS.items():
        document["properties"][service]["properties"]["type"]["enum"] += offered(group)
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"
