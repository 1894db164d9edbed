"""Where targets live: one protocol, a store on the local disk, one in S3, one in memory."""

from __future__ import annotations

import hashlib
import urllib.parse
from typing import TYPE_CHECKING, Any, cast

from nectar import errors, settings
from nectar.stores.base import (
    AttemptPlace,
    Commitment,
    Finished,
    Folder,
    Inspection,
    Lease,
    Leasing,
    Lies,
    Reader,
    Recipe,
    Staging,
    State,
    Store,
    TargetLease,
)
from nectar.stores.layered import LayeredStore
from nectar.stores.local import LocalStore

__all__ = [
    "AttemptPlace",
    "Commitment",
    "Finished",
    "Folder",
    "Inspection",
    "Lease",
    "Leasing",
    "Lies",
    "LocalStore",
    "MemoryStore",
    "Reader",
    "Recipe",
    "Staging",
    "State",
    "Store",
    "TargetLease",
    "layers",
    "open_store",
    "store_at",
    "stores_in_use",
    "stores_to_ask",
]

if TYPE_CHECKING:
    from nectar.stores.memory import MemoryStore


def __getattr__(name: str) -> Any:
    if name != "MemoryStore":
        raise AttributeError(f"module `nectar.stores` has no attribute `{name}`")
    from nectar.stores.memory import MemoryStore  # late: few processes have one

    return MemoryStore


_open: dict[tuple[object, ...], Store] = {}
_layered: dict[tuple[object, ...], LayeredStore] = {}
_OF_SETTINGS = ""  # stands for the store of the settings, which may be one over another
_last: tuple[settings.Settings | None, str, Store | None] = (None, "", None)  # what was asked for, and its answer


def open_store(url: str | None = None) -> Store:
    """Return the store at `url`, by default what the settings name; one object a store and process.

    Raises:
        StoreNotSupported: when no store serves such an address.
    """
    global _last
    current = settings.current()
    url = url or _OF_SETTINGS
    if _last[0] is current and _last[1] == url:  # thousands of tasks ask for it in a row
        return cast(Store, _last[2])
    found = _of_settings(current) if url is _OF_SETTINGS else _at(url, current)
    _last = (current, url, found)
    return found


def layers(store: Store) -> tuple[Store, ...]:
    """Return the stores of which a store consists, the one that is asked first in front; it alone where it is one."""
    return (store.own, store.shared) if isinstance(store, LayeredStore) else (store,)


def stores_in_use(*, shared: bool = True) -> list[Store]:
    """Return each store that the settings name, one's own first; without `shared` only those that are written to.

    Raises:
        StoreNotSupported: when no store serves such an address.
    """
    current = settings.current()
    urls = [current.store_url]
    if current.shared_url is not None and (shared or current.publish is settings.Publish.BOTH):
        urls.append(current.shared_url)
    if current.s3.url is not None and (shared or current.s3.url != current.shared_url):
        urls.append(current.s3.url)
    return [_at(url, current) for url in dict.fromkeys(urls)]


def stores_to_ask() -> list[Store]:
    """Return where a target is looked for: the store of the settings first, then the others that they name.

    Raises:
        StoreNotSupported: when no store serves such an address.
    """
    default = open_store()
    return [default, *(one for one in stores_in_use() if one not in layers(default))]


def store_at(url: str) -> Store:
    """Return the store of this address: one of those that the settings name, else another one.

    Raises:
        StoreNotSupported: when no store serves such an address.
    """
    return next((one for one in stores_to_ask() if one.url == url), None) or open_store(url)


def _of_settings(current: settings.Settings) -> Store:
    own = _at(current.store_url, current)
    if current.shared_url is None:
        return own
    place = (own.url, current.shared_url, current.publish)
    shared = _at(current.shared_url, current)
    known = _layered.get(place)
    if known is None or known.own is not own or known.shared is not shared:
        known = _layered[place] = LayeredStore(own, shared, current.publish)
    return known


def _at(url: str, current: settings.Settings) -> Store:
    place = (url, current.durability, current.attempts_kept, current.s3)
    if place not in _open:
        _open[place] = _make(url, current)
    return _open[place]


def _make(url: str, current: settings.Settings) -> Store:
    scheme, _, _ = url.partition("://")
    if scheme == "file":
        path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
        return LocalStore(path, durability=current.durability, attempts_kept=current.attempts_kept, url=url)
    if scheme == "memory":
        from nectar.stores.memory import MemoryStore

        return MemoryStore(url, attempts_kept=current.attempts_kept)
    if scheme == "s3":
        return _make_s3(url, current)
    raise errors.StoreNotSupported(
        f"no store serves `{url}`",
        hint="use `file:///a/folder`, `s3://bucket/prefix` or `memory://name`; unset ENV (or ENV=local) for "
        "`local_targets/`",
    )


def _make_s3(url: str, current: settings.Settings) -> Store:
    # Late: boto3 takes as long to import as all of luigi.
    from nectar.stores.s3.cache import ObjectCache
    from nectar.stores.s3.client import S3Client, S3Config
    from nectar.stores.s3.store import S3Store

    s3 = current.s3
    config = S3Config(
        endpoint=s3.endpoint,
        region=s3.region,
        profile=s3.profile,
        path_style=s3.path_style,
        retries=s3.retries,
        timeout_s=s3.timeout_s,
        single_writer=s3.single_writer,
    )
    client = S3Client(url, config)
    name = hashlib.sha256(f"{client.url} {s3.endpoint}".encode()).hexdigest()[:16]
    folder = current.state_dir / "s3"
    cache = ObjectCache(str(folder / "cache" / name), s3.cache_mib << 20)
    return S3Store(client, cache, str(folder / "staging" / name), attempts_kept=current.attempts_kept)
