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


AIRPORTS = "etl/airports_chain"


def late(table):
    """Return flights and late ones by airport, of the pipeline's table."""
    return {row["airport"]: (int(row["flights"]), int(row["late"])) for row in csv.DictReader(table.splitlines())}


def test_the_airports_are_a_pipeline_and_agree_with_the_flights(shipped, flights):
    answer = shipped.nectar("run", AIRPORTS, "PipelineTask")
    assert answer.code == 0, answer
    assert json.loads(Path(answer.out.strip()).read_text()) == {"airports": ["EWR", "JFK", "LGA"], "worst": "EWR"}
    files = {
        name.rpartition("/catalog/")[2]: raw.decode() for name, raw in shipped.kept().items() if "/catalog/" in name
    }
    counted = late(files["airports.csv"])
    assert sum(flown for flown, _ in counted.values()) == 336_776
    [delays] = (Path(line) for line in flights.out.splitlines() if line.endswith("delays.csv"))
    by_airline = csv.DictReader(delays.read_text().splitlines())
    assert sum(late for _, late in counted.values()) == sum(int(row["late"]) for row in by_airline)
    assert "336,776 flights. EWR was the worst." in files["report.md"]
    again = shipped.nectar("run", "--workers", "2", AIRPORTS, "PipelineTask")
    assert (again.code, again.out, "nothing to do" in again.err) == (0, answer.out, True)


def test_the_airports_can_be_executed_as_a_run_of_their_own(shipped):
    words = ("--file", f"chains/{AIRPORTS}.yaml", "--delay-minutes", "60", "--workers", "2")
    answer = shipped.nectar("execute", *words)
    assert answer.code == 0, answer
    log = answer.json
    assert log["parameters"]["worst"] == "EWR"
    steps = log["steps"]
    assert list(steps) == ["load", "airports", "results", "done"]
    kept = shipped.root / ".catalog" / log["run_id"]
    counted = late((kept / "airports.csv").read_text())
    for airport, branch in zip(counted, steps["airports"]["branches"].values(), strict=True):
        [count, _] = branch["steps"].values()
        told = count["user_defined_metrics"]
        assert (told["flights"], told["late"]) == counted[airport]
    [write, _] = steps["results"]["branches"]["results.report"]["steps"].values()
    assert 0 < write["user_defined_metrics"]["late_share"] < 0.25
    assert "60 minutes late or more" in (kept / "report.md").read_text()


def test_every_shipped_chain_is_listed_with_words_for_each_task(shipped):
    document = shipped.nectar("list", "--json").json
    chains = [chain for kind in document.values() for chain in kind["chains"]]
    paths = {"etl/flights_chain", AIRPORTS, "ds/topics_chain", "testchains/hello_luigiworld_chain"}
    assert paths <= {chain["path"] for chain in chains}
    assert not [one for kind in document.values() for one in kind["broken"]]
    for chain in chains:
        assert chain["description"]
        assert all(task["description"] for task in chain["tasks"])
