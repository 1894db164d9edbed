"""What pipelines cost: steps of shell beside `sh` on the same lines, and a map over steps of Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from timed import Action, Order, answer, expect

from nectar.actions import pipelines
from nectar.actions.run import Options
from nectar.execution.outcome import Event
from nectar.pipeline.model import Services
from nectar.pipeline.reading import read_pipeline
from nectar.recording.capture import Echo

ENDS = "    success: {type: success}\n    fail: {type: fail}\n"
MAP = """\
dag:
  start_at: m
  steps:
    m:
      type: map
      iterate_on: items
      iterate_as: item
      next: success
      branch:
        start_at: t
        steps:
          t: {type: task, command_type: python-lambda, command: 'lambda item: None', next: success}
          success: {type: success}
          fail: {type: fail}
"""


def _lines(tasks: int) -> list[str]:
    return [f"echo {number} > x" for number in range(tasks)]


def _shell(order: Order) -> Action:
    steps = "".join(
        f"    s{number}: {{type: task, command_type: shell, command: '{line}', "
        f"next: {f's{number + 1}' if number + 1 < order.tasks else 'success'}}}\n"
        for number, line in enumerate(_lines(order.tasks))
    )
    return _executed(order, "dag:\n  start_at: s0\n  steps:\n" + steps + ENDS, {})


def _map(order: Order) -> Action:
    return _executed(order, MAP + ENDS, {"items": list(range(order.tasks))})


def _executed(order: Order, text: str, parameters: dict[str, object]) -> Action:
    folder = Path(order.folder)
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    path = folder / "pipeline.yaml"
    path.write_text(text)

    def act() -> None:
        invocation = pipelines.invoke(read_pipeline(path), path, parameters, Services())
        options = pipelines.options_of(invocation, Options(workers=order.workers, echo=Echo.NO))
        events: list[Event] = []
        result = pipelines.begin(invocation, options, events.append).execute()
        expect(pipelines.log_of(invocation, result, events)["status"] == "SUCCESS", "the pipeline failed")

    return act


def _sh(order: Order) -> Action:
    """Run each line by a shell of its own, one after the other, from one shell."""
    folder = Path(order.folder)
    folder.mkdir(parents=True, exist_ok=True)
    script = "".join(f"/bin/sh -c '{line}'\n" for line in _lines(order.tasks))

    def act() -> None:
        subprocess.run(["/bin/sh"], input=script.encode(), cwd=folder, check=True)

    return act


if __name__ == "__main__":
    answer({"wide": _map, "map": _map, "shell": _shell, "sh": _sh})
