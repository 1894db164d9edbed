"""Write a manifest for Argo Workflows 3.4 and later, on Kubernetes: each node is a pod.

https://argo-workflows.readthedocs.io/en/latest/fields/ describes its fields.
"""

from __future__ import annotations

from typing import Any

from nectar.export.bash import comments
from nectar.export.work import PAUSE_S, STORE_FAILED, TRIES_MORE, ChainWork

LIMIT = 1_000_000  #: bytes of a manifest: etcd takes 1.5 MiB a request, Argo refuses a workflow beyond 1 MiB
_OPEN = "NECTAR_BRACE"  #: a variable in each container that holds an opening brace
_LONGEST_SHOWN = 1000  #: characters of a text for people

Document = dict[str, Any]


def chain(work: ChainWork) -> str:
    """Return a workflow that makes each node of a chain's graph."""
    tasks = []
    for node in work.nodes:
        given = [{"name": "select", "value": literal(node.select)}, {"name": "task", "value": shown(node.title)}]
        task: Document = {"name": node.name, "template": "node", "arguments": {"parameters": given}}
        if node.needs:
            task["dependencies"] = list(node.needs)
        tasks.append(task)
    words = ["run", "--select", "{{inputs.parameters.select}}", *map(literal, work.words)]
    node_template = {
        "name": "node",
        "inputs": {"parameters": [{"name": "select"}, {"name": "task"}]},
        "metadata": {"annotations": {"nectar/task": "{{inputs.parameters.task}}"}},
        **container(words),
    }
    # Without `failFast: false` the first failure would keep all else from beginning.
    graph = {"name": "chain", "dag": {"failFast": False, "tasks": tasks}}
    spec = {
        "entrypoint": "chain",
        "arguments": {"parameters": [{"name": "image"}]},
        "templates": [graph, node_template],
    }
    return text_of(workflow(work.name, work.title, spec), (work.title, *work.warnings))


def workflow(name: str, title: str, spec: Document) -> Document:
    """Return a workflow that is given a name of its own each time it is submitted."""
    metadata = {"generateName": f"{name}-", "annotations": {"nectar/title": shown(title)}}
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": metadata, "spec": spec}


def container(
    words: list[str], *, attempts: int = 1, image: str | None = None, resources: Document | None = None
) -> Document:
    """Return the part of a template that runs the command once.

    With more than one attempt it is tried again whatever it was, otherwise only where the store could not be reached or
    the pod was lost. The project is in the image. Credentials and settings may come from a secret `nectar`, if there is
    one.
    """
    again: Document = {
        "limit": str(TRIES_MORE),
        "retryPolicy": "Always",
        "expression": f"lastRetry.exitCode == '{STORE_FAILED}' || lastRetry.status == 'Error'",
        "backoff": {"duration": f"{PAUSE_S}s", "factor": "2"},
    }
    if attempts > 1:
        again = {"limit": str(attempts - 1), "retryPolicy": "Always"}
    return {
        "retryStrategy": again,
        "container": {
            "image": image if image is not None else "{{workflow.parameters.image}}",
            "command": ["nectar"],
            "args": words,
            "env": [{"name": _OPEN, "value": "{"}],
            "envFrom": [{"secretRef": {"name": "nectar", "optional": True}}],
            **({"resources": resources} if resources is not None else {}),
        },
    }


def literal(text: str) -> str:
    """Return what becomes this text in the container.

    Kubernetes replaces `$(NAME)` and `$$` there; before, Argo replaces what stands in double braces, for which it has
    no escape. So the second of two braces comes from a variable, which Kubernetes puts in when Argo is done.
    """
    doubled = text.replace("$", "$$")
    return doubled.replace("{{", f"{{$({_OPEN})") if "{{" in doubled else doubled


def shown(text: str) -> str:
    """Return a text for people, in which Argo replaces nothing."""
    return text[:_LONGEST_SHOWN].replace("{{", "{ {")


def text_of(document: Document, header: tuple[str, ...]) -> str:
    """Return a manifest as YAML."""
    import yaml  # late: only what is rendered needs it

    body = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return f"{comments(header)}#\n# argo submit --watch -p image=IMAGE THIS-FILE\n{body}"
