"""Decide by a file's suffix how a value is written to it and read from it.

Nothing here executes what it reads: no format that can carry code is among them. Libraries for tables, arrays and
images are imported when a file of theirs is at hand, never before; what a value is, is seen from its class alone.
"""

from __future__ import annotations

import csv
import importlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from nectar import errors

_PICKLES = ("pickle", "pkl", "joblib")

#: The extra of the distribution that brings a library.
_EXTRAS = {"pandas": "tables", "pyarrow": "tables", "numpy": "tables", "PIL": "pictures"}


@dataclass(frozen=True, slots=True)
class _Format:
    fits: str  #: what can be written, as a person would say it
    write: Callable[[Any, Path], None]  #: raises _Mismatch for a value that does not fit
    read: Callable[[Path], object]  #: raises _Mismatch for a file that is not of this format


class _Mismatch(Exception):
    """A value or a file does not fit its suffix: why, and what would."""

    def __init__(self, why: str = "", fix: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.fix = fix


def suffixes() -> tuple[str, ...]:
    """Return the suffixes that have a format, without their dots."""
    return tuple(_FORMATS)


def dump(value: object, path: str | os.PathLike[str]) -> None:
    """Write `value` to the file at `path` as its suffix says.

    - `txt`, `md`: a str, as UTF-8, its line ends as they are.
    - `json`: None, bool, int, finite float, str, lists, tuples and mappings with str keys, and numpy's scalars of
      these kinds; UTF-8, indented by 2, a line end at the end. A tuple comes back as a list.
    - `jsonl`: an iterable of such values, one to a line, written as they come.
    - `csv`: a pandas DataFrame without its index (one that says something is refused, not lost); a non-empty list of
      mappings with equal keys; or a list of lists or tuples of equal length, the first of which is the header. Cells
      of lists are written as `str` writes them and None as nothing; containers and bytes in cells are refused.
    - `parquet`: a pandas DataFrame with its index, or a pyarrow Table.
    - `npy`: a numpy array without Python objects in it.
    - `png`, `jpg`, `jpeg`: a matplotlib Figure in its own size and resolution, or a PIL Image.

    The file is written in place, over what was there; a failed call can leave a part of it.

    Raises:
        NoFormat: for an unknown suffix, one that could carry code, a value that does not fit, or a missing library.
        OSError: when the file cannot be written.
    """
    path = Path(path)
    suffix, form = _format_of(path)
    try:
        form.write(value, path)
    except _Mismatch as mismatch:
        why = f": {mismatch.why}" if mismatch.why else ""
        fix = f"; {mismatch.fix}" if mismatch.fix else ""
        raise errors.NoFormat(
            f"a `{type(value).__qualname__}` cannot be written as `{suffix}`{why}",
            hint=f"`{suffix}` takes {form.fits}{fix}",
        ) from mismatch.__cause__


def load(path: str | os.PathLike[str]) -> Any:
    """Return the value in the file at `path`, read as its suffix says.

    - `txt`, `md`: a str, its line ends as they are.
    - `json`: the value; `jsonl`: a list of values, empty lines left out.
    - `csv`: a pandas DataFrame as `pandas.read_csv` infers it, floats exact to the last bit; `parquet`: a pandas
      DataFrame with its index.
    - `npy`: a numpy array; `png`, `jpg`, `jpeg`: a PIL Image, read to the end.

    Raises:
        NoFormat: for an unknown suffix, one that could carry code, content that is not what the suffix says, or a
            missing library.
        OSError: when the file is not there or cannot be read.
    """
    path = Path(path)
    suffix, form = _format_of(path)
    try:
        return form.read(path)
    except _Mismatch as mismatch:
        raise errors.NoFormat(
            f"`{path}` cannot be read as `{suffix}`: {mismatch.why}",
            hint="the suffix decides how a file is read; read one of another kind through its `.path`",
        ) from mismatch.__cause__


def _format_of(path: Path) -> tuple[str, _Format]:
    suffix = path.suffix[1:].lower()
    known = "known are " + ", ".join(f"`{each}`" for each in suffixes())
    if suffix in _PICKLES:
        raise errors.NoFormat(
            f"`{suffix}` would be a pickle: reading one runs any code that is in it, "
            "and a new version of a library can make it unreadable",
            hint="write what counts in it: tables as `parquet`, arrays as `npy`, plain values as `json`",
        )
    if not suffix:
        raise errors.NoFormat("the file's name has no suffix, so nothing says how to write or read it", hint=known)
    if suffix not in _FORMATS:
        raise errors.NoFormat(
            f"no format belongs to the suffix `{suffix}`",
            hint=f"{known}; any other file can be written and read through its `.path` or `.open()`",
        )
    return suffix, _FORMATS[suffix]


def _library(name: str) -> Any:
    """Return the module `name`, or raise NoFormat naming the extra that brings it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        top = name.partition(".")[0]
        if (missing.name or "").partition(".")[0] != top:
            raise
        raise errors.NoFormat(
            f"this format needs `{top}`, which is not installed", hint=f"pip install 'nectar-chains[{_EXTRAS[top]}]'"
        ) from missing


def _is(value: object, library: str, name: str) -> bool:
    """Return whether the class of `value`, or one above it, is `name` of `library`; imports nothing."""
    return any(kind.__name__ == name and kind.__module__.partition(".")[0] == library for kind in type(value).__mro__)


# Text


def _write_text(value: Any, path: Path) -> None:
    if not isinstance(value, str):
        raise _Mismatch(fix="for anything else name the output `.json`")
    path.write_bytes(_utf8(value))


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as broken:
        raise _Mismatch(f"it is not UTF-8 ({broken})") from broken


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as lone:
        raise _Mismatch(f"it has a lone surrogate, {lone.object[lone.start]!a}, which UTF-8 cannot hold") from lone


# JSON


def _write_json(value: Any, path: Path) -> None:
    path.write_bytes(_utf8(_json_text(value, "$", indent=2) + "\n"))


def _read_json(path: Path) -> object:
    return _json_value(_read_text(path))


def _write_jsonl(value: Any, path: Path) -> None:
    if _is(value, "pandas", "DataFrame"):
        raise _Mismatch(fix='a frame gives `frame.to_dict("records")`')
    if isinstance(value, (set, frozenset)):
        raise _Mismatch("a set has no order", fix="give it one with `sorted()`")
    if isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
        raise _Mismatch(fix="a single value belongs in `.json`")
    with path.open("wb") as file:
        for number, item in enumerate(value):
            file.write(_utf8(_json_text(item, f"$[{number}]") + "\n"))


def _read_jsonl(path: Path) -> list[object]:
    values = []
    # Lines of bytes end at a line feed alone; those of text would also end at what JSON allows inside a string.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    values.append(_json_value(line.decode("utf-8")))
                except (UnicodeDecodeError, _Mismatch) as broken:
                    raise _Mismatch(f"line {number}: {broken}") from broken
    return values


def _json_text(value: object, where: str, indent: int | None = None) -> str:
    try:
        return json.dumps(_plain(value, where), indent=indent, ensure_ascii=False, allow_nan=False)
    except RecursionError as deep:
        raise _Mismatch("it is nested too deeply, or holds itself") from deep
    except ValueError as unwritable:
        raise _Mismatch(str(unwritable)) from unwritable


def _json_value(text: str) -> object:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON number")

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError as broken:
        raise _Mismatch(str(broken)) from broken
    except RecursionError as deep:
        raise _Mismatch("it is nested too deeply") from deep


def _plain(value: object, where: str) -> object:
    """Return `value` in the types that json writes without a loss; `where` is its place, for the error."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _Mismatch(f"at `{where}` is `{value!r}`, which JSON does not have", "write None for a missing one")
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise _Mismatch(f"at `{where}` the key `{key!r}` would come back as text", "make the keys str")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if getattr(value, "shape", None) == () and getattr(getattr(value, "dtype", None), "kind", "") in "biufU":
        scalar = value.item()  # type: ignore[attr-defined]
        # numpy's longdouble has no Python number and gives itself.
        if isinstance(scalar, (bool, int, float, str)):
            return _plain(scalar, where)
    raise _Mismatch(f"at `{where}` is a `{type(value).__qualname__}`, which JSON does not have", _json_fix(value))


def _json_fix(value: object) -> str:
    if hasattr(value, "isoformat"):
        return "write a date or time by its `isoformat()`"
    if hasattr(value, "tolist"):
        return "write an array by its `tolist()`"
    if isinstance(value, (set, frozenset)):
        return "give a set an order with `sorted()`"
    return ""


# Tables


def _write_csv(value: Any, path: Path) -> None:
    if _is(value, "pandas", "DataFrame"):
        _check_frame_for_csv(value)
        with path.open("w", encoding="utf-8", newline="") as file, _translating(ValueError):
            value.to_csv(file, index=False, lineterminator="\n")
        return
    rows = _rows(value)
    with path.open("w", encoding="utf-8", newline="") as file, _translating(csv.Error, UnicodeEncodeError):
        csv.writer(file, lineterminator="\n").writerows(rows)


def _check_frame_for_csv(frame: Any) -> None:
    """Raise _Mismatch for a frame of which a csv file would lose something without a word."""
    index = frame.index
    says_something = any(name is not None for name in index.names) or index.inferred_type != "integer"
    if says_something and (len(index) or index.names != [None]):
        raise _Mismatch(
            "the index of the frame would be lost",
            fix="`frame.reset_index()` makes it a column, `frame.reset_index(drop=True)` leaves it out",
        )
    if not len(frame.columns) or not frame.columns.is_unique or frame.columns.nlevels > 1:
        raise _Mismatch("a csv file needs one line of column names, each of them once")


def _rows(value: Any) -> list[list[object]]:
    """Return header and rows of a list of mappings, or of a list of rows; raise _Mismatch naming the bad row."""
    if not isinstance(value, list):
        raise _Mismatch()
    if not value:
        raise _Mismatch("an empty list has no header", fix="a list with the header alone is an empty table")
    first = value[0]
    if isinstance(first, Mapping):
        for number, row in enumerate(value):
            if not isinstance(row, Mapping) or row.keys() != first.keys():
                raise _Mismatch(f"row {number} does not have the keys of row 0")
        rows = [list(first), *([row[key] for key in first] for row in value)]
    else:
        for number, row in enumerate(value):
            if not isinstance(row, (list, tuple)) or len(row) != len(first):
                raise _Mismatch(f"row {number} is not a list or tuple as long as row 0")
        rows = [list(row) for row in value]
    if not rows[0]:
        raise _Mismatch("the header is empty")
    for number, row in enumerate(rows):
        for cell in row:
            if isinstance(cell, (Mapping, list, tuple, set, frozenset, bytes, bytearray)):
                raise _Mismatch(f"line {number + 1} has a `{type(cell).__qualname__}` in a cell")
    return rows


def _read_csv(path: Path) -> object:
    pandas = _library("pandas")
    # Before pandas 3.1 floats are exact only when that is asked for; since then asking is deprecated.
    older = tuple(map(int, pandas.__version__.split(".")[:2])) < (3, 1)
    with path.open("r", encoding="utf-8", newline="") as file, _translating(ValueError):
        return pandas.read_csv(file, **({"float_precision": "round_trip"} if older else {}))


def _write_parquet(value: Any, path: Path) -> None:
    if _is(value, "pandas", "DataFrame"):
        arrow = _library("pyarrow")
        with path.open("wb") as file, _translating(arrow.ArrowException, ValueError):
            value.to_parquet(file, engine="pyarrow")
    elif _is(value, "pyarrow", "Table"):
        with path.open("wb") as file:
            _library("pyarrow.parquet").write_table(value, file)
    else:
        raise _Mismatch()


def _read_parquet(path: Path) -> object:
    pandas, arrow = _library("pandas"), _library("pyarrow")
    with path.open("rb") as file, _translating(arrow.ArrowException):
        return pandas.read_parquet(file, engine="pyarrow")


# Arrays and images


def _write_npy(value: Any, path: Path) -> None:
    # A subclass (a masked array, a matrix) would come back as less than it was.
    if type(value).__name__ not in ("ndarray", "memmap") or not _is(value, "numpy", "ndarray"):
        raise _Mismatch()
    if value.dtype.hasobject:
        raise _Mismatch("it holds Python objects")
    with path.open("wb") as file:
        _library("numpy.lib.format").write_array(file, value, allow_pickle=False)


def _read_npy(path: Path) -> object:
    with path.open("rb") as file, _translating(ValueError):
        return _library("numpy.lib.format").read_array(file, allow_pickle=False)


def _write_image(form: str) -> Callable[[Any, Path], None]:
    def write(value: Any, path: Path) -> None:
        if _is(value, "matplotlib", "Figure"):
            with path.open("wb") as file:
                value.savefig(file, format=form.lower())
        elif _is(value, "PIL", "Image"):
            with path.open("wb") as file, _translating(OSError, fix='perhaps `image.convert("RGB")` fits'):
                value.save(file, format=form)
        elif hasattr(value, "figure"):
            raise _Mismatch(fix="this one's is at its `.figure`")
        else:
            raise _Mismatch(fix="an array becomes one with `PIL.Image.fromarray()`")

    return write


def _read_image(form: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        # Pillow says SyntaxError for some broken files, and OSError for others.
        with path.open("rb") as file, _translating(OSError, SyntaxError, ValueError):
            image = _library("PIL.Image").open(file, formats=[form])
            image.load()
            return image

    return read


@contextmanager
def _translating(*kinds: type[Exception], fix: str = "") -> Iterator[None]:
    """Turn a library's complaint into a mismatch; an OSError of the system itself, which has a number, stays."""
    try:
        yield
    except kinds as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise _Mismatch(str(error), fix) from error


_TEXT = _Format("a str", _write_text, _read_text)
_JPEG = _Format("a matplotlib Figure or a PIL Image", _write_image("JPEG"), _read_image("JPEG"))
_FORMATS = {
    "txt": _TEXT,
    "md": _TEXT,
    "json": _Format("None, bool, int, float, str, lists, and mappings with str keys", _write_json, _read_json),
    "jsonl": _Format("an iterable of JSON values", _write_jsonl, _read_jsonl),
    "csv": _Format("a pandas DataFrame, a list of mappings, or a list of rows after a header", _write_csv, _read_csv),
    "parquet": _Format("a pandas DataFrame or a pyarrow Table", _write_parquet, _read_parquet),
    "npy": _Format("a numpy array", _write_npy, _read_npy),
    "png": _Format(_JPEG.fits, _write_image("PNG"), _read_image("PNG")),
    "jpg": _JPEG,
    "jpeg": _JPEG,
}
