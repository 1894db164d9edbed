"""The documents hold: the README's first chain runs as it is printed, links lead somewhere, nothing is left unsaid."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest

from nectar.cli.entry import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DESCRIPTIONS = ROOT / "docs" / "descriptions.md"
DOCUMENTS = sorted([README, *(ROOT / "docs").rglob("*.md")])
CHAIN = Path("chains/food/basket_chain.py")
TOLD = ("A first chain", "On disk", "Why did this run?")  #: the sections of the README that are one story
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    language: str
    text: str


def section(heading: str) -> str:
    """Return what the README says under a heading of the second level."""
    pattern = rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)"
    found = re.search(pattern, README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section `{heading}`"
    return found[1]


def story() -> list[Block]:
    """Return the blocks of the README's story in their order."""
    return [Block(language, text) for heading in TOLD for language, text in FENCE.findall(section(heading))]


@dataclass(frozen=True)
class Project:
    """A fresh project, and the commands in it."""

    root: Path

    def answer(self, command: str) -> str:
        """Return what a command prints, its errors among it."""
        environ = {name: text for name, text in os.environ.items() if not name.startswith(("NECTAR_", "PYTHON", "ENV"))}
        environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ["PATH"]])
        # As the README's reader has them: `make` installs the project, and with it the folder `chains`.
        environ["PYTHONPATH"] = os.pathsep.join([str(self.root), str(ROOT / "code")])
        shell = ["bash", "-c", f"exec 2>&1; {command}"]
        done = subprocess.run(shell, cwd=self.root, env=environ, stdout=subprocess.PIPE, text=True)
        return done.stdout.replace(str(self.root), "~/nectar")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path.resolve() / "nectar"
    (root / CHAIN).parent.mkdir(parents=True)
    return Project(root)


def steps(console: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with what it is said to print."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


def plain(text: str) -> str:
    """Return a text without what differs from run to run, and from one Python to the next."""
    lines = (line.rstrip() for line in text.splitlines())
    kept = [line for line in lines if not re.fullmatch(r"\s*[~^]+", line)]  # Python 3.10 marks no place in a line
    return re.sub(r"\b\d+\.\d s\b", "# s", "\n".join(kept))


def matches(said: str, printed: str) -> bool:
    """Say whether a text is as it was said, where a line `...` stands for any lines."""
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in plain(said).splitlines())
    return re.fullmatch(pattern, plain(printed) + "\n" if printed else "") is not None


def patched(source: str, diff: str) -> str:
    """Return a source in which the `-` lines of a diff are its `+` lines."""
    old = "".join(line[1:] for line in diff.splitlines(keepends=True) if line.startswith("-"))
    new = "".join(line[1:] for line in diff.splitlines(keepends=True) if line.startswith("+"))
    assert source.count(old) == 1, f"the diff's lines are not once in the chain:\n{old}"
    return source.replace(old, new)


def test_the_first_chain_is_fifteen_lines():
    (chain,) = [block for block in story() if block.language == "python"]
    assert len(chain.text.splitlines()) == 15


def test_the_readme_s_story_happens_as_it_is_told(project):
    told = 0
    for block in story():
        if block.language == "python":
            (project.root / CHAIN).write_text(block.text, "utf-8")
        elif block.language == "diff":
            (project.root / CHAIN).write_text(patched((project.root / CHAIN).read_text("utf-8"), block.text), "utf-8")
        elif block.language == "console":
            for command, said in steps(block.text):
                printed = project.answer(command)
                assert matches(said, printed), f"$ {command}\n{printed}\nthe README says:\n{said}"
                told += 1
        elif block.language == "text":
            (folder, *_), *named = (line.split() for line in block.text.splitlines())
            target = project.root / folder
            found = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
            assert found == sorted(name for _, name, *_ in named)
    assert told >= 5


def test_the_page_on_descriptions_happens_as_it_is_told(project):
    shutil.copytree(ROOT / "chains" / "testchains", project.root / "chains" / "testchains")
    script, *_ = FENCE.findall(DESCRIPTIONS.read_text("utf-8"))
    (project.root / "words.py").write_text(script[1], "utf-8")
    told = 0
    for language, text in FENCE.findall(DESCRIPTIONS.read_text("utf-8")):
        for command, said in steps(text) if language == "console" else ():
            printed = project.answer(command)
            assert matches(said, printed), f"$ {command}\n{printed}\nthe page says:\n{said}"
            told += 1
    assert told == 12


def test_the_examples_of_selections_happen_as_they_are_told(project):
    blocks = [Block(*one) for one in FENCE.findall((ROOT / "docs" / "selection.md").read_text("utf-8"))]
    chain = project.root / "chains/food/dinner_chain.py"
    scripts = told = 0
    for block in blocks:
        if block.language == "python" and not chain.exists():
            chain.write_text(block.text, "utf-8")
        elif block.language == "python":
            (project.root / "script.py").write_text(block.text, "utf-8")
            assert project.answer("python script.py") == "", block.text
            scripts += 1
        elif block.language == "console":
            for command, said in steps(block.text):
                printed = project.answer(command)
                assert matches(said, printed), f"$ {command}\n{printed}\nthe page says:\n{said}"
                told += 1
    assert (scripts, told) == (2, 7)


def test_the_page_on_secrets_happens_as_it_is_told(project):
    blocks = [Block(*one) for one in FENCE.findall((ROOT / "docs" / "secrets.md").read_text("utf-8"))]
    (project.root / CHAIN).write_text(blocks[0].text, "utf-8")
    for command, said in steps(blocks[1].text):
        printed = project.answer(command)
        assert matches(said, printed), f"$ {command}\n{printed}\nthe page says:\n{said}"
    kept = [path for path in project.root.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert kept == [project.root / ".env"]


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    text = FENCE.sub("", document.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_within_the_documents_leads_somewhere(document):
    text = FENCE.sub("", document.read_text("utf-8"))
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, anchor = unquote(link).partition("#")
        if re.match(r"[a-z]+:", place):
            continue
        target = (document.parent / place).resolve() if place else document
        leads = target.is_relative_to(ROOT) and target.exists()
        if not leads or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_command_has_a_line_in_the_readme():
    listed = set(re.findall(r"^\| `nectar (\w+)", section("The commands"), re.MULTILINE))
    assert listed == set(COMMANDS)


def test_every_environment_variable_is_documented():
    source = (ROOT / "code" / "nectar" / "settings.py").read_text("utf-8")
    read = set(re.findall(r"\bNECTAR_[A-Z]+(?:_[A-Z]+)*\b", source)) | {"PROJECT_BUCKET"}
    said = "\n".join(document.read_text("utf-8") for document in DOCUMENTS)
    assert not sorted(name for name in read if not re.search(rf"\b{name}\b", said))


def test_every_file_of_the_decisions_is_reachable_from_the_architecture():
    overview = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    names = [path.name for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert names
    assert not [name for name in names if f"(decisions/{name})" not in overview]
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_no_document_names_a_place_on_somebody_s_machine():
    pattern = re.compile(r"(?<![\w.~])/(?:root|work|tmp|home)/")
    assert not [document.name for document in DOCUMENTS if pattern.search(document.read_text("utf-8"))]
