"""List all that lies in a bucket, and remove of it what nobody needs, so that a target is there as a whole or not.

A record that was taken out of force lies in `.quarantine`, and the objects that it names stay in the target's folder.
Here they count as lying with that record, unless the record in force names them as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from nectar import errors, records
from nectar.address import Address, is_key
from nectar.records import PARAMS_NAME, RECORD_NAME, STDERR_NAME, STDOUT_NAME, Record
from nectar.stores.base import Folder, Lies
from nectar.stores.s3.client import Listed, S3Client
from nectar.stores.s3.messages import Absent, Delete, Found, Get

QUARANTINE = ".quarantine"


@dataclass(slots=True)
class _Place:
    """What was listed of one folder."""

    address: Address
    path: str
    lies: Lies
    files: dict[str, int] = field(default_factory=dict)
    put: dict[str, datetime] = field(default_factory=dict)  #: when each of its own objects was
    record: str | None = None  #: ETag
    newer: bool = False

    def note(self, one: Listed, put: datetime) -> None:
        self.files[one.key], self.put[one.key] = one.size, put
        if one.key == f"{self.path}/{RECORD_NAME}":
            self.record = one.etag

    @property
    def modified(self) -> datetime:
        return max(self.put.values())

    def folder(self) -> Folder:
        return Folder(self.address, self.path, self.lies, self.files, self.modified, self.record, self.newer)


def contents(client: S3Client, address: Address | None = None) -> Iterator[Folder]:
    """Yield what lies in the store, or what there is of one target: a listing, and what is read of `.quarantine`.

    Raises:
        StoreUnreachable: when the store cannot answer.
    """
    if address is not None:
        kept = client.list_dated(f"{address.prefix}/{QUARANTINE}/{address.key}/")
        yield from _of_class(client, [*kept, *client.list_dated(f"{address.path}/")])
        return
    prefix: str | None = None
    listed: list[tuple[Listed, datetime]] = []
    for one, modified in client.list_dated("chains/"):
        found = _place_of(one.key)
        if found is None:
            continue
        if found.address.prefix != prefix:
            yield from _of_class(client, listed)
            prefix, listed = found.address.prefix, []
        listed.append((one, modified))
    yield from _of_class(client, listed)


def _place_of(key: str) -> _Place | None:
    """Return the folder in which an object lies; None where it is nobody's: a lease, a failed attempt."""
    parts = key.split("/")
    for position, part in enumerate(parts[:-1]):
        prefix = "/".join(parts[:position])
        if position and is_key(part):
            address = Address(prefix, part)
            return _Place(address, address.path, Lies.TARGET)
        if part == QUARANTINE and len(parts) > position + 3 and is_key(parts[position + 1]):
            address = Address(prefix, parts[position + 1])
            return _Place(address, "/".join(parts[: position + 3]), Lies.QUARANTINED)
        if part.startswith("."):
            return None
    return None


def _of_class(client: S3Client, listed: Iterable[tuple[Listed, datetime]]) -> Iterator[Folder]:
    """Yield the folders of one class of tasks, those of a target after what was taken out of force of it."""
    places: dict[str, _Place] = {}
    for one, modified in listed:
        found = _place_of(one.key)
        if found is not None:
            places.setdefault(found.path, found).note(one, modified)
    _count_with_quarantined(client, places)
    for place in sorted(places.values(), key=lambda one: (one.address.key, one.lies is Lies.TARGET, one.path)):
        if place.files:
            yield place.folder()


def _count_with_quarantined(client: S3Client, places: dict[str, _Place]) -> None:
    """Let the records in quarantine have the objects that they alone name; what several name has the newest."""
    aside = [one for one in places.values() if one.lies is Lies.QUARANTINED and one.record is not None]
    targets = {one.address: places.get(one.address.path) for one in aside}
    in_force = [one for one in targets.values() if one is not None and one.record is not None]
    asked = [*aside, *in_force]
    answers = client.do_all([Get(f"{one.path}/{RECORD_NAME}") for one in asked])
    read = {one.path: _read(one, answer.raw) for one, answer in zip(asked, answers, strict=True)
            if isinstance(answer, Found)}  # fmt: skip
    for one in sorted(aside, key=lambda one: (one.modified, one.path), reverse=True):
        record, target = read.get(one.path), targets[one.address]
        if record is None or target is None:
            continue
        kept = read.get(target.path)
        if target.record is not None and kept is None:
            continue  # nobody can say what the record in force names
        for name in _objects(record) - (_objects(kept) if kept is not None else set()):
            key = f"{target.path}/{name}"
            if key in target.files and name != RECORD_NAME:
                one.files[key] = target.files.pop(key)
                del target.put[key]


def _read(place: _Place, raw: bytes | None) -> Record | None:
    try:
        return records.parse(raw or b"", place.address)
    except errors.RecordInvalid as error:
        place.newer = isinstance(error, errors.RecordNewer)
        return None


def _objects(record: Record) -> set[str]:
    """Return what a record names, relative to the target."""
    beside = {record.places.get(name, name) for name in (PARAMS_NAME, STDOUT_NAME, STDERR_NAME)}
    return {*(entry.object for entry in record.files), *record.places.values(), *beside}


def remove(client: S3Client, folder: Folder) -> bool:
    """Remove a folder that is still as it was found: of a target the record before all else, of others at last.

    Raises:
        StoreUnreachable: when the server does not do it; a target of which the record is gone is none any more.
    """
    if folder not in list(contents(client, folder.address)):
        return False
    record = f"{folder.path}/{RECORD_NAME}"
    rest = [Delete(key) for key in folder.files if key != record]
    if folder.lies is Lies.TARGET and folder.version is not None:
        client.do(Delete(record, str(folder.version)))
        if not isinstance(client.do(Get(record)), Absent):
            return False
    client.do_all(rest)
    if folder.lies is not Lies.TARGET:
        client.do(Delete(record))
    return True
