"""Tell what a source file binds at its top level, and which names from elsewhere a piece of it uses.

Nothing is imported or run. What only running code would show stays unseen: a global that a function binds, a name
made by `setattr` or `globals()`, a module imported for its effects alone.
"""

from __future__ import annotations

import ast
import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Chain = tuple[str, ...]  #: the attributes read from a name, outermost last
Stamp = tuple[int, int]  #: modification time in nanoseconds, size in bytes

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# Known from Python 3.11 and 3.12 on.
_TRIES: tuple[type[ast.Try], ...] = (ast.Try, getattr(ast, "TryStar", ast.Try))
_TYPE_PARAMETERS = ("TypeVar", "ParamSpec", "TypeVarTuple")


@dataclass(frozen=True, slots=True)
class Import:
    """What an import statement binds to one name."""

    module: str  #: dotted, without the leading dots
    level: int  #: how many dots lead
    attribute: str  #: the name taken from the module; empty where the module itself is bound
    text: str  #: the whole dotted name, as it is written


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A compound statement around a definition: which of its blocks, and under which expressions."""

    kind: str  #: `if`, `else`, `for`, `except`, ...
    headers: tuple[ast.AST, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A statement that binds or changes a top-level name; without a node where the head of a branch binds it."""

    node: ast.AST | None
    branches: tuple[Branch, ...]  #: from the outside in


@dataclass(frozen=True, slots=True)
class References:
    """The names that a piece of code takes from its module, and from the imports inside it."""

    names: frozenset[tuple[str, Chain]]
    imports: frozenset[tuple[str, Import, Chain]]
    unused: frozenset[tuple[str, Import]]  #: imported inside, perhaps for their effects


@dataclass(frozen=True, slots=True, eq=False)
class SourceFile:
    """The top level of one Python file."""

    stamp: Stamp | None = None  #: None where there is no file
    definitions: Mapping[str, Sequence[Definition]] = field(default_factory=dict)
    imports: Mapping[str, Sequence[Import]] = field(default_factory=dict)
    stars: Sequence[Import] = ()  #: `from x import *`, in the order of the file
    exports: frozenset[str] | None = None  #: `__all__`, where it is written out
    text_digest: str | None = None  #: sha256 of the bytes, 64 hex digits, where this Python cannot read them

    def exported(self, name: str) -> bool:
        """Return whether a star import of this file takes `name`, if the file has it."""
        return name in self.exports if self.exports is not None else not name.startswith("_")


def stamp(path: str) -> Stamp | None:
    """Return what changes when a file is written anew; None where no file is."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def read(path: str) -> SourceFile:
    """Return the top level of a file; one that cannot be read or parsed has only `text_digest`."""
    # The stamp is older than the text, never newer: a file written in between is read again.
    before = stamp(path)
    try:
        with open(path, "rb") as stream:
            text = stream.read()
    except OSError:
        return SourceFile(before, text_digest=hashlib.sha256(b"unreadable").hexdigest())
    tree = parse(text)
    if tree is None:
        return SourceFile(before, text_digest=hashlib.sha256(text).hexdigest())
    return _Table(tree).source_file(before)


def parse(text: str | bytes) -> ast.Module | None:
    """Return the syntax tree, or None where there is none; warns of nothing. Not for two threads at a time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def dotted(node: ast.AST) -> tuple[str, Chain] | None:
    """Return a name and the attributes read from it; None for any other expression."""
    chain: list[str] = []
    while isinstance(node, ast.Attribute):
        chain.append(node.attr)
        node = node.value
    return (node.id, tuple(reversed(chain))) if isinstance(node, ast.Name) else None


def keeps_annotations(node: ast.ClassDef) -> bool:
    """Return whether annotations in a class may do something: a decorator or a base may read them."""
    return bool(node.decorator_list or node.bases or node.keywords)


def imports_of(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Import]]:
    """Yield each bound name with what it is bound to; `*` for a star import."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            text = "." * node.level + ".".join(part for part in (module, alias.name) if part)
            yield alias.asname or alias.name, Import(module, node.level, alias.name, text)
        elif alias.asname:
            yield alias.asname, Import(alias.name, 0, "", alias.name)
        else:
            first = alias.name.partition(".")[0]
            yield first, Import(first, 0, "", alias.name)


class _Table:
    """The top-level names of one module, gathered statement by statement."""

    def __init__(self, tree: ast.Module) -> None:
        self.definitions: dict[str, list[Definition]] = {}
        self.imports: dict[str, list[Import]] = {}
        self.stars: list[Import] = []
        self.exports: set[str] | None = set()
        self.bound: set[str] = set()
        stack: list[tuple[ast.stmt, tuple[Branch, ...]]] = [(statement, ()) for statement in reversed(tree.body)]
        while stack:
            statement, around = stack.pop()
            blocks = list(_blocks(statement))
            for branch, _ in blocks:
                for name in (name for header in branch.headers for name in _stored(header)):
                    self.define(name, Definition(None, (*around, branch)), binds=True)
            if not blocks:
                self.add(statement, around)
            for branch, body in reversed(blocks):
                stack.extend((inner, (*around, branch)) for inner in reversed(body))

    def add(self, statement: ast.stmt, around: tuple[Branch, ...]) -> None:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            for name, target in imports_of(statement):
                if name == "*":
                    self.stars.append(target)
                else:
                    self.imports.setdefault(name, []).append(target)
            return
        if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
            names = {statement.name}
        elif isinstance(statement, ast.AnnAssign) and statement.value is None:
            names = set()
        else:
            names = set(_stored(statement))
        definition = Definition(statement, around)
        for name in sorted(names):
            self.define(name, definition, binds=True)
        changed = set(_changed(statement)) - names
        for name in sorted(changed):
            self.define(name, definition, binds=False)
        if "__all__" in names:
            self.export(statement)
        elif "__all__" in changed:
            self.exports = None

    def define(self, name: str, definition: Definition, *, binds: bool) -> None:
        self.definitions.setdefault(name, []).append(definition)
        if binds:
            self.bound.add(name)

    def export(self, statement: ast.stmt) -> None:
        value = statement.value if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign)) else None
        items = value.elts if isinstance(value, (ast.List, ast.Tuple)) else [value]
        for item in items:
            if not (isinstance(item, ast.Constant) and isinstance(item.value, str)):
                self.exports = None
            elif self.exports is not None:
                self.exports.add(item.value)

    def source_file(self, before: Stamp | None) -> SourceFile:
        # `logging.basicConfig()` changes nothing of this module's own.
        own = {name: items for name, items in self.definitions.items() if name in self.bound}
        written_out = self.exports is not None and "__all__" in self.bound
        exports = frozenset(self.exports) if written_out and self.exports is not None else None
        return SourceFile(before, own, self.imports, tuple(self.stars), exports)


def _blocks(statement: ast.stmt) -> Iterator[tuple[Branch, Sequence[ast.stmt]]]:
    """Yield the blocks of a compound statement that share the scope around it."""
    if isinstance(statement, (ast.If, ast.While)):
        kind = type(statement).__name__
        yield Branch(kind, (statement.test,)), statement.body
        yield Branch(f"{kind} else", (statement.test,)), statement.orelse
    elif isinstance(statement, (ast.For, ast.AsyncFor)):
        yield Branch("For", (statement.target, statement.iter)), statement.body
        yield Branch("For else", (statement.target, statement.iter)), statement.orelse
    elif isinstance(statement, (ast.With, ast.AsyncWith)):
        yield Branch("With", tuple(statement.items)), statement.body
    elif isinstance(statement, ast.Match):
        for case in statement.cases:
            guard = (case.guard,) if case.guard else ()
            yield Branch("Case", (statement.subject, case.pattern, *guard)), case.body
    elif isinstance(statement, _TRIES):
        yield Branch("Try", ()), statement.body
        for handler in statement.handlers:
            yield Branch("Except", (handler.type,) if handler.type else ()), handler.body
        yield Branch("Try else", ()), statement.orelse
        yield Branch("Finally", ()), statement.finalbody


def _stored(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement or the head of one binds or deletes in its own scope."""
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, ast.Name) and not isinstance(item.ctx, ast.Load):
            yield item.id
        elif isinstance(item, ast.comprehension):
            stack.extend((item.iter, *item.ifs))
        elif not isinstance(item, (*_FUNCTIONS, ast.ClassDef, ast.Lambda)):
            yield from _captured(item)
            stack.extend(ast.iter_child_nodes(item))


def _captured(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node binds by a bare string."""
    if isinstance(node, (ast.MatchAs, ast.MatchStar, ast.ExceptHandler)) and node.name:
        yield node.name
    elif type(node).__name__ in _TYPE_PARAMETERS:
        yield getattr(node, "name")  # noqa: B009
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest


def _changed(statement: ast.stmt) -> Iterator[str]:
    """Yield the names whose value a statement changes: `x["a"] = 1`, `x.append(1)`, and `@x.register` on a function."""
    places: Iterable[ast.AST] = ()
    if isinstance(statement, (ast.Assign, ast.Delete)):
        places = statement.targets
    elif isinstance(statement, (ast.AugAssign, ast.AnnAssign)):
        places = (statement.target,)
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        places = (statement.value.func,)
    elif isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        places = (item.func if isinstance(item, ast.Call) else item for item in statement.decorator_list)
    for place in places:
        inner = place
        while isinstance(inner, (ast.Attribute, ast.Subscript)):
            inner = inner.value
        if inner is not place and isinstance(inner, ast.Name):
            yield inner.id


class _Scope:
    """One scope of Python's: a function, a class body, a comprehension, or the module at the top."""

    __slots__ = ("bound", "comprehension", "imports", "open", "outer", "parent")

    def __init__(self, parent: _Scope | None, *, transparent: bool = False, comprehension: bool = False) -> None:
        self.parent = parent
        # What a class body binds is not seen from its methods, and before it is bound the global one is meant.
        self.open = transparent
        self.comprehension = comprehension
        self.bound: set[str] = set()
        self.outer: dict[str, bool] = {}  # declared: True for `global`, False for `nonlocal`
        self.imports: dict[str, set[Import]] = {}

    def holder(self) -> _Scope:
        """Return the scope where an assignment expression binds."""
        scope = self
        while scope.comprehension and scope.parent is not None:
            scope = scope.parent
        return scope

    def lookup(self, name: str) -> tuple[bool, set[Import]]:
        """Return whether a name read here may be the module's, and which imports inside the code bind it."""
        scope: _Scope | None = self
        while scope is not None:
            declared = scope.outer.get(name)
            if name in scope.imports and (scope is self or not scope.open):
                return declared is True, scope.imports[name]
            if declared is True:
                break
            if name in scope.bound and declared is None and not scope.open:
                return False, set()
            scope = scope.parent
        return True, set()


def references(definitions: Sequence[Definition], *, task: bool) -> References:
    """Return what some definitions of one name use; `task`: they are task classes, whose annotations do nothing."""
    return _Reader(definitions, task=task).references()


class _Reader:
    """Gathers the uses of names with the scope each stands in; decides what they mean when all is read."""

    def __init__(self, definitions: Sequence[Definition], *, task: bool) -> None:
        self.plain = {id(item.node) for item in definitions} if task else set()
        self.uses: list[tuple[str, Chain, _Scope]] = []
        self.importing: list[_Scope] = []
        module = _Scope(None, transparent=True)
        # The flag: annotations count here.
        self.stack: list[tuple[ast.AST, _Scope, bool]] = []
        for definition in definitions:
            self.push(module, [header for branch in definition.branches for header in branch.headers])
            self.push(module, [definition.node] if definition.node else [])
        while self.stack:
            self.read(*self.stack.pop())

    def push(self, scope: _Scope, nodes: Iterable[ast.AST | None], annotated: bool = False) -> None:
        self.stack.extend((node, scope, annotated) for node in nodes if node is not None)

    def read(self, node: ast.AST, scope: _Scope, annotated: bool) -> None:
        use = dotted(node)
        if use is not None:
            self.use(node, *use, scope)
        elif isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            self.function(node, scope)
        elif isinstance(node, ast.ClassDef):
            scope.bound.add(node.name)
            self.push(scope, [*node.decorator_list, *node.bases, *node.keywords])
            inner = _Scope(scope, transparent=True)
            self.push(inner, getattr(node, "type_params", ()))
            self.push(inner, node.body, keeps_annotations(node) and id(node) not in self.plain)
        elif isinstance(node, _COMPREHENSIONS):
            self.comprehension(node, scope)
        elif isinstance(node, ast.NamedExpr):
            self.push(scope.holder(), [node.target])
            self.push(scope, [node.value])
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self.importing.append(scope)
            for name, target in imports_of(node):
                scope.imports.setdefault(name, set()).add(target)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            scope.outer.update(dict.fromkeys(node.names, isinstance(node, ast.Global)))
        elif isinstance(node, ast.AnnAssign):
            self.push(scope, [node.target, node.value, node.annotation if annotated else None])
        else:
            scope.bound.update(_captured(node))
            self.push(scope, ast.iter_child_nodes(node), annotated)

    def use(self, node: ast.AST, name: str, chain: Chain, scope: _Scope) -> None:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            scope.bound.add(name)
            if scope.open and scope.parent is not None and name not in scope.outer:
                return
        # A stored name is a use as well: of the module's where it is declared global.
        self.uses.append((name, chain, scope))

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: _Scope) -> None:
        inner = _Scope(scope)
        arguments = node.args
        self.push(scope, [*arguments.defaults, *arguments.kw_defaults])
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            inner.bound.add(argument.arg)
        inner.bound.update(extra.arg for extra in (arguments.vararg, arguments.kwarg) if extra is not None)
        if isinstance(node, ast.Lambda):
            self.push(inner, [node.body])
            return
        scope.bound.add(node.name)
        self.push(scope, node.decorator_list)
        self.push(inner, [*getattr(node, "type_params", ()), *node.body])

    def comprehension(self, node: ast.AST, scope: _Scope) -> None:
        inner = _Scope(scope, comprehension=True)
        first = next(item for item in ast.iter_child_nodes(node) if isinstance(item, ast.comprehension))
        for item in ast.iter_child_nodes(node):
            if isinstance(item, ast.comprehension):
                # The first iterable is evaluated outside.
                self.push(scope if item is first else inner, [item.iter])
                self.push(inner, [item.target, *item.ifs])
            else:
                self.push(inner, [item])

    def references(self) -> References:
        names: set[tuple[str, Chain]] = set()
        imports: set[tuple[str, Import, Chain]] = set()
        for name, chain, scope in self.uses:
            is_global, imported = scope.lookup(name)
            if is_global:
                names.add((name, chain))
            imports.update((name, target, chain) for target in imported)
        used = {(name, target) for name, target, _ in imports}
        everything = {
            (name, target) for scope in self.importing for name, found in scope.imports.items() for target in found
        }
        return References(frozenset(names), frozenset(imports), frozenset(everything - used))


def dump(definitions: Sequence[Definition], *, task: bool) -> str:
    """Return ASCII text that is equal for equal code, in every Python; `task` as for `references`.

    Every node is tagged with its type and every constant with its own. Positions, comments, string statements, `pass`,
    imports and annotations that do nothing are left out.
    """
    plain = {id(item.node) for item in definitions} if task else set()
    out: list[str] = []
    for definition in definitions:
        for branch in definition.branches:
            out.append(branch.kind)
            for header in branch.headers:
                _dump(header, plain, out)
        if definition.node is not None:
            _dump(definition.node, plain, out)
        out.append(";")
    return " ".join(out)


_SKIPPED = frozenset({"annotation", "ctx", "kind", "returns", "type_comment", "type_ignores"})
_fields: dict[type, tuple[str, ...]] = {}


def _dump(root: ast.AST, plain: set[int], out: list[str]) -> None:
    # The flag: annotations count here. A stack, as an expression may be nested as deep as the parser allows.
    stack: list[tuple[object, bool]] = [(root, False)]
    while stack:
        item, annotated = stack.pop()
        if isinstance(item, _Output):
            out.append(item)
            continue
        if isinstance(item, ast.JoinedStr):
            item = _joined(item)
        if not isinstance(item, ast.AST) or isinstance(item, ast.Constant):
            out.append(_scalar(item.value if isinstance(item, ast.Constant) else item))
            continue
        if isinstance(item, ast.ClassDef):
            annotated = keeps_annotations(item) and id(item) not in plain
        elif isinstance(item, (*_FUNCTIONS, ast.Lambda)):
            annotated = False
        # An annotation that does nothing may come and go.
        plainly = isinstance(item, ast.AnnAssign) and not annotated
        out.append("(Assign" if plainly else f"({type(item).__name__}")
        pending: list[tuple[object, bool]] = []
        for name, value in _filled(item, annotated):
            values = value if isinstance(value, list) else [value]
            pending.append((_Output(f"{name}[" if isinstance(value, list) else f"{name}="), False))
            pending += [(entry, annotated) for entry in values]
            if isinstance(value, list):
                pending.append((_Output("]"), False))
        stack.append((_Output(")"), False))
        stack.extend(reversed(pending))


class _Output(str):
    """Text that is dumped already."""

    __slots__ = ()


def _filled(node: ast.AST, annotated: bool) -> Iterator[tuple[str, object]]:
    """Yield the fields of a node that count, by name; not the empty ones, which newer Pythons add to."""
    if isinstance(node, ast.AnnAssign):
        yield "targets", [node.target]
        if annotated:
            yield "annotation", node.annotation
        if node.value is not None:
            yield "value", node.value
        return
    names = _fields.get(type(node))
    if names is None:
        names = _fields[type(node)] = tuple(sorted(set(node._fields) - _SKIPPED))
    for name in names:
        value = getattr(node, name, None)
        if isinstance(value, list):
            value = [entry for entry in value if not _does_nothing(entry, annotated)]
        elif name == "format_spec" and isinstance(value, ast.JoinedStr):
            value = _joined(value)
            if isinstance(value, ast.Constant) and not value.value:
                continue
        if value is not None and value != []:
            yield name, value


def _does_nothing(entry: object, annotated: bool) -> bool:
    if isinstance(entry, ast.AnnAssign):
        return entry.value is None and not annotated
    if isinstance(entry, ast.Expr):
        return isinstance(entry.value, ast.Constant)
    # What an import binds counts where the name is used.
    return isinstance(entry, (ast.Pass, ast.Import, ast.ImportFrom))


def _joined(node: ast.JoinedStr) -> ast.JoinedStr | ast.Constant:
    """Return an f-string whose neighbouring texts are one: Pythons differ in how they cut them."""
    values: list[ast.expr] = []
    for value in node.values:
        text = value.value if isinstance(value, ast.Constant) else None
        if not isinstance(text, str):
            values.append(value)
        elif values and isinstance(values[-1], ast.Constant):
            values[-1] = ast.Constant(str(values[-1].value) + text)
        elif text:
            values.append(ast.Constant(text))
    if not values:
        return ast.Constant("")
    return values[0] if len(values) == 1 and isinstance(values[0], ast.Constant) else ast.JoinedStr(values)


def _scalar(value: object) -> str:
    """Return a constant with its type; `ascii` and not `repr`, which asks the Unicode tables of this Python."""
    if isinstance(value, float):
        text = value.hex()
    elif isinstance(value, complex):
        text = f"{value.real.hex()},{value.imag.hex()}"
    elif type(value) is int:
        text = hex(value)  # decimal digits are limited to a few thousand
    else:
        text = ascii(value)
    return f"{type(value).__name__}:{text}"
