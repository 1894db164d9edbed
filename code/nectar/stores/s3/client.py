"""Carry out what a store in S3 asks of the server, many requests at a time, and run the protocols that ask.

Keys are relative to the store. What the server cannot answer is an error, never "missing": a HEAD that is answered
403 is an error, and so is a 404 that means the bucket.
"""

from __future__ import annotations

import builtins
import hashlib
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from datetime import datetime, timezone
from io import BufferedReader
from typing import Any, BinaryIO, NamedTuple, TypeVar

from nectar import errors
from nectar.stores.s3 import driving, listing, reading, transfer
from nectar.stores.s3.connection import BROKEN, Connection, S3Config, etag_of
from nectar.stores.s3.driving import Failure
from nectar.stores.s3.failures import Rejected
from nectar.stores.s3.messages import (
    Absent,
    Answer,
    Delete,
    Deleted,
    Found,
    Get,
    Head,
    Protocol,
    Put,
    Refused,
    Request,
    Stored,
)

__all__ = ["Listed", "Page", "S3Client", "S3Config"]

T = TypeVar("T")
_Item = TypeVar("_Item")

PAGE = 1000  #: objects in an answer to a listing
PRESIGNED_S = 7 * 24 * 3600  #: the longest that AWS lets a presigned URL live
_REFUSES_A_CHECKSUM = {"NotImplemented", "InvalidArgument", "InvalidRequest"}
_SHA256 = "nectar-sha256"  # a member of an object's metadata: what was put, whatever the server makes its ETags of
_MD5 = re.compile("[0-9a-f]{32}")


class Listed(NamedTuple):
    """An object in a listing, or what the objects in one folder have in common."""

    key: str  #: relative to the store; a folder ends with the delimiter
    size: int = 0  #: bytes
    etag: str = ""  #: without quotes; empty: a folder


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to a listing."""

    objects: list[Listed]
    prefixes: list[str]  #: folders, each with the delimiter at its end
    more: bool  #: False: there is nothing behind the last one of both


class S3Client:
    """A store's place in a bucket. Threads share it, and a process that was forked may go on using it.

    Unless something else is said every method raises:
        StoreUnreachable: when the server cannot be reached, or does not do what it is asked.
        UnsafePath: when a key leads out of the store.
    """

    def __init__(self, url: str, config: S3Config = S3Config()) -> None:  # noqa: B008  it is frozen
        """Name a place, `s3://bucket/prefix`; nothing is asked of the server yet.

        Raises:
            StoreNotSupported: when it is none.
        """
        place = urllib.parse.urlsplit(url)
        if place.scheme != "s3" or not place.netloc or place.query or place.fragment or "@" in place.netloc:
            raise errors.StoreNotSupported(f"`{url}` names no place in S3", hint="use `s3://bucket/prefix`")
        self.bucket = place.netloc
        self.prefix = place.path.strip("/")  #: without slashes around it; empty for the whole bucket
        self.url = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        self.config = config
        self.connection = Connection(self.bucket, config)
        self._root = f"{self.prefix}/" if self.prefix else ""

    def __repr__(self) -> str:
        return f"S3Client({self.url!r})"

    def close(self) -> None:
        """Close this process's sockets and end its threads; the next request opens others."""
        self.connection.close()

    def key(self, key: str) -> str:
        """Return the key in the bucket of a key in the store."""
        if any(part in ("", ".", "..") for part in key.split("/")):
            raise errors.UnsafePath(f"`{key}` is no key of an object in `{self.url}`")
        return self._root + key

    # Requests.

    def do(self, request: Request) -> Answer:
        """Return the answer to a request, as `nectar.stores.s3.messages` promises it.

        Raises:
            TargetCorrupt: when the file of a Put is not what its content says.
            OSError: when that file cannot be read.
        """
        try:
            if isinstance(request, Put):
                return self._put(request)
            if isinstance(request, Get):
                return self._get(request)
            if isinstance(request, Head):
                return self._head(request)
            return self._delete(request)
        except Rejected as rejected:
            raise self.connection.failure(rejected) from rejected

    def do_all(self, requests: Sequence[Request]) -> builtins.list[Answer]:
        """Return the answers to requests that are carried out at the same time, in the order of the requests.

        Raises:
            NectarError, OSError: the first one; by then every request has been carried out or has failed.
        """
        if len(requests) < 2:
            return [self.do(request) for request in requests]
        return self.map(self.do, requests)

    def drive(self, protocol: Protocol[T]) -> T:
        """Return the result of a protocol; it is closed when one of its requests fails.

        Raises:
            NectarError, OSError: of its requests, or its own.
        """
        return driving.drive(self.do_all, protocol)

    def drive_all(self, protocols: Sequence[Protocol[T]]) -> builtins.list[T]:
        """Return the results of protocols that are driven at the same time, in their order.

        Raises:
            NectarError, OSError: the first one; by then every protocol has been driven to its end or has failed.
        """
        ends = self.settle_all(protocols)
        for end in ends:
            if isinstance(end, driving.FAILURES):
                raise end
        return [end for end in ends if not isinstance(end, driving.FAILURES)]

    def settle_all(self, protocols: Sequence[Protocol[T]]) -> builtins.list[T | Failure]:
        """Drive protocols at the same time, each to its end, and return for each its result or its error, in order.

        Their requests share this client's threads; the protocols themselves run in the calling thread.
        """
        threads = self.connection.live().threads
        return driving.settle_all(lambda request: threads.submit(self.do, request), protocols)

    def map(self, function: Callable[[_Item], T], items: Iterable[_Item]) -> builtins.list[T]:
        """Return the results of a function that is called for many items at the same time, in their order.

        It may use `do`, the listings and big objects; methods that share the threads would wait for themselves.

        Raises: the first error of the function; by then it has been called for every item.
        """
        threads = self.connection.live().threads
        futures = [threads.submit(function, item) for item in items]
        try:
            wait(futures)
        finally:
            for future in futures:  # after a Ctrl-C
                future.cancel()
        return [future.result() for future in futures]

    def _put(self, put: Put) -> Answer:
        key, content = self.key(put.key), put.content
        if content.path is None:
            return self._put_small(key, put)
        if content.size > transfer.LARGE:
            return transfer.put_large(self.connection, key, put)
        memory = self.connection.live().memory
        memory.take(content.size)
        try:
            return self._put_small(key, put)
        finally:
            memory.give(content.size)

    def _put_small(self, key: str, put: Put) -> Answer:
        raw, live = transfer.load(put.content), self.connection.live()
        with_sha256 = live.takes_sha256
        while True:
            check = transfer.checksum(put.content) if with_sha256 else transfer.checksum_of_old(raw)
            try:
                answer = self.connection.call(
                    "put_object",
                    Key=key,
                    Body=raw,
                    Metadata={**put.metadata, _SHA256: put.content.sha256},
                    **transfer.condition(put.if_etag),
                    **check,
                )
            except Rejected as rejected:
                if rejected.is_condition or (put.if_etag is not None and rejected.code == "NoSuchKey"):
                    return Refused(rejected.repeated)
                if not with_sha256 or rejected.code not in _REFUSES_A_CHECKSUM:
                    raise
                with_sha256 = live.takes_sha256 = False
            else:
                return Stored(etag_of(answer))

    def _get(self, get: Get) -> Answer:
        """Read an object as a whole; one whose bytes do not fit its ETag is read until two readings agree.

        An ETag is the MD5 of the bytes in most stores, but need not be.
        """
        key, before = self.key(get.key), None
        problem: Exception | None = None
        for _ in range(self.config.retries + 2):
            try:
                answer = self.connection.call("get_object", Key=key, ChecksumMode="ENABLED")
            except Rejected as rejected:
                if rejected.is_absent:
                    return Absent()
                raise
            try:
                with answer["Body"] as body:
                    raw = body.read()
            except BROKEN as error:
                problem = error
                continue
            if _fits(answer, raw) or (raw == before and _SHA256 not in answer["Metadata"]):
                return Found(etag_of(answer), len(raw), _metadata(answer), raw)
            before = raw
        raise errors.StoreUnreachable(
            f"`{key}` in `s3://{self.bucket}` cannot be read as a whole",
            hint="look at the network, and at proxies on the way",
        ) from problem

    def _head(self, head: Head) -> Answer:
        try:
            answer = self.connection.call("head_object", Key=self.key(head.key))
        except Rejected as rejected:
            if not rejected.is_absent:
                raise
            self.connection.check_bucket()
            return Absent()
        return Found(etag_of(answer), answer["ContentLength"], _metadata(answer))

    def _delete(self, delete: Delete) -> Answer:
        """Delete an object; its ETag is asked for first, unless the server is known to heed it in a DELETE."""
        if delete.if_etag is not None and not self.connection.live().deletes_by_etag:
            found = self._head(Head(delete.key))
            if not isinstance(found, Found) or found.etag != delete.if_etag:
                return Deleted()
        try:
            self.connection.call("delete_object", Key=self.key(delete.key), IfMatch=delete.if_etag)
        except Rejected as rejected:
            if delete.if_etag is not None and rejected.code == "NotImplemented":
                self.connection.call("delete_object", Key=self.key(delete.key))
            elif not rejected.is_condition and rejected.code != "NoSuchKey":
                raise
        return Deleted()

    # Listings.

    def list(
        self, prefix: str, *, after: str = "", before: str = "", delimiter: str = "", most: int | None = None
    ) -> Iterator[Listed]:
        """Yield what lies under a prefix in the order of the keys, page by page as it is asked for.

        With a delimiter, keys that have one behind the prefix are folded into folders. `after` and `before` are keys
        that bound it, both left out; `most` ends it.
        """
        left, token = most, None
        while left is None or left > 0:
            answer = self._page(prefix, after, delimiter, PAGE if left is None else min(left, PAGE), token)
            page = self._parsed(answer)
            entries = [*page.objects, *(Listed(folder) for folder in page.prefixes)]
            for entry in sorted(entries, key=lambda one: one.key.encode()) if page.prefixes else page.objects:
                if before and entry.key.encode() >= before.encode():
                    return
                yield entry
            left = None if left is None else left - len(entries)
            token = answer.get("NextContinuationToken")
            if not page.more or token is None:
                return

    def list_dated(self, prefix: str) -> Iterator[tuple[Listed, datetime]]:
        """Yield the objects under a prefix in the order of the keys, and when each was put: UTC, aware."""
        token = None
        while True:
            answer = self._page(prefix, "", "", PAGE, token)
            page = self._parsed(answer)
            for listed, (_, _, _, put) in zip(page.objects, _taken(answer), strict=True):
                yield listed, _moment(put)
            token = answer.get("NextContinuationToken")
            if not page.more or token is None:
                return

    def list_page(self, prefix: str, *, after: str = "", delimiter: str = "", most: int = PAGE) -> Page:
        """Return up to `most` (1,000 at most) entries under a prefix behind the key or folder `after`."""
        return self._parsed(self._page(prefix, after, delimiter, min(most, PAGE), None))

    def _page(self, prefix: str, after: str, delimiter: str, most: int, token: str | None) -> Mapping[str, Any]:
        if delimiter and after.endswith(delimiter):
            after += "\U0010ffff"  # behind all that is in this folder
        try:
            return self.connection.call(
                "list_objects_v2",
                Prefix=self._root + prefix,
                StartAfter=self._root + after if after and token is None else None,
                Delimiter=delimiter or None,
                MaxKeys=most,
                ContinuationToken=token,
            )
        except Rejected as rejected:
            raise self.connection.failure(rejected) from rejected

    def _parsed(self, answer: Mapping[str, Any]) -> Page:
        skip = len(self._root)
        return Page(
            [Listed(key[skip:], size, etag.strip('"')) for key, size, etag, _ in _taken(answer)],
            [one["Prefix"][skip:] for one in answer.get("CommonPrefixes", ())],
            bool(answer["IsTruncated"]),
        )

    # Big objects.

    def open(self, key: str, *, etag: str | None, sha256: str | None = None) -> BinaryIO:
        """Open an object for reading from its beginning to its end; a connection that breaks is taken up again.

        Raises:
            FileNotFoundError: when there is no such object.
            TargetCorrupt: when it is not the one with the ETag, or not any more; while reading, when its bytes turn
                out at the end not to be those with the digest.
        """
        reader = reading.ObjectReader(self.connection, self.key(key), etag, sha256=sha256)
        return BufferedReader(reader, reading.PIECE)

    def download(self, key: str, path: str, *, etag: str | None, size: int, sha256: str) -> None:
        """Write an object to a file and check its bytes; no file is left if they are others.

        Raises:
            FileNotFoundError: when there is no such object.
            TargetCorrupt: when it is not the one with the ETag, or has other bytes.
            OSError: when the file cannot be written.
        """
        reading.download(self.connection, self.key(key), path, etag=etag, size=size, sha256=sha256)

    def copy(self, source: str, source_etag: str, destination: str, metadata: Mapping[str, str]) -> Answer:
        """Copy an object on the server: Stored, Absent where there is no source, Refused where there is a destination.

        A server that ignores conditions writes over a destination that came to be while it was asked.

        Raises:
            TargetCorrupt: when the source is not the one with the ETag.
        """
        try:
            return transfer.copy(self.connection, self.key(source), source_etag, self.key(destination), metadata)
        except Rejected as rejected:
            raise self.connection.failure(rejected) from rejected

    def presign(self, key: str, *, expires_s: int = 600, filename: str | None = None) -> str:
        """Return a URL by which anybody may read an object for so long, saved as `filename` where a browser does.

        It ends with the credentials that sign it, if those end before.

        Raises:
            UsageError: when it is to live for longer than 7 days.
        """
        if not 1 <= expires_s <= PRESIGNED_S:
            raise errors.UsageError(f"a link cannot live for {expires_s} s", hint=f"1 to {PRESIGNED_S} s: 7 days")
        disposition = None
        if filename is not None:  # RFC 6266
            disposition = f"attachment; filename*=UTF-8''{urllib.parse.quote(filename, safe='')}"
        return self.connection.presigned(self.key(key), expires_s=expires_s, disposition=disposition)


def _taken(answer: Mapping[str, Any]) -> Sequence[listing.Taken]:
    """Return the objects of a listing's page, whoever read them."""
    taken: Sequence[listing.Taken] | None = answer.get(listing.TAKEN)
    if taken is not None:
        return taken
    return [
        (one["Key"], one["Size"], etag_of(one), str(one.get("LastModified", ""))) for one in answer.get("Contents", ())
    ]


def _moment(text: str) -> datetime:
    """Return the moment that a listing names (ISO 8601 in UTC, with or without a part of a second), else the present.

    What a server does not say the age of is taken for fresh.
    """
    try:
        return datetime.fromisoformat(text.strip().rstrip("Zz").partition(".")[0]).replace(tzinfo=timezone.utc)
    except ValueError:
        return datetime.now(timezone.utc)


def _metadata(answer: Mapping[str, Any]) -> Mapping[str, str]:
    return {name: value for name, value in answer["Metadata"].items() if name != _SHA256}


def _fits(answer: Mapping[str, Any], raw: bytes) -> bool:
    """Say whether the bytes are those that were put, or else the ETag is their MD5, as far as it may be one."""
    said = answer["Metadata"].get(_SHA256)
    if said is not None:
        return bool(said == hashlib.sha256(raw).hexdigest())
    etag = etag_of(answer)
    encrypted = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    return encrypted or not _MD5.fullmatch(etag) or etag == hashlib.md5(raw, usedforsecurity=False).hexdigest()
