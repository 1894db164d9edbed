"""The one shape of every answer: `{"data": ..., "message": ..., "status": ...}`, its status that of the response.

The shape and its words are datanectar's (https://github.com/madconsulting/datanectar). An error has `code`, `hint`,
`field`, all faults under `errors`, and the id of the request.
"""

from __future__ import annotations

from typing import Any

from flask import Response, g, jsonify, url_for

from nectar import errors
from nectar.runs import Run

SUCCESS = "success"


def answer(data: Any, *, status: int = 200, message: str = SUCCESS) -> Response:
    """Return the answer to a request that was carried out."""
    response = jsonify({"data": data, "message": message, "status": status})
    response.status_code = status
    return response


def refusal(error: errors.NectarError) -> Response:
    """Return the answer to a request that was not carried out, and why."""
    told: dict[str, Any] = {"message": error.message, "code": error.code, "hint": error.hint}
    if isinstance(error, errors.InvalidParameters):
        told["errors"] = [{"field": one.field, "message": one.message, "hint": one.hint} for one in error.problems]
        told["field"] = error.problems[0].field if error.problems else None
    response = refused(error.http_status, **told)
    if isinstance(error, errors.QueueFull | errors.ServerBusy | errors.StoreError | errors.RunStoreError):
        response.headers["Retry-After"] = "5"
    if isinstance(error, errors.NotAuthenticated):
        response.headers["WWW-Authenticate"] = 'Bearer realm="nectar"'
    return response


def refused(
    status: int,
    *,
    message: str,
    code: str,
    hint: str | None = None,
    field: str | None = None,
    errors: list[dict[str, Any]] | None = None,
) -> Response:
    """Return an answer that tells what is wrong with a request."""
    told = fault(status, message, code, hint, request_id=g.get("request_id"))
    response = jsonify(told | {"field": field, "errors": errors or []})
    response.status_code = status
    return response


def fault(status: int, message: str, code: str, hint: str | None, *, request_id: str | None) -> dict[str, Any]:
    """Return what tells that something is wrong with a request, as a JSON value."""
    return {
        "data": None,
        "message": message,
        "status": status,
        "code": code,
        "hint": hint,
        "field": None,
        "errors": [],
        "request_id": request_id,
    }


def run_document(run: Run) -> dict[str, Any]:
    """Return a run as a JSON value, with the address at which it is told of."""
    return run.to_json() | {"url": url_for("runs.one", run_id=run.id, _external=True)}
