"""Hold leases in S3: the leases of this process, and the thread that renews them."""

from __future__ import annotations

import logging
import os
import threading
import time
import typing
import weakref
from collections.abc import Sequence

from nectar import errors
from nectar.address import Address
from nectar.stores.s3.driving import FAILURES, Failure
from nectar.stores.s3.leasing import (
    LONGEST_S,
    Clock,
    Held,
    Memory,
    Owner,
    acquire,
    place_of,
    release,
    renew,
    withdraw,
)
from nectar.stores.s3.messages import Protocol

_RENEW = 1 / 3  # of a lease's time
_RETRY = 1 / 10  # of a lease's time, after a renewal that failed

_Result = typing.TypeVar("_Result")
log = logging.getLogger(__name__)


class Settle(typing.Protocol):
    """What carries protocols out at the same time: a client of the server, or a simulated one. Threads may use it."""

    def __call__(self, protocols: Sequence[Protocol[_Result]], /) -> list[_Result | Failure]:
        """Return for each its result, in their order, or why the server did not answer: it may do it all the same."""


class S3Lease:
    """A lease that is renewed until it is released, or until the process ends; a forked child never had it."""

    def __init__(self, keeper: LeaseKeeper, held: Held, *, private: bool) -> None:
        self._keeper, self._process = keeper, os.getpid()
        self.held, self.private = held, private
        self.due = held.since + held.claim.seconds * _RENEW  #: when the next renewal is, by the keeper's clock
        self.renewing = False
        self.gone = False  #: lost for good
        self.released = False

    @property
    def taken_over(self) -> bool:
        """True where somebody had it before and did not give it back."""
        return self.held.claim.epoch > 1

    @property
    def lost(self) -> bool:
        """True when another may be at work: it was taken over, or its time went by without a renewal.

        In a forked child always. Released in time, it was not lost.
        """
        if not self.is_here:
            return True
        return self.gone or (not self.released and self._keeper.clock() >= self.held.expires)

    def release(self) -> None:
        """Let others have it, once a renewal that is on its way was answered; a second time this does nothing.

        Never raises for the store's sake: a lease that cannot be given back ends by itself.
        """
        self._keeper.give_back([self])

    @property
    def is_here(self) -> bool:
        """False in a forked child."""
        return self._process == os.getpid()


class LeaseKeeper:
    """The leases that this process holds in one store, and the thread that renews them at a third of their time.

    The thread begins with a lease and ends when it finds none to renew, which it looks for when the next renewal
    would be due: tasks that follow each other share it. `clock` is monotonic; `conditional_deletes` says that the
    server deletes by ETag. A request that takes longer than a lease lasts costs the lease.

    Raises:
        SettingsInvalid: when a lease would not last for some time up to an hour.
    """

    def __init__(
        self,
        settle: Settle,
        *,
        seconds: float = 30.0,
        clock: Clock = time.monotonic,
        conditional_deletes: bool = False,
    ) -> None:
        if not 0 < seconds <= LONGEST_S:
            raise errors.SettingsInvalid(
                f"a lease cannot last `{seconds}` seconds", hint=f"use a number up to {LONGEST_S:g}, such as 30"
            )
        self.clock = clock
        self._settle, self._seconds, self._conditional = settle, float(seconds), conditional_deletes
        self.forget()
        _keepers.add(self)

    def forget(self) -> None:
        """Begin anew, in a process that was forked: its parent holds the leases, and the thread is not there."""
        self._changed = threading.Condition()
        self._leases: dict[str, S3Lease | None] = {}  # by place; None while it is being taken or given back
        self._thread: threading.Thread | None = None
        self._owner, self._memory = Owner(), Memory()

    def lease(self, address: Address) -> S3Lease | None:
        """Return a lease on an address, None while another thread, process or host has it.

        Raises:
            StoreUnreachable: when the store cannot be written.
        """
        return self.take(place_of(address))

    def take(self, place: str, *, private: bool = False) -> S3Lease | None:
        """Return a lease on a place, None while another has it; nobody else ever takes a `private` one.

        Raises:
            StoreUnreachable: when the store cannot be written.
        """
        [taken] = self._take([place], private=private)
        if isinstance(taken, FAILURES):
            raise taken
        return taken

    def lease_all(self, addresses: Sequence[Address]) -> list[S3Lease | None]:
        """Answer `lease` for different addresses at the same time, in their order.

        None also where the store does not answer: who asks for that one alone hears why.
        """
        taken = self._take([place_of(address) for address in addresses], private=False)
        return [None if isinstance(one, FAILURES) else one for one in taken]

    def _take(self, places: Sequence[str], *, private: bool) -> list[S3Lease | Failure | None]:
        with self._changed:  # what was lost is not free either: its task is still at work in this process
            free = [place for place in places if place not in self._leases]
            self._leases.update(dict.fromkeys(free))
        taken: dict[str, S3Lease] = {}
        failed: dict[str, Failure] = {}
        try:
            protocols = [acquire(place, self._owner, self._seconds, self._memory, self.clock) for place in free]
            for place, end in zip(free, self._settle(protocols), strict=True):
                if isinstance(end, FAILURES):
                    failed[place] = end
                elif end is not None:
                    taken[place] = S3Lease(self, end, private=private)
        finally:
            with self._changed:
                for place in free:
                    del self._leases[place]
                self._leases.update(taken)
                if taken:
                    self._see_to_renewals(min(one.due for one in taken.values()))
        return [taken.get(place, failed.get(place)) for place in places]

    def give_back(self, leases: Sequence[S3Lease]) -> None:
        """Release leases at the same time; see `S3Lease.release`."""
        with self._changed:
            given = [lease for lease in leases if self._ends(lease)]
        try:
            asked = [one for one in given if one.private or not one.gone]
            for lease, end in zip(asked, self._settle([self._ending(one) for one in asked]), strict=True):
                if isinstance(end, FAILURES):
                    about = {"place": lease.held.place, "error": str(end)}
                    log.warning("lease not given back, it ends by itself", extra=about)
        finally:
            with self._changed:
                for lease in given:
                    del self._leases[lease.held.place]

    def _ends(self, lease: S3Lease) -> bool:
        """Renew a lease no more; False where it was released already. The caller holds the lock."""
        if not lease.is_here:
            return False
        self._changed.wait_for(lambda: not lease.renewing)
        if lease.released:
            return False
        lease.released = True
        self._leases[lease.held.place] = None
        return True

    def _ending(self, lease: S3Lease) -> Protocol[None]:
        if lease.private:
            return withdraw(lease.held)
        return release(lease.held, self.clock, conditional=self._conditional)

    def wake(self) -> None:
        """Let the thread look at the clock now, rather than when the next renewal would be due by the last look."""
        with self._changed:
            self._changed.notify_all()

    def _see_to_renewals(self, due: float) -> None:
        """Have a thread that knows of all leases, also of one that is due then; the caller holds the lock."""
        if self._thread is not None and self._thread.is_alive():
            self._changed.notify_all()
            return
        self._thread = threading.Thread(target=self._loop, args=(due,), name="nectar-leases", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads for this user: the next lease tries again, this one may be too short
            self._thread = None
            log.warning("leases are not renewed: no thread can be started")

    def _loop(self, look: float) -> None:
        """Renew what is due, until nothing is held at the moment of a `look`."""
        while True:
            with self._changed:
                while True:
                    now = self.clock()
                    kept = [one for one in self._leases.values() if one is not None and not one.gone]
                    due = [one for one in kept if one.due <= now]
                    if due:
                        break
                    if kept:
                        look = min(one.due for one in kept)
                    elif look <= now:
                        self._thread = None
                        return
                    self._changed.wait(look - now)
                for one in due:
                    one.renewing = True
            try:
                self._renew(due)
            finally:
                with self._changed:
                    for one in due:
                        one.renewing = False
                    self._changed.notify_all()

    def _renew(self, leases: Sequence[S3Lease]) -> None:
        protocols = [renew(lease.held, self._owner, self.clock) for lease in leases]
        for lease, end in zip(leases, self._settle(protocols), strict=True):
            if isinstance(end, FAILURES):
                log.warning("lease not renewed", extra={"place": lease.held.place, "error": str(end)})
                end = lease.held
            self._note(lease, end)

    def _note(self, lease: S3Lease, held: Held | None) -> None:
        """Note what came of a renewal: a new time, another try, or the end."""
        now = self.clock()
        if held is None or (held.since == lease.held.since and now >= held.expires):
            lease.gone = True
            log.warning("lease lost", extra={"place": lease.held.place})
            return
        renewed = held.since != lease.held.since
        lease.held = held
        lease.due = held.since + self._seconds * _RENEW if renewed else min(now + self._seconds * _RETRY, held.expires)


_keepers: weakref.WeakSet[LeaseKeeper] = weakref.WeakSet()


def _forget_in_child() -> None:
    for keeper in _keepers:
        keeper.forget()


os.register_at_fork(after_in_child=_forget_in_child)
