"""Hold the lease on a target while an attempt at it is at work, and clear away what dead attempts left."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence

from nectar import records
from nectar.address import Address
from nectar.recording.log_bounds import bound
from nectar.recording.run import current as current_run
from nectar.records import ATTEMPT_NAME, STDERR_NAME, STDOUT_NAME
from nectar.redaction import filters
from nectar.stores import Staging, Store, TargetLease

FIRST_WAIT_S = 0.02
LONGEST_WAIT_S = 0.5

#: leases that this process holds, by process, store and address
_held: dict[tuple[int, str, Address], TargetLease] = {}
#: those that another had when this process asked for them, or had had and not given back
_refused: set[tuple[int, str, Address]] = set()
#: keys of which there were attempts when a run first looked, by run, process, store and prefix
_tried: dict[tuple[str, int, str, str], frozenset[str]] = {}
_MOST_PREFIXES = 1000


def take(store: Store, address: Address) -> bool:
    """Take the lease on an address if nobody else has it; True also where this process has it already.

    Raises:
        StoreUnreachable: when the store cannot be written.
    """
    place = (os.getpid(), store.url, address)
    if place in _held:
        return True
    return _note(store, address, store.lease(address))


def take_all(store: Store, addresses: Sequence[Address]) -> list[Address]:
    """Take the leases on many addresses at the same time; return those of which this process has the lease now.

    What the store cannot answer for is left out: who asks for that one alone hears why.

    Raises:
        StoreUnreachable: when the store cannot be written at all.
    """
    wanted = [address for address in dict.fromkeys(addresses) if not holds(store, address)]
    for address, lease in zip(wanted, store.lease_all(wanted), strict=True):
        _note(store, address, lease)
    return [address for address in addresses if holds(store, address)]


def _note(store: Store, address: Address, lease: TargetLease | None) -> bool:
    place = (os.getpid(), store.url, address)
    if lease is None or lease.taken_over:  # whoever had it may have left an attempt
        _refused.add(place)
    if lease is not None:
        _held[place] = lease
    return lease is not None


def holds(store: Store, address: Address) -> bool:
    """Say whether this process has the lease."""
    return (os.getpid(), store.url, address) in _held


def wait_for(store: Store, address: Address) -> bool:
    """Take the lease on an address, waiting for it as long as it takes; True if there was a wait.

    Raises:
        StoreUnreachable: when the store cannot be written.
    """
    wait = FIRST_WAIT_S
    waited = False
    while not take(store, address):
        waited = True
        time.sleep(wait)
        wait = min(wait * 2, LONGEST_WAIT_S)
    return waited


def release(store: Store, address: Address) -> None:
    """Let others have it."""
    lease = _held.pop((os.getpid(), store.url, address), None)
    if lease is not None:
        lease.release()


def release_all(store: Store, addresses: Iterable[Address]) -> None:
    """Let others have many at the same time."""
    held = [_held.pop((os.getpid(), store.url, address), None) for address in addresses]
    store.release_all([lease for lease in held if lease is not None])


def was_tried(store: Store, address: Address) -> bool:
    """Say whether there may be attempts at an address, dead or failed, for whoever has just taken the lease on it.

    A run looks once at all attempts under a prefix, and again where it was refused the lease: whoever had it may have
    died since.

    Raises:
        StoreUnreachable: when the store cannot be read.
    """
    place = (os.getpid(), store.url, address)
    if place in _refused:
        _refused.discard(place)
        return True
    prefix = (current_run().id, os.getpid(), store.url, address.prefix)
    if prefix not in _tried:
        if len(_tried) >= _MOST_PREFIXES:
            _tried.clear()
        _tried[prefix] = frozenset(store.tried(address.prefix))
    return address.key in _tried[prefix]


def bury_all(store: Store, addresses: Sequence[Address], reason: str) -> dict[Address, list[str]]:
    """End the attempts at many addresses whose process is known to be dead; return the places of their logs.

    Nothing is done where another has the lease; afterwards whoever wants these leases gets them at once.

    Raises:
        StoreUnreachable: when the store cannot be read or written.
    """
    try:
        for address in addresses[:1]:  # alone, since the store may be away
            take(store, address)
        taken = take_all(store, addresses)
        tried = {prefix: store.tried(prefix) for prefix in {address.prefix for address in taken}}
        dead = [address for address in taken if address.key in tried[address.prefix]]
        return {address: bury_the_dead(store, address, reason) for address in dead}
    finally:
        release_all(store, addresses)


def bury_the_dead(store: Store, address: Address, reason: str = "its process died") -> list[str]:
    """End the attempts whose process is gone, keeping their logs; return the places of these.

    Whoever holds the lease on an address knows that every other attempt staged there is dead.

    Raises:
        StoreUnreachable: when the store cannot be written.
    """
    places = []
    for attempt in store.reader(address).attempts():
        if not attempt.running:
            continue
        folder = os.path.dirname(store.reader(address, attempt.attempt).path(ATTEMPT_NAME))
        if not os.path.isdir(folder):
            continue
        for name in (STDOUT_NAME, STDERR_NAME):  # what masks secrets in them outlives a process that was killed
            filters.wait_for(os.path.join(folder, name))
        document = {"path": address.path, "attempt": attempt.attempt, "error": reason, "run_id": None}
        document["ended_at"] = records.utc_now().isoformat()
        # A full disk keeps the logs without a word on them.
        with contextlib.suppress(OSError), open(os.path.join(folder, STDERR_NAME), "a", encoding="utf-8") as log:
            log.write(f"the attempt ended here: {reason}\n")
        with contextlib.suppress(OSError), open(os.path.join(folder, ATTEMPT_NAME), "wb") as file:
            file.write(records.json_lines(document))
        for name in (STDOUT_NAME, STDERR_NAME):  # the middle of a long log may be a hole
            with contextlib.suppress(OSError):
                bound(os.path.join(folder, name))
        place = store.abandon(Staging(address, attempt.attempt, folder), keep_logs=True)
        if place is not None:
            places.append(place)
    return places
