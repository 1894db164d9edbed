"""Read secrets from environment variables; config: `prefix`, which stands before each name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from nectar import errors


class EnvironmentSecrets:
    """Gives the values of environment variables; names are case-sensitive."""

    options: ClassVar[Mapping[str, type]] = {"prefix": str}

    def __init__(self, root: Path, prefix: str = "") -> None:
        self._prefix = prefix

    def get(self, name: str) -> str:
        """Return a variable's value; an empty one is a value.

        Raises:
            SecretNotFound: when it is not set.
        """
        variable = self._prefix + name
        try:
            return os.environ[variable]
        except (KeyError, ValueError):
            raise errors.SecretNotFound(
                f"no secret `{name}`: the environment variable `{variable}` is not set",
                hint=f"set `{variable}` where the run is started; a server hands its own variables on",
            ) from None
