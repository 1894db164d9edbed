"""Find targets in a store by a path, by the beginning of a key, or by a task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nectar import errors
from nectar.address import Address
from nectar.settings import Settings
from nectar.stores import Store, layers, open_store, stores_in_use

_KEY_START = re.compile(r"[0-9a-f]{4,32}")


@dataclass(frozen=True, slots=True)
class Place:
    """A target's address, and the store that it is asked of."""

    store: Store
    address: Address


def find_target(settings: Settings, words: Sequence[str]) -> Place:
    """Return the target that the words name: `PATH`, `KEY` (4 digits or more), or `CHAIN TASK [--param value ...]`.

    Raises:
        TargetNotFound: when nothing has such a key, or several have.
        UsageError: as `nectar.actions.resolve.task_of`.
        StoreUnreachable: when the store cannot be read.
    """
    store = open_store()
    if len(words) == 1 and is_key_start(words[0]):
        return Place(store, by_key([store], words[0]))
    if len(words) == 1:
        return _by_path(store, words[0])
    from nectar.actions.resolve import address_of, task_of

    task = task_of(settings, words[0], words[1], words[2:])
    ask = getattr(task, "target_store", None)
    return Place(ask() if ask is not None else store, address_of(task))


def _by_path(store: Store, text: str) -> Place:
    """Return what a path means: in the store of the settings, or in the one whose address the path begins with."""
    for one in (*layers(store), *stores_in_use()):
        if text.startswith(f"{one.url}/"):
            place = Address.parse(text.removeprefix(one.url).lstrip("/"))
            return Place(store if one in layers(store) else one, place)
    return Place(store, Address.parse(text))


def is_key_start(text: str) -> bool:
    """Say whether a text is taken for the beginning of a key: 4 hex digits or more."""
    return _KEY_START.fullmatch(text) is not None


def by_key(stores: Sequence[Store], start: str) -> Address:
    """Return the only target, in any of some stores, whose key begins so.

    Raises:
        TargetNotFound: when there is none, or there are several.
        StoreUnreachable: when a store cannot be read.
    """
    found = sorted({address for store in stores for address in store.walk() if address.key.startswith(start)})
    if len(found) == 1:
        return found[0]
    if not found:
        raise errors.TargetNotFound(
            f"no target in `{stores[0].url}` has a key that begins with `{start}`",
            hint="`nectar status` lists what is there",
        )
    listed = ", ".join(f"`{address}`" for address in found[:5])
    raise errors.TargetNotFound(
        f"{len(found)} targets have a key that begins with `{start}`: {listed}", hint="give more of it"
    )


def find_prefix(settings: Settings, stores: Sequence[Store], text: str | None) -> str:
    """Return the part of the stores that a chain, a chain type or a path means; all of them for no text.

    Raises:
        ChainNotFound: when there is neither such a chain nor anything in a store, with what was probably meant.
        UnsafePath: for a text that cannot be a path there.
    """
    if not text:
        return ""
    from nectar.chain import finder

    name = text.strip("/")
    prefix = name if name.startswith("chains/") else f"chains/{name}"
    for candidate in dict.fromkeys((finder.without_suffix(prefix), name)):
        if any(next(store.walk(candidate), None) is not None for store in stores):
            return candidate
    found = finder.find(settings.chains_dir)
    known = {path for chain in found.chains for path in (chain.type, chain.path)}
    if finder.without_suffix(name.removeprefix("chains/")) in known:
        return finder.without_suffix(prefix)
    hint = errors.did_you_mean(name, known) or "`nectar status` lists what is in the store"
    raise errors.ChainNotFound(f"no chain and no target `{text}`", hint=hint)
