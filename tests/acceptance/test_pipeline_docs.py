"""What docs/pipelines.md shows happens: its files are written, its commands carried out, and what comes is shown."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("story")

from story import FENCE, Reader  # noqa: E402

from nectar.pipeline import vocabulary  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "pipelines.md").read_text(encoding="utf-8")


@pytest.fixture
def reader(project):
    """Somebody in an empty project."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    shutil.rmtree(project.root / "chains")
    made = Reader(project.root.resolve(), project.environment())
    yield made
    made.end()


def test_all_that_the_guide_shows_happens_as_it_is_shown(reader):
    reader.follow(PAGE)
    assert len(reader.done) >= 20
    assert reader.end() == 0


def test_the_packages_of_the_guide_work_as_they_stand(project):
    info = "packages/ours-1.0.dist-info"
    for language, text in FENCE.findall(PAGE):
        if language == "python" and (name := re.match(r"# (our_\w+\.py)\n", text)):
            project.file(f"packages/{name[1]}", text)
    project.file(f"{info}/METADATA", "Metadata-Version: 2.1\nName: ours\nVersion: 1.0\n")
    points = "[nectar.catalogs]\nshelf = our_services:Shelf\n[nectar.executors]\nhere = our_executors:Here\n"
    project.file(f"{info}/entry_points.txt", points)
    project.file("c.yaml", "catalog: {type: shelf}\nexecutor: {type: here, config: {word: then}}\n")
    [getting_started] = [text for _, text in FENCE.findall(PAGE) if text.startswith("# getting-started.yaml")]
    project.file("p.yaml", getting_started)
    path = ":".join([str(project.root / "packages"), project.environment().get("PYTHONPATH", "")])
    answer = project.nectar("execute", "-q", "--file", "p.yaml", "--x", "3", "-c", "c.yaml", PYTHONPATH=path)
    assert answer.code == 0, answer
    assert "then chains.pipelines.p_chain.step shell\n" in answer.out
    assert len(list((project.root / "shelf").iterdir())) == 1
    ran = project.nectar("run", "--executor", "here", "-q", "etl/daily_chain", "ReportTask", PYTHONPATH=path)
    assert ran.out.startswith("now chains.etl.daily_chain.LoadTask(day=1)\n"), ran


def test_every_type_of_a_service_is_in_the_guide():
    rows = {row[1]: row[2] for row in re.finditer(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)}
    for service, types in vocabulary.SERVICES.items():
        assert not [one for one in types if f"`{one}`" not in rows[service]], service
    assert not [group for group in vocabulary.GROUPS.values() if f"`{group}`" not in PAGE]
