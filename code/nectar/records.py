"""Read and write `record.json`: how a target was made. A target whose record is valid was made, and is complete."""

from __future__ import annotations

import functools
import io
import itertools
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from nectar import errors
from nectar.address import Address
from nectar.json_text import make_encode

SCHEMA = 1
RECORD_NAME = "record.json"
PARAMS_NAME = "params.txt"
ATTEMPT_NAME = "attempt.json"
STDOUT_NAME = "log/stdout.log"
STDERR_NAME = "log/stderr.log"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One output file of a target."""

    name: str  #: as the task calls it
    object: str  #: where its bytes lie, relative to the target
    size: int  #: bytes
    sha256: str  #: 64 hex digits, of its bytes
    etag: str | None = None  #: in S3

    def to_json(self) -> dict[str, Any]:
        """Return the entry as a JSON value."""
        document = {"name": self.name, "object": self.object, "size": self.size, "sha256": self.sha256}
        return document if self.etag is None else {**document, "etag": self.etag}


@dataclass(frozen=True, slots=True)
class InputEntry:
    """What an attempt found of one requirement."""

    task: str
    path: str | None  #: of its target, None where it has none
    output_id: str | None
    files: Mapping[str, str] | None  #: name -> sha256

    def to_json(self) -> dict[str, Any]:
        """Return the entry as a JSON value."""
        return {"task": self.task, "path": self.path, "output_id": self.output_id, "files": self.files}


@dataclass(frozen=True, slots=True)
class Record:
    """How a target was made."""

    address: Address
    output_id: str  #: 64 hex digits
    identity: Mapping[str, Any]  #: in full, so that "why is this stale" is a diff of two identities
    files: tuple[FileEntry, ...]
    started_at: datetime  #: UTC, aware
    ended_at: datetime  #: UTC, aware
    attempt: str
    attempt_number: int = 1  #: from 1; counts the failed ones before it that are still known
    run_id: str | None = None
    inputs: Mapping[str, InputEntry] = field(default_factory=dict)
    dynamic: tuple[InputEntry, ...] = ()  #: requirements that `run()` yielded
    outputs: tuple[str, ...] = ()  #: files that the task declares; there may be more
    foreign: tuple[str, ...] = ()  #: outputs that lie elsewhere
    code: Mapping[str, Any] | None = None  #: `{"digest", "parts"}`
    provenance: Mapping[str, Any] = field(default_factory=dict)  #: host, user, process, git, versions, memory
    tags: Mapping[str, str] = field(default_factory=dict)
    adopted: bool = False  #: True where another tool made the files
    reused_from: str | None = None  #: path of the target whose files these are: its inputs had the same bytes
    places: Mapping[str, str] = field(default_factory=dict)  #: of parameters and logs that do not lie under their names
    metrics: Mapping[str, Any] = field(default_factory=dict)  #: what the task reported of itself, as JSON values

    @property
    def seconds(self) -> float:
        """How long the attempt took."""
        return (self.ended_at - self.started_at).total_seconds()

    def file(self, name: str) -> FileEntry | None:
        """Return the file that the task calls `name`, None where there is none."""
        return next((entry for entry in self.files if entry.name == name), None)

    @property
    def digests(self) -> dict[str, str]:
        """File -> sha256, by the names that the task uses."""
        return {entry.name: entry.sha256 for entry in self.files}

    def unnamed_output(self, outputs: Sequence[str]) -> str | None:
        """Return the first of its own outputs, and of `outputs`, that is not among its files; None: there is none."""
        named = {entry.name for entry in self.files}
        for name in (*self.outputs, *outputs):
            if name not in named:
                return name
        return None

    def to_json(self) -> dict[str, Any]:
        """Return the record as the document that is written."""
        document = self._members()
        document["inputs"] = {path: entry.to_json() for path, entry in self.inputs.items()}
        return document

    def _members(self) -> dict[str, Any]:
        """Return the document, its inputs as they are: of a task that requires 100,000 they are the most of it."""
        document: dict[str, Any] = {"schema": SCHEMA, "path": self.address.path, "key": self.address.key}
        document["output_id"] = self.output_id
        document["identity"] = self.identity
        document["files"] = [entry.to_json() for entry in self.files]
        if self.places:
            document["places"] = dict(self.places)
        document["inputs"] = self.inputs
        document["dynamic"] = [entry.to_json() for entry in self.dynamic]
        document["started_at"] = _time_text(self.started_at)
        document["ended_at"] = _time_text(self.ended_at)
        document["seconds"] = round(self.seconds, 6)
        document["attempt"] = {"id": self.attempt, "number": self.attempt_number}
        if self.reused_from is not None:
            document["reused_from"] = self.reused_from
        if self.metrics:
            document["metrics"] = dict(self.metrics)
        # From here on it says what the records of many tasks have in common: see `_Common`.
        document["outputs"] = list(self.outputs)
        document["foreign"] = list(self.foreign)
        document["code"] = self.code
        document["run_id"] = self.run_id
        document["tags"] = dict(self.tags)
        document["adopted"] = self.adopted
        document["provenance"] = self.provenance
        return document

    def to_bytes(self) -> bytes:
        """Return the bytes of `record.json`."""
        return json_lines(self._members())


def json_lines(document: Mapping[str, Any]) -> bytes:
    """Return a JSON object with each member on a line of its own: as good to read as indented, at a fifth of the cost.

    Python's fast encoder knows no indentation.
    """
    parts, before = ["{"], ""
    written = io.BytesIO()
    for name, value in document.items():
        parts.append(before + _NAMES[name])
        before = ","
        if type(value) is dict and value and isinstance(next(iter(value.values())), InputEntry):
            for some in _pieces(value):  # a long document is in memory once
                parts.append(some)
                written.write("".join(parts).encode("utf-8", "surrogatepass"))
                parts.clear()
        else:
            parts.append(_encode(value))
    parts.append("\n}\n")
    written.write("".join(parts).encode("utf-8", "surrogatepass"))
    return written.getvalue()


def _pieces(entries: Mapping[str, InputEntry]) -> Iterator[str]:
    """Yield the text of many entries, some at a time."""
    items, before = iter(entries.items()), "{"
    while some := list(itertools.islice(items, 256)):
        listed = [f"{_encode_text(name)}: {_encode_tree(entry.to_json())}" for name, entry in some]
        yield before + ", ".join(listed)
        before = ", "
    yield "}"


class _Names(dict[str, str]):
    """How each member's line begins."""

    def __missing__(self, name: str) -> str:
        self[name] = text = f"\n {_encode_text(name)}: "
        return text


_NAMES = _Names()
_encode_text = json.encoder.encode_basestring
_encode_tree = make_encode(ascii_only=False)


class Encoded(dict[str, Any]):
    """A JSON object that is written again and again as it is, and keeps its text."""

    text: str

    def __init__(self, members: Mapping[str, Any]) -> None:
        super().__init__(members)
        self.text = _encode_tree(members)


def _encode(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _encode_text(value)
    if kind is Encoded:
        return str(value.text)
    if kind is int:
        return str(value)
    if value or kind is float or kind not in _EMPTY:
        return _encode_tree(value)
    return _EMPTY[kind]


_EMPTY = {dict: "{}", list: "[]", bool: "false", type(None): "null"}


_decode = json.JSONDecoder().raw_decode  # without what `loads` does around it
_COMMON = ',\n "outputs": '
_IN_COMMON = frozenset({"outputs", "foreign", "code", "run_id", "tags", "adopted", "provenance"})


@dataclass(frozen=True, slots=True)
class _Common:
    """What thousands of records have in common: those of one class, made by one process. It is read once.

    It is about half of a record, and records end with it.
    """

    outputs: tuple[str, ...]
    foreign: tuple[str, ...]
    code: Mapping[str, Any] | None
    run_id: str | None
    tags: Mapping[str, str]
    adopted: bool
    provenance: Mapping[str, Any]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> _Common:
        return cls(
            outputs=tuple(map(_text, document["outputs"])),
            foreign=tuple(map(_text, document["foreign"])),
            code=document.get("code"),
            run_id=document.get("run_id"),
            tags=dict(document["tags"]),
            adopted=bool(document["adopted"]),
            provenance=dict(document["provenance"]),
        )


def _read(text: str) -> tuple[Any, _Common | None]:
    """Return the value of a JSON text without blanks around it, and what it has in common with others.

    What is laid out otherwise than `Record.to_bytes` does it, or misstates something, is returned as a whole.
    """
    head, mark, rest = text.rpartition(_COMMON)
    if mark:
        try:
            common = _read_common(rest)
            document, end = _decode(f"{head}}}")
        except (ValueError, LookupError, TypeError, AttributeError):  # another's layout, or no JSON at all
            pass
        else:
            if end == len(head) + 1:
                return document, common
    document, end = _decode(text)
    if end != len(text):
        raise ValueError("something follows the record")
    return document, None


@functools.lru_cache(maxsize=256)
def _read_common(rest: str) -> _Common:
    text = f'{{"outputs": {rest}'
    document, end = _decode(text)
    if end != len(text) or document.keys() != _IN_COMMON:
        raise ValueError("it is not what records have in common")
    return _Common.from_json(document)


def parse(raw: bytes, address: Address) -> Record:
    """Return the record that `raw` holds.

    Raises:
        RecordInvalid: when it is empty, no JSON, of another target, or lacks what it must have.
        RecordNewer: when a newer Nectar wrote it.
    """
    hint = "the next run makes this target again and keeps what is there under `.quarantine`"
    raw = raw.strip()
    if not raw:
        raise errors.RecordInvalid(f"the record of `{address}` is empty", hint=hint)
    try:
        document, common = _read(raw.decode("utf-8", "surrogatepass"))
        schema = document["schema"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise errors.RecordInvalid(f"the record of `{address}` is not a record", hint=hint) from error
    if type(schema) is not int or schema < 1:
        raise errors.RecordInvalid(f"the record of `{address}` has the schema `{schema}`", hint=hint)
    if schema > SCHEMA:
        raise errors.RecordNewer(
            f"the record of `{address}` has schema {schema}, this version reads up to {SCHEMA}",
            hint="update Nectar: a newer one made this target, and it is left as it is",
        )
    try:
        record = _from_json(document, common or _Common.from_json(document), address)
    except (ValueError, LookupError, TypeError, AttributeError, errors.UsageError, errors.UnsafePath) as error:
        raise errors.RecordInvalid(f"the record of `{address}` lacks or misstates {error}", hint=hint) from error
    if record.address != address:
        raise errors.RecordInvalid(f"the record of `{address}` is that of `{record.address}`", hint=hint)
    return record


def _from_json(document: dict[str, Any], common: _Common, expected: Address) -> Record:
    attempt, inputs, dynamic, places = (
        document["attempt"],
        document["inputs"],
        document["dynamic"],
        document.get("places"),
    )
    path = _text(document["path"])
    return Record(
        address=expected if path == expected.path else Address.parse(path),
        output_id=_text(document["output_id"]),
        identity=dict(document["identity"]),
        files=tuple(map(_file, document["files"])),
        started_at=datetime.fromisoformat(document["started_at"]),
        ended_at=datetime.fromisoformat(document["ended_at"]),
        attempt=_text(attempt["id"]),
        attempt_number=int(attempt["number"]),
        run_id=common.run_id,
        inputs={path: InputEntry(**entry) for path, entry in inputs.items()},
        dynamic=tuple([InputEntry(**entry) for entry in dynamic]),
        outputs=common.outputs,
        foreign=common.foreign,
        code=common.code,
        provenance=common.provenance,
        tags=common.tags,
        adopted=common.adopted,
        reused_from=document.get("reused_from"),
        places={_place(name): _place(place) for name, place in places.items()} if places else {},
        metrics=dict(document.get("metrics") or {}),
    )


def _file(entry: Mapping[str, Any]) -> FileEntry:
    size, name, place = entry["size"], _place(entry["name"]), entry["object"]
    if type(size) is not int or size < 0:
        raise ValueError(f"the size of `{name}`")
    return FileEntry(name, name if place == name else _place(place), size, _text(entry["sha256"]), entry.get("etag"))


def _place(value: object) -> str:
    place = _text(value)
    if not place or place[0] == "/" or (".." in place and ".." in place.split("/")) or "\0" in place:
        raise ValueError(f"the place `{place}`")
    return place


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text (`{value!r}`)")
    return value


def new_attempt_id(address: Address, now: datetime) -> str:
    """Return a new attempt's name: sorts by time, tells its target, and no two are equal."""
    return f"{now:%Y%m%dT%H%M%S%f}-{address.key}-{secrets.token_hex(3)}"


def attempt_key(attempt: str) -> str | None:
    """Return the key of the target that an attempt's name tells of, None for what is no attempt's name."""
    parts = attempt.split("-")
    return parts[1] if len(parts) == 3 else None


def utc_now() -> datetime:
    """Return the time now, aware, in UTC."""
    return datetime.now(timezone.utc)


def _time_text(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")
