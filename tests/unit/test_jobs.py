"""What an engine and its workers tell each other travels whole."""

from __future__ import annotations

import pickle
from dataclasses import fields
from typing import Any

import luigi
import pytest

from nectar.execution.jobs import Report, ReportKind
from nectar.execution.worker import Packed


def filled(kind: type[Any]) -> Any:
    """Return a value no two of whose members are alike."""
    values = {"kind": ReportKind.YIELDED, "reused": True, "forced": True, "wanted": (luigi.Task(),), "raw": b"raw"}
    return kind(**{one.name: values.get(one.name, f"the {one.name}") for one in fields(kind)})


@pytest.mark.parametrize("kind", [Report, Packed])
def test_each_member_arrives(kind: type[Any]) -> None:
    sent = filled(kind)
    assert pickle.loads(pickle.dumps(sent)) == sent
