"""What is read of a bencoding: the one spelling of each value, and a clear word for everything else."""

from __future__ import annotations

import contextlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nectar import bencode, errors

values = st.recursive(
    st.integers(-(10**30), 10**30) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)
#: bytes that look like a bencoding until they do not
nearly = st.lists(
    st.sampled_from([b"d", b"l", b"e", b"i", b"0", b"1", b"2", b"-", b":", b"a", b"b", b"\xff", b"1:a", b"i1e"]),
    max_size=14,
).map(b"".join)


@given(values)
def test_what_was_encoded_is_decoded_to_the_same_value(value):
    assert bencode.decode(bencode.encode(value)) == value


@given(nearly | st.binary(max_size=30))
def test_what_can_be_decoded_is_encoded_to_the_same_bytes_and_all_else_is_refused(raw):
    with contextlib.suppress(errors.BencodeInvalid):
        assert bencode.encode(bencode.decode(raw)) == raw


@given(values, st.data())
def test_what_was_cut_off_is_refused_with_the_place(value, data):
    raw = bencode.encode(value)
    short = raw[: data.draw(st.integers(0, len(raw) - 1))]
    with pytest.raises(errors.BencodeInvalid, match=r"^byte \d+ of the bencoding"):
        bencode.decode(short)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", r"byte 0 .*ends before its value"),
        (b"d1:a", r"byte 4 .*ends before"),
        (b"d1:ae", r"byte 4 .*`a` has no value"),
        (b"5:abc", r"byte 0 .*5 bytes is cut off after 3"),
        (b"i1ei2e", r"byte 3 .*3 bytes follow"),
        (b"d1:bi1e1:ai2ee", r"byte 7 .*`a` follows the key `b`"),
        (b"d1:ai1e1:ai2ee", r"byte 7 .*`a` is there twice"),
        (b"di1ei2ee", r"byte 1 .*a key is no text"),
        (b"d1:\xffi2ee", r"byte 1 .*a key is no text"),
        (b"i03e", r"byte 0 .*not written"),
        (b"i-0e", r"byte 0 .*not written"),
        (b"i1", r"byte 0 .*not finished"),
        (b"03:abc", r"byte 0 .*nothing that bencode has"),
        (b"hello", r"byte 0 .*nothing that bencode has"),
        (b"e", r"byte 0 .*nothing that bencode has"),
        (b"i" + b"1" * 5000 + b"e", r"byte 0 .*more than 600 digits"),
        (b"l" * 5000, r"byte 100 .*deeper than 100 levels"),
        (b"d1:a" * 5000, r"byte 400 .*deeper than 100 levels"),
        (b"l" * 5000 + b"e" * 5000, r"byte 100 .*deeper than 100 levels"),
    ],
    ids=lambda value: value[:12].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_what_is_no_bencoding_is_told_by_its_place(raw, fault):
    with pytest.raises(errors.BencodeInvalid, match=fault):
        bencode.decode(raw)


def test_what_is_nested_as_deep_as_is_allowed_is_read_and_written_near_the_end_of_the_stack():
    raw = b"l" * bencode.MOST_LEVELS + b"e" * bencode.MOST_LEVELS

    def deep(frames: int) -> bytes:
        return deep(frames - 1) if frames else bencode.encode(bencode.decode(raw))

    assert deep(sys.getrecursionlimit() // 2) == raw


def test_byte_strings_that_are_no_text_stay_bytes():
    assert bencode.decode(b"l1:\xff2:\xc3\xa4e") == [b"\xff", "ä"]
