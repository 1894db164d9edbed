"""Say of the stores that a run reads and writes that they are in use, so that nobody removes anything there meanwhile.

A run says so before it asks a store for the first time, and until it ends. What it hands to other processes needs no
word of its own. A task that is run alone says it for its attempt.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

from nectar.stores import Lease, Store


class Uses:
    """The stores that somebody has in use."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Store, Lease]] = {}  # by URL
        self._not_there: set[str] = set()  # stores in which there was nothing yet that could be removed
        self._process = os.getpid()

    def add(self, store: Store, *, to_write: bool = False) -> None:
        """Have one more store in use; waits while somebody removes targets from it.

        Raises:
            StoreUnreachable: when the store cannot answer.
        """
        if self._process != os.getpid():
            return
        known = self._held.get(store.url)
        if known is None or known[1].lost:
            lease = store.in_use(to_write=to_write)
            self._held[store.url] = (store, lease)
            (self._not_there.add if lease.lost else self._not_there.discard)(store.url)
            if known is not None:
                known[1].release()

    def begin(self) -> None:
        """Have also those in use that were not there when they were asked: something is made in them from now on.

        Raises:
            StoreUnreachable: when a store cannot answer.
        """
        for store, _ in list(self._held.values()):
            self.add(store, to_write=True)

    def covers(self, store: Store) -> bool:
        """Say whether a store is in use; in a forked child by its parent."""
        known = self._held.get(store.url)
        if known is None or store.url in self._not_there:
            return False
        return self._process != os.getpid() or not known[1].lost

    def release(self) -> None:
        """Use nothing any more."""
        while self._held:
            self._held.popitem()[1][1].release()

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Let what is asked of stores meanwhile, in this thread, be a part of this use."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


class _UsesOfAnother(Uses):
    """What another process sees to."""

    def add(self, store: Store, *, to_write: bool = False) -> None:
        """Do nothing."""

    def covers(self, store: Store) -> bool:
        return True


_current: ContextVar[Uses | None] = ContextVar("nectar-uses", default=None)


def note(store: Store) -> None:
    """Have a store in use from now on if a run is at work; otherwise do nothing.

    Raises:
        StoreUnreachable: when the store cannot answer.
    """
    uses = _current.get()
    if uses is not None:
        uses.add(store)


def run_at_work() -> bool:
    """Say whether a run sees to the stores that are asked."""
    return _current.get() is not None


@contextlib.contextmanager
def using(stores: Iterable[Store] = ()) -> Iterator[None]:
    """Have stores in use for a while, and those that are asked meanwhile; where a run is at work, as a part of it.

    Raises:
        StoreUnreachable: when one of them cannot answer.
    """
    run = _current.get()
    if run is not None:
        for store in stores:
            run.add(store)
        yield
        return
    uses = Uses()
    try:
        with uses.counting():
            for store in stores:
                uses.add(store)
            yield
    finally:
        uses.release()


def covered_by_another() -> contextlib.AbstractContextManager[None]:
    """Say that another process has all stores in use for this one: a worker has its engine."""
    return _UsesOfAnother().counting()


def of_an_attempt(stores: Iterable[Store]) -> Uses:
    """Return the use of those stores that no run at work has in use; whoever calls releases it.

    Raises:
        StoreUnreachable: when one of them cannot answer.
    """
    run, uses = _current.get(), Uses()
    try:
        for store in stores:
            if run is None or not run.covers(store):
                uses.add(store, to_write=True)
    except BaseException:
        uses.release()
        raise
    return uses
