"""Decide who may make a target in S3, and renew what this process holds.

A lease is one small object that its owner rewrites while it is at work. Nobody compares wall clocks: an observer takes
a lease over when it has seen the same object, by the observer's own monotonic clock, for longer than the lease lasts.
A holder counts from before it sent what the server then carried out, an observer from after it was answered; as long
as clocks run at one rate, the holder's time is over first. Every write is unlike every other, so that an ETag names
one write. A lease is for economy: whoever was stopped for too long is fenced by the commit, not by the lease.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
import logging
import os
import secrets
import socket
import threading
import time
import typing
import weakref
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from nectar import errors
from nectar.address import Address
from nectar.stores.s3.driving import FAILURES
from nectar.stores.s3.messages import Answer, Content, Delete, Found, Get, Protocol, Put, Request, Stored

SCHEMA = 1
LONGEST_S = 3600.0  #: a lease that claims to last longer is not believed
MARGIN = 0.1  #: of a lease's time: how much longer an observer waits, for clocks that run at other rates
MOST_OBSERVED = 10_000  #: leases of others that a process remembers
_TRIES = 4  # each begins only after another changed the object in between
_RENEW = 1 / 3  # of a lease's time
_RETRY = 1 / 10  # of a lease's time, after a renewal that failed

Clock = Callable[[], float]  #: seconds since some moment of this process's own; never goes back
_Result = typing.TypeVar("_Result")
log = logging.getLogger(__name__)


class Owner:
    """One process, as others see it in the leases that it takes."""

    def __init__(self) -> None:
        self.host, self.pid = socket.gethostname(), os.getpid()
        self.text = f"{self.host}:{self.pid}:{secrets.token_hex(8)}"
        self._beats = itertools.count(1)

    def next_beat(self) -> int:
        """Return a number greater than all before: no two writes of one owner are equal, nor are their ETags."""
        return next(self._beats)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a lease object says."""

    owner: str  #: `<host>:<pid>:<random>`; empty where it cannot be read
    epoch: int  #: grows whenever the lease is taken over
    beat: int  #: grows with every write of the owner
    seconds: float  #: how long the lease lasts when it is not renewed

    def content(self) -> Content:
        """Return the bytes of the lease object."""
        host, pid, _ = self.owner.rsplit(":", 2)
        document = {"schema": SCHEMA, "owner": self.owner, "epoch": self.epoch, "beat": self.beat}
        document |= {"seconds": self.seconds, "host": host, "pid": int(pid)}
        raw = json.dumps(document).encode("utf-8")
        return Content(len(raw), hashlib.sha256(raw).hexdigest(), raw=raw)

    @classmethod
    def parse(cls, raw: bytes | None, seconds: float) -> Claim:
        """Return what an object says, with `seconds` where it does not say how long it lasts; never raises.

        What cannot be read, and what a newer Nectar wrote, is a lease as well.
        """
        try:
            document = json.loads(raw or b"")
        except (ValueError, RecursionError):
            document = None
        said = document if isinstance(document, dict) else {}
        lasts = said.get("seconds")
        if not isinstance(lasts, (int, float)) or isinstance(lasts, bool) or not 0 < lasts <= LONGEST_S:
            lasts = seconds
        owner = said.get("owner")
        return cls(owner if isinstance(owner, str) else "", _count(said, "epoch"), _count(said, "beat"), float(lasts))


def _count(said: dict[str, object], name: str) -> int:
    value = said.get(name)
    return value if type(value) is int and value >= 0 else 0


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that this process took."""

    place: str  #: the key of the lease object
    claim: Claim
    etag: str
    since: float  #: by the own clock, before the request was sent that last renewed it

    @property
    def expires(self) -> float:
        """When it is over by the own clock, unless it is renewed before."""
        return self.since + self.claim.seconds


class Memory:
    """What an observer has seen of others' leases; beyond `limit` it forgets those it looked at longest ago."""

    def __init__(self, limit: int = MOST_OBSERVED) -> None:
        self._limit = limit
        self._seen: collections.OrderedDict[str, tuple[str, float]] = collections.OrderedDict()

    def age(self, place: str, etag: str, now: float) -> float:
        """Return for how many seconds this very object has been seen there; 0 the first time."""
        known = self._seen.pop(place, None)
        since = known[1] if known is not None and known[0] == etag else now
        self._seen[place] = (etag, since)
        while len(self._seen) > self._limit:
            self._seen.popitem(last=False)
        return now - since

    def knows(self, place: str) -> bool:
        """Say whether a lease was seen there at the last look."""
        return place in self._seen

    def forget(self, place: str) -> None:
        """Drop what was seen there."""
        self._seen.pop(place, None)


def place_of(address: Address) -> str:
    """Return the key of the lease object of a target."""
    return f"{address.prefix}/.leases/{address.key}"


def acquire(place: str, owner: Owner, seconds: float, memory: Memory, clock: Clock) -> Protocol[Held | None]:
    """Take the lease on a place; None while another has it. One request if it is free, one look at a known holder.

    What this owner left there itself is taken over at once: it must not hold the place already, in any thread.
    """
    epoch, replaces, looks_first = 1, None, memory.knows(place)
    for _ in range(_TRIES):
        sent = None
        if not looks_first:
            sent = Held(place, Claim(owner.text, epoch, owner.next_beat(), seconds), "", clock())
            answer = yield from _ask(Put(place, sent.claim.content(), if_etag=replaces))
            if isinstance(answer, Stored):
                memory.forget(place)
                return replace(sent, etag=answer.etag)
        found = yield from _ask(Get(place))
        looks_first = False
        if not isinstance(found, Found):
            memory.forget(place)
            epoch, replaces = 1, None
            continue
        there = Claim.parse(found.raw, seconds)
        if sent is not None and there == sent.claim:  # it was carried out, and the answer lost
            memory.forget(place)
            return replace(sent, etag=found.etag)
        # The clock is read after the answer: what was seen may have been written just before.
        if there.owner != owner.text and memory.age(place, found.etag, clock()) <= there.seconds * (1 + MARGIN):
            return None
        epoch, replaces = there.epoch + 1, found.etag
    return None


def renew(held: Held, owner: Owner, clock: Clock) -> Protocol[Held | None]:
    """Renew a lease; None if another has it, or has had it: then it is lost for good. One request.

    A lease whose time is over and that nobody took is renewed as well. What comes back has the old `since` where the
    server had no time for it, again and again: it is still ours, and not renewed.
    """
    for _ in range(_TRIES):
        since, claim = clock(), replace(held.claim, beat=owner.next_beat())
        answer = yield from _ask(Put(held.place, claim.content(), if_etag=held.etag))
        if isinstance(answer, Stored):
            return Held(held.place, claim, answer.etag, since)
        found = yield from _ask(Get(held.place))
        if not isinstance(found, Found):
            return None
        there = Claim.parse(found.raw, claim.seconds)
        if there == claim:
            return Held(held.place, claim, found.etag, since)
        if (there.owner, there.epoch) != (claim.owner, claim.epoch):
            return None
        # An earlier renewal that nobody heard of again. Nobody knows when it was sent, so it does not count: another
        # may have seen it for a long time already.
        held = replace(held, claim=there, etag=found.etag)
    return held


def release(held: Held, clock: Clock, *, conditional: bool) -> Protocol[None]:
    """Give a lease back if it is surely still ours, otherwise leave it to its end. One request, or none.

    `conditional` says that the server deletes by ETag. Where it does not, another's lease would be deleted if the
    request took longer than what is left of the time: therefore half of it must be left.
    """
    if clock() - held.since < held.claim.seconds * (1 if conditional else 0.5):
        yield from _ask(Delete(held.place, if_etag=held.etag))


def withdraw(held: Held) -> Protocol[None]:
    """Give back a lease on a place that nobody else ever takes. One request."""
    yield from _ask(Delete(held.place))


def _ask(request: Request) -> Generator[list[Request], list[Answer], Answer]:
    return (yield [request])[0]


def together(protocols: Sequence[Protocol[_Result]]) -> Protocol[list[_Result]]:
    """Carry protocols out side by side; return their results in the order given."""
    results: dict[int, _Result] = {}
    answers: dict[int, list[Answer]] = {}
    going = set(range(len(protocols)))
    while going:
        asked: dict[int, list[Request]] = {}
        for number in sorted(going):
            try:
                protocol = protocols[number]
                asked[number] = protocol.send(answers[number]) if number in answers else next(protocol)
            except StopIteration as end:
                results[number] = end.value
        going = set(asked)
        if going:
            heard = iter((yield [request for requests in asked.values() for request in requests]))
            answers = {number: list(itertools.islice(heard, len(requests))) for number, requests in asked.items()}
    return [results[number] for number in range(len(protocols))]


class Drive(typing.Protocol):
    """What carries a protocol out: a client of the server, or a simulated one. Threads may use it at once."""

    def __call__(self, protocol: Protocol[_Result], /) -> _Result:
        """Return the protocol's result.

        Raises:
            NectarError, OSError: when the server does not answer; what it was asked may have been done, or will be.
        """


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
    def lost(self) -> bool:
        """True when another may be at work: it was taken over, or its time went by without a renewal.

        In a forked child always. Released in time, it was not lost.
        """
        if self._process != os.getpid():
            return True
        return self.gone or (not self.released and self._keeper.clock() >= self.held.expires)

    def release(self) -> None:
        """Let others have it, once a renewal that is on its way was answered; a second time this does nothing.

        Never raises for the store's sake: a lease that cannot be given back ends by itself.
        """
        if self._process == os.getpid():
            self._keeper.give_back(self)


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
        drive: Drive,
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
        self._drive, self._seconds, self._conditional = drive, float(seconds), conditional_deletes
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
        with self._changed:
            if place in self._leases:  # also one that was lost: its task is still at work in this process
                return None
            self._leases[place] = None
        lease = None
        try:
            held = self._drive(acquire(place, self._owner, self._seconds, self._memory, self.clock))
            lease = None if held is None else S3Lease(self, held, private=private)
            return lease
        finally:
            with self._changed:
                if lease is None:
                    del self._leases[place]
                else:
                    self._leases[place] = lease
                    self._see_to_renewals(lease.due)

    def give_back(self, lease: S3Lease) -> None:
        """Release a lease; see `S3Lease.release`."""
        place = lease.held.place
        with self._changed:
            self._changed.wait_for(lambda: not lease.renewing)
            if lease.released:
                return
            lease.released = True
            self._leases[place] = None
        try:
            if lease.private:
                self._drive(withdraw(lease.held))
            elif not lease.gone:
                self._drive(release(lease.held, self.clock, conditional=self._conditional))
        except FAILURES as error:
            log.warning("lease not given back, it ends by itself", extra={"place": place, "error": str(error)})
        finally:
            with self._changed:
                del self._leases[place]

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
        try:
            answers = self._drive(together(protocols))
        except FAILURES as error:
            if len(leases) > 1:  # one that the server does not answer for must not cost the others
                for lease in leases:
                    self._renew([lease])
                return
            log.warning("lease not renewed", extra={"place": leases[0].held.place, "error": str(error)})
            answers = [leases[0].held]
        for lease, held in zip(leases, answers, strict=True):
            self._note(lease, held)

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
