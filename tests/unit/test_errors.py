"""Errors as values: what other processes are told of them."""

from __future__ import annotations

import json

import pytest

from nectar import errors
from nectar.errors import NectarError, ParameterProblem


def all_kinds(kind: type[NectarError] = NectarError) -> list[type[NectarError]]:
    return [kind] + [one for below in kind.__subclasses__() for one in all_kinds(below)]


@pytest.mark.parametrize("kind", all_kinds(), ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_after_a_journey_as_json(kind: type[NectarError]) -> None:
    error = kind("`x` is odd", hint="make it even")
    back = errors.from_json(json.loads(json.dumps(error.to_json())))
    assert type(back) is kind
    assert (back.message, back.hint) == ("`x` is odd", "make it even")


def test_no_two_kinds_of_error_have_one_code() -> None:
    codes = [kind.code for kind in all_kinds()]
    assert len(codes) == len(set(codes))


def test_every_bad_parameter_comes_along() -> None:
    problems = [ParameterProblem("n", "`n` is odd", "make it even"), ParameterProblem("m", "`m` is missing")]
    error = errors.InvalidParameters("two things", problems=problems)
    back = errors.from_json(json.loads(json.dumps(error.to_json())))
    assert isinstance(back, errors.InvalidParameters)
    assert [(one.field, one.message, one.hint) for one in back.problems] == [
        ("n", "`n` is odd", "make it even"),
        ("m", "`m` is missing", None),
    ]


def test_an_error_of_a_kind_that_nobody_knows_is_an_error_all_the_same() -> None:
    back = errors.from_json({"code": "from-the-future", "message": "it is new", "hint": None})
    assert type(back) is NectarError and back.message == "it is new"
