"""Say which keys a pipeline file has, and where; whatever is not here is unknown."""

from __future__ import annotations

from collections.abc import Mapping

from nectar.pipeline.model import NodeType

FILE = ("dag", "executor", "run_log_store", "catalog", "secrets")
DAG = ("description", "start_at", "steps", "max_time", "mode_config", "schedule")
CATALOG = ("compute_data_folder", "get", "put")
SERVICE = ("type", "config")

_ENDS = ("type", "mode_config")
_STEP = ("type", "next", "on_failure", "mode_config")

#: the keys of a step, by its type
STEPS: Mapping[NodeType, tuple[str, ...]] = {
    NodeType.TASK: (*_STEP, "command_type", "command", "command_config", "retry", "catalog"),
    NodeType.SUCCESS: _ENDS,
    NodeType.FAIL: _ENDS,
    NodeType.PARALLEL: (*_STEP, "branches"),
    NodeType.MAP: (*_STEP, "iterate_on", "iterate_as", "branch"),
    NodeType.DAG: (*_STEP, "dag_definition"),
    NodeType.AS_IS: (*_STEP, "render_string", "command"),
}

#: the keys that a step cannot do without, by its type
REQUIRED: Mapping[NodeType, tuple[str, ...]] = {
    NodeType.TASK: ("next", "command"),
    NodeType.SUCCESS: (),
    NodeType.FAIL: (),
    NodeType.PARALLEL: ("next", "branches"),
    NodeType.MAP: ("next", "iterate_on", "iterate_as", "branch"),
    NodeType.DAG: ("next", "dag_definition"),
    NodeType.AS_IS: ("next",),
}

#: service -> the group of entry points by which other packages offer implementations
GROUPS: Mapping[str, str] = {
    "executor": "nectar.executors",
    "run_log_store": "nectar.run_log_stores",
    "catalog": "nectar.catalogs",
    "secrets": "nectar.secrets",
}

#: service -> its implementations that are built in
SERVICES: Mapping[str, tuple[str, ...]] = {
    "executor": ("local", "inline", "processes", "luigi"),
    "run_log_store": ("buffered", "file-system", "database"),
    "catalog": ("do-nothing", "file-system", "store"),
    "secrets": ("do-nothing", "dotenv", "environment", "aws-secrets-manager"),
}
