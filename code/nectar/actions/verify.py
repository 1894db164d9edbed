"""Check that the files of targets have the bytes that their records say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from nectar import errors
from nectar.address import Address
from nectar.records import FileEntry
from nectar.stores import Reader, State, Store

_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of checking one target."""

    path: str
    problem: str | None  #: one sentence; None: all is well
    newer: bool = False  #: a newer Nectar made it: nothing is known of it, and it is left as it is
    quarantined: str | None = None  #: where the target is kept now, relative to the store

    def to_json(self) -> dict[str, Any]:
        """Return the check as a JSON value."""
        return {"path": self.path, "problem": self.problem, "quarantined": self.quarantined}


def check(store: Store, prefix: str = "") -> Iterator[Verified]:
    """Yield what every target under a prefix, or the target at a path, is found to be; nothing is changed.

    Raises:
        StoreUnreachable: when the store cannot be read.
    """
    for address in store.walk(prefix):
        found = store.inspect(address)
        if found.state is State.LEFTOVER:
            yield Verified(address.path, "it has no record: nothing proves how it was made")
        elif not found.complete or found.record is None:
            yield Verified(address.path, found.problem or "it is not there any more", found.newer)
        else:
            reader = store.reader(address)
            problems = (_problem(reader, entry) for entry in found.record.files)
            yield Verified(address.path, next((one for one in problems if one is not None), None))


def quarantine(store: Store, checked: Iterable[Verified]) -> list[Verified]:
    """Take every target with a problem out of the way, so that the next run makes it again.

    Raises:
        StoreUnreachable: when the store cannot be written.
    """
    done = []
    for one in checked:
        bad = one.problem is not None and not one.newer
        aside = store.quarantine(Address.parse(one.path), "verify") if bad else None
        done.append(replace(one, quarantined=aside))
    return done


def _problem(reader: Reader, entry: FileEntry) -> str | None:
    digest = hashlib.sha256()
    try:
        with reader.open(entry.object) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except FileNotFoundError:
        return f"the file `{entry.name}` is missing"
    except errors.TargetCorrupt as error:
        return error.message
    if digest.hexdigest() != entry.sha256:
        return f"the file `{entry.name}` has other bytes than its record says"
    return None
