"""Luigi's events come in luigi's order, and in the process in which luigi fires them."""

from __future__ import annotations

from typing import Any

import pytest

CHAIN = """
    import multiprocessing
    import os
    import signal
    import threading

    import luigi

    import nectar

    NAMES = {event: name for name, event in vars(luigi.Event).items() if name.isupper()}


    def short(word):
        if isinstance(word, luigi.Task):
            return type(word).__name__
        return word if isinstance(word, str) else type(word).__name__


    def note(event, *words):
        here = "main" if multiprocessing.current_process().name == "MainProcess" else "worker"
        with open("events", "a") as file:
            file.write(f"{here}: {NAMES[event]} {' '.join(map(short, words))}\\n")


    for event in NAMES:
        luigi.Task.event_handler(event)(lambda *words, event=event: note(event, *words))


    class Made(nectar.Task):
        def run(self):
            self.dump("made")


    class PresentTask(Made):
        pass


    class FirstTask(Made):
        pass


    class SecondTask(Made):
        def requires(self):
            return [PresentTask(), FirstTask()]


    class ThirdTask(Made):
        def requires(self):
            return {"second": SecondTask(), "present": PresentTask()}


    class AllTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return ThirdTask()


    class BadTask(Made):
        def run(self):
            raise ValueError("bad")


    class OnBadTask(Made):
        def requires(self):
            return BadTask()


    class FlakyTask(Made):
        retry_count = 2

        def run(self):
            if not os.path.exists("tried"):
                os.mkdir("tried")
                raise ValueError("the first time")
            self.dump("made")


    class Data(luigi.ExternalTask):
        def output(self):
            return luigi.LocalTarget("never.csv")


    class OnDataTask(Made):
        def requires(self):
            return [Data(), PresentTask()]


    class PlainTask(luigi.Task):
        def output(self):
            return luigi.LocalTarget(f"{type(self).__name__}.txt")


    class BrokenTask(PlainTask):
        def requires(self):
            raise ValueError("broken")


    class OnBrokenTask(PlainTask):
        def requires(self):
            return BrokenTask()


    class YieldsTask(Made):
        def run(self):
            yield FirstTask()
            yield PresentTask()
            self.dump("made")


    class DiesTask(Made):
        def run(self):
            os.kill(os.getpid(), signal.SIGKILL)


    class SlowTask(Made):
        worker_timeout = 1

        def run(self):
            threading.Event().wait()
"""

#: of a task that runs, after its START
WELL = ("PROCESSING_TIME {} float", "SUCCESS {}")


@pytest.fixture
def chain(project: Any) -> Any:
    project.chain("events_chain", CHAIN)
    return project


def events(chain: Any, engine: Any, task: str, **options: Any) -> list[str]:
    """Run a task whose `PresentTask` is there already, and return the events with the processes that fired them."""
    engine.run(chain, "events_chain", "PresentTask").ok()
    (chain.root / "events").unlink(missing_ok=True)
    engine.run(chain, "events_chain", task, **options)
    place = chain.root / "events"
    return place.read_text().splitlines() if place.exists() else []


def found_and_done(lines: list[str]) -> tuple[list[str], list[str]]:
    """Part what was told about dependencies from what was told about running."""
    found = [line for line in lines if "DEPENDENCY" in line]
    return found, [line for line in lines if line not in found]


def runs_in(engine: Any) -> str:
    return "worker" if "processes" in engine.name else "main"


def well(engine: Any, *tasks: str) -> list[str]:
    """Return the events of tasks that ran well, one after the other."""
    here = runs_in(engine)
    return [f"{here}: {text.format(task)}" for task in tasks for text in ("START {}", *WELL)]


def test_tasks_that_run_well_tell_of_it_in_order(engine, chain):
    _, done = found_and_done(events(chain, engine, "AllTask"))
    assert done == well(engine, "FirstTask", "SecondTask", "ThirdTask", "AllTask")


def test_what_is_found_is_told_before_anything_runs(engine, chain):
    seen = events(chain, engine, "AllTask")
    found, done = found_and_done(seen)
    assert found == [
        "main: DEPENDENCY_DISCOVERED AllTask ThirdTask",
        "main: DEPENDENCY_DISCOVERED ThirdTask SecondTask",
        "main: DEPENDENCY_DISCOVERED ThirdTask PresentTask",
        "main: DEPENDENCY_PRESENT PresentTask",
        "main: DEPENDENCY_DISCOVERED SecondTask PresentTask",
        "main: DEPENDENCY_DISCOVERED SecondTask FirstTask",
    ]
    assert seen == found + done


def test_a_root_that_is_complete_is_told_of(engine, chain):
    assert events(chain, engine, "PresentTask") == ["main: DEPENDENCY_PRESENT PresentTask"]


def test_missing_external_data_is_told_of(engine, chain):
    assert events(chain, engine, "OnDataTask") == [
        "main: DEPENDENCY_DISCOVERED OnDataTask Data",
        "main: DEPENDENCY_DISCOVERED OnDataTask PresentTask",
        "main: DEPENDENCY_PRESENT PresentTask",
        "main: DEPENDENCY_MISSING Data",
    ]


def test_a_failure_is_told_of_once_and_nothing_of_what_waited_for_it(engine, chain):
    _, done = found_and_done(events(chain, engine, "OnBadTask"))
    here = runs_in(engine)
    assert done == [f"{here}: START BadTask", f"{here}: FAILURE BadTask ValueError"]


def test_each_attempt_tells_of_itself(engine, chain):
    local = ["--scheduler-retry-delay", "0.05"] if engine.url is None else []
    _, done = found_and_done(events(chain, engine, "FlakyTask", options=["--worker-keep-alive", *local]))
    here = runs_in(engine)
    assert done == [f"{here}: START FlakyTask", f"{here}: FAILURE FlakyTask ValueError", *well(engine, "FlakyTask")]


def test_a_task_whose_requires_raises_is_told_of_as_broken(engine, chain):
    _, rest = found_and_done(events(chain, engine, "OnBrokenTask"))
    assert rest == ["main: BROKEN_TASK BrokenTask ValueError"]


def test_a_task_that_yields_starts_once_with_us_and_at_each_yield_with_luigi(engine, chain):
    _, done = found_and_done(events(chain, engine, "YieldsTask"))
    here = runs_in(engine)
    anew = [f"{here}: START YieldsTask"] if engine.luigi else []  # it begins its generator anew
    assert done == [
        f"{here}: START YieldsTask",
        *well(engine, "FirstTask"),
        *anew,
        *well(engine, "YieldsTask")[1:],
    ]


@pytest.mark.parametrize("engine", ["processes", "luigi, 2 processes"], indirect=True)
@pytest.mark.parametrize(("task", "event"), [("DiesTask", "PROCESS_FAILURE"), ("SlowTask", "TIMEOUT")])
def test_the_end_of_a_worker_is_told_of_by_the_process_that_sees_it(engine, chain, task, event):
    found, (begun, ended) = found_and_done(events(chain, engine, task))
    assert found == []
    assert begun == f"worker: START {task}"
    assert ended.startswith(f"main: {event} {task} ")
