"""How large boxes are, and what of their lines fits in."""

from __future__ import annotations

import unicodedata

from nectar.drawing.layout import Layout, lay_out
from nectar.drawing.picture import Box, Picture

TITLE_WIDTH = 8.0  #: of a character of the first line, in pixels, at 13 pixels and bold
DETAIL_WIDTH = 6.6  #: of one of the second line, at 11 pixels
LONGEST = 34  #: characters of a line
MARGIN = 12.0  #: between the lines and the box
ONE_LINE, TWO_LINES = 34.0, 48.0  #: heights


def cut(text: str) -> str:
    """Return a line that fits, with an ellipsis where something was left out; what would break a line is a space."""
    text = " ".join(text.split())
    text = "".join(one if unicodedata.category(one)[0] != "C" else "�" for one in text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def size_of(box: Box) -> tuple[float, float]:
    """Return the width and the height of a box."""
    title, detail = cut(box.title), cut(detail_of(box))
    width = max(_columns(title) * TITLE_WIDTH, _columns(detail) * DETAIL_WIDTH) + 2 * MARGIN
    return max(width, 60.0), TWO_LINES if detail else ONE_LINE


def detail_of(box: Box) -> str:
    """Return the second line of a box: colours alone do not tell everybody what they mean."""
    return box.detail or box.kind.value


def laid_out(picture: Picture) -> Layout:
    """Return the layout of a picture."""
    return lay_out({name: size_of(box) for name, box in picture.boxes.items()}, picture.arrows)


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)
