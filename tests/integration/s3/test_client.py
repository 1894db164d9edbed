"""The client of S3 does what `messages` promises, against moto and radosgw, and with faults on the way to them."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from guard import free_port
from s3_client import ACCESS_KEY, REGION, SECRET_KEY
from s3_faults import (
    ERROR_IN_200,
    EXPIRED_TOKEN,
    FAILED_AFTER,
    FLIPPED,
    FORBIDDEN,
    LOST,
    RESET,
    SLOW_DOWN,
    TOO_SKEWED,
    TRUNCATED,
    Action,
    Fault,
    Kind,
    Plan,
    Rule,
)
from s3_proxy import S3Proxy

from nectar import errors
from nectar.stores.s3 import client as client_module
from nectar.stores.s3 import connection, failures, transfer
from nectar.stores.s3.client import Listed, S3Client, S3Config
from nectar.stores.s3.messages import (
    Absent,
    Answer,
    Content,
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

MIB = 1024**2
Make = Callable[..., S3Client]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make clients that are closed with the test."""
    made: list[S3Client] = []

    def make(url: str, **config: Any) -> S3Client:
        made.append(S3Client(url, S3Config(**config)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def store(make: Make, s3_endpoint: str, bucket: str) -> S3Client:
    """A client straight to the server."""
    return make(f"s3://{bucket}/some/prefix", endpoint=s3_endpoint)


@pytest.fixture
def faulty(make: Make, s3_proxy: S3Proxy, bucket: str) -> Callable[..., S3Client]:
    """Make a client whose requests meet the faults of some rules."""

    def make_faulty(*rules: Rule, retries: int = 1) -> S3Client:
        s3_proxy.faults = Plan(rules)
        return make(f"s3://{bucket}/some/prefix", endpoint=s3_proxy.endpoint, retries=retries)

    return make_faulty


def of(raw: bytes) -> Content:
    return Content(len(raw), hashlib.sha256(raw).hexdigest(), raw=raw)


def file_of(path: Path, raw: bytes) -> Content:
    path.write_bytes(raw)
    return Content(len(raw), hashlib.sha256(raw).hexdigest(), path=str(path))


def stored(client: S3Client, key: str, raw: bytes, **metadata: str) -> str:
    """Store an object and return its ETag."""
    answer = client.do(Put(key, of(raw), metadata=metadata))
    assert isinstance(answer, Stored)
    return answer.etag


def raw_of(client: S3Client, key: str) -> bytes | None:
    found = client.do(Get(key))
    assert isinstance(found, Found)
    return found.raw


def uploads(server: Any, bucket: str) -> list[Any]:
    return list(server.list_multipart_uploads(Bucket=bucket).get("Uploads", []))


# Requests.


def test_an_object_is_created_once_and_replaced_only_by_its_etag(store: S3Client) -> None:
    etag = stored(store, "a/b.txt", b"1", **{"nectar-attempt": "x"})
    assert store.do(Put("a/b.txt", of(b"2"))) == Refused()
    assert store.do(Get("a/b.txt")) == Found(etag, 1, {"nectar-attempt": "x"}, b"1")
    assert store.do(Head("a/b.txt")) == Found(etag, 1, {"nectar-attempt": "x"})

    second = store.do(Put("a/b.txt", of(b"2"), if_etag=etag))
    assert isinstance(second, Stored) and '"' not in second.etag
    assert store.do(Put("a/b.txt", of(b"3"), if_etag=etag)) == Refused()
    assert store.do(Put("missing", of(b"3"), if_etag=etag)) == Refused()
    assert raw_of(store, "a/b.txt") == b"2"


def test_an_object_lies_under_the_prefix_of_the_store(store: S3Client, server: Any, bucket: str) -> None:
    stored(store, "a", b"")
    assert [one["Key"] for one in server.list_objects_v2(Bucket=bucket)["Contents"]] == ["some/prefix/a"]


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/..", "a/./b"])
def test_a_key_that_leads_out_of_the_store_is_refused(key: str) -> None:
    client = S3Client("s3://b/prefix")
    with pytest.raises(errors.UnsafePath):
        client.do(Get(key))
    with pytest.raises(errors.UnsafePath):
        client.presign(key)


@pytest.mark.parametrize("url", ["file:///a", "s3://", "s3:///a", "s3://b/a?x=1", "s3://k:s@b/a"])
def test_an_address_that_is_no_place_in_s3_is_refused(url: str) -> None:
    with pytest.raises(errors.StoreNotSupported, match="hint: use `s3://bucket/prefix`"):
        S3Client(url)


def test_a_file_is_stored_with_the_bytes_that_were_digested_or_not_at_all(store: S3Client, tmp_path: Path) -> None:
    content = file_of(tmp_path / "f", b"before")
    assert isinstance(store.do(Put("a", content)), Stored)
    for changed in (b"BEFORE", b"befor", b"before and after"):
        (tmp_path / "f").write_bytes(changed)
        with pytest.raises(errors.TargetCorrupt, match="changed while it was stored"):
            store.do(Put("b", content))
    assert store.do(Head("b")) == Absent()


def test_deleting_spares_another_object_of_that_name(store: S3Client) -> None:
    etag = stored(store, "a", b"1")
    store.do(Put("a", of(b"2"), if_etag=etag))
    assert store.do(Delete("a", if_etag=etag)) == Deleted()
    assert raw_of(store, "a") == b"2"
    assert store.do(Delete("a")) == store.do(Delete("a")) == store.do(Delete("a", if_etag=etag)) == Deleted()
    assert store.do(Head("a")) == store.do(Get("a")) == Absent()


def test_answers_come_in_the_order_of_the_requests(store: S3Client) -> None:
    raws = [str(number).encode() for number in range(100)]
    assert all(isinstance(one, Stored) for one in store.do_all([Put(f"k{raw.decode()}", of(raw)) for raw in raws]))
    found = store.do_all([Get(f"k{raw.decode()}") for raw in raws])
    assert [one.raw for one in found if isinstance(one, Found)] == raws


def test_one_request_that_fails_does_not_keep_the_others_from_being_carried_out(
    faulty: Callable[..., S3Client], store: S3Client
) -> None:
    client = faulty(Rule(FORBIDDEN, methods=("PUT",), path="/k3$"))
    with pytest.raises(errors.StoreUnreachable, match="some/prefix/k3"):
        client.do_all([Put(f"k{number}", of(b"x")) for number in range(10)])
    assert [one.key for one in store.list("")] == [f"k{number}" for number in range(10) if number != 3]


# Protocols.


def write_then_read(name: str) -> Protocol[tuple[list[Answer], bytes | None]]:
    first: list[Request] = [Put(name, of(name.encode())), Head("missing")]
    answers = yield first
    nothing = yield []
    assert nothing == []
    read = yield [Get(name)]
    assert isinstance(read[0], Found)
    return answers, read[0].raw


def test_a_protocol_is_sent_the_answers_to_its_requests(store: S3Client) -> None:
    (put, head), raw = store.drive(write_then_read("a"))
    assert isinstance(put, Stored) and head == Absent() and raw == b"a"


def test_many_protocols_end_each_with_its_own_result(store: S3Client) -> None:
    names = [f"p{number}" for number in range(100)]
    results = store.drive_all([write_then_read(name) for name in names])
    assert [raw for _, raw in results] == [name.encode() for name in names]
    assert store.drive_all([]) == []


def test_one_protocol_that_fails_does_not_keep_the_others_from_their_end(
    faulty: Callable[..., S3Client], store: S3Client
) -> None:
    closed = []

    def watched(name: str) -> Protocol[str]:
        try:
            yield [Put(name, of(b"x"))]
        finally:
            closed.append(name)
        return name

    client = faulty(Rule(FORBIDDEN, methods=("PUT",), path="/b$"))
    ends = client.settle_all([watched(name) for name in "abc"])
    assert ends[0] == "a" and isinstance(ends[1], errors.StoreUnreachable) and ends[2] == "c"
    assert sorted(closed) == ["a", "b", "c"]
    with pytest.raises(errors.StoreUnreachable):
        client.drive_all([watched(name) for name in "xby"])
    assert [one.key for one in store.list("")] == ["a", "c", "x", "y"]


def test_a_defect_of_a_protocol_is_raised_and_closes_the_others(store: S3Client) -> None:
    closed = []

    def broken() -> Protocol[None]:
        yield [Head("a")]
        raise ZeroDivisionError

    def waits() -> Protocol[None]:
        try:
            while True:
                yield [Head("a")]
        finally:
            closed.append(True)

    with pytest.raises(ZeroDivisionError):
        store.drive_all([waits(), broken()])
    assert closed == [True]


# Listings.


@pytest.fixture
def listed(store: S3Client, monkeypatch: pytest.MonkeyPatch) -> S3Client:
    """A store with objects in two folders, whose listings come in pages of 3."""
    monkeypatch.setattr(client_module, "PAGE", 3)
    keys = [*(f"f/{number:02}" for number in range(8)), "f/sub/1", "f/sub/2", "f/sub/3", "f/sub/4", "f/z ä+%", "g/1"]
    store.do_all([Put(key, of(key.encode())) for key in keys])
    return store


def test_a_listing_goes_on_over_its_pages(listed: S3Client) -> None:
    found = list(listed.list("f/"))
    expected = [f"f/{number:02}" for number in range(8)] + [f"f/sub/{number}" for number in range(1, 5)] + ["f/z ä+%"]
    assert [one.key for one in found] == expected
    assert found[0] == Listed("f/00", 4, hashlib.md5(b"f/00").hexdigest())
    assert [one.key for one in listed.list("")] == [*expected, "g/1"]


def test_a_listing_is_bounded_on_both_sides_and_in_number(listed: S3Client) -> None:
    assert [one.key for one in listed.list("f/", after="f/01", before="f/06")] == ["f/02", "f/03", "f/04", "f/05"]
    assert [one.key for one in listed.list("f/", most=4)] == ["f/00", "f/01", "f/02", "f/03"]
    assert list(listed.list("f/", most=0)) == list(listed.list("nothing/")) == []


def test_a_listing_folds_folders(listed: S3Client) -> None:
    keys = [one.key for one in listed.list("f/", delimiter="/")]
    assert keys == [*(f"f/{number:02}" for number in range(8)), "f/sub/", "f/z ä+%"]
    page = listed.list_page("f/", delimiter="/", after="f/06", most=2)
    assert ([one.key for one in page.objects], page.prefixes, page.more) == (["f/07"], ["f/sub/"], True)
    behind = listed.list_page("f/", delimiter="/", after="f/sub/")
    assert ([one.key for one in behind.objects], behind.prefixes, behind.more) == (["f/z ä+%"], [], False)


def test_a_bucket_that_cannot_be_listed_is_an_error(faulty: Callable[..., S3Client]) -> None:
    client = faulty(Rule(FORBIDDEN, kinds=(Kind.LIST,)))
    with pytest.raises(errors.StoreUnreachable, match="allow s3:ListBucket"):
        list(client.list(""))


# Missing things.


def test_a_missing_bucket_is_an_error_and_never_a_missing_object(make: Make, s3_endpoint: str) -> None:
    client = make("s3://no-such-bucket/p", endpoint=s3_endpoint)
    attempts: list[Callable[[], object]] = [
        *(lambda one=one: client.do(one) for one in (Get("a"), Head("a"), Put("a", of(b"")), Delete("a"))),
        lambda: client.open("a", etag=None),
        lambda: list(client.list("")),
        lambda: client.copy("a", "e", "b", {}),
    ]
    for attempt in attempts:
        with pytest.raises(errors.StoreUnreachable, match="there is no bucket `no-such-bucket`"):
            attempt()


def test_a_missing_object_is_no_error_even_where_nothing_was_asked_before(
    make: Make, bucket: str, s3_endpoint: str
) -> None:
    assert make(f"s3://{bucket}", endpoint=s3_endpoint).do(Head("a")) == Absent()


@pytest.mark.parametrize("request_", [Head("a"), Get("a")], ids=["head", "get"])
def test_a_403_is_an_error_that_names_both_permissions(faulty: Callable[..., S3Client], request_: Request) -> None:
    with pytest.raises(errors.StoreUnreachable, match=r"s3:GetObject.*without s3:ListBucket") as caught:
        faulty(Rule(FORBIDDEN)).do(request_)
    assert "get objects" in caught.value.message and "some/prefix/a" in caught.value.message


# What goes wrong.

SAID: Mapping[str, tuple[Fault, str]] = {
    "expired": (EXPIRED_TOKEN, "have expired"),
    "skewed": (TOO_SKEWED, r"another time than this machine(.|\n)*NTP"),
    "key": (Fault(Action.ANSWER, status=403, code="InvalidAccessKeyId"), "does not know the access key"),
    "secret": (Fault(Action.ANSWER, status=403, code="SignatureDoesNotMatch"), "refuses the secret key"),
    "redirected": (
        Fault(Action.ANSWER, status=301, code="PermanentRedirect"),
        r"is redirected(.|\n)*DEFAULT_REGION",
    ),
    "throttled": (SLOW_DOWN, "asks for fewer requests"),
    "archived": (Fault(Action.ANSWER, status=403, code="InvalidObjectState"), "is archived"),
    "500": (Fault(Action.ANSWER, status=500, code="InternalError"), r"answered InternalError \(500\)"),
    "reset": (RESET, "the connection to .* broke"),
}


@pytest.mark.parametrize("name", SAID)
def test_each_fault_says_its_cause_for_each_request(faulty: Callable[..., S3Client], bucket: str, name: str) -> None:
    fault, said = SAID[name]
    client = faulty(Rule(fault), retries=0)
    for request in (Put("a", of(b"x")), Get("a"), Head("a"), Delete("a")):
        if name == "500" and isinstance(request, Head):
            continue  # nobody says the name of the error in an answer without a body
        with pytest.raises(errors.StoreUnreachable, match=said) as caught:
            client.do(request)
        assert f"s3://{bucket}" in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    ("code", "status"), [("PermanentRedirect", 301), ("AuthorizationHeaderMalformed", 400), ("400", 400)]
)
def test_a_wrong_region_is_told_with_the_right_one(code: str, status: int) -> None:
    answer = failures.Rejected("put_object", "a", status=status, code=code, region="eu-west-1")
    said = failures.refused("b", answer)
    assert said.message == "`s3://b` is asked for in the wrong region: it is in `eu-west-1`"
    assert said.hint == "set AWS_DEFAULT_REGION=eu-west-1"


@pytest.mark.parametrize(
    ("act", "methods", "action"),
    [
        (lambda client: client.do(Put("a", of(b""))), ("PUT",), "s3:PutObject"),
        (lambda client: client.do(Delete("a")), ("DELETE",), "s3:DeleteObject"),
        (lambda client: client.open("a", etag=None), ("GET",), "s3:GetObject"),
        (lambda client: client.list_page(""), ("GET",), "s3:ListBucket"),
    ],
    ids=["put", "delete", "get", "list"],
)
def test_a_missing_permission_is_named(
    faulty: Callable[..., S3Client], act: Callable[[S3Client], object], methods: tuple[str, ...], action: str
) -> None:
    with pytest.raises(errors.StoreUnreachable, match=f"hint: allow {action} "):
        act(faulty(Rule(FORBIDDEN, methods=methods)))


def test_a_request_outlives_faults_that_pass(faulty: Callable[..., S3Client], store: S3Client) -> None:
    client = faulty(Rule(SLOW_DOWN, methods=("PUT",), times=1), Rule(RESET, methods=("GET",), times=1), retries=2)
    assert isinstance(client.do(Put("a", of(b"x"))), Stored)
    assert raw_of(client, "a") == b"x"


@pytest.mark.parametrize("fault", [LOST, FAILED_AFTER], ids=["lost", "failed"])
def test_a_write_that_was_carried_out_but_not_answered_is_refused_when_repeated(
    faulty: Callable[..., S3Client], fault: Fault
) -> None:
    client = faulty(Rule(fault, methods=("PUT",), times=1), retries=2)
    assert client.do(Put("a", of(b"x"))) == Refused(repeated=True)
    assert raw_of(client, "a") == b"x"


def test_a_conflict_is_a_refusal(faulty: Callable[..., S3Client]) -> None:
    conflict = Fault(Action.ANSWER, status=409, code="ConditionalRequestConflict")
    assert faulty(Rule(conflict, methods=("PUT",))).do(Put("a", of(b"x"))) == Refused()


def test_a_server_that_refuses_checksums_gets_an_older_one(faulty: Callable[..., S3Client], s3_proxy: S3Proxy) -> None:
    client = faulty()
    seen: list[tuple[bool, bool]] = []

    def refuse(request: Any) -> Fault | None:
        new, old = "x-amz-checksum-sha256" in request.headers, "content-md5" in request.headers
        seen.append((new, old))
        return Fault(Action.ANSWER, status=400, code="InvalidArgument") if new else None

    s3_proxy.faults = refuse
    assert isinstance(client.do(Put("a", of(b"x"))), Stored)
    assert isinstance(client.do(Put("b", of(b"x"))), Stored)
    assert seen == [(True, False), (False, True), (False, True)]


@pytest.mark.parametrize("fault", [FLIPPED, TRUNCATED], ids=["flipped", "truncated"])
def test_a_small_object_that_arrives_damaged_is_read_again(faulty: Callable[..., S3Client], fault: Fault) -> None:
    client = faulty(Rule(fault, methods=("GET",), times=1))
    stored(client, "a", b"0123456789")
    assert raw_of(client, "a") == b"0123456789"


def test_a_reading_that_is_damaged_each_time_alike_is_refused(faulty: Callable[..., S3Client]) -> None:
    client = faulty(Rule(FLIPPED, methods=("GET",)))
    stored(client, "a", b"0123456789")
    with pytest.raises(errors.StoreUnreachable, match="cannot be read as a whole"):
        raw_of(client, "a")


def test_credentials_that_are_missing_are_asked_for(store: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(errors.StoreUnreachable, match=r"there are no credentials(.|\n)*AWS_ACCESS_KEY_ID"):
        store.do(Head("a"))
    with pytest.raises(errors.StoreUnreachable, match="there are no credentials"):
        store.presign("a")


def test_a_profile_that_is_missing_is_named(make: Make) -> None:
    with pytest.raises(errors.StoreUnreachable, match=r"no AWS profile(.|\n)*nobody"):
        make("s3://b", profile="nobody").do(Head("a"))


def test_a_wrong_secret_is_told_from_a_missing_permission(
    make: Make, radosgw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    client = make("s3://b", endpoint=radosgw.endpoint, retries=0)
    for request in (Get("a"), Head("a"), Put("a", of(b""))):
        with pytest.raises(errors.StoreUnreachable, match="refuses the secret key"):
            client.do(request)


def test_an_endpoint_that_is_not_there_is_an_error(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(errors.StoreUnreachable, match="`s3://b` cannot be reached"):
        make("s3://b", endpoint=nobody, retries=0).do(Head("a"))
    with pytest.raises(errors.StoreUnreachable, match="an endpoint reads"):
        make("s3://b", endpoint="127.0.0.1", retries=0).do(Head("a"))
    monkeypatch.setenv("HTTP_PROXY", nobody)
    with pytest.raises(errors.StoreUnreachable, match=r"the proxy before(.|\n)*NO_PROXY"):
        make("s3://b", endpoint="http://example.invalid", retries=0).do(Head("a"))


# Big objects.


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is above 6 MiB is big, and its parts are as small as a server takes them."""
    monkeypatch.setattr(transfer, "LARGE", 6 * MIB)
    monkeypatch.setattr(transfer, "PART", 5 * MIB)
    monkeypatch.setattr(transfer, "COPY_LARGE", 6 * MIB)
    monkeypatch.setattr(transfer, "COPY_PART", 5 * MIB)


BIG = os.urandom(MIB) * 17  # three ranges of a download, the last one short


@pytest.mark.usefixtures("small_parts")
def test_a_big_file_goes_up_in_parts_and_comes_down_in_ranges(store: S3Client, tmp_path: Path) -> None:
    content = file_of(tmp_path / "up", BIG)
    answer = store.do(Put("a", content, metadata={"nectar-attempt": "x"}))
    assert isinstance(answer, Stored) and answer.etag.endswith("-4")
    assert store.do(Head("a")) == Found(answer.etag, len(BIG), {"nectar-attempt": "x"})
    assert store.do(Put("a", content)) == Refused()

    store.download("a", str(tmp_path / "down"), etag=answer.etag, size=content.size, sha256=content.sha256)
    assert (tmp_path / "down").read_bytes() == BIG
    with store.open("a", etag=answer.etag) as file:
        assert file.read(3) + file.read() == BIG


@pytest.mark.usefixtures("small_parts")
def test_a_big_file_that_changes_or_fails_leaves_nothing(
    faulty: Callable[..., S3Client], server: Any, bucket: str, tmp_path: Path
) -> None:
    content = file_of(tmp_path / "up", BIG)
    client = faulty(Rule(FORBIDDEN, kinds=(Kind.MULTIPART_PART,), after=1))
    with pytest.raises(errors.StoreUnreachable, match="allow s3:PutObject"):
        client.do(Put("a", content))
    (tmp_path / "up").write_bytes(BIG[:-1] + bytes([BIG[-1] ^ 1]))
    with pytest.raises(errors.TargetCorrupt, match="changed while it was stored"):
        faulty().do(Put("a", content))
    assert client.do(Head("a")) == Absent()
    assert uploads(server, bucket) == []


@pytest.mark.usefixtures("small_parts")
def test_a_200_that_holds_an_error_is_an_error(
    faulty: Callable[..., S3Client], server: Any, bucket: str, tmp_path: Path
) -> None:
    content = file_of(tmp_path / "up", BIG)
    with pytest.raises(errors.StoreUnreachable, match="InternalError"):
        faulty(Rule(ERROR_IN_200, kinds=(Kind.MULTIPART_COMPLETE,))).do(Put("a", content))
    assert uploads(server, bucket) == []
    assert isinstance(
        faulty(Rule(ERROR_IN_200, kinds=(Kind.MULTIPART_COMPLETE,), times=1)).do(Put("a", content)), Stored
    )


@pytest.mark.usefixtures("small_parts")
def test_an_upload_whose_last_answer_was_lost_is_stored_or_refused_but_there(
    faulty: Callable[..., S3Client], server: Any, bucket: str, tmp_path: Path
) -> None:
    client = faulty(Rule(LOST, kinds=(Kind.MULTIPART_COMPLETE,), times=1))
    content = file_of(tmp_path / "up", BIG)
    answer = client.do(Put("a", content, metadata={"nectar-attempt": "x"}))
    assert isinstance(answer, Stored | Refused)
    found = client.do(Head("a"))
    assert isinstance(found, Found) and found.metadata == {"nectar-attempt": "x"} and found.size == len(BIG)
    assert uploads(server, bucket) == []


def test_a_stream_goes_on_where_its_connection_broke(faulty: Callable[..., S3Client], s3_proxy: S3Proxy) -> None:
    client = faulty(Rule(TRUNCATED, methods=("GET",), times=2), retries=2)
    etag = stored(client, "a", BIG[: 3 * MIB])
    with client.open("a", etag=etag) as file:
        assert file.read() == BIG[: 3 * MIB]
    assert s3_proxy.counts["GET", Kind.KEY] == 3


def test_a_stream_that_always_breaks_or_is_replaced_on_the_way_is_an_error(
    faulty: Callable[..., S3Client], s3_proxy: S3Proxy, store: S3Client
) -> None:
    client = faulty(Rule(TRUNCATED, methods=("GET",)), retries=1)
    etag = stored(client, "a", b"0123456789")
    with client.open("a", etag=etag) as file, pytest.raises(errors.StoreUnreachable, match="breaks whenever"):
        file.read()

    # The object is another one by the time that the first answer breaks off.
    s3_proxy.faults = Plan((Rule(TRUNCATED, methods=("GET",), times=1),))
    reader = client.open("a", etag=None)
    assert isinstance(store.do(Put("a", of(b"9876543210"), if_etag=etag)), Stored)
    with reader, pytest.raises(errors.TargetCorrupt, match="not the one that its record names"):
        reader.read()


def test_a_stream_of_a_missing_or_another_object_does_not_begin(store: S3Client) -> None:
    stored(store, "a", b"1")
    with pytest.raises(FileNotFoundError):
        store.open("missing", etag=None)
    with pytest.raises(errors.TargetCorrupt):
        store.open("a", etag="0" * 32)


def test_an_empty_object_is_stored_streamed_and_downloaded(store: S3Client, tmp_path: Path) -> None:
    etag = stored(store, "a", b"")
    with store.open("a", etag=etag) as file:
        assert file.read() == b""
    store.download("a", str(tmp_path / "f"), etag=etag, size=0, sha256=hashlib.sha256().hexdigest())
    assert (tmp_path / "f").read_bytes() == b""


@pytest.mark.parametrize("size", [1000, len(BIG)], ids=["small", "in ranges"])
def test_a_download_that_arrives_damaged_is_fetched_again_once(
    faulty: Callable[..., S3Client], tmp_path: Path, size: int
) -> None:
    raw, path = BIG[:size], tmp_path / "f"
    client = faulty(Rule(FLIPPED, methods=("GET",), times=1))
    etag = stored(client, "a", raw)
    client.download("a", str(path), etag=etag, size=size, sha256=of(raw).sha256)
    assert path.read_bytes() == raw
    client = faulty(Rule(FLIPPED, methods=("GET",)))
    with pytest.raises(errors.TargetCorrupt, match="has other bytes"):
        client.download("a", str(path), etag=etag, size=size, sha256=of(raw).sha256)
    assert not path.exists()


@pytest.mark.parametrize("size", [1000, len(BIG)], ids=["small", "in ranges"])
def test_a_download_leaves_no_file_of_an_object_that_is_missing_or_another(
    store: S3Client, tmp_path: Path, size: int
) -> None:
    path, sha256 = tmp_path / "f", of(BIG[:size]).sha256
    etag = stored(store, "a", BIG[:size])
    with pytest.raises(FileNotFoundError):
        store.download("missing", str(path), etag=None, size=size, sha256=sha256)
    for wrong in ({"etag": "0" * 32, "size": size}, {"etag": etag, "size": size - 1}, {"etag": etag, "size": size + 1}):
        with pytest.raises(errors.TargetCorrupt):
            store.download("a", str(path), sha256=sha256, **wrong)  # type: ignore[arg-type]
    assert not path.exists()


def test_a_download_outlives_a_broken_connection(faulty: Callable[..., S3Client], tmp_path: Path) -> None:
    client = faulty(Rule(TRUNCATED, methods=("GET",), times=3), retries=3)
    etag = stored(client, "a", BIG)
    client.download("a", str(tmp_path / "f"), etag=etag, size=len(BIG), sha256=of(BIG).sha256)
    assert (tmp_path / "f").read_bytes() == BIG


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("raw", [b"small", BIG], ids=["at once", "in parts"])
def test_a_copy_is_made_on_the_server_and_only_where_nothing_is(store: S3Client, raw: bytes, tmp_path: Path) -> None:
    etag = store.do(Put("a", file_of(tmp_path / "f", raw)))
    assert isinstance(etag, Stored)
    copied = store.copy("a", etag.etag, "b/c", {"nectar-attempt": "y"})
    assert isinstance(copied, Stored)
    assert store.do(Get("b/c")) == Found(copied.etag, len(raw), {"nectar-attempt": "y"}, raw)
    assert store.copy("a", etag.etag, "b/c", {}) == Refused()
    assert store.copy("missing", etag.etag, "d", {}) == Absent()
    with pytest.raises(errors.TargetCorrupt):
        store.copy("a", "0" * 32, "d", {})
    assert store.do(Head("d")) == Absent()


def at_the_same_time(work: Callable[[int], None], sizes: Sequence[int]) -> None:
    """Call a function for each size, in threads of their own, and wait for all."""
    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def test_a_budget_is_never_exceeded_but_by_one_alone() -> None:
    budget, most, held, lock = connection.Budget(10), [0], [0], threading.Lock()

    def work(size: int) -> None:
        for _ in range(200):
            budget.take(size)
            with lock:
                held[0] += size
                most[0] = max(most[0], held[0])
            with lock:
                held[0] -= size
            budget.give(size)

    at_the_same_time(work, (1, 3, 4, 7, 10))
    assert held[0] == 0 and 0 < most[0] <= 10
    budget.take(25)  # nobody else has any
    budget.give(25)


def test_buffers_are_used_again_by_one_at_a_time_and_kept_for_nobody() -> None:
    budget = connection.Budget(12)
    marks, broken = iter(range(1, 256)), []

    def work(size: int) -> None:
        mark = bytes([next(marks)]) * size
        for _ in range(300):
            buffer = budget.buffer(size)
            buffer[:] = mark
            broken.extend([size] if buffer != mark or len(buffer) != size else [])
            budget.give_back(buffer)

    at_the_same_time(work, (4, 4, 4, 4, 3))
    assert not broken
    held, first = budget.buffer(4), budget.buffer(4)
    budget.give_back(first)
    assert budget.buffer(4) is first
    budget.give_back(first)
    budget.take(8)  # all that is left: what was kept for the next one is let go
    budget.give(8)
    second = budget.buffer(4)
    assert second is not first
    budget.give_back(second)
    budget.give_back(held)
    assert budget.buffer(4) is not second  # nor is anything kept when nobody has any


# Links.


def test_a_link_lets_anybody_read_one_object(store: S3Client) -> None:
    stored(store, "a b/ä.txt", b"hello")
    with urllib.request.urlopen(store.presign("a b/ä.txt", expires_s=60, filename='ä "x"\r\n.txt')) as answer:
        assert answer.read() == b"hello"
        assert "filename*=UTF-8''%C3%A4%20%22x%22%0D%0A.txt" in answer.headers["Content-Disposition"]


@pytest.mark.parametrize("seconds", [0, -1, 7 * 24 * 3600 + 1])
def test_a_link_lives_for_a_second_to_seven_days(seconds: int) -> None:
    with pytest.raises(errors.UsageError, match="7 days"):
        S3Client("s3://b").presign("a", expires_s=seconds)


# Processes and settings.


def test_a_forked_child_uses_the_client_of_its_parent_with_sockets_of_its_own(store: S3Client) -> None:
    stored(store, "a", b"of the parent")
    store.do_all([Head("a")] * 40)  # threads and sockets that the child does not have
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def child() -> None:
        answers = store.do_all([Get("a")] * 40)
        queue.put([one.raw for one in answers if isinstance(one, Found)])
        store.close()

    process = context.Process(target=child)
    process.start()
    assert queue.get() == [b"of the parent"] * 40
    process.join(60)
    assert process.exitcode == 0
    assert raw_of(store, "a") == b"of the parent"


def test_threads_share_one_client_that_is_made_when_it_is_needed(store: S3Client) -> None:
    assert store.connection._live is None
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(store.connection.live())) for _ in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len({id(one) for one in seen}) == 1


def test_a_client_that_was_closed_opens_again(store: S3Client) -> None:
    stored(store, "a", b"1")
    store.close()
    assert raw_of(store, "a") == b"1"


def test_importing_nectar_imports_no_boto3() -> None:
    said = "import sys, nectar, nectar.stores; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", said], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        ).returncode
        == 0
    )


def test_the_variables_and_profiles_of_aws_count(
    make: Make, s3_endpoint: str, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_endpoint)
    assert make(f"s3://{bucket}").do(Head("a")) == Absent()

    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "config").write_text(f"[profile mine]\nendpoint_url = {s3_endpoint}\nregion = {REGION}\n")
    (tmp_path / "credentials").write_text(
        f"[mine]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    assert make(f"s3://{bucket}", profile="mine").do(Head("a")) == Absent()
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert make(f"s3://{bucket}").do(Head("a")) == Absent()


@pytest.mark.parametrize(
    ("url", "config", "host"),
    [
        ("s3://plain/p", S3Config(), "https://plain.s3.amazonaws.com/p/k?"),
        ("s3://plain/p", S3Config(region="eu-west-1"), "https://plain.s3.eu-west-1.amazonaws.com/p/k?"),
        ("s3://dev.plain/p", S3Config(), "https://s3.amazonaws.com/dev.plain/p/k?"),
        ("s3://plain/p", S3Config(endpoint="https://s3.example.org"), "https://s3.example.org/plain/p/k?"),
        (
            "s3://plain/p",
            S3Config(endpoint="https://s3.example.org", path_style=False),
            "https://plain.s3.example.org/p/k?",
        ),
    ],
)
def test_the_bucket_is_in_the_path_where_a_host_name_will_not_do(url: str, config: S3Config, host: str) -> None:
    client = S3Client(url, config)
    assert client.presign("k").startswith(host)
    client.close()
