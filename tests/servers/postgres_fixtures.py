"""Fixtures of a PostgreSQL server, one a session, for every folder of tests whose conftest registers this plugin.

A conftest.py does so as with `s3_fixtures`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from guard import quick_folder
from postgres import Postgres, postgres_is_there, postgres_server

_WANT_IT = {"postgres", "postgresql", "postgres_books"}  #: fixtures, and parameters of fixtures


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip by a mark what needs a server that is not here: the report then has one line a file, not one a test."""
    presence = postgres_is_there()
    if not presence:
        for item in items:
            parameters = getattr(item, "callspec", None)
            named = {*getattr(item, "fixturenames", ()), *map(str, parameters.params.values() if parameters else ())}
            if named & _WANT_IT:
                item.add_marker(pytest.mark.skip(reason=presence.hint))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server; whoever stops it starts it again."""
    presence = postgres_is_there()
    if not presence:
        pytest.skip(presence.hint)
    with postgres_server(quick_folder()) as server:
        yield server
