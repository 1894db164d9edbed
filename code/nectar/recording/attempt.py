"""Carry one attempt from its staging place to its end: committed, failed with its logs kept, or dropped."""

from __future__ import annotations

import contextlib
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nectar import errors, records, settings
from nectar.address import Address
from nectar.identity import Identity
from nectar.recording import run as runs_of_process
from nectar.recording.capture import captured
from nectar.recording.metrics import reporting
from nectar.recording.sealing import digest_of, seal
from nectar.recording.uses import Uses
from nectar.records import ATTEMPT_NAME, PARAMS_NAME, STDERR_NAME, STDOUT_NAME, InputEntry, Record
from nectar.redaction.known import redacted, redacted_bytes
from nectar.stores import Commitment, Finished, Recipe, Staging, Store

log = logging.getLogger("luigi-interface")  # the one that people who run chains look at

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass(frozen=True, slots=True)
class Work:
    """All that recording has to know of a task."""

    subject: str  #: how messages name the task
    address: Address
    identity: Identity
    document: Mapping[str, Any]  #: what the identity is made of
    store: Store
    outputs: tuple[str, ...]  #: names of its own output files
    foreign: tuple[str, ...]  #: its outputs that lie elsewhere, as text
    params: Mapping[str, Any]  #: JSON values, private ones masked
    inputs: Mapping[str, InputEntry]
    code: Mapping[str, Any] | None  #: `{"digest", "parts"}`
    replaces: str | None  #: version of the complete record that this attempt is to replace
    recipe: Recipe | None  #: by which the target is found again, where its inputs come out with the same bytes
    still_valid: Callable[[], None]  #: raises IdentityChanged when an input file is not what the identity says


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended."""

    attempt: str
    won: bool  #: False where it failed, and where another attempt's target was there first
    logs: str | None  #: place of the logs, relative to the store
    error: str | None = None  #: the last line of the traceback
    reused_from: str | None = None  #: path of the target whose files these are


@dataclass(slots=True)
class Attempt:
    """One try at running one task."""

    work: Work
    tried: bool = True  #: False: there is no failed attempt before this one
    uses: Uses = field(default_factory=Uses)  #: of stores, for this attempt alone
    staging: Staging = field(init=False)
    _dynamic: list[InputEntry] = field(default_factory=list)
    _metrics: dict[str, Any] = field(default_factory=dict)
    _run: runs_of_process.Run = field(default_factory=runs_of_process.current)
    _started_at: datetime = field(default_factory=records.utc_now)
    _earlier: Record | None = None

    def __post_init__(self) -> None:
        address = self.work.address
        self.work.still_valid()
        self.staging = self.work.store.stage(address, records.new_attempt_id(address, self._started_at))
        try:
            with _disk(self.work.subject):
                self._lay_out()
        except errors.StoreError:
            self.drop()
            raise

    def _lay_out(self) -> None:
        _write(f"{self.staging.path}/{PARAMS_NAME}", records.json_lines(self.work.params))
        for name in self.work.outputs:
            if "/" in name:
                os.makedirs(os.path.dirname(os.path.join(self.staging.path, name)), exist_ok=True)

    @contextlib.contextmanager
    def capturing(self) -> Iterator[None]:
        """Let what is printed meanwhile go into the attempt's logs, and what is reported into its record."""
        folder = self.staging.path
        with captured(f"{folder}/{STDOUT_NAME}", f"{folder}/{STDERR_NAME}", self._run.echo), reporting(self._metrics):
            yield

    def take_over(self, earlier: Record) -> bool:
        """Take the files of an earlier target instead of making them; False where it is not any more what it was.

        Raises:
            StoreUnreachable: when they cannot be read.
        """
        with contextlib.suppress(FileNotFoundError):
            self.work.store.take_over(earlier, self.staging)
            with _disk(self.work.subject):
                if all(digest_of(f"{self.staging.path}/{one.name}")[1] == one.sha256 for one in earlier.files):
                    self._earlier = earlier
                    return True
        log.warning("`%s` has other bytes than its record says: %s is made anew", earlier.address, self.work.subject)
        for one in earlier.files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.staging.path}/{one.name}")
        for name in (STDOUT_NAME, STDERR_NAME):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.staging.path}/{name}")
        return False

    def note_dynamic(self, entries: list[InputEntry]) -> None:
        """Remember requirements that `run()` yielded."""
        self._dynamic += entries

    def finish(self) -> Finished:
        """Seal the outputs, and return what is ready to be published.

        Raises:
            TaskFailed: when the outputs are not there or not fit to be published.
            IdentityChanged: when an input file changed while the task ran.
        """
        from nectar.recording.provenance import provenance  # late: only who makes something asks where it was made

        work = self.work
        with _disk(work.subject):
            files = seal(self.staging.path, work.outputs, work.subject, unhashed_above=work.store.hashes_above)
        work.still_valid()
        record = Record(
            address=work.address,
            output_id=work.identity.output_id,
            identity=work.document,
            files=files,
            started_at=self._started_at,
            ended_at=records.utc_now(),
            attempt=self.staging.attempt,
            attempt_number=1 + self._failed_before(),
            run_id=self._run.id,
            inputs=work.inputs,
            dynamic=tuple(self._dynamic),
            outputs=work.outputs,
            foreign=tuple(map(redacted, work.foreign)),
            code=work.code,
            provenance=provenance(settings.current().root),
            tags=self._run.tags,
            reused_from=self._earlier.address.path if self._earlier is not None else None,
            metrics=self._earlier.metrics if self._earlier is not None else self._metrics,
        )
        return Finished(self.staging, record, work.replaces, work.outputs, None if self._dynamic else work.recipe)

    def published(self, commitment: Commitment) -> Outcome:
        """Return how the attempt ended, now that the store has published it, or another one before it."""
        if not commitment.won:
            log.info("another attempt had made %s first: its target stays", self.work.subject)
        reused_from = commitment.record.reused_from if commitment.won else None
        return Outcome(self.staging.attempt, commitment.won, f"{self.work.address}/log", reused_from=reused_from)

    def _failed_before(self) -> int:
        if not self.tried:
            return 0
        return len(self.work.store.reader(self.work.address).attempts(staged=False))

    def fail(self, error: BaseException) -> Outcome:
        """Write the traceback into the log and keep the logs.

        Raises:
            StoreUnreachable: when the store cannot be written.
        """
        text = redacted(_text_of(error))
        last_line = text.strip().splitlines()[-1]
        document = {
            "path": self.work.address.path,
            "attempt": self.staging.attempt,
            "run_id": self._run.id,
            "started_at": self._started_at.isoformat(),
            "ended_at": records.utc_now().isoformat(),
            "error": last_line,
        }
        with contextlib.suppress(OSError):  # a full disk must not hide why the task failed
            with open(f"{self.staging.path}/{STDERR_NAME}", "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            _write(f"{self.staging.path}/{ATTEMPT_NAME}", records.json_lines(document))
        place = self.work.store.abandon(self.staging, keep_logs=True)
        log.info("logs of the failed attempt at %s: %s/%s", self.work.subject, self.work.store.url, place)
        return Outcome(self.staging.attempt, False, place and f"{place}/log", last_line)

    def drop(self) -> None:
        """End the attempt without a trace: it did not fail, it has to start anew.

        Raises:
            StoreUnreachable: when the store cannot be written.
        """
        self.work.store.abandon(self.staging, keep_logs=False)


@contextlib.contextmanager
def _disk(subject: str) -> Iterator[None]:
    """Say of an error of the disk whose attempt it struck."""
    try:
        yield
    except OSError as error:
        raise errors.StoreUnreachable(
            f"the place of an attempt at `{subject}` cannot be read or written: "
            f"{os.strerror(error.errno or 0).lower()}",
            hint="look at the disk that holds the store, and at the limit of open files (`ulimit -n`)",
        ) from error


def _write(path: str, raw: bytes) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(redacted_bytes(raw))


def _text_of(error: BaseException) -> str:
    """Return the traceback from the first frame that is not Nectar's own: where the task's code begins.

    What Nectar itself says of a task with no code of its own on the way needs no traceback.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    if trace is None and isinstance(error, errors.NectarError):
        return "".join(traceback.format_exception_only(type(error), error))
    return "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))
