"""What cannot be carried out is named before anything runs, and nothing is created."""

from __future__ import annotations

import sys

import pytest

CHAIN = """
    class FineTask(nectar.Task):
        n = luigi.IntParameter(default=1)

        def run(self):
            self.dump("fine")


    class AnyParameter(luigi.Parameter):
        def serialize(self, value):
            return "any"


    class CarriesTask(nectar.Task):
        what = AnyParameter()

        def requires(self):
            return FineTask()

        def run(self):
            self.dump("carried")


    class LambdaTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return CarriesTask(what=lambda: None)


    class StateTask(nectar.Task):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.lock = threading.Lock()

        def run(self):
            self.dump("state")


    def make_local():
        class LocalClassTask(nectar.Task):
            def run(self):
                self.dump("local")

        return LocalClassTask


    class LocalsTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return make_local()()
"""

SCRIPT = """
import pathlib
import nectar


class ScriptTask(nectar.Task):
    def run(self):
        self.dump("script")


if __name__ == "__main__":
    nectar.run(ScriptTask(), workers=2)
"""

UNGUARDED = """
import pathlib
import nectar
from nectar import settings
from nectar.actions.resolve import find_root_task

with open("started", "a") as file:
    file.write("x")
task = find_root_task(settings.current(), "etl/engine_chain", "FineTask", {})
result = nectar.run(task, workers=2, echo=False)
assert result.success
nectar.run(find_root_task(settings.current(), "etl/engine_chain", "FineTask", {"n": "2"}), workers=2, echo=False)
import __main__
assert __main__.__file__.endswith("unguarded.py")
"""


@pytest.fixture
def chain(project):
    project.chain(CHAIN)
    return project


def refused(chain, ended, *words):
    """Check that a run was refused with a clear error that has these words, and that nothing was created."""
    for word in words:
        assert word in ended.err, ended.err
    assert "hint" in ended.err
    assert not chain.store.exists()
    chain.nothing_runs()


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("LambdaTask", ["CarriesTask", "cannot be pickled"]),
        ("StateTask", ["StateTask", "cannot be pickled"]),
        ("LocalsTask", ["LocalClassTask", "cannot be pickled"]),
    ],
)
def test_a_task_that_cannot_be_sent_is_named_before_anything_runs(chain, task, words):
    ended = chain.nectar("run", "--workers", "2", "etl/engine_chain", task)
    assert ended.code == 2
    refused(chain, ended, "define tasks in a chain module", *words)
    assert "Traceback" not in ended.err
    assert chain.nectar("run", "etl/engine_chain", task).code == 0


@pytest.mark.parametrize("way", ["script", "-c"])
def test_a_task_of_the_running_script_is_named_before_anything_runs(chain, way):
    place = chain.put("script.py", SCRIPT)
    ended = chain.start([sys.executable, *([str(place)] if way == "script" else ["-c", SCRIPT])]).ended()
    assert ended.code == 1
    refused(chain, ended, "UnsendableTask", "ScriptTask", "defined in the running script")


def test_a_task_of_the_running_script_runs_with_one_worker(chain):
    place = chain.put("script.py", SCRIPT.replace("workers=2", "workers=1"))
    assert chain.start([sys.executable, str(place)]).ended().code == 0
    assert len(list(chain.store.rglob("record.json"))) == 1


def test_a_script_without_the_guard_does_not_run_itself_again(chain):
    place = chain.put("unguarded.py", UNGUARDED)
    chain.start([sys.executable, str(place)]).ended().ok()
    assert chain.lines("started") == ["x"]
    assert len(chain.targets("FineTask")) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workers", "0"], ["0 workers"]),
        (["--workers", "-3"], ["-3 workers"]),
        (["--workers", "many"], ["many"]),
        (["--executor", "proceses"], ["no executor `proceses`", "did you mean `processes`?"]),
        (["--executor", "inline", "--workers", "2"], ["`inline` has one worker"]),
    ],
)
def test_options_that_cannot_be_are_refused(chain, options, words):
    ended = chain.nectar("run", *options, "etl/engine_chain", "FineTask")
    assert ended.code == 2
    refused(chain, ended, *words)


def test_targets_in_memory_are_refused_or_kept_with_several_workers(chain):
    """Each worker would have a memory of its own."""
    ended = chain.python("""
        import nectar
        from nectar import errors, settings
        from nectar.actions.resolve import find_root_task

        with settings.overridden(store_url="memory://engine"):
            task = find_root_task(settings.current(), "etl/engine_chain", "FineTask", {})
            try:
                result = nectar.run(task, workers=2, echo=False)
            except errors.NectarError as error:
                assert error.hint
            else:
                assert not result.success or task.complete(), result
    """)
    assert ended.code == 0, ended.err
