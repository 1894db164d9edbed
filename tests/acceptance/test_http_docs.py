"""What docs/http.md shows happens: each command is carried out as it stands there, and what comes is what is shown."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("story")

from story import FENCE, Reader, matched  # noqa: E402

from nectar import errors, previews  # noqa: E402
from nectar.chain import isolation  # noqa: E402
from nectar.recording.log_bounds import LOG_LIMIT_BYTES  # noqa: E402
from nectar.runs.sql import reading  # noqa: E402
from nectar.service import importers, standing  # noqa: E402
from nectar.settings import ServeSettings  # noqa: E402
from nectar.web import app, chains, runs, serving, values  # noqa: E402

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


TWO_RUNS = '{"a": "20261120T230330-00000001", "b": "20261120T230330-00000002"}'


def section(page: str, heading: str) -> str:
    """Return what a page says under a heading of the second level."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section `{heading}`"
    return found[1]


@pytest.fixture
def reader(project):
    """Somebody with the README's first chain in an empty project."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    shutil.rmtree(project.root / "chains" / "etl")
    made = Reader(project.root.resolve(), project.environment())
    [chain] = [text for language, text in FENCE.findall(section(README, "A first chain")) if language == "python"]
    made.write("chains/food/basket_chain.py", chain)
    yield made
    made.end()


def test_all_that_the_page_shows_happens_as_it_is_shown(reader):
    reader.follow(PAGE)
    assert len(reader.done) >= 40
    assert reader.end() == 0


@pytest.mark.parametrize(
    ("shown", "came"),
    [
        ('{"status": 200}', '{"status":404}'),
        ('{"data": {"run_id": "20261120T230330-a15b3f88", ...}}', '{"data":{"run_id":"none","path":""}}'),
        ('{"a": "20261120T230330-a15b3f88", "b": "20261120T230330-a15b3f88"}', TWO_RUNS),
        ("19.50", "20.50"),
        ("...\nthe last", "the first"),
    ],
)
def test_what_is_shown_and_did_not_come_is_seen(shown, came):
    assert matched(shown, came, {}) is None


def test_the_readme_s_part_about_http_happens_as_it_is_told(reader):
    reader.follow(section(README, "Over HTTP"))
    assert len(reader.done) >= 4


def rows(heading):
    """Return the rows of all tables under a heading, each a list of cells."""
    lines = [line for line in section(PAGE, heading).splitlines() if re.match(r"\| (?!-)", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def every(kind):
    yield kind
    for below in kind.__subclasses__():
        yield from every(below)


def test_every_code_of_an_error_is_in_the_table_with_its_status():
    told = {
        (code, int(row[1]))
        for row in rows("Answers and errors")
        if len(row) == 3 and row[1].isdecimal()
        for code in re.findall(r"`([a-z-]+)`", row[0])
    }
    own = {("not-found", 404), ("method-not-allowed", 405), ("body-too-large", 413), ("bad-request", 400)}
    of_errors = {(kind.code, kind.http_status) for kind in every(errors.NectarError)}
    assert told == of_errors | own | {("internal", 500)}


def test_every_setting_is_in_the_table_with_its_default():
    table = rows("Settings and limits")
    end = next(number for number, row in enumerate(table) if row[0] == "limit")
    told = {}
    for names, _, default in table[1:end]:
        told |= dict(zip(re.findall(r"`(\w+)`", names), re.findall(r"`([^`]+)`", default), strict=True))
    # What is None in the settings is empty in the file.
    default = {name: '""' if value is None else json.dumps(value) for name, value in asdict(ServeSettings()).items()}
    assert told == default | {"host": ServeSettings().host}


def test_every_limit_is_what_the_table_says():
    told = {what: limit for what, limit, _ in rows("Settings and limits")}
    size, head = (limit >> 10 for limit in (app.BODY_LIMIT, serving.HEADER_LIMIT))
    assert told["body of a request; levels of lists and objects in it"] == f"{size >> 10} MiB; {values.DEEPEST}"
    assert told["address and headers of a request"] == f"{head} KiB"
    assert told["requests at the same time; connections"].startswith(f"{serving.THREADS}; ")
    assert told["streams of events; length of one"] == f"{runs.STREAMS}; {runs.STREAM_S:g} s"
    assert (
        told["import of a chain; answer of its code to one question"]
        == f"{isolation.LIMIT_S:g} s; {importers.ANSWER_S:g} s"
    )
    assert told["chains kept imported; without a question"] == f"{importers.MOST}; {importers.IDLE_S:g} s"
    assert told["answer of a chain's code, such as a plan"] == f"{isolation.ANSWER_LIMIT >> 20} MiB"
    assert told["`Idempotency-Key`"] == f"{chains._LONGEST_KEY} characters"
    assert told["runs of a page; events of an answer"] == f"{reading.LARGEST_PAGE}; {reading.MOST_EVENTS}"
    assert told["rows of a preview; what it reads for them"].endswith(f"; {previews.LOOKED_AT >> 20} MiB")
    assert told["traceback behind `data.error`"] == f"{standing.TAIL} characters"
    assert told["a signed link"] == f"{standing.LINK_S} s"
    assert told["logs of an attempt"] == f"{LOG_LIMIT_BYTES >> 20} MiB"


def test_what_the_page_shows_for_other_programs_can_be_read_by_them():
    blocks = dict(FENCE.findall(PAGE))
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string(blocks["ini"])
    assert unit["Service"]["KillMode"] == "process"
    assert int(unit["Service"]["TimeoutStopSec"]) > ServeSettings().drain_s + 15  # which a cancel may take
    yaml = pytest.importorskip("yaml", reason="PyYAML is not here")
    services = yaml.safe_load(blocks["yaml"])["services"]
    assert services["nectar"]["command"].split()[:2] == ["nectar", "serve"]
    assert services["nectar"]["init"] is True
