"""Draw graphs, boxes and arrows laid out in columns: plain values in, SVG, PNG, Mermaid or DOT out."""

from __future__ import annotations

from nectar.drawing.folding import FOLD_ABOVE, folded
from nectar.drawing.picture import Box, Kind, Picture

__all__ = ["FOLD_ABOVE", "Box", "Kind", "Picture", "folded"]
