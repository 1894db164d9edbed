"""Chains are found by the names of files and folders alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from nectar import errors
from nectar.chain import description, finder
from nectar.chain.description import BrokenChain, ChainDescription, ParameterDescription, TaskDescription
from nectar.chain.finder import ChainName


@pytest.fixture
def chains_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "chains"
    folder.mkdir()
    return folder


def put(chains_dir: Path, *files: str) -> None:
    for file in files:
        (chains_dir / file).parent.mkdir(parents=True, exist_ok=True)
        (chains_dir / file).write_text("raise RuntimeError('nobody may import this')\n", encoding="utf-8")


def paths(chains_dir: Path) -> list[str]:
    return [chain.path for chain in finder.find(chains_dir).chains]


def test_chains_are_the_modules_of_a_type_that_end_in_chain(chains_dir: Path) -> None:
    put(chains_dir, "etl/flights_chain.py", "etl/daily_chain.py", "ds/train_chain.py", "etl/__init__.py")
    found = finder.find(chains_dir)
    assert [chain.path for chain in found.chains] == ["ds/train_chain", "etl/daily_chain", "etl/flights_chain"]
    assert found.types == ("ds", "etl")
    assert found.misplaced == ()


def test_what_does_not_follow_the_convention_is_not_listed_and_breaks_nothing(chains_dir: Path) -> None:
    put(chains_dir, "etl/helper.py", "etl/my_chain_old.py", "etl/my_chain.pyc", "etl/my_chain.py~", "etl/_chain.py")
    put(chains_dir, "README.md", "stray.py", "data/file.csv", "my-data/file.csv")
    put(chains_dir, ".hidden/x_chain.py", "__pycache__/x_chain.py", "etl/__pycache__/x_chain.py", "etl/.#y_chain.py")
    (chains_dir / "etl" / "folder_chain.py").mkdir()
    (chains_dir / "etl" / "dangling_chain.py").symlink_to("nowhere")
    assert finder.find(chains_dir) == finder.Found((), ())


def test_names_are_never_mangled(chains_dir: Path) -> None:
    put(chains_dir, "etl/pipeline_chain.py", "etl/copy_chain.py", "py/yppy_chain.py", "chains/chain_chain.py")
    assert paths(chains_dir) == ["chains/chain_chain", "etl/copy_chain", "etl/pipeline_chain", "py/yppy_chain"]
    for path in paths(chains_dir):
        assert finder.find_chain(chains_dir, path).path == path


def test_folders_that_cannot_hold_chains_are_named_with_the_reason(chains_dir: Path) -> None:
    put(chains_dir, "my-etl/x_chain.py", "class/x_chain.py", "etl/deep/x_chain.py", "etl/deep/er/y_chain.py")
    put(chains_dir, "etl/my-flights_chain.py")
    found = finder.find(chains_dir)
    assert found.chains == ()
    assert {place.path: place.reason for place in found.misplaced} == {
        "class": "`class` cannot be a Python name: rename it to `class_`",
        "etl/deep": "chains lie directly in a type's folder: move them to `etl/`",
        "etl/deep/er": "chains lie directly in a type's folder: move them to `etl/`",
        "etl/my-flights_chain": "`my-flights_chain` cannot be a Python name: rename it to `my_flights_chain`",
        "my-etl": "`my-etl` cannot be a Python name: rename it to `my_etl`",
    }


def test_a_file_name_that_is_not_utf_8_is_shown_as_text(chains_dir: Path) -> None:
    (chains_dir / "etl").mkdir()
    Path(str(chains_dir / "etl") + "/caf\udce9_chain.py").write_text("", encoding="utf-8")
    assert [place.path for place in finder.find(chains_dir).misplaced] == ["etl/caf\\udce9_chain"]


def test_a_linked_circle_of_folders_ends(chains_dir: Path) -> None:
    put(chains_dir, "etl/x_chain.py")
    (chains_dir / "etl" / "again").symlink_to(chains_dir / "etl")
    assert finder.find(chains_dir) == finder.Found((ChainName("etl", "x_chain"),), ())


def test_without_a_chains_folder_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(errors.ProjectNotFound) as caught:
        finder.find(tmp_path / "chains")
    assert str(tmp_path) in caught.value.message
    assert "NECTAR_PROJECT" in str(caught.value.hint)


@pytest.mark.parametrize(
    "text",
    [
        "etl/flights_chain",
        "etl.flights_chain",
        "etl/flights_chain.py",
        "chains/etl/flights_chain",
        "chains.etl.flights_chain",
        "chains/etl/flights_chain.py",
    ],
)
def test_a_chain_is_named_as_path_as_module_or_as_file(text: str) -> None:
    name = ChainName.parse(text)
    assert name == ChainName("etl", "flights_chain")
    assert str(name) == name.path == "etl/flights_chain"
    assert name.module == "chains.etl.flights_chain"
    assert name.file_in("nowhere") == "chains/etl/flights_chain.py"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "flights_chain",
        "etl/flights",
        "etl/_chain",
        "../etl/flights_chain",
        "../../etc/passwd_chain",
        "/etc/passwd_chain",
        "chains/../etl/x_chain",
        "etl/..",
        "etl/x_chain\0",
        "etl/x_chain\n",
        "etl/x-y_chain",
        "etl\\x_chain",
        "__import__('os')/x_chain",
        "chains/chains/etl/x_chain",
        "a" * 10_000,
        "\udcff/x_chain",
    ],
)
def test_no_text_leads_out_of_the_chains_folder(chains_dir: Path, text: str) -> None:
    put(chains_dir, "etl/flights_chain.py")
    with pytest.raises(errors.ChainNotFound):
        ChainName.parse(text)
    with pytest.raises(errors.ChainNotFound) as caught:
        finder.find_chain(chains_dir, text)
    assert len(caught.value.message) < 150


@pytest.mark.parametrize(
    "file",
    ["etl/x_chain.py", "__pycache__/x_chain.py", "etl/folder_chain.py/x.py", "etl/deep/x_chain.py", "2x/x_chain.py"],
)
def test_one_chain_is_found_by_its_name_exactly_where_all_are_found(chains_dir: Path, file: str) -> None:
    put(chains_dir, "etl/other_chain.py", file)
    listed = [chain.path for chain in finder.find(chains_dir).chains]
    for text in (file, file.removesuffix(".py"), "etl/folder_chain", "etl/x_chain", "etl/other_chain"):
        try:
            found = finder.find_chain(chains_dir, text).path
        except errors.ChainNotFound:
            assert text.removesuffix(".py") not in listed
        else:
            assert found in listed


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("etl/fligths_chain", "did you mean `etl/flights_chain`?"),
        ("etl/flights", "did you mean `etl/flights_chain`?"),
        ("ds/flights_chain", "did you mean `etl/flights_chain`?"),
        ("flights_chain", "did you mean `etl/flights_chain`?"),
        ("zzz", "there is `etl/flights_chain`"),
        ("etl/deep/x_chain", "`etl/deep` is left out: chains lie directly in a type's folder: move them to `etl/`"),
        ("my-etl/x_chain", "`my-etl` is left out: `my-etl` cannot be a Python name: rename it to `my_etl`"),
    ],
)
def test_an_unknown_chain_is_answered_with_the_way_out(chains_dir: Path, text: str, hint: str) -> None:
    put(chains_dir, "etl/flights_chain.py", "etl/deep/x_chain.py", "my-etl/x_chain.py")
    with pytest.raises(errors.ChainNotFound) as caught:
        finder.find_chain(chains_dir, text)
    assert caught.value.message == f"no chain `{text}`"
    assert caught.value.hint == hint


PARAMETERS = (
    ParameterDescription("day", "date", None, True, True, None, "", "public"),
    ParameterDescription("mode", "choice", "a", False, False, ("a", "b"), "how", "hidden"),
)
CHAIN = ChainDescription(
    ChainName("etl", "daily_chain"), "Loads days.", (TaskDescription("LoadTask", "Loads.", "LoadTask", PARAMETERS),)
)


def test_descriptions_come_back_from_their_json() -> None:
    broken = BrokenChain("etl/x_chain", "ValueError: no", "Traceback ...", "chains/etl/x_chain.py:3")
    assert ChainDescription.from_json(CHAIN.to_json()) == CHAIN
    assert BrokenChain.from_json(broken.to_json()) == broken


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"name": "../x", "doc": "", "tasks": []},
        {"name": "etl/x_chain", "doc": 1, "tasks": []},
        {"name": "etl/x_chain", "doc": "", "tasks": [{}]},
    ],
)
def test_json_that_is_no_description_is_a_value_error(document: object) -> None:
    with pytest.raises(ValueError, match=r"is not a|no chain"):
        ChainDescription.from_json(document)


def test_an_unknown_task_is_answered_with_the_nearest() -> None:
    assert description.find_task(CHAIN, "LoadTask") is CHAIN.tasks[0]
    with pytest.raises(errors.TaskNotFound) as caught:
        description.find_task(CHAIN, "LoadTsk")
    assert caught.value.message == "no task `LoadTsk` in `etl/daily_chain`"
    assert caught.value.hint == "did you mean `LoadTask`?"
