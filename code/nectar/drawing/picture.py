"""A picture of a graph: what stands in each box, and which arrows there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Kind(str, Enum):
    """What a box tells by its colour, and in words."""

    PLAIN = ""
    DONE = "complete"
    RUN = "to run"
    REUSE = "to reuse"
    RUNNING = "running"
    FAILED = "failed"
    WAITING = "not run"
    HEAD = "head"


@dataclass(frozen=True, slots=True)
class Box:
    """One box."""

    title: str  #: its first line, which stands out
    detail: str = ""  #: its second line
    kind: Kind = Kind.PLAIN
    family: str = ""  #: boxes of one family may be drawn as one
    tooltip: str = ""  #: the whole of what the lines cut


@dataclass(frozen=True, slots=True)
class Picture:
    """Boxes and arrows. In a notebook it shows itself."""

    boxes: Mapping[str, Box]  #: by a name that only the arrows use
    arrows: Sequence[tuple[str, str]]  #: from what is needed to what needs it
    title: str = ""

    def svg(self) -> str:
        """Return the picture as a document of SVG 1.1, which follows the reader's choice of light or dark."""
        from nectar.drawing.svg import svg

        return svg(self)

    def png(self) -> bytes:
        """Return the picture as PNG, on white.

        Raises:
            NoFormat: when matplotlib is not installed.
        """
        from nectar.drawing.png import png

        return png(self)

    def mermaid(self) -> str:
        """Return the picture as a flowchart of Mermaid (https://mermaid.js.org/syntax/flowchart.html)."""
        from nectar.drawing.texts import mermaid

        return mermaid(self)

    def dot(self) -> str:
        """Return the picture in the language of Graphviz (https://graphviz.org/doc/info/lang.html)."""
        from nectar.drawing.texts import dot

        return dot(self)

    def save(self, path: str | Path) -> None:
        """Write the picture to a file: `.svg`, `.png`, `.mmd` or `.dot`.

        Raises:
            NoFormat: for another suffix, or when matplotlib is not installed for `.png`.
            OSError: when the file cannot be written.
        """
        from nectar import errors

        place = Path(path)
        suffix = place.suffix.lower()
        if suffix == ".png":
            place.write_bytes(self.png())
            return
        write = {".svg": self.svg, ".mmd": self.mermaid, ".dot": self.dot}.get(suffix)
        if write is None:
            raise errors.NoFormat(
                f"no picture is written as `{suffix or place.name}`", hint="use `.svg`, `.png`, `.mmd` or `.dot`"
            )
        place.write_text(write(), encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        return f"<picture of {len(self.boxes)} boxes>"
