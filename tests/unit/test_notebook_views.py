"""What a notebook shows of tasks, targets, runs and files."""

from __future__ import annotations

import io
from pathlib import Path

import luigi
import pytest

import nectar
from nectar import settings
from nectar.graph import make_graph
from nectar.previews import LOOKED_AT, preview


class TableTask(nectar.Task):
    """Writes a table."""

    filename = "table.csv"
    word = luigi.Parameter(default="<b>bold</b>")
    secret = luigi.Parameter(default="hush", visibility=luigi.parameter.ParameterVisibility.PRIVATE)

    def run(self):
        self.dump([["n", "square"], *([number, f"<i>{number * number}</i>"] for number in range(30))])


class BadTask(nectar.Task):
    """Fails."""

    def run(self):
        raise ValueError("<script>")


@pytest.fixture(autouse=True)
def project(tmp_path: Path):
    with settings.overridden(root=tmp_path, store_url=(tmp_path / "store").as_uri()):
        yield


def test_a_task_shows_its_parameters_and_target_and_no_secret():
    shown = TableTask()._repr_html_()
    assert "&lt;b&gt;bold" in shown and "<b>bold" not in shown.replace("<b>TableTask</b>", "")
    assert str(TableTask().target_address()) in shown and "hush" not in shown


def test_a_target_shows_its_state_and_then_its_first_rows():
    task = TableTask()
    assert "missing" in task.output()._repr_html_()
    result = nectar.run(task, echo=False)
    shown = task.output()._repr_html_()
    assert "complete" in shown and "<th>square</th>" in shown and "&lt;i&gt;81&lt;/i&gt;" in shown
    assert "100" not in shown and "…" in shown
    assert "1 succeeded" in result._repr_html_() and "TableTask" in result._repr_html_()


def test_a_graph_and_a_plan_show_a_picture():
    for shown in (make_graph([TableTask()])._repr_html_(), nectar.plan(TableTask())._repr_html_()):
        assert shown.startswith("<svg ") and "TableTask" in shown


def test_a_run_shows_what_failed_first():
    result = nectar.run(TableTask(), BadTask(), echo=False)
    shown = result._repr_html_()
    assert shown.index("ValueError: &lt;script&gt;") < shown.index("TableTask")


@pytest.mark.parametrize(
    ("name", "raw", "kind", "rows", "more"),
    [
        ("a.txt", b"one\ntwo\nthree\n", "lines", ["one", "two"], True),
        ("a.txt", b"", "lines", [], False),
        ("a.csv", b"x,y\n1,2\n", "table", [["1", "2"]], False),
        ("a.tsv", b"x\ty\n1\t2\n3\t4\n5\t6\n", "table", [["1", "2"], ["3", "4"]], True),
        ("a.csv", b'x\n"' + b"a" * 200_000 + b'"\n', "lines", None, False),
        ("a.jsonl", b'{"a": NaN}\nnot json\n', "lines", [{"a": "NaN"}, "not json"], False),
        ("a.csv", b"\0\1", "none", [], True),
        ("a.bin", b"abc", "none", [], True),
        ("a.parquet", b"not parquet", "none", [], True),
    ],
)
def test_a_preview_is_the_beginning_as_the_suffix_says(name, raw, kind, rows, more):
    found = preview(name, io.BytesIO(raw), 2)
    assert (found.kind, found.more) == (kind, more)
    assert rows is None or list(found.rows) == rows


def test_a_preview_of_a_long_file_reads_its_beginning_only():
    file = io.BytesIO(b"line\n" * LOOKED_AT)
    found = preview("a.log", file, 3)
    assert list(found.rows) == ["line"] * 3 and found.more and file.tell() == LOOKED_AT


def test_a_preview_of_a_parquet_file_has_values_of_json():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"n": [1, 2, 3], "x": [0.5, float("nan"), float("inf")], "day": pandas.to_datetime(["2026-01-01"] * 3)}
    )
    raw = io.BytesIO()
    frame.to_parquet(raw)
    raw.seek(0)
    found = preview("a.parquet", raw, 2).to_json()
    assert found["columns"] == ["n", "x", "day"] and found["more"] is True
    assert found["rows"][0][:2] == [1, 0.5] and found["rows"][0][2].startswith("2026-01-01")
