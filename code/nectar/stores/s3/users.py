"""Say that a store in S3 is in use, or that nobody uses it.

    .users/<id>       a lease of its own for everybody who reads or writes targets
    .users/alone      the lease of who removes them

Both are put before the other is looked for. So of two who come at the same moment at least one sees the other: who
comes to use the store takes the word back and waits, who would be alone gives up.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
import weakref

from nectar import errors
from nectar.stores.base import Lease, NoLease
from nectar.stores.s3.client import S3Client
from nectar.stores.s3.failures import Rejected
from nectar.stores.s3.holding import LeaseKeeper, S3Lease
from nectar.stores.s3.leasing import MARGIN, Claim, Memory
from nectar.stores.s3.messages import Delete, Found, Get
from nectar.stores.waiting import pauses

USERS = ".users"
ALONE = f"{USERS}/alone"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
log = logging.getLogger("luigi-interface")  # the one that people who run chains look at


class Users:
    """Who uses a store, as this process sees and says it."""

    def __init__(self, client: S3Client, seconds: float) -> None:
        """`seconds` is how long a word holds that is not renewed."""
        self._client = client
        self._seconds = seconds
        self._keeper = LeaseKeeper(client.settle_all, seconds=seconds)
        self._own: set[S3Lease] = set()
        self._guard = threading.Lock()
        _all.add(self)

    def forget(self) -> None:
        """Begin anew, in a process that was forked: its parent has the words."""
        self._own, self._guard = set(), threading.Lock()

    def in_use(self) -> Lease:
        """See `nectar.stores.base.Leasing`; three requests, the one that takes the word back included.

        Where who was alone died, its word is found dead in a little more time than it holds: that long this waits.
        """
        memory, said = Memory(), False
        for pause in pauses(_FIRST_PAUSE_S, _LONGEST_PAUSE_S):
            waits = said and self._somebody_is_alone(memory)
            try:
                lease = None if waits else self._keeper.take(f"{USERS}/{secrets.token_hex(8)}", private=True)
            except errors.StoreUnreachable as error:
                if not (isinstance(error.__cause__, Rejected) and error.__cause__.is_forbidden):
                    raise
                log.warning("`%s`: nobody hears that it is in use: %s", self._client.url, error.message)
                return NoLease(lost=False)
            if lease is not None:
                if not self._somebody_is_alone(memory):
                    with self._guard:
                        self._own = {one for one in self._own if not one.released} | {lease}
                    return lease
                lease.release()
            if not said:
                said = True
                log.warning("somebody removes targets from `%s`: waiting for the end of that", self._client.url)
            time.sleep(pause)
        raise AssertionError("pauses have no end")

    def _somebody_is_alone(self, memory: Memory) -> bool:
        found = self._client.do(Get(ALONE))
        if not isinstance(found, Found):
            return False
        lasts = Claim.parse(found.raw, self._seconds).seconds
        if memory.age(ALONE, found.etag, self._keeper.clock()) <= lasts * (1 + MARGIN):
            return True
        self._client.do(Delete(ALONE, found.etag))
        return False

    def alone(self) -> S3Lease | None:
        """See `nectar.stores.base.Leasing`; the words of the dead are removed.

        Whether a word is that of the living is only seen by watching it: one that is renewed shows it after a third of
        the time for which it holds (10 seconds of 30), one that is not is dead after a little more than all of it (33).
        """
        with self._guard:
            if any(not one.released and not one.lost for one in self._own):
                return None
        lease = self._keeper.take(ALONE)
        if lease is None:
            lease = self._keeper.take(ALONE) if self._are_dead({ALONE}) else None
        if lease is None:
            return None
        alive = True
        try:
            # Who comes from now on sees that somebody is alone, and waits.
            alive = not self._are_dead(set(self._listed()) - {ALONE})
        finally:
            if alive:
                lease.release()
        return None if alive else lease

    def _listed(self) -> dict[str, str]:
        """Return the ETag of each word."""
        return {one.key: one.etag for one in self._client.list(f"{USERS}/")}

    def _are_dead(self, places: set[str]) -> bool:
        """Watch words until each is gone, or found dead and removed; False as soon as one is seen to be renewed."""
        seen: dict[str, tuple[Found, float]] = {}
        for place in places:
            found = self._client.do(Get(place))
            if isinstance(found, Found):
                seen[place] = (found, self._keeper.clock())
        waiting = pauses(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while seen:
            time.sleep(next(waiting))
            listed = self._listed()
            now = self._keeper.clock()
            for place, (found, since) in list(seen.items()):
                if place not in listed:
                    del seen[place]
                elif listed[place] != found.etag:
                    return False
                elif now - since > Claim.parse(found.raw, self._seconds).seconds * (1 + MARGIN):
                    self._client.do(Delete(place, found.etag))
                    del seen[place]
        return True


_all: weakref.WeakSet[Users] = weakref.WeakSet()


def _forget_in_child() -> None:
    for users in _all:
        users.forget()


os.register_at_fork(after_in_child=_forget_in_child)
