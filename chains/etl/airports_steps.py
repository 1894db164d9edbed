"""The functions of the steps of `airports_chain.yaml`; a module whose name does not end in `_chain` is no chain."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import nectar
from chains.etl.flights_chain import AIRPORTS, FROM, YEAR, data_file

DATA = Path("data")  # in the folder of the step: what lies there can be put into the catalog, and is got from it


def load():
    """Write the airport, the airline and the minutes of delay of each flight; a flight that never arrived has none."""
    DATA.mkdir(exist_ok=True)
    with zipfile.ZipFile(data_file("flights")) as archive, (DATA / "flights.csv").open("w", newline="") as place:
        [name] = archive.namelist()
        table = csv.writer(place)
        with archive.open(name) as file:
            for row in csv.DictReader(io.TextIOWrapper(file, encoding="utf-8")):
                table.writerow([row["origin"], row["carrier"], row["arr_delay"]])
    return {"airports": list(AIRPORTS)}


def write(delay_minutes=15):
    """Write the report, and say which airport was the worst."""
    counted = [tuple(next(csv.reader([place.read_text()]))) for place in sorted(DATA.glob("???.csv"))]
    shares = {airport: int(late) / int(flights) for airport, flights, late in counted}
    worst = max(shares, key=lambda airport: shares[airport])
    flights, late = (sum(int(row[column]) for row in counted) for column in (1, 2))
    lines = [f"# Flights from {FROM} in {YEAR} that were {delay_minutes} minutes late or more", ""]
    lines += [f"- {airport}: {share:.1%}" for airport, share in sorted(shares.items())]
    lines += ["", f"That is {late:,} of {flights:,} flights. {worst} was the worst.", ""]
    (DATA / "report.md").write_text("\n".join(lines))
    nectar.track_this(late_share=round(late / flights, 4))
    return {"worst": worst}
