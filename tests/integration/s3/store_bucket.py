"""Attempts that are ready to be committed to a store in S3, and a look into its bucket behind everybody's back."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3_client import ACCESS_KEY, REGION, SECRET_KEY

from nectar import records
from nectar.address import Address
from nectar.recording.sealing import digest_of
from nectar.records import FileEntry, Record, new_attempt_id, utc_now
from nectar.stores import Finished
from nectar.stores.s3.cache import ObjectCache
from nectar.stores.s3.client import S3Client, S3Config
from nectar.stores.s3.store import S3Store

CLASS = "chains/etl/fault_chain/FaultTask"
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


def no_pause(*_: object) -> float:
    """Return how long botocore waits before it tries again: not at all."""
    return 0.0


@dataclass(frozen=True)
class Place:
    """A folder of a bucket, at a server or at the proxy before it."""

    endpoint: str
    bucket: str
    prefix: str

    def client(self, **config: Any) -> S3Client:
        """Return a client of it."""
        return S3Client(f"s3://{self.bucket}/{self.prefix}", S3Config(endpoint=self.endpoint, **config))


def store_on(client: S3Client, disk: Path) -> S3Store:
    """Return a store that knows nothing yet, with a folder of its own on the disk."""
    return S3Store(client, ObjectCache(str(disk / "cache"), 1 << 30), str(disk / "staging"))


def new_address() -> Address:
    """Return an address that nobody else has."""
    return Address(CLASS, secrets.token_hex(16))


def finish(
    store: S3Store, address: Address, files: Mapping[str, bytes] | None = None, *, replaces: str | None = None
) -> Finished:
    """Stage an attempt that is ready to be committed; its parameters and its log say which one it is."""
    now = utc_now()
    staging = store.stage(address, new_attempt_id(address, now))
    store._shipper.leave(staging)  # logs that are sent in between would meet faults that are meant for others
    entries = []
    for name, raw in (files or {"out.txt": f"made by {staging.attempt}\n".encode()}).items():
        path = Path(staging.path, name)
        path.write_bytes(raw)
        entries.append(FileEntry(name, name, *digest_of(str(path))))
    for name in (records.PARAMS_NAME, records.STDOUT_NAME):
        Path(staging.path, name).write_text(f"of {staging.attempt}\n", encoding="utf-8")
    record = Record(
        address=address,
        output_id=secrets.token_hex(32),
        identity={"task": "chains.etl.fault_chain.FaultTask", "version": "", "params": {}, "inputs": {}},
        files=tuple(entries),
        started_at=now,
        ended_at=utc_now(),
        attempt=staging.attempt,
    )
    return Finished(staging, record, replaces)


@dataclass(frozen=True)
class Sight:
    """A record, all of whose objects are there with the bytes that it says."""

    attempt: str
    version: str  #: ETag of the record
    files: Mapping[str, str]  #: name -> sha256 of the bytes that were read


class Bucket:
    """What lies at a server, whatever stores say."""

    def __init__(self, server: Any, place: Place) -> None:
        self.server, self.place = server, place

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Return bytes and ETag of an object, None where there is none."""
        try:
            answer = self.server.get_object(Bucket=self.place.bucket, Key=f"{self.place.prefix}/{key}")
        except self.server.exceptions.NoSuchKey:
            return None
        with answer["Body"] as body:
            return body.read(), answer["ETag"].strip('"')

    def keys(self, folder: str) -> list[str]:
        """Return the keys under a folder, relative to it."""
        top = f"{self.place.prefix}/{folder}/"
        pages = self.server.get_paginator("list_objects_v2").paginate(Bucket=self.place.bucket, Prefix=top)
        return [one["Key"].removeprefix(top) for page in pages for one in page.get("Contents", ())]

    def uploads(self, address: Address) -> int:
        """Return how many uploads in parts to a target were neither completed nor aborted."""
        top = f"{self.place.prefix}/{address.path}/"
        found = self.server.list_multipart_uploads(Bucket=self.place.bucket, Prefix=top)
        return len(found.get("Uploads", ()))

    def look(self, address: Address) -> Sight | None:
        """Return the target in force at an address, None where there is no record; a torn one is an AssertionError."""
        found = self.read(f"{address.path}/{records.RECORD_NAME}")
        return None if found is None else self.whole(records.parse(found[0], address), found[1])

    def replaced(self, address: Address) -> list[tuple[Record, str]]:
        """Return the records that were replaced, with their ETags."""
        folder = f"{address.prefix}/.quarantine/{address.key}"
        raws = [self.read(f"{folder}/{key}") for key in self.keys(folder)]
        return [(records.parse(raw, address), etag) for raw, etag in filter(None, raws)]

    def whole(self, record: Record, version: str) -> Sight:
        """Return what a record names; what is missing, or other than it says, is an AssertionError."""
        files = {}
        for entry in record.files:
            raw, etag = self._found(record, entry.object)
            assert (len(raw), etag) == (entry.size, entry.etag), f"torn: {record.address}/{entry.object}"
            files[entry.name] = hashlib.sha256(raw).hexdigest()
            assert files[entry.name] == entry.sha256, f"torn: {record.address}/{entry.object}"
        for name in (records.PARAMS_NAME, records.STDOUT_NAME):
            raw, _ = self._found(record, record.places.get(name, name))
            assert raw.decode() == f"of {record.attempt}\n", f"of two attempts: {record.address}"
        self._found(record, record.places.get(records.STDERR_NAME, records.STDERR_NAME))
        return Sight(record.attempt, version, files)

    def _found(self, record: Record, name: str) -> tuple[bytes, str]:
        found = self.read(f"{record.address.path}/{name}")
        assert found is not None, f"torn: {record.address}/{name} is missing"
        return found
