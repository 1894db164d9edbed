"""A parameter of a task whose value is the name of a secret, never the secret itself."""

from __future__ import annotations

from typing import Any

import luigi

from nectar.secrets.fetching import get_secret


class SecretReference(str):
    """The name of a secret: a text like any other, that can be revealed."""

    __slots__ = ()

    def reveal(self) -> str:
        """Return the secret's value; see `nectar.get_secret` for what is raised."""
        return get_secret(str(self))


class SecretParameter(luigi.Parameter[Any]):
    """A task's parameter that names a secret: `--password db_password`.

    The name counts in the identity and is shown like any parameter; `self.password.reveal()` in `run()` gives the
    value. Another value under the same name makes no new target.
    """

    def parse(self, x: str) -> SecretReference:
        """Return the reference.

        Raises:
            ValueError: for an empty name.
        """
        if not x:
            raise ValueError("the name of a secret is not empty")
        return SecretReference(x)

    def normalize(self, x: Any) -> Any:
        """Return a text as a reference; None stays None."""
        return x if x is None else self.parse(x)

    def serialize(self, x: Any) -> str:
        """Return the secret's name."""
        return str(x)
