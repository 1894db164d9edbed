"""Answer questions about the tasks of a chain, in a process that has imported it and lives for one answer.

A question is a JSON object: `ask` says what (`task`, `plan` or `graph`), `chain`, `task` and `params` of which task,
`select` which part of its graph.
The answer is `{"answer": ...}`, or `{"error": ...}` with what `NectarError.to_json` gives.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import luigi

from nectar import errors, settings
from nectar.actions.graph import graph
from nectar.actions.plan import plan
from nectar.actions.resolve import instance_of, task_class
from nectar.chain.finder import find_chain
from nectar.parameters import is_private
from nectar.settings import Drift
from nectar.task import Task
from nectar.task.base import split_outputs
from nectar.task.closure import is_wrapper
from nectar.task.history import root_of


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to a question, or the error that it ends with; whatever an author's code raises is one."""
    try:
        current = settings.current()
        cls = task_class(current, find_chain(current.chains_dir, question["chain"]), question["task"])
        _refuse_private(cls, question)  # before any code of the author's can repeat a value
        task = instance_of(cls, question["params"], question["task"])
        return {"answer": _ANSWERS[question["ask"]](task, question)}
    except errors.NectarError as error:
        return {"error": error.to_json()}
    except (Exception, SystemExit) as error:  # an author's constructor, `complete()` or parameter type
        last = traceback.format_exception_only(error)[-1].strip()
        broken = errors.TaskBroken(
            f"`{question['task']}` cannot be looked at: {last}", hint="look at the chain's code, or at the parameters"
        )
        return {"error": broken.to_json()}


def _refuse_private(cls: Any, question: Mapping[str, Any]) -> None:
    given = sorted(_private(cls).intersection(question["params"]))
    if given:
        named = ", ".join(f"`{name}`" for name in given)
        raise errors.InvalidParameters(
            f"{named} of `{question['task']}` is private, and a run's parameters are kept in the books",
            problems=[errors.ParameterProblem(name, f"`{name}` is private", _PRIVATE_HINT) for name in given],
            hint=_PRIVATE_HINT,
        )


def _private(task: Any) -> set[str]:
    return {name for name, parameter in task.get_params() if is_private(parameter)}


def _task(task: luigi.Task, question: Mapping[str, Any]) -> dict[str, Any]:
    """Return which target a task has, and whether it is complete, or where that is to be asked."""
    if question["select"] is not None:
        from nectar.selection import select  # late: most requests have none

        select([task], question["select"])  # which raises where it means nothing: the run would only fail later
    root = root_of(task, identified=True)
    if root.path is None:
        raise _unidentified(task)
    private = _private(task)
    root = replace(
        root, chain=question["chain"], params={name: text for name, text in root.params.items() if name not in private}
    )
    outputs, in_store = _outputs(task)
    return {
        "root": root.to_json(),
        "outputs": outputs,
        "store": task.target_store().url if isinstance(task, Task) and outputs else None,
        "complete": None if in_store else bool(task.complete()),
    }


_PRIVATE_HINT = "set it where the server runs, in luigi's configuration or as the task's default"


def _unidentified(task: luigi.Task) -> errors.NectarError:
    from nectar.task.closure import output_id_of

    output_id_of(task)  # which raises what `root_of` leaves to whoever carries the task out
    return errors.IdentityError(f"`{task!r}` has no identity", hint="let it inherit from `nectar.Task`")


def _outputs(task: luigi.Task) -> tuple[list[str], bool]:
    """Return the names of a task's files in a store, and whether that store alone knows if it is complete."""
    if not isinstance(task, Task) or is_wrapper(task):
        return [], False
    own, foreign = split_outputs(task)
    return list(own), bool(own) and not foreign and task.drift_policy() is not Drift.RERUN


def _plan(task: luigi.Task, question: Mapping[str, Any]) -> dict[str, Any]:
    return plan(task, select=question["select"]).to_json()


def _graph(task: luigi.Task, question: Mapping[str, Any]) -> dict[str, Any]:
    return graph(task, select=question["select"]).to_json()


_ANSWERS: Mapping[str, Callable[[luigi.Task, Mapping[str, Any]], dict[str, Any]]] = {
    "task": _task,
    "plan": _plan,
    "graph": _graph,
}
