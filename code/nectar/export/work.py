"""The values that are rendered: nodes, what each of them waits for, and the words by which each is made."""

from __future__ import annotations

from dataclasses import dataclass

STORE_FAILED = 5  #: exit code by which the command says that the store or the run store cannot be reached
TRIES_MORE = 2  #: so often an engine tries a node again whose store could not be reached; it tries nothing else again
PAUSE_S = 10  #: seconds before the first such try, twice as long before the next


@dataclass(frozen=True, slots=True)
class Node:
    """One task of a chain."""

    name: str  #: its own among the nodes; `[a-z0-9-]`, see `nectar.export.names`
    title: str  #: the task as people read it: `chains.etl.flights_chain.ReportTask(month=3)`
    select: str  #: the selection that means this task and no other
    needs: tuple[str, ...]  #: names of nodes that come before it
    priority: int = 0  #: luigi's: larger ones first


@dataclass(frozen=True, slots=True)
class ChainWork:
    """The graph of some tasks, to be made node by node."""

    title: str  #: what it is, in one line
    words: tuple[str, ...]  #: what was asked for: `etl/flights_chain`, `ReportTask`, `--month=3`
    nodes: tuple[Node, ...]  #: what a node needs comes before it
    warnings: tuple[str, ...] = ()  #: what whoever deploys it has to know, one sentence each

    @property
    def name(self) -> str:
        """A name for the whole, of `[a-z0-9-]`."""
        from nectar.export.names import slug

        return slug(f"{self.words[0]} {self.words[1]}")

    def command(self, node: Node) -> tuple[str, ...]:
        """Return what follows `nectar` to make one node."""
        return ("run", "--select", node.select, *self.words)

    @property
    def ends(self) -> tuple[Node, ...]:
        """The nodes that no other needs."""
        needed = {one for node in self.nodes for one in node.needs}
        return tuple(node for node in self.nodes if node.name not in needed)


@dataclass(frozen=True, slots=True)
class Rendered:
    """What was written for an engine."""

    file_name: str  #: what the engine, or a person, expects it to be called
    text: str
    nodes: int  #: how many there are
    warnings: tuple[str, ...]
