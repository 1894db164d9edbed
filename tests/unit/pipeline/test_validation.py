"""What a pipeline file has to be: each fault with its line, all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from nectar import errors
from nectar.pipeline.model import CatalogWish, CommandType, NodeType
from nectar.pipeline.reading import pipeline_in, read_pipeline

GETTING_STARTED = """\
dag:
  description: Getting started
  start_at: step parameters
  steps:
    step parameters:
      type: task
      command_type: python-lambda
      command: "lambda x: {'x': int(x) + 1}"
      next: step shell
    step shell:
      type: task
      command_type: shell
      command: mkdir data ; env >> data/data.txt # For Linux/macOS
      next: success
      catalog:
        put:
          - "*"
    success:
      type: success
    fail:
      type: fail
"""


def faults_of(text: str) -> list[tuple[int | None, str]]:
    with pytest.raises(errors.PipelineInvalid) as caught:
        pipeline_in(text.encode(), "p.yaml")
    return [(fault.line, f"{fault.message}; {fault.hint}") for fault in caught.value.faults]


def test_the_getting_started_pipeline_has_the_digest_that_magnus_printed(tmp_path: Path) -> None:
    path = tmp_path / "getting-started.yaml"
    path.write_text(GETTING_STARTED, "utf-8")
    pipeline = read_pipeline(path)
    assert pipeline.name == "getting-started"
    assert pipeline.dag.digest == "ce0676d63e99c34848484f2df1744bab8d45e33a"  # as magnus has it, of the same file
    assert list(pipeline.dag.nodes) == ["step parameters", "step shell", "success", "fail"]
    node = pipeline.dag.nodes["step shell"]
    assert (node.type, node.command_type, node.line, node.next) == (NodeType.TASK, CommandType.SHELL, 10, "success")
    assert node.command == "mkdir data ; env >> data/data.txt"
    assert node.catalog == CatalogWish(put=("*",))
