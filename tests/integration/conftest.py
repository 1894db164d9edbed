"""A place for the figures of tests that measure, or that take their chances."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def publish(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Show figures on the terminal, captured or not, and keep them in the junit report."""

    def show(**facts: object) -> None:
        for name, value in facts.items():
            record_property(name, value)
        reporter = request.config.pluginmanager.get_plugin("terminalreporter")
        line = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
        capture = request.config.pluginmanager.get_plugin("capturemanager")
        if reporter is not None and capture is not None:
            with capture.global_and_fixture_disabled():
                reporter.ensure_newline()
                reporter.write_line(f"{request.node.name}: {line}")

    return show
