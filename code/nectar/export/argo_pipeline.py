"""Write a manifest for Argo Workflows, 3.6 and later, that carries a pipeline out: each step is a pod.

A DAG of a pipeline is a template with a graph. Argo takes a graph as failed when a task at one of its ends has failed,
or was left out behind one that has; so the success node is the only end, and stands behind the fail node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nectar.export.argo import Document, container, literal, shown, text_of
from nectar.export.names import unique_names
from nectar.export.pipeline_work import (
    PipelineWork,
    Steps,
    limits_not_kept,
    refuse,
    step_settings,
    steps_of,
)
from nectar.pipeline.model import Dag, Node, NodeType

ENGINE = "argo"
_OF_STEP = {"image": str, "resources": dict, "node_selector": dict}
_OF_DAG = {"image": str, "service_account": str, "timezone": str}
_RUN = "--run-id={{workflow.uid}}"


def pipeline(work: PipelineWork) -> tuple[str, tuple[str, ...]]:
    """Return a workflow, or one for each tick of a schedule, and what whoever deploys it has to know.

    Raises:
        NotRenderable: with every setting for Argo that is unknown, and every text that is no template.
    """
    manifest = _Manifest(work)
    manifest.settings = step_settings(ENGINE, work, _OF_STEP, _OF_DAG, manifest.faults)
    entrypoint = manifest.dag(work.dag, _Place(), root=True)
    refuse(manifest.faults)
    warnings = (*work.warnings, *limits_not_kept(work, ENGINE, root=True))
    of_dag = manifest.settings[0]
    image = {"name": "image", **({"value": of_dag["image"]} if "image" in of_dag else {})}
    given = [{"name": name, "value": text} for name, text in work.parameters.items()]
    spec: Document = {
        "entrypoint": entrypoint,
        "arguments": {"parameters": [image, *given]},
        "templates": manifest.templates,
    }
    if "service_account" in of_dag:
        spec["serviceAccountName"] = of_dag["service_account"]
    if work.dag.max_time is not None:
        spec["activeDeadlineSeconds"] = work.dag.max_time
    return text_of(_document(work, spec, of_dag.get("timezone")), (work.title, *warnings)), warnings


def _document(work: PipelineWork, spec: Document, timezone: str | None) -> Document:
    metadata: Document = {"annotations": {"nectar/title": shown(work.title)}}
    kind = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow" if work.dag.schedule is None else "CronWorkflow"}
    if work.dag.schedule is None:
        return {**kind, "metadata": {"generateName": f"{work.name}-", **metadata}, "spec": spec}
    cron: Document = {"schedules": [work.dag.schedule], "concurrencyPolicy": "Allow", "workflowSpec": spec}
    if timezone is not None:
        cron["timezone"] = timezone
    return {**kind, "metadata": {"name": work.name, **metadata}, "spec": cron}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a step is: its name for people, and as Argo puts it together."""

    plain: tuple[str, ...] = ()
    told: tuple[str, ...] = ()  #: as they stand in a manifest
    depth: int = 0  #: maps around it

    def below(self, *names: str) -> _Place:
        return _Place((*self.plain, *names), (*self.told, *map(literal, names)), self.depth)

    def for_each(self) -> _Place:
        depth = self.depth + 1
        return _Place((*self.plain, "*"), (*self.told, escaped(f"inputs.parameters.v{depth}")), depth)

    @property
    def values(self) -> list[str]:
        """The names of the inputs that hold the values of maps."""
        return [f"v{depth}" for depth in range(1, self.depth + 1)]

    @property
    def title(self) -> str:
        return ".".join(self.plain)


@dataclass(slots=True)
class _Manifest:
    """The templates of a workflow."""

    work: PipelineWork
    faults: list[str] = field(default_factory=list)
    settings: dict[int, dict[str, Any]] = field(default_factory=dict)
    templates: list[Document] = field(default_factory=list)
    _pods: dict[str, str] = field(default_factory=dict)  #: what a pod is like -> name of its template
    _count: int = 0

    def dag(self, dag: Dag, place: _Place, *, root: bool = False) -> str:
        """Add a template for a DAG, and return its name."""
        steps = steps_of(dag, root=root)
        ends = [name for name in (dag.fail, dag.success) if name == steps.first or steps.ways(name)]
        if not steps.ends:
            ends = [] if steps.order else [dag.success]  # a template has to have a task
        nodes = [*steps.order, *(dag.nodes[name] for name in ends)]
        # In an expression a name that begins with a digit would be a number.
        names = unique_names({one.name: one.name if one.name[:1].isalpha() else f"step {one.name}" for one in nodes})
        name = self._name("dag")
        tasks = []
        for node in nodes:
            here = place.below(node.name)
            task: Document = {"name": names[node.name], **self._call(node, here)}
            depends = self._depends(node, steps, names)
            tasks.append({**task, "depends": depends} if depends else task)
        self._add(name, place, {"dag": {"failFast": False, "tasks": tasks}}, inputs=place.values)
        return name

    def _depends(self, node: Node, steps: Steps, names: dict[str, str]) -> str:
        ways = [
            f"{names[way.after]}.Succeeded" if way.good else f"{names[way.after]}.Failed || {names[way.after]}.Errored"
            for way in steps.ways(node.name)
        ]
        reached = " || ".join(ways)
        if node.type is NodeType.SUCCESS and steps.ends and steps.dag.fail in names:
            return f"({reached}) && {names[steps.dag.fail]}.Omitted"
        return reached

    def _call(self, node: Node, place: _Place) -> Document:
        """Return which template a step is, and what it is given."""
        if node.type in (NodeType.TASK, NodeType.SUCCESS, NodeType.FAIL):
            return self._pod(node, place)
        if node.type is NodeType.AS_IS:
            return {"template": self._as_is(node, place)}
        if node.type is NodeType.DAG:
            assert node.branch is not None
            return {"template": self.dag(node.branch, place), **_handed_on(place.values)}
        return {"template": self._joined(node, place), **_handed_on(place.values)}

    def _joined(self, node: Node, place: _Place) -> str:
        """Add a template for a step with branches: these, and behind all of them what joins them."""
        name = self._name(node.type.value)
        if node.type is NodeType.MAP:
            assert node.branch is not None
            inner = place.for_each()
            value = {"name": f"v{inner.depth}", "value": "{{item}}"}
            given = [*_handed_on(place.values).get("arguments", {"parameters": []})["parameters"], value]
            each = {
                "name": "each",
                "template": self.dag(node.branch, inner),
                "depends": "items.Succeeded",
                "withParam": "{{tasks.items.outputs.result}}",
                "arguments": {"parameters": given},
            }
            # Where there are no values, joining them fails and tells why.
            tasks = [{"name": "items", **self._pod(node, place, ask="--items")}, each]
            depends = "each.Succeeded || each.Skipped || items.Failed"
        else:
            names = unique_names({one: f"branch {one}" for one in node.branches})
            tasks = [
                {"name": names[one], "template": self.dag(dag, place.below(one)), **_handed_on(place.values)}
                for one, dag in node.branches.items()
            ]
            depends = " && ".join(f"{names[one]}.Succeeded" for one in node.branches)
        tasks.append({"name": "join", **self._pod(node, place), "depends": depends})
        self._add(name, place, {"dag": {"failFast": False, "tasks": tasks}}, inputs=place.values)
        return name

    def _pod(self, node: Node, place: _Place, ask: str = "--step") -> Document:
        """Return which template makes a pod for a step, and what it is told."""
        own = self.settings[id(node)]
        attempts = node.retry if node.type is NodeType.TASK else 1
        look = f"{attempts} {sorted(own.items())!r}"
        if look not in self._pods:
            self._pods[look] = self._name("step")
            words = [*map(literal, self.work.words), _RUN, "{{inputs.parameters.ask}}"]
            words += [f"--{name}={escaped(f'workflow.parameters.{name}')}" for name in self.work.parameters]
            body = container(words, attempts=attempts, image=own.get("image"), resources=own.get("resources"))
            if "node_selector" in own:
                body["nodeSelector"] = own["node_selector"]
            annotations = {"annotations": {"nectar/step": "{{inputs.parameters.step}}"}}
            self._add(self._pods[look], None, {"metadata": annotations, **body}, inputs=["ask", "step"])
        asked = {"name": "ask", "value": f"{ask}={'.'.join(place.told)}"}
        title = {"name": "step", "value": shown(place.title)}
        return {"template": self._pods[look], "arguments": {"parameters": [asked, title]}}

    def _as_is(self, node: Node, place: _Place) -> str:
        import yaml  # late: only what is rendered needs it

        try:
            read = yaml.safe_load(str(node.render_string))
        except yaml.YAMLError:
            read = None
        if not isinstance(read, dict):
            self.faults.append(f"`render_string` of the step `{node.name}` is no template of Argo, as YAML")
            read = {}
        name = self._name("as-is")
        self._add(name, place, {key: value for key, value in read.items() if key != "name"}, inputs=())
        return name

    def _add(self, name: str, place: _Place | None, body: Document, inputs: Sequence[str]) -> None:
        made: Document = {"name": name}
        if inputs:
            made["inputs"] = {"parameters": [{"name": one} for one in inputs]}
        if place is not None and place.plain and "metadata" not in body:
            made["metadata"] = {"annotations": {"nectar/step": shown(place.title)}}
        self.templates.append({**made, **body})

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count}"


def _handed_on(values: Sequence[str]) -> Document:
    if not values:
        return {}
    return {"arguments": {"parameters": [{"name": one, "value": f"{{{{inputs.parameters.{one}}}}}"} for one in values]}}


def escaped(variable: str) -> str:
    """Return an expression for what `literal` makes of a value that is only known when the workflow runs."""
    return f"{{{{=sprig.replace('{{' + '{{', '{{$(NECTAR_BRACE)', sprig.replace('$', '$$', {variable}))}}}}"
