"""What a store in S3 asks of the server, and what comes back: plain values, so that each protocol can be tested alone.

A protocol (a commit, a lease) is a generator that yields a list of requests, which may be carried out in any order and
at the same time, and is sent the list of their answers. It knows no network, no clock and no thread. One function
drives it with a real client (`nectar.stores.s3.client`), a model test with a simulated server.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

ATTEMPT = "nectar-attempt"  #: the member of an object's metadata that names the attempt which wrote it
REPLACED = "nectar-replaced"  #: of a record's: the ETag of the record whose place it took


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of an object: of a local file, or given."""

    size: int  #: bytes
    sha256: str  #: 64 hex digits; empty of a file that is sent in parts: it is found out meanwhile
    path: str | None = None
    raw: bytes = b""  #: where there is no path


@dataclass(frozen=True, slots=True)
class Put:
    """Create an object, or replace the one that has `if_etag`; never write over another."""

    key: str  #: relative to the store
    content: Content
    if_etag: str | None = None  #: None: only where there is no object
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Get:
    """Read a small object (a record, a lease) as a whole."""

    key: str


@dataclass(frozen=True, slots=True)
class Head:
    """Ask for an object's size, ETag and metadata."""

    key: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an object, if it is there; with `if_etag` only that one, where the server can tell."""

    key: str
    if_etag: str | None = None


Request = Put | Get | Head | Delete


@dataclass(frozen=True, slots=True)
class Stored:
    """To Put: it is there, and ours."""

    etag: str  #: without quotes
    sha256: str = ""  #: of what was sent, where the content did not say


@dataclass(frozen=True, slots=True)
class Refused:
    """To Put: the condition did not hold (412), or another request was at the same object (409).

    It may be the answer to a repetition of a request that was carried out, and whose first answer was lost.
    """

    repeated: bool = False  #: the request was sent more than once


@dataclass(frozen=True, slots=True)
class Found:
    """To Get and Head: the object."""

    etag: str  #: without quotes
    size: int  #: bytes
    metadata: Mapping[str, str]
    raw: bytes | None = None  #: to Get


@dataclass(frozen=True, slots=True)
class Absent:
    """To Get and Head: there is no such object."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """To Delete: it is not there any more, or was another one."""


Answer = Stored | Refused | Found | Absent | Deleted

_Result = TypeVar("_Result")
Protocol = Generator[list[Request], list[Answer], _Result]
