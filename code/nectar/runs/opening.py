"""Open the books that an address names."""

from __future__ import annotations

from nectar.runs.base import RunStore


def open_books(url: str, *, patience_s: float = 30.0) -> RunStore:
    """Return the run store at `sqlite:///<path>` or `postgresql://...`; the first call makes it, or updates it.

    A database that is locked or away is waited for `patience_s` seconds.

    Raises:
        RunStoreNotSupported: when the address is another one, or the driver is not installed.
    """
    from nectar.runs.sql import SqlRunStore  # late: half a second

    return SqlRunStore(url, patience_s=patience_s)
