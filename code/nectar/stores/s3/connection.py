"""Hold this process's connection to an S3 server: the one module that imports boto3, whose values have no types.

Every request passes `Connection.call`. A process that was forked makes a client, threads and sockets of its own.
"""

from __future__ import annotations

import os
import threading
import time
import urllib.parse
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import boto3
import botocore.config
import botocore.exceptions
import botocore.session
import urllib3.exceptions

from nectar import errors
from nectar.stores.s3 import failures, listing
from nectar.stores.s3.failures import Rejected
from nectar.stores.s3.reaching import Reaching

THREADS = 32  #: requests under way at once, for each client
TRANSFERS = 10  #: parts of big objects under way at once, for each client
IN_MEMORY = 96 * 1024**2  #: bytes of objects that wait to be sent, for each client
CONNECT_S = 5.0  #: until an endpoint that says nothing counts as not reachable
_SEEN_S = 60.0  # for so long after an answer a bucket is there: it can only be deleted when it is empty

#: what reading the body of an answer may raise when the connection breaks
BROKEN = (botocore.exceptions.BotoCoreError, urllib3.exceptions.HTTPError, OSError)

#: what an answer has that arrived whole: boto3 takes one whose body is cut off at its beginning for one without members
_NEEDED = {
    "list_objects_v2": "IsTruncated",
    "create_multipart_upload": "UploadId",
    "copy_object": "CopyObjectResult",
    "upload_part_copy": "CopyPartResult",
}

_making = threading.Lock()


def _renew_lock() -> None:
    global _making
    _making = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)  # another thread of the parent may have held it


@dataclass(frozen=True, slots=True)
class S3Config:
    """How to reach a server; what is None comes from the variables and profiles that all AWS tools know."""

    endpoint: str | None = None  #: URL of another server than AWS
    region: str | None = None
    profile: str | None = None
    path_style: bool | None = None  #: None: where the bucket's name has dots, or the server is another one than AWS
    retries: int = 5  #: of one request, after its first try
    timeout_s: float = 60  #: seconds without a byte
    single_writer: bool = False  #: the server need not honour conditional writes: the user says nobody else writes


class Budget:
    """Bytes that may be held at once. Who asks for more than there are in all gets them when nobody else has any."""

    def __init__(self, size: int) -> None:
        self._free = self._size = size
        self._changed = threading.Condition()
        self._idle: list[bytearray] = []  # with those in use never more than there are in all

    def take(self, size: int) -> None:
        """Wait until there are so many bytes."""
        with self._changed:
            self._wait_for(size)
            self._idle.clear()

    def give(self, size: int) -> None:
        """Give so many bytes back."""
        with self._changed:
            self._free += size
            self._changed.notify_all()

    def buffer(self, size: int) -> bytearray:
        """Wait until there are so many bytes, and return them, with anything in them.

        Those that another one gave back are used again: the system clears memory that is new, page by page.
        """
        with self._changed:
            self._wait_for(size)
            while self._idle:
                if len(found := self._idle.pop()) == size:
                    return found
        return bytearray(size)

    def give_back(self, buffer: bytearray) -> None:
        """Give the bytes of a buffer back, which nobody may look at any more."""
        with self._changed:
            self._idle.append(buffer)
            self.give(len(buffer))
            if self._free >= self._size:
                self._idle.clear()

    def _wait_for(self, size: int) -> None:
        self._changed.wait_for(lambda: self._free >= min(size, self._size))
        self._free -= size


@dataclass(slots=True)
class _Live:
    """What one process has."""

    pid: int
    s3: Any
    threads: ThreadPoolExecutor
    transfers: ThreadPoolExecutor
    memory: Budget = field(default_factory=lambda: Budget(IN_MEMORY))
    takes_sha256: bool = True
    deletes_by_etag: bool = False  # the probe finds out
    seen_at: float = float("-inf")  # on the monotonic clock: the last answer that proved the bucket to be there


class Connection:
    """A bucket on a server. Threads share it; nothing is connected before the first call."""

    def __init__(self, bucket: str, config: S3Config) -> None:
        self.bucket = bucket
        self.config = config
        self._live: _Live | None = None

    def live(self) -> _Live:
        """Return what this process has.

        Raises:
            StoreUnreachable: when the profile, the endpoint or the credentials cannot be read.
        """
        live = self._live
        if live is not None and live.pid == os.getpid():
            return live
        with _making:
            live = self._live
            if live is None or live.pid != os.getpid():
                live = self._live = _Live(
                    os.getpid(),
                    self._make_client(),
                    ThreadPoolExecutor(THREADS, "nectar-s3"),
                    ThreadPoolExecutor(TRANSFERS, "nectar-s3-transfer"),
                )
            return live

    def close(self) -> None:
        """Close this process's sockets and end its threads; the next call opens others."""
        live, self._live = self._live, None
        if live is not None and live.pid == os.getpid():
            live.threads.shutdown()
            live.transfers.shutdown()
            live.s3.close()

    def call(self, operation: str, **arguments: object) -> dict[str, Any]:
        """Carry out an operation of boto3's client on the bucket; an argument that is None is left out.

        Raises:
            Rejected: when the server answers with an error.
            StoreUnreachable: when it does not answer.
        """
        needed = _NEEDED.get(operation)
        for _ in range(self.config.retries + 1):
            answer = self._call(operation, {name: value for name, value in arguments.items() if value is not None})
            if needed is None or needed in answer:
                return answer
        raise errors.StoreUnreachable(
            f"`s3://{self.bucket}` answers `{operation}` with nothing",
            hint="look at the network, and at proxies on the way",
        )

    def _call(self, operation: str, given: Mapping[str, object]) -> dict[str, Any]:
        live = self.live()
        try:
            answer: dict[str, Any] = getattr(live.s3, operation)(Bucket=self.bucket, **given)
        except botocore.exceptions.ClientError as error:
            rejected = _rejected(operation, str(given.get("Key", "")), error.response)
            if rejected.code in ("NoSuchKey", "PreconditionFailed"):
                live.seen_at = time.monotonic()
            raise rejected from error
        except (botocore.exceptions.BotoCoreError, urllib3.exceptions.HTTPError) as error:
            raise failures.not_answered(self.bucket, operation, error) from error
        except RecursionError as error:  # boto3 asks for the bucket's region until an answer is no redirection
            raise failures.not_answered(self.bucket, operation, error) from None
        live.seen_at = time.monotonic()
        return answer

    def knows(self, operation: str, argument: str) -> bool:
        """Say whether the boto3 that is installed knows an argument of an operation, in the words of S3."""
        model = self.live().s3.meta.service_model.operation_model(operation)
        return argument in model.input_shape.members

    def failure(self, rejected: Rejected) -> errors.StoreUnreachable:
        """Return the error to raise for an answer that is one.

        A HEAD is answered without a body that names the cause, so that the object is asked for once more.
        """
        if rejected.operation == "head_object" and rejected.status in (301, 400, 403):
            try:
                self.call("get_object", Key=rejected.key, Range="bytes=0-0")["Body"].close()
            except Rejected as explained:
                if explained.status == rejected.status:
                    return failures.refused(self.bucket, explained)
        return failures.refused(self.bucket, rejected)

    def knows_bucket(self) -> bool:
        """Say whether an answer has proved lately that the bucket is there."""
        return time.monotonic() - self.live().seen_at < _SEEN_S

    def check_bucket(self) -> None:
        """Make sure that an object which a HEAD did not find is missing from a bucket that is there.

        Raises:
            StoreUnreachable: when it is the bucket that is missing.
        """
        if self.knows_bucket():
            return
        try:
            self.call("head_bucket")
        except Rejected as rejected:
            raise failures.refused(self.bucket, rejected) from rejected

    def clock_ahead_s(self) -> float:
        """Return by how many seconds the server's clock is ahead of this machine's, to about a second.

        Raises:
            StoreUnreachable: when the server does not answer, or without a date.
        """
        try:
            headers: Mapping[str, str] = self.call("head_bucket")["ResponseMetadata"]["HTTPHeaders"]
        except Rejected as rejected:
            headers = rejected.headers
        return failures.seconds_ahead(self.bucket, headers)

    def presigned(self, key: str, *, expires_s: int, disposition: str | None) -> str:
        """Return the URL of a GET that is signed with this process's credentials.

        Raises:
            StoreUnreachable: when there are no credentials.
        """
        wanted = {"Bucket": self.bucket, "Key": key}
        if disposition is not None:
            wanted["ResponseContentDisposition"] = disposition
        try:
            return str(self.live().s3.generate_presigned_url("get_object", Params=wanted, ExpiresIn=expires_s))
        except botocore.exceptions.BotoCoreError as error:
            raise failures.not_answered(self.bucket, "get_object", error) from error

    def credentials(self) -> str:
        """Return where the credentials come from, in boto3's words, such as `env` or `shared-credentials-file`.

        Raises:
            StoreUnreachable: when there are none.
        """
        try:
            found = boto3.session.Session(profile_name=self.config.profile).get_credentials()
            if found is None:
                raise botocore.exceptions.NoCredentialsError
            found.get_frozen_credentials()  # those that expire are fetched here
        except botocore.exceptions.BotoCoreError as error:
            raise failures.not_answered(self.bucket, "head_bucket", error) from error
        return str(found.method)

    def _make_client(self) -> Any:
        given = self.config
        path_style = given.path_style
        if path_style is None and ("." in self.bucket or given.endpoint is not None):
            path_style = True
        try:
            session = boto3.session.Session(
                profile_name=given.profile, region_name=given.region, botocore_session=_with_plain_times()
            )
            made = self._client_of(session, bool(path_style))
            # An endpoint may come from the variables and profiles as well, which only a client has read.
            if path_style is None and not _is_aws(made.meta.endpoint_url):
                made.close()
                made = self._client_of(session, True)
        except (botocore.exceptions.BotoCoreError, ValueError) as error:  # ValueError: the endpoint is no URL
            raise failures.not_answered(self.bucket, "head_bucket", error) from error
        return made

    def _client_of(self, session: Any, path_style: bool) -> Any:
        given = self.config
        config = botocore.config.Config(
            signature_version="s3v4",
            retries={"mode": "standard", "total_max_attempts": given.retries + 1},
            connect_timeout=min(CONNECT_S, given.timeout_s),
            read_timeout=given.timeout_s,
            max_pool_connections=THREADS + TRANSFERS + 22,  # and threads of the caller's
            tcp_keepalive=True,
            user_agent="nectar",  # otherwise boto3 composes one anew for each request, a fifteenth of its time
            # Bytes are checked by sha256 here; servers other than AWS refuse the checksums that boto3 adds of its own.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # By default boto3 signs links for a host that knows only the oldest region's buckets.
            s3={"addressing_style": "path" if path_style else "virtual"},
        )
        made = session.client("s3", endpoint_url=given.endpoint, config=config)
        # With the star it comes before a handler of boto3, which reads the whole page to see whether it is an error.
        # Before boto3's own, which waits for a dead endpoint as long as for one that is busy.
        made.meta.events.register_first("needs-retry.s3", Reaching(f"s3://{self.bucket}", given.retries).pause_s)
        made.meta.events.register("before-parse.*.ListObjectsV2", listing.take_objects)
        return made


def _with_plain_times() -> botocore.session.Session:
    """Return a session whose answers have times as text: to read those of a listing takes most of a page's time."""
    session = botocore.session.Session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=lambda text: text)
    return session


def etag_of(answer: Mapping[str, Any]) -> str:
    """Return the ETag of an answer, without quotes; empty where it has none."""
    return str(answer.get("ETag") or "").strip('"')


def _is_aws(url: str) -> bool:
    host = urllib.parse.urlsplit(url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws"))


def _rejected(operation: str, key: str, response: Mapping[str, Any]) -> Rejected:
    problem, about = response.get("Error", {}), response.get("ResponseMetadata", {})
    headers = about.get("HTTPHeaders", {})
    return Rejected(
        operation,
        key,
        status=int(about.get("HTTPStatusCode", 0)),
        code=str(problem.get("Code", "")),
        said=str(problem.get("Message") or ""),
        region=problem.get("Region") or headers.get("x-amz-bucket-region"),
        headers=headers,
        repeated=about.get("RetryAttempts", 0) > 0,
    )
