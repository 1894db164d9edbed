"""Look at the first rows, or lines, of a file without reading all of it."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from dataclasses import dataclass
from typing import Any, BinaryIO

LOOKED_AT = 1 << 20  #: bytes of a text that are read at most
LARGEST_TABLE = 64 << 20  #: bytes of a file that has to be read as a whole
_TEXTS = ("txt", "log", "md", "json", "jsonl", "csv", "tsv")


@dataclass(frozen=True, slots=True)
class Preview:
    """The beginning of a file."""

    kind: str  #: `table`, `lines`, or `none` for what has no rows that could be shown
    columns: tuple[str, ...] | None  #: of a table
    rows: tuple[Any, ...]  #: of a table lists of JSON values, as long as `columns`; else lines
    more: bool  #: True where the file goes on

    def to_json(self) -> dict[str, Any]:
        """Return the preview as a JSON value."""
        columns = list(self.columns) if self.columns is not None else None
        return {"kind": self.kind, "columns": columns, "rows": list(self.rows), "more": self.more}


NOTHING = Preview("none", None, (), True)


def preview(name: str, file: BinaryIO, rows: int) -> Preview:
    """Return up to `rows` rows of an open file, which are read as the suffix of its name says.

    A file that is not what its suffix says is shown as lines, or not at all; that is no error.
    """
    suffix = name.rpartition(".")[2].lower()
    if suffix == "parquet":
        return _of_parquet(file, rows)
    if suffix not in _TEXTS:
        return NOTHING
    raw = file.read(LOOKED_AT)
    if b"\0" in raw:
        return NOTHING
    cut = len(raw) == LOOKED_AT
    lines = raw.decode("utf-8", "replace").splitlines()
    if cut:
        lines = lines[:-1]  # it may be half a line
    if suffix in ("csv", "tsv"):
        return _of_csv(lines, "\t" if suffix == "tsv" else ",", rows, cut)
    shown: list[Any] = lines[:rows]
    if suffix == "jsonl":
        shown = [_json_value(line) for line in shown]
    return Preview("lines", None, tuple(shown), cut or len(lines) > rows)


def _of_csv(lines: list[str], delimiter: str, rows: int, cut: bool) -> Preview:
    try:
        table = list(itertools.islice(csv.reader(lines, delimiter=delimiter), rows + 2))
    except csv.Error:
        return Preview("lines", None, tuple(lines[:rows]), cut or len(lines) > rows)
    columns = tuple(table[0]) if table else ()
    return Preview("table", columns, tuple(table[1 : rows + 1]), cut or len(table) > rows + 1)


def _of_parquet(file: BinaryIO, rows: int) -> Preview:
    raw = file.read(LARGEST_TABLE + 1)
    if len(raw) > LARGEST_TABLE:
        return NOTHING
    try:
        from pyarrow import ArrowException  # late: only who looks at such a file needs it
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:
        return NOTHING
    try:
        table = ParquetFile(io.BytesIO(raw))
        batch = next(table.iter_batches(batch_size=rows), None)
    except (ArrowException, OSError, ValueError):
        return NOTHING
    columns = tuple(str(name) for name in table.schema_arrow.names)
    found = [] if batch is None else [[_plain(row[name]) for name in columns] for row in batch.to_pylist()]
    return Preview("table", columns, tuple(found), table.metadata.num_rows > len(found))


def _plain(value: Any) -> Any:
    """Return a value that JSON has: text for every other one."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _json_value(line: str) -> Any:
    try:
        return json.loads(line, parse_constant=str)  # NaN is no JSON
    except (ValueError, RecursionError):
        return line
