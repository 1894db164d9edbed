"""The probe tells what may be done in a bucket and what its server heeds, and leaves nothing there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from guard import free_port
from s3_faults import (
    EXPIRED_TOKEN,
    FORBIDDEN,
    UNCONDITIONAL,
    Action,
    Fault,
    Kind,
    Plan,
    Request,
    Rule,
    skewed,
)
from s3_proxy import S3Proxy

from nectar import errors
from nectar.stores.s3 import probe
from nectar.stores.s3.client import S3Client, S3Config
from nectar.stores.s3.messages import Delete, Deleted
from nectar.stores.s3.probe import Conditions, Finding

EVERYTHING = ["credentials", "bucket", "clock", "list", "put", "get", "delete",
              "conditional writes", "conditional deletes", "conditional uploads"]  # fmt: skip
Make = Callable[..., S3Client]


@pytest.fixture
def behind(s3_proxy: S3Proxy, bucket: str) -> Iterator[Make]:
    """Make a client whose requests meet the faults of some rules."""
    made: list[S3Client] = []

    def make(*rules: Rule, **config: Any) -> S3Client:
        s3_proxy.faults = Plan(rules)
        given = {"endpoint": s3_proxy.endpoint, "retries": 0} | config
        made.append(S3Client(f"s3://{bucket}/some/prefix", S3Config(**given)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def found_by(client: S3Client) -> dict[str, Finding]:
    return {one.name: one for one in probe.probe(client)}


def test_a_bucket_in_which_all_is_well(behind: Make, server: Any, bucket: str, request: pytest.FixtureRequest) -> None:
    found = found_by(behind())
    assert list(found) == EVERYTHING
    assert [one for one in found.values() if not one.ok or one.hint] == []
    on_moto = "moto" in request.node.callspec.id
    assert found["conditional writes"].detail == "honoured"
    assert found["conditional deletes"].detail.startswith("honoured" if on_moto else "ignored")
    assert found["conditional uploads"].detail.startswith("honoured" if on_moto else "ignored")
    assert server.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert "Uploads" not in server.list_multipart_uploads(Bucket=bucket)


def test_a_server_that_ignores_conditions_is_found_out(behind: Make, server: Any, bucket: str) -> None:
    found = found_by(behind(Rule(UNCONDITIONAL)))
    assert not found["conditional writes"].ok and "single_writer" in (found["conditional writes"].hint or "")
    assert found["conditional deletes"].ok and found["conditional uploads"].ok
    assert server.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert found_by(behind(Rule(UNCONDITIONAL), single_writer=True))["conditional writes"].ok


@pytest.mark.parametrize("header", ["if-match", "if-none-match"])
def test_each_condition_counts(behind: Make, s3_proxy: S3Proxy, header: str) -> None:
    client = behind()
    s3_proxy.faults = lambda request: UNCONDITIONAL if header in request.headers else None
    assert not probe.honours_conditions(client)


def test_a_server_that_knows_no_conditions_does_not_honour_them(behind: Make, s3_proxy: S3Proxy) -> None:
    client = behind()

    def unknown(request: Request) -> Fault | None:
        conditional = "if-match" in request.headers or "if-none-match" in request.headers
        return Fault(Action.ANSWER, status=501, code="NotImplemented") if conditional else None

    s3_proxy.faults = unknown
    assert probe.conditions(client) == Conditions(writes=False, deletes=False)


def test_conditions_are_asked_for_once(behind: Make, s3_proxy: S3Proxy, server: Any, bucket: str) -> None:
    client = behind()
    assert probe.honours_conditions(client)
    asked = len(s3_proxy.requests)
    assert asked <= 8
    assert probe.honours_conditions(client) and probe.conditions(client).writes
    assert len(s3_proxy.requests) == asked
    assert server.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_server_that_deletes_by_etag_is_not_asked_for_it_first(
    behind: Make, s3_proxy: S3Proxy, request: pytest.FixtureRequest
) -> None:
    client = behind()
    deletes = probe.conditions(client).deletes
    assert deletes == ("moto" in request.node.callspec.id)
    before = len(s3_proxy.requests)
    assert client.do(Delete("missing", if_etag="0" * 32)) == Deleted()
    assert [one.method for one in s3_proxy.requests[before:]] == ["DELETE" if deletes else "HEAD"]


@pytest.mark.parametrize(
    ("name", "rule", "action"),
    [
        ("list", Rule(FORBIDDEN, kinds=(Kind.LIST,)), "s3:ListBucket"),
        ("put", Rule(FORBIDDEN, methods=("PUT",)), "s3:PutObject"),
        ("get", Rule(FORBIDDEN, methods=("GET",), kinds=(Kind.KEY,)), "s3:GetObject"),
        ("delete", Rule(FORBIDDEN, methods=("DELETE",)), "s3:DeleteObject"),
    ],
    ids=["list", "put", "get", "delete"],
)
def test_the_permission_that_is_missing_is_the_only_one_found(behind: Make, name: str, rule: Rule, action: str) -> None:
    found = found_by(behind(rule))
    assert [one.name for one in found.values() if not one.ok] == [name]
    assert f"allow {action} " in (found[name].hint or "")


def test_what_cannot_be_deleted_again_is_named(behind: Make) -> None:
    found = found_by(behind(Rule(FORBIDDEN, methods=("DELETE",))))
    assert "was left there" in found["delete"].detail


@pytest.mark.parametrize(("ahead_s", "ok"), [(0, True), (250, True), (350, False), (-350, False)])
def test_a_clock_that_is_off_by_more_than_five_minutes_is_found(behind: Make, ahead_s: int, ok: bool) -> None:
    clock = found_by(behind(Rule(skewed(ahead_s))))["clock"]
    assert clock.ok == ok
    assert ok or ("behind" if ahead_s < 0 else "ahead") in clock.detail


def test_what_keeps_everything_from_being_tried_is_the_last_finding(
    behind: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = found_by(behind(Rule(EXPIRED_TOKEN)))
    assert list(found) == ["credentials", "bucket"] and "have expired" in found["bucket"].detail
    nobody = found_by(behind(endpoint=f"http://127.0.0.1:{free_port()}"))
    assert list(nobody) == ["credentials", "bucket"] and "cannot be reached" in nobody["bucket"].detail
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert [(one.name, one.ok) for one in probe.probe(behind())] == [("credentials", False)]


def test_a_missing_bucket_is_found(s3_endpoint: str) -> None:
    client = S3Client("s3://no-such-bucket", S3Config(endpoint=s3_endpoint, retries=0))
    assert "there is no bucket `no-such-bucket`" in found_by(client)["bucket"].detail
    with pytest.raises(errors.StoreUnreachable, match="there is no bucket"):
        probe.honours_conditions(client)
    client.close()
