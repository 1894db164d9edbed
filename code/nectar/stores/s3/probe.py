"""Find out what may be done in a bucket and what its server heeds: for `nectar doctor`, and before a store is trusted.

Some servers take conditional writes and ignore the condition, which no error tells. So two writes are made of which
the second must be refused. Everything lies under `.probe/` in the store and is deleted again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nectar import errors
from nectar.stores.s3.client import S3Client
from nectar.stores.s3.connection import etag_of
from nectar.stores.s3.failures import Rejected
from nectar.stores.s3.messages import Absent, Answer, Content, Delete, Deleted, Found, Get, Head, Put, Request, Stored
from nectar.stores.s3.transfer import condition

FOLDER = ".probe"
SKEW_S = 300.0  #: AWS refuses requests that are 900 s off
_OTHER_ETAG = "0" * 32


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """Which conditions a server heeds."""

    writes: bool  #: a PUT creates only, or replaces only what it names: what a store with several writers needs
    deletes: bool  #: a DELETE removes only what it names


_known: dict[tuple[int, str, str | None], Conditions] = {}


def conditions(client: S3Client) -> Conditions:
    """Return which conditions the server heeds; it is asked once a process, by a few small requests.

    Raises:
        StoreUnreachable: when the server cannot be asked.
    """
    place = (os.getpid(), client.url, client.config.endpoint)
    if place not in _known:
        _known[place] = _try_conditions(client, f"{FOLDER}/{uuid.uuid4().hex}")
    client.connection.live().deletes_by_etag = _known[place].deletes
    return _known[place]


def honours_conditions(client: S3Client) -> bool:
    """Say whether a store with several writers may trust this server; it is asked once a process.

    Raises:
        StoreUnreachable: when the server cannot be asked.
    """
    return conditions(client).writes


def probe(client: S3Client) -> list[Finding]:
    """Return what was found, from the credentials to the conditions; what cannot be tried any more is left out.

    It never raises for what a server answers or does not answer: that is a finding.
    """
    found = [_tried("credentials", lambda: f"from `{client.connection.credentials()}`")]
    if not found[0].ok:
        return found
    key = f"{FOLDER}/{uuid.uuid4().hex}"
    listed = _tried("list", lambda: _list(client))
    if not listed.ok and not _is_permission(client):
        return [*found, Finding("bucket", False, listed.detail, listed.hint)]
    found += [Finding("bucket", True, f"`{client.url}` answers"), _tried("clock", lambda: _clock(client)), listed]
    content = Content(1, hashlib.sha256(b"1").hexdigest(), raw=b"1")
    put = _tried("put", lambda: _expect(client, Put(key, content), Stored))
    got = _tried("get", lambda: _expect(client, Get(key), Found if put.ok else (Found, Absent)))
    deleted = _tried("delete", lambda: _expect(client, Delete(key), Deleted))
    if put.ok and not deleted.ok:
        deleted = Finding("delete", False, f"{deleted.detail}; `{key}` was left there", deleted.hint)
    found += [put, got, deleted]
    return [*found, *_conditions(client)] if put.ok else found


def _tried(name: str, act: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, act())
    except errors.NectarError as error:
        return Finding(name, False, error.message, error.hint)


def _is_permission(client: S3Client) -> bool:
    """Say whether a bucket answers that cannot be listed: it may be that nothing else is amiss."""
    try:
        client.connection.call("list_objects_v2", Prefix=client.key(FOLDER), MaxKeys=1)
    except Rejected as rejected:
        return rejected.code == "AccessDenied"
    except errors.StoreUnreachable:
        return False
    return True


def _list(client: S3Client) -> str:
    client.list_page(f"{FOLDER}/", most=1)
    return "allowed"


def _expect(client: S3Client, request: Request, wanted: type[Answer] | tuple[type[Answer], ...]) -> str:
    answer = client.do(request)
    if not isinstance(answer, wanted):
        raise errors.StoreUnreachable(
            f"`{client.url}` answered {type(answer).__name__.lower()} to a {type(request).__name__.lower()}",
            hint="is the endpoint a server that speaks S3?",
        )
    return "allowed"


def _clock(client: S3Client) -> str:
    ahead_s = client.connection.clock_ahead_s()
    if abs(ahead_s) > SKEW_S:
        raise errors.StoreError(
            f"the server's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's",
            hint="set this machine's clock (NTP): beyond 15 minutes requests are refused",
        )
    return "agrees with this machine's"


def _conditions(client: S3Client) -> list[Finding]:
    key = f"{FOLDER}/{uuid.uuid4().hex}"
    try:
        tried = _try_conditions(client, key)
        uploads = _try_upload(client, key)
    except errors.NectarError as error:
        return [Finding("conditional writes", False, error.message, error.hint)]
    writes = Finding("conditional writes", True, "honoured")
    if not tried.writes and client.config.single_writer:
        writes = Finding("conditional writes", True, "ignored: only one process may write here, as the settings say")
    elif not tried.writes:
        writes = Finding(
            "conditional writes",
            False,
            "ignored: two processes that make one target would damage it",
            "use a server that honours If-None-Match and If-Match, or set `single_writer` if nobody else ever writes",
        )
    deletes = "honoured" if tried.deletes else "ignored: an object is looked at before it is deleted"
    parts = "honoured" if uploads else "ignored: big files have names of their own"
    return [writes, Finding("conditional deletes", True, deletes), Finding("conditional uploads", True, parts)]


def _try_conditions(client: S3Client, key: str) -> Conditions:
    try:
        answer = _sent(client, "put_object", Key=client.key(key), Body=b"1")
        etag = etag_of(answer or {})
        writes = (
            _is_refused(client, key, **condition(None))
            and _is_refused(client, key, **condition(_OTHER_ETAG))
            and not _is_refused(client, key, **condition(etag))
        )
        deletes = False
        with contextlib.suppress(errors.StoreUnreachable):  # who may not delete at all may still write
            refused = _sent(client, "delete_object", Key=client.key(key), IfMatch=_OTHER_ETAG) is None
            deletes = refused and isinstance(client.do(Head(key)), Found)
        return Conditions(writes, deletes)
    finally:
        _clean_up(client, key)


def _try_upload(client: S3Client, key: str) -> bool:
    """Say whether an upload in parts that may only create an object is refused where there is one."""
    there = client.key(key)
    upload = None
    try:
        _sent(client, "put_object", Key=there, Body=b"1")
        upload = (_sent(client, "create_multipart_upload", Key=there) or {})["UploadId"]
        part = _sent(client, "upload_part", Key=there, UploadId=upload, PartNumber=1, Body=b"2") or {}
        parts = {"Parts": [{"PartNumber": 1, "ETag": etag_of(part)}]}
        done = _sent(
            client, "complete_multipart_upload", Key=there, UploadId=upload, MultipartUpload=parts, **condition(None)
        )
        if done is not None:
            upload = None
        return done is None
    finally:
        if upload is not None:
            with contextlib.suppress(errors.StoreUnreachable):  # deleting is a finding of its own
                _sent(client, "abort_multipart_upload", Key=there, UploadId=upload)
        _clean_up(client, key)


def _is_refused(client: S3Client, key: str, **given: str) -> bool:
    return _sent(client, "put_object", Key=client.key(key), Body=b"1", **given) is None


def _sent(client: S3Client, operation: str, **arguments: object) -> dict[str, Any] | None:
    """Return the answer, None where a condition was given and did not hold; empty where the server knows none."""
    try:
        return client.connection.call(operation, **arguments)
    except Rejected as rejected:
        if rejected.is_condition:
            return None
        if rejected.code == "NotImplemented" and ("IfMatch" in arguments or "IfNoneMatch" in arguments):
            return {}
        raise client.connection.failure(rejected) from rejected


def _clean_up(client: S3Client, key: str) -> None:
    # Whether objects may be deleted is a finding of its own.
    with contextlib.suppress(errors.StoreUnreachable):
        client.do(Delete(key))
