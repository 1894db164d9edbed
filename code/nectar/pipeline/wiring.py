"""Decide which tasks a DAG is, and on which each of them stands: on the step before it.

What follows a success is known before anything runs: the way from the first step to the success node. Only a failure
that has a way of its own, and a map over values that a step returns, are found out on the way; see `tasks`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nectar import errors
from nectar.address import KEY_LENGTH, Address, prefix_of
from nectar.identity import identify, task_document
from nectar.pipeline.functions import not_set
from nectar.pipeline.model import Dag, Node, NodeType, Service
from nectar.pipeline.names import Place, text_of
from nectar.pipeline.standing import STEP_FILE

if TYPE_CHECKING:
    from nectar.pipeline.tasks import NodeTask

#: what of a step makes another target of it; where it lies, and how often it is tried, does not
_COUNTS = ("type", "command", "command_type", "command_config", "catalog", "iterate_on", "iterate_as", "branches")


@dataclass(frozen=True, slots=True)
class Wiring:
    """What is equal for all steps of one invocation of a pipeline; plain values."""

    module: str  #: under which the targets lie
    folder: str | None  #: in which the steps work; None: each in a private one
    catalog: Service
    secrets: Service
    salt: str | None = None  #: the run's id, where nothing that was made before is to be found; None: target semantics
    lineage: tuple[str, ...] = ()  #: ids of the run that is repeated, and of those that it repeated
    kept: frozenset[str] = frozenset()  #: paths of the targets that were good in the run that is repeated


@dataclass(frozen=True, slots=True)
class Ref:
    """A task of another step, as far as whoever stands on it has to know it."""

    output_id: str
    family: str
    name: str  #: of the step, for people

    @property
    def address(self) -> Address:
        """Where its target lies."""
        return Address(prefix_of(self.family), self.output_id[:KEY_LENGTH])


@dataclass(frozen=True, slots=True)
class Before:
    """What a step finds when it begins."""

    ref: Ref  #: whose target says how things stand
    failed: tuple[str, ...] = ()  #: output ids of the steps after that one that failed
    fresh: bool = True  #: a DAG begins here
    settled: bool = False  #: no step can have changed the parameters with which the pipeline began
    known: Mapping[str, Any] | None = None  #: these, where they are settled; they do not travel with a task


@dataclass(frozen=True, slots=True)
class Work:
    """What a task of a step is to do; plain values."""

    wiring: Wiring
    place: Place
    before: Before | None  #: None: at the beginning of the pipeline
    node: Node | None = None  #: None: of the pipeline as a whole
    initial: Mapping[str, Any] | None = None  #: at the beginning: the parameters, JSON values
    dag: Dag | None = None  #: that is walked through
    ends: tuple[Ref, ...] | None = None  #: the last of each branch that is joined; None: found out on the way
    salt: str | None = None  #: its own: of the run that made it
    recipe: Mapping[str, str] = field(default_factory=dict)  #: what of the node and the DAG counts, by `Wirer`

    def document(self) -> dict[str, Any]:
        """Return what the identity of the task is made of."""
        params: dict[str, int | str] = {"name": self.place.name}
        if self.place.values:
            params["values"] = _text(self.place.values)
        params |= self.recipe
        if self.initial is not None:
            params["parameters"] = _text(self.initial)
        if self.before is not None and self.before.failed:
            params["after_failure_of"] = " ".join(self.before.failed)
        if self.salt is not None:
            params["run"] = self.salt
        return task_document(self.family, "", params, self.inputs(), (STEP_FILE,))

    @property
    def family(self) -> str:
        """The family of the task, by which its folder in a store is called."""
        return f"{self.wiring.module}.{self.place.folder}"

    def inputs(self) -> dict[str, str]:
        """Return the output ids of what it requires, by their paths."""
        return {path: ref.output_id for path, ref in self.requires().items()}

    def requires(self) -> dict[str, Ref]:
        """Return what it requires, by paths."""
        if self.ends:
            return {str(position): ref for position, ref in enumerate(self.ends)}
        return {} if self.before is None else {"0": self.before.ref}


@dataclass(frozen=True, slots=True)
class Stop:
    """One step on the way through a DAG."""

    node: Node
    place: Place
    before: Before
    task: NodeTask | None  #: None: nothing is carried out
    branches: tuple[tuple[str, Way], ...] = ()  #: by name: of parallel, dag, and map as far as its values are known


@dataclass(frozen=True, slots=True)
class Way:
    """The steps from one node of a DAG to its end, if none of them fails."""

    dag: Dag
    place: Place
    stops: tuple[Stop, ...]
    end: Node  #: the success or the fail node
    after: Before  #: what follows finds
    task: NodeTask | None  #: that is complete when the end was reached; None: nothing is carried out
    walked: bool = False  #: `task` walks through the DAG, since failures have ways of their own in it


@dataclass(slots=True)
class Wirer:
    """Makes the tasks of one invocation of a pipeline."""

    wiring: Wiring
    tasks: dict[str, NodeTask] = field(default_factory=dict)  #: by output id
    _recipes: dict[tuple[int, int], dict[str, str]] = field(default_factory=dict)  #: by the ids of node and DAG
    _lean: Wiring | None = None  #: for steps that wire nothing themselves, so that less travels with them

    def way(self, dag: Dag, place: Place, before: Before, start: str | None = None) -> Way:
        """Return the way through a DAG from a step, by default its first one, if nothing fails."""
        stops = []
        node = dag.nodes[start or dag.start_at]
        last: NodeTask | None = None
        within = place.bounded(dag.max_time)
        while node.type not in (NodeType.SUCCESS, NodeType.FAIL):
            stop, before = self._stop(node, within.below(node.name), before)
            stops.append(stop)
            last = stop.task or last
            assert node.next is not None
            node = dag.nodes[node.next]
        return Way(dag, place, tuple(stops), node, before, last)

    def whole(self, dag: Dag, place: Place, before: Before, node: Node | None = None) -> Way:
        """Return the way through a DAG that is a step or a branch; a failure in it takes the way that it has there."""
        way = self.way(dag, place, before)
        if not has_routes(dag):
            return way
        return self.walked(way, Work(self.wiring, place, before, node=node, dag=dag))

    def after_failure(self, way: Way, failed: Stop) -> Way:
        """Return the way on after a step that failed; what is next on it finds what that one found."""
        assert failed.task is not None
        before = Before(failed.before.ref, (*failed.before.failed, failed.task.id), failed.before.fresh)
        return self.way(way.dag, way.place, before, way.dag.after_failure(failed.node))

    def root(self, dag: Dag, initial: Mapping[str, Any]) -> Way:
        """Return the way through a pipeline that begins with some parameters, with a task for all of it."""
        beginning = self.task(Work(self.wiring, Place(("parameters",), ("parameters",)), None, initial=initial))
        place, before = Place(), Before(ref_of(beginning), settled=True, known=initial)
        return self.walked(self.way(dag, place, before), Work(self.wiring, place, before, dag=dag))

    def walked(self, way: Way, work: Work) -> Way:
        """Return a way with a task that walks it, whatever fails on it."""
        task = self.task(work, None if way.task is None else {"0": way.task})
        task.take_way(way)
        return replace(way, task=task, walked=True, after=Before(ref_of(task), fresh=False))

    def _stop(self, node: Node, place: Place, before: Before) -> tuple[Stop, Before]:
        if node.type is NodeType.AS_IS:
            return Stop(node, place, before, None), before
        if node.type is NodeType.TASK:
            task = self.task(Work(self.wiring, place, before, node=node))
            return Stop(node, place, before, task), Before(ref_of(task), fresh=False)
        if node.type is NodeType.DAG:
            assert node.branch is not None
            way = self.whole(node.branch, place, before, node)
            return Stop(node, place, before, way.task, (("", way),)), way.after
        if node.type is NodeType.PARALLEL:
            branches = tuple(
                (name, self.whole(dag, place.below(name), _begin(before))) for name, dag in node.branches.items()
            )
        elif before.known is not None:
            branches = tuple(self.branches(node, place, before, before.known))
        else:  # found out on the way
            task = self.task(Work(self.wiring, place, before, node=node))
            return Stop(node, place, before, task), Before(ref_of(task), fresh=False)
        task = self.join(node, place, before, branches)
        return Stop(node, place, before, task, branches), Before(ref_of(task), fresh=False)

    def branches(
        self, node: Node, place: Place, before: Before, parameters: Mapping[str, Any]
    ) -> list[tuple[str, Way]]:
        """Return the branch of a map for each value that it finds among parameters.

        Raises:
            ParameterNotSet, ResultInvalid: when nothing has set them, or they are no list of different values.
        """
        assert node.branch is not None and node.iterate_as is not None
        return [
            (text_of(value), self.whole(node.branch, place.for_value(node.iterate_as, value), _begin(before)))
            for value in _values_of(node, {**parameters, **place.values}, place.name)
        ]

    def join(self, node: Node, place: Place, before: Before, branches: Sequence[tuple[str, Way]]) -> NodeTask:
        """Return the task that joins what branches did."""
        ends = tuple(ref_of(way.task) for _, way in branches if way.task is not None)
        return self.task(Work(self.wiring, place, before, node=node, ends=ends))

    def task(self, work: Work, required: Mapping[str, NodeTask] | None = None) -> NodeTask:
        """Return the task for some work: the one that the run that is repeated has kept, else one of this run.

        It requires what the work says, or what is given.
        """
        before = work.before
        if before is not None and before.known is not None:
            before = replace(before, known=None)
        recipe = self._recipe(work.node, work.dag)
        for salt in self.wiring.lineage:
            kept = replace(work, before=before, recipe=recipe, salt=salt)
            ref = ref_for(kept)
            if ref.address.path in self.wiring.kept:
                return self._made(kept, ref, required)
        own = replace(work, before=before, recipe=recipe, salt=self.wiring.salt)
        return self._made(own, ref_for(own), required)

    def _recipe(self, node: Node | None, dag: Dag | None) -> dict[str, str]:
        """Return what counts of a node and of a DAG that is walked: equal for all branches of a map, and found once."""
        place = (id(node), id(dag))  # which live as long as the pipeline does
        if place not in self._recipes:
            found = self._recipes[place] = {}
            if node is not None:
                found["step"] = _text({key: node.document[key] for key in _COUNTS if key in node.document})
            if dag is not None:
                found["dag"] = dag.digest
            if node is not None and node.branch is not None:
                found["branch"] = node.branch.digest
        return self._recipes[place]

    def _made(self, work: Work, ref: Ref, required: Mapping[str, NodeTask] | None) -> NodeTask:
        from nectar.pipeline.tasks import task_for, task_of  # they wire, too, where they go on after a failure

        if ref.output_id not in self.tasks:
            if required is None:
                wanted = work.requires()
                required = {path: self.tasks.get(one.output_id) or task_of(one) for path, one in wanted.items()}
            if work.dag is None and (work.node is None or work.node.branch is None):
                self._lean = self._lean or replace(self.wiring, lineage=(), kept=frozenset())
                work = replace(work, wiring=self._lean)
            self.tasks[ref.output_id] = task_for(work, ref, required)
        return self.tasks[ref.output_id]


def ref_for(work: Work) -> Ref:
    """Return how the task for some work is called by those who stand on it."""
    return Ref(identify(work.document()).output_id, work.family, work.place.name)


def ref_of(task: NodeTask) -> Ref:
    """Return how a task is called by those who stand on it."""
    return Ref(task.id, task.family_name, task.name)


def has_routes(dag: Dag, *, within: bool = False) -> bool:
    """Say whether a failure in a DAG can lead elsewhere than to its fail node; `within`: or in a DAG of its steps."""
    named = (node.on_failure for node in dag.nodes.values() if node.on_failure is not None)
    own = any(dag.nodes[name].type is not NodeType.FAIL for name in named)
    inner = (one for node in dag.nodes.values() for one in node.dags) if within else ()
    return own or any(has_routes(one, within=True) for one in inner)


def _values_of(node: Node, known: Mapping[str, Any], name: str) -> list[Any]:
    assert node.iterate_on is not None
    if node.iterate_on not in known:
        raise not_set(name, node.iterate_on, known)
    values = known[node.iterate_on]
    if isinstance(values, str):
        try:
            values = json.loads(values)  # from a command line, where everything is text
        except ValueError:
            values = None
    if not isinstance(values, list):
        raise errors.ResultInvalid(
            f"`{name}` iterates over `{node.iterate_on}`, which is no list",
            hint="let a step return a list, or give one as JSON: `[1, 2, 3]`",
        )
    texts = [text_of(value) for value in values]
    twice = next((text for text in texts if texts.count(text) > 1), None) if len(set(texts)) < len(texts) else None
    if twice is not None:
        raise errors.ResultInvalid(
            f"`{name}` iterates over `{node.iterate_on}`, which has `{twice:.100}` more than once",
            hint="each value is one branch with a name of its own: let the values be different",
        )
    return values


def _begin(before: Before) -> Before:
    return replace(before, fresh=True)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
