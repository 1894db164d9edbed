"""A metric belongs to the task that is at work; where none is, there is nothing to keep it in."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

import nectar
from nectar import errors
from nectar.recording.metrics import reporting


def test_outside_of_run_a_metric_is_refused() -> None:
    with pytest.raises(errors.UsageError, match="while no task is at work"):
        nectar.report_metric("rows", 1)
    with pytest.raises(errors.UsageError, match="while no task is at work"):
        nectar.track_this(rows=1)


def test_a_task_within_a_task_reports_for_itself() -> None:
    outer: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    with reporting(outer):
        with reporting(inner):
            nectar.report_metric("rows", 1)
        nectar.report_metric("columns", 2)
    assert (outer, inner) == ({"columns": 2}, {"rows": 1})


def test_a_thread_of_none_of_several_tasks_at_work_is_refused() -> None:
    began, over = threading.Event(), threading.Event()

    def other() -> None:
        with reporting({}):
            began.set()
            over.wait(20)

    thread = threading.Thread(target=other)
    thread.start()
    began.wait(20)
    refused: list[errors.UsageError] = []

    def report() -> None:
        try:
            nectar.report_metric("rows", 1)
        except errors.UsageError as error:
            refused.append(error)

    own: dict[str, Any] = {}
    with reporting(own):
        third = threading.Thread(target=report)
        third.start()
        third.join()
        nectar.report_metric("rows", 2)
    over.set()
    thread.join()
    assert own == {"rows": 2}
    assert "several tasks are at work" in refused[0].message


def test_a_forked_process_is_told_that_nobody_would_see_its_metric() -> None:
    with reporting({}):
        child = os.fork()
        if child == 0:
            try:
                nectar.report_metric("rows", 1)
            except errors.UsageError as error:
                os._exit(7 if "a process that the task started" in error.message else 1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_numbers_of_other_libraries_are_kept_as_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    kept: dict[str, Any] = {}
    with reporting(kept):
        nectar.track_this(rows=numpy.int64(3), loss=numpy.float32(0.5), worst=float("-inf"))
    assert kept == {"rows": 3, "loss": 0.5, "worst": "-inf"}
    assert [type(value) for value in kept.values()] == [int, float, str]
