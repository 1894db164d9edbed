"""Read the files of one target in S3, or of one of its attempts."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import BinaryIO

from nectar import errors, records
from nectar.address import Address
from nectar.records import RECORD_NAME, Record
from nectar.stores.base import AttemptPlace
from nectar.stores.s3.cache import ObjectCache
from nectar.stores.s3.client import S3Client
from nectar.stores.s3.commit import ATTEMPTS
from nectar.stores.s3.messages import Found, Get
from nectar.stores.s3.shipping import LIVE


class S3Reader:
    """See `nectar.stores.base.Reader` for the promises: all goes through the record, and asks for what it names."""

    def __init__(
        self,
        client: S3Client,
        cache: ObjectCache,
        address: Address,
        attempt: str | None,
        staged: str,
        record: Record | None = None,
    ) -> None:
        """`staged` is the local folder of the attempts at work on targets of this class; `record`, if it is known."""
        self._client = client
        self._cache = cache
        self._address = address
        self._attempt = attempt
        self._staged = staged
        self._record = record

    def path(self, name: str) -> str:
        if self._attempt is not None and os.path.isdir(f"{self._staged}/{self._attempt}"):
            return f"{self._staged}/{self._attempt}/{name}"
        record = self._find_record() if self._attempt is None else None
        entry = record.file(name) if record is not None else None
        if entry is None:
            return self._copy_of_small(name)
        key, etag, size, sha256 = f"{self._address.path}/{entry.object}", entry.etag, entry.size, entry.sha256

        def fetch(path: str) -> None:
            self._client.download(key, path, etag=etag, size=size, sha256=sha256)

        try:
            return self._cache.path_of(sha256, name, size, fetch, verified=True)
        except FileNotFoundError as error:
            raise self._corrupt(f"the file `{name}` of `{self._address}` is missing in `{self._client.url}`") from error
        except errors.TargetCorrupt as error:
            raise self._corrupt(error.message) from error

    def _copy_of_small(self, name: str) -> str:
        """Return a local copy of a log or of the parameters, or a path at which there is nothing."""
        try:
            source = self.open(name)
        except FileNotFoundError:
            return os.path.join(self._cache.folder, "absent", self._address.path, name)
        with contextlib.closing(source):
            raw = source.read()

        def keep(path: str) -> None:
            with open(path, "wb") as file:
                file.write(raw)

        return self._cache.path_of(hashlib.sha256(raw).hexdigest(), os.path.basename(name), len(raw), keep)

    def open(self, name: str) -> BinaryIO:
        if self._attempt is not None:
            return self._open_of_attempt(name)
        if name == RECORD_NAME:
            return self._client.open(f"{self._address.path}/{RECORD_NAME}", etag=None)
        record = self._find_record()
        entry = record.file(name) if record is not None else None
        try:
            if entry is None:
                return self._client.open(self._key(name), etag=None)
            return self._client.open(self._key(name), etag=entry.etag, sha256=entry.sha256)
        except errors.TargetCorrupt as error:
            raise self._corrupt(error.message) from error

    def _open_of_attempt(self, name: str) -> BinaryIO:
        local = f"{self._staged}/{self._attempt}/{name}"
        if os.path.exists(local):
            return open(local, "rb")
        return self._client.open(f"{self._folder()}/{name}", etag=None)

    def url(self, name: str) -> str:
        return f"{self._client.url}/{self._key(name)}"

    def link(self, name: str, *, expires_s: int = 600) -> str:
        return self._client.presign(self._key(name), expires_s=expires_s, filename=os.path.basename(name))

    def _key(self, name: str) -> str:
        """Return where a file lies in the store: where its record says, else under its plain name."""
        if self._attempt is not None:
            return f"{self._folder()}/{name}"
        record = self._find_record()
        entry = record.file(name) if record is not None else None
        place = name if record is None else entry.object if entry is not None else record.places.get(name, name)
        return f"{self._address.path}/{place}"

    def attempts(self, *, staged: bool = True) -> list[AttemptPlace]:
        kept = f"{self._address.prefix}/{ATTEMPTS}/{self._address.key}"
        ended: set[str] = set()
        known: dict[str, None] = {}
        for one in self._client.list(f"{kept}/"):
            attempt, _, name = one.key.removeprefix(f"{kept}/").partition("/")
            known[attempt] = None
            if not name.startswith(f"{LIVE}/"):
                ended.add(attempt)
        here = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            here = [name for name in os.listdir(self._staged) if records.attempt_key(name) == self._address.key]
        known.update(dict.fromkeys(here))
        found = [AttemptPlace(one, one not in ended or one in here, f"{kept}/{one}") for one in sorted(known)]
        return [one for one in found if staged or not one.running]

    def _corrupt(self, problem: str) -> errors.TargetCorrupt:
        return errors.TargetCorrupt(
            problem, hint=f"`nectar verify {self._address}` puts the target aside; run again then"
        )

    def _folder(self) -> str:
        return f"{self._address.prefix}/{ATTEMPTS}/{self._address.key}/{self._attempt}"

    def _find_record(self) -> Record | None:
        if self._record is None:
            answer = self._client.do(Get(f"{self._address.path}/{RECORD_NAME}"))
            if isinstance(answer, Found):
                with contextlib.suppress(errors.RecordInvalid):  # what it names cannot be known: plain names then
                    self._record = records.parse(answer.raw or b"", self._address)
        return self._record
