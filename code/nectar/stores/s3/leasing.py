"""Decide who may make a target in S3.

A lease is one small object that its owner rewrites while it is at work. Nobody compares wall clocks: an observer takes
a lease over when it has seen the same object, by the observer's own monotonic clock, for longer than the lease lasts.
A holder counts from before it sent what the server then carried out, an observer from after it was answered; as long
as clocks run at one rate, the holder's time is over first. Every write is unlike every other, so that an ETag names
one write. A lease is for economy: whoever was stopped for too long is fenced by the commit, not by the lease.

Nobody waits for the dead where they are known to be: a lease names the process that has it, and on the machine of that
process everybody sees whether it is still there.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
import os
import secrets
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

from nectar import process_table
from nectar.address import Address
from nectar.stores.s3.messages import Answer, Content, Delete, Found, Get, Protocol, Put, Request, Stored

SCHEMA = 1
LONGEST_S = 3600.0  #: a lease that claims to last longer is not believed
MARGIN = 0.1  #: of a lease's time: how much longer an observer waits, for clocks that run at other rates
MOST_OBSERVED = 10_000  #: leases of others that a process remembers
_TRIES = 4  # each begins only after another changed the object in between

Clock = Callable[[], float]  #: seconds since some moment of this process's own; never goes back


class Owner:
    """One process, as others see it in the leases that it takes."""

    def __init__(self) -> None:
        self.host, self.pid = socket.gethostname(), os.getpid()
        self.text = f"{self.host}:{self.pid}:{secrets.token_hex(8)}"
        self.process = process_table.name_of(self.pid)
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
    process: str = ""  #: as `nectar.process_table` names the owner's; empty where its machine does not say

    def content(self) -> Content:
        """Return the bytes of the lease object."""
        host, pid, _ = self.owner.rsplit(":", 2)
        document = {"schema": SCHEMA, "owner": self.owner, "epoch": self.epoch, "beat": self.beat}
        document |= {"seconds": self.seconds, "host": host, "pid": int(pid), "process": self.process}
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
        return cls(
            _text(said, "owner"), _count(said, "epoch"), _count(said, "beat"), float(lasts), _text(said, "process")
        )


def _text(said: dict[str, object], name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""


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


def owner_is_dead(claim: Claim) -> bool:
    """Say whether the process that has a lease is surely not there any more; only its own machine can tell."""
    return process_table.has_ended(claim.process)


def acquire(
    place: str,
    owner: Owner,
    seconds: float,
    memory: Memory,
    clock: Clock,
    is_dead: Callable[[Claim], bool] = owner_is_dead,
) -> Protocol[Held | None]:
    """Take the lease on a place; None while another has it. One request if it is free, one look at a known holder.

    What this owner left there itself is taken over at once, and so is what the dead left: this owner must not hold the
    place already, in any thread.
    """
    epoch, replaces, looks_first = 1, None, memory.knows(place)
    for _ in range(_TRIES):
        sent = None
        if not looks_first:
            sent = Held(place, Claim(owner.text, epoch, owner.next_beat(), seconds, owner.process), "", clock())
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
        age = memory.age(place, found.etag, clock())
        if there.owner != owner.text and age <= there.seconds * (1 + MARGIN) and not is_dead(there):
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
