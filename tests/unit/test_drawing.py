"""Pictures of graphs: where everything lies, and what is written of it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nectar import Step, errors
from nectar.drawing import Box, Kind, Picture, folded
from nectar.drawing.layout import lay_out
from nectar.drawing.sizes import cut, laid_out, size_of
from nectar.drawing.tasks import picture_of

SVG = "{http://www.w3.org/2000/svg}"
WILD = '<script>alert("1")</script> & \\ ]]> \x00\ud800 # ; $x$'


@st.composite
def graphs(draw: st.DrawFn, circles: bool = False) -> tuple[dict[str, tuple[float, float]], list[tuple[str, str]]]:
    number = draw(st.integers(1, 25))
    sizes = {
        str(one): (float(draw(st.integers(60, 200))), float(draw(st.sampled_from([34, 48])))) for one in range(number)
    }
    ends = st.tuples(st.integers(0, number - 1), st.integers(0, number - 1))
    arrows = draw(st.lists(ends, max_size=60))
    return sizes, [(str(one), str(other)) for one, other in arrows if circles or one < other]


@given(graphs())
def test_no_two_boxes_touch_and_all_lie_in_the_picture(
    graph: tuple[dict[str, tuple[float, float]], list[tuple[str, str]]],
) -> None:
    sizes, arrows = graph
    layout = lay_out(sizes, arrows)
    for one, other in combinations(sizes, 2):
        (left, top), (wide, high) = layout.places[one], sizes[one]
        (other_left, other_top), (other_wide, other_high) = layout.places[other], sizes[other]
        beside = left + wide <= other_left + 1e-6 or other_left + other_wide <= left + 1e-6
        above = top + high <= other_top + 1e-6 or other_top + other_high <= top + 1e-6
        assert beside or above
    for name, (left, top) in layout.places.items():
        assert left >= -1e-6 and left + sizes[name][0] <= layout.width + 1e-6
        assert top >= -1e-6 and top + sizes[name][1] <= layout.height + 1e-6


@given(graphs())
def test_what_is_needed_stands_left_of_what_needs_it(
    graph: tuple[dict[str, tuple[float, float]], list[tuple[str, str]]],
) -> None:
    sizes, arrows = graph
    layout = lay_out(sizes, arrows)
    for one, other in arrows:
        assert layout.places[one][0] + sizes[one][0] < layout.places[other][0]


@given(graphs(circles=True))
def test_each_arrow_goes_from_its_box_to_its_box_also_in_a_circle(
    graph: tuple[dict[str, tuple[float, float]], list[tuple[str, str]]],
) -> None:
    sizes, arrows = graph
    layout = lay_out(sizes, arrows)
    assert [(one, other) for one, other, _ in layout.lines] == [
        one for one in dict.fromkeys(arrows) if one[0] != one[1]
    ]
    for one, other, points in layout.lines:
        for name, (x, y) in ((one, points[0]), (other, points[-1])):
            left, top = layout.places[name]
            assert x in (left, left + sizes[name][0]) and abs(y - (top + sizes[name][1] / 2)) < 1e-6


def test_a_chain_of_ten_thousand_boxes_needs_no_recursion() -> None:
    names = [str(number) for number in range(10_000)]
    layout = lay_out(dict.fromkeys(names, (60.0, 34.0)), list(pairwise(names)))
    assert layout.places["9999"][0] > layout.places["0"][0]


def test_text_in_a_picture_is_text_in_every_language_of_pictures() -> None:
    picture = Picture({"a": Box(WILD, WILD, tooltip=WILD), "b": Box("Plain")}, [("a", "b")], WILD)
    root = ElementTree.fromstring(picture.svg())
    assert not list(root.iter(f"{SVG}script"))
    shown = "".join(root.itertext())
    assert '<script>alert("1")' in shown
    label = picture.mermaid().splitlines()[1]
    assert "<script>" not in label and label.count('"') == 2 and "#60;script#62;" in label
    quoted = next(line for line in picture.dot().splitlines() if "label=" in line)
    assert '\\"1\\"' in quoted


def test_every_kind_of_box_says_in_words_what_its_colour_says() -> None:
    for kind in Kind:
        texts = [
            one.text for one in ElementTree.fromstring(Picture({"a": Box("T", kind=kind)}, []).svg()).iter(f"{SVG}text")
        ]
        assert texts == (["T", kind.value] if kind.value else ["T"])


def test_a_long_line_is_cut_and_the_whole_of_it_is_a_tooltip() -> None:
    task = "chains.etl.x_chain.LongTask(" + "word=" + "x" * 100 + ")"
    picture = picture_of({"a": task}, {})
    box = picture.boxes["a"]
    assert (box.title, box.family, box.tooltip) == ("LongTask", "chains.etl.x_chain.LongTask", task)
    assert len(cut(box.detail)) == 34 and cut(box.detail).endswith("…")
    assert task in "".join(ElementTree.fromstring(picture.svg()).itertext())
    assert size_of(box)[0] < 300


def test_many_tasks_are_drawn_as_one_box_for_each_family() -> None:
    tasks = {"root": "m.RootTask()"} | {str(number): f"m.LeafTask(n={number})" for number in range(150)}
    kinds = {str(number): Kind.DONE if number % 3 else Kind.RUN for number in range(150)}
    picture = picture_of(tasks, {"root": [str(number) for number in range(150)]}, kinds)
    leaf = picture.boxes["m.LeafTask"]
    assert (leaf.title, leaf.detail, leaf.kind) == ("LeafTask × 150", "50 to run, 100 complete", Kind.RUN)
    assert picture.arrows == [("m.LeafTask", "m.RootTask")]
    few = Picture({str(one): Box("T") for one in range(100)}, [])
    assert folded(few) is few


def test_a_picture_is_saved_by_the_suffix_of_its_file(tmp_path: Path) -> None:
    picture = Picture({"a": Box("$One$"), "b": Box("Two", kind=Kind.DONE)}, [("a", "b")])
    for name, start in (("g.svg", b"<svg "), ("g.png", b"\x89PNG"), ("g.mmd", b"flowchart LR"), ("g.dot", b"digraph")):
        picture.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(errors.NoFormat, match=r"`\.gif`"):
        picture.save(tmp_path / "g.gif")


def test_the_graph_of_a_step_shows_itself_in_a_notebook() -> None:
    salt = Step.from_function(lambda water: water, Step.from_data(1, name_alias="Water"), name_alias="Salt")
    picture = salt.dependency_graph()
    assert list(picture.arrows) == [("Water", "Salt")]
    assert laid_out(picture).lines and salt._repr_html_() == picture.svg()
