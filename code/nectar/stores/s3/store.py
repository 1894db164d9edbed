"""Keep targets in a bucket: see `nectar.stores.base.Store` for the promises, `messages` for how its parts talk.

    <prefix>/<key>/out.txt, params.txt, log/..., record.json     a target; the record was written last
    <prefix>/<key>/.attempts/<attempt>/<name>     a file whose plain name another attempt's leftover has
    <prefix>/.attempts/<key>/<attempt>/...        a failed attempt: its logs; of one at work: `live/`
    <prefix>/.quarantine/<key>/<label>/...        what was taken out of force
    <prefix>/.leases/<key>                        the lease on a target
    <prefix>/.recipes/<hash>                      the key of a target that was made from inputs with these digests
    .users/<id>                                   the word of a run that it uses the store

An attempt is staged on the local disk. What is read comes through a cache of verified copies.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from nectar import errors, records
from nectar.address import Address, check_prefix, is_key
from nectar.records import PARAMS_NAME, RECORD_NAME, Record
from nectar.stores.base import (
    Commitment,
    Finished,
    Folder,
    Inspection,
    Lease,
    Recipe,
    Staging,
    State,
    TargetLease,
    copy_files,
    unreadable,
)
from nectar.stores.s3 import clearing, presence, probe
from nectar.stores.s3.cache import ObjectCache
from nectar.stores.s3.clearing import QUARANTINE
from nectar.stores.s3.client import S3Client
from nectar.stores.s3.commit import ATTEMPTS, MULTIPART_ABOVE, Upload, commit
from nectar.stores.s3.holding import LeaseKeeper, S3Lease
from nectar.stores.s3.messages import Content, Delete, Found, Get, Head, Put
from nectar.stores.s3.reader import S3Reader
from nectar.stores.s3.shipping import Shipper
from nectar.stores.s3.users import Users

RECIPES = ".recipes"
_FEW = 32  # records that may as well be read as asked for


class S3Store:
    """Targets in a bucket of S3, or of a server that speaks its protocol and honours conditional writes."""

    of_one_process = False
    checks_in_plans = False
    hashes_above: float = MULTIPART_ABOVE

    def __init__(
        self, client: S3Client, cache: ObjectCache, work: str, *, attempts_kept: int = 10, lease_s: float = 30.0
    ) -> None:
        """`work` is a folder of the local disk for attempts at work; a lease holds for `lease_s` without a renewal."""
        self.url = client.url
        self.client = client
        self.cache = cache
        self._work = work
        self._attempts_kept = attempts_kept
        self._etags: dict[Address, str] = {}  # of the records that this process saw last
        self._at_work: set[str] = set()  # attempts of this process that have not ended
        self._shipper = Shipper(client)
        self._lease_s = lease_s
        self._keeper: LeaseKeeper | None = None
        self._users = Users(client, lease_s)
        self._checked_in = 0  # the process that has asked whether the server honours conditions

    def __repr__(self) -> str:
        return f"S3Store({self.url!r})"

    # Asking

    def present(self, addresses: Iterable[Address]) -> set[Address]:
        found = presence.present(addresses, _Asking(self.client))
        self._etags.update(found)
        return set(found)

    def inspect(self, address: Address, outputs: Sequence[str] = (), *, leftovers: bool = True) -> Inspection:
        answer = self.client.do(Get(_record_key(address)))
        if not isinstance(answer, Found):
            self._etags.pop(address, None)
            if not leftovers:
                return Inspection(State.MISSING)
            page = self.client.list_page(f"{address.path}/")
            names = tuple(one.key.removeprefix(f"{address.path}/") for one in page.objects)
            return Inspection(State.LEFTOVER, files=names) if names else Inspection(State.MISSING)
        return self._judge(address, answer, outputs)

    def inspect_many(self, wanted: Iterable[tuple[Address, Sequence[str]]]) -> Iterator[Inspection]:
        return (self.inspect(address, outputs) for address, outputs in wanted)

    def _judge(self, address: Address, answer: Found, outputs: Sequence[str]) -> Inspection:
        raw, version = answer.raw or b"", answer.etag
        self._etags[address] = version
        try:
            record = records.parse(raw, address)
        except errors.RecordInvalid as error:
            return unreadable(error, version)
        self.cache.keep_record(version, raw)
        problem = self._first_problem(record, outputs)
        if problem is not None:
            return Inspection(State.INVALID, record, version, f"{problem} in `{address}`")
        return Inspection(State.COMPLETE, record, version, stamp=version)

    def _first_problem(self, record: Record, outputs: Sequence[str]) -> str | None:
        unnamed = record.unnamed_output(outputs)
        if unnamed is not None:
            return f"the record does not name the output `{unnamed}`"
        heads = self.client.do_all([Head(f"{record.address.path}/{entry.object}") for entry in record.files])
        for entry, head in zip(record.files, heads, strict=True):
            if not isinstance(head, Found):
                return f"the file `{entry.name}` is missing"
            if head.size != entry.size:
                return f"the file `{entry.name}` has {head.size} bytes, its record says {entry.size}"
            if entry.etag is not None and head.etag != entry.etag:
                return f"the file `{entry.name}` is another object than its record names"
        return None

    def records(self, addresses: Iterable[Address]) -> dict[Address, Record]:
        wanted = list(dict.fromkeys(addresses))
        found: dict[Address, Record] = {}
        unknown = []
        for address in wanted:
            etag = self._etags.get(address)
            raw = self.cache.record(etag) if etag is not None else None
            if raw is None:
                unknown.append(address)
                continue
            with contextlib.suppress(errors.RecordInvalid):
                found[address] = records.parse(raw, address)
        answers = self.client.do_all([Get(_record_key(address)) for address in unknown])
        for address, answer in zip(unknown, answers, strict=True):
            if isinstance(answer, Found):
                with contextlib.suppress(errors.RecordInvalid):
                    found[address] = records.parse(answer.raw or b"", address)
                    self.cache.keep_record(answer.etag, answer.raw or b"")
                    self._etags[address] = answer.etag
        return found

    def changed(self, stamps: Mapping[Address, Hashable]) -> set[Address]:
        """Say so by what this process saw last: who reads an input asks for the object that its record names."""
        return {address for address, stamp in stamps.items() if self._etags.get(address) != stamp}

    def walk(self, prefix: str = "") -> Iterator[Address]:
        prefix = prefix.strip("/")
        check_prefix(prefix)
        last: Address | None = None
        for one in self.client.list(f"{prefix}/" if prefix else "chains/"):
            address = _address_in(one.key)
            if address is None:
                continue
            if one.key == _record_key(address):
                self._etags[address] = one.etag
            if address != last:
                last = address
                yield address

    # Staging and publishing

    def stage(self, address: Address, attempt: str) -> Staging:
        self._check_server()
        path = f"{self._work}/{address.prefix}/{attempt}"
        try:
            os.makedirs(f"{path}/log")
        except OSError as error:
            raise _disk(error, self._work) from error
        staging = Staging(address, attempt, path)
        self._at_work.add(attempt)
        self._shipper.follow(staging)
        return staging

    def _check_server(self) -> None:
        if self._checked_in == os.getpid() or self.client.config.single_writer:
            return
        if not probe.honours_conditions(self.client):
            raise errors.StoreUnreachable(
                f"the server of `{self.url}` ignores the conditions of writes: two writers would overwrite each other",
                hint="use another server; or, if nobody else ever writes there, set `single_writer = true` in `[s3]` "
                "of configuration/nectar.toml",
            )
        self._checked_in = os.getpid()

    def commit(self, finished: Sequence[Finished]) -> list[Commitment]:
        commitments: list[Commitment] = []
        rest = list(finished)
        while rest:
            together = {one.staging.address: one for one in reversed(rest)}
            if len(together) == len(rest):
                return commitments + self._commit_together(rest)
            # Two attempts at one address, one after the other: the first wins.
            commitments += self._commit_together(rest[:1])
            rest = rest[1:]
        return commitments

    def _commit_together(self, finished: Sequence[Finished]) -> list[Commitment]:
        for one in finished:
            if one.replaces is not None:
                self._keep(one.staging, one.replaces)
        protocols = [
            commit(
                one.staging.address,
                one.staging.attempt,
                one.record,
                self._uploads(one),
                seen=one.replaces,
                own_names=one.replaces is not None,
                outputs=one.outputs,
            )
            for one in finished
        ]
        ends = self.client.settle_all(protocols)
        commitments = []
        failure: BaseException | None = None
        pointers = []
        for one, end in zip(finished, ends, strict=True):
            if isinstance(end, BaseException):
                failure = failure or (_gone(one.staging) if isinstance(end, OSError) else end)
                continue
            commitments.append(end)
            address = one.staging.address
            if isinstance(end.stamp, str):
                self._etags[address] = end.stamp
                self.cache.keep_record(end.stamp, end.record.to_bytes())
            self._end(one.staging)
            if one.recipe is not None and end.won:
                key = f"{one.recipe.prefix}/{RECIPES}/{one.recipe.name}"
                pointers.append(Put(key, _content(address.key.encode())))
        self.client.do_all(pointers)  # one that is there already leads to a target of the same bytes
        if failure is not None:
            raise failure
        return commitments

    def _keep(self, staging: Staging, version: str) -> None:
        """Keep a record that an attempt may replace; what it names stays where it is."""
        found = self.client.do(Get(_record_key(staging.address)))
        if isinstance(found, Found) and found.etag == version:
            self._keep_record(staging.address, "replaced", found)

    def _uploads(self, one: Finished) -> list[Upload]:
        folder = one.staging.path
        try:
            return self._contents(one, folder)
        except OSError as error:
            raise _gone(one.staging) from error

    def _contents(self, one: Finished, folder: str) -> list[Upload]:
        known = {entry.name: Content(entry.size, entry.sha256, f"{folder}/{entry.name}") for entry in one.record.files}
        for name in known:
            os.stat(f"{folder}/{name}")
        beside = {PARAMS_NAME, records.STDOUT_NAME, records.STDERR_NAME, *_logs_in(folder)}
        for name in sorted(beside):  # an empty log, too: otherwise a leftover of its name would be taken for it
            there = os.path.exists(f"{folder}/{name}")
            known[name] = _content_of(f"{folder}/{name}") if there else _content(b"")
        return [Upload(name, content) for name, content in known.items()]

    def _end(self, staging: Staging) -> None:
        """Forget the local folder of an attempt, and what was shipped of it while it ran."""
        self._at_work.discard(staging.attempt)
        self._shipper.leave(staging)
        shutil.rmtree(staging.path, ignore_errors=True)  # a child left over may still write there

    def take_over(self, record: Record, staging: Staging) -> None:
        copy_files(self.reader(record.address), record, staging)

    def recall(self, recipes: Iterable[Recipe]) -> dict[Recipe, Address]:
        wanted = list(recipes)
        answers = self.client.do_all([Get(f"{one.prefix}/{RECIPES}/{one.name}") for one in wanted])
        found = {}
        for recipe, answer in zip(wanted, answers, strict=True):
            key = (answer.raw or b"").decode("ascii", "replace") if isinstance(answer, Found) else ""
            if is_key(key):
                found[recipe] = Address(recipe.prefix, key)
        return found

    def remembers(self, prefix: str) -> bool:
        return bool(self.client.list_page(f"{prefix}/{RECIPES}/", most=1).objects)

    def abandon(self, staging: Staging, *, keep_logs: bool) -> str | None:
        address = staging.address
        kept = f"{address.prefix}/{ATTEMPTS}/{address.key}"
        if keep_logs and os.path.isdir(staging.path):
            names = [PARAMS_NAME, records.ATTEMPT_NAME, *_logs_in(staging.path)]
            there = [name for name in names if os.path.exists(f"{staging.path}/{name}")]
            place = f"{kept}/{staging.attempt}"
            self.client.do_all([Put(f"{place}/{name}", _content_of(f"{staging.path}/{name}")) for name in there])
            self._prune(kept)
        self._end(staging)
        return f"{kept}/{staging.attempt}" if keep_logs else None

    def _prune(self, kept: str) -> None:
        """Remove the oldest of the attempts kept of a target."""
        attempts = [one.key for one in self.client.list(f"{kept}/", delimiter="/") if one.key.endswith("/")]
        for attempt in attempts[: -self._attempts_kept or None]:
            self.client.do_all([Delete(one.key) for one in self.client.list(attempt)])

    def tried(self, prefix: str) -> set[str]:
        folder = f"{prefix}/{ATTEMPTS}/"
        listed = self.client.list(folder, delimiter="/")
        found = {one.key.removeprefix(folder).strip("/") for one in listed if one.key.endswith("/")}
        for name in _entries(f"{self._work}/{prefix}"):
            key = records.attempt_key(name)
            if key is not None:
                found.add(key)
        return found

    def lease(self, address: Address) -> S3Lease | None:
        return self._keeper_of_leases().lease(address)

    def lease_all(self, addresses: Sequence[Address]) -> list[S3Lease | None]:
        return self._keeper_of_leases().lease_all(addresses)

    def release_all(self, leases: Sequence[TargetLease]) -> None:
        if self._keeper is not None:
            self._keeper.give_back([one for one in leases if isinstance(one, S3Lease)])

    def _keeper_of_leases(self) -> LeaseKeeper:
        self._check_server()
        with _making_keeper:
            if self._keeper is None:
                conditional = not self.client.config.single_writer and probe.conditions(self.client).deletes
                settle = self.client.settle_all
                self._keeper = LeaseKeeper(settle, seconds=self._lease_s, conditional_deletes=conditional)
        return self._keeper

    def in_use(self, *, to_write: bool = False) -> Lease:
        return self._users.in_use()

    def alone(self) -> Lease | None:
        self._check_server()
        return self._users.alone()

    def contents(self, address: Address | None = None) -> Iterator[Folder]:
        for folder in clearing.contents(self.client, address):
            if isinstance(folder.version, str) and folder.path == folder.address.path:
                self._etags[folder.address] = folder.version
            yield folder

    def remove(self, folder: Folder) -> bool:
        self._etags.pop(folder.address, None)
        return clearing.remove(self.client, folder)

    def quarantine(self, address: Address, reason: str) -> str | None:
        # Only its record is taken away: that makes it incomplete. Its objects stay: somebody may be reading them, and
        # one of equal bytes that another attempt puts under the same name could not be told from it.
        answer = self.client.do(Get(_record_key(address)))
        if not isinstance(answer, Found):
            return None
        place = self._keep_record(address, reason, answer)
        self.client.do(Delete(_record_key(address), answer.etag))
        self._etags.pop(address, None)
        return place

    def _keep_record(self, address: Address, label: str, found: Found) -> str:
        """Put a record into quarantine, once, and return the place."""
        folder = f"{address.prefix}/{QUARANTINE}/{address.key}/{label}-{found.etag[:12]}"
        self.client.do(Put(f"{folder}/{RECORD_NAME}", _content(found.raw or b"")))
        return folder

    # Reading

    def reader(self, address: Address, attempt: str | None = None) -> S3Reader:
        record = self._record_in_use(address) if attempt is None else None
        return S3Reader(self.client, self.cache, address, attempt, f"{self._work}/{address.prefix}", record)

    def _record_in_use(self, address: Address) -> Record | None:
        """Return the record by which this process judged a target, while a task of it is at work.

        What the task's own record says of its inputs was taken from there: what it reads must be the same. Where
        nothing is at work, years may lie between the two: then the server is asked.
        """
        etag = self._etags.get(address) if self._at_work else None
        raw = self.cache.record(etag) if etag is not None else None
        with contextlib.suppress(errors.RecordInvalid):
            return records.parse(raw, address) if raw is not None else None
        return None


_making_keeper = threading.Lock()


def _renew_lock() -> None:
    global _making_keeper
    _making_keeper = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)  # another thread of the parent may have held it


class _Asking:
    """What the search for present targets asks of a client."""

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self.list_page = client.list_page
        self.map = client.map

    def head_all(self, keys: list[str], /) -> list[str | None]:
        # To a GET the server says whether the object is missing or the bucket, which is one more question after a HEAD.
        ask = Head if len(keys) > _FEW or self._client.connection.knows_bucket() else Get
        answers = self._client.do_all([ask(key) for key in keys])
        return [answer.etag if isinstance(answer, Found) else None for answer in answers]


def _record_key(address: Address) -> str:
    return f"{address.path}/{RECORD_NAME}"


def _address_in(key: str) -> Address | None:
    """Return the address to which an object belongs, None for what lies beside the targets."""
    parts = key.split("/")
    for position, part in enumerate(parts[:-1]):
        if part.startswith("."):
            return None
        if position and is_key(part):
            return Address("/".join(parts[:position]), part)
    return None


def _content(raw: bytes) -> Content:
    return Content(len(raw), hashlib.sha256(raw).hexdigest(), raw=raw)


def _content_of(path: str) -> Content:
    """Return a file as it is now: what a child left over may still write is not of it."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size <= 1 << 20:
            return _content(file.read())
        digest, size = hashlib.sha256(), 0
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
        return Content(size, digest.hexdigest(), path)


def _logs_in(folder: str) -> list[str]:
    return [f"log/{name}" for name in sorted(_entries(f"{folder}/log"))]


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _gone(staging: Staging) -> errors.StoreUnreachable:
    return errors.StoreUnreachable(
        f"the place of the attempt `{staging.attempt}` is gone or cannot be read",
        hint="somebody removed it, or the disk is failing; run again",
    )


def _disk(error: OSError, work: str) -> errors.StoreUnreachable:
    return errors.StoreUnreachable(
        f"the folder for attempts at work, `{work}`, cannot be written: {os.strerror(error.errno or 0).lower()}",
        hint="look at the disk that holds the project's `.nectar` folder",
    )
