"""The fault proxy passes on what it should, byte for byte, and a client sees each fault as it is meant."""

from __future__ import annotations

import email.utils
import http.client
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, ReadTimeoutError
from guard import wait_until
from s3_client import client, make_bucket
from s3_faults import (
    ERROR_IN_200,
    EXPIRED_TOKEN,
    FAILED_AFTER,
    FLIPPED,
    FORBIDDEN,
    HANG,
    LOST,
    RESET,
    SLOW_DOWN,
    TOO_SKEWED,
    TRUNCATED,
    UNCONDITIONAL,
    Action,
    Fault,
    Kind,
    Plan,
    Rule,
    skewed,
)
from s3_proxy import S3Proxy, proxy_process

PART = 5 * 1024**2
MIB = 1024**2


@pytest.fixture
def bucket(s3_endpoint: str) -> Iterator[str]:
    """A bucket with one object, `k`, made past the proxy."""
    direct = client(s3_endpoint)
    name = make_bucket(direct)
    direct.put_object(Bucket=name, Key="k", Body=b"0123456789")
    yield name
    direct.close()


@pytest.fixture
def direct(s3_endpoint: str) -> Iterator[Any]:
    """A client that goes past the proxy."""
    made = client(s3_endpoint)
    yield made
    made.close()


@pytest.fixture
def s3(s3_proxy: S3Proxy) -> Iterator[Any]:
    """A client of the proxy that tries once."""
    made = client(s3_proxy.endpoint, read_timeout=20)
    yield made
    made.close()


def error_of(problem: ClientError) -> tuple[int, str]:
    """Return the status and S3's name of an error."""
    return problem.response["ResponseMetadata"]["HTTPStatusCode"], problem.response["Error"]["Code"]


def keys_of(s3: Any, bucket: str) -> list[str]:
    """Return the names in a bucket."""
    return [one["Key"] for one in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_objects_pass_as_they_are(s3: Any, bucket: str, direct: Any) -> None:
    for size in (0, 1, 1_000_000):
        body = os.urandom(size)
        s3.put_object(Bucket=bucket, Key=f"ä /+%{size}", Body=body, Metadata={"attempt": "a1"})
        assert direct.get_object(Bucket=bucket, Key=f"ä /+%{size}")["Body"].read() == body
        found = s3.get_object(Bucket=bucket, Key=f"ä /+%{size}")
        assert found["Body"].read() == body
        assert found["Metadata"] == {"attempt": "a1"}
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"})
    assert s3.get_object(Bucket=bucket, Key="copy", Range="bytes=2-4")["Body"].read() == b"234"
    s3.delete_object(Bucket=bucket, Key="copy")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=bucket, Key="copy")


def test_an_upload_in_parts_passes(s3: Any, bucket: str, direct: Any, s3_proxy: S3Proxy) -> None:
    body = os.urandom(PART + 1000)
    upload = upload_in_parts(s3, bucket, "big", body)
    s3.complete_multipart_upload(Bucket=bucket, Key="big", **upload)

    assert direct.get_object(Bucket=bucket, Key="big")["Body"].read() == body
    assert s3_proxy.counts[("POST", Kind.MULTIPART_CREATE)] == 1
    assert s3_proxy.counts[("PUT", Kind.MULTIPART_PART)] == 2
    assert s3_proxy.counts[("POST", Kind.MULTIPART_COMPLETE)] == 1


def upload_in_parts(s3: Any, bucket: str, key: str, body: bytes) -> dict[str, Any]:
    """Upload all parts, and return what completes them."""
    number = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    parts = [
        {
            "PartNumber": at // PART + 1,
            "ETag": s3.upload_part(
                Bucket=bucket, Key=key, UploadId=number, PartNumber=at // PART + 1, Body=body[at : at + PART]
            )["ETag"],
        }
        for at in range(0, len(body), PART)
    ]
    return {"UploadId": number, "MultipartUpload": {"Parts": parts}}


def test_presigned_urls_and_chunked_bodies_pass(s3: Any, bucket: str, s3_proxy: S3Proxy, direct: Any) -> None:
    where = {"Bucket": bucket, "Key": "chunked"}
    target = s3.generate_presigned_url("put_object", Params=where).removeprefix(s3_proxy.endpoint)
    connection = http.client.HTTPConnection(s3_proxy.endpoint.removeprefix("http://"), timeout=20)
    connection.request("PUT", target, body=iter([b"one ", b"two"]))  # no length: it goes in chunks
    answer = connection.getresponse()
    answer.read()
    if answer.status == 200:  # S3 itself and radosgw want a length, moto does not
        assert direct.get_object(**where)["Body"].read() == b"one two"
    else:
        assert answer.status == 411
    connection.close()
    with urllib.request.urlopen(s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})) as got:
        assert got.read() == b"0123456789"


def test_a_connection_serves_many_requests_and_the_log_has_each(s3: Any, bucket: str, s3_proxy: S3Proxy) -> None:
    for _ in range(5):
        s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    with pytest.raises(ClientError):
        s3.get_object(Bucket=bucket, Key="missing")
    s3.list_objects_v2(Bucket=bucket, Prefix="k")

    assert s3_proxy.connections == 1
    assert s3_proxy.requests[:6] == [("GET", f"/{bucket}/k", 200)] * 5 + [("GET", f"/{bucket}/missing", 404)]
    assert s3_proxy.counts == {("GET", Kind.KEY): 6, ("GET", Kind.LIST): 1}


def test_slow_down_twice_and_then_no_more(s3: Any, bucket: str, s3_proxy: S3Proxy, direct: Any) -> None:
    s3_proxy.faults = Plan((Rule(SLOW_DOWN, times=2),))
    for _ in range(2):
        with pytest.raises(ClientError) as raised:
            s3.put_object(Bucket=bucket, Key="new", Body=b"x" * 100_000)
        assert error_of(raised.value) == (503, "SlowDown")
        assert keys_of(direct, bucket) == ["k"]
    s3.put_object(Bucket=bucket, Key="new", Body=b"x")
    assert keys_of(direct, bucket) == ["k", "new"]
    assert [one.status for one in s3_proxy.requests] == [503, 503, 200]


def test_slow_down_for_ever_outlasts_retries(s3_endpoint: str, s3_proxy: S3Proxy, bucket: str) -> None:
    s3_proxy.faults = lambda request: SLOW_DOWN
    patient = client(s3_proxy.endpoint, retries={"total_max_attempts": 3})
    with pytest.raises(ClientError, match="SlowDown"):
        patient.get_object(Bucket=bucket, Key="k")
    patient.close()
    assert len(s3_proxy.requests) == 3


def test_a_reset_comes_before_anything_is_passed_on(s3: Any, bucket: str, s3_proxy: S3Proxy, direct: Any) -> None:
    s3_proxy.faults = lambda request: RESET
    with pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket=bucket, Key="new", Body=b"x")
    assert keys_of(direct, bucket) == ["k"]
    assert s3_proxy.requests == [("PUT", f"/{bucket}/new", 0)]


def test_applied_then_lost(s3: Any, bucket: str, s3_proxy: S3Proxy, direct: Any) -> None:
    s3_proxy.faults = Plan((Rule(LOST, methods=("PUT",), times=1),))
    with pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket=bucket, Key="new", Body=b"x", IfNoneMatch="*")
    assert keys_of(direct, bucket) == ["k", "new"]
    with pytest.raises(ClientError) as raised:  # what a client that tries again by itself would see
        s3.put_object(Bucket=bucket, Key="new", Body=b"x", IfNoneMatch="*")
    assert error_of(raised.value)[0] == 412


def test_applied_then_500(s3: Any, bucket: str, s3_proxy: S3Proxy, direct: Any) -> None:
    s3_proxy.faults = lambda request: FAILED_AFTER
    with pytest.raises(ClientError) as raised:
        s3.put_object(Bucket=bucket, Key="new", Body=b"x")
    assert error_of(raised.value) == (500, "InternalError")
    assert keys_of(direct, bucket) == ["k", "new"]


def test_an_answer_is_cut_off(s3: Any, bucket: str, s3_proxy: S3Proxy) -> None:
    s3_proxy.faults = lambda request: TRUNCATED
    with pytest.raises(BotoCoreError):
        s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    s3_proxy.faults = lambda request: Fault(Action.TRUNCATE, at=3)
    with pytest.raises(BotoCoreError):
        s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    connection = http.client.HTTPConnection(s3_proxy.endpoint.removeprefix("http://"), timeout=20)
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    connection.request("GET", url.removeprefix(s3_proxy.endpoint))
    answer = connection.getresponse()
    with pytest.raises(http.client.IncompleteRead) as cut:
        answer.read()
    assert cut.value.partial == b"012"
    connection.close()


def test_one_bit_of_an_answer_is_flipped(s3: Any, bucket: str, s3_proxy: S3Proxy) -> None:
    s3_proxy.faults = lambda request: FLIPPED
    assert raw_get(s3, bucket) == b"0123446789"
    s3_proxy.faults = lambda request: Fault(Action.FLIP, at=9)
    assert raw_get(s3, bucket) == b"0123456788"


def raw_get(s3: Any, bucket: str) -> bytes:
    """Return the bytes of `k` as they came, checked by nobody."""
    with urllib.request.urlopen(s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})) as got:
        return bytes(got.read())


@pytest.mark.parametrize("rule", [
    Rule(FORBIDDEN, methods=("HEAD",)),
    Rule(FORBIDDEN, kinds=(Kind.LIST,)),
    Rule(FORBIDDEN, methods=("PUT",)),
], ids=["head", "list", "put"])  # fmt: skip
def test_one_verb_is_forbidden(s3: Any, bucket: str, s3_proxy: S3Proxy, rule: Rule) -> None:
    s3_proxy.faults = Plan((rule,))
    verbs: dict[str, Callable[[], Any]] = {
        "HEAD": lambda: s3.head_object(Bucket=bucket, Key="k"),
        "LIST": lambda: s3.list_objects_v2(Bucket=bucket),
        "PUT": lambda: s3.put_object(Bucket=bucket, Key="new", Body=b"x"),
        "GET": lambda: s3.get_object(Bucket=bucket, Key="k"),
    }
    forbidden = "LIST" if rule.kinds else rule.methods[0]
    with pytest.raises(ClientError) as raised:
        verbs.pop(forbidden)()
    assert error_of(raised.value)[0] == 403
    for allowed in verbs.values():
        assert allowed()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_completing_an_upload_answers_200_with_an_error(s3: Any, bucket: str, s3_proxy: S3Proxy, direct: Any) -> None:
    s3_proxy.faults = Plan((Rule(ERROR_IN_200, kinds=(Kind.MULTIPART_COMPLETE,), times=1),))
    upload = upload_in_parts(s3, bucket, "big", b"x" * 1000)
    with pytest.raises(ClientError, match="InternalError"):
        s3.complete_multipart_upload(Bucket=bucket, Key="big", **upload)
    assert s3_proxy.requests[-1].status == 200
    assert keys_of(direct, bucket) == ["k"]
    s3.complete_multipart_upload(Bucket=bucket, Key="big", **upload)
    assert keys_of(direct, bucket) == ["big", "k"]


def test_a_server_without_conditional_writes(s3: Any, bucket: str, s3_proxy: S3Proxy, direct: Any) -> None:
    s3_proxy.faults = lambda request: UNCONDITIONAL
    s3.put_object(Bucket=bucket, Key="k", Body=b"over", IfNoneMatch="*")
    assert direct.get_object(Bucket=bucket, Key="k")["Body"].read() == b"over"
    s3.put_object(Bucket=bucket, Key="k", Body=b"and over", IfMatch="0" * 32)
    assert direct.get_object(Bucket=bucket, Key="k")["Body"].read() == b"and over"


def test_traits_of_a_server_are_joined_with_a_fault(s3: Any, bucket: str, s3_proxy: S3Proxy, direct: Any) -> None:
    s3_proxy.faults = Plan((Rule(UNCONDITIONAL), Rule(skewed(3600)), Rule(LOST, times=1), Rule(SLOW_DOWN, times=1)))
    with pytest.raises(ConnectionClosedError):
        s3.put_object(Bucket=bucket, Key="k", Body=b"over", IfNoneMatch="*")
    assert direct.get_object(Bucket=bucket, Key="k")["Body"].read() == b"over"
    with pytest.raises(ClientError, match="SlowDown"):
        s3.get_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_the_servers_clock_is_off(s3: Any, bucket: str, s3_proxy: S3Proxy, seconds: float) -> None:
    s3_proxy.faults = lambda request: skewed(seconds)
    answer = s3.head_object(Bucket=bucket, Key="k")
    said = email.utils.parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    assert abs(said.timestamp() - time.time() - seconds) < 60


@pytest.mark.parametrize(("fault", "code"), [(TOO_SKEWED, "RequestTimeTooSkewed"), (EXPIRED_TOKEN, "ExpiredToken")])
def test_a_client_is_refused_for_its_clock_or_its_token(
    s3: Any, bucket: str, s3_proxy: S3Proxy, fault: Fault, code: str
) -> None:
    s3_proxy.faults = lambda request: fault
    with pytest.raises(ClientError, match=code):
        s3.get_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize("fault", [HANG, Fault(Action.HANG, applied=True)], ids=["before", "applied"])
def test_no_answer_at_all(bucket: str, s3_proxy: S3Proxy, direct: Any, fault: Fault) -> None:
    s3_proxy.faults = lambda request: fault
    hasty = client(s3_proxy.endpoint, read_timeout=0.5)
    with pytest.raises(ReadTimeoutError):
        hasty.put_object(Bucket=bucket, Key="new", Body=b"x")
    hasty.close()
    assert s3_proxy.requests == [("PUT", f"/{bucket}/new", 0)]
    assert ("new" in keys_of(direct, bucket)) == fault.applied


def test_latency_is_added_to_each_request(s3: Any, bucket: str, s3_proxy: S3Proxy) -> None:
    s3_proxy.latency_s = 0.2
    began = time.monotonic()
    s3.head_object(Bucket=bucket, Key="k")
    assert time.monotonic() - began >= 0.2


def test_traffic_tells_how_long_requests_waited_and_how_many_at_once(s3: Any, bucket: str, s3_proxy: S3Proxy) -> None:
    s3_proxy.latency_s = 0.2
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: s3.head_object(Bucket=bucket, Key="k"), range(4)))
    answered, waited_s, most_at_once = s3_proxy.traffic()
    assert (answered, most_at_once) == (4, 4)
    assert waited_s >= 4 * 0.2
    assert s3_proxy.traffic() == (4, waited_s, 0)


def test_a_server_that_is_away_is_a_reset(s3_endpoint: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with S3Proxy(f"http://127.0.0.1:{nobody.getsockname()[1]}") as proxy:
            s3 = client(proxy.endpoint)
            with pytest.raises(ConnectionClosedError):
                s3.list_buckets()
            s3.close()
            assert proxy.requests == [("GET", "/", 0)]


def test_128_connections_at_once(s3: Any, bucket: str, s3_proxy: S3Proxy) -> None:
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    barrier = Barrier(128, timeout=60)

    def ask(number: int) -> bytes:
        connection = http.client.HTTPConnection(s3_proxy.endpoint.removeprefix("http://"), timeout=60)
        connection.connect()
        barrier.wait()
        bodies = []
        for _ in range(3):
            connection.request("GET", url.removeprefix(s3_proxy.endpoint))
            bodies.append(connection.getresponse().read())
        barrier.wait()
        connection.close()
        return b"".join(bodies)

    with ThreadPoolExecutor(128) as threads:
        assert set(threads.map(ask, range(128))) == {b"0123456789" * 3}
    assert len(s3_proxy.requests) == 3 * 128
    wait_until(lambda: s3_proxy.connections == 0, "all connections are closed")


def test_a_client_that_goes_away_takes_nothing_down(s3: Any, bucket: str, s3_proxy: S3Proxy, direct: Any) -> None:
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "half"})
    place = s3_proxy.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((place[0], int(place[1]))) as half:
        target = url.removeprefix(s3_proxy.endpoint)
        half.sendall(f"PUT {target} HTTP/1.1\r\nHost: {':'.join(place)}\r\nContent-Length: 1000\r\n\r\nshort".encode())
    wait_until(lambda: s3_proxy.connections == 0, "the proxy let go of the client")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"0123456789"
    assert "half" not in keys_of(direct, bucket)


def test_a_proxy_in_its_own_process_follows_a_plan(s3_endpoint: str, bucket: str) -> None:
    with proxy_process(s3_endpoint, Plan((Rule(SLOW_DOWN, methods=("GET",), times=1),))) as proxy:
        s3 = client(proxy.endpoint)
        with pytest.raises(ClientError, match="SlowDown"):
            s3.get_object(Bucket=bucket, Key="k")
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"0123456789"
        proxy.tell(plan=Plan((Rule(RESET),)))
        with pytest.raises(ConnectionClosedError):
            s3.get_object(Bucket=bucket, Key="k")
        s3.close()
        assert [one.status for one in proxy.requests] == [503, 200, 0]
        assert proxy.counts == {("GET", Kind.KEY): 3}
