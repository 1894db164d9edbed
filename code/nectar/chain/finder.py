"""Find the chains of a project by the names of files and folders alone: nothing is imported or opened."""

from __future__ import annotations

import keyword
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nectar import errors

PACKAGE = "chains"
SUFFIX = "_chain"
FILES = (".py", ".yaml")  #: of chains: a module, or a pipeline; where there are both it is the module
PRESETS = "PRESETS"  #: under which a chain's module lists its presets
NESTING = 3  #: folders below a type that are searched for chains which lie too deep: a data folder must stay cheap
SHOWN = 100  #: characters of a wrong name that an error repeats


@dataclass(frozen=True, slots=True, order=True)
class ChainName:
    """The name of a chain; it says nothing of whether the chain exists."""

    type: str  #: the folder under `chains/`
    name: str  #: the file without its suffix, its `_chain` included

    @property
    def module(self) -> str:
        """The name to import: `chains.etl.flights_chain`."""
        return f"{PACKAGE}.{self.type}.{self.name}"

    @property
    def path(self) -> str:
        """The name for people, URLs and targets: `etl/flights_chain`."""
        return f"{self.type}/{self.name}"

    def file_in(self, root: str | os.PathLike[str]) -> str:
        """Return the file, relative to the project's root: `chains/etl/flights_chain.py`; if there is none, too."""
        stem = f"{PACKAGE}/{self.type}/{self.name}"
        places = (stem + suffix for suffix in FILES)
        return next((place for place in places if os.path.isfile(os.path.join(root, place))), stem + FILES[0])

    def is_in(self, root: str | os.PathLike[str]) -> bool:
        """Say whether the chain is there."""
        return os.path.isfile(os.path.join(root, self.file_in(root)))

    def __str__(self) -> str:
        return self.path

    @classmethod
    def parse(cls, text: str) -> ChainName:
        """Return the chain that `text` names, as a path, a module or a file (`chains/etl/flights_chain.py`).

        Both parts are Python identifiers, so that no text leads out of `chains/`.

        Raises:
            ChainNotFound: no chain can have this name.
        """
        name = _parse(text)
        if name is None:
            raise errors.ChainNotFound(f"no chain `{text[:SHOWN]}`", hint="a chain is named `<type>/<name>_chain`")
        return name


@dataclass(frozen=True, slots=True)
class Misplaced:
    """A file or folder that looks like chains but cannot be imported as such."""

    path: str  #: below `chains/`
    reason: str  #: with the fix


@dataclass(frozen=True, slots=True)
class Found:
    """What lies under `chains/`, in the order of names."""

    chains: tuple[ChainName, ...]
    misplaced: tuple[Misplaced, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """The chain types that hold a chain, in the order of names."""
        return tuple(dict.fromkeys(chain.type for chain in self.chains))


def find(chains_dir: Path) -> Found:
    """Return all chains below `chains_dir`, and what was left out although it looks like chains.

    Raises:
        ProjectNotFound: there is no such folder, or it cannot be read.
    """
    try:
        folders = _folders(chains_dir)
    except OSError as error:
        raise errors.ProjectNotFound(
            f"no readable folder `{PACKAGE}` in `{chains_dir.parent}`: {(error.strerror or str(error)).lower()}",
            hint=f"start in the project's folder or set NECTAR_PROJECT; a new project needs `{PACKAGE}/<type>/`",
        ) from error
    chains: list[ChainName] = []
    misplaced: list[Misplaced] = []
    for folder in folders:
        try:
            stems = _chain_stems(folder)
            hidden = [stem for stem in stems if all(os.path.isfile(folder / f"{stem}{suffix}") for suffix in FILES)]
            nested = list(_nested(folder, NESTING)) if _importable(folder.name) else []
        except OSError as error:
            reason = f"the folder cannot be read: {(error.strerror or str(error)).lower()}"
            misplaced.append(Misplaced(_shown(folder.name), reason))
            continue
        if stems and not _importable(folder.name):
            misplaced.append(_misnamed(folder.name, folder.name))
            continue
        chains += [ChainName(folder.name, stem) for stem in stems if _importable(stem)]
        misplaced += [_misnamed(f"{folder.name}/{stem}", stem) for stem in stems if not _importable(stem)]
        for stem in hidden:
            path, reason = (
                f"{folder.name}/{stem}{FILES[1]}",
                f"`{stem}{FILES[0]}` has the same name: rename one of them",
            )
            misplaced.append(Misplaced(path, reason))
        for place in nested:
            path = _shown(place.relative_to(chains_dir).as_posix())
            misplaced.append(Misplaced(path, f"chains lie directly in a type's folder: move them to `{folder.name}/`"))
    return Found(tuple(sorted(chains)), tuple(sorted(misplaced, key=lambda one: one.path)))


def find_chain(chains_dir: Path, text: str) -> ChainName:
    """Return the existing chain that `text` names, in any form that `ChainName.parse` takes.

    Raises:
        ChainNotFound: there is none; the hint names the nearest, or why it was left out.
        ProjectNotFound: there is no folder `chains_dir`.
    """
    name = _parse(text)
    # Asked for with every request: where the file lies, nothing needs to be listed.
    if name is not None and name.type != "__pycache__" and name.is_in(chains_dir.parent):
        return name
    found = find(chains_dir)
    raise errors.ChainNotFound(f"no chain `{text[:SHOWN]}`", hint=_way_out(found, "/".join(_parts(text))[:SHOWN]))


def _parts(text: str) -> list[str]:
    parts = without_suffix(text).split("/") if "/" in text else text.split(".")
    return parts[1:] if len(parts) > 2 and parts[0] == PACKAGE else parts


def _parse(text: str) -> ChainName | None:
    parts = _parts(text)
    if len(parts) != 2 or not all(map(_importable, parts)) or not _is_chain_stem(parts[1]):
        return None
    return ChainName(*parts)


def _way_out(found: Found, wanted: str) -> str:
    for place in found.misplaced:
        if wanted == place.path or wanted.startswith(f"{place.path}/"):
            return f"`{place.path}` is left out: {place.reason}"
    paths = {chain.path: chain for chain in found.chains}
    names = {chain.name: chain for chain in found.chains}
    import difflib  # late: only mistakes need it

    near = [paths[match] for match in difflib.get_close_matches(wanted, paths, n=1)]
    near += [names[match] for match in difflib.get_close_matches(wanted.rpartition("/")[2], names, n=1)]
    if near:
        return f"did you mean `{near[0]}`?"
    if not paths:
        return f"there is no chain yet: a chain is a module `{PACKAGE}/<type>/<name>{SUFFIX}.py`"
    listed = ", ".join(f"`{path}`" for path in list(paths)[:5])
    return f"there is {listed}" + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def _importable(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def _is_chain_stem(stem: str) -> bool:
    return stem.endswith(SUFFIX) and stem != SUFFIX


def _folders(place: Path) -> list[Path]:
    """Return the folders in `place` that are neither hidden nor Python's own, in the order of names."""
    names = sorted(name for name in os.listdir(place) if not name.startswith(".") and name != "__pycache__")
    return [place / name for name in names if (place / name).is_dir()]


def without_suffix(path: str) -> str:
    """Return the path of a chain's file without the suffix that it has."""
    return next((path.removesuffix(suffix) for suffix in FILES if path.endswith(suffix)), path)


def _chain_stems(folder: Path) -> list[str]:
    names = sorted(name for name in os.listdir(folder) if name.endswith(FILES) and not name.startswith("."))
    stems = dict.fromkeys(without_suffix(name) for name in names if os.path.isfile(folder / name))
    return [stem for stem in stems if _is_chain_stem(stem)]


def _nested(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the folders below `folder`, `depth` levels at most, that hold chains; links are not followed."""
    for place in _folders(folder):
        if place.is_symlink() or not _importable(place.name):
            continue
        if _chain_stems(place):
            yield place
        if depth > 1:
            yield from _nested(place, depth - 1)


def _misnamed(path: str, name: str) -> Misplaced:
    better = re.sub(r"\W", "_", _shown(name))
    better = better if _importable(better) else f"{better}_" if better.isidentifier() else f"_{better}"
    return Misplaced(_shown(path), f"`{_shown(name)}` cannot be a Python name: rename it to `{better}`")


def _shown(name: str) -> str:
    """Return a file's name as text that can be printed, also where its bytes are not UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
