"""Check how the steps of one DAG follow each other: a first one, two ends, no circle, nothing out of the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nectar.pipeline.faults import Faults, quoted
from nectar.pipeline.model import NodeType

MOST_CYCLES = 10  #: that are drawn of one DAG
_MOST_DRAWN = 12  #: steps of a cycle


@dataclass(frozen=True, slots=True)
class Edge:
    """That one step follows another."""

    key: str  #: `next`, or `on_failure`
    to: str
    line: int


@dataclass(frozen=True, slots=True)
class Stop:
    """A step as far as its order matters."""

    line: int
    type: NodeType | None  #: None: the file does not say it so that it can be understood
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """The steps of a DAG by name, in the order of the file."""

    stops: Mapping[str, Stop]
    start_at: Edge | None  #: None: has a fault already
    line: int  #: of the steps
    whole: bool = True  #: False where a step or an edge has a fault, so that what is out of the way cannot be told

    def check(self, faults: Faults) -> None:
        """Add what is wrong."""
        whole = self.whole and self.start_at is not None
        for edge in self._edges():
            if edge.to not in self.stops:
                hint = faults.did_you_mean(edge.to, self.stops) or "name a step of the same DAG"
                faults.add(edge.line, f"`{edge.key}` names {quoted(edge.to)}, and no step has this name", hint)
                whole = False
        whole = self._check_ends(faults) and whole
        cycles = self._cycles()
        for cycle in cycles:
            faults.add(self.stops[cycle[0]].line, f"steps follow each other in a circle: {_drawn(cycle)}")
        if whole and not cycles:
            self._check_reached(faults)

    def _edges(self) -> Iterator[Edge]:
        if self.start_at is not None:
            yield self.start_at
        for stop in self.stops.values():
            yield from stop.edges

    def _check_ends(self, faults: Faults) -> bool:
        """Return whether there is one end of each kind."""
        known = all(stop.type is not None for stop in self.stops.values())
        right = known
        for kind in (NodeType.SUCCESS, NodeType.FAIL):
            ends = [name for name, stop in self.stops.items() if stop.type is kind]
            if not ends and known:
                hint = f"add a step with `type: {kind.value}`"
                faults.add(self.line, f"no step is of the type `{kind.value}`", hint)
            for name in ends[1:]:
                message = f"{quoted(ends[0])} and {quoted(name)} are both of the type `{kind.value}`"
                faults.add(self.stops[name].line, message, "a DAG has one")
            right = right and len(ends) == 1
        return right

    def _cycles(self) -> list[list[str]]:
        """Return circles of steps that share none, the last step of each the first again; at most `MOST_CYCLES`."""
        found: list[list[str]] = []
        drawn: set[str] = set()
        places: dict[str, int] = {}  # of the steps on the path
        done: set[str] = set()
        for start in self.stops:
            path: list[str] = []
            rest: list[Iterator[Edge]] = []
            following: str | None = start if start not in done else None
            while following is not None or rest:
                if following is not None:
                    places[following] = len(path)
                    path.append(following)
                    rest.append(iter(self.stops[following].edges))
                following = None
                edge = next(rest[-1], None)
                if edge is None:
                    rest.pop()
                    done.add(path[-1])
                    del places[path.pop()]
                elif edge.to in places:
                    circle = path[places[edge.to] :]
                    if drawn.isdisjoint(circle):
                        drawn.update(circle)
                        found.append([*circle, edge.to])
                        if len(found) == MOST_CYCLES:
                            return found
                elif edge.to in self.stops and edge.to not in done:
                    following = edge.to
        return found

    def _check_reached(self, faults: Faults) -> None:
        assert self.start_at is not None
        reached = {self.start_at.to}
        waiting = [self.start_at.to]
        while waiting:
            for edge in self.stops[waiting.pop()].edges:
                if edge.to not in reached:
                    reached.add(edge.to)
                    waiting.append(edge.to)
        for name, stop in self.stops.items():
            if name not in reached and stop.type is not NodeType.FAIL:
                hint = "name it in `start_at`, `next` or `on_failure`, or remove it"
                faults.add(stop.line, f"no way leads to the step {quoted(name)}", hint)


def _drawn(cycle: Sequence[str]) -> str:
    if len(cycle) > _MOST_DRAWN:
        half = _MOST_DRAWN // 2
        cycle = [*cycle[:half], f"({len(cycle) - 2 * half} more)", *cycle[-half:]]
    return " -> ".join(cycle)
