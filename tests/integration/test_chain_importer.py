"""Chains are imported in processes of their own: what a chain does there harms nothing else."""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nectar import errors, settings
from nectar.chain import catalog, inspection, isolation
from nectar.chain.description import BrokenChain, ParameterDescription
from nectar.chain.finder import ChainName
from nectar.chain.project import load_module
from nectar.settings import Settings

LONG_AGO_NS = 1_600_000_000_000_000_000
GOOD = "import luigi\nclass GoodTask(luigi.Task):\n    pass\n"
X = ChainName("etl", "x_chain")


class Project:
    """A project in a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "chains").mkdir(parents=True)
        self.settings = Settings(root=root, store_url=(root / "local_targets").as_uri())

    def put(self, file: str, text: str, *, at_ns: int = LONG_AGO_NS) -> Path:
        place = self.root / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(textwrap.dedent(text), encoding="utf-8")
        os.utime(place, ns=(at_ns, at_ns))
        return place

    def discover(self, limit_s: float = 60.0) -> catalog.Catalog:
        return catalog.discover(self.settings, limit_s=limit_s)

    def broken(self, text: str, limit_s: float = 60.0) -> BrokenChain:
        """Discover a chain of this text beside a good one, which must not notice."""
        self.put("chains/etl/good_chain.py", GOOD)
        self.put("chains/etl/x_chain.py", text)
        found = self.discover(limit_s)
        assert [good.name.path for good in found.chains] == ["etl/good_chain"]
        assert [broken.path for broken in found.broken] == ["etl/x_chain"]
        return found.broken[0]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture
def importing() -> Iterator[None]:
    """Undo what imports from a project change in this process."""
    path, finders, modules = list(sys.path), list(sys.meta_path), dict(sys.modules)
    for name in [name for name in modules if name.partition(".")[0] == "chains"]:
        del sys.modules[name]
    yield
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each importer process that is started; each really is."""
    started: list[str] = []
    real = isolation.import_chain

    def noting(
        root: Path, name: ChainName, *, limit_s: float, stop: threading.Event
    ) -> isolation.Imported | BrokenChain:
        started.append(name.path)
        return real(root, name, limit_s=limit_s, stop=stop)

    monkeypatch.setattr(isolation, "import_chain", noting)
    return started


# What is listed.


def test_tasks_are_what_the_module_defines_or_assigns_in_the_order_of_definition(project: Project) -> None:
    project.put(
        "lib/base.py", "import luigi\nclass BaseTask(luigi.Task):\n    pass\nclass OtherTask(BaseTask):\n    pass\n"
    )
    project.put(
        "chains/etl/x_chain.py",
        '''
        """Loads the days,
        one by one.

        More of it.
        """
        import luigi
        from lib.base import BaseTask, OtherTask
        from lib import base
        from lib.base import BaseTask as RenamedTask

        class ZetaTask(BaseTask):
            """The last of the alphabet.

            And more.
            """

        class _HiddenTask(luigi.Task):
            pass

        class Loader(luigi.Task):
            pass

        AliasTask = base.OtherTask
        if True:
            AlphaTask, SomeTask = ZetaTask, 3

        def make():
            OtherTask = 1

        class PlainTask:
            pass

        notATask = ZetaTask()
        ''',
    )
    found = project.discover()
    assert found.broken == ()
    (description,) = found.chains
    assert description.doc == "Loads the days, one by one."
    assert [task.name for task in description.tasks] == ["ZetaTask", "AliasTask", "AlphaTask"]
    assert [task.family for task in description.tasks] == ["ZetaTask", "OtherTask", "ZetaTask"]
    assert description.tasks[0].doc == "The last of the alphabet."


@pytest.mark.usefixtures("importing")
def test_a_class_is_taken_for_a_task_of_the_module_only_where_the_description_lists_it(project: Project) -> None:
    project.put("lib/base.py", "import luigi\nclass BaseTask(luigi.Task):\n    pass\n")
    project.put(
        "chains/etl/x_chain.py",
        """
        import luigi
        from lib.base import BaseTask
        class OwnTask(BaseTask):
            pass
        class _HiddenTask(luigi.Task):
            pass
        class Loader(luigi.Task):
            pass
        class PlainTask:
            pass
        AliasTask, SameTask, someTask = BaseTask, OwnTask, OwnTask()
        """,
    )
    module = load_module(project.settings, X)
    listed = inspection.describe_module(module, X, Path(str(module.__file__)).read_bytes())
    found = {name for name in dir(module) if inspection.own_task(module, name) is not None}
    assert found == {"OwnTask", "SameTask"}
    assert {task.name for task in listed.tasks} == found | {"AliasTask"}


def test_parameters_are_described_as_their_class_declares_them(project: Project) -> None:
    project.put("luigi.cfg", "[XTask]\nday=2020-01-01\n")
    project.put(
        "chains/etl/x_chain.py",
        """
        import datetime, enum, luigi
        from luigi.parameter import ParameterVisibility

        class Colour(enum.Enum):
            RED = 1
            BLUE = 2

        class OddParameter(luigi.IntParameter):
            def serialize(self, value):
                raise RuntimeError("odd")

        class XTask(luigi.Task):
            day = luigi.DateParameter()
            month = luigi.MonthParameter(default=datetime.date(2020, 2, 29), description="which one")
            text = luigi.Parameter(default="a")
            nothing = luigi.Parameter(default=None)
            count = luigi.IntParameter(default=3, significant=False)
            share = luigi.OptionalFloatParameter(default=0.5)
            maybe = luigi.OptionalParameter()
            flag = luigi.BoolParameter()
            colour = luigi.EnumParameter(enum=Colour, default=Colour.BLUE, visibility=ParameterVisibility.HIDDEN)
            size = luigi.ChoiceParameter(choices=[10, 9, 2], var_type=int, description="how large")
            table = luigi.DictParameter(default={"b": 1})
            items = luigi.ListParameter(default=[1, 2])
            password = luigi.Parameter(default="s3cret", visibility=ParameterVisibility.PRIVATE)
            token = luigi.Parameter(visibility=ParameterVisibility.PRIVATE)
            odd = OddParameter(default=7)
            place = luigi.PathParameter(default="/nowhere/at/all", exists=True)
        """,
    )
    description = catalog.describe(project.settings, X)
    made = [ParameterDescription(*row) for row in PARAMETERS]
    assert list(description.tasks[0].parameters) == made
    assert "s3cret" not in json.dumps(description.to_json())
    kept = (project.settings.state_dir / "chains" / "etl.x_chain.json").read_text(encoding="utf-8")
    assert "s3cret" not in kept


PARAMETERS: list[tuple[str, str, str | None, bool, bool, tuple[str, ...] | None, str, str]] = [
    ("day", "date", None, True, True, None, "", "public"),
    ("month", "month", "2020-02", False, True, None, "which one", "public"),
    ("text", "str", "a", False, True, None, "", "public"),
    ("nothing", "str", None, False, True, None, "", "public"),
    ("count", "int", "3", False, False, None, "", "public"),
    ("share", "float", "0.5", False, True, None, "", "public"),
    ("maybe", "str", None, False, True, None, "", "public"),
    ("flag", "bool", "False", False, True, None, "", "public"),
    ("colour", "choice", "BLUE", False, True, ("RED", "BLUE"), "", "hidden"),
    ("size", "choice", None, True, True, ("2", "9", "10"), "how large", "public"),
    ("table", "dict", '{"b": 1}', False, True, None, "", "public"),
    ("items", "list", "[1, 2]", False, True, None, "", "public"),
    ("password", "str", "******", False, True, None, "", "private"),
    ("token", "str", None, True, True, None, "", "private"),
    ("odd", "OddParameter", "7", False, True, None, "", "public"),
    ("place", "path", "/nowhere/at/all", False, True, None, "", "public"),
]


def test_a_catalog_is_in_the_order_of_names_and_names_misplaced_folders(project: Project) -> None:
    for file in ("etl/pipeline_chain", "ds/copy_chain", "etl/a_chain", "my-etl/x_chain", "etl/deep/x_chain"):
        project.put(f"chains/{file}.py", GOOD)
    found = project.discover()
    listed = {kind: [one.name.path for one in chains] for kind, chains in found.by_type().items()}
    assert listed == {"ds": ["ds/copy_chain"], "etl": ["etl/a_chain", "etl/pipeline_chain"]}
    assert [(one.path, one.traceback) for one in found.broken] == [("etl/deep", ""), ("my-etl", "")]
    assert "rename it to `my_etl`" in found.broken[1].error


def test_an_import_sees_the_project_first_and_no_other_chains(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    for file in ("chains/__init__.py", "chains/etl/__init__.py", "chains/etl/x_chain.py", "helper.py"):
        (other / file).parent.mkdir(parents=True, exist_ok=True)
        (other / file).write_text("raise RuntimeError('the wrong one')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(other))
    monkeypatch.setenv("PYTHONPATH", str(other), prepend=os.pathsep)
    project.put("helper.py", "")
    project.put(
        "chains/etl/x_chain.py",
        f"""
        import os, sys, luigi, helper, code
        from chains.etl.good_chain import GoodTask
        assert os.getcwd() == sys.path[0] == {str(project.root)!r}
        assert os.environ["NECTAR_PROJECT"] == {str(project.root)!r}
        assert code.interact, "the standard library's, not the folder's"
        assert sys.argv[1:] == [] and sys.stdin.read() == ""
        class XTask(GoodTask):
            pass
        """,
    )
    project.put("chains/etl/good_chain.py", GOOD)
    project.put("code/readme.txt", "")
    found = project.discover()
    assert found.broken == ()
    assert [task.name for one in found.chains for task in one.tasks] == ["GoodTask", "XTask"]


# What is broken.


@pytest.mark.parametrize(
    ("text", "error", "location"),
    [
        ("import luigi\nimport nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found'", 2),
        ("x = 1\ny = (\n", "SyntaxError: '(' was never closed", 2),
        ("raise ValueError('one\\ntwo')\n", "ValueError: one", 1),
        ("import sys\nsys.exit('enough')\n", "SystemExit: enough", 2),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt", 1),
        ("def f():\n    f()\nf()\n", "RecursionError: maximum recursion depth exceeded", 2),
        ("class E(Exception):\n    def __str__(self):\n        1 / 0\nraise E\n", "chains.etl.x_chain.E", 4),
        ("raise ValueError('\\udcff')\n", "ValueError: ", 1),
    ],
)
def test_an_import_that_raises_is_broken_with_the_last_line_and_the_place(
    project: Project, text: str, error: str, location: int
) -> None:
    broken = project.broken(text)
    assert broken.error.startswith(error)
    assert "\n" not in broken.error
    assert broken.location == f"chains/etl/x_chain.py:{location}"
    assert broken.error in broken.traceback
    assert "importlib" not in broken.traceback
    assert "nectar" not in broken.traceback.replace(str(project.root), "")
    broken.traceback.encode("utf-8")


def test_an_error_in_a_helper_of_the_project_names_the_helper(project: Project) -> None:
    project.put("lib/deep.py", "import json\njson.loads('{')\n")
    broken = project.broken("from lib import deep\n")
    assert broken.location == "lib/deep.py:2"
    with pytest.raises(errors.ChainBroken) as caught:
        catalog.describe(project.settings, X)
    assert caught.value.message == f"chain `etl/x_chain` cannot be imported: {broken.error}"
    assert caught.value.hint == "look at `lib/deep.py`, line 2"


@pytest.mark.parametrize(
    ("text", "error", "shown"),
    [
        ("import os\nprint('going')\nos._exit(3)\n", "the import ended the process with exit code 3", "going"),
        ("import os\nos._exit(0)\n", "the import ended the process with exit code 0", ""),
        ("import ctypes\nctypes.string_at(0)\n", "the import was ended by SIGSEGV", "Segmentation fault"),
        ("import os\nos.kill(os.getpid(), 9)\n", "the import was ended by SIGKILL", ""),
        ("import os\nos.closerange(3, 9999)\n", "the import ended the process with exit code 1", "Bad file descriptor"),
        (
            "import os\nprint('x' * 10**6 + 'end')\nos._exit(1)\n",
            "the import ended the process with exit code 1",
            "xend",
        ),
    ],
)
def test_an_import_that_ends_its_process_is_broken_with_what_it_printed_last(
    project: Project, text: str, error: str, shown: str
) -> None:
    broken = project.broken(text)
    assert broken.error == error
    assert shown in broken.traceback
    assert len(broken.traceback) <= isolation.TAIL


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(1000)\n",
        "while True: pass\n",
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\ntime.sleep(1000)\n",
        "import re\nre.match('(a+)+$', 'a' * 60 + 'b')\n",
    ],
)
def test_an_import_that_hangs_is_ended_and_shows_where(project: Project, text: str) -> None:
    broken = project.broken(text, limit_s=2.0)
    assert broken.error == "the import took longer than 2 s"
    assert f'x_chain.py", line {len(text.splitlines())} in <module>' in broken.traceback


def test_an_import_that_hangs_without_a_watchdog_is_ended_all_the_same(project: Project) -> None:
    broken = project.broken(
        "import faulthandler, time\nfaulthandler.cancel_dump_traceback_later()\ntime.sleep(1000)\n", 1.0
    )
    assert broken.error == "the import took longer than 1 s"


def test_an_import_that_prints_for_ever_is_ended(project: Project) -> None:
    assert project.broken("while True: print('x' * 10**5)\n").error == "the import printed more than 64 MiB"


def test_an_import_that_prints_much_and_ends_is_not_broken(project: Project) -> None:
    project.put("chains/etl/x_chain.py", GOOD + "import sys\nprint('x' * 10**7)\nprint('y' * 10**6, file=sys.stderr)\n")
    assert project.discover().broken == ()


def test_children_threads_and_exit_handlers_of_an_import_do_not_outlive_it(project: Project) -> None:
    pids = project.root / "pids"
    project.put(
        "chains/etl/x_chain.py",
        GOOD
        + textwrap.dedent(
            f"""
            import atexit, os, subprocess, threading, time
            child = subprocess.Popen(["sleep", "1000"])
            forked = os.fork()
            if forked == 0:
                time.sleep(1000)
            open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{child.pid}} {{forked}}")
            threading.Thread(target=time.sleep, args=(1000,)).start()
            atexit.register(time.sleep, 1000)
            """
        ),
    )
    assert project.discover().broken == ()
    for pid in pids.read_text(encoding="utf-8").split():
        assert has_ended(int(pid))


def test_an_import_that_forks_answers_once(project: Project) -> None:
    project.put("chains/etl/x_chain.py", "import os\nos.fork()\n" + GOOD)
    assert project.discover().broken == ()


def test_an_import_whose_child_left_the_group_with_the_pipes_open_is_not_waited_for(project: Project) -> None:
    text = """
        import os, subprocess
        subprocess.Popen(["sleep", "15"], start_new_session=True, close_fds=False)
        os._exit(5)
        """
    assert project.broken(text, limit_s=10.0).error == "the import ended the process with exit code 5"


def test_a_stopped_discover_leaves_no_process_behind(project: Project, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    os.mkfifo(pid_file)
    project.put(
        "chains/etl/x_chain.py",
        f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\ntime.sleep(1000)\n",
    )
    program = (
        "import sys; from pathlib import Path; from nectar.chain import catalog; from nectar.settings import Settings\n"
        "catalog.discover(Settings(root=Path(sys.argv[1]), store_url=''))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(project.root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
    )
    importer = int(pid_file.read_text(encoding="utf-8"))
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in printed
    assert has_ended(importer)


def has_ended(pid: int) -> bool:
    """Wait until a process has ended, half a minute at most; a zombie has."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with open(handle, "rb") as process:
        return bool(select.select([process], [], [], 30)[0])


# What is kept.


def test_a_second_discover_imports_nothing(project: Project, imports: list[str]) -> None:
    project.put("chains/etl/x_chain.py", GOOD)
    first = project.discover()
    assert project.discover() == first
    assert catalog.describe(project.settings, X) == first.chains[0]
    assert imports == ["etl/x_chain"]


def test_a_change_of_any_file_that_the_import_loaded_is_seen(project: Project, imports: list[str]) -> None:
    project.put("lib/names.py", "DOC = 'one'\n")
    project.put("lib/unrelated.py", "")
    for name in ("x_chain", "y_chain"):
        project.put(f"chains/etl/{name}.py", GOOD)
    project.put("chains/etl/x_chain.py", GOOD + "from lib.names import DOC\n__doc__ = DOC\n")
    assert [one.doc for one in project.discover().chains] == ["one", ""]
    project.put("lib/unrelated.py", "x = 1\n")
    project.put("lib/names.py", "DOC = 'two'\n", at_ns=LONG_AGO_NS + 1)
    assert [one.doc for one in project.discover().chains] == ["two", ""]
    assert imports == ["etl/x_chain", "etl/y_chain", "etl/x_chain"]
    project.put("lib/names.py", "DOC = 'three'\n", at_ns=LONG_AGO_NS + 1)
    assert [one.doc for one in project.discover().chains] == ["three", ""]
    (project.root / "lib" / "names.py").unlink()
    assert [one.path for one in project.discover().broken] == ["etl/x_chain"]


def test_a_file_that_is_written_while_it_is_imported_is_not_kept(project: Project, imports: list[str]) -> None:
    project.put("chains/etl/x_chain.py", GOOD + "import os\nos.utime(__file__)\n")
    project.discover()
    project.discover()
    assert imports == ["etl/x_chain"] * 2


def test_old_bytecode_is_never_taken_for_the_source(project: Project) -> None:
    project.put("lib/names.py", "DOC = 'one'\n")
    project.put("chains/etl/x_chain.py", GOOD + "from lib.names import DOC\n__doc__ = DOC\n")
    compiled = subprocess.run([sys.executable, "-m", "compileall", "-q", str(project.root)], check=False)
    assert compiled.returncode == 0
    project.put("lib/names.py", "DOC = 'two'\n")  # of the same size and second
    assert project.discover().chains[0].doc == "two"


def test_a_broken_chain_is_tried_again(project: Project, imports: list[str]) -> None:
    project.put("chains/etl/x_chain.py", "import json\njson.loads(open('wanted.json').read())\n")
    assert len(project.discover().broken) == 1
    project.put("wanted.json", "{}")
    assert project.discover().broken == ()
    assert imports == ["etl/x_chain"] * 2


@pytest.mark.parametrize(
    "garbage", [b"", b"\0\xff", b"[]", b"{}", b"[" * 100_000, b'{"made_by": 1}', b'"text"', b"null", b"12"]
)
def test_a_garbage_cache_file_is_ignored_and_written_anew(project: Project, imports: list[str], garbage: bytes) -> None:
    project.put("chains/etl/x_chain.py", GOOD)
    first = project.discover()
    (kept,) = (project.settings.state_dir / "chains").iterdir()
    kept.write_bytes(garbage)
    assert [project.discover(), project.discover()] == [first, first]
    assert imports == ["etl/x_chain"] * 2


@pytest.mark.parametrize("key", ["format", "python", "nectar", "luigi"])
def test_what_another_version_kept_is_not_used(project: Project, imports: list[str], key: str) -> None:
    project.put("chains/etl/x_chain.py", GOOD)
    project.discover()
    (kept,) = (project.settings.state_dir / "chains").iterdir()
    document = json.loads(kept.read_bytes())
    document["made_by"][key] = "another"
    kept.write_text(json.dumps(document), encoding="utf-8")
    project.discover()
    assert imports == ["etl/x_chain"] * 2


def test_where_nothing_can_be_kept_chains_are_described_all_the_same(project: Project) -> None:
    project.put("chains/etl/x_chain.py", GOOD)
    project.put(".nectar", "a file, where the folder should be")
    assert len(project.discover().chains) == 1


def test_describing_needs_no_luigi_in_this_process(project: Project) -> None:
    project.put("chains/etl/x_chain.py", GOOD)
    program = """
import sys, types
package = types.ModuleType("nectar")
package.__path__ = [sys.argv[2]]
sys.modules["nectar"] = package
from pathlib import Path
from nectar.chain import catalog
from nectar.settings import Settings
assert len(catalog.discover(Settings(root=Path(sys.argv[1]), store_url="")).chains) == 1
assert "luigi" not in sys.modules and "chains" not in sys.modules
"""
    package = str(Path(settings.__file__).parent)
    done = subprocess.run([sys.executable, "-c", program, str(project.root), package], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


# What this process imports itself.


def test_an_unknown_chain_is_not_found(project: Project) -> None:
    project.put("chains/etl/x_chain.py", GOOD)
    ask: list[Callable[[Settings, ChainName], object]] = [catalog.describe, load_module]
    for question in ask:
        with pytest.raises(errors.ChainNotFound) as caught:
            question(project.settings, ChainName("etl", "xx_chain"))
        assert caught.value.hint == "did you mean `etl/x_chain`?"


@pytest.mark.usefixtures("importing")
def test_a_loaded_module_is_the_projects_also_beside_another_chains_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    projects = [Project(tmp_path / name) for name in ("one", "two", "three")]
    for number, one in enumerate(projects):
        one.put("chains/etl/x_chain.py", f"import helper\nNUMBER = {number}\n")
        one.put("helper.py", "")
    projects[0].put("chains/__init__.py", "")
    monkeypatch.syspath_prepend(str(projects[0].root))
    assert importlib.import_module("chains.etl.x_chain").NUMBER == 0
    for number in (1, 2, 0):
        module = load_module(projects[number].settings, X)
        assert number == module.NUMBER
        assert module.__name__ == "chains.etl.x_chain"
        assert sys.path[0] == str(projects[number].root)
        assert load_module(projects[number].settings, X) is module


@pytest.mark.usefixtures("importing")
def test_a_type_folder_added_later_can_be_loaded(project: Project) -> None:
    project.put("chains/etl/x_chain.py", "")
    load_module(project.settings, X)
    project.put("chains/new/y_chain.py", "import chains.etl.x_chain\nVALUE = 1\n")
    assert load_module(project.settings, ChainName("new", "y_chain")).VALUE == 1


@pytest.mark.usefixtures("importing")
@pytest.mark.parametrize("text", ["\nraise ValueError('no')\n", "\nimport sys; sys.exit(3)\n", "\n)\n"])
def test_a_module_that_cannot_be_loaded_is_broken_and_keeps_its_cause(project: Project, text: str) -> None:
    project.put("chains/etl/x_chain.py", text)
    with pytest.raises(errors.ChainBroken) as caught:
        load_module(project.settings, X)
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError | SystemExit | SyntaxError)
    assert type(cause).__name__ in caught.value.message
    assert caught.value.hint == "look at `chains/etl/x_chain.py`, line 2"


def test_importers_work_side_by_side(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    here, there = tmp_path / "here", tmp_path / "there"
    os.mkfifo(here)
    os.mkfifo(there)
    project.put("chains/etl/a_chain.py", GOOD + f"open({str(here)!r}, 'w').close(); open({str(there)!r}).read()\n")
    project.put("chains/etl/b_chain.py", GOOD + f"open({str(here)!r}).read(); open({str(there)!r}, 'w').close()\n")
    assert project.discover().broken == ()
