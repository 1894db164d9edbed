"""Send the logs of tasks at work to the bucket every few seconds, so that others can look at them.

An object is never written over: what was printed since the last time becomes one more object, in order:

    <prefix>/.attempts/<key>/<attempt>/live/<number>-stdout.log

They go when the attempt has ended: then its whole logs are in its target, or among the failed attempts.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import weakref
from dataclasses import dataclass, field

from nectar import errors
from nectar.records import STDERR_NAME, STDOUT_NAME
from nectar.stores.base import Staging
from nectar.stores.s3.client import S3Client
from nectar.stores.s3.commit import ATTEMPTS
from nectar.stores.s3.messages import Content, Delete, Put

INTERVAL_S = 5.0
MOST_AT_ONCE = 4 << 20  #: bytes of one log that are sent each time; of more than that the beginning is left out
LIVE = "live"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Followed:
    staging: Staging
    sent: dict[str, int] = field(default_factory=dict)  #: bytes, by log
    keys: list[str] = field(default_factory=list)  #: of what was sent


class Shipper:
    """One thread a process and store, which lives while attempts do."""

    def __init__(self, client: S3Client, *, interval_s: float = INTERVAL_S) -> None:
        self._client = client
        self._interval_s = interval_s
        self.forget()
        _shippers.add(self)

    def forget(self) -> None:
        """Begin anew, in a process that was forked: the attempts are its parent's."""
        self._changed = threading.Condition()
        self._followed: dict[str, _Followed] = {}  # by attempt
        self._thread: threading.Thread | None = None

    def follow(self, staging: Staging) -> None:
        """Send what is printed in an attempt, from now on."""
        with self._changed:
            self._followed[staging.attempt] = _Followed(staging)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="nectar-ship-logs", daemon=True)
                self._thread.start()

    def leave(self, staging: Staging) -> None:
        """Send no more of an attempt, and remove what was sent."""
        with self._changed:
            followed = self._followed.pop(staging.attempt, None)
            self._changed.notify_all()
        if followed is not None and followed.keys:
            try:
                self._client.do_all([Delete(key) for key in followed.keys])
            except errors.StoreError as error:  # how the attempt ended is decided, and matters more
                log.warning("live logs of an attempt that has ended are left: %s", error.message)

    def ship(self) -> None:
        """Send now what is new."""
        with self._changed:
            followed = list(self._followed.values())
        puts = [put for one in followed for put in _new(one)]
        self._client.do_all(puts)

    def _loop(self) -> None:
        while True:
            with self._changed:
                if not self._followed:
                    self._changed.wait(self._interval_s)
                    if not self._followed:
                        self._thread = None
                        return
                self._changed.wait(self._interval_s)
            try:
                self.ship()
            except errors.StoreError as error:  # whoever needs the store to work hears of it by its own request
                log.warning("logs of tasks at work cannot be sent: %s", error.message)


def _new(followed: _Followed) -> list[Put]:
    staging = followed.staging
    folder = f"{staging.address.prefix}/{ATTEMPTS}/{staging.address.key}/{staging.attempt}/{LIVE}"
    puts = []
    for name in (STDOUT_NAME, STDERR_NAME):
        try:
            with open(f"{staging.path}/{name}", "rb") as file:
                end = os.fstat(file.fileno()).st_size
                start = max(followed.sent.get(name, 0), end - MOST_AT_ONCE)
                file.seek(start)
                raw = file.read(end - start)
        except FileNotFoundError:
            continue  # nothing was printed yet, or the attempt has ended
        if not raw:
            continue
        followed.sent[name] = start + len(raw)
        key = f"{folder}/{len(followed.keys):06}-{os.path.basename(name)}"
        followed.keys.append(key)
        puts.append(Put(key, Content(len(raw), hashlib.sha256(raw).hexdigest(), raw=raw)))
    return puts


_shippers: weakref.WeakSet[Shipper] = weakref.WeakSet()


def _forget_in_child() -> None:
    for shipper in list(_shippers):
        shipper.forget()


os.register_at_fork(after_in_child=_forget_in_child)
