"""List the chains of a project, in the shape that the HTTP interface has too."""

from __future__ import annotations

from typing import Any

from nectar.chain.catalog import Catalog, discover
from nectar.chain.description import TaskDescription
from nectar.settings import Settings


def catalog(settings: Settings) -> Catalog:
    """Return all chains, broken ones by name.

    Raises:
        ProjectNotFound: when there is no `chains/` folder.
    """
    return discover(settings)


def catalog_json(found: Catalog) -> dict[str, Any]:
    """Return chain type -> `{"chains": [...], "broken": [...]}`."""
    document: dict[str, Any] = {}
    for kind, chains in found.by_type().items():
        document[kind] = {
            "chains": [
                {
                    "name": chain.name.name,
                    "path": chain.name.path,
                    "description": chain.doc,
                    "tasks": [_task(task) for task in chain.tasks],
                    "presets": [preset.to_json() for preset in chain.presets],
                    "preset_faults": list(chain.preset_faults),
                }
                for chain in chains
            ],
            "broken": [],
        }
    for broken in found.broken:
        kind = broken.path.partition("/")[0]
        document.setdefault(kind, {"chains": [], "broken": []})["broken"].append(broken.to_json())
    return document


def _task(task: TaskDescription) -> dict[str, Any]:
    return {
        "task_name": task.name,
        "description": task.doc,
        "parameters": [parameter.to_json() for parameter in task.parameters],
    }
