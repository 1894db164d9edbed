"""Make a pipeline file among the chains a module with one task, `PipelineTask`, that stands for all its steps.

So it is listed, planned, drawn, run and asked for like any other chain: a target that is there is not made again, and
each step works in a private folder.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import luigi

from nectar import errors
from nectar.pipeline.faults import Faults
from nectar.pipeline.model import DEFAULTS, Pipeline, Service
from nectar.pipeline.names import FILES_READ
from nectar.pipeline.needs import needs_of
from nectar.pipeline.reading import read_pipeline
from nectar.pipeline.services import merge, of_settings
from nectar.pipeline.standing import read_standings
from nectar.pipeline.tasks import NodeTask
from nectar.pipeline.wiring import Wirer, Wiring
from nectar.task import Task
from nectar.task.register import TaskRegister

TASK = "PipelineTask"


class ChainPipelineTask(Task):
    """All steps of a pipeline; its output is the parameters as they are in the end."""

    pipeline: ClassVar[Pipeline]
    filename = "parameters.json"
    has_code = False  # what it does is its pipeline

    def requires(self) -> NodeTask:
        """Return the task that goes through the pipeline."""
        given = {name: getattr(self, name) for name, _ in type(self).get_params()}
        initial = {name: value for name, value in given.items() if value is not None}
        secrets = merge(self.pipeline.services, of_settings()).secrets
        assert secrets is not None
        wiring = Wiring(type(self).__module__, None, _catalog(self.pipeline), secrets)
        task = Wirer(wiring).root(self.pipeline.dag, initial).task
        assert task is not None
        return task

    def run(self) -> None:
        """Write down the parameters."""
        root = self.requires()
        [standing] = read_standings(root.target_store(), [root.target_address()])
        self.dump(dict(standing.parameters))


def fill(module: ModuleType, path: Path) -> None:
    """Make a module what a pipeline file says.

    Raises:
        PipelineInvalid: with everything that is wrong with the file.
    """
    pipeline = read_pipeline(path)
    needs = needs_of(pipeline.dag)
    taken = sorted(name for name in (*needs.required, *needs.optional) if hasattr(ChainPipelineTask, name))
    if taken:
        faults = Faults(str(path))
        for name in taken:
            faults.add(None, f"tasks have the name of the parameter `{name}` for themselves", "call it otherwise")
        raise faults.error(errors.PipelineInvalid, "`nectar execute --file` takes such names as they are")
    members: dict[str, Any] = {name: luigi.Parameter() for name in needs.required}
    members |= {name: luigi.OptionalParameter(default=None) for name in needs.optional}
    text = pipeline.dag.description or ChainPipelineTask.__doc__
    members |= {"pipeline": pipeline, "__module__": module.__name__, "__doc__": text, "__qualname__": TASK}
    module.__doc__ = pipeline.dag.description or None
    setattr(module, FILES_READ, tuple(needs.files))
    setattr(module, TASK, TaskRegister(TASK, (ChainPipelineTask,), members))


def _catalog(pipeline: Pipeline) -> Service:
    """Return where files are kept that steps hand on: a folder of one run would not hold what another run finds."""
    chosen = merge(pipeline.services).catalog
    assert chosen is not None and DEFAULTS.catalog is not None
    return Service("store") if chosen.type == DEFAULTS.catalog.type else chosen
