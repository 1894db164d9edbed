"""A run has each store in use once, from the first question until its end."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import luigi
import pytest

import nectar
from nectar import settings
from nectar.recording import uses
from nectar.recording.uses import Uses
from nectar.stores import LocalStore, MemoryStore, Store


class SeenTask(nectar.Task):
    """Notes whether somebody could be alone in its store while it runs."""

    seen: list[bool] = []  # noqa: RUF012  the tests look at it
    number = luigi.IntParameter(default=0)

    def run(self) -> None:
        self.seen.append(is_alone(self.target_store()))
        self.dump("x")


class AfterTask(SeenTask):
    """Stands on another."""

    def requires(self) -> SeenTask:
        return SeenTask(number=self.number)


class BrokenTask(SeenTask):
    """Fails."""

    def run(self) -> None:
        super().run()
        raise ValueError("broken")


class NestedTask(SeenTask):
    """Runs another by luigi."""

    def run(self) -> None:
        luigi.build([AfterTask(number=self.number)], local_scheduler=True, log_level="ERROR")
        super().run()


def is_alone(store: Store) -> bool:
    alone = store.alone()
    if alone is not None:
        alone.release()
    return alone is not None


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Iterator[Store]:
    SeenTask.seen.clear()
    with settings.overridden(root=tmp_path, store_url=(tmp_path / "targets").as_uri()):
        yield LocalStore(str(tmp_path / "targets"))


WAYS = {
    "nectar.run": lambda task: nectar.run(task, echo=False),
    "luigi.build": lambda task: luigi.build([task], local_scheduler=True, log_level="ERROR"),
    "luigi under nectar": lambda task: nectar.run(task, executor="luigi", echo=False),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("task", [AfterTask, BrokenTask, NestedTask])
def test_a_store_is_in_use_while_a_run_is_at_work_and_no_longer(way, task, project: Store) -> None:
    way(task(number=1))
    assert SeenTask.seen
    assert not any(SeenTask.seen)
    assert is_alone(project)


def test_a_store_is_in_use_between_the_plan_of_a_run_and_its_begin(project: Store) -> None:
    from nectar.actions.run import Options, runner_for

    nectar.run(SeenTask(), echo=False)
    runner = runner_for([SeenTask()], lambda event: None, Options())
    assert not is_alone(project)
    runner.execute()
    assert is_alone(project)
    given_up = runner_for([SeenTask()], lambda event: None, Options())
    assert not is_alone(project)
    del given_up
    assert is_alone(project)


def test_a_plan_that_cannot_be_carried_out_uses_nothing_any_more(project: Store) -> None:
    nectar.run(SeenTask(), echo=False)
    with pytest.raises(nectar.errors.UnsendableTask):
        nectar.run(LocalClass(), workers=2, echo=False)
    assert is_alone(project)


def local_class() -> type[SeenTask]:
    class InnerTask(SeenTask):
        """Cannot be found by its name."""

    return InnerTask


LocalClass = local_class()


def test_a_plan_alone_uses_nothing(project: Store) -> None:
    nectar.plan(AfterTask())
    assert not Path(project.url.removeprefix("file://")).exists()
    assert is_alone(project)


@pytest.mark.parametrize("task", [SeenTask, BrokenTask])
def test_a_lone_task_uses_its_store_for_its_attempt(task, project: Store) -> None:
    with contextlib.suppress(ValueError):
        task().run()
    assert SeenTask.seen == [False]
    assert is_alone(project)


def test_a_thread_of_its_own_is_no_part_of_a_run() -> None:
    store, found = MemoryStore("memory://uses"), []
    with uses.using([store]):
        thread = threading.Thread(target=lambda: found.append(uses.run_at_work()))
        thread.start()
        thread.join()
        assert uses.run_at_work()
    assert found == [False]


def test_a_run_within_a_run_is_a_part_of_it() -> None:
    store = MemoryStore("memory://uses")
    with uses.using([store]):
        with uses.using([store]):
            pass
        assert not is_alone(store)
    assert is_alone(store)


def test_a_forked_child_is_covered_by_its_parent_and_takes_nothing_back(project: Store) -> None:
    project.in_use(to_write=True).release()
    use = Uses()
    use.add(project)
    child = os.fork()
    if not child:
        covered = use.covers(project)
        use.release()
        os._exit(0 if covered else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not is_alone(project)
    use.release()
    assert is_alone(project)
