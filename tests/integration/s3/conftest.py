"""A bucket of a real server for each test, and nothing of this machine's own account."""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "servers"))
sys.path.insert(0, str(Path(__file__).parent))  # the helper modules beside this file
pytest.register_assert_rewrite("store_bucket", "store_bench", "store_writers")

import botocore.retries.standard  # noqa: E402
from s3_client import client as plain_client  # noqa: E402
from s3_client import make_bucket, reset_bucket  # noqa: E402
from s3_proxy import S3Proxy  # noqa: E402
from store_bench import Bench, Ground  # noqa: E402
from store_bucket import ACCOUNT, no_pause  # noqa: E402

from nectar.stores.s3 import probe  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """Let these tests have real S3 servers."""
    config.pluginmanager.import_plugin("s3_fixtures")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The account that the servers know, and nothing of this machine's."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no client pause before it tries again."""
    monkeypatch.setattr(botocore.retries.standard.ExponentialBackoff, "delay_amount", no_pause)


@pytest.fixture
def server(s3_endpoint: str) -> Iterator[Any]:
    """A boto3 client of the server: what a test does behind the back of the client under test."""
    made = plain_client(s3_endpoint)
    yield made
    made.close()


@pytest.fixture(scope="session")
def buckets() -> dict[str, str]:
    """The bucket of each server that tests empty again, by its endpoint: making one takes longer than a test."""
    return {}


@pytest.fixture
def bucket(server: Any, s3_endpoint: str, buckets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket for this test alone, of whose server nothing was found out yet."""
    monkeypatch.setattr(probe, "_known", {})
    if s3_endpoint not in buckets:
        buckets[s3_endpoint] = make_bucket(server)
    yield buckets[s3_endpoint]
    reset_bucket(server, buckets[s3_endpoint])


@pytest.fixture(scope="session")
def ground_of() -> Iterator[Callable[[str], Ground]]:
    """Return the bucket and the proxy of a server, which go with it."""
    with contextlib.ExitStack() as proxies:
        made: dict[str, Ground] = {}

        def of(endpoint: str) -> Ground:
            if endpoint not in made:
                made[endpoint] = Ground(endpoint, proxies.enter_context(S3Proxy(endpoint)))
            return made[endpoint]

        yield of
        for one in made.values():
            one.server.close()


@pytest.fixture
def bench(s3_endpoint: str, ground_of: Callable[[str], Ground], tmp_path: Path) -> Iterator[Bench]:
    """Stores behind a proxy and before it."""
    made = Bench(ground_of(s3_endpoint), tmp_path)
    yield made
    made.close()


@pytest.fixture
def seed() -> str:
    """What faults and files of chance are chosen by; NECTAR_TEST_SEED chooses them once more."""
    chosen = os.environ.get("NECTAR_TEST_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"NECTAR_TEST_SEED={chosen}")  # is shown where a test fails
    return chosen
