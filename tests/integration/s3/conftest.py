"""A bucket of a real server for each test, and nothing of this machine's own account."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "servers"))

from s3_client import ACCESS_KEY, REGION, SECRET_KEY, make_bucket, reset_bucket
from s3_client import client as plain_client


def pytest_configure(config: pytest.Config) -> None:
    """Let these tests have real S3 servers."""
    config.pluginmanager.import_plugin("s3_fixtures")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The account that the servers know, and nothing of this machine's."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def server(s3_endpoint: str) -> Iterator[Any]:
    """A boto3 client of the server: what a test does behind the back of the client under test."""
    made = plain_client(s3_endpoint)
    yield made
    made.close()


@pytest.fixture
def bucket(server: Any) -> Iterator[str]:
    """A bucket that has to be empty again in the end."""
    name = make_bucket(server)
    yield name
    reset_bucket(server, name)
