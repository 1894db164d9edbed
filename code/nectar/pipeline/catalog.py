"""Keep the files that steps hand on: nowhere, in a folder for each run, or in the targets of the steps themselves."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from nectar import errors
from nectar.address import Address
from nectar.extensions import find
from nectar.pipeline.model import Service
from nectar.pipeline.standing import Entry
from nectar.pipeline.vocabulary import GROUPS
from nectar.recording.sealing import digest_of
from nectar.stores import open_store, store_at

DATA_FOLDER = "data"  #: to which patterns are relative, where a step does not say another
_UNFINISHED = ".nectar-"  #: with which names of files begin that are not whole yet
_VERSIONS = ".versions"  #: the folder of a run in which further files of one name lie
_TRIES = 3  #: at putting a file that changes meanwhile
_IN_TARGET = "catalog"  #: the folder of a target in which a step's files lie


class Catalog(Protocol):
    """Where files are kept that steps put and get."""

    def put(self, file: Path, name: str, sha256: str) -> Entry | None:
        """Keep a file under a name, and say where; None where nothing is kept.

        Raises:
            OSError: when it cannot be kept.
        """

    def has(self, entry: Entry) -> bool:
        """Say whether a file that was put is still there."""

    def get(self, entry: Entry, destination: Path) -> None:
        """Write a file that was put to a place.

        Raises:
            FileNotFoundError: when it is not there any more.
            OSError, StoreUnreachable: when it cannot be read or written.
        """


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a catalog is told of the step that uses it."""

    folder: str  #: in which the step works; settings that are relative paths are relative to it
    run: str  #: by which the files of one run are kept together
    target: str  #: the path of the step's own target in the store
    staging: str  #: the folder of that target, while the step is at work


MakeCatalog = Callable[[Mapping[str, Any], Surroundings], Catalog]  #: from its settings


class DoNothing:
    """Keeps nothing. What a step gets is never there."""

    def __init__(self, config: Mapping[str, Any], around: Surroundings) -> None:
        pass

    def put(self, file: Path, name: str, sha256: str) -> Entry | None:
        return None

    def has(self, entry: Entry) -> bool:
        return False

    def get(self, entry: Entry, destination: Path) -> None:
        raise FileNotFoundError(entry.name)


class FileSystem:
    """Keeps files in `<location>/<run>/`; `location` is `.catalog` in the folder in which the pipeline runs.

    What was put there is never written over: other bytes of the same name are kept in `.versions/<sha256>/`.
    """

    def __init__(self, config: Mapping[str, Any], around: Surroundings) -> None:
        self._location, self._around = str(config.get("location", ".catalog")), around

    def put(self, file: Path, name: str, sha256: str) -> Entry:
        root = Path(self._around.folder, self._location)
        root.mkdir(parents=True, exist_ok=True)
        unfinished = root / f"{_UNFINISHED}{secrets.token_hex(8)}"
        path, version = f"{self._around.run}/{name}", f"{self._around.run}/{_VERSIONS}/{sha256}/{name}"
        try:
            shutil.copyfile(file, unfinished)
            if not _placed(unfinished, root / path) and digest_of(str(root / path))[1] != sha256:
                # Of an earlier step, or of a branch beside this one: who was told of that file gets that file.
                path = version
                _placed(unfinished, root / path)
        finally:
            unfinished.unlink(missing_ok=True)
        return Entry(name, sha256, self._location, path)

    def has(self, entry: Entry) -> bool:
        return Path(self._around.folder, entry.location, entry.path).is_file()

    def get(self, entry: Entry, destination: Path) -> None:
        shutil.copyfile(Path(self._around.folder, entry.location, entry.path), destination)


class InStore:
    """Keeps files in the targets of the steps that put them: with digests, wherever the store is."""

    def __init__(self, config: Mapping[str, Any], around: Surroundings) -> None:
        self._around = around

    def put(self, file: Path, name: str, sha256: str) -> Entry:
        place = Path(self._around.staging, _IN_TARGET, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)  # an earlier one of the same step
        shutil.copyfile(file, place)
        return Entry(name, sha256, open_store().url, f"{self._around.target}/{_IN_TARGET}/{name}")

    def has(self, entry: Entry) -> bool:
        return True  # a target's files never change; where they are gone, so is the target

    def get(self, entry: Entry, destination: Path) -> None:
        address = Address.parse(entry.path)
        with (
            store_at(entry.location).reader(address).open(f"{_IN_TARGET}/{entry.name}") as source,
            open(destination, "wb") as file,
        ):
            shutil.copyfileobj(source, file)


def _placed(unfinished: Path, place: Path) -> bool:
    """Put a whole file where it is to be; False where there is one already, which stays."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(unfinished, place)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if place.exists():
            return False
        os.replace(unfinished, place)
    return True


BUILT_IN: Mapping[str, MakeCatalog] = {"do-nothing": DoNothing, "file-system": FileSystem, "store": InStore}
SETTINGS = {"do-nothing": frozenset[str](), "file-system": frozenset({"location"}), "store": frozenset[str]()}


def files_below(folder: Path, patterns: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yield the files in a folder whose path in it matches any pattern, by name; links are not followed out of it."""
    wanted = tuple(patterns)
    root = os.path.realpath(folder)
    for place in sorted(folder.rglob("*")) if folder.is_dir() else ():
        name = place.relative_to(folder).as_posix()
        if (
            place.is_file()
            and not place.name.startswith(_UNFINISHED)
            and any(fnmatchcase(name, pattern) for pattern in wanted)
        ):
            if os.path.realpath(place).startswith(root + os.sep):
                yield name, place


def put_all(catalog: Catalog, folder: Path, pattern: str, known: Mapping[str, Entry], step: str) -> list[Entry]:
    """Put the files that match a pattern, and return where they are; what is there unchanged is not copied again.

    Raises:
        CommandFailed: when a file is being written meanwhile, or has a name that is no UTF-8.
    """
    found = (_put(catalog, place, name, known.get(name), step) for name, place in files_below(folder, [pattern]))
    return [entry for entry in found if entry is not None]


def _put(catalog: Catalog, place: Path, name: str, before: Entry | None, step: str) -> Entry | None:
    """Put one file with the digest of the very bytes that are kept; None where nothing is kept."""
    if not name.isprintable() and any("\ud800" <= character <= "\udfff" for character in name):
        hint = "call it otherwise: its name is written into JSON"
        raise errors.CommandFailed(f"`{step}` puts {name!a} into the catalog, a name that is no UTF-8", hint=hint)
    for _ in range(_TRIES):
        as_it_was = _stamp(place)
        sha256 = digest_of(str(place))[1]
        if before is not None and before.sha256 == sha256 and catalog.has(before):
            return before
        entry = catalog.put(place, name, sha256)
        if _stamp(place) == as_it_was:
            return entry
    raise errors.CommandFailed(
        f"`{step}` puts `{name}` into the catalog, and something writes to it meanwhile",
        hint="let the step wait for what it started, before it ends",
    )


def _stamp(place: Path) -> tuple[int, int, int]:
    """Return what is another where a file was written to."""
    state = os.stat(place)
    return state.st_ino, state.st_size, state.st_mtime_ns


def get_all(catalog: Catalog, folder: Path, pattern: str, known: Mapping[str, Entry], step: str) -> list[Entry]:
    """Write the files of the catalog that match a pattern into a folder, and return what they are.

    Raises:
        NotInCatalog: when none matches, or one is not there any more.
    """
    entries = [entry for name, entry in known.items() if fnmatchcase(name, pattern)]
    if not entries:
        listed = ", ".join(f"`{name}`" for name in sorted(known)[:5])
        raise errors.NotInCatalog(
            f"`{step}` gets `{pattern}`, and nothing in the catalog matches it",
            hint=f"there is {listed}" if known else "no step before it has put anything",
        )
    for entry in entries:
        destination = folder / entry.name
        if not (destination.is_file() and digest_of(str(destination))[1] == entry.sha256):
            _get_whole(catalog, entry, destination, step)
    return entries


def _get_whole(catalog: Catalog, entry: Entry, destination: Path, step: str) -> None:
    """Get a file, at once: steps beside this one may read what lies there, in the folder that they share."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    unfinished = destination.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}")
    try:
        catalog.get(entry, unfinished)
        if digest_of(str(unfinished))[1] != entry.sha256:
            raise errors.NotInCatalog(
                f"`{step}` gets `{entry.name}`, which has other bytes than were put",
                hint=f"somebody changed `{entry.path}` in `{entry.location}`; run the step that puts it again",
            )
        os.replace(unfinished, destination)
    except FileNotFoundError as error:
        raise errors.NotInCatalog(
            f"`{step}` gets `{entry.name}`, which is not in the catalog any more",
            hint=f"it was at `{entry.path}` in `{entry.location}`; run the step that puts it again",
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def make_catalog(service: Service, around: Surroundings) -> Catalog:
    """Return the catalog that a service names.

    Raises:
        OptionsInvalid: when there is none of this type.
    """
    make: MakeCatalog = find(GROUPS["catalog"], "catalog", service.type, BUILT_IN)
    return make(service.config, around)
