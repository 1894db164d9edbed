"""Fixtures of S3 servers, one of each a session, for every folder of tests whose conftest registers this plugin.

A conftest.py two folders below `tests` does so by

    sys.path.insert(0, str(Path(__file__).parents[2] / "servers"))

    def pytest_configure(config: pytest.Config) -> None:
        config.pluginmanager.import_plugin("s3_fixtures")
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import botocore.loaders
import pytest
from guard import quick_folder
from s3_moto import missing_modules, moto_server
from s3_proxy import S3Proxy
from s3_radosgw import Radosgw, radosgw_is_there, radosgw_server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip by a mark what needs a radosgw that is not here: the report then has one line a file, not one a test."""
    presence = radosgw_is_there()
    if not presence:
        for item in items:
            parameters = getattr(item, "callspec", None)
            named = [*getattr(item, "fixturenames", ()), *(parameters.params.values() if parameters else ())]
            if "radosgw" in named:
                item.add_marker(pytest.mark.skip(reason=presence.hint))


_read_description = botocore.loaders.JSONFileLoader.load_file


@functools.cache
def _description(path: str) -> Any:
    """Return a description of AWS's, which takes a tenth of a second to read."""
    return _read_description(botocore.loaders.JSONFileLoader(), path)


@pytest.fixture(scope="session", autouse=True)
def descriptions() -> Iterator[None]:
    """Let each client of this process have what another one has read already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.loaders.JSONFileLoader, "load_file", lambda loader, path: _description(path))
        yield


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The endpoint of a moto server."""
    missing = missing_modules()
    if missing:
        pytest.skip(f"moto is not here: pip install {' '.join(missing)}")
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def radosgw() -> Iterator[Radosgw]:
    """A radosgw; whoever stops it starts it again."""
    presence = radosgw_is_there()
    if not presence:
        pytest.skip(presence.hint)
    with radosgw_server(quick_folder()) as cluster:
        yield cluster


@pytest.fixture(params=["moto", "radosgw"])
def s3_endpoint(request: pytest.FixtureRequest) -> str:
    """The endpoint of each server in turn."""
    if request.param == "moto":
        return str(request.getfixturevalue("moto"))
    cluster: Radosgw = request.getfixturevalue("radosgw")
    return cluster.endpoint


@pytest.fixture
def s3_proxy(s3_endpoint: str) -> Iterator[S3Proxy]:
    """A fault proxy before each server in turn, without a fault yet."""
    with S3Proxy(s3_endpoint) as proxy:
        yield proxy
