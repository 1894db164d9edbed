"""The chains: what there is, and a POST for each task; how it stands with what was asked for."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, request, url_for

from nectar import errors
from nectar.address import Address
from nectar.chain import catalog
from nectar.chain.description import BrokenChain, ChainDescription, ParameterDescription, TaskDescription, find_task
from nectar.chain.finder import ChainName, find_chain
from nectar.service.standing import LINK_S, Fault, Standing, standing
from nectar.service.submission import Submitted, submit
from nectar.service.whole import Service
from nectar.web import values
from nectar.web.envelope import answer, refused

TASK_SUFFIX = "Task"
_LONGEST_KEY = 255  # characters of an Idempotency-Key


def blueprint(service: Service) -> Blueprint:
    """Return the routes under `/api/chains`, `/api/chainstatus`, `/api/plan` and `/api/graph`."""
    routes = Blueprint("chains", __name__)
    settings = service.settings

    @routes.get("/api/chains")
    def chains() -> Response:
        values.options(())
        return answer(_by_type(catalog.discover(settings)))

    @routes.get("/api/chains/<chain_type>")
    def chain_type(chain_type: str) -> Response:
        values.options(())
        found = _by_type(catalog.discover(settings))
        if chain_type not in found:
            hint = errors.did_you_mean(chain_type, found) or _listed("chain types are", found)
            raise errors.ChainNotFound(f"no chain type `{chain_type[:100]}`", hint=hint)
        return answer(found[chain_type])

    @routes.get("/api/chains/<chain_type>/<name>")
    def chain(chain_type: str, name: str) -> Response:
        values.options(())
        if _is_task(name):
            where = _of_type(service, chain_type, name)
            described = catalog.describe(settings, where)
            return answer(_task(where, find_task(described, name)))
        return answer(_chain(catalog.describe(settings, _chain_name(service, chain_type, name))))

    @routes.get("/api/chains/<chain_type>/<chain>/<task>")
    def task(chain_type: str, chain: str, task: str) -> Response:
        values.options(())
        name = _chain_name(service, chain_type, chain)
        return answer(_task(name, find_task(catalog.describe(settings, name), task)))

    @routes.post("/api/chains/<chain_type>/<name>")
    def run_by_type(chain_type: str, name: str) -> Response:
        if not _is_task(name):
            _chain_name(service, chain_type, name)
            raise errors.TaskNotFound(
                f"`{chain_type}/{name}` is a chain, and names no task", hint=f"POST to `{request.path}/SomeTask`"
            )
        return _run(service, _of_type(service, chain_type, name), name)

    @routes.post("/api/chains/<chain_type>/<chain>/<task>")
    def run(chain_type: str, chain: str, task: str) -> Response:
        return _run(service, _chain_name(service, chain_type, chain), task)

    @routes.get("/api/chainstatus")
    def status() -> Response:
        text = values.options(("chain",)).get("chain")
        if not text:
            return refused(400, message="Need 'chain' parameter", code="usage", field="chain")
        address, output = _file_of(text)
        return answer(_status(standing(service.books, address, output), address, output))

    @routes.get("/api/plan/<chain_type>/<chain>/<task>")
    def plan(chain_type: str, chain: str, task: str) -> Response:
        name = _chain_name(service, chain_type, chain)
        return answer(service.importers.ask("plan", name, task, values.parameters(), values.selection()))

    @routes.get("/api/graph/<chain_type>/<chain>/<task>")
    def graph(chain_type: str, chain: str, task: str) -> Response:
        name = _chain_name(service, chain_type, chain)
        return answer(service.importers.ask("graph", name, task, values.parameters(), values.selection()))

    return routes


def _run(service: Service, chain: ChainName, task: str) -> Response:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= _LONGEST_KEY and key.isprintable()):
        raise errors.UsageError(
            "the idempotency key cannot be one", hint=f"use 1 to {_LONGEST_KEY} characters that can be printed"
        )
    params, select = values.parameters(), values.selection()
    service.check_open()
    submitted = submit(
        service.books,
        service.importers,
        chain,
        task,
        params,
        select=select,
        request_key=key,
        most_waiting=service.settings.serve.waiting,
    )
    if not submitted.complete:
        service.supervisor.wake()
    return answer(_submitted(submitted))


def _submitted(submitted: Submitted) -> dict[str, Any]:
    run_id = submitted.run_id
    chain = quote(f"{submitted.path}/{submitted.output}")  # its slashes stay, as the contract prints them
    return {
        "status_url": f"{request.host_url}api/chainstatus?chain={chain}",
        "expires_in": LINK_S,
        "run_id": run_id,
        "run_url": url_for("runs.one", run_id=run_id, _external=True) if run_id is not None else None,
        "target": submitted.path,
        "complete": submitted.complete,
        "joined": submitted.joined,
    }


def _status(found: Standing, address: Address, output: str) -> dict[str, Any]:
    run = found.run
    told: dict[str, Any] = {
        "job_status": found.status.value,
        "resource_url": None,
        "expires_in": None,
        "run_id": run.id if run is not None else None,
        "run_state": run.state.value if run is not None else None,
        "error": _fault(found.fault) if found.fault is not None else None,
    }
    if found.reader is not None:
        link = found.reader.link(output, expires_s=LINK_S)
        if link.startswith(("http://", "https://")):
            return told | {"resource_url": link, "expires_in": LINK_S}
        told["resource_url"] = url_for("targets.download", address=address, name=output, _external=True)
    return told


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "message": fault.message,
        "code": fault.code,
        "hint": fault.hint,
        "task": fault.task,
        "target": fault.path,
        "traceback": fault.traceback,
    }


def _file_of(text: str) -> tuple[Address, str]:
    """Return the target and the file of it that a status is asked of; a target alone means its `out.txt`."""
    address = Address.parse(text)
    output = text.strip("/").removeprefix(address.path).strip("/")
    return address, output or "out.txt"


def _is_task(name: str) -> bool:
    return name.endswith(TASK_SUFFIX) and not name.endswith("_chain")


def _chain_name(service: Service, chain_type: str, chain: str) -> ChainName:
    return find_chain(service.settings.chains_dir, f"{chain_type}/{chain}")


def _of_type(service: Service, chain_type: str, task: str) -> ChainName:
    """Return the only chain of a type that has a task of this name.

    Raises:
        TaskNotFound: when none has, or several have.
    """
    chains = catalog.discover(service.settings).by_type().get(chain_type, ())
    found = [chain.name for chain in chains if any(one.name == task for one in chain.tasks)]
    if len(found) == 1:
        return found[0]
    if not found:
        names = {one.name for chain in chains for one in chain.tasks}
        hint = errors.did_you_mean(task, names) or "GET /api/chains lists the tasks"
        raise errors.TaskNotFound(f"no task `{task[:100]}` in the chains of type `{chain_type[:100]}`", hint=hint)
    listed = _listed("it is in", [one.path for one in found])
    raise errors.TaskNotFound(f"several chains of type `{chain_type}` have a task `{task}`", hint=f"{listed}: name one")


def _listed(words: str, names: Any) -> str:
    return f"{words} " + ", ".join(f"`{name}`" for name in names)


def _by_type(found: catalog.Catalog) -> dict[str, dict[str, Any]]:
    types: dict[str, dict[str, Any]] = {}

    def of(name: str) -> dict[str, Any]:
        href = url_for("chains.chain_type", chain_type=name)
        return types.setdefault(name, {"api_href": href, "chains": [], "broken": []})

    for chain in found.chains:
        of(chain.name.type)["chains"].append(_chain(chain))
    for broken in found.broken:
        of(broken.path.partition("/")[0])["broken"].append(_broken(broken))
    return dict(sorted(types.items()))


def _broken(broken: BrokenChain) -> dict[str, Any]:
    return {"path": broken.path, "error": broken.error, "location": broken.location or None}


def _chain(chain: ChainDescription) -> dict[str, Any]:
    name = chain.name
    return {
        "name": name.name,
        "path": name.path,
        "api_href": url_for("chains.chain", chain_type=name.type, name=name.name),
        "description": chain.doc,
        "tasks": [_task(name, task) for task in chain.tasks],
    }


def _task(chain: ChainName, task: TaskDescription) -> dict[str, Any]:
    return {
        "task_name": task.name,
        "api_href": url_for("chains.task", chain_type=chain.type, chain=chain.name, task=task.name),
        "description": task.doc,
        "parameters": [_parameter(one) for one in task.parameters],
    }


def _parameter(one: ParameterDescription) -> dict[str, Any]:
    return {
        "name": one.name,
        "type": one.type,
        "default": one.default,
        "required": one.required,
        "significant": one.significant,
        "choices": list(one.choices) if one.choices is not None else None,
        "description": one.description,
        "visibility": one.visibility,
    }
