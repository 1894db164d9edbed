"""Find a place for each box: columns from left to right, few crossings, short arrows.

The method is that of Sugiyama, Tagawa and Toda (IEEE Transactions on Systems, Man, and Cybernetics 11, 1981): layers by
the longest way, long arrows cut into pieces by points in the layers between, orders by barycentres, and coordinates by
least squares. All of it is linear in boxes and pieces, for a fixed number of rounds, and without recursion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ROUNDS = 8  #: of sweeps to the right and back; more of them change little
COLUMN_GAP = 70.0  #: between two columns
ROW_GAP = 18.0  #: between two boxes of a column
POINT_HEIGHT = 6.0  #: what an arrow that passes through a column takes of it

Size = tuple[float, float]  #: width and height
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies, in pixels from the left upper corner."""

    width: float
    height: float
    places: Mapping[str, Point]  #: name of a box -> its left upper corner
    lines: Sequence[tuple[str, str, Sequence[Point]]]  #: arrow and the points that it goes through, its ends included


def lay_out(sizes: Mapping[str, Size], arrows: Sequence[tuple[str, str]]) -> Layout:
    """Return places for boxes of these sizes. An arrow that closes a circle goes from right to left."""
    forward = _without_circles(list(sizes), arrows)
    layer_of = _layers(list(sizes), forward)
    columns, pieces, chains = _cut(list(sizes), forward, layer_of)
    heights = {name: size[1] for name, size in sizes.items()}
    _order(columns, pieces)
    centres = _centres(columns, pieces, heights)
    lefts, right = [], 0.0
    for column in columns:
        lefts.append(right)
        right += max((sizes[name][0] for name in column if name in sizes), default=0.0) + COLUMN_GAP
    rows = {name: row for column in columns for row, name in enumerate(column)}
    top = min((centres[name] - heights.get(name, POINT_HEIGHT) / 2 for name in rows), default=0.0)
    bottom = max((centres[name] + heights.get(name, POINT_HEIGHT) / 2 for name in rows), default=0.0)
    places = {name: (lefts[layer_of[name]], centres[name] - top - heights[name] / 2) for name in sizes}
    ways = {}
    for (one, other), points in chains.items():
        way = [(places[one][0] + sizes[one][0], centres[one] - top)]
        for name, layer in points:
            widest = max((sizes[box][0] for box in columns[layer] if box in sizes), default=0.0)
            way += [(lefts[layer], centres[name] - top), (lefts[layer] + widest, centres[name] - top)]
        ways[one, other] = [*way, (places[other][0], centres[other] - top)]
    lines = [
        (one, other, ways[one, other] if (one, other) in ways else ways[other, one][::-1])
        for one, other in dict.fromkeys(arrows)
        if one != other
    ]
    return Layout(max(right - COLUMN_GAP, 0.0), bottom - top, places, lines)


def _without_circles(names: Sequence[str], arrows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the arrows, each once, those that close a circle turned round."""
    below: dict[str, list[str]] = {name: [] for name in names}
    for one, other in dict.fromkeys(arrows):
        if one != other:
            below[one].append(other)
    seen: dict[str, int] = {}  # 1: on the way, 2: done
    forward: dict[tuple[str, str], None] = {}
    for name in names:
        if name in seen:
            continue
        seen[name] = 1
        stack = [(name, iter(below[name]))]
        while stack:
            at, rest = stack[-1]
            for other in rest:
                if seen.get(other) == 1:
                    forward[other, at] = None
                    continue
                forward[at, other] = None
                if other not in seen:
                    seen[other] = 1
                    stack.append((other, iter(below[other])))
                    break
            else:
                seen[at] = 2
                stack.pop()
    return list(forward)


def _layers(names: Sequence[str], arrows: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return for each box the length of the longest way to it; what has no way in stands just before its first use."""
    after: dict[str, list[str]] = {name: [] for name in names}
    waiting = dict.fromkeys(names, 0)
    for one, other in arrows:
        after[one].append(other)
        waiting[other] += 1
    sources = [name for name in names if not waiting[name]]
    layer = dict.fromkeys(sources, 0)
    ready = list(sources)
    for name in ready:
        for other in after[name]:
            layer[other] = max(layer.get(other, 0), layer[name] + 1)
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    for name in sources:
        if after[name]:
            layer[name] = min(layer[other] for other in after[name]) - 1
    return layer


def _cut(
    names: Sequence[str], arrows: Sequence[tuple[str, str]], layer_of: Mapping[str, int]
) -> tuple[list[list[str]], list[tuple[str, str]], dict[tuple[str, str], list[tuple[str, int]]]]:
    """Return columns of boxes and points, the pieces of arrows between neighbours, and each arrow's points."""
    columns: list[list[str]] = [[] for _ in range(max(layer_of.values(), default=-1) + 1)]
    for name in names:
        columns[layer_of[name]].append(name)
    pieces: list[tuple[str, str]] = []
    chains: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for number, (one, other) in enumerate(arrows):
        before, points = one, []
        for layer in range(layer_of[one] + 1, layer_of[other]):
            point = f"\0{number}.{layer}"  # no box is called so
            columns[layer].append(point)
            points.append((point, layer))
            pieces.append((before, point))
            before = point
        pieces.append((before, other))
        chains[one, other] = points
    return columns, pieces, chains


def _neighbours(pieces: Sequence[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    left: dict[str, list[str]] = {}
    right: dict[str, list[str]] = {}
    for one, other in pieces:
        right.setdefault(one, []).append(other)
        left.setdefault(other, []).append(one)
    return left, right


def _order(columns: list[list[str]], pieces: Sequence[tuple[str, str]]) -> None:
    """Sort each column so that arrows cross little: each box near the middle of its neighbours."""
    left, right = _neighbours(pieces)
    rank = {name: float(row) for column in columns for row, name in enumerate(column)}

    def sweep(column: list[str], beside: Mapping[str, Sequence[str]]) -> None:
        wanted = {
            name: sum(rank[one] for one in beside[name]) / len(beside[name]) if beside.get(name) else rank[name]
            for name in column
        }
        column.sort(key=lambda name: wanted[name])  # stable: equals keep their order
        for row, name in enumerate(column):
            rank[name] = float(row)

    for _ in range(ROUNDS):
        for column in columns[1:]:
            sweep(column, left)
        for column in reversed(columns[:-1]):
            sweep(column, right)


def _centres(
    columns: Sequence[Sequence[str]], pieces: Sequence[tuple[str, str]], heights: Mapping[str, float]
) -> dict[str, float]:
    """Return the height of each middle: near those of the neighbours, and none on another."""
    left, right = _neighbours(pieces)
    centre: dict[str, float] = {}
    for column in columns:
        offsets = _offsets(column, heights)
        shift = (offsets[-1] if offsets else 0.0) / 2
        centre.update((name, offset - shift) for name, offset in zip(column, offsets, strict=True))

    def settle(column: Sequence[str], *sides: Mapping[str, Sequence[str]]) -> None:
        wanted = []
        for name in column:
            near = [centre[one] for side in sides for one in side.get(name, ())]
            wanted.append(sum(near) / len(near) if near else centre[name])
        offsets = _offsets(column, heights)
        found = _rising([place - offset for place, offset in zip(wanted, offsets, strict=True)])
        centre.update((name, place + offset) for name, place, offset in zip(column, found, offsets, strict=True))

    for _ in range(ROUNDS):
        for column in columns[1:]:
            settle(column, left)
        for column in reversed(columns[:-1]):
            settle(column, right)
    for column in columns:
        settle(column, left, right)
    return centre


def _offsets(column: Sequence[str], heights: Mapping[str, float]) -> list[float]:
    """Return how far each middle is below the first one where they stand as close as they may."""
    offsets: list[float] = []
    for number, name in enumerate(column):
        half = heights.get(name, POINT_HEIGHT) / 2
        if not number:
            offsets.append(0.0)
        else:
            before = heights.get(column[number - 1], POINT_HEIGHT) / 2
            offsets.append(offsets[-1] + before + ROW_GAP + half)
    return offsets


def _rising(wanted: Sequence[float]) -> list[float]:
    """Return the numbers that never fall and are nearest to these in the sum of squares, by pooling neighbours.

    M. Ayer and others, An empirical distribution function for sampling with incomplete information, 1955.
    """
    pools: list[tuple[float, int]] = []  # sum, count
    for one in wanted:
        total, count = one, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before, number = pools.pop()
            total, count = total + before, count + number
        pools.append((total, count))
    return [total / count for total, count in pools for _ in range(count)]
