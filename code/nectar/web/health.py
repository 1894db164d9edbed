"""Say whether the server is well: for who restarts it, and for who draws its curves."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from urllib.parse import quote

from flask import Blueprint, Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from nectar import __version__
from nectar.runs import RunState
from nectar.service.whole import Service
from nectar.web import values
from nectar.web.envelope import answer

log = logging.getLogger(__name__)

_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


def blueprint(service: Service, registry: CollectorRegistry) -> Blueprint:
    """Return `/healthz` and `/metrics`."""
    routes = Blueprint("health", __name__)

    @routes.get("/healthz")
    def healthz() -> Response:
        state = "draining" if service.supervisor.draining else "ok"
        return answer({"state": state, "version": __version__})

    @routes.get("/metrics")
    def metrics() -> Response:
        values.options(())
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return routes


class _RunsOfBooks:
    """The runs in the books, counted when somebody asks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[GaugeMetricFamily]:
        counts = self._service.books.states()
        runs = GaugeMetricFamily("nectar_runs", "Runs in the books, by state", labels=["state"])
        for state in RunState:
            runs.add_metric([state.value], counts.get(state, 0))
        yield runs
        at_work = self._service.supervisor.at_work
        yield GaugeMetricFamily("nectar_server_runs", "Runs that this server carries out", value=at_work)


def count(app: Flask, service: Service) -> CollectorRegistry:
    """Count the requests of an application from now on; return where the numbers are."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second row for each one, which nobody asks for
    registry = CollectorRegistry()
    registry.register(_RunsOfBooks(service))
    labels = ("method", "route")
    requests = Counter("nectar_http_requests", "Requests answered", (*labels, "status"), registry=registry)
    seconds = Histogram(
        "nectar_http_request_seconds", "Seconds to an answer", labels, buckets=_SECONDS, registry=registry
    )

    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        # By the route's pattern: a label for each path that anybody tries would fill the memory.
        route = request.url_rule.rule if request.url_rule is not None else "none"
        method = request.method if request.method in ("GET", "HEAD", "POST", "OPTIONS") else "other"
        requests.labels(method, route, str(response.status_code)).inc()
        took_s = time.perf_counter() - g.began
        seconds.labels(method, route).observe(took_s)
        # Without the query: it has people's parameters, and should anybody send one there, a token.
        log.info("%s %s %d %.1f ms", method, quote(request.path), response.status_code, took_s * 1000)
        return response

    return registry
