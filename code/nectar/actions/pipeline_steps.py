"""Find one step of a pipeline's run that another engine carries out: on the way that the run has taken so far.

Which way that is, the store tells: a step that is complete was good, and one of which there are only attempts has
failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nectar import errors
from nectar.pipeline.model import Node, NodeType
from nectar.pipeline.tasks import NodeTask, standing_before
from nectar.pipeline.wiring import Stop, Way, Wirer, ref_of


@dataclass(frozen=True, slots=True)
class Found:
    """One step of a run."""

    task: NodeTask | None = None  #: which requires only what is there; None: nothing is carried out for the step
    end: NodeType | None = None  #: with this the pipeline ends


def step_of(wirer: Wirer, way: Way, name: str) -> Found:
    """Return what a step on a pipeline's way is to do.

    A step that holds branches is what joins them. The success or fail node of a DAG is the end of that.

    Raises:
        StepNotFound: when the pipeline has no such step, or the run has not come to it.
        StoreUnreachable: when the store cannot be read.
    """
    search = _Search(wirer, name)
    found = search.on_way(way)
    if isinstance(found, Stop):
        walked = next((way for _, way in found.branches if way.walked), None)
        if found.node.type is NodeType.DAG and walked is not None:
            return Found(search.gone(walked).task())
        return Found(None if found.task is None else _once(found.task))
    end = found.end.type if not found.way.place.names else None
    return Found(found.task() if found.way.walked and end is not NodeType.FAIL else None, end)


def items_of(wirer: Wirer, way: Way, name: str) -> list[str]:
    """Return the values of a map step, as they are in the names of its branches.

    Raises: as `step_of`; ParameterNotSet, ResultInvalid: when it iterates over what is no list of different values.
    """
    search = _Search(wirer, name)
    found = search.on_way(way)
    if not isinstance(found, Stop) or found.node.type is not NodeType.MAP:
        raise errors.StepNotFound(f"`{name}` is no map step", hint="`--items` is for steps of the type `map`")
    return [value for value, _ in search.branches(found)]


def _once(task: NodeTask) -> NodeTask:
    """Return a task that is tried once: whoever carries the steps out tries again."""
    work = task.work
    if work.node is not None and work.node.retry != 1:
        task.take(replace(work, node=replace(work.node, retry=1)), task.requires())
    return task


@dataclass(frozen=True, slots=True)
class _Gone:
    """A DAG through which the run has gone."""

    way: Way  #: as it would have been without failures
    end: Node  #: that it came to
    last: NodeTask | None  #: of the steps that were good

    def task(self) -> NodeTask:
        """Return the task that goes through it, and has nothing left to carry out."""
        assert self.way.task is not None
        self.way.task.take_end(self.end.type, None if self.last is None else ref_of(self.last))
        return self.way.task


class _Search:
    """The search for one name."""

    def __init__(self, wirer: Wirer, name: str) -> None:
        self._wirer, self._name = wirer, name

    def gone(self, way: Way) -> _Gone:
        """Return how the run has gone through a DAG.

        Raises:
            StepNotFound: when it has not come to its end.
        """
        found = _Search(self._wirer, "").on_way(way, whole=True)
        assert isinstance(found, _Gone)
        return found

    def on_way(self, way: Way, *, whole: bool = False) -> Stop | _Gone:
        """Return the step on the way through a DAG, or how it was gone through where its end is meant."""
        stops, end = list(way.stops), way.end
        last: NodeTask | None = None
        while stops:
            stop = stops.pop(0)
            here = stop.place.name
            if self._name == here:
                return stop
            if self._name.startswith(f"{here}."):
                return self._within(stop)
            if stop.task is None or self._is_there(stop.task):
                last = stop.task or last
                continue
            if not self._has_failed(stop):
                raise self._not_reached(here)
            other = self._wirer.after_failure(way, stop)
            stops, end = list(other.stops), other.end
        if whole or self._name == way.place.below(end.name).name:
            return _Gone(way, end, last)
        raise self._absent(way)

    def _within(self, stop: Stop) -> Stop | _Gone:
        """Return the step of that name in a branch: a map's values may begin with one another, as `a` and `a.b` do."""
        fitting = [branch for branch in self.branches(stop) if self._name.startswith(f"{branch[1].place.name}.")]
        absent: list[errors.StepNotFound] = []
        for _, way in sorted(fitting, key=lambda branch: len(branch[0]), reverse=True):
            try:
                return self.on_way(way)
            except errors.StepNotFound as error:
                absent.append(error)
        if absent:
            raise absent[0]
        raise errors.StepNotFound(
            f"the pipeline has no step `{self._name}`", hint=f"`{stop.place.name}` has no such branch"
        )

    def branches(self, stop: Stop) -> Iterator[tuple[str, Way]]:
        """Yield the branches of a step by their names, those of a map as the run has found its values.

        Raises:
            ParameterNotSet, ResultInvalid: when it iterates over what is no list of different values.
        """
        yield from stop.branches
        if stop.node.type is NodeType.MAP and not stop.branches:
            assert stop.task is not None
            found = standing_before(stop.task.work).parameters
            yield from self._wirer.branches(stop.node, stop.place, stop.before, found)

    def _is_there(self, task: NodeTask) -> bool:
        address = task.target_address()
        return address in task.target_store().present([address])

    def _has_failed(self, stop: Stop) -> bool:
        """Say whether a step that is not there was tried, or something within it was that it cannot do without."""
        assert stop.task is not None
        if self._was_tried(stop.task):
            return True
        return stop.node.type is not NodeType.TASK and any(self._is_missing(way) for _, way in self.branches(stop))

    def _is_missing(self, way: Way) -> bool:
        """Say whether a DAG within a step has failed."""
        if way.task is None or self._is_there(way.task):
            return False
        missing = (one for one in way.stops if one.task is not None and not self._is_there(one.task))
        first = next(missing, None)
        return self._was_tried(way.task) or (first is not None and self._has_failed(first))

    def _was_tried(self, task: NodeTask) -> bool:
        address = task.target_address()
        return address.key in task.target_store().tried(address.prefix)

    def _not_reached(self, before: str) -> errors.StepNotFound:
        return errors.StepNotFound(
            f"the run has not come to the step `{self._name}`",
            hint=f"`{before}` comes before it, and was not carried out in the run",
        )

    def _absent(self, way: Way) -> errors.StepNotFound:
        last = self._name.rpartition(".")[2]
        if last in way.dag.nodes and self._name == way.place.below(last).name:
            return errors.StepNotFound(
                f"the run does not come to the step `{self._name}`", hint="it took another way: look at what failed"
            )
        near = errors.did_you_mean(self._name, [way.place.below(name).name for name in way.dag.nodes])
        return errors.StepNotFound(f"the pipeline has no step `{self._name}`", hint=near or "look into the file")
