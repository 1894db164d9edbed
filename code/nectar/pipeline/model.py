"""The values that a pipeline file is: a DAG of named steps, some of which hold DAGs themselves, and its services."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class NodeType(str, Enum):
    """What a step is."""

    TASK = "task"  #: a command
    SUCCESS = "success"  #: the DAG ends well
    FAIL = "fail"  #: the DAG ends badly
    PARALLEL = "parallel"  #: DAGs side by side
    MAP = "map"  #: one DAG, once for each value of a parameter
    DAG = "dag"  #: a DAG in the place of a step
    AS_IS = "as-is"  #: text for the engine that it is rendered for; here nothing happens


class CommandType(str, Enum):
    """How a command is carried out."""

    PYTHON = "python"  #: `module.function`, or `path.to.module.function`
    PYTHON_LAMBDA = "python-lambda"  #: a lambda's source
    SHELL = "shell"  #: a line for `/bin/sh`
    NOTEBOOK = "notebook"  #: a path, relative to the folder in which the step works


@dataclass(frozen=True, slots=True)
class CatalogWish:
    """What a step takes from the catalog before it begins, and puts there when it has ended."""

    folder: str | None = None  #: to which patterns are relative, below the folder in which the step works
    get: tuple[str, ...] = ()  #: patterns, as fnmatch has them
    put: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a DAG. What its type does not have is None, or empty."""

    name: str  #: within its DAG; without `.` and `%`
    type: NodeType
    document: Mapping[str, Any]  #: the step as the file has it
    line: int  #: of its name in the file, from 1
    next: str | None = None  #: the step after it; None for success and fail
    on_failure: str | None = None  #: the step after it where it fails; None: the fail node
    command: str | None = None
    command_type: CommandType = CommandType.PYTHON
    command_config: Mapping[str, Any] = field(default_factory=dict)
    retry: int = 1  #: attempts, the first included
    catalog: CatalogWish = CatalogWish()
    branches: Mapping[str, Dag] = field(default_factory=dict)  #: of parallel, by name, in the order of the file
    branch: Dag | None = None  #: of map, carried out once for each value; of dag, its definition
    iterate_on: str | None = None  #: of map: the parameter whose values these are
    iterate_as: str | None = None  #: of map: the name under which a branch knows its value
    render_string: str | None = None  #: of as-is
    mode_config: Mapping[str, Any] = field(default_factory=dict)  #: settings by the name of an executor

    @property
    def dags(self) -> Iterator[Dag]:
        """The DAGs within it."""
        yield from self.branches.values()
        if self.branch is not None:
            yield self.branch


@dataclass(frozen=True, slots=True)
class Dag:
    """Steps, one of which is the first, one a success and one a failure."""

    nodes: Mapping[str, Node]  #: by name, in the order of the file
    start_at: str
    document: Mapping[str, Any]  #: the DAG as the file has it
    description: str = ""
    max_time: int | None = None  #: seconds
    schedule: str | None = None
    mode_config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def success(self) -> str:
        """The name of its success node."""
        return next(node.name for node in self.nodes.values() if node.type is NodeType.SUCCESS)

    @property
    def fail(self) -> str:
        """The name of its fail node."""
        return next(node.name for node in self.nodes.values() if node.type is NodeType.FAIL)

    def after_failure(self, node: Node) -> str:
        """Return the name of the step that follows where a step fails."""
        return node.on_failure or self.fail

    @property
    def digest(self) -> str:
        """The sha1 of the DAG as JSON with sorted keys: 40 hex digits, which magnus calls `dag_hash`."""
        return hashlib.sha1(json.dumps(self.document, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Service:
    """Which implementation of a service is wanted, and how it is set."""

    type: str
    config: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the service as a JSON value."""
        return {"type": self.type, "config": dict(self.config)}


@dataclass(frozen=True, slots=True)
class Services:
    """The services of a pipeline. None: as the next configuration says, and in the end as `DEFAULTS`."""

    executor: Service | None = None
    run_log_store: Service | None = None
    catalog: Service | None = None
    secrets: Service | None = None


DEFAULTS = Services(Service("local"), Service("buffered"), Service("file-system"), Service("do-nothing"))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline file that was read and has no fault."""

    name: str  #: of the file, without its suffix
    dag: Dag
    services: Services = Services()  #: what the file itself says
