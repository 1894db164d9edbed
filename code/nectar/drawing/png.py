"""Paint a picture as PNG, by matplotlib."""

from __future__ import annotations

import io
import itertools
from typing import Any

from nectar import errors
from nectar.drawing.colours import ARROW_LIGHT, LIGHT
from nectar.drawing.picture import Picture
from nectar.drawing.sizes import cut, detail_of, laid_out, size_of

SCALE = 2.0  #: pixels for one of the layout, so that text stays sharp
LARGEST = 20_000  #: pixels of a side; a picture that would be larger is painted smaller
_EDGE = 16.0


def png(picture: Picture) -> bytes:
    """Return the bytes of the file.

    Raises:
        NoFormat: when matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import FancyBboxPatch
        from matplotlib.path import Path
    except ModuleNotFoundError as missing:
        raise errors.NoFormat(
            "a picture as PNG needs `matplotlib`, which is not installed", hint="pip install 'nectar-chains[pictures]'"
        ) from missing
    layout = laid_out(picture)
    width, height = layout.width + 2 * _EDGE, layout.height + 2 * _EDGE
    scale = min(SCALE, LARGEST / width, LARGEST / height)
    figure = Figure(figsize=(width / 72, height / 72), dpi=72 * scale)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-_EDGE, layout.width + _EDGE)
    axes.set_ylim(layout.height + _EDGE, -_EDGE)
    for _, _, points in layout.lines:
        _arrow(axes, points, Path)
    for name, box in picture.boxes.items():
        (left, top), (wide, high), colours = layout.places[name], size_of(box), LIGHT[box.kind]
        shape = "round,pad=0,rounding_size=7"
        look: dict[str, Any] = {"facecolor": colours.fill, "edgecolor": colours.line, "linewidth": 1.4}
        axes.add_patch(FancyBboxPatch((left, top), wide, high, boxstyle=shape, zorder=2, **look))
        middle, detail = left + wide / 2, cut(detail_of(box))
        words: dict[str, Any] = {
            "color": colours.text,
            "ha": "center",
            "va": "center",
            "zorder": 3,
            "parse_math": False,
        }
        axes.text(middle, top + (17 if detail else high / 2), cut(box.title), fontsize=11.5, weight="bold", **words)
        if detail:
            axes.text(middle, top + 34, detail, fontsize=9.5, **words)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def _arrow(axes: Any, points: Any, path: Any) -> None:
    from matplotlib.patches import FancyArrowPatch

    vertices, codes = [points[0]], [path.MOVETO]
    for number, ((x, y), (to_x, to_y)) in enumerate(itertools.pairwise(points)):
        if number % 2:
            vertices.append((to_x, to_y))
            codes.append(path.LINETO)
        else:
            half = (x + to_x) / 2
            vertices += [(half, y), (half, to_y), (to_x, to_y)]
            codes += [path.CURVE4] * 3
    axes.add_patch(
        FancyArrowPatch(path=path(vertices, codes), arrowstyle="-|>", mutation_scale=9, color=ARROW_LIGHT, zorder=1)
    )
