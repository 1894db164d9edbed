"""Go through a workflow as Argo's controller does, with each pod a process of this machine.

The rules are those of Argo's `workflow/controller/dag.go`: `depends` is looked at when all that it names has ended; a
task that it does not let run is omitted; a graph has failed if one of its ends has, and an end that was omitted is
taken as what stands before it, a failure first. Kubernetes and its network are not here.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_GOOD = frozenset({"Succeeded", "Skipped", "Daemoned"})
_RESULTS = re.compile(r"\b([a-z][a-z0-9-]*)(?:\.(Succeeded|Failed|Errored|Skipped|Omitted))?\b")
_ESCAPED = re.compile(r"\{\{=sprig\.replace\('\{' \+ '\{', '([^']*)', sprig\.replace\('\$', '\$\$', ([\w.]+)\)\)\}\}")


@dataclass
class Pods:
    """A workflow that is gone through."""

    project: Any
    command: Path
    parameters: dict[str, str]
    uid: str = "R"
    templates: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def run(self, manifest: Path) -> str:
        """Return the phase in which the workflow ends."""
        spec = yaml.safe_load(manifest.read_text("utf-8"))["spec"]
        defaults = {one["name"]: one["value"] for one in spec["arguments"]["parameters"] if "value" in one}
        self.parameters = {**defaults, **self.parameters}
        self.templates = {one["name"]: one for one in spec["templates"]}
        return self._template(spec["entrypoint"], {})[0]

    def _template(self, name: str, inputs: Mapping[str, str]) -> tuple[str, str]:
        template = self.templates[name]
        missing = {one["name"] for one in template.get("inputs", {}).get("parameters", [])} - inputs.keys()
        assert not missing, (name, missing)
        if "dag" in template:
            return self._graph(template["dag"], inputs), ""
        return self._pod(template, inputs)

    def _graph(self, graph: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
        tasks = {task["name"]: task for task in graph["tasks"]}
        phases: dict[str, str] = {}
        taken: dict[str, str] = {}  # as ends are taken
        results: dict[str, str] = {}
        while len(phases) < len(tasks):
            ready = [one for name, one in tasks.items() if name not in phases and self._before(one) <= phases.keys()]
            assert ready, "a circle"
            for task in ready:
                name = task["name"]
                if self._lets(task, phases):
                    phases[name], results[name] = self._task(task, inputs, results)
                    taken[name] = phases[name]
                else:
                    phases[name] = "Omitted"
                    before = {taken[one] for one in self._before(task)}
                    taken[name] = "Failed" if "Failed" in before else "Succeeded"
        needed = {one for task in tasks.values() for one in self._before(task)}
        return "Failed" if any(taken[name] == "Failed" for name in tasks if name not in needed) else "Succeeded"

    def _before(self, task: Mapping[str, Any]) -> set[str]:
        return {found[1] for found in _RESULTS.finditer(task.get("depends", ""))} | set(task.get("dependencies", ()))

    def _lets(self, task: Mapping[str, Any], phases: Mapping[str, str]) -> bool:
        def holds(found: re.Match[str]) -> str:
            return str(phases[found[1]] == found[2] if found[2] else phases[found[1]] in _GOOD)

        if "depends" not in task:
            return all(phases[one] in _GOOD for one in task.get("dependencies", ()))
        expression = _RESULTS.sub(holds, task["depends"]).replace("||", " or ").replace("&&", " and ")
        assert re.fullmatch(r"(True|False|or|and|[() ])*", expression), expression
        return bool(eval(expression))

    def _task(self, task: Mapping[str, Any], inputs: Mapping[str, str], results: Mapping[str, str]) -> tuple[str, str]:
        given = {one["name"]: one["value"] for one in task.get("arguments", {}).get("parameters", [])}
        if "withParam" not in task:
            return self._template(task["template"], {key: self._put(text, inputs) for key, text in given.items()})
        source = task["withParam"].removeprefix("{{tasks.").removesuffix(".outputs.result}}")
        phases = [
            self._template(
                task["template"], {key: self._put(text, {**inputs, "item": item}) for key, text in given.items()}
            )[0]
            for item in json.loads(results[source])
        ]
        return ("Failed" if "Failed" in phases else "Succeeded" if phases else "Skipped"), ""

    def _put(self, text: str, inputs: Mapping[str, str]) -> str:
        known = {f"inputs.parameters.{name}": value for name, value in inputs.items()}
        known |= {f"workflow.parameters.{name}": value for name, value in self.parameters.items()}
        known |= {"workflow.uid": self.uid, "item": inputs.get("item", "")}
        text = _ESCAPED.sub(lambda found: known[found[2]].replace("$", "$$").replace("{{", found[1]), text)
        return re.sub(r"\{\{([\w.]+)\}\}", lambda found: known[found[1]], text)

    def _pod(self, template: Mapping[str, Any], inputs: Mapping[str, str]) -> tuple[str, str]:
        container, retry = template["container"], template["retryStrategy"]
        environment = {one["name"]: one["value"] for one in container["env"]}
        words = [kubernetes(self._put(word, inputs), environment) for word in container["args"]]
        for _ in range(1 + int(retry["limit"])):
            made: subprocess.CompletedProcess[str] = self.project.run(self.command, *words)
            self.said.append(made.stderr)
            if made.returncode == 0:
                return "Succeeded", made.stdout.strip()
            if "expression" in retry and made.returncode != 5:
                break
        return "Failed", ""


def kubernetes(text: str, variables: Mapping[str, str]) -> str:
    """Return what Kubernetes makes of an argument: `$$` is a dollar, `$(NAME)` the variable, if there is one."""
    return re.sub(
        r"\$\$|\$\((\w+)\)", lambda found: "$" if found[1] is None else variables.get(found[1], found[0]), text
    )
