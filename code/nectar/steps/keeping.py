"""Write results of steps as files from which nothing but data can come back, and read them.

Plain values become JSON with tags, `{"$": "tuple", "value": [...]}`, so that what comes back has the type that it had;
tables and arrays within them become files of their own, `{"$": "file", "name": "..."}`, by `nectar.formats`. What has
no such form is refused: a pickle would bring back anything, and run code for it.
"""

from __future__ import annotations

import base64
import datetime
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nectar import errors, formats

TAG = "$"
DEEPEST = 100  #: levels of containers within containers

_TIMES = {kind.__name__: kind for kind in (datetime.datetime, datetime.date, datetime.time)}


class Writer:
    """Writes the values of one folder; each file is new."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[str] = []  #: that were written, below the folder

    def tree(self, value: Any, stem: str) -> Any:
        """Return a value as a JSON value; files that it needs are called by `stem` and a number.

        Raises:
            NoFormat: for a value that has no safe form, with the place in it where that is.
        """
        return self._tree(value, stem, "", 0)

    def _tree(self, value: Any, stem: str, place: str, depth: int) -> Any:
        if depth > DEEPEST:
            raise errors.NoFormat(f"the value is nested deeper than {DEEPEST} levels{_at(place[:40])}")
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return _text(value, place) if kind is str else value
        if kind is float:
            return value if math.isfinite(value) else {TAG: "float", "value": repr(value)}
        if kind in (list, tuple):
            items = [self._tree(one, stem, f"{place}[{number}]", depth + 1) for number, one in enumerate(value)]
            return items if kind is list else {TAG: "tuple", "value": items}
        if kind in (set, frozenset):
            members = [self._tree(one, stem, f"{place}{{...}}", depth + 1) for one in value]
            return {TAG: kind.__name__, "value": sorted(members, key=repr)}
        if kind is dict:
            return self._mapping(value, stem, place, depth)
        if kind is bytes:
            return {TAG: "bytes", "value": base64.b64encode(value).decode("ascii")}
        if kind is datetime.timedelta:
            return {TAG: "timedelta", "value": [value.days, value.seconds, value.microseconds]}
        if kind.__name__ in _TIMES and kind is _TIMES[kind.__name__] and not getattr(value, "fold", 0):
            return {TAG: kind.__name__, "value": _time_text(value, place)}
        return self._library_value(value, stem, place)

    def _mapping(self, value: dict[Any, Any], stem: str, place: str, depth: int) -> Any:
        if all(type(key) is str for key in value) and TAG not in value:
            return {
                _text(key, place): self._tree(one, stem, f"{place}[{key!r}]", depth + 1) for key, one in value.items()
            }
        pairs = [
            [self._tree(key, stem, f"{place} key", depth + 1), self._tree(one, stem, f"{place}[{key!r}]", depth + 1)]
            for key, one in value.items()
        ]
        return {TAG: "dict", "value": pairs}

    def _library_value(self, value: Any, stem: str, place: str) -> Any:
        kind, library = type(value), type(value).__module__.partition(".")[0]
        if library == "pandas" and kind.__name__ == "DataFrame":
            return {TAG: "file", "name": self._file(value, stem, "parquet", place)}
        if library == "pandas" and kind.__name__ == "Series":
            # A table has names of columns, which a series need not have.
            name = self._tree(value.name, stem, f"{place}.name", 1)
            return {TAG: "series", "name": self._file(value.to_frame("values"), stem, "parquet", place), "of": name}
        if library == "numpy" and kind.__name__ == "ndarray":
            return {TAG: "file", "name": self._file(value, stem, "npy", place)}
        if library == "numpy" and hasattr(value, "dtype") and not value.dtype.hasobject:
            return {TAG: "scalar", "name": self._file(_array(value), stem, "npy", place)}
        raise errors.NoFormat(
            f"a `{kind.__qualname__}` has no safe form in a file{_at(place)}",
            hint="keep tables, arrays, text, numbers, dates and containers of these; write anything else in a task, "
            "by a format of its own",
        )

    def _file(self, value: Any, stem: str, suffix: str, place: str) -> str:
        name = f"{stem}.{len(self.files) + 1}.{suffix}"
        try:
            formats.dump(value, self.folder / name)
        except errors.NoFormat as error:
            raise errors.NoFormat(f"{error.message}{_at(place)}", hint=error.hint) from error
        self.files.append(name)
        return name


def read(tree: Any, load: Callable[[str], Any]) -> Any:
    """Return the value of a tree that a `Writer` made; `load` gives the value of a file by its name.

    Raises:
        ValueError: when it is no such tree.
    """
    if isinstance(tree, list):
        return [read(one, load) for one in tree]
    if not isinstance(tree, dict):
        return tree
    if TAG not in tree:
        return {key: read(one, load) for key, one in tree.items()}
    try:
        return _READERS[tree[TAG]](tree, load)
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"`{str(tree.get(TAG))[:40]}` is no kind of value that is known, or it is damaged") from error


def _read_series(tree: Any, load: Callable[[str], Any]) -> Any:
    series = load(tree["name"])["values"]
    series.name = read(tree["of"], load)
    return series


_READERS: dict[str, Callable[[Any, Callable[[str], Any]], Any]] = {
    "float": lambda tree, load: float(tree["value"]),
    "tuple": lambda tree, load: tuple(read(one, load) for one in tree["value"]),
    "set": lambda tree, load: {read(one, load) for one in tree["value"]},
    "frozenset": lambda tree, load: frozenset(read(one, load) for one in tree["value"]),
    "dict": lambda tree, load: {read(key, load): read(one, load) for key, one in tree["value"]},
    "bytes": lambda tree, load: base64.b64decode(tree["value"], validate=True),
    "timedelta": lambda tree, load: datetime.timedelta(*tree["value"]),
    "datetime": lambda tree, load: datetime.datetime.fromisoformat(tree["value"]),
    "date": lambda tree, load: datetime.date.fromisoformat(tree["value"]),
    "time": lambda tree, load: datetime.time.fromisoformat(tree["value"]),
    "file": lambda tree, load: load(tree["name"]),
    "series": _read_series,
    "scalar": lambda tree, load: load(tree["name"])[()],
}


def _array(scalar: Any) -> Any:
    import numpy  # late: whoever has such a value has it

    return numpy.asarray(scalar)


def _text(text: str, place: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise errors.NoFormat(f"a text is no Unicode{_at(place)}", hint="decode the bytes that it came from") from error
    return text


def _time_text(value: Any, place: str) -> str:
    zone = getattr(value, "tzinfo", None)
    if zone is not None and type(zone) is not datetime.timezone:
        raise errors.NoFormat(
            f"a time in the zone `{zone}` has no safe form in a file{_at(place)}",
            hint="keep it in UTC: `.astimezone(datetime.timezone.utc)`",
        )
    return str(value.isoformat())


def _at(place: str) -> str:
    return f", at `{place.strip()}`" if place else ""
