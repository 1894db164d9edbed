"""Draw all tasks of a family as one box, where there are too many to be read."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from nectar.drawing.picture import Box, Kind, Picture

FOLD_ABOVE = 100  #: boxes; more of them nobody reads

#: what a box stands for whose members differ: the first of these that any has
_LOUDEST = (Kind.FAILED, Kind.RUNNING, Kind.RUN, Kind.REUSE, Kind.WAITING, Kind.HEAD, Kind.DONE, Kind.PLAIN)


def folded(picture: Picture, *, above: int = FOLD_ABOVE) -> Picture:
    """Return the picture, with one box for each family where it has more than `above`, and no arrows within one."""
    if len(picture.boxes) <= above:
        return picture
    families: dict[str, list[Box]] = {}
    for box in picture.boxes.values():
        families.setdefault(box.family or box.title, []).append(box)
    family_of = {name: box.family or box.title for name, box in picture.boxes.items()}
    arrows = dict.fromkeys((family_of[one], family_of[other]) for one, other in picture.arrows)
    return replace(
        picture,
        boxes={family: _one_for(boxes) for family, boxes in families.items()},
        arrows=[(one, other) for one, other in arrows if one != other],
    )


def _one_for(boxes: list[Box]) -> Box:
    if len(boxes) == 1:
        return boxes[0]
    counts = Counter(box.kind for box in boxes)
    told = ", ".join(f"{counts[kind]:,} {kind.value}" for kind in _LOUDEST if counts[kind] and kind.value)
    kind = next(kind for kind in _LOUDEST if counts[kind])
    return Box(f"{boxes[0].title} × {len(boxes):,}", told, kind, boxes[0].family, boxes[0].family)
