"""What is handed from step to step: parameters, and what the catalog has; a file of each step's target."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nectar import errors
from nectar.address import Address
from nectar.redaction.known import redacted
from nectar.stores import Store

STEP_FILE = "step.json"  #: in the target of each step
_NAME = re.compile(r"[^\W\d]\w*")
_HINT = "return a mapping of names to values of JSON: text, numbers, true, false, None, lists and mappings of them"
_SECRET_HINT = "parameters are written down: hand on the name of a secret, and let each step get its value"


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
    """How things stand after a step: what was set and put since its DAG began, on top of how things stood there."""

    told: Mapping[str, Any] = field(default_factory=dict)  #: parameters that were set since then, JSON values
    put: Mapping[str, Entry] = field(default_factory=dict)  #: what was put into the catalog since then, by name
    #: what the step itself put into the catalog and got from it, as JSON
    moved: tuple[Mapping[str, Any], ...] = ()
    base: str | None = None  #: path of the target that says how things stood when the DAG began; None: nothing was set
    under: Standing | None = None  #: which is this

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters."""
        return {**(self.under.parameters if self.under is not None else {}), **self.told}

    @property
    def catalog(self) -> dict[str, Entry]:
        """All that is in the catalog, by name."""
        return {**(self.under.catalog if self.under is not None else {}), **self.put}

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value: what `step.json` holds."""
        return {
            "base": self.base,
            "parameters": dict(self.told),
            "catalog": [entry.to_json("put") for entry in self.put.values()],
            "data_catalog": list(self.moved),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], under: Standing | None = None) -> Standing:
        """Return what `to_json` wrote, on top of what it names as its base."""
        entries = [Entry.from_json(one) for one in document["catalog"]]
        put = {one.name: one for one in entries}
        return cls(document["parameters"], put, tuple(document["data_catalog"]), document["base"], under)

    def whole(self) -> dict[str, Any]:
        """Return all of it as a JSON value, whatever it stands on."""
        return replace(self, told=self.parameters, put=self.catalog, base=None, under=None).to_json()

    def with_parameters(self, values: Mapping[str, Any]) -> Standing:
        """Return how it stands once these parameters are set, too."""
        return replace(self, told={**self.told, **values})

    def begun(self, address: Address, *, fresh: bool) -> Standing:
        """Return how a step begins after the target there, with `fresh` a DAG, too: nothing is set in it yet."""
        return Standing(base=address.path, under=self) if fresh else replace(self, moved=())

    def joined(self, branches: Iterable[Standing]) -> Standing:
        """Return how it stands after branches that began here; the later branch wins, whichever ended later."""
        told, put = dict(self.told), dict(self.put)
        for branch in branches:
            told |= branch.told
            put |= branch.put
        return replace(self, told=told, put=put, moved=())

    def text(self) -> str:
        """Return it as a file has it."""
        return json.dumps(self.to_json(), ensure_ascii=False) + "\n"


_BASES = 64  # DAGs whose beginnings a process remembers
_bases: OrderedDict[tuple[str, str], Standing] = OrderedDict()  # by store and path: targets never change


def read_standings(store: Store, addresses: Sequence[Address]) -> list[Standing]:
    """Return how things stood after some steps that are complete.

    Raises:
        FileNotFoundError: where one of them is not.
        MissingInput: where one stands on what was removed.
        StoreUnreachable: when the store cannot be read.
    """
    return [_read(store, address) for address in addresses]


def _read(store: Store, address: Address) -> Standing:
    with store.reader(address).open(STEP_FILE) as file:
        return standing_in(json.load(file), store)


def standing_in(document: Mapping[str, Any], store: Store) -> Standing:
    """Return how things stand, as a document says, on top of the target that it names.

    Raises: as `read_standings`.
    """
    base = document["base"]
    try:
        return Standing.from_json(document, None if base is None else read_base(store, Address.parse(base)))
    except FileNotFoundError as error:
        raise errors.MissingInput(
            f"what came before stands on `{base}`, which was removed",
            hint="make all of it again: `nectar run --force-all`, or `nectar execute` without `--use-cached`",
        ) from error


def read_base(store: Store, address: Address) -> Standing:
    """Return how things stood where a DAG begins, which many branches ask for.

    Raises: as `read_standings`.
    """
    place = (store.url, address.path)
    if place not in _bases:
        _bases[place] = _read(store, address)  # as deep as DAGs lie in each other
        while len(_bases) > _BASES:
            _bases.popitem(last=False)
    return _bases[place]


def checked_parameters(step: str, returned: Any, hint: str = _HINT) -> dict[str, Any]:
    """Return what a step returned, or somebody else gave, as parameters; None is nothing.

    Raises:
        ResultInvalid: with everything in it that cannot be a parameter.
    """
    if returned is None:
        return {}
    if not isinstance(returned, Mapping):
        raise errors.ResultInvalid(
            f"`{step}` returned a {type(returned).__name__}, which cannot be parameters", hint=hint
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
            if redacted(text) != text:
                problems.append(f"`{name}` holds the value of a secret")
        except (TypeError, ValueError, RecursionError) as error:
            problems.append(f"`{name}` is a {type(value).__name__} that JSON cannot hold ({error})")
    if problems:
        if all("secret" in problem for problem in problems):
            hint = _SECRET_HINT
        raise errors.ResultInvalid(f"`{step}` gave what cannot be parameters: {'; '.join(problems)}", hint=hint)
    return values
