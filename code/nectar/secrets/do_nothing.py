"""Have no secrets: each name has the empty text, as magnus's store of this name gives it. The default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar


class DoNothingSecrets:
    """Gives the empty text for every name."""

    options: ClassVar[Mapping[str, type]] = {}

    def __init__(self, root: Path) -> None:
        pass

    def get(self, name: str) -> str:
        """Return the empty text."""
        return ""
