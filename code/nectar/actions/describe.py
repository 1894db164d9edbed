"""Describe tasks and all that their identities stand on as plain data: the same ids as those of their targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import luigi

from nectar.description import Dag
from nectar.parameters import MASK
from nectar.task import ground
from nectar.task.closure import closure, document_of, output_id_of

_LONGEST_VALUE = 60  #: characters of a parameter's value in a task's name


def describe(*tasks: luigi.Task) -> Dag:
    """Return a description: each task with its identity as the spec, its inputs by their paths, and its output id.

    Equal in every process, also where the project lies elsewhere. Private parameters count by the digest of their
    value, as in the identity, and are masked in names. No store is asked.

    Raises:
        CycleFound, ClosureTooLarge: when there is no such graph; a circle is drawn.
        IdentityError, TaskBroken: when a task has no identity, or its `requires()` raises.
    """
    ground.begin_epoch()
    found = closure(tasks)
    # Requirements come first. Two classes of one family have equal ids: they are one piece of work.
    documents = {found.identities[ref].output_id: document_of(task) for ref, task in found.tasks.items()}
    names = {output_id: _name(document) for output_id, document in documents.items()}
    count = Counter(names.values())
    names = {one: name if count[name] == 1 else f"{name} {one[:12]}" for one, name in names.items()}
    dag = Dag({"roots": [names[one] for one in dict.fromkeys(map(output_id_of, tasks))]})
    for output_id, document in documents.items():
        inputs = document.pop("inputs")
        dag[names[output_id]] = document
        for path, required in inputs.items():
            dag[names[output_id]].add_dep(dag[names[required]], path)
    return dag


def _name(document: Mapping[str, Any]) -> str:
    """Return what a task is called, by its identity: no folder of this machine is in it, and nothing private."""
    params = ", ".join(f"{name}={_shown(value)}" for name, value in document["params"].items())
    return f"{document['task']}({params})"


def _shown(value: object) -> str:
    text = str(value)
    if text.startswith("sha256:"):
        return MASK
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
