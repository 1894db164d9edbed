"""Secrets of AWS: one secret with a JSON object, or a secret a name; every fault is told, and no value."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import botocore.retries.standard
import pytest

from nectar import errors
from nectar.secrets.aws import AwsSecrets

REGION = "eu-central-1"


@pytest.fixture
def manager(moto: str) -> Iterator[Any]:
    """A client of the server, which has no secrets yet."""
    from s3_moto import reset_moto

    reset_moto(moto)
    client = boto3.client("secretsmanager", endpoint_url=moto, region_name=REGION)
    yield client
    client.close()


@pytest.fixture
def store(moto: str, tmp_path: Path) -> Callable[..., AwsSecrets]:
    return lambda **options: AwsSecrets(tmp_path, region=REGION, endpoint=moto, **options)


def test_each_name_is_a_secret_of_its_own_where_none_is_named(manager: Any, store: Any) -> None:
    manager.create_secret(Name="app/password", SecretString="p@ss=word#1")
    manager.create_secret(Name="bytes", SecretBinary="grün".encode())
    manager.create_secret(Name="odd", SecretBinary=b"\xff\xfe")
    asked = store()
    assert asked.get("app/password") == "p@ss=word#1"
    assert asked.get("bytes") == "grün"
    with pytest.raises(errors.SecretError, match="holds bytes that are no text"):
        asked.get("odd")
    with pytest.raises(errors.SecretNotFound, match="no secret `app/passwort`: AWS has no secret `app/passwort` here"):
        asked.get("app/passwort")


def test_one_secret_holds_all_names_where_it_is_named_and_is_read_once(manager: Any, store: Any) -> None:
    manager.create_secret(Name="app", SecretString=json.dumps({"password": "of-the-app", "port": 5432}))
    asked = store(secret_id="app")
    assert asked.get("password") == "of-the-app"
    assert asked.get("port") == "5432"
    manager.delete_secret(SecretId="app", ForceDeleteWithoutRecovery=True)
    assert asked.get("password") == "of-the-app"
    with pytest.raises(errors.SecretNotFound, match="no secret `passwort` in the secret `app` of AWS") as caught:
        asked.get("passwort")
    assert caught.value.hint == "did you mean `password`?"
    assert "of-the-app" not in str(caught.value)
    with pytest.raises(errors.SecretNotFound, match="no secret `password`: AWS has no secret `app` here"):
        store(secret_id="app").get("password")


@pytest.mark.parametrize("text", ["just-the-value", '["a-list-of-them"]', "{broken-json"])
def test_a_named_secret_that_is_no_mapping_is_refused_without_its_text(manager: Any, store: Any, text: str) -> None:
    manager.create_secret(Name="app", SecretString=text)
    with pytest.raises(errors.SecretError, match="`app` of AWS is no JSON object of names and values") as caught:
        store(secret_id="app").get("password")
    assert text not in str(caught.value) and caught.value.__cause__ is None


class Answer(BaseHTTPRequestHandler):
    """Answers each request as AWS does when it will not."""

    def do_POST(self) -> None:
        server: Any = self.server
        server.asked += 1
        raw = json.dumps({"__type": server.code, "message": f"AWS says {server.code}"}).encode()
        self.send_response(server.status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[Any]:
    """A server that refuses."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.asked = 0
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("status", "code", "words", "hint", "asked"),
    [
        (400, "AccessDeniedException", "AWS refuses `a`: AWS says AccessDenied", "secretsmanager:GetSecretValue", 1),
        (400, "UnrecognizedClientException", "AWS refuses `a`", "credentials", 1),
        (400, "ThrottlingException", "AWS throttles: AWS says Throttling", "set `secret_id`", 5),
        (500, "InternalServiceError", "AWS answers for `a`: InternalServiceError", "console", 5),
        (400, "DecryptionFailure", "AWS answers for `a`: DecryptionFailure", "console", 1),
    ],
)
def test_what_aws_refuses_is_told_with_what_to_do(
    refusing: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    status: int,
    code: str,
    words: str,
    hint: str,
    asked: int,
) -> None:
    monkeypatch.setattr(botocore.retries.standard.ExponentialBackoff, "delay_amount", lambda self, context: 0)
    refusing.status, refusing.code = status, code
    endpoint = f"http://127.0.0.1:{refusing.server_port}"
    with pytest.raises(errors.SecretStoreUnreachable) as caught:
        AwsSecrets(tmp_path, region=REGION, endpoint=endpoint).get("a")
    assert words in caught.value.message and hint in (caught.value.hint or "")
    assert refusing.asked == asked


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"region": REGION, "endpoint": "http://127.0.0.1:1"}, "Could not connect"),
        ({}, "You must specify a region"),
        ({"region": REGION, "profile": "nobody"}, "nobody"),
        ({"region": REGION, "endpoint": "no url"}, "Invalid endpoint"),
    ],
)
def test_a_manager_that_cannot_be_reached_is_an_error_that_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: dict[str, str], words: str
) -> None:
    monkeypatch.setattr(botocore.retries.standard.ExponentialBackoff, "delay_amount", lambda self, context: 0)
    with pytest.raises(errors.SecretStoreUnreachable) as caught:
        AwsSecrets(tmp_path, **options).get("a")
    assert words in caught.value.message and "`region`" in (caught.value.hint or "")
    assert caught.value.exit_code == 5
