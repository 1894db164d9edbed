"""Say what a chain offers, as plain values: what its importer found out, readable without luigi."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TypeVar

from nectar import errors
from nectar.chain.finder import SHOWN, ChainName

MASK = "******"  #: stands for the default of a private parameter

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True)
class ParameterDescription:
    """One parameter of a task, as its class declares it: configuration and command line play no part."""

    name: str
    type: str  #: `str`, `int`, `date`, `choice`, ...; the class's name where luigi does not know it
    default: str | None  #: serialized; `MASK` for a private one; None: there is none, or it is None
    required: bool  #: whether the class leaves it without a default
    significant: bool  #: whether it counts in the identity
    choices: tuple[str, ...] | None  #: serialized; None: not limited to some
    description: str  #: the author's words; may be empty
    visibility: str  #: `public`, `hidden` or `private`

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; `from_json` is the inverse."""
        document: dict[str, object] = asdict(self)
        document["choices"] = None if self.choices is None else list(self.choices)
        return document

    @classmethod
    def from_json(cls, document: object) -> ParameterDescription:
        """Return the value that `to_json` wrote; ValueError for anything else."""
        choices = _optional(document, "choices", list)
        if choices is not None and not all(isinstance(choice, str) for choice in choices):
            raise ValueError("`choices` is not a list of texts")
        return cls(
            name=_field(document, "name", str),
            type=_field(document, "type", str),
            default=_optional(document, "default", str),
            required=_field(document, "required", bool),
            significant=_field(document, "significant", bool),
            choices=None if choices is None else tuple(choices),
            description=_field(document, "description", str),
            visibility=_field(document, "visibility", str),
        )


@dataclass(frozen=True, slots=True)
class TaskDescription:
    """One task of a chain."""

    name: str  #: in the module; an alias has its own
    doc: str  #: the first paragraph of the class's docstring, on one line; may be empty
    family: str  #: luigi's name for the class
    parameters: tuple[ParameterDescription, ...]  #: in the order of definition

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; `from_json` is the inverse."""
        parameters = [parameter.to_json() for parameter in self.parameters]
        return {"name": self.name, "doc": self.doc, "family": self.family, "parameters": parameters}

    @classmethod
    def from_json(cls, document: object) -> TaskDescription:
        """Return the value that `to_json` wrote; ValueError for anything else."""
        return cls(
            name=_field(document, "name", str),
            doc=_field(document, "doc", str),
            family=_field(document, "family", str),
            parameters=tuple(map(ParameterDescription.from_json, _field(document, "parameters", list))),
        )


@dataclass(frozen=True, slots=True)
class PresetDescription:
    """One preset of a chain, whose parameters are as a command line has them."""

    name: str
    params: dict[str, str]  #: `MASK` for private ones
    select: str | None
    tags: dict[str, str]
    executor: str | None
    workers: int | None

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: object) -> PresetDescription:
        """Return the value that `to_json` wrote; ValueError for anything else."""
        return cls(
            name=_field(document, "name", str),
            params=_texts(document, "params"),
            select=_optional(document, "select", str),
            tags=_texts(document, "tags"),
            executor=_optional(document, "executor", str),
            workers=_optional(document, "workers", int),
        )


@dataclass(frozen=True, slots=True)
class ChainDescription:
    """One chain that can be imported."""

    name: ChainName
    doc: str  #: the first paragraph of the module's docstring, on one line; may be empty
    tasks: tuple[TaskDescription, ...]  #: in the order of definition
    presets: tuple[PresetDescription, ...] = ()  #: those that are right
    preset_faults: tuple[str, ...] = ()  #: what is wrong with the others

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; `from_json` is the inverse."""
        return {
            "name": self.name.path,
            "doc": self.doc,
            "tasks": [task.to_json() for task in self.tasks],
            "presets": [preset.to_json() for preset in self.presets],
            "preset_faults": list(self.preset_faults),
        }

    @classmethod
    def from_json(cls, document: object) -> ChainDescription:
        """Return the value that `to_json` wrote; ValueError for anything else."""
        return cls(
            name=_chain_name(_field(document, "name", str)),
            doc=_field(document, "doc", str),
            tasks=tuple(map(TaskDescription.from_json, _field(document, "tasks", list))),
            presets=tuple(map(PresetDescription.from_json, _field(document, "presets", list))),
            preset_faults=tuple(map(str, _field(document, "preset_faults", list))),
        )


@dataclass(frozen=True, slots=True)
class BrokenChain:
    """One chain that cannot be imported, or a folder that cannot hold chains."""

    path: str  #: below `chains/`, without `.py`
    error: str  #: one line: the traceback's last, or how the process ended
    traceback: str  #: the whole traceback; where there is none, the end of what the module printed; may be empty
    location: str = ""  #: the file below the project's root and its line, `chains/etl/x_chain.py:3`; empty: unknown

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: object) -> BrokenChain:
        """Return the value that `to_json` wrote; ValueError for anything else."""
        return cls(
            path=_field(document, "path", str),
            error=_field(document, "error", str),
            traceback=_field(document, "traceback", str),
            location=_field(document, "location", str),
        )


def broken_error(broken: BrokenChain) -> errors.ChainBroken:
    """Return the error for a chain that cannot be imported; its hint names the file and, where known, the line."""
    file, _, line = broken.location.rpartition(":")
    hint = f"look at `{file}`, line {line}" if file else f"look at `chains/{broken.path}.py`"
    printed = broken.traceback.strip()
    if file.endswith(".yaml"):
        hint = f"`nectar check {broken.path}` tells all that is wrong with it"
    elif printed and not broken.location:
        hint += f"; the last it printed was: {printed.splitlines()[-1].strip()}"
    return errors.ChainBroken(f"chain `{broken.path}` cannot be imported: {broken.error}", hint=hint)


def find_task(description: ChainDescription, task_name: str) -> TaskDescription:
    """Return the task of this name.

    Raises:
        TaskNotFound: there is none; the hint names the nearest.
    """
    tasks = {task.name: task for task in description.tasks}
    if task_name in tasks:
        return tasks[task_name]
    import difflib  # late: only mistakes need it

    near = difflib.get_close_matches(task_name[:SHOWN], tasks, n=1)
    if near:
        hint = f"did you mean `{near[0]}`?"
    elif tasks:
        hint = "its tasks are " + ", ".join(f"`{name}`" for name in tasks)
    else:
        hint = "it has no tasks: a task is a class of its own whose name ends in `Task`"
    raise errors.TaskNotFound(f"no task `{task_name[:SHOWN]}` in `{description.name}`", hint=hint)


def _chain_name(text: str) -> ChainName:
    try:
        return ChainName.parse(text)
    except errors.ChainNotFound as error:
        raise ValueError(error.message) from error


def _field(document: object, key: str, kind: type[_Kind]) -> _Kind:
    value = document.get(key) if isinstance(document, dict) else None
    if not isinstance(value, kind):
        raise ValueError(f"`{key}` is not a {kind.__name__}")
    return value


def _texts(document: object, key: str) -> dict[str, str]:
    found = _field(document, key, dict)
    if not all(isinstance(text, str) for pair in found.items() for text in pair):
        raise ValueError(f"`{key}` is not a mapping of texts")
    return found


def _optional(document: object, key: str, kind: type[_Kind]) -> _Kind | None:
    if isinstance(document, dict) and key in document and document[key] is None:
        return None
    return _field(document, key, kind)
