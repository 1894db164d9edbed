"""Describe work as a graph of tasks, each with an id for its output that changes when it or any of its inputs do.

The id is the sha256 of the bencoded spec with the ids of the inputs, which is the recipe of "a la mode"; the same
function gives Nectar's own tasks theirs. Nothing is run here, and no store is asked.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nectar import bencode, errors, identity
from nectar.description import files
from nectar.description.plain import plain, plain_mapping

OF_TASKS = ("inputs", "output")  #: keys of an encoded task that no spec can have

_META_LEVEL, _SPEC_LEVEL = 1, 2  #: how many mappings lie around what is encoded


class Task:
    """One task of a Dag, which `Dag.task` makes: a name, a spec that may be changed at any time, and its inputs."""

    def __init__(self, dag: Dag, name: str, spec: Mapping[str, Any]) -> None:
        self.spec: dict[str, Any] = _checked_spec(spec, name)
        self._dag = dag
        self._name = name
        self._inputs: dict[str, str] = {}  # name of the input -> name of a task: a deep chain can be copied and pickled

    def __repr__(self) -> str:
        return f"Task({self._name!r})"

    @property
    def name(self) -> str:
        """What the task is called in its Dag."""
        return self._name

    @property
    def inputs(self) -> Mapping[str, Task]:
        """The tasks that it depends on, by the names of the inputs."""
        return MappingProxyType({name: self._dag[task] for name, task in self._inputs.items()})

    def add_dep(self, other: Task, name: str | None = None) -> None:
        """Let the task depend on another; `name` is what it calls that input, by default the other's own name.

        Raises:
            UsageError: when `other` is no task of the same Dag, or the name belongs to another input already.
        """
        if not isinstance(other, Task):
            raise errors.UsageError(
                f"`{self._name}` cannot depend on {other!r}, which is no task of a Dag",
                hint='give a task, such as `dag.blur` or `dag["blur"]`',
            )
        if other._dag is not self._dag:
            raise errors.UsageError(
                f"`{self._name}` cannot depend on `{other._name}`, which is a task of another Dag",
                hint="describe it in this Dag, too: equal specs have equal ids",
            )
        name = _checked_name(other._name if name is None else name, f"an input of `{self._name}`")
        known = self._inputs.setdefault(name, other._name)
        if known != other._name:
            raise errors.UsageError(
                f"`{self._name}` has an input `{name}` already: `{known}`", hint="give this one another name"
            )


class Dag:
    """Tasks that stand on each other. `dag["name"]` is a task; `dag.name`, too, where Dag itself has no such name."""

    def __init__(self, meta: Mapping[str, Any] | None = None) -> None:
        self.meta: dict[str, Any] = _checked_meta({} if meta is None else meta)  #: counts in no id
        self._tasks: dict[str, Task] = {}

    # Tasks

    def task(self, name: str, spec: Mapping[str, Any]) -> Task:
        """Add a task and return it; the spec is copied.

        Raises:
            UsageError: when the name is there already, is no text, or is one of Dag's own.
            DescriptionInvalid: when the spec holds what has no one spelling, or a key `inputs` or `output`.
        """
        if isinstance(name, str) and name in _TAKEN:
            raise errors.UsageError(
                f"a task cannot be called `{name}`: `dag.{name}` is Dag's own",
                hint=f'use another name, or add it by `dag["{name}"] = spec` and reach it by `dag["{name}"]` alone',
            )
        self[name] = spec
        return self[name]

    def __setitem__(self, name: str, spec: Mapping[str, Any]) -> None:
        """Add a task whose name may be one of Dag's own, and which is reached by `dag[name]`; otherwise as `task`."""
        name = _checked_name(name, "a task")
        if name in self._tasks:
            raise errors.UsageError(f"there are two tasks called `{name}`", hint="give one of them another name")
        self._tasks[name] = Task(self, name, spec)

    def __getitem__(self, name: str) -> Task:
        try:
            return self._tasks[name]
        except (KeyError, TypeError):
            hint = errors.did_you_mean(str(name), self._tasks) or "`list(dag)` has all tasks"
            raise errors.TaskNotFound(f"no task of the Dag is called `{name}`", hint=hint) from None

    def __getattr__(self, name: str) -> Task:
        tasks: dict[str, Task] = self.__dict__.get("_tasks", {})  # which is not there yet in one that is being copied
        if name in tasks and not name.startswith("__"):  # by these Python asks what an object can do
            return tasks[name]
        near = errors.did_you_mean(name, tasks)
        raise AttributeError(f"no task of the Dag is called `{name}`" + (f"; {near}" if near else ""))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._tasks})

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def __repr__(self) -> str:
        return f"Dag({len(self._tasks)} tasks)"

    def in_order(self) -> list[Task]:
        """Return all tasks, dependencies before those that depend on them.

        Raises:
            CycleFound: when tasks depend on each other in a circle, which is drawn.
        """
        sorter = graphlib.TopologicalSorter({name: task._inputs.values() for name, task in self._tasks.items()})
        try:
            return [self._tasks[name] for name in sorter.static_order()]
        except graphlib.CycleError as error:
            raise errors.CycleFound.drawn(reversed(error.args[1])) from None

    # Encodings

    def encode(self) -> dict[str, Any]:
        """Return `{"meta": ..., "tasks": {name: {**spec, "inputs": {name: id}, "output": id}}}`, a copy.

        Ids are 64 hex digits: equal for equal specs and inputs, in every process.

        Raises:
            CycleFound: when tasks depend on each other in a circle, which is drawn.
            DescriptionInvalid: when the meta or a spec holds by now what has no one spelling.
        """
        tasks: dict[str, dict[str, Any]] = {}
        for task in self.in_order():
            document = _checked_spec(task.spec, task.name)
            document["inputs"] = {name: tasks[other]["output"] for name, other in task._inputs.items()}
            document["output"] = identity.output_id(document)
            tasks[task.name] = document
        return {"meta": _checked_meta(self.meta), "tasks": {name: tasks[name] for name in self._tasks}}

    def bencode(self) -> bytes:
        """Return the encoded Dag as bencode: one spelling, whichever way the Dag was made.

        Raises: as `encode`.
        """
        return bencode.encode(self.encode())

    def json(self) -> str:
        """Return the encoded Dag as JSON, with its keys sorted.

        Raises: as `encode`.
        """
        return files.json_text(self.encode())

    @classmethod
    def decode(cls, given: bytes | Mapping[str, Any]) -> Dag:
        """Return the Dag that was encoded: a mapping as `encode` gives it, or the bytes of bencode or JSON.

        `Dag.decode(raw).bencode() == raw`, byte for byte: every id is computed anew, and has to be what is said there.

        Raises:
            DescriptionInvalid: when it is none, or its ids are not those of its specs; names what is wrong.
            BencodeInvalid: when the bytes begin as bencode does, and are none.
            DescriptionNewer: when a newer Nectar wrote it.
            CycleFound: when tasks depend on each other in a circle, which is drawn.
        """
        document = files.parse(given) if isinstance(given, bytes) else given
        dag = cls(_member(files.checked(document), "meta"))
        outputs = _Outputs(_member(document, "tasks"))
        for name in outputs.tasks:
            dag[name] = outputs.spec(name)
        for name in outputs.tasks:
            for called, of in outputs.inputs(name).items():
                dag._tasks[name].add_dep(dag._tasks[of], called)
        for name, encoded in dag.encode()["tasks"].items():
            outputs.check(name, encoded["output"])
        return dag

    def save(self, path: str | Path) -> None:
        """Write the Dag to a file, as a whole or not at all: JSON where the name ends in `.json`, otherwise bencode.

        Raises: as `encode`; UsageError when the file cannot be written.
        """
        as_json = Path(path).suffix == ".json"
        files.write(Path(path), self.json().encode("utf-8") if as_json else self.bencode())

    @classmethod
    def load(cls, path: str | Path) -> Dag:
        """Return the Dag that a file holds, JSON or bencode; its content tells which.

        Raises: as `decode`, all that is no circle as DescriptionInvalid that names the file; UsageError when it cannot
            be read.
        """
        raw = files.read(Path(path))
        try:
            return cls.decode(raw)
        except errors.CycleFound:
            raise
        except errors.UsageError as error:
            raise files.of_file(error, Path(path)) from error


_TAKEN = frozenset({*dir(Dag), "meta", "_tasks"})


class _Outputs:
    """The tasks of a document, each found by the id of its output."""

    def __init__(self, tasks: Mapping[str, Any]) -> None:
        self.tasks = tasks
        self._by_id: dict[str, str] = {}  # the first of those that have one id: equal work
        for name, task in tasks.items():
            if not isinstance(task, Mapping) or not all(key in task for key in OF_TASKS):
                raise errors.DescriptionInvalid(
                    f"the task `{name}` lacks `inputs` or `output`", hint="`Dag.save` writes them"
                )
            if not isinstance(task["output"], str):
                raise errors.DescriptionInvalid(f"the `output` of `{name}` is no text", hint="`Dag.save` writes it")
            self._by_id.setdefault(task["output"], name)

    def spec(self, name: str) -> dict[str, Any]:
        """Return what a task is made of beside its inputs."""
        return {key: value for key, value in self.tasks[name].items() if key not in OF_TASKS}

    def inputs(self, name: str) -> dict[str, str]:
        """Return the name of each input and of the task that makes it: by its name if it has that output, else by that.

        Raises:
            DescriptionInvalid: when no task has such an output.
        """
        inputs = self.tasks[name]["inputs"]
        if not isinstance(inputs, Mapping):
            raise errors.DescriptionInvalid(f"the `inputs` of `{name}` are no mapping", hint="`Dag.save` writes them")
        found = {}
        for called, output in inputs.items():
            namesake = self.tasks.get(called)
            if namesake is not None and namesake["output"] == output:
                found[called] = called
            elif isinstance(output, str) and output in self._by_id:
                found[called] = self._by_id[output]
            else:
                raise errors.DescriptionInvalid(
                    f"the input `{called}` of `{name}` is `{output}`, which is the output of no task here",
                    hint="a description holds all tasks; let the program that wrote it do so anew",
                )
        return found

    def check(self, name: str, output: str) -> None:
        """Make sure that the id of a task's output is the one that was computed.

        Raises:
            DescriptionInvalid: when it is another.
        """
        said = self.tasks[name]["output"]
        if said != output:
            raise errors.DescriptionInvalid(
                f"the `output` of `{name}` is `{said}`, and its spec and inputs give `{output}`",
                hint="it was changed by hand? change the Dag that wrote it, and save it anew",
            )


def _member(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    if not isinstance(value, Mapping):
        raise errors.DescriptionInvalid(
            f"`{name}` is {'missing' if value is None else 'no mapping'}",
            hint="a description is a mapping with `meta` and `tasks`",
        )
    return value


def _checked_name(name: object, what: str) -> str:
    if not isinstance(name, str) or not name:
        raise errors.UsageError(f"the name of {what} is {name!r}", hint="a name is a text that is not empty")
    checked: str = plain(name, f"the name of {what}", level=0)
    return checked


def _checked_meta(meta: Any) -> dict[str, Any]:
    return plain_mapping(meta, "the meta of the Dag", level=_META_LEVEL)


def _checked_spec(spec: Any, name: str) -> dict[str, Any]:
    checked = plain_mapping(spec, f"the spec of `{name}`", level=_SPEC_LEVEL)
    for key in OF_TASKS:
        if key in checked:
            raise errors.DescriptionInvalid(
                f"the spec of `{name}` has the key `{key}`, which the encoding has for itself",
                hint="use another key; `add_dep` makes inputs",
            )
    return checked
