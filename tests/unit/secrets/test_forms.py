"""A secret is known in every shape in which programs write texts."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nectar.redaction.forms import forms_of
from nectar.redaction.sieve import Sieve

VALUES = (
    "hunter2",
    'with "double" quotes',
    "with 'single' quotes",
    "with \"both\" 'kinds'",
    "back\\slash\tand tab",
    "p@ss/w:rd+%&=?",
    "gr\u00fcn \u2603 \U0001f512",
    "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----\n",
    " padded ",
    "aaaa",
)
SHAPES = {
    "as it is": lambda value: value,
    "repr": lambda value: repr({"password": value}),
    "repr in a text": lambda value: repr(f'it\'s "{value}"'),
    "repr of bytes": lambda value: repr(b"user:" + value.encode()),
    "ascii": ascii,
    "json": lambda value: json.dumps({"password": value}),
    "json in UTF-8": lambda value: json.dumps([value], ensure_ascii=False),
    "a part of a URL": lambda value: f"postgresql://user:{urllib.parse.quote(value, safe='')}@host/db",
    "a path of a URL": urllib.parse.quote,
    "a query": lambda value: urllib.parse.urlencode({"password": value}),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 for URLs": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_value_is_found_in_every_shape(value: str, shape: str) -> None:
    shown = SHAPES[shape](value)
    assert value not in Sieve(forms_of(value)).mask(shown.encode()).decode()
    assert Sieve(forms_of(value)).finds(shown.encode())


@given(st.text(st.characters(codec="utf-8"), min_size=8, max_size=40), st.binary(max_size=7), st.binary(max_size=7))
def test_no_six_letters_of_a_value_are_left_in_base64_wherever_in_it_the_value_stands(
    value: str, before: bytes, after: bytes
) -> None:
    encoded = base64.b64encode(before + value.encode() + after)
    left = Sieve(forms_of(value)).mask(encoded)
    own = base64.b64encode(b"\0" * (len(before) % 3) + value.encode())
    core = own[4:-4].rstrip(b"=")
    assert len(core) < 6 or core not in left


def test_a_line_of_a_value_counts_by_itself() -> None:
    key = VALUES[7]
    assert Sieve(forms_of(key)).mask(b"error at MIIEvQIBADANBgkq") == b"error at ******"


def test_a_value_that_is_too_short_cannot_be_masked() -> None:
    assert forms_of("abc") == forms_of("") == frozenset()
    assert forms_of("abcd")
