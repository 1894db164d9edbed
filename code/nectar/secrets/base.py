"""Say what a secret store is, and what is wrong with the settings of one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from nectar import errors

_WORDS = {str: "a text", int: "a whole number", bool: "`true` or `false`"}


class SecretStore(Protocol):
    """Gives the values of secrets. Threads share one; a process that was forked makes its own."""

    def get(self, name: str) -> str:
        """Return the value of a secret.

        Raises:
            SecretNotFound: names the secret and where it was looked for, never a value.
            SecretStoreUnreachable: when the store cannot answer, or refuses to.
        """


class SecretStoreKind(Protocol):
    """A class of secret stores, found by its name: here, or in the entry point group `nectar.secrets`."""

    options: ClassVar[Mapping[str, type]]  #: its settings and their types: `str`, `int`, `bool`. None is needed

    def __call__(self, root: Path, **options: Any) -> SecretStore:
        """Return a store for the project at `root`; nothing is read or connected yet."""


def faults(kind_name: str, options: Mapping[str, type], config: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the settings of a store, each with what was probably meant."""
    found = []
    for key, value in config.items():
        wanted = options.get(key)
        if wanted is None:
            near = errors.did_you_mean(key, options)
            found.append(f"`{kind_name}` has no setting `{key}`" + (f", {near}" if near else ""))
        elif type(value) is not wanted:
            found.append(f"`{key}` is {_article(value)}, not {_WORDS.get(wanted, wanted.__name__)}")
    return found


def _article(value: object) -> str:
    """Return what a value is, without the value: a secret may have been written in the wrong place."""
    return _WORDS.get(type(value), f"a {type(value).__name__}")
