"""Make a picture of tasks that are given as people read them: `chains.etl.flights_chain.ReportTask(month=3)`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nectar.drawing.folding import folded
from nectar.drawing.picture import Box, Kind, Picture


def picture_of(
    tasks: Mapping[str, str], requires: Mapping[str, Iterable[str]], kinds: Mapping[str, Kind] | None = None
) -> Picture:
    """Return the picture of tasks by reference, folded where there are many; `kinds` colours them.

    What is required and not among the tasks is left out.
    """
    boxes = {ref: _box(task, (kinds or {}).get(ref, Kind.PLAIN)) for ref, task in tasks.items()}
    arrows = [(below, ref) for ref in tasks for below in dict.fromkeys(requires.get(ref, ())) if below in boxes]
    return folded(Picture(boxes, arrows))


def _box(task: str, kind: Kind) -> Box:
    name, _, params = task.partition("(")
    return Box(name.rpartition(".")[2], params.removesuffix(")"), kind, name, task)
