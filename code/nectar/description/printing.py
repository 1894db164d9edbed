"""Print a description as it is read best; for a prompt, a notebook or a script, not for Nectar itself."""

from __future__ import annotations

import pprint
from typing import Any, TextIO


def pp(value: Any, stream: TextIO | None = None) -> None:
    """Print mappings and lists in columns with their keys sorted, to stdout or another stream."""
    pprint.PrettyPrinter(indent=2, stream=stream).pprint(value)
