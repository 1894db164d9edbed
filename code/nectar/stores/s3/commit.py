"""Publish an attempt in S3: its files under names that nobody else writes, then its record, which alone decides.

An object is created once and never written over. A file takes its plain name; where an object of another attempt has
that name, it takes one that has the attempt's id in it. The record maps each file to its object, all of one attempt,
and is put on condition: that there is none, or that it is still the one that was found before the run. What a writer
leaves that dies on the way, or under plain names when it loses, has no record and counts for nothing: nothing proves
that its `run()` succeeded, and nobody finishes its work.

A plain name is never given free again. A DELETE may be carried out a second time, much later, when its first answer was
lost; by then another attempt could have put the same bytes there, which no condition can tell from the first ones.

    out.txt, params.txt, log/stdout.log             plain names
    .attempts/<attempt>/out.txt                     an attempt's own names
    record.json                                     the commit
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nectar import errors, records
from nectar.address import Address
from nectar.records import RECORD_NAME, FileEntry, Record
from nectar.stores.base import Commitment
from nectar.stores.s3.messages import (
    ATTEMPT,
    REPLACED,
    Content,
    Delete,
    Found,
    Get,
    Head,
    Protocol,
    Put,
    Refused,
    Stored,
)

#: bytes; what is larger takes the attempt's own name at once. The client sends what is not larger in one PUT, since
#: some servers do not heed a condition when an upload in several parts is completed.
MULTIPART_ABOVE = 64 * 1024 * 1024
TRIES = 5  #: how often a request is made that the server refuses without a reason that can be seen

ATTEMPTS = ".attempts"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of an attempt that is to be published."""

    name: str  #: within the target: `out.txt`, `params.txt`, `log/stdout.log`
    content: Content


@dataclass(frozen=True, slots=True)
class _Object:
    """An object that this attempt created."""

    place: str  #: relative to the target
    etag: str
    sha256: str


def commit(
    address: Address,
    attempt: str,
    record: Record,
    uploads: Sequence[Upload],
    *,
    seen: str | None,
    own_names: bool,
    outputs: tuple[str, ...],
) -> Protocol[Commitment]:
    """Publish an attempt as a whole or not at all; the first writer of an address wins.

    `seen` is the ETag of the record that was found before the run and that this attempt may replace, whether it was
    invalid or the task is made anew by force; None: there was none, and none is replaced. With `own_names`, or where a
    record was seen, no plain names are tried: for where something is known to lie there. `outputs` are what a record
    must name to be complete for this task. The record that is returned names the objects and their ETags, and the
    stamp is the ETag of the record.

    A writer that lost removes the objects that it created under the attempt's own names; those under plain names stay,
    and no record names them. One that is interrupted (closed, or thrown into) leaves all of them: its last request may
    still be carried out, and then they are a target. So does one that was refused only when it asked again, unless it
    sees that its record was not in force meanwhile: if it was, it has been replaced and is kept with what it names.

    Raises:
        StoreUnreachable: when an invalid record appeared during the run (own names are cleared, as by one that lost),
            or when the server goes on refusing what nothing stands in the way of (all objects are left).
        RecordNewer: when a newer Nectar made what is there now (own names are cleared).
        ValueError: when the record names a file that is not among the uploads.
    """
    unknown = {entry.name for entry in record.files}.difference(upload.name for upload in uploads)
    if unknown:
        raise ValueError(f"the record of {address} names files that are not uploaded: {sorted(unknown)}")
    stored = yield from _store(address, attempt, uploads, own_names=own_names or seen is not None)
    return (yield from _publish(attempt, _with_places(record, stored), stored, seen=seen, outputs=outputs))


def own_place(attempt: str, name: str) -> str:
    """Return where a file lies, relative to the target, whose plain name is not free."""
    return f"{ATTEMPTS}/{attempt}/{name}"


def _store(
    address: Address, attempt: str, uploads: Sequence[Upload], *, own_names: bool
) -> Protocol[dict[str, _Object]]:
    """Create an object for each file, and return them by the files' names."""
    stored: dict[str, _Object] = {}
    waiting: list[tuple[Upload, str]] = []
    for upload in uploads:
        plain = not own_names and upload.content.size <= MULTIPART_ABOVE
        waiting.append((upload, upload.name if plain else own_place(attempt, upload.name)))
    for _ in range(TRIES):
        if not waiting:
            return stored
        answers = yield [
            Put(f"{address.path}/{place}", upload.content, metadata={ATTEMPT: attempt}) for upload, place in waiting
        ]
        refused = []
        for (upload, place), answer in zip(waiting, answers, strict=True):
            if isinstance(answer, Stored):
                stored[upload.name] = _Object(place, answer.etag, upload.content.sha256 or answer.sha256)
            else:
                refused.append((upload, place))
        waiting = []
        if not refused:
            return stored
        heads = yield [Head(f"{address.path}/{place}") for _, place in refused]
        for (upload, place), head in zip(refused, heads, strict=True):
            if isinstance(head, Found) and _is_ours(head, attempt, upload.content):
                stored[upload.name] = _Object(place, head.etag, upload.content.sha256)
            elif isinstance(head, Found) and place != upload.name:
                raise errors.StoreUnreachable(
                    f"`{address}/{place}` is not what this attempt wrote, though the name is its own",
                    hint="run again: the next attempt has names of its own",
                )
            else:
                waiting.append((upload, own_place(attempt, upload.name)))
    raise _refuses(f"{address}/{waiting[0][1]}")


def _is_ours(found: Found, attempt: str, content: Content) -> bool:
    """Say whether an object is the one that was put, and only the answer was lost.

    Whoever puts an object whose sha256 nobody knows has to find that out when its answer is lost.
    """
    return bool(content.sha256) and found.metadata.get(ATTEMPT) == attempt and found.size == content.size


def _with_places(record: Record, stored: Mapping[str, _Object]) -> Record:
    files = tuple(
        replace(entry, object=one.place, etag=one.etag, sha256=one.sha256)
        for entry in record.files
        for one in [stored[entry.name]]
    )
    outputs = {entry.name for entry in files}
    places = {name: one.place for name, one in stored.items() if name not in outputs and one.place != name}
    return replace(record, files=files, places=places)


def _publish(
    attempt: str, record: Record, stored: Mapping[str, _Object], *, seen: str | None, outputs: tuple[str, ...]
) -> Protocol[Commitment]:
    """Put the record, and find out what a refusal means by reading what is there."""
    address, raw = record.address, record.to_bytes()
    key = f"{address.path}/{RECORD_NAME}"
    content = Content(len(raw), hashlib.sha256(raw).hexdigest(), raw=raw)
    doubted: str | None = None
    before, may_have_won = seen, False

    def remove(found: Found, in_force: Record | None = None) -> Protocol[None]:
        if not may_have_won or (before is not None and found.metadata.get(REPLACED) == before):
            yield from _remove(address, stored, in_force)

    for _ in range(TRIES):
        about = {ATTEMPT: attempt} | ({} if seen is None else {REPLACED: seen})
        (answer,) = yield [Put(key, content, seen, about)]
        if isinstance(answer, Stored):
            return Commitment(True, record, answer.etag)
        may_have_won |= isinstance(answer, Refused) and answer.repeated
        (found,) = yield [Get(key)]
        if not isinstance(found, Found):
            seen = None  # what this attempt might replace is out of the way: the first one there wins
            continue
        if found.etag == seen:
            continue
        try:
            other = _parse(found, address, outputs)
        except errors.RecordNewer:
            yield from remove(found)
            raise
        except errors.RecordInvalid as error:
            yield from remove(found)
            raise _appeared(address, error.message) from error
        if other.attempt == attempt:
            return Commitment(True, other, found.etag)
        problem = yield from _first_problem(other)
        if problem is None:
            yield from remove(found, other)
            return Commitment(False, other, found.etag)
        if found.etag == doubted:
            yield from remove(found, other)
            raise _appeared(address, problem)
        doubted = found.etag  # replaced while its files were looked at, perhaps: only a second look can tell
    raise _refuses(key)


def _parse(found: Found, address: Address, outputs: tuple[str, ...]) -> Record:
    """Return the record that was found.

    Raises:
        RecordInvalid: when it cannot be read, or does not name every output.
        RecordNewer: when a newer Nectar wrote it.
    """
    record = records.parse(found.raw or b"", address)
    unnamed = record.unnamed_output(outputs)
    if unnamed is not None:
        raise errors.RecordInvalid(f"the record does not name the output `{unnamed}` in `{address}`")
    return record


def _first_problem(record: Record) -> Protocol[str | None]:
    """Return what is wrong with the files of a record, None where they are as it says."""
    if not record.files:
        return None
    heads = yield [Head(f"{record.address.path}/{entry.object}") for entry in record.files]
    for entry, head in zip(record.files, heads, strict=True):
        if not isinstance(head, Found):
            return f"the file `{entry.name}` is missing in `{record.address}`"
        if not _is_as_recorded(head, entry):
            return f"the file `{entry.name}` is not the one that the record names in `{record.address}`"
    return None


def _is_as_recorded(found: Found, entry: FileEntry) -> bool:
    return found.size == entry.size and entry.etag in (None, found.etag)


def _remove(address: Address, stored: Mapping[str, _Object], in_force: Record | None = None) -> Protocol[None]:
    """Remove the objects that only this attempt can ever have created, but none that the record in force names."""
    named = {entry.object for entry in in_force.files} | set(in_force.places.values()) if in_force else set()
    own = [one.place for name, one in stored.items() if one.place != name and one.place not in named]
    if own:
        yield [Delete(f"{address.path}/{place}") for place in own]


def _appeared(address: Address, problem: str) -> errors.StoreUnreachable:
    return errors.StoreUnreachable(
        f"an invalid record appeared at `{address}` while this attempt ran: {problem}",
        hint="run again: the next run takes it out of the way and makes the target",
    )


def _refuses(key: str) -> errors.StoreUnreachable:
    return errors.StoreUnreachable(
        f"the store refused {TRIES} times to write `{key}`, and nothing that lies there is the reason",
        hint="run again; if it stays so, look for a proxy or a policy of the bucket that refuses conditional writes",
    )
