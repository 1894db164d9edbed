"""What is handed from step to step: parameters, and what the catalog has; a file of each step's target."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nectar import errors
from nectar.address import Address
from nectar.stores import Store

STEP_FILE = "step.json"  #: in the target of each step
_NAME = re.compile(r"[^\W\d]\w*")
_HINT = "return a mapping of names to values of JSON: text, numbers, true, false, None, lists and mappings of them"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in the catalog."""

    name: str  #: its path within the data folder
    sha256: str  #: 64 hex digits
    location: str  #: of the catalog: a folder, or a store's URL
    path: str  #: within the location

    def to_json(self, stage: str) -> dict[str, Any]:
        """Return the entry as a run log has it; the names of the keys are magnus's."""
        return {
            "name": self.name,
            "data_hash": self.sha256,
            "catalog_relative_path": self.path,
            "catalog_handler_location": self.location,
            "stage": stage,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Entry:
        """Return the entry that `to_json` wrote."""
        return cls(
            document["name"],
            document["data_hash"],
            document["catalog_handler_location"],
            document["catalog_relative_path"],
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand after a step."""

    parameters: Mapping[str, Any] = field(default_factory=dict)  #: all of them, JSON values
    told: tuple[str, ...] = ()  #: names of those that were set since the DAG began
    catalog: Mapping[str, Entry] = field(default_factory=dict)  #: by name
    moved: tuple[Mapping[str, Any], ...] = ()  #: what the step itself put into the catalog and got from it, as JSON

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value: what `step.json` holds."""
        return {
            "parameters": dict(self.parameters),
            "told": list(self.told),
            "catalog": [entry.to_json("put") for entry in self.catalog.values()],
            "data_catalog": list(self.moved),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Standing:
        """Return what `to_json` wrote."""
        entries = [Entry.from_json(one) for one in document["catalog"]]
        return cls(
            document["parameters"],
            tuple(document["told"]),
            {one.name: one for one in entries},
            tuple(document["data_catalog"]),
        )

    def with_parameters(self, values: Mapping[str, Any]) -> Standing:
        """Return how it stands once these parameters are set, too."""
        told = tuple(dict.fromkeys((*self.told, *values)))
        return replace(self, parameters={**self.parameters, **values}, told=told)

    def begun(self, *, fresh: bool) -> Standing:
        """Return how a step begins here, with `fresh` a DAG, too: nothing is moved, or set, in it yet."""
        return replace(self, told=() if fresh else self.told, moved=())

    def joined(self, branches: Iterable[Standing]) -> Standing:
        """Return how it stands after branches that began here; the later branch wins, whichever ended later."""
        joined = self
        for branch in branches:
            joined = joined.with_parameters({name: branch.parameters[name] for name in branch.told})
            new = {name: one for name, one in branch.catalog.items() if self.catalog.get(name) != one}
            joined = replace(joined, catalog={**joined.catalog, **new})
        return replace(joined, moved=())

    def text(self) -> str:
        """Return it as a file has it."""
        return json.dumps(self.to_json(), ensure_ascii=False, indent=2) + "\n"


def read_standings(store: Store, addresses: Sequence[Address]) -> list[Standing]:
    """Return how things stood after some steps that are complete.

    Raises:
        FileNotFoundError: where one of them is not.
        StoreUnreachable: when the store cannot be read.
    """
    standings = []
    for address in addresses:
        with store.reader(address).open(STEP_FILE) as file:
            standings.append(Standing.from_json(json.load(file)))
    return standings


def checked_parameters(step: str, returned: Any) -> dict[str, Any]:
    """Return what a step returned, as parameters; None is nothing.

    Raises:
        ResultInvalid: with everything in it that cannot be a parameter.
    """
    if returned is None:
        return {}
    if not isinstance(returned, Mapping):
        raise errors.ResultInvalid(
            f"`{step}` returned a {type(returned).__name__}, which cannot be parameters", hint=_HINT
        )
    problems = []
    values = {}
    for name, value in returned.items():
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            problems.append(f"`{name!s:.100}` is no name")
            continue
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
            text.encode("utf-8")
            values[name] = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            problems.append(f"`{name}` is a {type(value).__name__} that JSON cannot hold ({error})")
    if problems:
        raise errors.ResultInvalid(f"`{step}` returned what cannot be parameters: {'; '.join(problems)}", hint=_HINT)
    return values
