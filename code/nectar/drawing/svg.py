"""Write a picture as SVG (https://www.w3.org/TR/SVG11/)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from nectar.drawing.colours import ARROW_DARK, ARROW_LIGHT, DARK, LIGHT, Colours
from nectar.drawing.layout import Layout, Point
from nectar.drawing.picture import Box, Kind, Picture
from nectar.drawing.sizes import cut, detail_of, laid_out, size_of

EDGE = 16.0  #: round the picture
_FONT = "-apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', Helvetica, Arial, sans-serif"


def svg(picture: Picture) -> str:
    """Return the document; all text in it is escaped."""
    layout = laid_out(picture)
    width, height = layout.width + 2 * EDGE, layout.height + 2 * EDGE
    kinds = dict.fromkeys(box.kind for box in picture.boxes.values())
    label = picture.title or f"a graph of {len(picture.boxes)} tasks"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 0 {width:.1f} {height:.1f}" role="img" aria-label={quoteattr(_clean(label))}'
        ' class="nectar-picture">',
        f"<style>{_style(list(kinds))}</style>",
        '<defs><marker id="nectar-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
        ' orient="auto"><path d="M0 0.5 7.5 4 0 7.5z" class="np-tip"/></marker></defs>',
        f'<g transform="translate({EDGE:.0f} {EDGE:.0f})">',
        *(
            f'<path d="{_curve(points)}" class="np-arrow" marker-end="url(#nectar-tip)"/>'
            for _, _, points in layout.lines
        ),
        *(_box(box, layout, name) for name, box in picture.boxes.items()),
        "</g></svg>\n",
    ]
    return "\n".join(parts)


def _box(box: Box, layout: Layout, name: str) -> str:
    left, top = layout.places[name]
    width, height = size_of(box)
    title, detail = cut(box.title), cut(detail_of(box))
    middle = left + width / 2
    lines = [f'<text x="{middle:.1f}" y="{top + 21:.1f}" class="np-title">{_text(title)}</text>']
    if detail:
        lines.append(f'<text x="{middle:.1f}" y="{top + 38:.1f}" class="np-detail">{_text(detail)}</text>')
    tooltip = f"<title>{_text(box.tooltip)}</title>" if box.tooltip else ""
    rectangle = f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="7"/>'
    return f'<g class="np-{_class(box.kind)}">{tooltip}{rectangle}{"".join(lines)}</g>'


def _curve(points: Sequence[Point]) -> str:
    """Return a path that leaves and enters level, and goes straight through the columns between."""
    parts = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for number, ((x, y), (to_x, to_y)) in enumerate(itertools.pairwise(points)):
        if number % 2:
            parts.append(f"L{to_x:.1f} {to_y:.1f}")  # within a column
        else:
            half = (x + to_x) / 2
            parts.append(f"C{half:.1f} {y:.1f} {half:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}")
    return " ".join(parts)


def _style(kinds: Sequence[Kind]) -> str:
    def rules(colours: dict[Kind, Colours], arrow: str) -> str:
        of_kinds = "".join(
            f".np-{_class(kind)} rect{{fill:{colours[kind].fill};stroke:{colours[kind].line}}}"
            f".np-{_class(kind)} text{{fill:{colours[kind].text}}}"
            for kind in kinds
        )
        return f"{of_kinds}.np-arrow{{stroke:{arrow}}}.np-tip{{fill:{arrow}}}"

    return (
        f".nectar-picture text{{font-family:{_FONT};text-anchor:middle}}"
        ".np-title{font-size:13px;font-weight:600}.np-detail{font-size:11px;opacity:.85}"
        ".np-arrow{fill:none;stroke-width:1.4}.nectar-picture rect{stroke-width:1.4}"
        f"{rules(LIGHT, ARROW_LIGHT)}"
        f"@media (prefers-color-scheme:dark){{{rules(DARK, ARROW_DARK)}}}"
    )


def _class(kind: Kind) -> str:
    return kind.name.lower()


def _text(text: str) -> str:
    return escape(_clean(text))


_NOT_XML = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _clean(text: str) -> str:
    """Return text without the characters that XML 1.0 cannot have."""
    return _NOT_XML.sub("\ufffd", text)
