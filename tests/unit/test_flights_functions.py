"""What the flights chain makes of its tables, on frames small enough to check by eye and on the real ones.

At the end the same for the topics chain.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("matplotlib")

from chains.ds import topics_chain as topics  # noqa: E402
from chains.etl import flights_chain as chain  # noqa: E402


def flights(**columns: list[object]) -> Any:
    """Three flights: one early, one late in the rain, one cancelled."""
    rows = {
        "year": [2013, 2013, 2013],
        "month": [1, 1, 2],
        "carrier": ["UA", "B6", "UA"],
        "flight": [1, 2, 3],
        "tailnum": ["N1", "N2", None],
        "origin": ["EWR", "JFK", "LGA"],
        "dep_time": [517.0, 533.0, None],
        "arr_delay": [-4.0, 15.0, None],
        "time_hour": ["2013-01-01T10:00:00Z", "2013-01-01T11:00:00Z", "2013-02-01T10:00:00Z"],
    }
    return pd.DataFrame({**rows, **columns})


def weather(**columns: list[object]) -> Any:
    """Two hours, the second with rain."""
    rows = {
        "origin": ["EWR", "JFK"],
        "time_hour": ["2013-01-01T10:00:00Z", "2013-01-01T11:00:00Z"],
        "wind_speed": [10.0, 12.0],
        "precip": [0.0, 0.1],
        "visib": [10.0, 9.0],
    }
    return pd.DataFrame({**rows, **columns})


@pytest.fixture
def airlines() -> Any:
    return pd.DataFrame({"carrier": ["UA", "B6"], "name": ["United Air Lines Inc.", "JetBlue Airways"]})


@pytest.fixture
def planes() -> Any:
    return pd.DataFrame({"tailnum": ["N1"], "seats": [200]})


@pytest.fixture
def joined(airlines: Any, planes: Any) -> Any:
    return chain.join(chain.clean_flights(flights()), chain.clean_weather(weather()), airlines, planes)


@pytest.fixture
def counts(joined: Any) -> Any:
    return chain.count_by_airline(joined, 15)


# Cleaning


def test_clean_flights_keep_every_row_and_mark_the_cancelled() -> None:
    clean = chain.clean_flights(flights())
    assert clean["cancelled"].tolist() == [False, False, True]
    assert clean["arr_delay"].isna().tolist() == [False, False, True]
    assert str(clean["time_hour"].dt.tz) == "UTC"


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        ({"year": [2013, 2013, 2014]}, "all are of 2013"),
        ({"month": [1, 1, 13]}, "months are 1 to 12"),
        ({"origin": ["EWR", "JFK", "BOS"]}, "all are from EWR, JFK and LGA"),
        ({"carrier": ["UA", None, "UA"]}, "each has a carrier"),
        ({"arr_delay": [-4.0, 99999.0, None]}, "they arrived 3 hours early to 2 days late"),
        ({"arr_delay": [-4.0, 15.0, 3.0]}, "what never left never arrived"),
        ({"carrier": ["UA"] * 3, "flight": [1] * 3, "time_hour": ["2013-01-01T10:00:00Z"] * 3}, "none is there twice"),
    ],
)
def test_flights_that_are_not_what_they_should_be_are_refused_saying_why(
    columns: dict[str, list[object]], part: str
) -> None:
    with pytest.raises(ValueError, match=f"the flights are not what they should be: it is not true that {part}$"):
        chain.clean_flights(flights(**columns))


def test_all_broken_conditions_are_named_at_once() -> None:
    with pytest.raises(ValueError, match="all are of 2013, nor that months are 1 to 12"):
        chain.clean_flights(flights(year=[2013, 2013, 1999], month=[1, 0, 2]))


def test_no_flights_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="there are any"):
        chain.clean_flights(flights().iloc[:0])


@pytest.mark.parametrize(
    ("columns", "bad"),
    [
        ({}, [False, True]),
        ({"visib": [2.5, 3.0], "precip": [0.0, 0.0]}, [True, False]),
        ({"wind_speed": [30.0, 29.0], "precip": [0.0, 0.0]}, [True, False]),
        ({"wind_speed": [None, None], "visib": [None, None], "precip": [0.0, None]}, [False, False]),
    ],
    ids=["rain", "fog", "wind", "unknown"],
)
def test_bad_weather_is_rain_fog_or_a_strong_wind(columns: dict[str, list[object]], bad: list[bool]) -> None:
    assert chain.clean_weather(weather(**columns))["bad_weather"].tolist() == bad


def test_one_impossible_wind_in_a_thousand_is_no_storm_and_more_are_refused() -> None:
    hours = pd.date_range("2013-01-01", periods=1000, freq="h", tz="UTC").astype(str)
    calm = pd.DataFrame({"origin": "EWR", "time_hour": hours, "wind_speed": 5.0, "precip": 0.0, "visib": 10.0})
    calm.loc[0, "wind_speed"] = 1048.0
    assert not chain.clean_weather(calm)["bad_weather"].any()
    calm.loc[1, "wind_speed"] = 1048.0
    with pytest.raises(ValueError, match="at most one wind in 1,000 is impossible"):
        chain.clean_weather(calm)


def test_two_rows_of_weather_for_one_hour_are_refused() -> None:
    with pytest.raises(ValueError, match="one row for each airport and hour"):
        chain.clean_weather(pd.concat([weather(), weather()]))


# Joining


def test_join_keeps_every_flight_and_leaves_what_is_unknown_missing(joined: Any) -> None:
    assert joined["airline"].tolist() == ["United Air Lines Inc.", "JetBlue Airways", "United Air Lines Inc."]
    assert joined["seats"].fillna(-1).tolist() == [200, -1, -1]
    assert joined["bad_weather"].astype(object).where(joined["bad_weather"].notna(), None).tolist() == [
        False,
        True,
        None,
    ]


def test_a_carrier_without_a_name_is_refused(airlines: Any, planes: Any) -> None:
    with pytest.raises(ValueError, match="each carrier has a name"):
        chain.join(chain.clean_flights(flights()), chain.clean_weather(weather()), airlines.iloc[:1], planes)


def test_a_plane_that_is_there_twice_does_not_double_its_flights(airlines: Any, planes: Any) -> None:
    twice = pd.concat([planes, planes])
    with pytest.raises(pd.errors.MergeError):
        chain.join(chain.clean_flights(flights()), chain.clean_weather(weather()), airlines, twice)


# Counting


def test_counts_have_a_row_for_each_month_and_airline_that_flew(counts: Any) -> None:
    assert counts[["month", "carrier", "flights", "cancelled", "arrivals", "late"]].to_numpy().tolist() == [
        [1, "B6", 1, 0, 1, 1],
        [1, "UA", 1, 0, 1, 0],
        [2, "UA", 1, 1, 0, 0],
    ]
    assert counts[["bad_arrivals", "bad_late"]].to_numpy().tolist() == [[1, 1], [0, 0], [0, 0]]


def test_an_arrival_is_late_from_the_given_minute_on(joined: Any) -> None:
    assert chain.count_by_airline(joined, 16)["late"].sum() == 0
    assert chain.count_by_airline(joined, -4)["late"].sum() == 2


def test_shares_of_nothing_are_missing(counts: Any) -> None:
    shares = chain.with_shares(counts)
    assert shares["late_percent"].fillna(-1).tolist() == [100, 0, -1]
    assert shares["mean_delay"].fillna(-1).tolist() == [15, -4, -1]


def test_seats_are_missing_where_most_planes_are_unknown(counts: Any) -> None:
    known = counts.assign(flights=[2, 3, 1], seats_known=[1, 1, 0], seats=[150.0, 200.0, 0.0])
    assert chain.with_shares(known)["mean_seats"].fillna(-1).tolist() == [150, -1, -1]


def test_totals_weigh_months_by_their_flights_and_put_the_latest_first() -> None:
    zeros = dict.fromkeys(["cancelled", "bad_arrivals", "bad_late", "delay", "seats", "seats_known"], 0)
    counts = pd.DataFrame(
        {"month": [1, 2, 1], "carrier": ["A", "A", "B"], "flights": [10, 90, 50], "arrivals": [10, 90, 50],
         "late": [10, 0, 25], **{name: [0, 0, 0] for name in zeros}}
    )  # fmt: skip
    assert chain.totals(counts, "carrier")[["carrier", "late_percent"]].to_numpy().tolist() == [["B", 50], ["A", 10]]


# Reporting


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Delta Air Lines Inc.", "Delta Air Lines"),
        ("Southwest Airlines Co.", "Southwest Airlines"),
        ("AirTran Airways Corporation", "AirTran Airways"),
        ("JetBlue Airways", "JetBlue Airways"),
    ],
)
def test_a_short_name_has_no_legal_form(name: str, short: str) -> None:
    assert chain.short_name(name) == short


def test_the_period_is_named_in_words(counts: Any) -> None:
    assert chain.period(counts) == "January to February 2013"
    assert chain.period(counts[counts["month"] == 2]) == "February 2013"


@pytest.mark.parametrize("report", [chain.draw, chain.describe])
def test_a_report_without_airlines_is_refused(report: Callable[..., object], counts: Any) -> None:
    with pytest.raises(ValueError, match="no airline has 3 flights; the largest has 2"):
        report(counts, 15, 3)


def test_the_report_names_latest_and_most_punctual(counts: Any) -> None:
    report = chain.describe(counts, 15, 1)
    assert "Of 3 flights from EWR, JFK and LGA, 33.3 % were cancelled." in report
    assert "JetBlue Airways was late most often, United Air Lines least often" in report
    assert "| JetBlue Airways | 1 | 0.0 % | 100.0 % | +15 |" in report


def test_the_plot_has_a_row_for_all_and_for_each_airline_and_a_column_for_each_month(counts: Any) -> None:
    by_month, overall = chain.draw(counts, 15, 1).axes
    assert [label.get_text() for label in by_month.get_yticklabels()] == [
        "All airlines",
        "JetBlue Airways",
        "United Air Lines",
    ]
    assert [label.get_text() for label in by_month.get_xticklabels()] == ["Jan", "Feb"]
    assert [text.get_text().strip() for text in overall.texts] == ["50.0  (3)", "100.0  (1)", "0.0  (2)"]


# The real data


def test_the_real_tables_pass_the_checks_and_no_flight_is_lost_on_the_way() -> None:
    raw = {table: pd.read_csv(chain.data_file(table), usecols=columns) for table, columns in chain.COLUMNS.items()}
    joined = chain.join(
        chain.clean_flights(raw["flights"]), chain.clean_weather(raw["weather"]), raw["airlines"], raw["planes"]
    )
    counts = chain.count_by_airline(joined, 15)
    assert counts["flights"].sum() == len(raw["flights"]) == 336_776
    assert counts["late"].sum() == (raw["flights"]["arr_delay"] >= 15).sum()
    assert counts["cancelled"].sum() == raw["flights"]["dep_time"].isna().sum()
    assert counts["delay"].sum() == raw["flights"]["arr_delay"].sum()
    assert counts[["month", "carrier"]].drop_duplicates().shape[0] == len(counts) == 185


# Topics


def test_docstrings_of_a_class_come_as_one_text_and_private_ones_not_at_all() -> None:
    source = b'''
"""Of the module."""
class Lock:
    """Of the class."""
    def acquire(self):
        """Of the method."""
def _hidden():
    """Hidden."""
def bare(): ...
'''
    assert list(topics.docstrings(source)) == [
        ("", "Of the module."),
        ("Lock", "Of the class.\n\nOf the method."),
        ("bare", ""),
    ]


def test_modules_are_those_of_the_standard_library_that_are_public_and_no_tests(tmp_path: Path) -> None:
    files = ["json/__init__.py", "json/tool.py", "json/_hidden.py", "ctypes/test/test_x.py", "_abc.py", "site.py"]
    for file in [*files, "numpy/__init__.py", "site-packages/site.py", "test/support.py"]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert sorted(name for name, _ in topics.module_files(tmp_path)) == ["json", "json.tool", "site"]


def test_a_library_without_docstrings_is_refused_naming_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no docstrings in `"):
        list(topics.read_corpus(str(tmp_path)))


def test_two_subjects_make_two_topics_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(topics, "MAX_SHARE", 0.7)
    corpus = [{"name": f"sea{n}", "text": "ship sail wind wave harbour"} for n in range(6)]
    corpus += [{"name": f"land{n}", "text": "tree leaf root_root soil"} for n in range(5)]
    names, words, counts = topics.count_words(corpus)
    assert counts[(counts["text"] == 10) & (counts["word"] == words.index("root"))]["count"].tolist() == [2]
    found = topics.find_topics(names, words, counts, 2, seed=1)
    assert set(list(found[1]["words"])[:4]) == {"tree", "leaf", "root", "soil"}
    assert [{name[:3] for name in list(topic["texts"])[:5]} for topic in found] == [{"sea"}, {"lan"}]
    assert sum(topic["share"] for topic in found) == pytest.approx(1, abs=0.001)
    assert found == topics.find_topics(names, words, counts, 2, seed=1)
