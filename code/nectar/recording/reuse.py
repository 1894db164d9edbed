"""Publish an earlier target's files again where a task would make them from equal inputs: early cut-off.

A key hashes the recipe, with the output ids of the inputs: when something far upstream changes, everything below it has
a new key, also where the bytes in between came out as before. Each commit therefore leaves a pointer, named by task,
version, parameters and the digests of the inputs. A task whose inputs are ready, and for which such a pointer leads to
a complete target that was made by the same code, takes that target's files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from nectar import bencode
from nectar.records import Record
from nectar.stores import Recipe, Store


def recipe_of(
    prefix: str, document: Mapping[str, Any], inputs: Mapping[str, Mapping[str, str] | None]
) -> Recipe | None:
    """Return the recipe of a task, by what its identity is made of and the digests of its inputs' files by path.

    None where the identity alone decides (there are no inputs), and where the bytes of an input are not known: those of
    a plain luigi task, or of a task without files of its own.
    """
    if not inputs or not all(inputs.values()):
        return None
    named = {
        path: " ".join([f"{digest} {name}" for name, digest in sorted((files or {}).items())])
        for path, files in inputs.items()
    }
    return Recipe(prefix, hashlib.sha256(bencode.encode({**document, "inputs": named})).hexdigest()[:32])


def find(store: Store, recipe: Recipe, code: Mapping[str, Any] | None, outputs: tuple[str, ...]) -> Record | None:
    """Return the record of a complete target that was made by this recipe and this code, None where there is none.

    Raises:
        StoreUnreachable: when the store cannot answer.
    """
    address = store.recall([recipe]).get(recipe)
    if address is None or code is None:
        return None
    found = store.inspect(address, outputs, leftovers=False)
    record = found.record
    if not found.complete or record is None or record.dynamic or record.foreign or record.code is None:
        return None
    return record if record.code.get("digest") == code.get("digest") else None
