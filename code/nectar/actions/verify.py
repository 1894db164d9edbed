"""Check that the files of targets have the bytes that their records say."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from nectar import errors
from nectar.address import Address
from nectar.records import FileEntry
from nectar.stores import Reader, State, Store
from nectar.stores.base import sha256_of


@dataclass(frozen=True, slots=True)
class Verified:
    """What came of checking one target."""

    store: str  #: URL
    path: str
    problem: str | None  #: one sentence; None: all is well
    newer: bool = False  #: a newer Nectar made it: nothing is known of it, and it is left as it is
    quarantined: str | None = None  #: where the target is kept now, relative to the store

    def to_json(self) -> dict[str, Any]:
        """Return the check as a JSON value."""
        return {"store": self.store, "path": self.path, "problem": self.problem, "quarantined": self.quarantined}


def check(store: Store, prefix: str = "") -> Iterator[Verified]:
    """Yield what every target under a prefix, or the target at a path, is found to be; nothing is changed.

    Raises:
        StoreUnreachable: when the store cannot be read.
    """
    use = store.in_use()
    try:
        yield from _check_all(store, store.walk(prefix))
    finally:
        use.release()


def _check_all(store: Store, addresses: Iterator[Address]) -> Iterator[Verified]:
    if store.checks_in_plans:
        yield from (_check(store, address) for address in addresses)
        return
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="nectar-verify") as pool:  # a far store: it is mostly waiting
        while some := list(itertools.islice(addresses, _AT_ONCE * 8)):
            yield from pool.map(functools.partial(_check, store), some)


_AT_ONCE = 8


def _check(store: Store, address: Address) -> Verified:
    found = store.inspect(address)
    if found.state is State.LEFTOVER:
        return Verified(store.url, address.path, "it has no record: nothing proves how it was made")
    if not found.complete or found.record is None:
        return Verified(store.url, address.path, found.problem or "it is not there any more", found.newer)
    reader = store.reader(address)
    problems = (_problem(reader, entry) for entry in found.record.files)
    return Verified(store.url, address.path, next((one for one in problems if one is not None), None))


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
    try:
        with reader.open(entry.object) as file:
            digest = sha256_of(file)
    except FileNotFoundError:
        return f"the file `{entry.name}` is missing"
    except errors.TargetCorrupt as error:
        return error.message
    if digest != entry.sha256:
        return f"the file `{entry.name}` has other bytes than its record says"
    return None
