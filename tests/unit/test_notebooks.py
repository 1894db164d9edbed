"""The page on notebooks, carried out as it stands; and the notebook, which is that page after it was run.

`python tests/unit/test_notebooks.py` makes docs/pasta.ipynb anew.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, NOTEBOOK = DOCS / "notebooks.md", DOCS / "pasta.ipynb"
SHOWN = ("lunch", "merge.dependency_graph()", "list(again)")  #: what a person would look at after each piece of code


def pieces() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def notebook() -> Any:
    """Return the notebook of the page, before it is run."""
    nbformat = pytest.importorskip("nbformat")
    new = nbformat.v4
    cells = [new.new_markdown_cell("# Pasta al pomodoro e basilico\n\nSee [the page](notebooks.md) for what it says.")]
    for code, shown in zip(pieces(), SHOWN, strict=True):
        cells += [new.new_code_cell(code.strip()), new.new_code_cell(shown)]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    made = new.new_notebook(cells=cells)
    made.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return made


def run(made: Any, folder: Path) -> Any:
    """Run a notebook in a folder, and return it without what differs from time to time."""
    nbclient = pytest.importorskip("nbclient")
    nbclient.NotebookClient(made, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    made.metadata.pop("language_info", None)
    for cell in made.cells:
        cell.metadata.clear()
    return made


def test_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "notebook"}
    for piece in pieces():
        exec(piece, names)
    assert names["lunch"] == "pasta in salted boiling water, tomatoes on brown onions, basil"
    told = re.search(r"^It prints\n\n```\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert told is not None
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert printed == [line.strip() for line in told[1].splitlines()]
    assert dict(names["again"]) == {"PourTomatoes": "tomatoes on brown onions"}
    assert sorted(os.listdir(tmp_path)) == ["lunch"]


def test_the_notebook_is_the_page_after_it_was_run(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    kept = nbformat.read(NOTEBOOK, as_version=4)
    made = run(notebook(), tmp_path)
    assert [cell.source for cell in kept.cells] == [cell.source for cell in made.cells], f"make it anew: {__doc__}"
    assert [cell.get("outputs") for cell in kept.cells] == [cell.get("outputs") for cell in made.cells]
    shown = [output for cell in made.cells for output in cell.get("outputs", ())]
    assert any("image/svg+xml" in output.get("data", {}) for output in shown)
    listings = [output.get("text", "") for output in shown if output.output_type == "stream"]
    assert len(listings) == 1 and "[*] ( ) PourTomatoes" in listings[0], "a listing is shown once"


if __name__ == "__main__":
    import tempfile

    import nbformat

    with tempfile.TemporaryDirectory() as place:
        nbformat.write(run(notebook(), Path(place)), NOTEBOOK)
    print(f"{NOTEBOOK.name} was made anew", file=sys.stderr)
