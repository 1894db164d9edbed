"""Find targets in a store by a path, by the beginning of a key, or by a task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nectar import errors
from nectar.address import Address
from nectar.settings import Settings
from nectar.stores import Store, open_store

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
    if len(words) == 1 and _KEY_START.fullmatch(words[0]):
        return Place(store, _by_key(store, words[0]))
    if len(words) == 1:
        text = words[0].removeprefix(store.url).lstrip("/") if words[0].startswith(store.url) else words[0]
        return Place(store, Address.parse(text))
    from nectar.actions.resolve import address_of, task_of

    task = task_of(settings, words[0], words[1], words[2:])
    ask = getattr(task, "target_store", None)
    return Place(ask() if ask is not None else store, address_of(task))


def _by_key(store: Store, start: str) -> Address:
    found = [address for address in store.walk() if address.key.startswith(start)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise errors.TargetNotFound(
            f"no target in `{store.url}` has a key that begins with `{start}`",
            hint="`nectar status` lists what is there",
        )
    listed = ", ".join(f"`{address}`" for address in found[:5])
    raise errors.TargetNotFound(
        f"{len(found)} targets have a key that begins with `{start}`: {listed}", hint="give more of it"
    )
