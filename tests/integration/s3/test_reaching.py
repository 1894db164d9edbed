"""A server that cannot be connected to: said at once, soon an error, and not waited for again and again."""

from __future__ import annotations

import logging
import time
from typing import Any

import botocore.exceptions
import pytest
from guard import free_port

from nectar import errors
from nectar.stores.s3.client import S3Client, S3Config
from nectar.stores.s3.messages import Head
from nectar.stores.s3.reaching import PAUSES_S, SILENT_TRIES, Reaching

REFUSED = botocore.exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1:9/bucket?list-type=2")
SILENT = botocore.exceptions.ConnectTimeoutError(endpoint_url="http://127.0.0.1:9/bucket")
BROKEN = botocore.exceptions.ConnectionClosedError(endpoint_url="http://127.0.0.1:9/bucket")


def tried(reaching: Reaching, error: Exception) -> list[float | None]:
    """Return what is waited before each repetition of a request, until it is given up or left to boto3."""
    pauses: list[float | None] = []
    while None not in pauses:
        try:
            pauses.append(reaching.pause_s(len(pauses) + 1, error))
        except type(error):
            break
    return pauses


def test_a_server_that_never_answered_is_tried_for_three_seconds_and_then_not_again() -> None:
    reaching = Reaching("s3://bucket", 5)
    assert tried(reaching, REFUSED) == list(PAUSES_S)
    assert sum(PAUSES_S) <= 3
    assert tried(reaching, REFUSED) == []
    assert reaching.pause_s(1) is None  # somebody was answered
    assert reaching.pause_s(1, REFUSED) is None


def test_a_server_that_says_nothing_is_tried_as_often_as_its_time_allows() -> None:
    assert len(tried(Reaching("s3://bucket", 5), SILENT)) == SILENT_TRIES - 1


@pytest.mark.parametrize("error", [REFUSED, SILENT])
def test_nothing_is_tried_more_often_than_the_settings_say(error: Exception) -> None:
    assert tried(Reaching("s3://bucket", 0), error) == []


def test_a_server_that_answered_before_has_all_the_patience_of_boto3_once() -> None:
    reaching = Reaching("s3://bucket", 5)
    assert reaching.pause_s(1) is None
    assert [reaching.pause_s(attempts, REFUSED) for attempts in range(1, 7)] == [None] * 6
    assert tried(reaching, REFUSED) == []  # the next request is not patient once more
    assert reaching.pause_s(1) is None
    assert reaching.pause_s(1, REFUSED) is None


def test_a_connection_that_breaks_is_left_to_boto3() -> None:
    assert Reaching("s3://bucket", 5).pause_s(1, BROKEN) is None


def test_what_is_tried_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    # Luigi's own command, which other tests run in this process, turns loggers off and sets their levels.
    monkeypatch.setattr(logging.getLogger("luigi-interface"), "disabled", False)
    monkeypatch.setattr(logging.getLogger("luigi-interface"), "propagate", True)
    caplog.set_level(logging.WARNING, "luigi-interface")
    reaching = Reaching("s3://bucket", 5)
    for attempts in (1, 2, 3):
        reaching.pause_s(attempts, REFUSED)
    [said] = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert said.startswith("`s3://bucket` cannot be reached, trying again: ") and "http://127.0.0.1:9/bucket" in said
    assert "list-type" not in said


def test_a_client_of_an_endpoint_at_which_nobody_listens_pauses_for_three_seconds_in_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paused: list[float] = []
    monkeypatch.setattr(time, "sleep", paused.append)
    client: Any = S3Client("s3://bucket/x", S3Config(endpoint=f"http://127.0.0.1:{free_port()}"))
    for _ in range(3):
        with pytest.raises(errors.StoreUnreachable, match="cannot be reached"):
            client.do(Head("key"))
    assert paused == list(PAUSES_S)
    client.close()
