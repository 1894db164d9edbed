"""A selection means the tasks that its words say, to the level: held against the simplest thing that could be right."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import luigi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from luigi.parameter import ParameterVisibility

import nectar
from nectar import errors
from nectar.actions.graph import graph
from nectar.graph import make_graph
from nectar.selection import ALL, Clause, parse, select
from nectar.selection.choosing import around

# a -> b, a -> c, b -> f, f -> h: arrows point downstream


class ATask(nectar.Task):
    pass


class BTask(nectar.Task):
    def requires(self):
        return ATask()


class CTask(nectar.Task):
    def requires(self):
        return ATask()


class FTask(nectar.Task):
    def requires(self):
        return BTask()


class HTask(nectar.Task):
    def requires(self):
        return FTask()


BRANCHING = (HTask, CTask)


def chosen(text: str, *roots: luigi.Task) -> list[str]:
    """Return the classes and numbers of what a text selects, in order."""
    found = select(roots or [root() for root in BRANCHING], text)
    return [repr(found.closure.tasks[ref]).rpartition(".")[2] for ref in found.refs]


def letters(text: str) -> str:
    return "".join(sorted(name[0].lower() for name in chosen(text)))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("BTask", "b"),
        ("*BTask", "ab"),
        ("BTask*", "bfh"),
        ("*BTask*", "abfh"),
        ("+CTask", "ac"),
        ("ATask+", "abc"),
        ("ATask++", "abcf"),
        ("ATask+++", "abcfh"),
        ("++HTask", "bfh"),
        ("+BTask+", "abf"),
        ("*BTask+", "abf"),
        ("+FTask*", "bfh"),
        ("CTask,HTask", "ch"),
        (" CTask , +HTask ", "cfh"),
        ("BTask,BTask", "b"),
        ("?Task", "abcfh"),
        ("*", "abcfh"),
        ("[BC]Task", "bc"),
        ("+[BC]Task", "abc"),
        ("**ask", "abcfh"),
        ("B**", "bfh"),
    ],
)
def test_a_clause_means_its_task_and_as_many_levels_as_its_signs_say(text: str, want: str) -> None:
    assert letters(text) == want


# Any graph

_cases: dict[int, Sequence[frozenset[int]]] = {}
_numbers = itertools.count()


class NumberedTask(nectar.Task):
    case = luigi.IntParameter()
    n = luigi.IntParameter()

    def requires(self):
        return [type(self)(case=self.case, n=one) for one in sorted(_cases[self.case][self.n])]


class RollingTask(NumberedTask):
    counts_inputs = False


def naive(requires: Sequence[frozenset[int]], n: int, up: int, down: int) -> set[int]:
    """Return what one clause means, by recursion and without a thought for cost."""
    found = {n}
    if up:
        for one in requires[n]:
            found |= naive(requires, one, up - 1, 0)
    if down:
        for one, below in enumerate(requires):
            if n in below:
                found |= naive(requires, one, 0, down - 1)
    return found


@st.composite
def graphs(draw: st.DrawFn) -> list[frozenset[int]]:
    """Draw a graph without circles: a task requires tasks of smaller numbers."""
    nodes: list[frozenset[int]] = [frozenset()]
    for n in range(1, draw(st.integers(1, 12))):
        nodes.append(draw(st.frozensets(st.integers(0, n - 1), max_size=4)))
    return nodes


signs = st.sampled_from(["", "", "+", "++", "+++", "*"])


def levels(sign: str) -> int:
    return 99 if sign == "*" else len(sign)


@given(nodes=graphs(), kind=st.sampled_from([NumberedTask, RollingTask]), data=st.data())
def test_a_selection_is_what_the_rules_say_on_any_graph_of_any_roots(nodes, kind, data):
    case = next(_numbers)
    _cases[case] = nodes
    roots = data.draw(st.lists(st.integers(0, len(nodes) - 1), min_size=1, max_size=3))
    there = set().union(*(naive(nodes, root, 99, 0) for root in roots))
    of_graph = [below if n in there else frozenset() for n, below in enumerate(nodes)]
    clauses = data.draw(st.lists(st.tuples(signs, st.sampled_from(sorted(there)), signs), min_size=1, max_size=4))
    text = ", ".join(f"{up}{kind.__name__}(n={n}){down}" for up, n, down in clauses)
    want = set().union(*(naive(of_graph, n, levels(up), levels(down)) for up, n, down in clauses))
    found = select([kind(case=case, n=n) for n in roots], text)
    numbers = [found.closure.tasks[ref].n for ref in found.refs]
    assert sorted(numbers) == sorted(want & there)
    for position, n in enumerate(numbers):
        assert nodes[n].isdisjoint(numbers[position:]), "requirements come first"
    ends = {found.closure.tasks[ref].n for ref in found.ends}
    assert ends == {n for n in numbers if not any(n in nodes[one] for one in numbers)}


class Counting(Mapping[str, Sequence[str]]):
    """Edges that count how often they are asked for."""

    def __init__(self, edges: Mapping[str, Sequence[str]]) -> None:
        self.edges, self.asked = edges, 0

    def __getitem__(self, ref: str) -> Sequence[str]:
        self.asked += 1
        return self.edges[ref]

    def __iter__(self) -> Iterator[str]:
        self.asked += len(self.edges)
        return iter(self.edges)

    def __len__(self) -> int:
        return len(self.edges)


def test_each_task_is_passed_once_each_way_however_many_clauses_there_are():
    count = 10_000
    edges = Counting({str(n): (str(n - 1),) if n else () for n in range(count)})
    ways = ((ALL, ALL), (9, 0), (0, 7), (500, 300))
    clauses = [Clause("", "", None, up, down) for up, down in ways for _ in range(500)]
    meant: list[Iterable[str]] = [[str(n * 5 % count), str(n * 7 % count)] for n in range(len(clauses))]
    assert len(around(clauses, meant, edges)) == count
    assert edges.asked <= 4 * count


class CountedParameter(luigi.IntParameter):
    written = 0

    def serialize(self, value: Any) -> str:
        type(self).written += 1
        return super().serialize(value)


class LeafTask(nectar.Task):
    n = CountedParameter()


class ManyTask(nectar.Task):
    def requires(self):
        return [LeafTask(n=n) for n in range(2000)]


def test_two_thousand_instances_are_found_without_comparing_each_with_each():
    root = ManyTask()
    make_graph([root])
    before = CountedParameter.written
    found = select([root], ",".join(f"LeafTask(n={n})" for n in range(2000)))
    assert len(found.refs) == 2000
    assert CountedParameter.written - before <= 12 * 2000


# Names


class LoadTask(nectar.Task):
    __module__ = "chains.etl.daily_chain"
    day = luigi.DateParameter(default=datetime.date(2026, 11, 20))
    kind = luigi.Parameter(default="long")
    share = luigi.FloatParameter(default=1)
    token = luigi.Parameter(default="s3cret", visibility=ParameterVisibility.PRIVATE)
    threads = luigi.IntParameter(default=1, significant=False)


class OtherLoadTask(nectar.Task):
    __module__ = "chains.ds.other_chain"


OtherLoadTask.__name__ = "LoadTask"


class PlainTask(luigi.Task):
    n = luigi.IntParameter(default=3)


class AllTask(nectar.Task):
    __module__ = "chains.etl.daily_chain"

    def requires(self):
        odd = LoadTask(kind="a, b=c (d) [e]")
        return [LoadTask(), LoadTask(day=datetime.date(2025, 1, 1), kind="short"), odd, OtherLoadTask(), PlainTask()]


SHORT = "LoadTask(day=2025-01-01, kind=short, share=1, token=******)"
LONG = "LoadTask(day=2026-11-20, kind=long, share=1, token=******)"
ODD = "LoadTask(day=2026-11-20, kind=a, b=c (d) [e], share=1, token=******)"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("etl/daily_chain/LoadTask", [LONG, SHORT, ODD]),
        ("etl/*/LoadTask", [LONG, SHORT, ODD]),
        ("etl/daily_chain/LoadTask(kind=short)", [SHORT]),
        ("chains.etl.daily_chain.LoadTask(kind=short)", [SHORT]),
        ("LoadTask(kind=short)", [SHORT]),
        ("LoadTask(day=2025-01-01)", [SHORT]),
        ("LoadTask(day=2025-*)", [SHORT]),
        ("L*Task(kind=?o*)", [LONG]),
        ("LoadTask(share=1.0, kind=short)", [SHORT]),
        ("LoadTask(share=01,kind=short)", [SHORT]),
        ("LoadTask(threads=1, kind=short)", [SHORT]),
        ("LoadTask(*short*)", [SHORT]),
        (SHORT, [SHORT]),
        (ODD, [ODD]),
        ("LoadTask(kind=a, b=c (d) [e])", [ODD]),
        ("PlainTask(n=3)", ["PlainTask(n=3)"]),
        ("PlainTask()", ["PlainTask(n=3)"]),
    ],
)
def test_a_name_is_a_class_a_chain_and_class_or_an_instance_and_may_be_a_pattern(text: str, want: list[str]) -> None:
    assert chosen(text, AllTask()) == want


def test_a_class_name_means_the_class_in_every_chain():
    assert len(chosen("LoadTask", AllTask())) == 4


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("loadTask", "`loadTask` selects nothing", "did you mean `LoadTask`?"),
        ("LaodTask*", "`LaodTask*` selects nothing", "did you mean `LoadTask`?"),
        ("etl/dialy_chain/LoadTask", "selects nothing", "did you mean `etl/daily_chain/LoadTask`?"),
        ("xyz", "`xyz` selects nothing", "there is `LoadTask`"),
        ("LoadTask(dya=2025-01-01)", "selects nothing", "`LoadTask` has no parameter `dya`: did you mean `day`?"),
        ("LoadTask(kind=shrt)", "selects nothing", "did you mean `LoadTask("),
        ("LoadTask(token=s3cret)", "selects nothing", "did you mean"),
        ("*Task", "selects nothing", "the pattern is `?*Task`"),
        ("Load*", "selects nothing", "the pattern is `Load*?`"),
        ("", "a clause of the selection is empty", "between commas"),
        ("LoadTask,,AllTask", "a clause of the selection is empty", "between commas"),
        ("LoadTask(kind=long", "do not close", "write `?`"),
        ("LoadTask)", "do not close", "write `?`"),
        ("LoadTask(a)(b)c", "cannot be read", "as in"),
        ("*+LoadTask", "names no task", "one `*`"),
        ("+", "names no task", "one `*`"),
    ],
)
def test_a_clause_that_means_nothing_says_so_and_what_was_meant(text: str, message: str, hint: str) -> None:
    with pytest.raises(errors.SelectionInvalid) as caught:
        select([AllTask()], text)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)
    assert "s3cret" not in str(caught.value.hint)


def test_every_clause_that_means_nothing_is_named_at_once():
    with pytest.raises(errors.SelectionInvalid) as caught:
        select([AllTask()], "LaodTask, AllTask, PlainTsk, LoadTask(kind=x)")
    for text in ("`LaodTask`", "`PlainTsk`", "`LoadTask(kind=x)`"):
        assert f"{text} selects nothing" in caught.value.message
    assert "AllTask" not in caught.value.message
    with pytest.raises(errors.SelectionInvalid) as caught:
        parse("a(,b,+")
    assert caught.value.message.count(";") == 0, "an open parenthesis takes in what follows"
    with pytest.raises(errors.SelectionInvalid) as caught:
        parse("a),,+")
    assert caught.value.message.count(";") == 2


def test_a_text_of_any_length_is_cut_in_the_message():
    with pytest.raises(errors.SelectionInvalid) as caught:
        select([AllTask()], "x" * 10_000)
    assert len(str(caught.value)) < 400


@given(st.text(alphabet="ab+*?[](),= Load", max_size=30))
def test_any_text_is_read_or_refused_with_a_hint(text: str) -> None:
    refused = None
    try:
        select([AllTask()], text)
    except errors.SelectionInvalid as error:
        refused = error
    assert refused is None or refused.hint


def test_a_selection_of_a_graph_is_drawn_with_what_its_tasks_require_of_each_other():
    found = graph(*(root() for root in BRANCHING), select="HTask, ATask+")
    drawing = [line + node.task.rpartition(".")[2] for line, node, _ in found.tree()]
    assert drawing == ["BTask()", "└─ ATask()", "HTask()", "CTask()", "└─ ATask()"]
