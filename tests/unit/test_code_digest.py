"""What a code digest sees, what it does not see, and that it is the same everywhere."""

from __future__ import annotations

import ast
import importlib
import itertools
import json
import linecache
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nectar import code_digest as digests
from nectar import source_scope

_numbers = itertools.count()

CHAIN = '''
"""The chain."""
import json
import os
import sys
import luigi
import PKG.deep.inner
from PKG import helpers
from PKG.rates import RATE, convert as to_euro
from PKG.api import exported
from PKG.stars import *
from .base import BaseTask, mark

LIMIT = 5
LIMIT += 1
LABELS = {"a": 1}
LABELS["b"] = 2
FIRST, SECOND = 10, 20
UNUSED = 77
WIDTH: int = 40

if sys.maxsize > 9:
    SEPARATOR = "/"
else:
    SEPARATOR = "|"

try:
    import ujson as codec
except ImportError:
    codec = None


def keep(row: dict, least=3):
    # A comment.
    return row["n"] >= least and len(row) < LIMIT


def unused():
    return 88


class Box:
    """A box."""
    side = 7


class OtherTask(luigi.Task):
    size = 99

    def run(self):
        return unused()


@mark("clean")
class CleanTask(BaseTask):
    """Cleans."""

    n: int = luigi.IntParameter(default=4)
    factor = 2
    note: str

    def requires(self):
        return OtherTask()

    def run(self):
        """Run it."""
        from PKG.late import lately
        rows: list = [row for row in helpers.rows(Box.side) if keep(row)]
        text = f"{to_euro(RATE):>{WIDTH}} {SEPARATOR}"
        unseen = UNSEEN = 0
        for label in LABELS:
            text += label
        return rows, text, exported(), starred(), PKG.deep.inner.dig(), lately(), FIRST, codec, json.dumps(unseen)
'''

PROJECT = {
    "PKG/chain.py": CHAIN,
    "PKG/base.py": """
        import luigi
        def mark(name):
            def inner(cls):
                cls.mark = name + "!"
                return cls
            return inner
        class Mixin:
            depth = 6
        class BaseTask(Mixin, luigi.Task):
            retries = 8
        """,
    "PKG/__init__.py": "",
    "PKG/helpers.py": '''
        from functools import reduce
        SIZE = 12
        def rows(side):
            """Make rows."""
            return [{"n": i} for i in range(SIZE + side)]
        def idle():
            return 55
        ''',
    "PKG/rates.py": """
        RATE = 1.5
        UNSEEN = 66
        def convert(x): return x * RATE
        """,
    "PKG/api/__init__.py": "from .implementation import exported\nfrom . import implementation\n",
    "PKG/api/implementation.py": "def exported():\n    return 'e'\n",
    "PKG/stars.py": "def starred():\n    return _hidden()\ndef _hidden():\n    return 's'\n",
    "PKG/deep/inner.py": "def dig():\n    return 'd'\n",
    "PKG/late.py": "def lately():\n    return 'l'\n",
}


class Project:
    """A small real project on disk, under a package name of its own."""

    def __init__(self, root: Path, files: dict[str, str]) -> None:
        self.root = root
        self.name = f"project{next(_numbers)}"
        for path, text in files.items():
            self.write(path, text)

    def path(self, path: str) -> Path:
        return self.root / path.replace("PKG", self.name)

    def write(self, path: str, text: str) -> None:
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).replace("PKG", self.name), encoding="utf-8")
        # Edits may be quicker than the file system's clock.
        os.utime(file, ns=(0, next(_numbers)))

    def edit(self, path: str, old: str, new: str) -> None:
        text = self.path(path).read_text(encoding="utf-8")
        old, new = old.replace("PKG", self.name), new.replace("PKG", self.name)
        assert text.count(old) >= 1, f"nothing to edit: {old}"
        self.path(path).write_text(text.replace(old, new, 1), encoding="utf-8")
        os.utime(self.path(path), ns=(0, next(_numbers)))

    def load(self, module: str = "PKG.chain", name: str = "CleanTask") -> type:
        loaded = importlib.import_module(module.replace("PKG", self.name))
        cls = getattr(loaded, name)
        assert isinstance(cls, type)
        return cls

    def digest(self, module: str = "PKG.chain", name: str = "CleanTask") -> digests.CodeDigest:
        made = digests.code_digest(self.load(module, name), root=self.root)
        assert made is not None
        return made

    def parts(self, module: str = "PKG.chain", name: str = "CleanTask") -> set[str]:
        return {part.replace(self.name, "PKG") for part in self.digest(module, name).parts}


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], Project]]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def made(files: dict[str, str]) -> Project:
        project = Project(tmp_path, files)
        importlib.invalidate_caches()
        return project

    yield made
    for name in set(sys.modules) - before:
        if name.startswith("project"):
            del sys.modules[name]


@pytest.fixture
def project(make: Callable[[dict[str, str]], Project]) -> Project:
    return make(PROJECT)


SEEN = [
    ("PKG/chain.py", "factor = 2", "factor = 3"),
    ("PKG/chain.py", "factor = 2", "factor = True"),
    ("PKG/chain.py", "factor = 2", "factor = 2.0"),
    ("PKG/chain.py", "factor = 2", "factor = '2'"),
    ("PKG/chain.py", "factor = 2", "factor = -2"),
    ("PKG/chain.py", "default=4", "default=5"),
    ("PKG/chain.py", "least=3", "least=2"),
    ("PKG/chain.py", ">= least", "> least"),
    ("PKG/chain.py", "< LIMIT", "< SECOND"),
    ("PKG/chain.py", "LIMIT = 5", "LIMIT = 6"),
    ("PKG/chain.py", "LIMIT += 1", "LIMIT += 2"),
    ("PKG/chain.py", "LIMIT += 1\n", ""),
    ("PKG/chain.py", 'LABELS["b"] = 2', 'LABELS["b"] = 3'),
    ("PKG/chain.py", 'LABELS["b"] = 2', "LABELS.update(b=3)"),
    ("PKG/chain.py", "= 10, 20", "= 11, 20"),
    ("PKG/chain.py", "= 40", "= 41"),
    ("PKG/chain.py", "maxsize > 9", "maxsize > 8"),
    ("PKG/chain.py", 'SEPARATOR = "|"', 'SEPARATOR = "!"'),
    ("PKG/chain.py", "ujson as", "simplejson as"),
    ("PKG/chain.py", "codec = None", "codec = json"),
    ("PKG/chain.py", "import json\n", "import simplejson as json\n"),
    ("PKG/chain.py", "side = 7", "side = 8"),
    ("PKG/chain.py", '@mark("clean")', '@mark("cleaner")'),
    ("PKG/chain.py", '@mark("clean")\n', ""),
    ("PKG/chain.py", "(BaseTask)", "(BaseTask, Box)"),
    ("PKG/chain.py", "return OtherTask()", "return [OtherTask()]"),
    ("PKG/chain.py", "dig(), lately()", "dig(), lately"),
    ("PKG/chain.py", ":>{WIDTH}}", ":<{WIDTH}}"),
    ("PKG/chain.py", "{to_euro(RATE)", "{to_euro(RATE)!r"),
    ("PKG/chain.py", "RATE, convert as", "RATE, RATE as"),
    ("PKG/chain.py", "def keep(row: dict", "@mark\ndef keep(row: dict"),
    ("PKG/chain.py", "def keep(", "def len(row):\n    return 0\n\ndef keep("),
    ("PKG/chain.py", "def keep(", "async def keep("),
    ("PKG/chain.py", "unseen = UNSEEN", "global UNUSED\n        unseen = UNUSED"),
    ("PKG/base.py", "retries = 8", "retries = 9"),
    ("PKG/base.py", "depth = 6", "depth = 7"),
    ("PKG/base.py", '"!"', '"?"'),
    ("PKG/helpers.py", "SIZE = 12", "SIZE = 13"),
    ("PKG/helpers.py", "SIZE + side", "SIZE - side"),
    ("PKG/helpers.py", "def rows(side):", "def rows(side, *rest):"),
    ("PKG/rates.py", "x * RATE", "x / RATE"),
    ("PKG/rates.py", "1.5", "1.25"),
    ("PKG/api/__init__.py", "import exported", "import hidden as exported"),
    ("PKG/api/implementation.py", "'e'", "'f'"),
    ("PKG/stars.py", "'s'", "b's'"),
    ("PKG/deep/inner.py", "'d'", "'D'"),
    ("PKG/late.py", "'l'", "'L'"),
    ("PKG/late.py", "'l'", "*'l',"),
]

UNSEEN = [
    ("PKG/chain.py", '"""The chain."""', '"""Another chain."""'),
    ("PKG/chain.py", '"""Cleans."""', ""),
    ("PKG/chain.py", '"""Run it."""', "'It runs.'"),
    ("PKG/chain.py", '"""A box."""', "pass"),
    ("PKG/chain.py", "# A comment.", "# Another, which is longer."),
    ("PKG/chain.py", "    # A comment.\n", "\n\n    'a string statement'\n"),
    ("PKG/chain.py", 'row["n"]', "row['n']"),
    ("PKG/chain.py", 'row["n"] >= least and', '(\n        row[\n"""n"""] >= (least)\n    ) and'),
    ("PKG/chain.py", 'SEPARATOR = "/"', 'SEPARATOR = (u"" "/")'),
    ("PKG/chain.py", 'text = f"{to_euro(RATE)', 'text = f"" f"{to_euro( RATE )'),
    ("PKG/chain.py", "import json\nimport os\n", "import os\nimport json\n"),
    ("PKG/chain.py", "import os\n", ""),
    ("PKG/chain.py", "import json\nimport os\n", "import json, os, re\n"),
    ("PKG/chain.py", "from PKG.rates import RATE, convert as to_euro", "from .rates import convert as to_euro, RATE"),
    ("PKG/chain.py", "from PKG import helpers", "import PKG.helpers as helpers"),
    ("PKG/chain.py", "        from PKG.late import lately\n", "        from .late import lately\n"),
    ("PKG/chain.py", "row: dict", "row: object"),
    ("PKG/chain.py", "least=3)", "least=3) -> Box"),
    ("PKG/chain.py", "rows: list =", "rows ="),
    ("PKG/chain.py", "WIDTH: int", "WIDTH"),
    ("PKG/chain.py", "n: int =", "n: object ="),
    ("PKG/chain.py", "n: int =", "n ="),
    ("PKG/chain.py", "    note: str\n", ""),
    ("PKG/chain.py", "UNUSED = 77", "UNUSED = 78"),
    ("PKG/chain.py", "return 88", "return 89"),
    ("PKG/chain.py", "size = 99", "size = 100"),
    ("PKG/chain.py", "return unused()", "return 1"),
    ("PKG/chain.py", "factor = 2", "factor = 0x2"),
    ("PKG/helpers.py", "return 55", "return 56"),
    ("PKG/helpers.py", "def idle", "def busy(): return idle()\ndef idle"),
    ("PKG/helpers.py", "Make rows.", "Make some rows."),
    ("PKG/helpers.py", "from functools import reduce\n", "\n"),
    ("PKG/rates.py", "def convert(x): return x * RATE", "def convert(\n    x,\n):\n    return x*RATE  # now"),
    ("PKG/rates.py", "UNSEEN = 66", "UNSEEN = 67"),
    ("PKG/api/__init__.py", "from .implementation import exported", "from PKG.api.implementation import exported"),
    ("PKG/stars.py", "def _hidden", "LATER = 1\ndef _hidden"),
]


@pytest.mark.parametrize(("path", "old", "new"), SEEN)
def test_an_edit_that_changes_what_runs_is_seen(project: Project, path: str, old: str, new: str) -> None:
    before = project.digest()
    project.edit(path, old, new)
    after = project.digest()
    assert after.digest != before.digest
    assert digests.changed_parts(before.parts, after.parts)


@pytest.mark.parametrize(("path", "old", "new"), UNSEEN)
def test_an_edit_that_changes_nothing_the_task_uses_is_not_seen(
    project: Project, path: str, old: str, new: str
) -> None:
    before = project.digest()
    project.edit(path, old, new)
    assert project.digest() == before


def test_every_constant_in_the_code_that_is_reached_counts(project: Project) -> None:
    before = project.digest()
    reached = project.parts()
    tried = 0
    for path in PROJECT:
        module = path[:-3].replace("/", ".").replace(".__init__", "")
        text = project.path(path).read_text(encoding="utf-8")
        source = source_scope.read(str(project.path(path)))
        lines = {
            line
            for name, items in source.definitions.items()
            for item in items
            if isinstance(item.node, ast.stmt) and f"{module}.{name}" in reached
            for line in range(item.node.lineno, (item.node.end_lineno or 0) + 1)
        }
        tree = ast.parse(text)
        silent = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.lineno in lines and id(node) not in silent:
                kept, node.value = node.value, "something else"
                project.write(path, ast.unparse(tree))
                node.value = kept
                assert project.digest().digest != before.digest, f"{module}:{node.lineno}: {kept!r}"
                tried += 1
        project.write(path, text)
        assert project.digest() == before
    assert tried, "no constant was found to change"


_NOISE = st.sampled_from(["", "# words", "'a string'", '"""more\nlines"""', "pass", "...", "import zlib", "x = (\n1)"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    noise=st.lists(st.tuples(st.integers(0, 40), _NOISE), max_size=12), unparsed=st.sets(st.sampled_from(list(PROJECT)))
)
def test_no_layout_of_the_same_code_is_seen(project: Project, noise: list[tuple[int, str]], unparsed: set[str]) -> None:
    for path, text in PROJECT.items():
        project.write(path, text)
    before = project.digest()
    for path in unparsed:
        project.write(path, ast.unparse(ast.parse(project.path(path).read_text(encoding="utf-8"))))
    for path in PROJECT:
        tree = ast.parse(project.path(path).read_text(encoding="utf-8"))
        starts = sorted(node.lineno for node in tree.body if not getattr(node, "decorator_list", ()))
        lines = project.path(path).read_text(encoding="utf-8").split("\n")
        for place, text in noise:
            if starts:
                lines[starts[place % len(starts)] - 1] = f"{text}\n{lines[starts[place % len(starts)] - 1]}"
        project.write(path, "\n".join(lines))
    assert project.digest() == before


def test_the_parts_are_what_the_task_uses_and_nothing_else(project: Project) -> None:
    assert project.parts() == {
        "PKG.chain.CleanTask", "PKG.chain.keep", "PKG.chain.Box", "PKG.chain.LIMIT", "PKG.chain.LABELS",
        "PKG.chain.FIRST", "PKG.chain.SECOND", "PKG.chain.SEPARATOR", "PKG.chain.WIDTH", "PKG.chain.codec",
        "PKG.base.BaseTask", "PKG.base.Mixin", "PKG.base.mark", "PKG.helpers.rows", "PKG.helpers.SIZE",
        "PKG.rates.RATE", "PKG.rates.convert", "PKG.api.implementation.exported", "PKG.stars.starred",
        "PKG.stars._hidden", "PKG.deep.inner.dig", "PKG.late.lately",
    }  # fmt: skip
    made = project.digest()
    assert len(made.digest) == 64 and {len(part) for part in made.parts.values()} == {16}


def test_a_changed_helper_is_named_as_the_change(project: Project) -> None:
    before = project.digest()
    project.edit("PKG/helpers.py", "SIZE + side", "max(SIZE, idle()) + side")
    found = digests.changed_parts(before.parts, project.digest().parts)
    assert found == [
        digests.PartChange(f"{project.name}.helpers.idle", digests.PartChangeKind.ADDED),
        digests.PartChange(f"{project.name}.helpers.rows", digests.PartChangeKind.CHANGED),
    ]
    assert digests.changed_parts({"a": "1"}, {}) == [digests.PartChange("a", digests.PartChangeKind.REMOVED)]


def test_the_digest_is_made_once_and_again_when_a_file_it_read_changes(project: Project) -> None:
    first = project.digest()
    assert project.digest() is first
    project.edit("PKG/late.py", "'l'", "'m'")
    second = project.digest()
    assert second != first
    project.path("PKG/late.py").unlink()
    assert project.digest() != second


LAZY = {
    "PKG/chain.py": """
        import luigi
        class RootTask(luigi.Task):
            def requires(self):
                from PKG.upstream import LoadTask, Sink, Copy, Options
                return LoadTask(), Sink(), Copy(), Options()
        """,
    "PKG/upstream.py": """
        import luigi
        from luigi.contrib.external_program import ExternalProgramTask
        class Base(luigi.Task): pass
        class LoadTask(Base): pass
        class Copy(ExternalProgramTask): pass
        class Sink: pass
        class Options(luigi.Config): pass
        """,
}


def test_another_task_counts_by_its_name_whether_its_module_is_imported_or_not(
    make: Callable[[dict[str, str]], Project],
) -> None:
    project = make(LAZY)
    before = project.digest("PKG.chain", "RootTask")
    importlib.import_module(f"{project.name}.upstream")
    project.write("PKG/chain.py", LAZY["PKG/chain.py"])
    assert project.digest("PKG.chain", "RootTask") == before
    assert project.parts("PKG.chain", "RootTask") == {
        "PKG.chain.RootTask", "PKG.upstream.Sink", "PKG.upstream.Options",
    }  # fmt: skip


def test_circles_end_and_long_ways_do_not_overflow(make: Callable[[dict[str, str]], Project]) -> None:
    steps = "\n".join(f"def step{i}(): return step{i + 1}()" for i in range(3000))
    project = make(
        {
            "PKG/chain.py": "from . import other\nclass ATask:\n    run = other.step0\nback = other.step0\n",
            "PKG/other.py": f"from PKG import chain\n{steps}\ndef step3000(): return chain.back(), chain.ATask\n",
        }
    )
    assert len(project.digest("PKG.chain", "ATask").parts) == 3003
    deep = ast.parse("class DeepTask:\n    x = y").body[0]
    for _ in range(5000):
        assert isinstance(deep, ast.ClassDef) and isinstance(deep.body[0], ast.Assign)
        deep.body[0].value = ast.UnaryOp(ast.Not(), deep.body[0].value)
    definition = source_scope.Definition(deep, ())
    assert source_scope.dump([definition], task=True)
    assert source_scope.references([definition], task=True).names == {("y", ())}


@pytest.mark.parametrize("text", ["def rows(side: return\n", "rows = 1\x00\n", "\ufeff# coding: utf-7\n+"])
def test_a_module_that_is_not_python_counts_by_its_bytes(project: Project, text: str) -> None:
    before = project.digest()
    project.write("PKG/helpers.py", text)
    broken = project.digest()
    assert f"{project.name}.helpers" in broken.parts and broken != before
    project.write("PKG/helpers.py", text + "# more")
    assert project.digest() != broken
    project.write("PKG/helpers.py", PROJECT["PKG/helpers.py"])
    assert project.digest() == before


@pytest.mark.filterwarnings("error")
def test_reading_source_warns_of_nothing(project: Project) -> None:
    project.load()
    project.write("PKG/helpers.py", "def rows(side): return '\\d', 1 is 1\n")
    assert f"{project.name}.helpers.rows" in project.digest().parts


def test_a_module_that_cannot_be_read_is_seen_and_breaks_nothing(project: Project) -> None:
    before = project.digest()
    project.path("PKG/helpers.py").unlink()
    assert f"{project.name}.helpers" in project.digest().parts
    project.write("PKG/helpers.py", PROJECT["PKG/helpers.py"])
    assert project.digest() == before


def test_a_task_whose_own_file_is_broken_now_still_has_a_digest(project: Project) -> None:
    cls = project.load()
    project.write("PKG/chain.py", "class CleanTask(:\n")
    made = digests.code_digest(cls, root=project.root)
    assert made is not None and f"{project.name}.chain" in made.parts


SCOPES = [
    ("def run(self, used): return used", False),
    ("def run(self, *used, **other): return used", False),
    ("def run(self):\n        used = 1\n        return used", False),
    ("def run(self):\n        def used(): pass\n        return used", False),
    ("def run(self):\n        import os as used\n        return used", False),
    ("def run(self):\n        return [used for used in self.x]", False),
    ("def run(self):\n        return {used: 1 for a in self.x for used in a if used}", False),
    ("def run(self):\n        if any((used := x) for x in self.x): return used", False),
    ("def run(self):\n        try: pass\n        except ValueError as used: return used", False),
    ("def run(self):\n        with open('x') as used: return used", False),
    ("def run(self):\n        match self.x:\n            case {'a': 1, **used}: return used", False),
    ("def run(self):\n        match self.x:\n            case [*used] | used: return used", False),
    ("def run(self):\n        return lambda used: used", False),
    ("def run(self):\n        used = 1\n        def inner():\n            nonlocal used\n            used += 1", False),
    ("def run(self):\n        used = 1\n        return [used for x in self.x]", False),
    ("def run(self): return self.used, self.x.used, f(used=1)", False),
    ("def run(self, x: used) -> used:\n        y: used = 1\n        z: used", False),
    ("used = 1", False),
    ("x: used = 1", False),
    ("used = 1\n    def run(self): return used", True),
    ("x = [a for a in used]", True),
    ("def run(self): return [used for used in used]", True),
    ("def run(self, x=used): pass", True),
    ("def run(self): return lambda x=used: x", True),
    ("def run(self):\n        global used\n        used = 1", True),
    ("def run(self):\n        used = 1\n        def inner():\n            global used\n            return used", True),
    ("@used\n    def run(self): pass", True),
    ("def run(self):\n        class Inner(used): pass", True),
    ("def run(self):\n        class Inner(list):\n            x: used = 1", True),
    ("def run(self):\n        match self.x:\n            case used.A: pass", True),
    ("def run(self): return f'{1:{used}}'", True),
    ("def run(self): used.x.y = 1", True),
    ("def run(self): del used['x']", True),
    ("async def run(self):\n        async for x in used: yield x", True),
]


@pytest.mark.parametrize(("body", "reached"), SCOPES)
def test_a_name_is_the_modules_own_where_python_says_so(
    make: Callable[[dict[str, str]], Project], body: str, reached: bool
) -> None:
    project = make({"PKG/chain.py": "import luigi\nclass CleanTask:\n    pass\n"})
    cls = project.load()
    project.write("PKG/chain.py", f"used = 1\nclass CleanTask:\n    {body}\n")
    made = digests.code_digest(cls, root=project.root)
    assert made is not None
    assert (f"{project.name}.chain.used" in made.parts) is reached


REACHES = [
    ("import PKG.b\n", "PKG.b.f()", {"b.f"}),
    ("import PKG.b as h\n", "h.f()", {"b.f"}),
    ("from . import b\n", "b.f()", {"b.f"}),
    ("from .b import f as g\n", "g()", {"b.f"}),
    ("from PKG.b import *\n", "f()", {"b.f"}),
    ("from PKG.b import *\n", "_p()", set()),
    ("from PKG.listed import *\n", "_p() + f()", {"listed._p"}),
    ("from PKG.pkg import g\n", "g()", {"b.f"}),
    ("import PKG.pkg\n", "PKG.pkg.b2.k()", {"pkg.b2.k"}),
    ("from PKG.pkg import b2\n", "b2.k()", {"pkg.b2.k"}),
    ("from PKG import pkg\n", "pkg.b.f()", {"b.f"}),
    ("from PKG import lazy\n", "lazy.anything()", {"lazy.__getattr__"}),
    ("from PKG import b\n", "getattr(b, 'f')()", {"b.f", "b._p", "b.C"}),
    ("from PKG.space import x\n", "x.y()", {"space.x.y"}),
    ("from PKG.b import C\n", "C.method()", {"b.C"}),
    ("try:\n    from PKG.b import f\nexcept ImportError:\n    from PKG.listed import f\n", "f()", {"b.f", "listed.f"}),
    ("from PKG.a1 import f\n", "f()", set()),
    ("from PKG.dispatch import show\n", "show(1)", {"dispatch.show"}),
    ("for NAME in ('a', 'b'):\n    TOTAL = NAME\n", "TOTAL", {"a.TOTAL", "a.NAME"}),
    ("with open(__file__) as FILE:\n    pass\n", "FILE", {"a.FILE"}),
]

REACHED = {
    "PKG/__init__.py": "",
    "PKG/b.py": "def f(): return 1\ndef _p(): return 2\nclass C:\n    def method(): pass\n",
    "PKG/listed.py": "__all__ = ['_p']\ndef f(): return 1\ndef _p(): return 2\n",
    "PKG/pkg/__init__.py": "from ..b import f as g\nfrom .. import b\nfrom . import b2\n",
    "PKG/pkg/b2.py": "def k(): return 1\n",
    "PKG/lazy.py": "def __getattr__(name): return lambda: 1\n",
    "PKG/space/x.py": "def y(): return 1\n",
    "PKG/a1.py": "from .a2 import f\n",
    "PKG/a2.py": "from .a1 import f\n",
    "PKG/dispatch.py": "from functools import singledispatch\n@singledispatch\ndef show(x): pass\n"
    "@show.register\ndef _(x: int): return 1\n",
}


@pytest.mark.parametrize(("head", "expression", "expected"), REACHES)
def test_a_name_is_followed_to_where_it_is_bound(
    make: Callable[[dict[str, str]], Project], head: str, expression: str, expected: set[str]
) -> None:
    project = make({**REACHED, "PKG/a.py": "class CleanTask: pass\n"})
    cls = project.load("PKG.a")
    project.write("PKG/a.py", f"{head}class CleanTask:\n    def run(self):\n        return {expression}\n")
    made = digests.code_digest(cls, root=project.root)
    assert made is not None
    assert set(made.parts) - {f"{project.name}.a.CleanTask"} == {f"{project.name}.{name}" for name in expected}


def test_what_is_registered_with_a_function_counts_with_it(make: Callable[[dict[str, str]], Project]) -> None:
    project = make({**REACHED, "PKG/a.py": "from .dispatch import show\nclass CleanTask:\n    run = show\n"})
    before = project.digest("PKG.a")
    project.edit("PKG/dispatch.py", "return 1", "return 2")
    assert project.digest("PKG.a") != before


def test_annotations_count_where_a_decorator_or_a_base_may_read_them(make: Callable[[dict[str, str]], Project]) -> None:
    project = make(
        {
            "PKG/chain.py": """
                from dataclasses import dataclass
                import luigi
                @dataclass
                class Row:
                    size: int
                class CleanTask(luigi.Task):
                    def run(self): return Row(1)
                """
        }
    )
    before = project.digest()
    project.edit("PKG/chain.py", "size: int", "size: int\n    more: int")
    assert project.digest() != before


def test_what_is_installed_in_the_project_is_foreign(make: Callable[[dict[str, str]], Project], tmp_path: Path) -> None:
    project = make({})
    for number, folder in enumerate(("venv/lib", ".venv/lib", "env/site-packages")):
        project.write(f"{folder}/PKGlib{number}.py", "def f(): return 1\nclass LibTask: pass\n")
        sys.path.append(str(tmp_path / folder))
        try:
            project.write("PKG/chain.py", f"import PKGlib{number} as lib\nclass CleanTask:\n    run = lib.f\n")
            importlib.invalidate_caches()
            sys.modules.pop(f"{project.name}.chain", None)
            assert project.parts() == {"PKG.chain.CleanTask"}
            assert digests.code_digest(project.load(f"PKGlib{number}", "LibTask"), root=project.root) is None
        finally:
            sys.path.remove(str(tmp_path / folder))


def test_a_project_that_was_installed_as_a_wheel_owns_its_chains_alone(tmp_path: Path) -> None:
    root = tmp_path / "site-packages"
    (root / "chains").mkdir(parents=True)
    (root / "beside.py").write_text("def f(): return 1\n", encoding="utf-8")
    (root / "chains/wheel_chain.py").write_text("def g(): return 1\n", encoding="utf-8")
    (root / "chains/whole_chain.py").write_text(
        "import beside\nfrom chains import wheel_chain\nclass ATask:\n    x = beside.f, wheel_chain.g\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("etl.flights_chain", "whole_chain").replace("CleanTask", "ATask"),
         str(Path(digests.__file__).parent), str(root)],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert set(json.loads(done.stdout)[1]) == {"chains.whole_chain.ATask", "chains.wheel_chain.g"}


def test_nectar_itself_is_foreign_also_where_it_lies_in_the_project() -> None:
    here = Path(digests.__file__).parents[2]
    assert digests.code_digest(digests.CodeDigest, root=here) is None


def test_a_class_in_a_function_or_a_class_counts_by_the_statement_at_the_top(
    make: Callable[[dict[str, str]], Project],
) -> None:
    project = make(
        {
            "PKG/chain.py": """
                def made(n):
                    class InnerTask:
                        size = n
                    return InnerTask
                ATask = made(1)
                class Outer:
                    class BTask: pass
                CTask = type("CTask", (Outer.BTask,), {})
                """
        }
    )
    module = importlib.import_module(f"{project.name}.chain")
    expected = {
        module.ATask: {"made"},
        module.Outer.BTask: {"Outer"},
        module.CTask: {"CTask", "Outer"},
    }
    for cls, names in expected.items():
        made = digests.code_digest(cls, root=project.root)
        assert made is not None and set(made.parts) == {f"{project.name}.chain.{name}" for name in names}


def test_a_class_without_source_has_no_digest_and_one_from_a_notebook_has(tmp_path: Path) -> None:
    def typed(text: str, file: str) -> type:
        space: dict[str, object] = {"__name__": "a_notebook"}
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(text, file, "exec"), space)
        cls = space["CellTask"]
        assert isinstance(cls, type)
        return cls

    text = "x = 1\nclass CellTask:\n    def run(self):\n        return {}\n"
    first = digests.code_digest(typed(text.format("1"), "<cell-1>"), root=tmp_path)
    other = digests.code_digest(typed(text.format("1  # one"), "<cell-2>"), root=tmp_path)
    third = digests.code_digest(typed(text.format("2"), "<cell-3>"), root=tmp_path)
    assert first is not None and first == other and third is not None and third != first
    assert digests.code_digest(type("CellTask", (), {"__module__": "a_notebook"}), root=tmp_path) is None
    assert digests.code_digest(int, root=tmp_path) is None


# What the other Pythons need not have installed is left out: luigi, and all that `nectar/__init__.py` may import.
SCRIPT = """
import json, pathlib, sys, types
package = types.ModuleType("nectar")
package.__path__ = [sys.argv[1]]
sys.modules["nectar"] = package
from nectar.code_digest import code_digest
root = pathlib.Path(sys.argv[2])
sys.path.insert(0, str(root))
from chains.etl.flights_chain import CleanTask
made = code_digest(CleanTask, root=root)
print(json.dumps([made.digest, dict(made.parts), "luigi" in sys.modules]))
"""

PORTABLE = {
    "chains/etl/flights_chain.py": """
        from __future__ import annotations
        import math, re
        from chains import helpers
        from chains.helpers import Row, shape
        BIG, SMALL, FAR, ODD = 10 ** 30, 1e-300, 1e999, 2 - 3.5j
        HUGE = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF
        TEXT = "na\\u00efve \\ud800 \\N{BULLET}" 'quoted "twice"'
        RAW = (rb"\\d\\x00\\xff", ..., None, True, -0.0)
        TABLE = {**{}, "a": [*RAW], 1: {2, 3}}
        class CleanTask(helpers.Base, kind="x"):
            limit: int = 5
            @property
            def é(self): return self.limit
            async def stream(self, /, a, *, b=1, **rest):
                async with self as one, self:
                    yield [x async for x in one if (y := x) if y]
            def run(self):
                width = 3
                text = f"{self.limit!r:>{width}} {{}} {width=} {TEXT[1:2]:} {'a' 'b'} {math.pi:.{width}f}" f"tail{BIG}"
                nested = f"{f'{ODD}'}" "" f"" rf"\\d{SMALL}"
                match shape(self):
                    case {"a": [1, -2, *rest], **others} if rest: pass
                    case Row(x=1 + 2j) | None | "s" as found: return found
                    case helpers.LIMIT: ...
                try: del self.limit
                except (ValueError, *helpers.ERRORS) as error: raise KeyError from error
                finally: assert text, nested
                for i, *j in TABLE: print(*j, sep="", **{}, file=None)
                else: return lambda a, *b, c=HUGE, **d: (yield)
                return (FAR, not BIG, ~1 @ 2, 1 < 2 <= BIG is not RAW, a if BIG else SMALL, x[1:, ...], re)
        """,
    "chains/helpers.py": """
        from typing import NamedTuple
        LIMIT: int = 1
        ERRORS = (OSError,)
        class Base:
            def __init_subclass__(cls, kind): cls.kind = kind
        class Row(NamedTuple):
            x: int = 1
        def shape(x): return x or shape(LIMIT)
        """,
}


def _pythons() -> list[tuple[str, str | None]]:
    """Return the Pythons that Nectar is for, with where they are here: on the path, or in pyenv's folder."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found: list[tuple[str, str | None]] = []
    for minor in range(10, 14):
        in_pyenv = [str(path) for path in sorted(versions.glob(f"3.{minor}.*/bin/python"))]
        found.append((f"3.{minor}", in_pyenv[-1] if in_pyenv else shutil.which(f"python3.{minor}")))
    return found


def _digest_in(python: str, root: Path, seed: int) -> tuple[str, dict[str, str], bool]:
    package = str(Path(digests.__file__).parent)
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python, "-c", SCRIPT, package, str(root)],
        env=environment, capture_output=True, text=True, timeout=60, cwd=root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    digest, parts, with_luigi = json.loads(done.stdout)
    return digest, parts, with_luigi


@pytest.fixture
def portable(tmp_path: Path) -> Path:
    for path, text in PORTABLE.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(textwrap.dedent(text), encoding="utf-8")
    return tmp_path


# Changing these makes every record show drift.
GOLDEN = "2c2caf4ba47fe89fcba5f19360617f05197d6b4d7c7ff295ab9b09218c3b3d6d"


@pytest.mark.parametrize(("version", "python"), _pythons())
def test_the_digest_is_the_same_in_every_python(portable: Path, version: str, python: str | None) -> None:
    if python is None:
        pytest.skip(f"python {version} is not installed")
    digest, parts, _ = _digest_in(python, portable, seed=0)
    assert digest == GOLDEN
    assert len(parts) == 14


def test_the_digest_is_the_same_in_every_process_and_needs_no_luigi(portable: Path) -> None:
    made = [_digest_in(sys.executable, portable, seed) for seed in (0, 1, 2)]
    assert made[0] == made[1] == made[2]
    assert made[0][2] is False


def test_a_module_that_is_run_has_the_digest_it_has_when_imported(portable: Path) -> None:
    code = Path(digests.__file__).parents[1]
    tail = "\nif __name__ == '__main__':\n    import sys, pathlib\n    sys.path.insert(0, sys.argv[1])\n" + (
        "    from nectar.code_digest import code_digest\n"
        "    print(code_digest(CleanTask, root=pathlib.Path(sys.argv[2])).digest)\n"
    )
    chain = portable / "chains/etl/flights_chain.py"
    chain.write_text(chain.read_text(encoding="utf-8") + tail, encoding="utf-8")
    imported = _digest_in(sys.executable, portable, seed=0)[0]
    environment = {**os.environ, "PYTHONPATH": str(portable)}
    for how in (["-m", "chains.etl.flights_chain"], [str(chain)]):
        done = subprocess.run(
            [sys.executable, *how, str(code), str(portable)],
            env=environment, capture_output=True, text=True, timeout=60, cwd=portable,
        )  # fmt: skip
        assert done.stdout.strip() == imported, done.stderr
