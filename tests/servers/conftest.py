"""The servers that tests run against, and a folder on the path for the modules beside this file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

HAS_S3 = importlib.util.find_spec("boto3") is not None
HAS_POSTGRESQL = importlib.util.find_spec("psycopg") is not None

# What an environment does not have is not tried there.
collect_ignore = ([] if HAS_S3 else ["test_proxy.py", "test_proxy_alone.py", "test_servers.py"]) + (
    [] if HAS_POSTGRESQL else ["test_postgres.py"]
)


def pytest_configure(config: pytest.Config) -> None:
    if HAS_S3:
        config.pluginmanager.import_plugin("s3_fixtures")
    config.pluginmanager.import_plugin("postgres_fixtures")
