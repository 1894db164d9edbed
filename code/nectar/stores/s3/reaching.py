"""Decide for how long a server is asked again that cannot be connected to: boto3 waits as it does for a busy one.

A server that has answered this process before is probably restarted: it is asked again for as long as boto3 does, a
quarter of a minute or more, as is one that answers 503. One that never answered is most likely named wrongly: after a
few seconds that is an error. Where a request has been given up so, no other one is patient any more until one is
answered: otherwise hundreds of requests that wait for their turn would be patient one after the other.
"""

from __future__ import annotations

import logging
import threading
import time

import botocore.exceptions

from nectar.stores.s3 import failures

PAUSES_S = (0.2, 0.4, 0.8, 1.2)  #: before a server that never answered is asked again
SILENT_TRIES = 2  #: of a connection to such a server that is neither accepted nor refused
_SAID_S = 30.0  # for so long nobody needs to hear of the same trouble again

log = logging.getLogger("luigi-interface")  # the one that people who run chains look at


class Reaching:
    """What one process knows of a server: whether it can be reached. Threads share it."""

    def __init__(self, url: str, retries: int) -> None:
        """`url` is how messages name the place; `retries` are boto3's, of one request."""
        self._url, self._retries = url, retries
        self._answered = self._given_up = False
        self._said_at = float("-inf")
        self._guard = threading.Lock()

    def pause_s(self, attempts: int, caught_exception: Exception | None = None, **_: object) -> float | None:
        """Return the seconds until a request is sent again, None to leave that to boto3: a handler of `needs-retry`.

        Raises: the exception that was caught, where it is not to be tried again.
        """
        if not _is_out_of_reach(caught_exception):
            if caught_exception is None:
                self._answered, self._given_up = True, False
            return None
        assert caught_exception is not None
        self._say(caught_exception)
        if self._given_up:
            raise caught_exception
        if self._answered:
            self._given_up = attempts > self._retries
            return None
        silent = isinstance(caught_exception, botocore.exceptions.ConnectTimeoutError)
        if attempts > min(self._retries, SILENT_TRIES - 1 if silent else len(PAUSES_S)):
            self._given_up = True
            raise caught_exception
        return PAUSES_S[attempts - 1]

    def _say(self, error: Exception) -> None:
        with self._guard:
            now = time.monotonic()
            if now - self._said_at < _SAID_S or not self._retries:
                return
            self._said_at = now
        log.warning("`%s` cannot be reached, trying again: %s", self._url, failures.one_line(str(error)))


def _is_out_of_reach(error: Exception | None) -> bool:
    kinds = (
        botocore.exceptions.EndpointConnectionError,
        botocore.exceptions.ConnectTimeoutError,
        botocore.exceptions.ProxyConnectionError,
    )
    return isinstance(error, kinds)
