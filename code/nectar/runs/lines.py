"""The lines of a journal: one JSON object each, complete in itself, counted once however often it is read.

    {"run":"<id>","writer":"<pid>-<token>","number":7,"at":1795204800000000,"kind":"step ended","task":"...",...}

| member | what it is |
|---|---|
| `run` | the run's id, which is the file's name as well |
| `writer`, `number` | who wrote it, and its how-manieth line it is, from 1: together they name the line |
| `at` | microseconds since 1970, UTC |
| `kind`, `task` | text; the task may be missing |
| `created` | of the line that creates the run: `{"new": ..., "state": ..., "process": ...}` |
| `state` | of one that says where it stands: `{"state": ..., "error": ..., "process": ...}` |
| `step`, `attempt` | of one that says what became of a step or an attempt: the members of `Step` and `Attempt` |
| `detail` | of any other: a JSON value |

A line ends with a line feed, has only ASCII, and is at most 64 KiB; longer texts are cut in the middle. A disk that was
full may leave half a line, to which the next one is glued: since each begins in the same way, it is found again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from nectar.json_text import make_encode
from nectar.runs.values import LAST_MOMENT, RunState

LINE_LIMIT = 64 * 1024  #: bytes, with the line feed

RUN_CREATED = "run created"
RUN_STATE = "run state"
STEP_STARTED = "step started"
STEP_ENDED = "step ended"
ATTEMPT_STARTED = "attempt started"
ATTEMPT_ENDED = "attempt ended"
LINES_LOST = "lines lost"

RUNNING = "running"  #: the status of a step that has not ended

_MARK = " ... [{} characters left out] ... "
_CUTS = ((8192, 10**9), (1024, 10**9), (256, 256), (64, 32), (16, 8))  # length of texts, number of members
_DEEPEST = 12
_encode = make_encode(compact=True, nan=False)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a journal, as it was read."""

    writer: str
    number: int
    at: int  #: microseconds since 1970
    kind: str
    task: str | None
    body: Mapping[str, Any]  #: at most one of `created`, `state`, `step`, `attempt`, `detail`


def head(run_id: str) -> bytes:
    """Return how every line of a run begins."""
    return b'{"run":"' + run_id.encode("ascii") + b'","writer":"'


def encode(body: Mapping[str, Any], room: int) -> str:
    """Return a mapping as JSON of ASCII characters, at most `room` of them: long texts are cut.

    What JSON does not have is written as its `repr`.
    """
    try:
        text = _encode(body)
    except (TypeError, ValueError, RecursionError):
        text = _encode(_plain(body, _DEEPEST))
    if len(text) <= room:
        return text
    plain = _plain(body, _DEEPEST)
    for longest, members in _CUTS:
        text = _encode(_cut(plain, longest, members))
        if len(text) <= room:
            return text
    return _encode({name: f"{len(text)} characters left out" for name in list(body)[:1]})


def decode(raw: bytes, run_id: str) -> Line | None:
    """Return the line that these bytes hold, None where they hold none that is whole.

    Nothing of a journal is trusted: it is as old as the process that wrote it, and lies on a disk.
    """
    line = _line(raw, run_id)
    if line is None:
        begin = raw.rfind(head(run_id))  # the text of a line cannot have its quotes
        line = _line(raw[begin:], run_id) if begin > 0 else None
    return line


def _line(raw: bytes, run_id: str) -> Line | None:
    try:
        document = json.loads(raw, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.pop("run", None) != run_id:
        return None
    writer, number, at = (document.pop(name, None) for name in ("writer", "number", "at"))
    kind, task = document.pop("kind", None), document.pop("task", None)
    counted = _is_count(number) and _is_count(at) and number <= LAST_MOMENT and at <= LAST_MOMENT
    named = isinstance(writer, str) and 0 < len(writer) <= 100 and isinstance(kind, str)
    if not (counted and named and (task is None or isinstance(task, str))):
        return None
    return Line(storable(writer), number, at, storable(kind), None if task is None else storable(task), document)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def state_of(document: object) -> RunState | None:
    """Return the state that the body of a line names, None where it names none."""
    try:
        return RunState(document["state"])  # type: ignore[index]
    except (TypeError, LookupError, ValueError):
        return None


def storable(text: str) -> str:
    """Return a text without what no database holds: lone surrogates, and the character zero."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def shortened(text: str, longest: int) -> str:
    """Return head and tail of a text that is longer than `longest`, with a word about what is left out between."""
    if len(text) <= longest:
        return text
    kept = longest // 2
    return text[:kept] + _MARK.format(f"{len(text) - 2 * kept:,}") + text[-kept:]


def _cut(value: Any, longest: int, members: int) -> Any:
    if isinstance(value, str):
        return shortened(value, longest)
    if isinstance(value, list):
        few = [_cut(item, longest, members) for item in value[:members]]
        return few if len(value) <= members else [*few, f"{len(value) - members:,} more left out"]
    if isinstance(value, dict):
        few_members = list(value.items())[: max(members, 16)]  # a line's own members are never left out
        return {shortened(name, longest): _cut(item, longest, members) for name, item in few_members}
    return value


def _plain(value: object, deepest: int) -> Any:
    """Return a value in the types of JSON; what has no such type is its `repr`."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int) and value.bit_length() < 10_000:  # Python turns no longer ones into digits
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, Mapping) and deepest:
        return {
            name if isinstance(name, str) else _described(name): _plain(item, deepest - 1)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)) and deepest:
        return [_plain(item, deepest - 1) for item in value]
    return _described(value)


def _described(value: object) -> str:
    try:
        return shortened(repr(value), 1024)
    except Exception:  # noqa: BLE001  a user's object may do anything, and a journal never fails a task
        return f"a {type(value).__qualname__}"
