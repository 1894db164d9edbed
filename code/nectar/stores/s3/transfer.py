"""Send objects: what a server checks them by, uploads of big ones in parts, copies on the server.

Memory is bounded by `Connection`'s budget, however many objects are on their way and however big they are.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import Any

from nectar import errors
from nectar.stores.s3.commit import MULTIPART_ABOVE
from nectar.stores.s3.connection import Connection, etag_of
from nectar.stores.s3.failures import Rejected
from nectar.stores.s3.messages import Absent, Answer, Content, Put, Refused, Stored
from nectar.stores.s3.reading import another

MIB = 1024**2
LARGE = MULTIPART_ABOVE  #: a file above this is uploaded in parts
PART = 16 * MIB  #: bytes of a part; more where a file would have too many of them
COPY_LARGE = 5 * 1024**3  #: what a server copies in one request
COPY_PART = 512 * MIB
_PARTS = 10_000  # AWS: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html


def condition(if_etag: str | None) -> dict[str, str]:
    """Return the arguments that let a write create only, or replace only this one."""
    return {"IfNoneMatch": "*"} if if_etag is None else {"IfMatch": if_etag}


def load(content: Content) -> bytes:
    """Return the bytes of a content that fits into memory.

    Raises:
        TargetCorrupt: when the file is not what was said of it: it was changed meanwhile.
        OSError: when it cannot be read.
    """
    raw = content.raw
    if content.path is not None:
        with open(content.path, "rb") as file:
            raw = file.read(content.size + 1)
    if len(raw) != content.size or hashlib.sha256(raw).hexdigest() != content.sha256:
        raise _changed(content)
    return raw


def _changed(content: Content) -> errors.TargetCorrupt:
    name = "what is to be stored" if content.path is None else f"the file `{content.path}`"
    return errors.TargetCorrupt(
        f"{name} changed while it was stored", hint="end what still writes to it, and run the task again"
    )


def checksum(content: Content) -> dict[str, str]:
    """Return the argument by which a server checks the bytes that it gets."""
    return {"ChecksumSHA256": base64.b64encode(bytes.fromhex(content.sha256)).decode()}


def checksum_of_old(raw: bytes) -> dict[str, str]:
    """Return the argument for servers that refuse the other one."""
    return {"ContentMD5": base64.b64encode(hashlib.md5(raw, usedforsecurity=False).digest()).decode()}


# Uploads.


def put_large(connection: Connection, key: str, put: Put) -> Answer:
    """Upload a file in parts, and make the object of it if the condition holds; nothing is left when it does not.

    Whether there is an object is asked first: it saves the upload, and some servers ignore the condition at its end.

    Raises:
        TargetCorrupt: when the file was changed meanwhile.
        Rejected, StoreUnreachable, OSError: when it failed.
    """
    if put.if_etag is None and _is_there(connection, key):
        return Refused()
    upload = connection.call("create_multipart_upload", Key=key, Metadata=dict(put.metadata))["UploadId"]
    try:
        parts, sha256 = _send_parts(connection, key, upload, put.content)
        answer = _complete(connection, key, upload, parts, put)
    except BaseException:
        _abort(connection, key, upload)
        raise
    if isinstance(answer, Refused):
        _abort(connection, key, upload)
    return replace(answer, sha256=sha256) if isinstance(answer, Stored) else answer


def _part_size(size: int, part: int) -> int:
    """Return the size of the parts, whole MiB, so that there are not too many."""
    return max(part, -(-size // (_PARTS * MIB)) * MIB)


def _send_parts(connection: Connection, key: str, upload: str, content: Content) -> tuple[list[dict[str, object]], str]:
    """Return the parts, and the sha256 of all that was sent."""
    live = connection.live()
    failed = threading.Event()

    def send(number: int, raw: bytearray) -> dict[str, object]:
        try:
            if failed.is_set():
                return {}
            answer = connection.call("upload_part", Key=key, UploadId=upload, PartNumber=number, Body=raw)
            return {"PartNumber": number, "ETag": etag_of(answer)}
        except BaseException:
            failed.set()
            raise
        finally:
            live.memory.give_back(raw)

    digest, sent, size = hashlib.sha256(), list[Future[dict[str, object]]](), _part_size(content.size, PART)
    assert content.path is not None
    try:
        with open(content.path, "rb", buffering=0) as file:
            for offset in range(0, content.size, size):
                if failed.is_set():
                    break
                raw = live.memory.buffer(min(size, content.size - offset))
                try:
                    if file.readinto(raw) != len(raw):
                        raise _changed(content)
                    digest.update(raw)
                    sent.append(live.transfers.submit(send, len(sent) + 1, raw))
                except BaseException:
                    live.memory.give_back(raw)
                    raise
            sha256 = digest.hexdigest()
            if not failed.is_set() and (file.read(1) or content.sha256 not in ("", sha256)):
                raise _changed(content)
    except BaseException:
        failed.set()
        raise
    finally:
        wait(sent)  # an upload is aborted when none of its parts is on the way any more
    return [part for one in sent if (part := one.result())], sha256


def _complete(connection: Connection, key: str, upload: str, parts: Sequence[dict[str, object]], put: Put) -> Answer:
    try:
        answer = connection.call(
            "complete_multipart_upload",
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
            **condition(put.if_etag),
        )
    except Rejected as rejected:
        is_refusal = rejected.is_condition or (put.if_etag is not None and rejected.code == "NoSuchKey")
        if is_refusal and not rejected.repeated:
            return Refused()
        if not is_refusal and rejected.code != "NoSuchUpload":
            raise
        # The request may have been repeated after its answer was lost: then the object is there, and ours.
        found = _head(connection, key)
        if found and found["ContentLength"] == put.content.size and found["Metadata"] == dict(put.metadata):
            return Stored(etag_of(found))
        if is_refusal:
            return Refused(repeated=True)
        raise
    return Stored(etag_of(answer) or etag_of(connection.call("head_object", Key=key)))


def _abort(connection: Connection, key: str, upload: str) -> None:
    # What cannot be aborted now is garbage that a rule of the bucket removes; the error that led here matters more.
    with contextlib.suppress(Rejected, errors.StoreUnreachable):
        connection.call("abort_multipart_upload", Key=key, UploadId=upload)


# Copies.


def copy(connection: Connection, source: str, etag: str, destination: str, metadata: Mapping[str, str]) -> Answer:
    """Copy an object within the bucket, without its bytes passing through here. Keys are with the store's prefix.

    Whether the source is still the one with the ETag, and the destination free, is asked first: many servers ignore
    the conditions of a copy.

    Raises:
        TargetCorrupt: when the source is not the one with the ETag.
        Rejected, StoreUnreachable: when it failed.
    """
    try:
        found = connection.call("head_object", Key=source)
    except Rejected as rejected:
        if rejected.is_absent:
            connection.check_bucket()
            return Absent()
        raise
    if etag_of(found) != etag:
        raise another(connection, source)
    if _is_there(connection, destination):
        return Refused()
    of = {"Bucket": connection.bucket, "Key": source}
    try:
        if found["ContentLength"] > COPY_LARGE:
            return _copy_large(connection, of, etag, destination, metadata, found["ContentLength"])
        answer = connection.call(
            "copy_object",
            Key=destination,
            CopySource=of,
            CopySourceIfMatch=etag,
            IfNoneMatch="*" if connection.knows("CopyObject", "IfNoneMatch") else None,
            MetadataDirective="REPLACE",
            Metadata=dict(metadata),
        )
    except Rejected as rejected:
        if not rejected.is_condition:
            raise
        if not _is_there(connection, destination):
            raise another(connection, source) from rejected
        return Refused()
    return Stored(etag_of(answer["CopyObjectResult"]))


def _is_there(connection: Connection, key: str) -> bool:
    return _head(connection, key) is not None


def _head(connection: Connection, key: str) -> dict[str, Any] | None:
    """Return what the server says of an object, None where there is none."""
    try:
        return connection.call("head_object", Key=key)
    except Rejected as rejected:
        if rejected.is_absent:
            return None
        raise


def _copy_large(
    connection: Connection, of: dict[str, str], etag: str, key: str, metadata: Mapping[str, str], size: int
) -> Answer:
    upload = connection.call("create_multipart_upload", Key=key, Metadata=dict(metadata))["UploadId"]
    length = _part_size(size, COPY_PART)

    def send(number: int, start: int) -> dict[str, object]:
        answer = connection.call(
            "upload_part_copy",
            Key=key,
            UploadId=upload,
            PartNumber=number,
            CopySource=of,
            CopySourceIfMatch=etag,
            CopySourceRange=f"bytes={start}-{min(start + length, size) - 1}",
        )
        return {"PartNumber": number, "ETag": etag_of(answer["CopyPartResult"])}

    try:
        parts = _all_of(connection, send, [(at // length + 1, at) for at in range(0, size, length)])
        put = Put(key, Content(size, ""), metadata=metadata)
        answer = _complete(connection, key, upload, parts, put)
    except BaseException:
        _abort(connection, key, upload)
        raise
    if isinstance(answer, Refused):
        _abort(connection, key, upload)
    return answer


def _all_of(
    connection: Connection, send: Callable[[int, int], dict[str, object]], parts: Sequence[tuple[int, int]]
) -> list[dict[str, object]]:
    sent = [connection.live().transfers.submit(send, number, start) for number, start in parts]
    try:
        return [one.result() for one in sent]
    finally:
        for one in sent:
            one.cancel()
        wait(sent)
