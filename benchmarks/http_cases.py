"""Say what is measured over HTTP, as `cases` does of all else. A case's `tasks` are its requests."""

from __future__ import annotations

from cases import Case, Figure, Group, Ratio

RUNS = 10_000  #: in the books
POSTS, POLLS, LISTS = 400, 2_000, 200
FILLED = "http-books"


def http_groups() -> list[Group]:
    """Return what is measured over HTTP: two threads that ask through connections which stay open."""
    return [_posts(), _polls(), _lists()]


def _posts() -> Group:
    return Group(
        "HTTP: POST to a task, 2 threads",
        (
            Case("http post", "http", "post", POSTS, durability="group"),
            Case("http post complete", "http", "post-complete", POSTS, durability="group"),
            Case("http bare post", "http", "bare-post", POSTS),
        ),
        (
            Ratio("a run queued: a closure of 4, its chain imported; a bare route", "http post", "http bare post"),
            Ratio("a task that is complete; a bare route", "http post complete", "http bare post"),
        ),
        (
            Figure("a run queued, half are faster than", "p50", ("http post",)),
            Figure("a run queued, of 100 all but one are faster than", "p99", ("http post",), 50),
            Figure("a run queued", "rate", ("http post",)),
            Figure("a run queued", "cpu_ms", ("http post",)),
            Figure("a task that is complete, half are faster than", "p50", ("http post complete",)),
            Figure("a task that is complete, all but one of 100", "p99", ("http post complete",), 50),
            Figure("a task that is complete", "rate", ("http post complete",)),
            Figure("a bare route, all but one of 100", "p99", ("http bare post",)),
            Figure("a bare route", "rate", ("http bare post",)),
        ),
    )


def _polls() -> Group:
    return Group(
        "HTTP: status polls, 2 threads",
        (
            Case("http status done", "http", "status-done", POLLS),
            Case("http status running", "http", "status-running", POLLS),
            Case("http bare get", "http", "bare-get", POLLS),
        ),
        (
            Ratio("of a target that is there; a bare route", "http status done", "http bare get"),
            Ratio("of one that is being made; a bare route", "http status running", "http bare get"),
        ),
        (
            Figure("of a target that is there", "rate", ("http status done",), 500, 1_500),
            Figure("of a target that is there, all but one of 100", "p99", ("http status done",)),
            Figure("of a target that is there", "cpu_ms", ("http status done",)),
            Figure("of one that is being made", "rate", ("http status running",), 500, 1_500),
            Figure("of one that is being made, all but one of 100", "p99", ("http status running",)),
            Figure("a bare route", "rate", ("http bare get",)),
            Figure("a bare route, all but one of 100", "p99", ("http bare get",)),
            Figure("a bare route", "cpu_ms", ("http bare get",)),
        ),
    )


def _lists() -> Group:
    return Group(
        f"HTTP: GET /api/runs, 50 of {RUNS:,}, 2 threads",
        (
            Case("http runs", "http", "runs", LISTS, shared=FILLED),
            Case("http bare get few", "http", "bare-get", LISTS),
        ),
        (Ratio("the newest 50; a bare route", "http runs", "http bare get few"),),
        (
            Figure("the newest 50, half are faster than", "p50", ("http runs",), 50),
            Figure("the newest 50, all but one of 100", "p99", ("http runs",)),
            Figure("the newest 50", "cpu_ms", ("http runs",)),
        ),
        (Case("http books", "http", "fill", RUNS, shared=FILLED),),
    )
