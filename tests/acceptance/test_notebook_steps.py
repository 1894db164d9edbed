"""Notebooks as steps of pipelines, in real kernels: what cells are given, ask, tell and print, and what is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not here: pip install nbformat")
needs_papermill = pytest.mark.usefixtures("papermill")
PIPELINE = """\
dag:
  start_at: count
  steps:
    count:
      type: task
      command_type: notebook
      command: books/count.ipynb
      next: after
      retry: %s
    after:
      type: task
      command_type: python-lambda
      command: "lambda doubled: {'after': doubled + 1}"
      next: success
    success: {type: success}
    fail: {type: fail}
"""
CELLS = (
    "n = 1  # when it is looked at by itself",
    "import os, sys, subprocess\nprint('seen', n, words)\nprint('to stderr', file=sys.stderr)\n"
    "subprocess.run('echo by a child', shell=True)",
    "from pathlib import Path\nimport nectar, helping\nassert nectar.get_parameter('n') == n\n"
    "assert os.environ['NECTAR_PRM_n'] == str(n)\n"
    "nectar.store_parameter(doubled=helping.double(n))\nnectar.track_this(rows=len(words))\n"
    "Path('data/made.txt').write_text('made')\nnectar.put_in_catalog('made*')",
    "if Path('broken').exists():\n    raise ValueError('row 3 has no date')",
    "print('at the end')",
)


@pytest.fixture
def papermill() -> Any:
    """The library, which only notebook steps need."""
    return pytest.importorskip("papermill", reason="papermill is not here: pip install papermill")


def notebook(*cells: str, kernel: str = "python3") -> str:
    new = nbformat.v4
    made = new.new_notebook(cells=[new.new_code_cell(cell, id=f"cell-{number}") for number, cell in enumerate(cells)])
    made.cells[0].metadata["tags"] = ["parameters"]
    if kernel:
        made.metadata["kernelspec"] = {"display_name": kernel, "language": "python", "name": kernel}
    return str(nbformat.writes(made))


@pytest.fixture
def books(project: Any) -> Any:
    project.file("books/count.ipynb", notebook(*CELLS))
    project.file("helping.py", "def double(n):\n    return 2 * n\n")
    project.file("p.yaml", PIPELINE % 1)
    project.file("given.yaml", "n: 4\nwords: [a, b, c]\nclass: no name in Python\n")
    return project


def execute(project: Any, *words: str, code: int = 0) -> Any:
    answer = project.nectar("execute", "--file", "p.yaml", "-p", "given.yaml", *words)
    assert answer.code == code, answer
    return answer.json


@needs_papermill
def test_a_notebook_is_given_parameters_and_its_cells_ask_and_tell_and_print_into_its_log(books):
    log = execute(books)
    assert {name: log["parameters"][name] for name in ("n", "doubled", "after")} == {"n": 4, "doubled": 8, "after": 9}
    step = log["steps"]["count"]
    assert step["user_defined_metrics"] == {"rows": 3}
    assert [one["name"] for one in step["data_catalog"]] == ["made.txt", "count_out.ipynb"]
    kept = books.root / ".catalog" / log["run_id"]
    assert (kept / "made.txt").read_text() == "made"
    executed = nbformat.reads((kept / "count_out.ipynb").read_text(), as_version=4)
    assert [cell.execution_count for cell in executed.cells] == [1, 2, 3, 4, 5, 6]
    injected = executed.cells[1].source
    assert "n = 4\n" in injected and 'words = ["a", "b", "c"]' in injected and "class" not in injected
    assert (books.root / "books/count.ipynb").read_text() == notebook(*CELLS), "what was run is a copy"
    told = books.nectar("runs", "--json", log["run_id"]).json
    folder = books.store / next(step["path"] for step in told["steps"] if step["task"].endswith(".count"))
    printed = (folder / "log/stdout.log").read_text().splitlines()
    assert sorted(printed) == ["at the end", "by a child", "seen 4 ['a', 'b', 'c']"]
    assert "to stderr" in (folder / "log/stderr.log").read_text().splitlines()  # beside what the kernel itself says


@needs_papermill
def test_a_cell_that_raises_fails_the_step_and_leaves_what_was_done(books):
    books.file("broken", "")
    log = execute(books, code=1)
    step = log["steps"]["count"]
    assert (step["status"], list(log["steps"])) == ("FAIL", ["count", "fail"])
    said = "CommandFailed: the cell [5] of `count.ipynb` raised ValueError: row 3 has no date"
    assert step["message"] == said
    executed = nbformat.reads((books.root / ".catalog" / log["run_id"] / "count_out.ipynb").read_text(), as_version=4)
    assert [bool(cell.get("outputs")) for cell in executed.cells if cell.source == CELLS[4]] == [False]
    [failed] = (one.parent for one in books.store.rglob("attempt.json"))
    assert (failed / "log/count_out.ipynb").exists()
    stderr = (failed / "log/stderr.log").read_text()
    assert "Traceback" in stderr and "row 3 has no date" in stderr and "\x1b" not in stderr


@needs_papermill
def test_a_notebook_is_tried_again_as_other_steps_are(books):
    books.file("p.yaml", PIPELINE % 2)
    trying = "from pathlib import Path\nif not Path('tried').exists():\n    Path('tried').touch()\n    raise ValueError"
    books.file("books/count.ipynb", notebook(*CELLS, trying))
    log = execute(books)
    assert [one["status"] for one in log["steps"]["count"]["attempts"]] == ["FAIL", "SUCCESS"]


@needs_papermill
@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"p.yaml": PIPELINE.replace("count.ip", "none.ip") % 1}, "`count` has no notebook `books/none.ipynb`"),
        ({"books/count.ipynb": notebook("x = 1", kernel="")}, "cannot be carried out: ValueError: No kernel name"),
        ({"books/count.ipynb": notebook("x = 1", kernel="cobol")}, "cannot be carried out: NoSuchKernel: "),
        ({"books/count.ipynb": "not a notebook"}, "the notebook `count.ipynb` of `count` cannot be carried out: "),
        ({"books/count.ipynb": notebook("import os", "os._exit(3)")}, "cannot be carried out: DeadKernelError: "),
    ],
    ids=["no file", "no kernel named", "unknown kernel", "no notebook", "dying kernel"],
)
def test_what_cannot_be_carried_out_is_told_in_one_line(books, files, said):
    for name, text in files.items():
        books.file(name, text)
    assert said in execute(books, code=1)["steps"]["count"]["message"]


@needs_papermill
def test_a_kernel_can_be_named_by_the_step(books):
    books.file("books/count.ipynb", notebook(*CELLS, kernel="cobol"))
    books.file("p.yaml", PIPELINE.replace("retry: %s", "command_config: {kernel: python3}"))
    assert execute(books)["parameters"]["after"] == 9


@needs_papermill
def test_a_pipeline_among_the_chains_finds_its_notebook_in_the_project_and_what_that_needs(books):
    text = PIPELINE.replace("doubled + 1", "int(doubled) + 1") % 1  # what the command line gives is text
    books.file("chains/etl/counting_chain.yaml", text)
    books.file("books/count.ipynb", notebook("n, words = 1, []", *CELLS[1:]))
    assert "PipelineTask [--n str] [--words str]" in books.nectar("list", "etl/counting_chain").out
    made = books.nectar("run", "etl/counting_chain", "PipelineTask", "--n", "2", "--words", "abc")
    assert made.code == 0, made
    told = json.loads(Path(made.out.strip()).read_text())
    assert told == {"n": "2", "words": "abc", "doubled": "22", "after": 23}
    names = {name.rpartition("/catalog/")[2] for name in books.kept() if "/catalog/" in name}
    assert names == {"made.txt", "count_out.ipynb"}
    assert not (books.root / "data").exists()


CANARY = "canary-hunter2"


@needs_papermill
@pytest.mark.parametrize("catalog", ["file-system", "store"])
def test_a_secret_that_a_cell_asks_for_is_nowhere(books, catalog):
    cells = (
        "n = 1",
        "import nectar, sys\nword = nectar.get_secret('word')\nassert len(word) == 14",
        "print('it is', word)\nprint(word, file=sys.stderr)\nnectar.track_this(word=word)\nword",
        "raise ValueError('not ' + word)",
    )
    books.file("books/count.ipynb", notebook(*cells))
    services = (
        f"secrets: {{type: dotenv, config: {{location: {books.root}/../word.env}}}}\ncatalog: {{type: {catalog}}}\n"
    )
    books.file("p.yaml", services + PIPELINE % 2)
    (books.root.parent / "word.env").write_text(f"word={CANARY}\n")
    answer = books.nectar("execute", "--file", "p.yaml", "-p", "given.yaml")
    assert answer.code == 1, answer
    assert answer.json["steps"]["count"]["message"].endswith("raised ValueError: not ******")
    found = [place for place in books.root.rglob("*") if place.is_file() and CANARY.encode() in place.read_bytes()]
    assert not found
    assert CANARY not in answer.out + answer.err
    [one, _] = sorted(books.store.rglob("log/count_out.ipynb"))
    assert "it is ******" in one.read_text()
    assert (one.parent / "stdout.log").read_text() == "it is ******\n"


def test_without_papermill_the_step_says_what_to_install(books):
    books.file("papermill.py", "raise ImportError('not here')\n")  # the project's folder comes first
    log = execute(books, code=1)
    assert log["steps"]["count"]["message"] == "CommandFailed: `count` is a notebook, and papermill is not installed"
    assert "install `nectar-chains[notebooks]`" in str(books.nectar("logs", log["run_id"]))
