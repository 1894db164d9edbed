"""Digest the code of a task: its class and what of the project it uses, so that a changed recipe can be seen.

The digest is static. It is made of syntax trees, so formatting, comments, docstrings, annotations that do nothing and
the order of imports do not count; the order of methods in a class does. It is the same in every process and in every
Python that reads the source. What it cannot see is said in `nectar.source_scope`; a name that only running code can
resolve (`getattr(module, name)`) counts by all of the module.
"""

from __future__ import annotations

import ast
import hashlib
import linecache
import os
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from importlib.machinery import PathFinder
from pathlib import Path
from types import CodeType

from nectar import source_scope
from nectar.source_scope import Chain, Definition, Import, References, SourceFile, Stamp

# A changed rule changes this: it makes every recorded digest differ.
_FORMAT = "nectar code 1"
_FOREIGN_FOLDERS = frozenset({"site-packages", "dist-packages", ".venv", "venv"})
_NECTAR = os.path.dirname(os.path.realpath(__file__))


@dataclass(frozen=True, slots=True)
class CodeDigest:
    """The code of one task class, and of each thing it uses."""

    digest: str  #: 64 hex digits
    parts: Mapping[str, str]  #: `chains.helpers.clean` -> 16 hex digits of its own code; a whole module by its name
    changed_ns: int = field(default=0, compare=False)  #: when the newest of the files read was changed, Unix time in ns


class PartChangeKind(str, Enum):
    """What became of a part between two digests."""

    ADDED = "added"  #: the task uses it now
    REMOVED = "removed"  #: the task no longer uses it
    CHANGED = "changed"  #: its own code is another


@dataclass(frozen=True, slots=True)
class PartChange:
    """One part that differs between two digests."""

    name: str  #: `chains.helpers.clean`
    kind: PartChangeKind


def changed_parts(old: Mapping[str, str], new: Mapping[str, str]) -> list[PartChange]:
    """Return what differs between the parts of two digests, by name."""
    changes = []
    for name in sorted({*old, *new}):
        if name not in old:
            changes.append(PartChange(name, PartChangeKind.ADDED))
        elif name not in new:
            changes.append(PartChange(name, PartChangeKind.REMOVED))
        elif old[name] != new[name]:
            changes.append(PartChange(name, PartChangeKind.CHANGED))
    return changes


def code_digest(cls: type, *, root: Path) -> CodeDigest | None:
    """Return the digest of a task class as the files say now, also where they changed since it was imported.

    It covers the class, its bases and whatever of the project these use, in any of the project's modules: those whose
    file lies under `root`, and in no site-packages, virtual environment or Nectar itself. Another task that is only
    named counts by its name, and so does anything foreign. A class nested in others, or made in a function, counts by
    the statement at the top of its module. One made in a notebook counts by its own text alone. A module that cannot
    be parsed counts by its bytes.

    Returns None where there is no source, and for a class that is not the project's. Safe to call from any thread.
    """
    place = os.path.abspath(root)
    with _lock:
        known = _digests.setdefault(cls, {}).get(place)
        if known is not None and all(source_scope.stamp(path) == before for path, before in known[0].items()):
            return known[1]
        walk = _Walk(cls, _Project(place))
        made = walk.digest()
        if made is not None:
            newest = max((stamp[0] for stamp in walk.project.stamps.values() if stamp is not None), default=0)
            made = replace(made, changed_ns=newest)
            _digests[cls][place] = (walk.project.stamps, made)
        return made


_lock = threading.Lock()
_digests: weakref.WeakKeyDictionary[type, dict[str, tuple[dict[str, Stamp | None], CodeDigest]]] = (
    weakref.WeakKeyDictionary()
)


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# A thread that held the lock does not exist in the child.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@dataclass(frozen=True, slots=True)
class _Module:
    """A module of the project, found and perhaps not yet read."""

    name: str
    loaded_as: str  #: its name in `sys.modules`, if it is there
    path: str | None  #: None for a folder without an `__init__.py`
    locations: tuple[str, ...]  #: where its submodules lie; empty unless it is a package


@dataclass(frozen=True, slots=True)
class _Own:
    """A top-level name of the project; an empty name is all of a module that cannot be parsed."""

    module: _Module
    name: str

    @property
    def text(self) -> str:
        return f"{self.module.name}.{self.name}" if self.name else self.module.name


@dataclass(frozen=True, slots=True)
class _Foreign:
    """Something that is not the project's."""

    text: str  #: its dotted import
    chain: Chain  #: the attributes read from it


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one part is, before its names are resolved."""

    code: bytes
    references: References


@dataclass(frozen=True, slots=True)
class _Parsed:
    """A file and its pieces, which hold until the file changes."""

    source: SourceFile
    pieces: dict[tuple[str, bool], _Piece]

    def piece(self, name: str, *, task: bool) -> _Piece:
        found = self.pieces.get((name, task))
        if found is None:
            definitions = self.source.definitions[name]
            code = hashlib.sha256(source_scope.dump(definitions, task=task).encode()).digest()
            found = self.pieces[name, task] = _Piece(code, source_scope.references(definitions, task=task))
        return found


_files: dict[str, _Parsed] = {}
_NO_FILE = _Parsed(SourceFile(), {})


class _Project:
    """The modules under one folder, and what names in them stand for."""

    def __init__(self, root: str) -> None:
        self.roots = {root, os.path.realpath(root)}
        self.search = [*sys.path, root]
        self.modules: dict[str, _Module | None] = {}
        self.stamps: dict[str, Stamp | None] = {}  #: of each file that was read

    def owns(self, path: str) -> bool:
        return any(
            self._owns(place, root) for place in {os.path.abspath(path), os.path.realpath(path)} for root in self.roots
        )

    def _owns(self, path: str, root: str) -> bool:
        if not f"{path}{os.sep}".startswith(f"{root.rstrip(os.sep)}{os.sep}"):
            return False
        inside = os.path.relpath(path, root).split(os.sep)
        # A project that was installed as a wheel: of all that lies beside it only `chains` is its own.
        if os.path.basename(root) in _FOREIGN_FOLDERS and inside[0] != "chains":
            return False
        return _FOREIGN_FOLDERS.isdisjoint(inside) and not f"{path}{os.sep}".startswith(f"{_NECTAR}{os.sep}")

    def find(self, name: str) -> _Module | None:
        """Return a module of the project without importing anything; None for a foreign one or none."""
        if name not in self.modules:
            self.modules[name] = self._find(name)
        return self.modules[name]

    def _find(self, name: str) -> _Module | None:
        loaded = sys.modules.get(name)
        if loaded is not None:
            # Not `getattr`: a module may answer for what it has not, and import something for it.
            space = getattr(loaded, "__dict__", {})
            origin, locations = space.get("__file__"), space.get("__path__")
        else:
            parent, _, leaf = name.rpartition(".")
            package = self.find(parent) if parent else None
            if not leaf or (parent and package is None):
                return None
            # The bare leaf: with a dotted name, a folder without `__init__.py` asks for its parent in `sys.modules`.
            spec = PathFinder.find_spec(leaf, list(package.locations) if package else self.search)
            if spec is None:
                return None
            origin, locations = spec.origin, spec.submodule_search_locations
        path = origin if isinstance(origin, str) and origin.endswith(".py") and self.owns(origin) else None
        places = tuple(locations or ())
        if path is None and not any(self.owns(place) for place in places):
            return None
        return _Module(self._own_name(name, path), name, path, places)

    def _own_name(self, name: str, path: str | None) -> str:
        """Return what a module is called when it is imported, also for the one that is run."""
        # `__mp_main__` is what `multiprocessing` calls it in a child.
        if name not in ("__main__", "__mp_main__") or path is None:
            return name
        spec = getattr(sys.modules[name], "__spec__", None)
        if spec is not None:
            return str(spec.name)
        inside = next((os.path.relpath(path, root) for root in self.roots if path.startswith(root + os.sep)), path)
        return os.path.splitext(inside)[0].replace(os.sep, ".")

    def parsed(self, module: _Module) -> _Parsed:
        if module.path is None:
            return _NO_FILE
        known = _files.get(module.path)
        if module.path not in self.stamps:
            if known is None or known.source.stamp is None or known.source.stamp != source_scope.stamp(module.path):
                known = _files[module.path] = _Parsed(source_scope.read(module.path), {})
            self.stamps[module.path] = known.source.stamp
        return _files[module.path]

    def absolute(self, module: _Module, target: Import) -> str:
        """Return the dotted name of the module that an import in `module` means."""
        if not target.level:
            return target.module
        package = module.name.split(".")
        package = package[: len(package) - target.level + (1 if module.locations else 0)]
        return ".".join([*package, target.module] if target.module else package)

    def resolve(self, module: _Module, name: str, chain: Chain) -> list[_Own | _Foreign]:
        """Return what a global name of a module, with the attributes read from it, stands for."""
        return _Resolution(self).follow([(module, name, chain)])

    def resolve_import(self, module: _Module, target: Import, chain: Chain) -> list[_Own | _Foreign]:
        """Return what a name that an import binds, with the attributes read from it, stands for."""
        resolution = _Resolution(self)
        return resolution.follow(resolution.imported(module, target, chain))


_State = tuple[_Module, str, Chain]


class _Resolution:
    """Follows one name through imports to where it is bound, which may be several places."""

    def __init__(self, project: _Project) -> None:
        self.project = project
        self.found: list[_Own | _Foreign] = []
        self.seen: set[tuple[str, str, Chain]] = set()
        self.entered: set[str] = set()  # modules taken as a whole

    def follow(self, states: Iterable[_State]) -> list[_Own | _Foreign]:
        stack = list(states)
        while stack:
            stack.extend(self.step(*stack.pop()))
        return self.found

    def step(self, module: _Module, name: str, chain: Chain) -> Iterator[_State]:
        source = self.project.parsed(module).source
        if source.text_digest is not None:
            self.found.append(_Own(module, ""))
            return
        imports = source.imports.get(name, ())
        # `from . import helpers` in a package's own file binds the submodule, not itself.
        again = (module.name, name, chain) in self.seen
        self.seen.add((module.name, name, chain))
        if name in source.definitions and not again:
            self.found.append(_Own(module, name))
        if (imports or name in source.definitions) and not again:
            for target in imports:
                yield from self.imported(module, target, chain)
            return
        submodule = self.project.find(f"{module.name}.{name}") if module.locations else None
        if submodule is not None:
            yield from self.entering(submodule, chain)
        elif not again:
            yield from self.unbound(module, source, name, chain)

    def unbound(self, module: _Module, source: SourceFile, name: str, chain: Chain) -> Iterator[_State]:
        if "__getattr__" in source.definitions:
            self.found.append(_Own(module, "__getattr__"))
        for star in source.stars:
            text = self.project.absolute(module, star)
            target = self.project.find(text)
            if target is None:
                self.found.append(_Foreign(f"{text}.*", (name, *chain)))
            elif self.project.parsed(target).source.exported(name):
                yield target, name, chain

    def imported(self, module: _Module, target: Import, chain: Chain) -> Iterator[_State]:
        text = self.project.absolute(module, target)
        found = self.project.find(text)
        if found is None:
            self.found.append(_Foreign(".".join(part for part in (text, target.attribute) if part), chain))
        elif target.attribute:
            yield found, target.attribute, chain
        else:
            yield from self.entering(found, chain)

    def entering(self, module: _Module, chain: Chain) -> Iterator[_State]:
        if chain:
            yield module, chain[0], chain[1:]
        elif module.name not in self.entered:
            self.entered.add(module.name)
            source = self.project.parsed(module).source
            if source.text_digest is not None:
                self.found.append(_Own(module, ""))
            self.found.extend(_Own(module, name) for name in source.definitions)
            # What a package takes in it gives on; what another module takes in it uses.
            if module.locations:
                for name, imports in source.imports.items():
                    if any(item.attribute for item in imports):
                        yield module, name, ()


class _Walk:
    """Goes from a class to all that it uses; a work list, as code may use itself in any circle."""

    def __init__(self, cls: type, project: _Project) -> None:
        self.cls = cls
        self.project = project
        self.bases: dict[tuple[str, str], bool] = {}  # the class and its bases: is it a task?
        self.parts: dict[str, str] = {}  # 64 hex digits each
        self.tasks: dict[str, bool] = {}

    def digest(self) -> CodeDigest | None:
        stack = self.start()
        if stack is None:
            return None
        while stack:
            own = stack.pop()
            if own.text not in self.parts:
                stack.extend(self.visit(own))
        entry = f"{self.cls.__module__} {self.cls.__qualname__}"
        home = self.project.find(self.cls.__module__)
        if home is not None:
            entry = f"{home.name} {self.cls.__qualname__}"
        lines = [_FORMAT, entry, *(f"{name} {self.parts[name]}" for name in sorted(self.parts))]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return CodeDigest(digest, {name: self.parts[name][:16] for name in sorted(self.parts)})

    def start(self) -> list[_Own] | None:
        """Return the class and those of its bases that are the project's; None where the class has no source."""
        stack: list[_Own] = []
        for cls in self.cls.__mro__:
            module = self.project.find(cls.__module__)
            if module is not None and module.path is not None:
                stack.extend(self.base(cls, module))
            elif cls is self.cls:
                code = _cell_code(cls)
                if code is None:
                    return None
                self.parts[f"{cls.__module__}.{cls.__qualname__}"] = code
        return stack

    def base(self, cls: type, module: _Module) -> list[_Own]:
        source = self.project.parsed(module).source
        top = cls.__qualname__.partition(".")[0]
        if source.text_digest is not None:
            return [_Own(module, "")]
        if top not in source.definitions:
            # Made by running code: whatever the module has may have made it.
            return [_Own(module, name) for name in source.definitions]
        self.bases[module.name, top] = _is_task(cls)
        return [_Own(module, top)]

    def visit(self, own: _Own) -> list[_Own]:
        """Digest one part; return what it uses."""
        parsed = self.project.parsed(own.module)
        if not own.name:
            self.parts[own.text] = parsed.source.text_digest or ""
            return []
        piece = parsed.piece(own.name, task=self.bases.get((own.module.name, own.name), False))
        uses: list[_Own] = []
        meanings = {f"{name} unused {target.text}" for name, target in piece.references.unused}
        for name, chain in piece.references.names:
            meanings.update(self.meanings(name, self.project.resolve(own.module, name, chain), uses))
        for name, target, chain in piece.references.imports:
            found = self.project.resolve_import(own.module, target, chain)
            meanings.update(self.meanings(name, found, uses))
        # Whose name it is counts too: the same text over another import is other code.
        self.parts[own.text] = hashlib.sha256(piece.code + "\n".join(sorted(meanings)).encode()).hexdigest()
        return uses

    def meanings(self, name: str, found: Iterable[_Own | _Foreign], uses: list[_Own]) -> Iterator[str]:
        for target in found:
            if isinstance(target, _Foreign):
                yield f"{name} foreign {target.text}"
            elif self.is_other_task(target):
                yield f"{name} task {target.text}"
            else:
                uses.append(target)
                yield f"{name} own {target.text}"

    def is_other_task(self, own: _Own) -> bool:
        """Return whether a name is a task class that is no base of this one: its own record has its digest."""
        if (own.module.name, own.name) in self.bases:
            return False
        if own.text not in self.tasks:
            self.tasks[own.text] = self.names_task(own)
        return self.tasks[own.text]

    def names_task(self, own: _Own) -> bool:
        if not self.class_nodes(own):
            return False
        cls = getattr(sys.modules.get(own.module.loaded_as), "__dict__", {}).get(own.name)
        if isinstance(cls, type):
            return cls not in self.cls.__mro__ and _is_task(cls)
        # Its module is not imported yet, and the answer must be what it will be then.
        stack, seen = [own], {own}
        while stack:
            current = stack.pop()
            for base in (base for node in self.class_nodes(current) for base in node.bases):
                use = source_scope.dotted(base)
                for target in self.project.resolve(current.module, *use) if use else ():
                    if isinstance(target, _Foreign):
                        if _names_foreign_task(target):
                            return True
                    elif target not in seen:
                        seen.add(target)
                        stack.append(target)
        return False

    def class_nodes(self, own: _Own) -> list[ast.ClassDef]:
        definitions = self.project.parsed(own.module).source.definitions.get(own.name, ())
        return [item.node for item in definitions if isinstance(item.node, ast.ClassDef)]


def _is_task(cls: type) -> bool:
    """Return whether a class is luigi's kind of task; its `Config` is one by descent only, and never has a record."""
    luigi = sys.modules.get("luigi")
    return luigi is not None and issubclass(cls, luigi.Task) and not bool(issubclass(cls, luigi.Config))


def _names_foreign_task(target: _Foreign) -> bool:
    path = [*target.text.split("."), *target.chain]
    for length in range(len(path) - 1, 0, -1):
        thing: object = sys.modules.get(".".join(path[:length]))
        for name in path[length:]:
            thing = getattr(thing, name, None)
        if isinstance(thing, type):
            return _is_task(thing)
    # Its module is not imported: luigi's own contributions are named like this.
    return path[-1].endswith("Task")


def _cell_code(cls: type) -> str | None:
    """Return the digest of a class that was typed into a notebook, found by the lines that Python kept of a method."""
    if "__file__" in getattr(sys.modules.get(cls.__module__), "__dict__", {}):
        return None
    for member in vars(cls).values():
        code = getattr(getattr(member, "__func__", getattr(member, "fget", member)), "__code__", None)
        if not isinstance(code, CodeType):
            continue
        tree = source_scope.parse("".join(linecache.getlines(code.co_filename)))
        for node in ast.walk(tree) if tree is not None else ():
            if not isinstance(node, ast.ClassDef) or node.name != cls.__name__:
                continue
            if node.lineno <= code.co_firstlineno <= (node.end_lineno or 0):
                text = source_scope.dump([Definition(node, ())], task=True)
                return hashlib.sha256(text.encode()).hexdigest()
    return None
