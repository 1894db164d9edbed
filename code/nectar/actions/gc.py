"""Find what nobody needs in a store, and delete it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

from nectar import errors
from nectar.actions.keeping import find_roots, needed, stores_of
from nectar.address import Address
from nectar.records import Record, utc_now
from nectar.settings import Settings
from nectar.stores import Folder, Inspection, Lease, Lies, State, Store

AT_ONCE = 16  #: targets that are deleted at the same time in a store that is far away


class Kind(str, Enum):
    """Why something is not needed."""

    UNNEEDED = "unneeded"  #: a complete target from which nothing that is kept was made
    BROKEN = "broken"  #: files without a record, or a target that is not what its record says
    QUARANTINED = "quarantined"  #: it was taken out of force, and kept
    REMOVED = "removed"  #: it was being deleted when that was interrupted


class Outcome(str, Enum):
    """What became of it."""

    LISTED = "listed"  #: nothing
    DELETED = "deleted"
    BEING_MADE = "being made"  #: another has the lease on it: it stays
    CHANGED = "changed"  #: it is not as it was found any more: it stays


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something that nobody needs."""

    kind: Kind
    folder: Folder
    since: datetime  #: UTC, aware: when the target was made; of the others, when something was last changed there
    problem: str | None = None  #: of a BROKEN: what is wrong with it
    outcome: Outcome = Outcome.LISTED

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {
            "kind": self.kind.value,
            "path": self.folder.path,
            "size": self.folder.size,
            "since": self.since.isoformat(),
            "problem": self.problem,
            "outcome": self.outcome.value,
        }


@dataclass(frozen=True, slots=True)
class Sweep:
    """What was found in a store, and what became of it."""

    store: str  #: URL
    kept: Mapping[str, int]  #: what is to be kept, as it was named -> how many targets that is
    needed: int  #: targets: those that are kept, and all from which they were made
    garbage: tuple[Garbage, ...]  #: the largest first

    @property
    def size(self) -> int:
        """Bytes of all the garbage."""
        return sum(one.folder.size for one in self.garbage)

    def of(self, outcome: Outcome) -> list[Garbage]:
        """Return the garbage of which this became."""
        return [one for one in self.garbage if one.outcome is outcome]

    def to_json(self) -> dict[str, Any]:
        """Return the sweep as a JSON value."""
        return {
            "store": self.store,
            "kept": dict(self.kept),
            "needed": self.needed,
            "garbage": [one.to_json() for one in self.garbage],
            "size": self.size,
            "deleted": {
                "count": len(self.of(Outcome.DELETED)),
                "size": sum(one.folder.size for one in self.of(Outcome.DELETED)),
            },
        }


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to be rid of."""

    keep: Sequence[str] = ()  #: paths, beginnings of keys, chains and task classes, beside those of the settings
    older: timedelta = timedelta(days=1)  #: nothing younger is garbage
    larger: int = -1  #: bytes: nothing that has no more is garbage


def find(settings: Settings, wish: Wish, now: datetime | None = None) -> Sweep:
    """Return what nobody needs in the store of the settings; nothing is changed.

    What a newer Nectar made is never garbage, nor is what is named to be kept, broken or not.

    Raises:
        TargetNotFound, ChainNotFound, TaskNotFound: when what is to be kept is not known.
        RecordNewer: when nobody here can read what something that is kept was made from.
        StoreUnreachable: when a store cannot be read.
    """
    stores = stores_of(settings)
    named = {what: find_roots(settings, stores, what) for what in dict.fromkeys((*settings.keep, *wish.keep))}
    roots = set().union(*named.values())
    folders = list(stores[0].contents())
    found = dict(_inspections(stores[0], [one for one in folders if one.lies is Lies.TARGET]))
    wanted = needed(roots, lambda addresses: _records(addresses, found, stores[1:]))
    garbage = []
    for folder in folders:
        one = _judge(folder, found.get(folder.address), roots, wanted)
        if one is not None and folder.size > wish.larger and _is_old(one, wish.older, now or utc_now()):
            garbage.append(one)
    garbage.sort(key=lambda one: (-one.folder.size, one.folder.path))
    return Sweep(stores[0].url, {what: len(of) for what, of in named.items()}, len(wanted), tuple(garbage))


def delete(settings: Settings, wish: Wish) -> Sweep:
    """Find what nobody needs and delete it, alone in the store: a run that wants to begin meanwhile waits.

    What another is making stays, and what is not any more as it was found.

    Raises: as `find`, and
        UsageError: when there is no target that is kept.
        StoreInUse: when a run is at work in the store; nothing is deleted.
        StoreUnreachable: when the store cannot be written; what was deleted until then stays so.
    """
    if not (wish.keep or settings.keep):
        raise errors.UsageError(
            "nothing is named to be kept, and all the rest would be deleted",
            hint="name it: `nectar gc --keep etl/flights_chain/ReportTask --yes`, or `keep` in `[gc]` of "
            "configuration/nectar.toml",
        )
    store = stores_of(settings)[0]
    alone = store.alone()
    if alone is None:
        raise _in_use(store)
    try:
        found = find(settings, wish)
        if not any(found.kept.values()):
            raise errors.UsageError(
                "of what is named to be kept there is no target, and all the rest would be deleted",
                hint="make it first, or name something else: `nectar status` lists what is there",
            )
        ends = {one.folder.path: one for one in _delete_all(store, found.garbage, alone)}
    finally:
        alone.release()
    garbage = tuple(ends[one.folder.path] for one in found.garbage)
    return Sweep(found.store, found.kept, found.needed, garbage)


def _in_use(store: Store) -> errors.StoreInUse:
    return errors.StoreInUse(
        f"a run is at work in `{store.url}`: nothing is deleted meanwhile", hint="wait for its end, and try again"
    )


# Finding


def _inspections(store: Store, targets: Sequence[Folder]) -> Iterator[tuple[Address, Inspection]]:
    """Yield what is at each target; where asking is dear, what was listed is held against the record."""
    if store.checks_in_plans:
        yield from ((one.address, store.inspect(one.address)) for one in targets)
        return
    records = store.records([one.address for one in targets if one.version is not None])
    for one in targets:
        record = records.get(one.address)
        if record is not None and _has_all(one, record):
            yield one.address, Inspection(State.COMPLETE, record)
        else:
            yield one.address, store.inspect(one.address)


def _has_all(folder: Folder, record: Record) -> bool:
    sizes = {entry.object: entry.size for entry in record.files}
    there = all(folder.files.get(f"{folder.path}/{name}") == size for name, size in sizes.items())
    return there and record.unnamed_output(()) is None


def _records(
    addresses: Sequence[Address], found: Mapping[Address, Inspection], others: Sequence[Store]
) -> dict[Address, Record]:
    """Return the records of targets, of which some may lie in other stores."""
    records: dict[Address, Record] = {}
    for address in addresses:
        if address in found:
            _refuse_newer(found[address], address)
            record = found[address].record
            if record is not None:
                records[address] = record
    for store in others:
        elsewhere = [one for one in addresses if one not in records]
        there = store.records(elsewhere) if elsewhere else {}
        for address in store.present([one for one in elsewhere if one not in there]):
            _refuse_newer(store.inspect(address), address)
        records.update(there)
    return records


def _refuse_newer(found: Inspection, address: Address) -> None:
    if found.newer:
        raise errors.RecordNewer(
            f"`{address}` is kept, and what it was made from cannot be read: {found.problem}",
            hint="update Nectar, then try again",
        )


def _judge(folder: Folder, found: Inspection | None, roots: set[Address], wanted: set[Address]) -> Garbage | None:
    """Return a folder as garbage, None where it has to stay."""
    if folder.newer:
        return None
    if folder.lies is not Lies.TARGET:
        kind = Kind.QUARANTINED if folder.lies is Lies.QUARANTINED else Kind.REMOVED
        return Garbage(kind, folder, folder.modified)
    if found is None or found.newer or found.state is State.MISSING or folder.address in roots:
        return None
    if found.complete and found.record is not None:
        ended = found.record.ended_at
        ended = ended if ended.tzinfo is not None else ended.replace(tzinfo=timezone.utc)
        return None if folder.address in wanted else Garbage(Kind.UNNEEDED, folder, ended)
    return Garbage(Kind.BROKEN, folder, folder.modified, found.problem or "it has no record")


def _is_old(one: Garbage, older: timedelta, now: datetime) -> bool:
    return one.kind is Kind.REMOVED or now - one.since >= older


# Deleting


def _delete_all(store: Store, garbage: Iterable[Garbage], alone: Lease) -> list[Garbage]:
    groups: dict[Address, list[Garbage]] = {}
    for one in garbage:
        groups.setdefault(one.folder.address, []).append(one)
    if store.checks_in_plans:
        return [end for group in groups.values() for end in _delete_group(store, group, alone)]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="nectar-gc") as pool:
        futures = [pool.submit(_delete_group, store, group, alone) for group in groups.values()]
        try:
            return [end for future in futures for end in future.result()]
        finally:
            for future in futures:  # after an error, or a Ctrl-C
                future.cancel()


def _delete_group(store: Store, group: Sequence[Garbage], alone: Lease) -> list[Garbage]:
    """Delete what there is of one target, what is in quarantine first: its objects may lie in the target's folder."""
    if alone.lost:
        raise _in_use(store)
    lease = store.lease(group[0].folder.address)
    if lease is None:
        return [_ended(one, Outcome.BEING_MADE) for one in group]
    try:
        ordered = sorted(group, key=lambda one: one.folder.lies is Lies.TARGET)
        return [_ended(one, Outcome.DELETED if store.remove(one.folder) else Outcome.CHANGED) for one in ordered]
    finally:
        lease.release()


def _ended(one: Garbage, outcome: Outcome) -> Garbage:
    return Garbage(one.kind, one.folder, one.since, one.problem, outcome)
