"""What a value is after it went through a file, and what is refused with which words."""

from __future__ import annotations

import datetime
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nectar import errors, formats

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
Image = pytest.importorskip("PIL.Image")
matplotlib_figure = pytest.importorskip("matplotlib.figure")

text = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
json_values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=20)
through_one_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def through(value: object, path: Path) -> Any:
    formats.dump(value, path)
    return formats.load(path)


def refusal(act: Callable[[], object]) -> errors.NoFormat:
    with pytest.raises(errors.NoFormat) as caught:
        act()
    return caught.value


# Round trips


@through_one_file
@given(text)
def test_text_comes_back_with_its_line_ends(tmp_path: Path, value: str) -> None:
    assert through(value, tmp_path / "out.txt") == value
    assert (tmp_path / "out.txt").read_bytes() == value.encode("utf-8")


@through_one_file
@given(json_values)
def test_json_comes_back_with_equal_types(tmp_path: Path, value: object) -> None:
    assert repr(through(value, tmp_path / "out.json")) == repr(value)


@through_one_file
@given(st.lists(json_values))
def test_jsonl_comes_back_one_value_a_line(tmp_path: Path, values: list[object]) -> None:
    assert repr(through(iter(values), tmp_path / "out.jsonl")) == repr(values)
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == len(values)


@through_one_file
@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_floats_in_csv_come_back_to_the_last_bit(tmp_path: Path, values: list[float]) -> None:
    assert through(pd.DataFrame({"x": values}), tmp_path / "out.csv")["x"].tolist() == values


def test_json_is_indented_utf8_with_a_line_end_and_keeps_the_order_of_keys(tmp_path: Path) -> None:
    formats.dump({"b": "é", "a": (1, 2.5)}, tmp_path / "out.json")
    expected = '{\n  "b": "é",\n  "a": [\n    1,\n    2.5\n  ]\n}\n'
    assert (tmp_path / "out.json").read_bytes() == expected.encode("utf-8")


def test_numpy_scalars_become_json_numbers(tmp_path: Path) -> None:
    value = {"int": np.int64(3), "float": np.float32(0.5), "bool": np.bool_(True), "text": np.str_("a")}
    assert through(value, tmp_path / "out.json") == {"int": 3, "float": 0.5, "bool": True, "text": "a"}


@pytest.fixture
def frame() -> Any:
    return pd.DataFrame(
        {
            "day": pd.to_datetime(["2013-01-01", "2013-01-02"]),
            "carrier": pd.Categorical(["UA", "B6"]),
            "delay": [1.5, None],
            "flights": np.array([3, 4], dtype="int16"),
        }
    )


def test_parquet_keeps_types_missing_values_and_index(frame: Any, tmp_path: Path) -> None:
    indexed = frame.set_index("day")
    pd.testing.assert_frame_equal(through(frame, tmp_path / "a.parquet"), frame)
    pd.testing.assert_frame_equal(through(indexed, tmp_path / "b.parquet"), indexed)


def test_an_arrow_table_comes_back_from_parquet_as_a_frame(tmp_path: Path) -> None:
    back = through(pa.table({"a": [1, 2]}), tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(back, pd.DataFrame({"a": [1, 2]}))


def test_csv_of_a_frame_has_no_index_and_line_feeds_alone(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    formats.dump(frame[frame["a"] > 1], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == b"a,b\n2,\n"


@pytest.mark.parametrize(
    "value",
    [
        [{"a": 1, "b": "x,y"}, {"b": None, "a": 2}],
        [["a", "b"], (1, "x,y"), [2, None]],
    ],
    ids=["mappings", "rows"],
)
def test_csv_of_a_list_has_a_header_and_a_line_for_each_row(value: object, tmp_path: Path) -> None:
    back = through(value, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == b'a,b\n1,"x,y"\n2,\n'
    assert list(back.columns) == ["a", "b"]
    assert back.fillna("missing").to_numpy().tolist() == [[1, "x,y"], [2, "missing"]]


def test_npy_keeps_shape_and_type(tmp_path: Path) -> None:
    array = np.arange(6, dtype="float32").reshape(2, 3)
    back = through(array, tmp_path / "out.npy")
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.jpeg", "out.PNG"])
def test_a_figure_becomes_an_image_of_its_own_size(name: str, tmp_path: Path) -> None:
    figure = matplotlib_figure.Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([1, 2], [3, 4])
    image = through(figure, tmp_path / name)
    assert image.size == (100, 50)
    assert image.format == ("PNG" if "png" in name.lower() else "JPEG")


def test_an_image_keeps_its_pixels_in_png(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 2), (10, 20, 30, 40))
    back = through(image, tmp_path / "out.png")
    assert (back.mode, back.size, back.tobytes()) == (image.mode, image.size, image.tobytes())


# Refusals


@pytest.mark.parametrize("suffix", ["pickle", "pkl", "joblib"])
def test_a_pickle_is_neither_written_nor_executed(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{suffix}"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "fired")))
    for error in (refusal(lambda: formats.load(path)), refusal(lambda: formats.dump(1, path))):
        assert "runs any code" in error.message
        assert "tables as `parquet`, arrays as `npy`, plain values as `json`" in str(error.hint)
    assert not (tmp_path / "fired").exists()


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("out.xyz", "the suffix `xyz`"),
        ("table.csv.gz", "the suffix `gz`"),
        ("out", "no suffix"),
        (".txt", "no suffix"),
    ],
)
def test_an_unknown_suffix_is_refused_naming_the_known_ones(name: str, part: str, tmp_path: Path) -> None:
    for error in (refusal(lambda: formats.dump("x", tmp_path / name)), refusal(lambda: formats.load(tmp_path / name))):
        assert part in error.message
        assert all(f"`{suffix}`" in str(error.hint) for suffix in formats.suffixes())
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("value", "name", "part"),
    [
        (b"x", "out.txt", "a `bytes` cannot be written as `txt`"),
        ({"a": 1}, "out.txt", "a `dict`"),
        ("\ud800", "out.txt", "lone surrogate"),
        (["\ud800"], "out.json", "lone surrogate"),
        ({"a": [1, float("nan")]}, "out.json", "at `$.a[1]` is `nan`"),
        ([float("-inf")], "out.json", "at `$[0]` is `-inf`"),
        (np.float64("nan"), "out.json", "nan"),
        ({"a": {1: 2}}, "out.json", "at `$.a` the key `1`"),
        ({"a": datetime.date(2013, 1, 1)}, "out.json", "at `$.a` is a `date`"),
        (np.datetime64("2013-01-01", "ns"), "out.json", "`datetime64`"),
        (np.longdouble(1), "out.json", "`longdouble`"),
        ({"a": np.arange(2)}, "out.json", "`ndarray`"),
        ({1, 2}, "out.json", "`set`"),
        pytest.param(10**5000, "out.json", "digits", id="a number of 5,001 digits"),
        ("abc", "out.jsonl", "a `str`"),
        ({"a": 1}, "out.jsonl", "a `dict`"),
        (3, "out.jsonl", "an iterable of JSON values"),
        ({1}, "out.jsonl", "no order"),
        (pd.DataFrame({"a": [1]}), "out.jsonl", "a `DataFrame`"),
        ([1, object()], "out.jsonl", "at `$[1]`"),
        ({"a": 1}, "out.csv", "a `dict`"),
        ([], "out.csv", "no header"),
        ([{"a": 1}, {"b": 1}], "out.csv", "row 1 does not have the keys"),
        ([["a"], [1, 2]], "out.csv", "row 1 is not a list or tuple"),
        ([["a"], "x"], "out.csv", "row 1"),
        ([["a"], [[1]]], "out.csv", "line 2 has a `list` in a cell"),
        ([{}], "out.csv", "header is empty"),
        (["a", "b"], "out.csv", "row 0 is not a list"),
        (pd.DataFrame({"a": [1]}).set_index("a"), "out.csv", "index of the frame would be lost"),
        (pd.DataFrame({"a": [1, 2]}).describe(), "out.csv", "index of the frame would be lost"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "out.csv", "each of them once"),
        (pd.Series([1]), "out.csv", "a `Series`"),
        ([1], "out.parquet", "a `list`"),
        (pd.DataFrame({"a": [1, "x"]}, dtype=object), "out.parquet", "cannot be written as `parquet`"),
        ([1], "out.npy", "a `list`"),
        (np.array([object()]), "out.npy", "Python objects"),
        (np.ma.masked_array([1, 2], [True, False]), "out.npy", "a `MaskedArray`"),
        (np.zeros((2, 2)), "out.png", "a `ndarray`"),
        (Image.new("RGBA", (1, 1)), "out.jpg", "RGBA"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_saying_why_and_what_fits(
    value: object, name: str, part: str, tmp_path: Path
) -> None:
    error = refusal(lambda: formats.dump(value, tmp_path / name))
    assert part in str(error)
    assert f"`{type(value).__qualname__}`" in error.message
    assert f"`{name.partition('.')[2]}` takes " in str(error.hint)


def test_a_value_that_holds_itself_is_refused(tmp_path: Path) -> None:
    value: list[object] = []
    value.append(value)
    assert "holds itself" in refusal(lambda: formats.dump(value, tmp_path / "out.json")).message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("out.txt", b"\xff\xfe"),
        ("out.json", b'{"a": '),
        ("out.json", b"[NaN]"),
        ("out.json", b"[" * 100_000),
        ("out.json", b""),
        ("out.jsonl", b'{"a": 1}\nnot json\n'),
        ("out.jsonl", b'"\xff"\n'),
        ("out.csv", b""),
        ("out.csv", b"a\n1,2\n3,4,5\n"),
        ("out.csv", b"a\n\xff\n"),
        ("out.parquet", b"no parquet at all"),
        ("out.parquet", b""),
        ("out.npy", b"no array"),
        ("out.png", b"no image"),
        ("out.png", b""),
    ],
)
def test_a_file_that_is_not_what_its_suffix_says_is_refused_naming_it(
    name: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert f"`{path}` cannot be read as" in refusal(lambda: formats.load(path)).message


def test_the_bad_line_of_a_jsonl_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text('{"a": 1}\n\nnot json\n')
    assert "line 3" in refusal(lambda: formats.load(tmp_path / "out.jsonl")).message


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "out.npy", np.array([Bomb(tmp_path / "fired")]), allow_pickle=True)
    assert "allow_pickle" in refusal(lambda: formats.load(tmp_path / "out.npy")).message
    assert not (tmp_path / "fired").exists()


@pytest.mark.parametrize("name", ["out.png", "out.jpg"])
def test_half_an_image_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    formats.dump(Image.effect_noise((64, 64), 50), path)
    path.write_bytes(path.read_bytes()[:1000])
    assert "cannot be read" in refusal(lambda: formats.load(path)).message


@pytest.mark.parametrize("suffix", formats.suffixes())
def test_a_file_that_is_not_there_is_the_systems_own_error(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        formats.load(tmp_path / f"missing.{suffix}")


def test_an_error_in_the_generator_of_a_jsonl_is_the_generators_own(tmp_path: Path) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        formats.dump(broken(), tmp_path / "out.jsonl")


# Lightness


def test_plain_formats_import_no_library_and_a_missing_one_is_named_with_its_extra(tmp_path: Path) -> None:
    program = """
import json, sys
heavy = ("pandas", "numpy", "pyarrow", "matplotlib", "PIL")
from nectar import errors, formats
for name, value in (("a.txt", "x"), ("a.json", {"a": 1}), ("a.jsonl", [1]), ("a.csv", [["a"], [1]])):
    formats.dump(value, sys.argv[1] + "/" + name)
    if name != "a.csv":
        formats.load(sys.argv[1] + "/" + name)
loaded = [name for name in heavy if name in sys.modules]
hints = []
for library, name in (("pandas", "a.csv"), ("PIL", "a.png")):
    sys.modules[library] = None
    open(sys.argv[1] + "/" + name, "a").close()
    try:
        formats.load(sys.argv[1] + "/" + name)
    except errors.NoFormat as error:
        hints.append(error.hint)
print(json.dumps([loaded, hints]))
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    loaded, hints = json.loads(done.stdout)
    assert loaded == []
    assert hints == ["pip install 'nectar-chains[tables]'", "pip install 'nectar-chains[pictures]'"]
