"""The graph of what tasks stand on: plain data, and a drawing."""

from __future__ import annotations

import json

import luigi
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nectar
from nectar import errors
from nectar.graph import Graph, make_graph


class PartTask(nectar.Task):
    n = luigi.IntParameter()
    below = luigi.ListParameter(default=())

    def requires(self):
        return [PartTask(n=n, below=below) for n, below in self.below]


class TopTask(nectar.Task):
    def requires(self):
        shared = PartTask(n=1)
        return {"left": [shared, PartTask(n=2, below=[[1, []]])], "right": shared}


class RoundTask(nectar.Task):
    n = luigi.IntParameter()
    counts_inputs = False

    def requires(self):
        return RoundTask(n=(self.n + 1) % 3)


class HistoryTask(nectar.Task):
    day = luigi.IntParameter()
    counts_inputs = False

    def requires(self):
        return [HistoryTask(day=self.day - 1)] if self.day else []


def drawn(graph: Graph) -> list[str]:
    return [line + node.task.rpartition(".")[2] + (" again" if seen else "") for line, node, seen in graph.tree()]


def test_a_graph_names_each_task_once_and_its_requirements_by_path():
    graph = make_graph([TopTask()])
    assert [node.task.rpartition(".")[2] for node in graph.nodes.values()] == [
        "PartTask(n=1, below=[])",
        "PartTask(n=2, below=[[1, []]])",
        "TopTask()",
    ]
    [root] = graph.roots
    assert list(graph.nodes[root].requirements) == ["left.0", "left.1", "right"]
    assert graph.nodes[root].requirements["left.0"] == graph.nodes[root].requirements["right"]


def test_a_graph_is_drawn_as_a_tree_in_which_what_comes_again_is_only_named():
    assert drawn(make_graph([TopTask()])) == [
        "TopTask()",
        "├─ PartTask(n=1, below=[])",
        "└─ PartTask(n=2, below=[[1, []]])",
        "   └─ PartTask(n=1, below=[]) again",
    ]


def test_several_roots_stand_beside_each_other():
    graph = make_graph([PartTask(n=2, below=[[1, []]]), PartTask(n=1), PartTask(n=1)])
    assert len(graph.roots) == 2
    assert drawn(graph)[-1] == "PartTask(n=1, below=[]) again"


def test_a_circle_is_drawn():
    with pytest.raises(errors.CycleFound) as caught:
        make_graph([RoundTask(n=0)])
    assert [line.strip(" └─").rpartition(".")[2] for line in caught.value.message.splitlines()[1:]] == [
        "RoundTask(n=0)",
        "RoundTask(n=1)",
        "RoundTask(n=2)",
        "RoundTask(n=0)",
    ]


def test_a_rolling_history_is_walked_though_it_is_in_no_identity_and_without_recursion():
    graph = make_graph([HistoryTask(day=5000)])
    assert len(graph.nodes) == 5001
    assert sum(1 for _ in graph.tree()) == 5001


trees = st.recursive(
    st.just([]), lambda below: st.lists(st.tuples(st.integers(0, 4), below), max_size=3), max_leaves=12
)


@given(trees)
def test_a_graph_is_json_with_requirements_before_those_who_require_them(below):
    graph = make_graph([PartTask(n=9, below=below)])
    document = json.loads(json.dumps(graph.to_json()))
    seen = set()
    for node in document["nodes"]:
        assert set(node["requirements"].values()) <= seen
        seen.add(node["ref"])
    assert set(document["roots"]) <= seen
    firsts = [node.ref for _, node, again in graph.tree() if not again]
    assert sorted(firsts) == sorted(graph.nodes)
