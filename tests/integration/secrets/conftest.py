"""Servers that the tests of secrets need."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "servers")]


def pytest_configure(config: pytest.Config) -> None:
    """Let these tests have a moto server."""
    config.pluginmanager.import_plugin("s3_fixtures")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An account that a moto server takes, and nothing of this machine's."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "NECTAR_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    account = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in account.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
