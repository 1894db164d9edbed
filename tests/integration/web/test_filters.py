"""What a request asks for beside an address is one of the options that there are, and can be had."""

from __future__ import annotations

import base64
import urllib.parse

import pytest
from nectar_server import NectarServer
from web_answers import check_refusal, check_well, run_ids

TASK = "/api/chains/web/echo_chain/EchoTask"


@pytest.fixture(scope="module")
def target(server: NectarServer) -> str:
    """The path of a target that is complete."""
    return str(server.post(TASK).data["target"])


FILTERS = (
    ("limit=1000000000", "limit"),
    ("limit=1001", "limit"),
    ("limit=0", "limit"),
    ("limit=-1", "limit"),
    ("limit=1e3", "limit"),
    ("limit=0x10", "limit"),
    ("limit=%D9%A1", "limit"),  # a digit of another script
    ("limit=", "limit"),
    ("limit=1;DROP%20TABLE%20runs", "limit"),
    ("limit=10&limit=20", "limit"),
    ("offset=5", "offset"),
    ("page_size=10", "page_size"),
    ("order=created_at", "order"),
    ("sort=id%20desc", "sort"),
    ("where=1=1", "where"),
    ("state=NO_SUCH_STATE", "state"),
    ("state=SUCCESS%27%20OR%20%271%27=%271", "state"),
    ("state=success", "state"),
    ("state=SUCCESS,", "state"),
    ("since=yesterday", "since"),
    ("since=2026-11-20%27--", "since"),
    ("until=99999-01-01", "until"),
    ("tag=noColon", "tag"),
    ("tag=:value", "tag"),
    ("state__ne=SUCCESS", "state__ne"),
    ("__class__=x", "__class__"),
    ("endpoint=http://evil.example", "endpoint"),
    ("bucket=other", "bucket"),
    ("chain=%27%20OR%201=1%20--", "chain"),
    ("chain=etl/x%27;DROP%20TABLE%20runs;--", "chain"),
    ("chain=..%2f..%2fetc", "chain"),
    ("chain=%25", "chain"),
    ("key=%27%20OR%20%27%27=%27", "key"),
    ("key=0", "key"),
    ("target=%27%20OR%201=1", "target"),
    ("target=..%2f..", "target"),
    ("source=%27%20OR%201=1", "source"),
)


@pytest.mark.parametrize(("query", "field"), FILTERS)
def test_a_filter_that_is_none_is_400(server: NectarServer, query: str, field: str) -> None:
    document = check_refusal(server.get(f"/api/runs?{query}"), 400, code="invalid-parameters")
    assert [one["field"] for one in document["errors"]] == [field]


SQL = (
    "' OR 1=1 --",
    "%' OR '1'='1",
    "'; DROP TABLE runs; --",
    "x\0y",
    "\\",
    '"',
    "%",
    "_",
    "x" * 60_000,
    "\ud7ff\uffff",
)


@pytest.mark.parametrize("text", SQL, ids=lambda text: ascii(text[:20]))
def test_sql_in_a_search_finds_nothing_and_changes_nothing(server: NectarServer, text: str) -> None:
    before = run_ids(server)
    assert before
    quoted = urllib.parse.quote(text, safe="")
    for query in (f"text={quoted}", f"task={quoted}", f"tag=name:{quoted}", f"tag={quoted}:value"):
        reply = server.get(f"/api/runs?{query}")
        if reply.status == 200:
            found = [run for run in reply.data["runs"] if not query.startswith("text=") or text not in str(run)]
            assert not found or text == "\\", (query, found)  # a backslash is in some values, where it is doubled
        else:
            check_refusal(reply, 400)
    assert run_ids(server) == before


def test_many_filters_are_400_and_not_the_databases_trouble(server: NectarServer) -> None:
    for query in ("&".join(f"tag=a{number}:b" for number in range(3000)), "state=" + ",".join(["SUCCESS"] * 5000)):
        reply = server.get(f"/api/runs?{query}")
        assert reply.status in (200, 400), reply
        assert reply.status == 200 or check_refusal(reply, 400)


def test_a_page_that_was_given_for_other_runs_is_400(server: NectarServer) -> None:
    server.run("web/echo_chain/EchoTask", {"value": "for a second page"})
    page = server.get("/api/runs?limit=1").data["next_page"]
    assert server.get(f"/api/runs?limit=1&page={page}").status == 200
    raw = base64.urlsafe_b64decode(page + "=" * (-len(page) % 4))
    forged = base64.urlsafe_b64encode(raw[:16] + b'[99999999999999999,"x"]').decode().rstrip("=")
    flipped = base64.urlsafe_b64encode(bytes([raw[0] ^ 1]) + raw[1:]).decode().rstrip("=")
    for text in ("", "x", page[:-2], forged, flipped, page + "A", "%00", "%ff", "é", "' OR 1=1 --", "A" * 50_000):
        if text != "%ff":
            text = urllib.parse.quote(text, safe="%")
        check_refusal(server.get(f"/api/runs?limit=1&page={text}"), 400)
    check_refusal(server.get(f"/api/runs?limit=1&state=SUCCESS&page={page}"), 400)


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=x", "after=1e3", "after=9999999999999999", "limit=0", "limit=10001", "limit=1e9", "x=1"],
)
def test_a_place_in_the_events_that_is_none_is_400(server: NectarServer, query: str) -> None:
    run_id = server.get("/api/runs").data["runs"][0]["id"]
    check_refusal(server.get(f"/api/runs/{run_id}/events?{query}"), 400)
    headers = {"Accept": "text/event-stream"}
    check_refusal(server.ask("GET", f"/api/runs/{run_id}/events?{query}", headers=headers), 400)


@pytest.mark.parametrize("query", ["rows=0", "rows=1001", "rows=1000000000", "rows=x", "lines=5", "path=/etc/passwd"])
def test_a_preview_of_so_many_rows_is_400(server: NectarServer, target: str, query: str) -> None:
    check_refusal(server.get(f"/api/targets/{target}/preview/out.txt?{query}"), 400)
    check_refusal(server.get(f"/api/targets/{target}/history?{query}"), 400)
    check_refusal(server.get(f"/api/targets/{target}?{query}"), 400)
    check_refusal(server.get(f"/api/targets/{target}/files/out.txt?{query}"), 400)


def test_every_route_refuses_an_option_that_it_does_not_have(server: NectarServer, target: str) -> None:
    run_id = server.get("/api/runs").data["runs"][-1]["id"]
    gets = ("/", "/metrics", "/api/chains", "/api/chains/web", "/api/chains/web/echo_chain", TASK, "/api/openapi.json")
    gets += (f"/api/runs/{run_id}", f"/api/runs/{run_id}/logs", f"/api/runs/{run_id}/events", "/api/chainstatus")
    for path in gets:
        for name in ("endpoint_url", "bucket", "debug", "callback"):
            check_refusal(server.get(f"{path}?{name}=http://evil.example"), 400)
    for verb in ("cancel", "rerun"):
        check_refusal(server.post(f"/api/runs/{run_id}/{verb}?bucket=x"), 400)
    check_refusal(server.post(f"/api/runs/{run_id}/rerun", {"bucket": "x"}), 400)
    check_refusal(server.post(f"/api/runs/{run_id}/cancel", {"bucket": "x"}), 400)
    for value in (1, "true", None, [], {}):
        check_refusal(server.post(f"/api/runs/{run_id}/rerun", {"failed": value}), 400)


def test_where_targets_lie_cannot_be_said_by_a_request(server: NectarServer) -> None:
    before = run_ids(server)
    for name in ("endpoint", "endpoint_url", "bucket", "store", "region", "AWS_ENDPOINT_URL", "PROJECT_BUCKET", "ENV"):
        check_refusal(server.post(f"{TASK}?{name}=http://evil.example"), 400, code="invalid-parameters")
        check_refusal(server.post(TASK, {name: "http://evil.example"}), 400, code="invalid-parameters")
    for name in ("X-Amz-Endpoint", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Original-URL"):
        reply = server.ask("POST", TASK, {}, {name: "host=evil.example"})
        assert reply.status == 200 and reply.data["status_url"].startswith(f"{server.url}/"), reply
    assert run_ids(server) == before


def test_the_server_is_well_after_all_this(server: NectarServer) -> None:
    check_well(server)
