"""The runs: lists, one with its steps, its events as they come, its logs; cancel and repeat."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, request, url_for

from nectar import errors
from nectar.actions.following import logs_of
from nectar.actions.history import tell
from nectar.actions.logs import Logs
from nectar.address import Address, is_key
from nectar.chain.finder import ChainName
from nectar.records import utc_now
from nectar.runs import Filter, RunState, Step
from nectar.service.submission import submit_again
from nectar.service.whole import Service
from nectar.web import values
from nectar.web.envelope import answer, run_document

STREAMS = 8  #: at the same time; each occupies a thread of the server
STREAM_S = 30.0  #: seconds after which a stream ends, to be resumed by the client
LOOK_S = 0.3  #: between two looks for events
MOST_TAGS = 20  #: that a run can be asked to have
LONGEST_TEXT = 1000  #: characters to look for
_FILTERS = ("state", "chain", "task", "tag", "source", "since", "until", "target", "key", "text")


def blueprint(service: Service) -> Blueprint:
    """Return the routes under `/api/runs`."""
    routes = Blueprint("runs", __name__)
    books = service.books
    places = threading.BoundedSemaphore(STREAMS)

    @routes.get("/api/runs")
    def runs() -> Response:
        given = values.options((*_FILTERS, "limit", "page"))
        size = values.number(given, "limit", 50, least=1, most=1000)
        page = books.list(_filter(given), size, given.get("page"))
        return answer({"runs": [run_document(one) for one in page.rows], "next_page": page.next})

    @routes.get("/api/runs/<run_id>")
    def one(run_id: str) -> Response:
        values.options(())
        told = tell(books, books.run(run_id).id)
        steps = [step.to_json() for step in told.steps]
        return answer(run_document(told.run) | {"steps": steps, "attempts": [one.to_json() for one in told.attempts]})

    @routes.get("/api/runs/<run_id>/events")
    def events(run_id: str) -> Response:
        given = values.options(("after", "limit"))
        after = values.number(given, "after", 0, most=10**15)
        limit = values.number(given, "limit", 1000, least=1, most=10_000)
        if "text/event-stream" in request.headers.get("Accept", ""):
            return _stream(service, places, run_id, _last_seen(after))
        return answer({"events": [one.to_json() for one in books.events(run_id, after, limit)]})

    @routes.get("/api/runs/<run_id>/logs")
    def logs(run_id: str) -> Response:
        values.options(())
        return answer({"logs": [_log(run_id, step, found) for step, found in _all_logs(service, run_id)]})

    @routes.get("/api/runs/<run_id>/logs/<stream>")
    def log(run_id: str, stream: str) -> Response:
        given = values.options(("attempt",))
        if stream not in ("stdout", "stderr"):
            raise errors.UsageError(f"there is no log `{stream[:100]}`", hint="there is `stdout` and `stderr`")
        for _, found in _all_logs(service, run_id):
            if found.attempt == given.get("attempt"):
                text = found.stdout if stream == "stdout" else found.stderr
                return Response(text, mimetype="text/plain")
        raise errors.TargetNotFound(
            f"the run `{run_id}` has no log of this attempt", hint=f"GET /api/runs/{run_id}/logs lists them"
        )

    @routes.post("/api/runs/<run_id>/cancel")
    def cancel(run_id: str) -> Response:
        values.options(())
        values.body(())
        run = books.run(run_id)
        waiting = run.state is RunState.QUEUED
        told = "it was canceled before it began" if waiting else None
        run = books.advance(run_id, RunState.CANCELED if waiting else RunState.CANCELING, at=utc_now(), error=told)
        service.supervisor.wake()
        return answer(run_document(run))

    @routes.post("/api/runs/<run_id>/rerun")
    def rerun(run_id: str) -> Response:
        values.options(())
        failed = values.yes_or_no(values.body(("failed",)), "failed")
        service.check_open()
        told = tell(books, books.run(run_id).id)
        run = submit_again(books, told, failed=failed, most_waiting=service.settings.serve.waiting)
        service.supervisor.wake()
        return answer(run_document(run))

    return routes


def _filter(given: dict[str, str]) -> Filter:
    """Return what is asked for; texts that no run can have are refused, and those that no database bears."""
    values.check(given, "chain", lambda text: ChainName.parse(text).path == text, "name it as `<type>/<name>_chain`")
    values.check(given, "target", lambda text: Address.parse(text).path == text, "`chains/<type>/<chain>/<Task>/<key>`")
    values.check(given, "key", is_key, "a key has 32 hex digits")
    values.check(given, "source", str.isidentifier, "name it as the runs do: `cli`, `http`")
    values.check(given, "text", lambda text: len(text) <= LONGEST_TEXT, f"give up to {LONGEST_TEXT} characters")
    tags = {}
    wanted = request.args.getlist("tag")
    if len(wanted) > MOST_TAGS:
        values.refuse("tag", f"{len(wanted)} tags are too many", f"give up to {MOST_TAGS}")
    for text in wanted:
        name, colon, value = text.partition(":")
        if not (name and colon):
            values.refuse("tag", f"`{text[:100]}` is no tag", "give it as NAME:VALUE")
        tags[name] = value
    return Filter(
        states=_states(given.get("state")),
        chain=given.get("chain"),
        task=given.get("task"),
        tags=tags,
        source=given.get("source"),
        since=values.moment(given, "since"),
        until=values.moment(given, "until"),
        path=given.get("target"),
        key=given.get("key"),
        text=given.get("text"),
    )


def _states(text: str | None) -> tuple[RunState, ...]:
    known = {state.value: state for state in RunState}
    wanted = text.split(",") if text else []
    unknown = [word for word in wanted if word not in known]
    if unknown:
        hint = errors.did_you_mean(unknown[0], known) or "there is " + ", ".join(f"`{name}`" for name in known)
        values.refuse("state", f"no run is ever `{unknown[0][:100]}`", hint)
    return tuple(known[word] for word in wanted)


# Logs


def _all_logs(service: Service, run_id: str) -> Iterator[tuple[Step, Logs]]:
    """Yield what each attempt of a run printed, where it is still kept."""
    told = tell(service.books, service.books.run(run_id).id)
    for step in told.steps:
        if step.path is None or step.status not in ("running", "succeeded", "failed"):
            continue
        seen = set()
        earlier = [one for one in told.attempts if one.ref == step.ref and one.logs]
        tries = [replace(step, status="failed", logs=one.logs) for one in earlier]
        for one in (*tries, step):
            found = logs_of(one)
            if found is not None and found.attempt not in seen:
                seen.add(found.attempt)
                yield step, found


def _log(run_id: str, step: Step, found: Logs) -> dict[str, Any]:
    def url(stream: str) -> str:
        return url_for("runs.log", run_id=run_id, stream=stream, attempt=found.attempt, _external=True)

    return {
        "task": step.task,
        "ref": step.ref,
        "attempt": found.attempt,
        "state": found.state,
        "stdout_url": url("stdout"),
        "stderr_url": url("stderr"),
    }


# Events as they come


def _last_seen(after: int) -> int:
    """Return the number of the last event that the client has, which a browser sends when it comes back."""
    text = request.headers.get("Last-Event-ID", "")
    return max(after, int(text)) if text.isascii() and text.isdecimal() and len(text) < 16 else after


def _stream(service: Service, places: threading.BoundedSemaphore, run_id: str, after: int) -> Response:
    run = service.books.run(run_id)
    if run.state.final and run.events <= after:
        return Response(status=204)  # by which a browser knows that it need not come back
    if not places.acquire(blocking=False):
        raise errors.ServerBusy(f"{STREAMS} streams of events are open already", hint="ask again later, or poll")
    response = Response(_events(service, run_id, after), mimetype="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(places.release)
    return response


def _events(service: Service, run_id: str, after: int) -> Iterator[str]:
    """Yield a run's events as they come, until its end or for a while; see
    https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    yield "retry: 1000\n\n"
    ends_at = time.monotonic() + STREAM_S
    while time.monotonic() < ends_at and not service.supervisor.draining:
        state = service.books.run(run_id).state  # before the events: of a run that has ended they are all there
        found = service.books.events(run_id, after, 1000)
        for one in found:
            after = one.number
            yield f"id: {one.number}\nevent: {one.kind}\ndata: {json.dumps(one.to_json())}\n\n"
        if state.final and len(found) < 1000:
            yield f"event: end\ndata: {json.dumps({'state': state.value})}\n\n"
            return
        if not found:
            time.sleep(LOOK_S)
            yield ": waiting\n\n"
