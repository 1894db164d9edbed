"""Turn a canonical description of work into its output id and its key.

An identity is `{"task", "version", "params", "inputs"}`, and `outputs` where the files are not `out.txt` alone. Its
output id is the sha256 of its bencoding, which is the recipe of "a la mode": a description of work whose ids change
when the description or any of its inputs do. The key, 32 hex digits, names the target's folder.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nectar import bencode
from nectar.address import KEY_LENGTH

DEFAULT_OUTPUT = "out.txt"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a task is, for every process that ever asks: equal work has equal identities."""

    output_id: str  #: 64 hex digits
    key: str  #: 32 hex digits


@dataclass(frozen=True, slots=True)
class Change:
    """One component in which two identities differ."""

    component: str  #: `version`, `outputs`, `task`, `params.month`, `inputs.0`
    old: object  #: None where the component is new
    new: object  #: None where the component is gone


def output_id(description: Mapping[str, Any]) -> str:
    """Return 64 hex digits, equal for equal descriptions in any order of keys.

    Raises:
        TypeError: for a value that bencode cannot hold.
    """
    return hashlib.sha256(bencode.encode(description)).hexdigest()


def task_document(
    family: str,
    version: str,
    params: Mapping[str, int | str],
    inputs: Mapping[str, str],
    outputs: Sequence[str] = (DEFAULT_OUTPUT,),
) -> dict[str, Any]:
    """Return the identity of a task as the plain mapping that is hashed; output names count unless `out.txt` alone."""
    document: dict[str, Any] = {
        "task": family,
        "version": version,
        "params": dict(params),
        "inputs": dict(inputs),
    }
    if tuple(outputs) != (DEFAULT_OUTPUT,):
        document["outputs"] = sorted(outputs)
    return document


def identify_task(
    family: str, version: str, params: Mapping[str, int | str], inputs: Mapping[str, str], outputs: Sequence[str]
) -> Identity:
    """Return what `identify` returns of the `task_document` of these, without making it.

    Of thousands of tasks of one class only parameters and inputs are encoded anew.
    """
    middle, end = _surroundings(family, version, tuple(outputs))
    encoded = b"".join((b"d6:inputs", bencode.encode(inputs), middle, bencode.encode(params), end))
    full = hashlib.sha256(encoded).hexdigest()
    return Identity(full, full[:KEY_LENGTH])


@functools.lru_cache(maxsize=1024)
def _surroundings(family: str, version: str, outputs: tuple[str, ...]) -> tuple[bytes, bytes]:
    """Return what an encoding has between inputs and parameters, and behind these: its keys are sorted."""
    named = () if outputs == (DEFAULT_OUTPUT,) else ("outputs", sorted(outputs))
    middle = (*named, "params")
    end = ("task", family, "version", version)
    return b"".join(map(bencode.encode, middle)), b"".join(map(bencode.encode, end)) + b"e"


def identify(document: Mapping[str, Any], *, datanectar_values: Mapping[str, str] | None = None) -> Identity:
    """Return the identity of a description; with `datanectar_values` its key is the one datanectar gave it."""
    full = output_id(document)
    key = full[:KEY_LENGTH] if datanectar_values is None else datanectar_key(datanectar_values)
    return Identity(full, key)


def datanectar_key(values: Mapping[str, str]) -> str:
    """Return the md5 of the parameter values joined by `_`, in the order of the sums of their names' characters.

    The scheme is datanectar's; ties go by name. It confuses `x_y` + `z` with `x` + `y_z`, which is why it is not ours.
    """
    names = sorted(values, key=lambda name: (sum(map(ord, name)), name))
    joined = "_".join(values[name] for name in names)
    return hashlib.md5(joined.encode("utf-8"), usedforsecurity=False).hexdigest()


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return every component in which two identity documents differ, in the order of reading."""
    parts = ("params", "inputs")
    known = ("task", "version", "outputs", "content")
    others = sorted({*old, *new} - {*known, *parts})  # of a described task: what its spec has
    found = [
        Change(component, old.get(component), new.get(component))
        for component in (*known, *others)
        if old.get(component) != new.get(component)
    ]
    for component in parts:
        before, after = old.get(component, {}), new.get(component, {})
        if not (isinstance(before, Mapping) and isinstance(after, Mapping)):  # of a described task, too
            found += [Change(component, before, after)] if before != after else []
            continue
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                found.append(Change(f"{component}.{name}", before.get(name), after.get(name)))
    return found
