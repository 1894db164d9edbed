"""Where targets live: one protocol, a store on the local disk, one in memory."""

from __future__ import annotations

import urllib.parse

from nectar import errors, settings
from nectar.stores.base import (
    AttemptPlace,
    Commitment,
    Finished,
    Inspection,
    Lease,
    Leasing,
    Reader,
    Recipe,
    Staging,
    State,
    Store,
)
from nectar.stores.local import LocalStore
from nectar.stores.memory import MemoryStore

__all__ = [
    "AttemptPlace",
    "Commitment",
    "Finished",
    "Inspection",
    "Lease",
    "Leasing",
    "LocalStore",
    "MemoryStore",
    "Reader",
    "Recipe",
    "Staging",
    "State",
    "Store",
    "open_store",
]

_open: dict[tuple[str, settings.Durability, int], Store] = {}


def open_store(url: str | None = None) -> Store:
    """Return the store at `url`, by default the one that the settings name; one object a store and process.

    Raises:
        StoreNotSupported: when no store serves such an address.
    """
    current = settings.current()
    url = url or current.store_url
    place = (url, current.durability, current.attempts_kept)
    if place not in _open:
        _open[place] = _make(url, current)
    return _open[place]


def _make(url: str, current: settings.Settings) -> Store:
    scheme, _, _ = url.partition("://")
    if scheme == "file":
        path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
        return LocalStore(path, durability=current.durability, attempts_kept=current.attempts_kept, url=url)
    if scheme == "memory":
        return MemoryStore(url, attempts_kept=current.attempts_kept)
    raise errors.StoreNotSupported(
        f"no store serves `{url}`",
        hint="use `file:///a/folder` or `memory://name`; unset ENV (or ENV=local) for `local_targets/`",
    )
