"""Canonical forms: each value of every luigi parameter has one, and no two values share one."""

from __future__ import annotations

import ast
import datetime
import enum
import math
import pathlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from fractions import Fraction
from typing import Any

import luigi
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from luigi import date_interval
from luigi.parameter import ParameterVisibility

import nectar
from nectar import errors
from nectar.parameters import MASK, canonical, is_private, parse_texts, private_digest, shown


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class SomeTask(nectar.Task):
    pass


class OtherTask(nectar.Task):
    pass


class WordsParameter(luigi.Parameter):
    """A user's own parameter, whose value is a set."""

    def parse(self, text: str) -> Any:
        return frozenset(text.split(",")) if text else frozenset()

    def serialize(self, value: Any) -> str:
        return ",".join(value)


class LiteralParameter(luigi.Parameter):
    """A user's own parameter, whose value is anything that Python can write."""

    def parse(self, text: str) -> Any:
        return ast.literal_eval(text)

    def serialize(self, value: Any) -> str:
        return repr(value)


NUMBERS = st.integers() | st.floats(allow_nan=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
DATES = st.dates(min_value=datetime.date(1000, 1, 1))
TIMES = st.datetimes(min_value=datetime.datetime.fromisoformat("1000-01-01"))
INTERVALS = st.one_of(
    st.builds(date_interval.Date.from_date, DATES),
    st.builds(date_interval.Month, st.integers(1000, 2999), st.integers(1, 12)),
    st.builds(date_interval.Year, st.integers(1000, 2999)),
    st.builds(date_interval.Week, st.integers(1000, 2999), st.integers(1, 52)),
)
PATHS = st.builds(pathlib.Path, st.text("ab/.", min_size=1, max_size=6))
LEAVES = st.integers() | st.text(max_size=3)

#: every parameter class of luigi: an instance, and the values that it takes
PARAMETERS: dict[str, tuple[luigi.Parameter[Any], st.SearchStrategy[Any]]] = {
    "Parameter": (luigi.Parameter(), st.text()),
    "OptionalParameter": (luigi.OptionalParameter(), st.none() | st.text(min_size=1)),
    "StrParameter": (luigi.parameter.StrParameter(), st.text()),
    "OptionalStrParameter": (luigi.OptionalStrParameter(), st.none() | st.text(min_size=1)),
    "IntParameter": (luigi.IntParameter(), st.integers()),
    "OptionalIntParameter": (luigi.OptionalIntParameter(), st.none() | st.integers()),
    "FloatParameter": (luigi.FloatParameter(), NUMBERS.filter(lambda number: abs(number) < 2**53)),
    "OptionalFloatParameter": (luigi.OptionalFloatParameter(), st.none() | st.floats(allow_nan=False)),
    "BoolParameter": (luigi.BoolParameter(), st.booleans()),
    "OptionalBoolParameter": (luigi.OptionalBoolParameter(), st.none() | st.booleans()),
    "DateParameter": (luigi.DateParameter(), DATES),
    "MonthParameter": (luigi.MonthParameter(), DATES),
    "YearParameter": (luigi.YearParameter(), DATES),
    "DateHourParameter": (luigi.DateHourParameter(), TIMES),
    "DateMinuteParameter": (luigi.DateMinuteParameter(), TIMES),
    "DateSecondParameter": (luigi.DateSecondParameter(), TIMES),
    "DateIntervalParameter": (luigi.DateIntervalParameter(), INTERVALS),
    "TimeDeltaParameter": (luigi.TimeDeltaParameter(), st.builds(datetime.timedelta, seconds=st.integers(0, 10**10))),
    "TaskParameter": (luigi.TaskParameter(), st.sampled_from([SomeTask, OtherTask])),
    "EnumParameter": (luigi.EnumParameter(enum=Colour), st.sampled_from(Colour)),
    "EnumParameter of integers": (luigi.EnumParameter(enum=Level), st.sampled_from(Level)),
    "EnumListParameter": (
        luigi.EnumListParameter(enum=Colour),
        st.lists(st.sampled_from(Colour), max_size=3).map(tuple),
    ),
    "DictParameter": (luigi.DictParameter(), st.dictionaries(st.text(max_size=3), JSON, max_size=3)),
    "OptionalDictParameter": (luigi.OptionalDictParameter(), st.none() | st.dictionaries(st.text(max_size=3), JSON)),
    "ListParameter": (luigi.ListParameter(), st.lists(JSON, max_size=4)),
    "OptionalListParameter": (luigi.OptionalListParameter(), st.none() | st.lists(JSON, max_size=4)),
    "TupleParameter": (luigi.TupleParameter(), st.lists(st.lists(JSON, max_size=3), max_size=3).map(tuple)),
    "TupleParameter of leaves": (luigi.TupleParameter(), st.lists(LEAVES, max_size=3).map(tuple)),
    "OptionalTupleParameter": (luigi.OptionalTupleParameter(), st.none() | st.lists(LEAVES, max_size=3).map(tuple)),
    "NumericalParameter": (
        luigi.NumericalParameter(var_type=float, min_value=-9, max_value=9),
        st.floats(-9, 9, exclude_max=True) | st.integers(-9, 8),
    ),
    "OptionalNumericalParameter": (
        luigi.OptionalNumericalParameter(var_type=int, min_value=-9, max_value=9),
        st.none() | st.integers(-9, 8),
    ),
    "ChoiceParameter": (luigi.ChoiceParameter(choices=[1, 2, 3], var_type=int), st.sampled_from([1, 2, 3])),
    "OptionalChoiceParameter": (
        luigi.OptionalChoiceParameter(choices=["a", "b"]),
        st.none() | st.sampled_from(["a", "b"]),
    ),
    "ChoiceListParameter": (
        luigi.ChoiceListParameter(choices=["a", "b", "c"]),
        st.lists(st.sampled_from("abc"), max_size=4).map(tuple),
    ),
    "PathParameter": (luigi.PathParameter(), PATHS),
    "OptionalPathParameter": (luigi.OptionalPathParameter(), st.none() | PATHS),
    "a set of one's own": (
        WordsParameter(),
        st.frozensets(st.text("abc", min_size=1, max_size=2), max_size=4),
    ),
}


def token(value: Any) -> Any:
    """Return something equal for equal values alone: `1` equals `1.0`, and neither equals `True` or `"1"`."""
    if isinstance(value, (bool, enum.Enum, type)) or value is None:
        return ("is", type(value), value)
    if isinstance(value, (int, float)):
        return ("number", Fraction(value) if math.isfinite(value) else value)
    if isinstance(value, Mapping):
        return ("map", frozenset((key, token(item)) for key, item in value.items()))
    if isinstance(value, AbstractSet):
        return ("set", frozenset(map(token, value)))
    if isinstance(value, (list, tuple)):
        return ("list", tuple(map(token, value)))
    return (type(value).__name__, value)


@pytest.mark.parametrize("name", PARAMETERS)
@given(data=st.data())
def test_one_value_has_one_form_and_two_values_never_share_one(name: str, data: st.DataObject):
    parameter, values = PARAMETERS[name]
    first, second = (parameter.normalize(data.draw(values)) for _ in range(2))
    forms = [canonical(parameter, "x", value) for value in (first, second)]
    assert (forms[0] == forms[1] and type(forms[0]) is type(forms[1])) == (token(first) == token(second))
    assert all(type(form) in (int, str) for form in forms)


@pytest.mark.parametrize("name", PARAMETERS)
@given(data=st.data())
def test_a_value_that_went_through_its_text_has_the_same_form(name: str, data: st.DataObject):
    parameter, values = PARAMETERS[name]
    value = parameter.normalize(data.draw(values))
    assume(value is not None)
    read = parameter.normalize(parameter.parse(parameter.serialize(value)))
    assert canonical(parameter, "x", read) == canonical(parameter, "x", value)


def test_every_parameter_class_of_luigi_is_covered():
    found = {
        name
        for module in (luigi, luigi.parameter)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, luigi.Parameter) and not name.startswith("_")
    }
    assert found - set(PARAMETERS) == set()


@given(st.dictionaries(st.text(max_size=3), JSON, min_size=2, max_size=4), st.randoms())
def test_the_order_of_keys_does_not_count(mapping: dict[str, Any], random: Any):
    items = list(mapping.items())
    random.shuffle(items)
    parameter = luigi.DictParameter()
    forms = {canonical(parameter, "x", parameter.normalize(one)) for one in (mapping, dict(items))}
    assert len(forms) == 1


@pytest.mark.parametrize(
    ("parameter", "left", "right"),
    [
        (luigi.DictParameter(), {"a": 1}, {"a": True}),
        (luigi.DictParameter(), {"a": 1.5}, {"a": "1.5"}),
        (luigi.DictParameter(), {"a": None}, {"a": "None"}),
        (luigi.DictParameter(), {"a": []}, {"a": {}}),
        (luigi.DictParameter(), {"a": {"float": "1.5"}}, {"a": 1.5}),
        (luigi.DictParameter(), {"a": {"list": [1]}}, {"a": [1]}),
        (luigi.ListParameter(), [[1], 2], [1, [2]]),
        (luigi.ListParameter(), ["1,2"], ["1", "2"]),
        (luigi.ListParameter(), [True], ["True"]),
        (LiteralParameter(), (1, 2), {1, 2}),
        (LiteralParameter(), [b"a"], ["a"]),
    ],
)
def test_values_that_look_alike_have_two_forms(parameter: Any, left: Any, right: Any):
    forms = [canonical(parameter, "x", parameter.normalize(value)) for value in (left, right)]
    assert forms[0] != forms[1]


def test_equal_numbers_have_one_form():
    number, mapping = luigi.FloatParameter(), luigi.DictParameter()
    assert canonical(number, "x", 1) == canonical(number, "x", 1.0) == 1
    assert canonical(number, "x", 0.0) == canonical(number, "x", -0.0) == 0
    assert canonical(number, "x", 1e300) == int(1e300)
    forms = {canonical(mapping, "x", mapping.normalize({"a": [one]})) for one in (2, 2.0)}
    assert len(forms) == 1


# What luigi's own texts lose


def test_durations_that_differ_in_fractions_of_a_second_have_two_forms():
    parameter = luigi.TimeDeltaParameter()
    forms = {canonical(parameter, "x", parameter.parse(text)) for text in ("0.25", "0.5")}
    assert len(forms) == 2


def test_a_negative_duration_has_a_form():
    parameter = luigi.TimeDeltaParameter()
    assert canonical(parameter, "x", parameter.parse("-5")) != canonical(parameter, "x", parameter.parse("5"))


@pytest.mark.parametrize("value", [(1, None), (1, True), ("a", False), (None, 1.5)])
def test_a_tuple_with_none_or_truth_values_has_a_form(value: Any):
    canonical(luigi.TupleParameter(), "x", value)


def test_tuples_of_mappings_with_other_values_have_two_forms():
    parameter = luigi.TupleParameter()
    forms = {canonical(parameter, "x", parameter.normalize(({"a": n},))) for n in (1, 2)}
    assert len(forms) == 2


def test_none_has_the_form_of_the_text_that_luigi_sends_for_it():
    parameter = luigi.Parameter(default=None)
    assert canonical(parameter, "x", None) == canonical(parameter, "x", parameter.parse(parameter.serialize(None)))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (True, "True"),
        (1.5, "1.5"),
        ([1], '{"list":[1]}'),
        ({1: "x"}, {"1": "x"}),
        ([{(1,): 2}], [{'{"list": [1]}': 2}]),
    ],
)
def test_values_of_a_parameter_with_mixed_types_have_two_forms(left: Any, right: Any):
    parameter = LiteralParameter()
    assert canonical(parameter, "x", left) != canonical(parameter, "x", right)


# What has no form


@pytest.mark.parametrize(
    ("parameter", "value", "text"),
    [
        (luigi.DictParameter(), {"a": {1, 2}}, "`x` cannot hold"),
        (luigi.DictParameter(), {"a": datetime.date(2024, 1, 1)}, "`x` cannot hold"),
        (luigi.IntParameter(), "many", "`x` cannot hold 'many'"),
        (luigi.Parameter(), object(), "place in memory"),
        (luigi.EnumParameter(enum=Colour), Level.LOW, "`x` cannot hold"),
        (LiteralParameter(), [1j], "complex"),
    ],
)
def test_a_value_without_a_form_is_an_error_that_names_the_parameter(parameter: Any, value: Any, text: str):
    with pytest.raises(errors.IdentityError, match=text) as raised:
        canonical(parameter, "x", value)
    assert "`x`" in raised.value.message and raised.value.hint


def test_a_text_that_is_no_unicode_is_an_identity_error():
    class TextTask(nectar.Task):
        text = luigi.Parameter()

    with pytest.raises(errors.IdentityError):
        _ = TextTask(text="\udcff").key


# What is shown


def test_private_values_are_masked_and_told_apart_by_digest():
    private = luigi.Parameter(visibility=ParameterVisibility.PRIVATE)
    hidden = luigi.Parameter(visibility=ParameterVisibility.HIDDEN)
    assert is_private(private) and not is_private(hidden)
    assert (shown(private, "canary"), shown(hidden, "seen")) == (MASK, "seen")
    assert private_digest("a") != private_digest("b")
    assert private_digest("secret") == "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"


@pytest.mark.parametrize(
    ("parameter", "value", "json_value"),
    [
        (luigi.IntParameter(), 3, 3),
        (luigi.BoolParameter(), True, True),
        (luigi.FloatParameter(), 1.5, 1.5),
        (luigi.FloatParameter(), math.inf, "inf"),
        (luigi.OptionalIntParameter(), None, None),
        (luigi.DateParameter(), datetime.date(2024, 2, 29), "2024-02-29"),
        (luigi.EnumParameter(enum=Colour), Colour.RED, "RED"),
        (luigi.EnumParameter(enum=Level), Level.HIGH, "HIGH"),
        (luigi.DictParameter(), luigi.DictParameter().normalize({"b": [1], "a": None}), {"b": [1], "a": None}),
        (luigi.ListParameter(), (1, "x"), [1, "x"]),
        (luigi.PathParameter(), pathlib.Path("a/b"), "a/b"),
        (luigi.TaskParameter(), SomeTask, f"{__name__}.SomeTask"),
    ],
)
def test_values_are_shown_as_json(parameter: Any, value: Any, json_value: Any):
    assert shown(parameter, value) == json_value


# Texts from outside


def test_texts_become_values():
    parameters: Any = [("n", luigi.IntParameter()), ("day", luigi.DateParameter()), ("word", luigi.Parameter())]
    values = parse_texts(parameters, {"n": "3", "day": "2024-02-29"}, defaults=["word"], subject="T")
    assert values == {"n": 3, "day": datetime.date(2024, 2, 29)}


def test_every_bad_text_is_named_and_private_ones_are_not_shown():
    private = luigi.IntParameter(visibility=ParameterVisibility.PRIVATE)
    parameters: Any = [("number", luigi.IntParameter()), ("day", luigi.DateParameter()), ("pin", private)]
    with pytest.raises(errors.InvalidParameters) as raised:
        parse_texts(parameters, {"numbre": "3", "day": "soon", "pin": "canary"}, defaults=[], subject="LoadTask")
    problems = raised.value.problems
    assert [problem.field for problem in problems] == ["numbre", "day", "pin", "number"]
    assert problems[0].hint == "`numbre`: did you mean `number`?"
    assert "soon" in problems[1].message and problems[3].message == "`LoadTask` needs a value for `number`"
    assert "canary" not in str(raised.value)
