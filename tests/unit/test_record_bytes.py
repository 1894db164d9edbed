"""A record is read as it was written, in our layout and in any other of the same JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nectar import errors
from nectar.address import Address
from nectar.records import FileEntry, InputEntry, Record, json_lines, parse

ADDRESS = Address("chains/etl/a_chain/ATask", "0" * 32)
NOW = datetime(2026, 11, 20, tzinfo=timezone.utc)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(texts, values, max_size=5)
inputs = st.dictionaries(
    texts, st.builds(InputEntry, texts, texts, texts, st.none() | st.dictionaries(texts, texts, max_size=2)), max_size=4
)


def record(**more: Any) -> Record:
    made = Record(
        address=ADDRESS,
        output_id="0" * 64,
        identity={"task": "chains.etl.a_chain.ATask", "params": {}},
        files=(FileEntry("out.txt", "out.txt", 3, "f" * 64),),
        started_at=NOW,
        ended_at=NOW,
        attempt="a",
        outputs=("out.txt",),
    )
    return replace(made, **more)


@given(documents)
def test_a_document_is_read_as_it_was_written(document: dict[str, Any]) -> None:
    assert json.loads(json_lines(document)) == document


def test_an_empty_document_is_one_too() -> None:
    assert json.loads(json_lines({})) == {}


@given(documents, inputs, documents)
def test_a_record_is_read_as_it_was_written(
    identity: dict[str, Any], entries: dict[str, InputEntry], provenance: dict[str, Any]
) -> None:
    made = record(identity=identity, inputs=entries, provenance=provenance)
    raw = made.to_bytes()
    assert json.loads(raw) == made.to_json()
    assert parse(raw, ADDRESS) == made


@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000])
def test_a_record_with_many_inputs_is_read_as_it_was_written(count: int) -> None:
    entry = InputEntry("\ud800", "path", None, {"out.txt": "0" * 64})
    made = record(inputs={f"é{number}": entry for number in range(count)}, tags={"a": "b"})
    assert json.loads(made.to_bytes().decode("utf-8", "surrogatepass")) == made.to_json()
    assert parse(made.to_bytes(), ADDRESS) == made


@given(documents, documents, st.sampled_from([None, 0, 1, 2]), st.booleans())
def test_another_layout_of_the_same_json_is_read_alike(
    identity: dict[str, Any], provenance: dict[str, Any], indent: int | None, turned: bool
) -> None:
    made = record(identity=identity, provenance=provenance)
    members = list(made.to_json().items())
    document = dict(reversed(members)) if turned else dict(members)
    assert parse(json.dumps(document, indent=indent).encode(), ADDRESS) == made


@pytest.mark.parametrize("tail", [b"x", b"}", b",", b'{"schema": 1}'])
def test_what_follows_a_record_makes_it_none(tail: bytes) -> None:
    with pytest.raises(errors.RecordInvalid):
        parse(record().to_bytes() + tail, ADDRESS)


@pytest.mark.parametrize("cut", [1, 2, 3, 10, 40, 200])
def test_a_record_that_was_cut_is_none(cut: int) -> None:
    with pytest.raises(errors.RecordInvalid):
        parse(record(provenance={"host": "here", "versions": {"python": "3"}}).to_bytes()[: -cut - 1], ADDRESS)


def test_records_that_have_their_ends_in_common_keep_what_is_their_own() -> None:
    made = [record(output_id=digit * 64, identity={"params": {"n": digit}}, reused_from=None) for digit in "123"]
    other = record(outputs=("out.txt", "b.txt"), tags={"env": "dev"}, run_id="r", adopted=True, code={"digest": "d"})
    for one in (*made, other, *made):
        assert parse(one.to_bytes(), ADDRESS) == one


END = b',\n "outputs": ["out.txt"],'


@pytest.mark.parametrize(
    "end",
    [
        b',\n "outputs": {"out.txt": 1, "x": 2}, "x": 1,',
        b',\n "outputs": 7,',
        b',\n "outputs": [7],',
        b',\n "outputs": null,',
        b",",
    ],
)
def test_an_end_that_misstates_something_makes_no_record_and_hides_no_newer_one(end: bytes) -> None:
    raw = record().to_bytes()
    assert END in raw
    if b'"x"' not in end:
        with pytest.raises(errors.RecordInvalid, match="lacks or misstates"):
            parse(raw.replace(END, end), ADDRESS)
    newer = raw.replace(b'"schema": 1', b'"schema": 2').replace(END, end)
    with pytest.raises(errors.RecordNewer):
        parse(newer, ADDRESS)


def test_what_an_end_says_again_counts_as_in_any_json() -> None:
    made = record(output_id="1" * 64)
    raw = made.to_bytes().replace(END, END + b' "output_id": "%s",' % (b"2" * 64))
    assert parse(raw, ADDRESS) == record(output_id="2" * 64)
    raw = made.to_bytes().replace(b'"files":', b'"outputs": ["none.txt"], "files":')
    assert parse(raw, ADDRESS) == made


@given(documents)
def test_metrics_are_read_as_they_were_written_and_an_older_record_has_none(metrics: dict[str, Any]) -> None:
    made = record(metrics=metrics)
    assert parse(made.to_bytes(), ADDRESS) == made
    older = {name: value for name, value in json.loads(made.to_bytes()).items() if name != "metrics"}
    assert parse(json.dumps(older).encode(), ADDRESS).metrics == {}
