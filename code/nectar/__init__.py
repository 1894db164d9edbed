"""Target-driven data chains on luigi: hashed targets, records, chains by a naming convention.

What is listed in `__all__` is public; everything else may change. Nothing is loaded before it is asked for, so that
the command line starts at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nectar.actions.executing import create_run, execute, execute_run
    from nectar.actions.plan import plan
    from nectar.actions.run import run
    from nectar.chain.presets import Preset
    from nectar.pipeline.functions import (
        get_from_catalog,
        get_parameter,
        get_secret,
        put_in_catalog,
        report_metric,
        store_parameter,
        track_this,
    )
    from nectar.secrets.parameter import SecretParameter
    from nectar.steps import Context, Step
    from nectar.task import CODE, FileSource, LocalTask, S3Task, Task

__version__ = "0.1.0"

__all__ = [
    "CODE",
    "Context",
    "FileSource",
    "LocalTask",
    "Preset",
    "S3Task",
    "SecretParameter",
    "Step",
    "Task",
    "__version__",
    "create_run",
    "execute",
    "execute_run",
    "get_from_catalog",
    "get_parameter",
    "get_secret",
    "plan",
    "put_in_catalog",
    "report_metric",
    "run",
    "store_parameter",
    "track_this",
]

_HOMES = {
    "CODE": "nectar.task",
    "Context": "nectar.steps",
    "FileSource": "nectar.task",
    "LocalTask": "nectar.task",
    "Preset": "nectar.chain.presets",
    "S3Task": "nectar.task",
    "SecretParameter": "nectar.secrets.parameter",
    "Step": "nectar.steps",
    "Task": "nectar.task",
    "create_run": "nectar.actions.executing",
    "execute": "nectar.actions.executing",
    "execute_run": "nectar.actions.executing",
    "get_from_catalog": "nectar.pipeline.functions",
    "get_parameter": "nectar.pipeline.functions",
    "get_secret": "nectar.pipeline.functions",
    "plan": "nectar.actions.plan",
    "put_in_catalog": "nectar.pipeline.functions",
    "report_metric": "nectar.pipeline.functions",
    "run": "nectar.actions.run",
    "store_parameter": "nectar.pipeline.functions",
    "track_this": "nectar.pipeline.functions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `nectar` has no attribute `{name}`")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
