"""Write a picture in the languages of other programs that draw."""

from __future__ import annotations

from nectar.drawing.colours import LIGHT
from nectar.drawing.picture import Box, Picture
from nectar.drawing.sizes import cut, detail_of


def mermaid(picture: Picture) -> str:
    """Return a flowchart of Mermaid."""
    names = {name: f"n{number}" for number, name in enumerate(picture.boxes)}
    lines = ["flowchart LR"]
    for name, box in picture.boxes.items():
        label = "<br/>".join(_of_mermaid(line) for line in _lines(box))
        lines.append(f'    {names[name]}["{label}"]:::{box.kind.name.lower()}')
    lines += [f"    {names[one]} --> {names[other]}" for one, other in dict.fromkeys(picture.arrows)]
    for kind in dict.fromkeys(box.kind for box in picture.boxes.values()):
        colours = LIGHT[kind]
        style = f"fill:{colours.fill},stroke:{colours.line},color:{colours.text}"
        lines.append(f"    classDef {kind.name.lower()} {style}")
    return "\n".join(lines) + "\n"


def _of_mermaid(text: str) -> str:
    """Return text in which nothing means something to Mermaid; it takes `#` and a number for a character."""
    return "".join(one if one.isalnum() or one in " ._-=,×…" else f"#{ord(one)};" for one in text)


def dot(picture: Picture) -> str:
    """Return a graph of Graphviz."""
    names = {name: f"n{number}" for number, name in enumerate(picture.boxes)}
    lines = ["digraph nectar {", "  rankdir=LR;", '  node [shape=box, style="rounded,filled", fontname="sans-serif"];']
    for name, box in picture.boxes.items():
        colours = LIGHT[box.kind]
        label = "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in _lines(box))
        look = f'fillcolor="{colours.fill}", color="{colours.line}", fontcolor="{colours.text}"'
        lines.append(f'  {names[name]} [label="{label}", {look}];')
    lines += [f"  {names[one]} -> {names[other]};" for one, other in dict.fromkeys(picture.arrows)]
    return "\n".join([*lines, "}"]) + "\n"


def _lines(box: Box) -> list[str]:
    return [line for line in (cut(box.title), cut(detail_of(box))) if line]
