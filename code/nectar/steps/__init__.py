"""Steps: a pipeline wired in a notebook, without modules, parameters or output paths.

The way of working, and the names, are those of job-orchestra (https://pypi.org/project/job-orchestra/). What a step
returns stays in memory; a `Context` keeps it, and stores it in files.
"""

from __future__ import annotations

from nectar.steps.context import Context
from nectar.steps.step import Step

__all__ = ["Context", "Step"]
