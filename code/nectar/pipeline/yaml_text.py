"""Read one YAML document strictly: plain values that JSON has, each with its line, and nothing that hides another.

Tags, anchors, aliases, merge keys, several documents, keys that are there twice or are no text, and more than
`MOST_LEVELS` levels are faults. Reading goes on after a fault as far as it can, so that all are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import yaml

from nectar.pipeline import scalars
from nectar.pipeline.faults import Faults, quoted

MOST_LEVELS = 64  #: of mappings and lists in each other
MOST_UNREADABLE = 20  #: characters that are told of
MOST_REPLACED = 16 * 2**20  #: characters of all scalars together, when variables are in their places

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # only its parser is used: no event is made an object
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
NO_TEXT = re.compile("[\x00\ud800-\udfff]")  # what an escape may hide
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # as YAML counts lines


@dataclass(frozen=True, slots=True)
class Part:
    """A value of a document with its place."""

    value: Any  #: None, bool, int, float, str, or a list or mapping of these
    line: int  #: of its key, or its own where it has none, from 1; 0 where lines are not known
    broken: bool = False  #: it has a fault already, and what it would be is not known
    members: Mapping[str, Part] = field(default_factory=dict)  #: of a mapping
    items: Sequence[Part] = ()  #: of a list


@dataclass(slots=True)
class _Open:
    """A mapping or a list whose end was not seen yet."""

    value: dict[str, Any] | list[Any]
    line: int
    broken: bool = False
    members: dict[str, Part] = field(default_factory=dict)
    items: list[Part] = field(default_factory=list)
    key: str | None = None  #: whose value comes next
    key_line: int = 0
    expects_value: bool = False

    def closed(self) -> Part:
        return Part(self.value, self.line, self.broken, self.members, self.items)


def decoded(raw: bytes, faults: Faults, most_bytes: int) -> str | None:
    """Return the text of a file, None where it has faults: size, encoding, characters that no text has."""
    if len(raw) > most_bytes:
        faults.add(None, f"the file has {len(raw):,} bytes, more than {most_bytes:,}", "make it smaller")
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        faults.add(raw.count(b"\n", 0, error.start) + 1, "here is a byte that is no UTF-8", "save the file as UTF-8")
        return None
    for found in islice(_UNREADABLE.finditer(text), MOST_UNREADABLE):
        code = ord(found[0])
        name = "a NUL" if not code else f"the character U+{code:04X}"
        faults.add(_line_at(text, found.start()), f"here is {name}, which no text has", "remove it")
    return None if faults else text


def _line_at(text: str, place: int) -> int:
    return 1 + sum(1 for _ in _LINE_END.finditer(text, 0, place))


def parsed(text: str, variables: Mapping[str, str], faults: Faults, *, typed: bool = True) -> Part | None:
    """Return the document of a text in which `decoded` found no fault, with variables in their places.

    Where it is not `typed`, every scalar is the text that stands there. Faults are added to `faults`. None where the
    text ends, or is no YAML any more, before its document is whole.
    """
    reader = _Reader(variables, faults, typed=typed)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if not reader.take(event):
                break
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "it cannot be understood"
        faults.add(mark.line + 1 if mark else None, f"this is no YAML: {problem}", _advice(text, mark))
        return None
    except yaml.YAMLError as error:  # a character that only this parser does not read
        faults.add(None, f"this is no YAML: {str(error).splitlines()[0]}")
        return None
    if reader.root is None and not faults:
        return Part(None, 1)
    return reader.root


def _advice(text: str, mark: Any) -> str:
    lines = _LINE_END.split(text)
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "indent with spaces"
    if "${" in line:
        return "within `{}` and `[]` nothing begins with `${`: write each key on a line of its own"
    return "a text with `: `, ` #` or quotes in it is to be quoted as a whole"


class _Reader:
    """Makes a tree of a parser's events, with a stack of its own: no depth of a file is that of a call."""

    def __init__(self, variables: Mapping[str, str], faults: Faults, *, typed: bool) -> None:
        self.root: Part | None = None
        self._variables = variables
        self._faults = faults
        self._typed = typed
        self._open: list[_Open] = []
        self._documents = 0
        self._characters = 0

    def take(self, event: Any) -> bool:
        """Take the next event; False: no further one is wanted."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            return self._begin(event, line)
        if isinstance(event, yaml.NodeEvent):
            self._refuse_marks(event, line)
        if isinstance(event, yaml.AliasEvent):
            self._faults.add(line, f"here is the alias {quoted('*' + event.anchor)}", "write out what it stands for")
            self._place(Part(None, line, broken=True), plain=True)
        elif isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            return self._enter(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._place(self._open.pop().closed(), plain=False)
        return True

    def _begin(self, event: Any, line: int) -> bool:
        self._documents += 1
        if event.version not in (None, (1, 2)):
            self._faults.add(line, "the file wants another YAML than 1.2", "leave out the line `%YAML`")
        if event.tags:
            self._faults.add(line, "the file has a `%TAG`", "leave it out: no tag is read")
        if self._documents > 1:
            self._faults.add(line, "a second document begins here", "one file holds one document: remove `---`")
        return self._documents == 1

    def _refuse_marks(self, event: Any, line: int) -> None:
        if getattr(event, "tag", None) is not None:
            self._faults.add(
                line, f"here is the tag {quoted(event.tag)}", "leave it out, and quote what is to be a text"
            )
        if event.anchor is not None and not isinstance(event, yaml.AliasEvent):
            self._faults.add(
                line, f"here is the anchor {quoted('&' + event.anchor)}", "leave it out: nothing can refer to it"
            )

    def _enter(self, event: Any, line: int) -> bool:
        if len(self._open) == MOST_LEVELS:
            self._faults.add(line, f"more than {MOST_LEVELS} levels lie in each other here", "make it flatter")
            return False
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._open.append(_Open(value, self._own_line(line), broken=event.tag is not None))
        return True

    def _own_line(self, line: int) -> int:
        """Return the line of the key that what begins now belongs to, its own where there is none."""
        return self._open[-1].key_line if self._open and self._open[-1].expects_value else line

    def _scalar(self, event: Any, line: int) -> bool:
        is_key = bool(self._open) and isinstance(self._open[-1].value, dict) and not self._open[-1].expects_value
        text = event.value if is_key else scalars.replaced(event.value, self._variables)
        self._characters += len(text)
        if self._characters > MOST_REPLACED:
            self._faults.add(line, f"with its variables the file has more than {MOST_REPLACED:,} characters")
            return False
        plain, value, broken = event.implicit[0], text, event.tag is not None
        try:
            value = scalars.resolved(text) if plain and self._typed and not broken else text
        except scalars.Refused as refused:
            self._faults.add(line, str(refused), "quote it to make it a text")
            broken = True
        if NO_TEXT.search(text):  # written as an escape
            self._faults.add(line, "here is a text with a NUL or half a character in it", "leave it out")
            broken = True
        if is_key and not isinstance(value, str):
            self._faults.add(line, f"the key {quoted(text)} is no text", f"quote it: `'{text}'`")
            value = text
        self._place(Part(value, self._own_line(line), broken), plain=plain)
        return True

    def _place(self, part: Part, *, plain: bool) -> None:
        """Put a part into the list, or under its key into the mapping, that is open; or make it a key."""
        if not self._open:
            self.root = part
            return
        inner = self._open[-1]
        if isinstance(inner.value, list):
            inner.value.append(part.value)
            inner.items.append(part)
        elif inner.expects_value:
            inner.expects_value = False
            if inner.key is not None:
                inner.value[inner.key] = part.value
                inner.members[inner.key] = part
        else:
            inner.expects_value, inner.key_line = True, part.line
            inner.key = self._key(inner, part, plain=plain)

    def _key(self, inner: _Open, part: Part, *, plain: bool) -> str | None:
        """Return the key that a part is, None where what follows is to be left out."""
        if not isinstance(part.value, str):
            if not part.broken:
                self._faults.add(part.line, "a key is no text but a list or a mapping", "a key is one text")
            inner.broken = True
            return None
        if part.value == "<<" and plain:
            self._faults.add(part.line, "here is the merge key `<<`", "write out what it stands for")
            inner.broken = True
            return None
        first = inner.members.get(part.value)
        if first is not None:
            message = f"the key {quoted(part.value)} is there twice, first in line {first.line}"
            self._faults.add(part.line, message, "keep one of them")
            return None
        return part.value
