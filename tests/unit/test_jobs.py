"""What an engine and its workers tell each other travels whole."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import fields
from pathlib import Path
from typing import Any

import luigi
import pytest

import nectar
from nectar import settings
from nectar.execution.jobs import Report, ReportKind
from nectar.execution.worker import Packed
from nectar.plans import Force
from nectar.task.register import TaskRegister
from nectar.task.running import files_of, told_of_inputs


def filled(kind: type[Any]) -> Any:
    """Return a value no two of whose members are alike."""
    values = {"kind": ReportKind.YIELDED, "reused": True, "forced": True, "wanted": (luigi.Task(),), "raw": b"raw"}
    return kind(**{one.name: values.get(one.name, f"the {one.name}") for one in fields(kind)})


@pytest.mark.parametrize("kind", [Report, Packed])
def test_each_member_arrives(kind: type[Any]) -> None:
    sent = filled(kind)
    assert pickle.loads(pickle.dumps(sent)) == sent


class NumberTask(nectar.Task):
    """Writes what stands in a file beside it."""

    source = luigi.Parameter()

    def run(self) -> None:
        self.dump(Path(str(self.source)).read_text())


def digests(source: str) -> Any:
    """Return the digests of the task's target as a process finds them that has never seen the task."""
    TaskRegister.clear_instance_cache()
    return files_of([NumberTask(source=source)])[0]


def test_what_another_process_knew_of_an_input_counts_as_long_as_it_holds(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with settings.overridden(root=tmp_path, store_url=(tmp_path / "local_targets").as_uri()):
        source.write_text("one")
        task = NumberTask(source=str(source))
        task.run()
        assert task._nectar.found is not None
        stamp, true = task._nectar.found
        path = task.target_address().path
        with told_of_inputs({path: (stamp, {"out.txt": "what was told"})}):
            assert digests(str(source)) == {"out.txt": "what was told"}
        assert digests(str(source)) == true
        source.write_text("two")
        assert nectar.run(NumberTask(source=str(source)), force=Force.ROOTS, echo=False).success
        with told_of_inputs({path: (stamp, {"out.txt": "what was told"})}):
            assert digests(str(source)) == {"out.txt": hashlib.sha256(b"two").hexdigest()}
