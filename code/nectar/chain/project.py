"""Make this process import from the project: its root first, its `chains` and no other, its sources as they are now."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from nectar.chain.description import broken_error
from nectar.chain.faults import broken_by
from nectar.chain.finder import FILES, PACKAGE, SUFFIX, ChainName, find_chain
from nectar.pipeline.names import FILES_READ
from nectar.settings import Settings

_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_binding = threading.Lock()


def load_module(settings: Settings, chain: ChainName) -> ModuleType:
    """Import a chain in this process, once: for processes that run tasks.

    The project's root is first on `sys.path` afterwards, and `chains` is the project's package also where another
    one is installed or was imported before.

    Raises:
        ChainNotFound: the chain does not exist.
        ChainBroken: its import raised, or exited; the cause is what it raised.
    """
    if not chain.is_in(settings.root):
        find_chain(settings.chains_dir, chain.path)
    bind(settings.root)
    try:
        return importlib.import_module(chain.module)
    except (Exception, SystemExit) as error:  # whatever the author's module raises is a fault of the chain
        raise broken_error(broken_by(error, chain, os.path.realpath(settings.root))) from error


def bind(root: Path) -> None:
    """Put the project first in everything this process imports from now on; a second call changes nothing.

    Modules of another project's `chains` are forgotten. Sources below `root` are compiled anew, never taken from
    bytecode: Python compares whole seconds and sizes, and would run old code after two quick edits.
    """
    place = os.path.realpath(root)
    with _binding:
        before = [finder.root for finder in sys.meta_path if isinstance(finder, ProjectFinder)]
        if sys.path[:1] != [place]:
            sys.path[:] = [place, *(entry for entry in sys.path if entry not in (place, *before))]
        if before != [place]:
            others = [finder for finder in sys.meta_path if not isinstance(finder, ProjectFinder)]
            # Before the ordinary search of `sys.path`, which it stands for, and after what precedes that search.
            index = others.index(PathFinder) if PathFinder in others else len(others)
            sys.meta_path[:] = [*others[:index], ProjectFinder(place), *others[index:]]
        _forget_other_chains(place)
        importlib.invalidate_caches()


def bound() -> str | None:
    """Return the root of the project that comes first in what this process imports, None where none does."""
    return next((finder.root for finder in sys.meta_path if isinstance(finder, ProjectFinder)), None)


def is_of_project(file: str, root: str) -> bool:
    """Return whether a module's file is the project's own: below `root`, neither installed there nor Python's."""
    return (
        file.startswith(root + os.sep)
        and not file.startswith(_STANDARD_LIBRARY)
        and not any(mark in file[len(root) :] for mark in _INSTALLED)
    )


class SourceOnlyLoader(SourceFileLoader):
    """Loads a module from its source; bytecode is neither read nor written."""

    def path_stats(self, path: str) -> dict[str, int]:
        """Say that the source's time is unknown, for which `importlib` takes no bytecode."""
        raise OSError(f"no bytecode for {path}")


class ProjectFinder:
    """Searches `sys.path` as Python does, but for `chains`, which is the folder below `root`."""

    def __init__(self, root: str) -> None:
        self.root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module comes from; None: from nowhere on `path`."""
        if fullname == PACKAGE:
            return self._chains()
        if fullname.partition(".")[0] == "nectar":
            return None  # in a checkout of Nectar it lies below the root, and is no chain
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None and fullname.startswith(f"{PACKAGE}."):
            return _pipeline(fullname, path)
        if spec is not None and type(spec.loader) is SourceFileLoader and is_of_project(spec.loader.path, self.root):
            spec.loader = SourceOnlyLoader(spec.loader.name, spec.loader.path)
        return spec

    def _chains(self) -> ModuleSpec | None:
        folder = os.path.join(self.root, PACKAGE)
        initial = os.path.join(folder, "__init__.py")
        if os.path.isfile(initial):
            loader = SourceOnlyLoader(PACKAGE, initial)
            return spec_from_file_location(PACKAGE, initial, loader=loader, submodule_search_locations=[folder])
        spec = ModuleSpec(PACKAGE, None, is_package=True)
        spec.submodule_search_locations = [folder]
        return spec


class PipelineLoader(Loader):
    """Loads a pipeline file among the chains as a module."""

    def __init__(self, path: str) -> None:
        self.path = path

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module.

        Raises:
            PipelineInvalid: with everything that is wrong with the file.
        """
        from nectar.pipeline.chains import fill  # late: most chains are no pipelines

        fill(module, Path(self.path))


def _pipeline(fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """Return where a chain comes from that is a pipeline, None where there is none."""
    _, _, name = fullname.rpartition(".")
    for folder in path or ():
        file = os.path.join(folder, f"{name}{FILES[1]}")
        if name.endswith(SUFFIX) and os.path.isfile(file):
            return spec_from_file_location(fullname, file, loader=PipelineLoader(file))
    return None


def _forget_other_chains(root: str) -> None:
    if PACKAGE not in sys.modules:
        return
    places = list(getattr(sys.modules[PACKAGE], "__path__", ()))
    if places and os.path.realpath(places[0]) == os.path.realpath(os.path.join(root, PACKAGE)):
        return
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
        del sys.modules[name]


def loaded_files(root: str) -> list[str]:
    """Return the project's own files that this process has imported, relative to `root`, in the order of names.

    Those that a pipeline's module was made from are among them.
    """
    files = set()
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType):
            # Not getattr: a lazily loaded module would be loaded by the question.
            members = object.__getattribute__(module, "__dict__")
            for file in (members.get("__file__"), *members.get(FILES_READ, ())):
                if isinstance(file, str) and is_of_project(file, root):
                    files.add(os.path.relpath(file, root))
    return sorted(files)
