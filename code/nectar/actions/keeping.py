"""Decide what is needed: the targets that somebody names, and all that these were made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from nectar import errors
from nectar.actions.targets import by_key, find_prefix, is_key_start
from nectar.address import Address
from nectar.records import Record
from nectar.settings import Settings
from nectar.stores import Store, open_store, stores_in_use

Read = Callable[[Sequence[Address]], Mapping[Address, Record]]  #: the records of targets, where there are any


def stores_of(settings: Settings) -> list[Store]:
    """Return the store of the settings, then the others in which its tasks may have targets."""
    named = stores_in_use()
    local = open_store(settings.local_targets.as_uri())
    return named if local in named else [*named, local]


def find_roots(settings: Settings, stores: Sequence[Store], what: str) -> set[Address]:
    """Return the targets that a path, the beginning of a key (4 digits or more), a chain or a task class means.

    None for a chain or a task of which nothing was made yet.

    Raises:
        TargetNotFound: when nothing has such a path or key, or several have the key.
        ChainNotFound, TaskNotFound: when there is no such chain or task, with what was probably meant.
        StoreUnreachable: when a store cannot be read.
    """
    if is_key_start(what):
        return {by_key(stores, what)}
    found: set[Address] = set()
    problem: errors.ChainNotFound | None = None
    known = False
    for store in stores:
        for text in _spellings(what):
            try:
                prefix = find_prefix(settings, [store], text)
            except errors.ChainNotFound as error:
                problem = problem or error
                continue
            known = True
            found.update(store.walk(prefix))
            break
    if problem is not None and not known:
        _check_task(settings, what, problem)
    return found


def _spellings(what: str) -> list[str]:
    """Return a name as it is, and as that of a chain whose `_chain` was left out."""
    parts = what.strip("/").split("/")
    place = 2 if parts[0] == "chains" else 1
    if len(parts) <= place or parts[place].endswith("_chain"):
        return [what]
    return [what, "/".join([*parts[:place], f"{parts[place]}_chain", *parts[place + 1 :]])]


def _check_task(settings: Settings, what: str, problem: errors.ChainNotFound) -> None:
    """Make sure that there is a task class of this name, though it has no targets."""
    from nectar.chain.catalog import describe
    from nectar.chain.description import find_task
    from nectar.chain.finder import find_chain

    for text in _spellings(what.strip("/").removeprefix("chains/")):
        chain, _, task = text.rpartition("/")
        try:
            name = find_chain(settings.chains_dir, chain)
        except errors.ChainNotFound:
            continue
        find_task(describe(settings, name), task)
        return
    raise problem


def needed(roots: Iterable[Address], read: Read) -> set[Address]:
    """Return the roots and everything from which they were made, as far as there are records that tell.

    Raises: what `read` raises.
    """
    found = set(roots)
    level = sorted(found)
    while level:
        wanted: set[Address] = set()
        for record in read(level).values():
            for entry in (*record.inputs.values(), *record.dynamic):
                address = Address.read(entry.path)
                if address is not None and address not in found:
                    wanted.add(address)
        found |= wanted
        level = sorted(wanted)
    return found
