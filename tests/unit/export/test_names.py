"""Names that every engine takes."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from nectar.export.names import LONGEST, slug, unique_names

VALID = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@given(st.dictionaries(st.text(), st.text(), min_size=1))
def test_names_are_valid_short_and_no_two_the_same(titles):
    names = unique_names(titles)
    assert names.keys() == titles.keys()
    assert len(set(names.values())) == len(titles)
    for name in names.values():
        assert VALID.fullmatch(name) and len(name) <= LONGEST


def test_a_name_reads_like_its_title():
    assert slug("LoadTask day 3") == "load-task-day-3"
    assert slug("step parameters") == "step-parameters"
    assert slug("Größe") == "gro-e" or slug("Größe") == "groe"
    assert slug("日本") == "node"


def test_a_name_does_not_depend_on_the_order_of_the_others():
    titles = {"one": "a b", "two": "a-b", "three": "c"}
    turned = dict(reversed(titles.items()))
    assert unique_names(titles) == unique_names(turned)
    assert unique_names(titles)["three"] == "c"


def test_a_name_that_looks_like_anothers_with_digits_is_still_its_own():
    taken = unique_names({"x": "a b", "y": "a-b"})["x"]
    names = unique_names({"x": "a b", "y": "a-b", "z": taken})
    assert len(set(names.values())) == 3
