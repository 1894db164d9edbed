"""The figures that a task reports of itself are in its record, whoever carries it out."""

from __future__ import annotations

import json
import sys
from typing import Any

CHAIN = """
    import threading

    import luigi

    import nectar


    class BelowTask(nectar.Task):
        def run(self):
            nectar.report_metric("rows", 3)
            self.dump("below")


    class FiguresTask(nectar.Task):
        def run(self):
            nectar.report_metric("rows", 1)
            nectar.track_this(rows=2, loss=0.5, best=None, name="gr\\u00fcn", parts={"a": [1, True]})
            yield BelowTask()
            thread = threading.Thread(target=nectar.report_metric, args=("by a thread", float("nan")))
            thread.start()
            thread.join()
            self.dump("figures")


    class WrongTask(nectar.Task):
        def run(self):
            try:
                nectar.track_this(good=1, bad={1}, worse=object)
            except Exception as error:
                print(type(error).__name__, error)
            self.dump("wrong")
"""


def test_what_a_task_reports_is_in_its_own_record_and_the_last_value_wins(project: Any, engine: Any) -> None:
    project.chain("figures_chain", CHAIN)
    engine.run(project, "figures_chain", "FiguresTask").ok()
    wanted = {"rows": 2, "loss": 0.5, "best": None, "name": "grün", "parts": {"a": [1, True]}, "by a thread": "nan"}
    assert project.target("FiguresTask").record["metrics"] == wanted
    assert project.target("BelowTask").record["metrics"] == {"rows": 3}


def test_what_is_no_json_is_refused_by_name_and_nothing_of_that_call_is_kept(project: Any, inline: Any) -> None:
    project.chain("figures_chain", CHAIN)
    inline.run(project, "figures_chain", "WrongTask").ok()
    target = project.target("WrongTask")
    assert "UsageError the metric `bad` holds a set, which is no JSON value; the metric `worse` holds" in target.stdout
    assert "metrics" not in target.record


def test_show_tells_the_metrics(project: Any, inline: Any) -> None:
    project.chain("figures_chain", CHAIN)
    inline.run(project, "figures_chain", "BelowTask").ok()
    words = [sys.executable, "-m", "nectar.cli", "show"]
    place = str(project.target("BelowTask").path.relative_to(project.store))
    assert "metric    rows = 3\n" in project.command([*words, place]).ok().stdout
    shown = json.loads(project.command([*words, "--json", place]).ok().stdout)
    assert shown["record"]["metrics"] == {"rows": 3}
