"""Say what a pipeline and its steps are called: for people, in a store, and as a module."""

from __future__ import annotations

import functools
import json
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

CHAIN_TYPE = "pipelines"  #: under which the targets of files lie that are no chains
ALL = "all steps"  #: what the pipeline as a whole is called among its steps
FILES_READ = "__files_read__"  #: in a pipeline's module: files beside its own that say what it is
_SUFFIX = "_chain"
_LONGEST = 60  #: characters of a name in a store, where names have 255 bytes


def module_of(path: Path, chains: Path) -> str:
    """Return the name under which the targets of a pipeline file lie: `chains.pipelines.getting_started_chain`.

    That of a file among the chains is the chain's own.
    """
    place = path.resolve()
    own = (*place.parts[-2:-1], place.stem)
    if place.parent.parent == chains.resolve() and all(part.isidentifier() for part in own):
        return ".".join(("chains", *own))
    stem = re.sub(r"\W", "_", path.stem)[:_LONGEST]
    stem = f"_{stem}" if not stem or stem[0].isdigit() or keyword.iskeyword(stem) else stem
    return f"chains.{CHAIN_TYPE}.{stem if stem.endswith(_SUFFIX) else stem + _SUFFIX}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step is within its pipeline, and which values of maps it is for."""

    names: tuple[str, ...] = ()  #: of steps, branches and values of maps, from outside to inside
    plain: tuple[str, ...] = ()  #: the same without the values
    values: Mapping[str, Any] = field(default_factory=dict)  #: by `iterate_as`
    max_time: int | None = None  #: seconds that a command there may take: the least of what the DAGs around it say

    def below(self, *names: str) -> Place:
        """Return the place of something within."""
        return Place((*self.names, *names), (*self.plain, *names), self.values, self.max_time)

    def for_value(self, iterate_as: str, value: Any) -> Place:
        """Return the place of the branch of a map for one value."""
        return Place((*self.names, text_of(value)), self.plain, {**self.values, iterate_as: value}, self.max_time)

    def bounded(self, max_time: int | None) -> Place:
        """Return the same place in a DAG that takes so many seconds at most, where that is less than it may take."""
        least = min((one for one in (self.max_time, max_time) if one is not None), default=None)
        return self if least == self.max_time else replace(self, max_time=least)

    @property
    def name(self) -> str:
        """The name as people read it: `par.A.s`, `m.<value>.t`."""
        return ".".join(self.names) or ALL

    @property
    def folder(self) -> str:
        """The name of a task for the step, which is a folder in the store: `ParASTask`."""
        return _folder_of(self.plain)


@functools.lru_cache(maxsize=1024)  # thousands of branches of a map have the same
def _folder_of(plain: tuple[str, ...]) -> str:
    words = re.findall(r"[^\W_]+", " ".join(plain))
    joined = "".join(word[0].upper() + word[1:] for word in words)[:_LONGEST]
    return f"{joined if joined and not joined[0].isdigit() else f'Step{joined}'}Task"


def text_of(value: Any) -> str:
    """Return a parameter's value as a shell, or a step's name, has it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
