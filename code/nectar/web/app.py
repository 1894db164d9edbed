"""Put the routes together into one WSGI application."""

from __future__ import annotations

import logging

from flask import Flask, Response, g, request, url_for
from werkzeug.exceptions import HTTPException

from nectar import errors
from nectar.service.whole import Service
from nectar.web import chains, guard, health, openapi, runs, targets, values
from nectar.web.envelope import answer, refusal, refused

BODY_LIMIT = 1 << 20  #: bytes of a request's body

log = logging.getLogger(__name__)


def make_app(service: Service) -> Flask:
    """Return the application that answers for a service, which somebody else starts and ends."""
    app = Flask("nectar", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.debug = False  # whatever FLASK_DEBUG says
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = True
    targets.install(app)
    registry = health.count(app, service)
    guard.install(app, service)
    app.register_blueprint(chains.blueprint(service))
    app.register_blueprint(runs.blueprint(service))
    app.register_blueprint(targets.blueprint(service))
    app.register_blueprint(health.blueprint(service, registry))
    app.register_blueprint(openapi.blueprint(service, app))

    @app.get("/")
    def index() -> Response:
        values.options(())
        names = {
            "chains": "chains.chains",
            "runs": "runs.runs",
            "openapi": "openapi.document",
            "health": "health.healthz",
            "metrics": "health.metrics",
        }
        return answer({name: url_for(endpoint, _external=True) for name, endpoint in names.items()})

    app.register_error_handler(errors.NectarError, _told)
    app.register_error_handler(HTTPException, _not_served)
    app.register_error_handler(Exception, _failed)
    return app


def _told(error: errors.NectarError) -> Response:
    if error.http_status >= 500:
        told = (request.method, request.path, error.message)
        log.warning("%s %s: %s", *told, extra={"request_id": g.get("request_id")})
    return refusal(error)


def _not_served(error: HTTPException) -> Response:
    """Tell in our words what Flask or Werkzeug refuses."""
    status = error.code or 500
    if status == 404:
        return refused(404, message="there is nothing at this address", code="not-found", hint="GET / lists the routes")
    if status == 405:
        allowed = ", ".join(sorted(set(getattr(error, "valid_methods", None) or ())))
        hint = f"use {allowed}" if allowed else None
        message = f"{request.method[:20]} is not answered here"
        response = refused(405, message=message, code="method-not-allowed", hint=hint)
        response.headers["Allow"] = allowed
        return response
    if status == 413:
        return refused(
            413, message="the body is too large", code="body-too-large", hint=f"send {BODY_LIMIT >> 20} MiB at most"
        )
    return refused(status, message=(error.name or "the request cannot be answered").lower(), code="http")


def _failed(error: Exception) -> Response:
    """Tell nothing of a fault of our own but the id by which it is found in the log."""
    log.error("%s %s failed", request.method, request.path, exc_info=error, extra={"request_id": g.get("request_id")})
    return refused(
        500, message="something went wrong in the server", code="internal", hint="look for the request's id in its log"
    )
