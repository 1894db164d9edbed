"""Describe the routes as OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0), each task of each chain with its own.

The description is made anew from what the importers say; a chain that cannot be imported is not in it.
"""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Flask, Response, jsonify

from nectar import __version__
from nectar.chain import catalog
from nectar.chain.description import MASK, ChainDescription, ParameterDescription, TaskDescription
from nectar.service.whole import Service
from nectar.web import values

Document = dict[str, Any]

#: what a parameter's word means in JSON; of all others the text is taken as it is
_SCHEMAS: dict[str, Document] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "number": {"type": "number"},
    "bool": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "dict": {"type": "object"},
    "list": {"type": "array", "items": {}},
    "tuple": {"type": "array", "items": {}},
    "choices": {"type": "array", "items": {"type": "string"}},
}
_ID = {"type": "string", "pattern": "^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$"}
_TARGET = {"type": "string", "description": "`chains/<type>/<chain>/<Task>/<key>`"}


def blueprint(service: Service, app: Flask) -> Blueprint:
    """Return `/api/openapi.json`."""
    routes = Blueprint("openapi", __name__)

    @routes.get("/api/openapi.json")
    def document() -> Response:
        values.options(())
        return jsonify(describe(catalog.discover(service.settings)))

    return routes


def describe(found: catalog.Catalog) -> Document:
    """Return the description of the routes for some chains."""
    paths = _fixed_paths()
    for chain in found.chains:
        for task in chain.tasks:
            paths |= _task_paths(chain, task)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Nectar",
            "version": __version__,
            "description": "Every task of every chain, by the names of files and classes alone.",
        },
        "paths": paths,
        "components": {
            "schemas": _COMPONENTS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _task_paths(chain: ChainDescription, task: TaskDescription) -> Document:
    place = f"{chain.name.path}/{task.name}"
    shown = [one for one in task.parameters if one.visibility != "private"]
    query = [_in_query(one) for one in shown]
    operation = f"{chain.name.type}.{chain.name.name}.{task.name}"
    body = {
        "required": False,
        "content": {"application/json": {"schema": _body_schema(shown)}},
        "description": "Parameters; one that stands in the query may not stand here too.",
    }
    post = {
        "operationId": f"run.{operation}",
        "summary": task.doc or f"Make {task.name}",
        "tags": [chain.name.path],
        "parameters": [*(one | {"required": False} for one in query), _SELECT, _IDEMPOTENCY],
        "requestBody": body,
        "responses": _responses("Submitted", 400, 409, 413, 415, 429, 503, 504),
    }
    get = {
        "operationId": f"describe.{operation}",
        "summary": f"Tell of {task.name}",
        "tags": [chain.name.path],
        "responses": _responses("Task"),
    }

    def look(verb: str, summary: str) -> Document:
        return {
            "get": {
                "operationId": f"{verb}.{operation}",
                "summary": summary,
                "tags": [chain.name.path],
                "parameters": [*query, _SELECT],
                "responses": _responses("Any", 400, 409, 503, 504),
            }
        }

    return {
        f"/api/chains/{place}": {"post": post, "get": get},
        f"/api/plan/{place}": look("plan", f"Tell what a POST to {task.name} would do"),
        f"/api/graph/{place}": look("graph", f"Tell what {task.name} stands on"),
    }


def _schema(one: ParameterDescription) -> Document:
    schema = dict(_SCHEMAS.get(one.type, {"type": "string"}))
    if one.choices is not None and schema == {"type": "string"}:
        schema["enum"] = [_typed(one, choice) for choice in one.choices]
    elif one.choices is not None and one.type == "choices":
        schema["items"] = {"enum": list(one.choices)}
    if one.default is not None and one.default != MASK:
        schema["default"] = _typed(one, one.default)
    return schema


def _typed(one: ParameterDescription, text: str) -> Any:
    if _SCHEMAS.get(one.type, {}).get("type") in ("integer", "number", "boolean", "object", "array"):
        try:
            return json.loads(text.lower() if one.type == "bool" else text)
        except ValueError:
            return text
    return text


def _in_query(one: ParameterDescription) -> Document:
    schema = _schema(one)
    told: Document = {"name": one.name, "in": "query", "required": one.required}
    if one.description:
        told["description"] = one.description
    if schema.get("type") in ("object", "array"):  # as one text of JSON, not as several values
        return told | {"content": {"application/json": {"schema": schema}}}
    return told | {"schema": schema}


def _body_schema(parameters: list[ParameterDescription]) -> Document:
    properties = {
        one.name: _schema(one) | ({"description": one.description} if one.description else {}) for one in parameters
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _responses(schema: str, *also: int) -> Document:
    refusal = {"description": "Refused", "content": {"application/json": {"schema": {"$ref": _ref("Refusal")}}}}
    envelope = {
        "type": "object",
        "required": ["data", "message", "status"],
        "properties": {
            "data": {"$ref": _ref(schema)},
            "message": {"type": "string"},
            "status": {"const": 200},
        },
    }
    done = {"description": "Done", "content": {"application/json": {"schema": envelope}}}
    return {"200": done} | {str(status): refusal for status in sorted({400, 401, 403, 404, *also})}


def _ref(name: str) -> str:
    return f"#/components/schemas/{name}"


def _get(operation: str, summary: str, schema: str, *parameters: Document, also: tuple[int, ...] = ()) -> Document:
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "parameters": list(parameters),
            "responses": _responses(schema, *also),
        }
    }


def _option(name: str, schema: Document, description: str = "", required: bool = False) -> Document:
    told: Document = {"name": name, "in": "query", "required": required, "schema": schema}
    return told | ({"description": description} if description else {})


def _part(name: str, schema: Document) -> Document:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _plain(operation: str, summary: str, *parameters: Document) -> Document:
    path = _get(operation, summary, "Any", *parameters)
    binary = {"schema": {"type": "string", "format": "binary"}}
    path["get"]["responses"]["200"] = {"description": "The bytes", "content": {"*/*": binary}}
    return path


_SELECT = {
    "name": values.SELECT,
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "Only these tasks of the graph, as in `*CleanTask, LoadTask(day=3)+`.",
}
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "description": "The same request with the same key has the same run.",
}


def _fixed_paths() -> Document:
    run_id = _part("run_id", _ID)
    address = _part("target", _TARGET)
    name = _part("name", {"type": "string"})
    size = _option("limit", {"type": "integer", "minimum": 1, "maximum": 1000})
    filters = [
        _option("state", {"type": "string"}, "One of the states, or several between commas."),
        _option("chain", {"type": "string", "pattern": "^[^/]+/[^/]+_chain$"}),
        _option("target", _TARGET | {"pattern": "^chains/.+/[0-9a-f]{32}$"}),
        _option("key", {"type": "string", "pattern": "^[0-9a-f]{32}$"}),
        _option("source", {"type": "string", "pattern": "^[a-z]+$"}),
        _option("text", {"type": "string", "maxLength": 1000}),
        _option("task", {"type": "string"}, "As the runs tell it, with its parameters."),
        _option("page", {"type": "string", "minLength": 1}, "The `next_page` of an answer to the same question."),
        _option("tag", {"type": "string", "pattern": "^[^:]+:.*$"}, "NAME:VALUE; may be given several times."),
        _option("since", {"type": "string", "format": "date-time"}),
        _option("until", {"type": "string", "format": "date-time"}),
        size,
    ]
    events = _get(
        "runs.events",
        "Tell what happened in a run; with `Accept: text/event-stream` as it happens",
        "Any",
        run_id,
        _option("after", {"type": "integer", "minimum": 0, "maximum": 10**15}),
        _option("limit", {"type": "integer", "minimum": 1, "maximum": 10_000}),
        also=(204, 503),
    )
    events["get"]["responses"]["204"] = {"description": "The stream has ended, and there is nothing more"}
    events["get"]["responses"]["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    rerun_body = {"type": "object", "properties": {"failed": {"type": "boolean"}}, "additionalProperties": False}
    return {
        "/api/chains": _get("chains", "List all chains, by type", "Any"),
        "/api/chains/{type}": _get("chains.type", "List the chains of a type", "Any", _part("type", _NAME)),
        "/api/chains/{type}/{name}": _get(
            "chains.one",
            "Tell of a chain, or of a task that one chain of the type has",
            "Any",
            _part("type", _NAME),
            _part("name", _NAME),
            also=(500,),
        )
        | _run_by_type(),
        "/api/chainstatus": _get(
            "chainstatus",
            "Tell how it stands with a target",
            "Standing",
            _option(
                "chain",
                {"type": "string", "minLength": 1},
                "The target and its file, as the POST's `status_url` has it.",
                True,
            ),
            also=(503,),
        ),
        "/api/runs": _get("runs", "List runs, newest first", "Any", *filters),
        "/api/runs/{run_id}": _get("runs.one", "Tell of a run and its steps", "Any", run_id),
        "/api/runs/{run_id}/events": events,
        "/api/runs/{run_id}/logs": _get("runs.logs", "List what each attempt printed", "Any", run_id),
        "/api/runs/{run_id}/logs/{stream}": _plain(
            "runs.log",
            "Give what an attempt printed",
            run_id,
            _part("stream", {"enum": ["stdout", "stderr"]}),
            _option("attempt", {"type": "string"}, "", True),
        ),
        "/api/runs/{run_id}/cancel": _post("runs.cancel", "Stop a run", run_id, {"type": "object", "maxProperties": 0}),
        "/api/runs/{run_id}/rerun": _post("runs.rerun", "Queue a run that repeats this one", run_id, rerun_body),
        "/api/targets/{target}": _get("targets.one", "Show a target", "Any", address, also=(503,)),
        "/api/targets/{target}/files/{name}": _plain("targets.file", "Give a file of a target", address, name),
        "/api/targets/{target}/preview/{name}": _get(
            "targets.preview",
            "Give the first rows of a file",
            "Any",
            address,
            name,
            _option("rows", {"type": "integer", "minimum": 1, "maximum": 1000}),
        ),
        "/api/targets/{target}/history": _get(
            "targets.history", "List the runs that had to do with a target", "Any", address, size
        ),
        "/healthz": _get("healthz", "Tell whether the server is well", "Any"),
        "/metrics": _plain("metrics", "Give the numbers of the server, as Prometheus reads them"),
    }


def _run_by_type() -> Document:
    return {
        "post": {
            "operationId": "run.by_type",
            "summary": "Make a task that one chain of the type has, and no other; parameters as with its chain",
            "parameters": [_part("type", _NAME), _part("name", _NAME), _IDEMPOTENCY],
            "requestBody": {"required": False, "content": {"application/json": {"schema": {"type": "object"}}}},
            "responses": _responses("Submitted", 409, 413, 415, 429, 500, 503, 504),
        }
    }


def _post(operation: str, summary: str, part: Document, body: Document) -> Document:
    return {
        "post": {
            "operationId": operation,
            "summary": summary,
            "parameters": [part],
            "requestBody": {"required": False, "content": {"application/json": {"schema": body}}},
            "responses": _responses("Any", 409, 413, 415, 429, 503),
        }
    }


_NAME = {"type": "string", "pattern": "^[^/]+$"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_COMPONENTS: Document = {
    "Any": {},
    "Refusal": {
        "type": "object",
        "required": ["data", "message", "status", "code", "hint", "field", "errors", "request_id"],
        "properties": {
            "data": {"type": "null"},
            "message": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string"},
            "hint": _TEXT_OR_NULL,
            "field": _TEXT_OR_NULL,
            "errors": {"type": "array", "items": {"type": "object"}},
            "request_id": _TEXT_OR_NULL,
        },
    },
    "Submitted": {
        "type": "object",
        "required": ["status_url", "expires_in", "run_id", "target", "complete", "joined"],
        "properties": {
            "status_url": {"type": "string"},
            "expires_in": {"type": "integer"},
            "run_id": _TEXT_OR_NULL,
            "run_url": _TEXT_OR_NULL,
            "target": {"type": "string"},
            "complete": {"type": "boolean"},
            "joined": {"type": "boolean"},
        },
    },
    "Standing": {
        "type": "object",
        "required": ["job_status", "resource_url", "expires_in"],
        "properties": {
            "job_status": {"enum": ["RUNNING", "DONE", "FAILED"]},
            "resource_url": _TEXT_OR_NULL,
            "expires_in": {"type": ["integer", "null"]},
            "run_id": _TEXT_OR_NULL,
            "run_state": _TEXT_OR_NULL,
            "error": {"type": ["object", "null"]},
        },
    },
    "Task": {
        "type": "object",
        "required": ["task_name", "description", "parameters"],
        "properties": {
            "task_name": {"type": "string"},
            "description": {"type": "string"},
            "parameters": {"type": "array", "items": {"type": "object"}},
        },
    },
}
