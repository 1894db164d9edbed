"""A line of a journal: short enough, whole, and told from everything that is none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nectar.runs import lines
from nectar.runs.lines import LINE_LIMIT, decode, encode

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def line_of(body: str, number: int = 1) -> bytes:
    """Return a line with the members of a JSON object."""
    return lines.head("run-one") + b'1-a","number":%d,"at":5,"kind":"note",' % number + body[1:].encode("ascii") + b"\n"


@given(JSON)
def test_what_is_json_comes_back_as_it_was(value: object) -> None:
    read = decode(line_of(encode({"detail": value}, LINE_LIMIT)), "run-one")
    assert read is not None and read.body == {"detail": value}
    assert (read.writer, read.number, read.at, read.kind, read.task) == ("1-a", 1, 5, "note", None)


@given(st.lists(st.text(max_size=200), max_size=20), st.integers(300, 2000))
def test_a_line_is_never_longer_than_there_is_room(texts: list[str], room: int) -> None:
    written = encode({"detail": {str(number): text * 9 for number, text in enumerate(texts)}}, room)
    assert len(written) <= room
    assert written.isascii() and isinstance(json.loads(written), dict)


def test_of_a_long_text_head_and_tail_are_kept() -> None:
    written = encode({"detail": {"text": "head" + "x" * 10**6 + "tail", "short": "kept"}}, LINE_LIMIT)
    text = json.loads(written)["detail"]["text"]
    assert text.startswith("head") and text.endswith("tail") and "991,816 characters left out" in text
    assert json.loads(written)["detail"]["short"] == "kept"


@pytest.mark.parametrize(
    "value",
    [["x"] * 10**6, {str(n): n for n in range(10**5)}, "\ud800" * 10**5, [[["x" * 50] * 50] * 50] * 50, 10**9000],
    ids=["list", "mapping", "escapes", "nested", "number"],
)
def test_whatever_is_large_still_makes_a_line(value: object) -> None:
    written = encode({"step": {"ref": "a", "status": "failed", "error": value}, "kind": "step ended"}, LINE_LIMIT)
    assert len(written) <= LINE_LIMIT
    document = json.loads(written)
    assert document["step"]["ref"] == "a" and document["kind"] == "step ended"


class Hostile:
    """An object that fails whoever looks at it."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Odd(Mapping[object, object]):
    """A mapping that json does not know."""

    def __getitem__(self, key: object) -> object:
        return 1

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(["a"])

    def __len__(self) -> int:
        return 1


CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)


ODD = [Hostile(), {Hostile(): 1}, CIRCLE, {1, 2}, b"x", math.nan, [math.inf], Odd(), 10**5000, {(1, 2): object()}]


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_what_json_does_not_have_is_described_and_never_raises(value: object) -> None:
    written = encode({"detail": value}, LINE_LIMIT)
    read = decode(line_of(written), "run-one")
    assert read is not None and "detail" in read.body


@given(st.binary(max_size=300))
def test_bytes_that_are_no_line_are_none(raw: bytes) -> None:
    assert decode(raw, "run-one") is None


@given(st.integers(0, 200))
def test_a_line_that_was_glued_to_a_part_of_another_is_found(cut: int) -> None:
    half = line_of(encode({"detail": {"text": "a" * 100}}, LINE_LIMIT))[:cut].rstrip(b"\n")
    whole = line_of(encode({"detail": 'it says {"run":"run-one","writer":"'}, LINE_LIMIT), number=2)
    read = decode(half + whole, "run-one")
    assert read is not None and read.number == 2


@pytest.mark.parametrize("text", ["plain", "ünï", "\0", "\ud800", "a\0b\udfffc"])
def test_storable_text_is_utf_8_without_zeros(text: str) -> None:
    stored = lines.storable(text)
    assert "\0" not in stored and stored.encode("utf-8")
    assert stored == text or not text.isprintable()
