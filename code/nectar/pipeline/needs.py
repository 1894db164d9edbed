"""Find out which parameters a pipeline needs and no step of it sets: read from its text, nothing is imported or run."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nectar import settings
from nectar.pipeline.model import CommandType, Dag, Node, NodeType

_IN_SHELL = re.compile(r"NECTAR_PRM_([^\W\d]\w*)", re.ASCII)
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(slots=True)
class Needs:
    """What a pipeline needs, as far as its text says so."""

    required: dict[str, None] = field(default_factory=dict)  #: names without which a step fails
    optional: dict[str, None] = field(default_factory=dict)  #: names that are looked at
    files: dict[str, None] = field(default_factory=dict)  #: in which functions of steps were looked up
    _set: set[str] = field(default_factory=set)

    def take(self, name: str, *, required: bool) -> None:
        """Learn that a step looks at a parameter."""
        if name in self._set:
            return
        if required:
            self.required[name] = None
            self.optional.pop(name, None)
        elif name not in self.required:
            self.optional[name] = None

    def know(self, names: Iterator[str]) -> None:
        """Learn that a step sets parameters."""
        self._set.update(names)


def needs_of(dag: Dag) -> Needs:
    """Return what a pipeline needs from outside: on the way without failures surely, elsewhere perhaps."""
    needs = Needs()
    _walk(dag, needs, {}, sure=True)
    return needs


def _walk(dag: Dag, needs: Needs, values: Mapping[str, None], *, sure: bool) -> None:
    seen = set()
    name = dag.start_at
    while (node := dag.nodes[name]).next is not None:
        seen.add(name)
        _look_at(node, needs, values, sure=sure)
        name = node.next
    for other in dag.nodes.values():  # where failures lead
        if other.name not in seen:
            _look_at(other, needs, values, sure=False)


def _look_at(node: Node, needs: Needs, values: Mapping[str, None], *, sure: bool) -> None:
    if node.type is NodeType.TASK and node.command is not None:
        _take_command(node.command, node.command_type, needs, values, sure=sure)
    if node.iterate_on is not None and node.iterate_on not in values:
        needs.take(node.iterate_on, required=sure)
    within = {**values, **({node.iterate_as: None} if node.iterate_as is not None else {})}
    for dag in node.dags:
        _walk(dag, needs, within, sure=sure)


def _take_command(command: str, kind: CommandType, needs: Needs, values: Mapping[str, None], *, sure: bool) -> None:
    if kind is CommandType.SHELL:
        for name in _IN_SHELL.findall(command):
            needs.take(name, required=False)
        return
    if kind is CommandType.NOTEBOOK:
        _take_notebook(command, needs)
        return
    function = _function(command, needs) if kind is CommandType.PYTHON else None
    if kind is CommandType.PYTHON_LAMBDA:
        body = ast.parse(command.strip(), mode="eval").body
        function = body if isinstance(body, ast.Lambda) else None
    if function is None:
        return
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args]
    without_default = [*plain[: len(plain) - len(arguments.defaults)]]
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    without_default += [one for one, default in pairs if default is None]
    for one in (*plain, *arguments.kwonlyargs):
        if one.arg not in values:
            needs.take(one.arg, required=sure and one in without_default)
    for name in _calls(function, "get_parameter"):
        needs.take(name, required=False)
    needs.know(_returned(function))


def _function(command: str, needs: Needs) -> _Function | None:
    """Return a function as the source of its module defines it, None where that cannot be told."""
    module, _, name = command.rpartition(".")
    try:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return None
        needs.files[spec.origin] = None
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (ImportError, OSError, SyntaxError, ValueError):
        return None  # the step will say what is wrong with it
    defined = (one for one in tree.body if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return next((one for one in defined if one.name == name), None)


def _take_notebook(command: str, needs: Needs) -> None:
    """Learn what the cells of a notebook of the project look at and set; those of its cell `parameters` have values."""
    path = settings.current().root / command
    try:
        cells = json.loads(path.read_bytes())["cells"]
        code = [(cell, "".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
        tagged = [text for cell, text in code if "parameters" in cell.get("metadata", {}).get("tags", ())]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return  # the step will say what is wrong with it
    needs.files[str(path)] = None
    for tree in _trees(tagged):
        for one in ast.walk(tree):
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
                needs.take(one.id, required=False)
    for tree in _trees(text for _, text in code):
        for name in _calls(tree, "get_parameter"):
            needs.take(name, required=False)
        needs.know(_stored(tree))


def _trees(texts: Iterable[str]) -> Iterator[ast.Module]:
    for text in texts:
        with contextlib.suppress(SyntaxError, ValueError):  # another language, or a line for the shell
            yield ast.parse(text)


def _calls(function: ast.AST, called: str) -> Iterator[str]:
    for one in ast.walk(function):
        if isinstance(one, ast.Call) and _name(one.func) == called and one.args:
            if isinstance(one.args[0], ast.Constant) and isinstance(one.args[0].value, str):
                yield one.args[0].value


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _returned(function: _Function) -> Iterator[str]:
    """Yield the names that a function sets, where it says them as they are."""
    returned: list[ast.expr | None] = [function.body] if isinstance(function, ast.Lambda) else []
    for one in ast.walk(function):
        if isinstance(one, ast.Return):
            returned.append(one.value)
    yield from _stored(function)
    for value in returned:
        for key in value.keys if isinstance(value, ast.Dict) else ():
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value


def _stored(tree: ast.AST) -> Iterator[str]:
    for one in ast.walk(tree):
        if isinstance(one, ast.Call) and _name(one.func) == "store_parameter":
            yield from (keyword.arg for keyword in one.keywords if keyword.arg is not None)
