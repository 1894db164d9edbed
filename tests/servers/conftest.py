"""The S3 servers that tests run against, and a folder on the path for the modules beside this file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if importlib.util.find_spec("boto3") is None:  # an environment without S3 has nothing to try here
    collect_ignore_glob = ["test_*.py"]
else:

    def pytest_configure(config: pytest.Config) -> None:
        config.pluginmanager.import_plugin("s3_fixtures")
