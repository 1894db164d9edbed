"""The installed package: what imports from any directory, and what the shipped configuration says."""

import configparser
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from nectar import settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def new_chain_type() -> Iterator[str]:
    """A chain type that was not there when the project was installed, without an `__init__.py`."""
    name = f"probe_{uuid.uuid4().hex}"
    folder = ROOT / "chains" / name
    folder.mkdir()
    try:
        (folder / "answer_chain.py").write_text("ANSWER = 42\n", encoding="utf-8")
        yield name
    finally:
        shutil.rmtree(folder)


def python_elsewhere(program: str, directory: Path) -> str:
    """Run a program in another directory, with nothing but the install to find modules by; return what it prints."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    answer = subprocess.run([sys.executable, "-c", program], cwd=directory, env=environ, capture_output=True, text=True)
    assert answer.returncode == 0, f"is the project installed (`make test` does it)?\n{answer.stderr}"
    return answer.stdout.strip()


def test_chains_imports_from_any_directory(tmp_path):
    assert python_elsewhere("import chains; print(chains.__file__)", tmp_path) == str(ROOT / "chains" / "__init__.py")


def test_a_chain_type_added_after_the_install_imports_from_any_directory(tmp_path, new_chain_type):
    program = f"from chains.{new_chain_type} import answer_chain; print(answer_chain.ANSWER)"
    assert python_elsewhere(program, tmp_path) == "42"


def test_the_standard_library_keeps_its_module_code(tmp_path):
    assert not (ROOT / "code" / "__init__.py").exists()
    assert python_elsewhere("import code; print(code.InteractiveConsole.__name__)", ROOT) == "InteractiveConsole"


def test_the_command_is_installed():
    (command,) = metadata.entry_points(group="console_scripts", name="nectar")
    assert command.value == "nectar.cli:main"
    assert callable(command.load())


def test_every_package_is_listed_and_typed():
    configuration = configparser.ConfigParser(interpolation=None)
    configuration.read(ROOT / "setup.cfg", encoding="utf-8")
    code = ROOT / "code"
    found = {".".join(init.parent.relative_to(code).parts) for init in code.glob("nectar/**/__init__.py")}
    assert set(configuration["options"]["packages"].split()) == found | {"chains"}
    assert (code / "nectar" / "py.typed").is_file()


def test_the_shipped_configuration_names_every_setting_with_its_default(tmp_path):
    shipped = (ROOT / "configuration" / "nectar.toml").read_text(encoding="utf-8")
    uncommented = re.sub(r"^#(?=\[|\w+ = )", "", shipped, flags=re.MULTILINE)
    for folder in ("chains", "configuration"):
        (tmp_path / folder).mkdir()
    defaults = settings.load(environ={}, directory=tmp_path)
    (tmp_path / "configuration" / "nectar.toml").write_text(uncommented, encoding="utf-8")
    assert settings.load(environ={}, directory=tmp_path) == defaults

    sections = re.split(r"^\[(\w+)\]$", uncommented, flags=re.MULTILINE)[1:]
    named = set()
    for section, body in zip(sections[::2], sections[1::2], strict=True):
        keys = re.findall(r"^(\w+) = ", body, flags=re.MULTILINE)
        named.update(keys, (f"{section}_{key}" for key in keys), (f"{key}_url" for key in keys))
    assert named >= {field.name for field in dataclasses.fields(settings.Settings)} - {"root", "s3", "secrets", "serve"}
    assert "secrets_type" in named  # all else there is the store's own
    assert {f"serve_{field.name}" for field in dataclasses.fields(settings.ServeSettings)} <= named
    of_s3 = {field.name for field in dataclasses.fields(settings.S3Settings)}
    assert {name for name in of_s3 if f"s3_{name}" in named} == of_s3 - {"path_style"}  # which has no default to write
