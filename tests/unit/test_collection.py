"""The collector of cycles is kept away from a plan for as long as the plan is of use, and no longer."""

from __future__ import annotations

import gc

import luigi
import pytest

import nectar
from nectar import settings
from nectar.actions.run import Options, runner_for
from nectar.plans.collection import without_collection


class FrozenTask(nectar.Task):
    """Says how much the collector passes over while it runs."""

    number = luigi.IntParameter()

    def run(self):
        self.dump(f"{gc.get_freeze_count()}\n")


@pytest.fixture(autouse=True)
def project(tmp_path):
    """Keep targets and history in a folder of the test."""
    with settings.overridden(store_url=f"memory://{tmp_path.name}", root=tmp_path):
        yield


def nobody(event):
    """Listen to nothing."""


def test_a_run_is_passed_over_until_it_ends():
    assert gc.get_freeze_count() == 0
    task = FrozenTask(number=1)
    assert nectar.run(task, echo=False).success
    assert int(task.output().open().read()) > 0
    assert gc.get_freeze_count() == 0 and gc.isenabled()


def test_a_run_that_is_given_up_is_passed_over_no_more():
    runner = runner_for([FrozenTask(number=2)], nobody, Options())
    assert gc.get_freeze_count() > 0 and gc.isenabled()
    del runner
    assert gc.get_freeze_count() == 0


def test_what_fails_is_collected_as_ever():
    with pytest.raises(RuntimeError, match="no plan"), without_collection(keep=True):
        raise RuntimeError("no plan")
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_whoever_has_the_collector_off_keeps_it_off():
    gc.disable()
    try:
        with without_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
