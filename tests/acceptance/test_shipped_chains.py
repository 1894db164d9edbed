"""The shipped chains run from beginning to end, under `nectar` and under `luigi`, to the same targets."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

FLIGHTS = ("etl/flights_chain", "ReportTask")
LAYOUT = re.compile(r"chains/\w+/\w+_chain/\w+Task/[0-9a-f]{32}")


def luigi(project, *words, **variables):
    """Run luigi's own command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "luigi", *words, "--local-scheduler"],
        cwd=project.root,
        env=project.environment(PYTHONPATH=python_path(project), **variables),
        capture_output=True,
        text=True,
        timeout=300,
    )


def python_path(project):
    given = project.environment().get("PYTHONPATH", "")
    return f"{project.root}:{given}" if given else str(project.root)


def targets(store):
    """Return the places of all records, relative to the store."""
    records = (place for place in store.rglob("record.json") if ".quarantine" not in place.parts)
    return {str(place.parent.relative_to(store)) for place in records}


@pytest.fixture(scope="module")
def flights(shipped):
    answer = shipped.nectar("run", *FLIGHTS)
    assert answer.code == 0, answer
    return answer


def test_the_flights_end_in_a_report_a_plot_and_a_table(flights):
    places = {Path(line).name: Path(line) for line in flights.out.splitlines()}
    assert set(places) == {"report.md", "delays.png", "delays.csv"}
    assert "336,776 flights" in places["report.md"].read_text()
    assert places["delays.png"].read_bytes().startswith(b"\x89PNG\r\n")
    with places["delays.csv"].open() as file:
        rows = list(csv.DictReader(file))
    assert {row["month"] for row in rows} == {str(month) for month in range(1, 13)}
    assert sum(int(row["flights"]) for row in rows) == 336_776


def test_every_target_of_the_flights_has_its_files_beside_it(shipped, flights):
    found = targets(shipped.store)
    assert len(found) == 20
    for target in found:
        assert LAYOUT.fullmatch(target)
        folder = shipped.store / target
        assert (folder / "log/stdout.log").is_file() and (folder / "log/stderr.log").is_file()
        record = json.loads((folder / "record.json").read_text())
        params = json.loads((folder / "params.txt").read_text())
        assert {name: str(value) for name, value in record["identity"]["params"].items()} == {
            name: str(value) for name, value in params.items()
        }
        for file in record["files"]:
            assert (folder / file["object"]).stat().st_size == file["size"]


def test_a_second_run_of_the_flights_makes_nothing(shipped, flights):
    before = shipped.kept()
    again = shipped.nectar("run", *FLIGHTS)
    assert (again.code, again.out) == (0, flights.out)
    assert "nothing to do" in again.err
    assert shipped.kept() == before


def test_another_parameter_of_the_report_makes_the_report_alone(shipped, flights):
    plan = shipped.nectar("plan", "--json", *FLIGHTS, "--min-flights", "1000").json
    assert plan["counts"]["run"] == 1


def test_luigi_makes_the_same_targets_of_the_flights_with_one_worker_and_with_two(shipped, flights, tmp_path):
    store = tmp_path / "store"
    words = ("--module", "chains.etl.flights_chain", "ReportTask")
    done = luigi(shipped, *words, NECTAR_STORE=store.as_uri())
    assert done.returncode == 0, done.stderr[-3000:]
    whole = {one for one in targets(shipped.store) if "/flights_chain/" in one}
    assert targets(store) == whole
    done = luigi(shipped, *words, "--month", "2", "--workers", "2", NECTAR_STORE=store.as_uri())
    assert done.returncode == 0, done.stderr[-3000:]
    plan = shipped.nectar("plan", "--json", *FLIGHTS, "--month", "2").json
    assert targets(store) - whole == {step["path"] for step in plan["steps"] if step["action"] == "run"}


def test_luigi_finds_what_nectar_made(shipped, flights):
    before = shipped.kept()
    done = luigi(shipped, "--module", "chains.etl.flights_chain", "ReportTask")
    assert done.returncode == 0
    assert "1 complete ones were encountered" in done.stderr
    assert shipped.kept() == before


def test_luigi_exits_with_a_failure_where_a_task_fails(shipped):
    done = luigi(shipped, "--module", "chains.etl.flights_chain", "ReportTask", "--min-flights", "1000000")
    assert done.returncode != 0


def test_the_report_without_any_airline_fails_with_its_own_words(shipped, flights):
    answer = shipped.nectar("run", *FLIGHTS, "--min-flights", "1000000")
    assert answer.code == 1
    assert "no airline has 1,000,000 flights" in answer.err


def test_the_smallest_chain_greets_a_day(shipped):
    answer = shipped.nectar("run", "testchains/hello_luigiworld_chain", "WithDependencyTask", "--day", "2024-02-29")
    assert answer.code == 0
    assert Path(answer.out.strip()).read_text() == "Hello, Luigi world of 29 February 2024!\nHello yourself.\n"
    wrong = ("testchains/hello_luigiworld_chain", "WithDependencyTask", "--day", "2023-02-29")
    shipped.nectar("run", *wrong).failed(2, "`day`", "2023-02-29")


def test_the_topics_end_in_a_report(shipped):
    answer = shipped.nectar("run", "ds/topics_chain", "ReportTask", "--topics", "3", "--words", "4")
    assert answer.code == 0, answer
    text = Path(answer.out.strip()).read_text()
    assert "in 3 topics" in text.splitlines()[0]
    other_words = shipped.nectar("plan", "--json", "ds/topics_chain", "ReportTask", "--topics", "3", "--words", "5")
    assert other_words.json["counts"]["run"] == 1


def test_every_shipped_chain_is_listed_with_words_for_each_task(shipped):
    document = shipped.nectar("list", "--json").json
    chains = [chain for kind in document.values() for chain in kind["chains"]]
    assert {"etl/flights_chain", "ds/topics_chain", "testchains/hello_luigiworld_chain"} <= {c["path"] for c in chains}
    assert not [one for kind in document.values() for one in kind["broken"]]
    for chain in chains:
        assert chain["description"]
        assert all(task["description"] for task in chain["tasks"])
