"""What cannot be read is refused in the one shape, by whatever part of the server notices it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import pytest
from nectar_server import NectarServer
from web_answers import check_headers, check_refusal, check_well, parsed, raw_exchange, request_bytes, run_ids

TASK = "/api/chains/web/echo_chain/EchoTask"
DEEP = 100_000
LIMIT = 1 << 20

BODIES = {
    "lists 100,000 deep": b'{"value": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "objects 100,000 deep": b'{"value":' * DEEP + b"1" + b"}" * DEEP,
    "open lists 100,000 deep": b"[" * DEEP,
    "lists 51 deep": b'{"value": ' + b"[" * 51 + b"]" * 51 + b"}",
    "NaN": b'{"value": NaN}',
    "Infinity": b'{"value": -Infinity}',
    "1e999": b'{"value": 1e999}',
    "-1e999 deep": b'{"value": [{"a": -1e999}]}',
    "5,000 digits": b'{"value": ' + b"7" * 5000 + b"}",
    "a lone high surrogate": b'{"value": "\\ud800"}',
    "a lone low surrogate": b'{"value": ["x\\udfffy"]}',
    "a lone surrogate as a name": b'{"\\udc00": "x"}',
    "surrogates in UTF-8": b'{"value": "\xed\xa0\x80"}',
    "duplicate keys": b'{"value": "1", "value": "2"}',
    "duplicate keys, one escaped": b'{"value": "1", "v\\u0061lue": "1"}',
    "duplicate keys, deep": b'{"value": [{"a": 1, "a": 2}]}',
    "null": b"null",
    "null as a value": b'{"value": null}',
    "UTF-16": '{"value": "x"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"value": "x"}'.encode("utf-16-le"),
    "UTF-32": '{"value": "x"}'.encode("utf-32"),
    "UTF-8 with a mark": b'\xef\xbb\xbf{"value": "x"}',
    "Latin-1": b'{"value": "\xe9"}',
    "overlong UTF-8": b'{"value": "\xc0\xae"}',
    "a list": b'["value"]',
    "a text": b'"value"',
    "a number": b"1",
    "true": b"true",
    "single quotes": b"{'value': 'x'}",
    "a comma too many": b'{"value": "x",}',
    "a comment": b'{"value": "x"} // no',
    "two objects": b'{"value": "x"}{"value": "x"}',
    "half of one": b'{"value": "x"',
    "a control character": b'{"value": "\n"}',
    "NUL": b"\0",
    "white space": b"  \r\n ",
    "YAML": b"value: x",
    "a form": b"value=x",
    "garbage": bytes(range(256)),
}


@pytest.fixture
def runs_before(server: NectarServer) -> Iterator[None]:
    """Check that a test began no run."""
    before = run_ids(server)
    yield
    assert run_ids(server) == before


@pytest.mark.usefixtures("runs_before")
@pytest.mark.parametrize("kind", BODIES)
def test_what_is_not_one_json_object_is_400(server: NectarServer, kind: str) -> None:
    for path in (TASK, "/api/chains/web/EchoTask"):
        document = check_refusal(server.ask("POST", path, BODIES[kind], {"Content-Type": "application/json"}), 400)
        assert document["hint"] or document["errors"][0]["hint"], document
    run_id = server.get("/api/runs").data["runs"][0]["id"]
    for verb in ("cancel", "rerun"):
        reply = server.ask("POST", f"/api/runs/{run_id}/{verb}", BODIES[kind], {"Content-Type": "application/json"})
        check_refusal(reply, 400)


def test_json_as_any_library_writes_it_is_read(server: NectarServer) -> None:
    for text in ('{"value":"\\u00e9\\ud83c\\udf89"}', '{"value":"é🎉"}', ' {"value"\n:\t"é🎉"}\r\n'):
        for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON"):
            reply = server.ask("POST", TASK, text.encode("utf-8"), {"Content-Type": kind})
            assert reply.status == 200 and reply.data["target"] == server.post(TASK, value="é🎉").data["target"]
    assert server.ask("POST", TASK, b"", {"Content-Type": "application/json"}).status == 200
    chunked = request_bytes(
        "POST", TASK, transfer_encoding="chunked", content_type="application/json", connection="close"
    )
    (reply,) = raw_exchange(server, chunked + b'7\r\n{"value\r\n8\r\n": "x1"}\r\n0\r\n\r\n')
    assert reply.status == 200 and reply.data["target"] == server.post(TASK, value="x1").data["target"]


def json_of_size(size: int) -> bytes:
    """Return a JSON object of so many bytes."""
    return b'{"no_such_parameter": "' + b"x" * (size - 25) + b'"}'


@pytest.mark.usefixtures("runs_before")
def test_a_body_of_1_mib_is_read_and_a_byte_more_is_413(server: NectarServer) -> None:
    for size in (LIMIT - 1, LIMIT):
        body = json_of_size(size)
        assert len(body) == size
        check_refusal(server.ask("POST", TASK, body, {"Content-Type": "application/json"}), 400)
    for size in (LIMIT + 1, LIMIT + 2, 2 * LIMIT):
        reply = server.ask("POST", TASK, json_of_size(size), {"Content-Type": "application/json"})
        document = check_refusal(reply, 413, code="body-too-large")
        assert "1 MiB" in document["hint"]


@pytest.mark.usefixtures("runs_before")
def test_50_mb_are_413(server: NectarServer) -> None:
    body = json_of_size(50_000_000)
    for path in (TASK, "/api/runs/x/rerun", "/no/such/route"):
        for _ in range(3):  # the client sends all of it before it looks for an answer
            reply = server.ask("POST", path, body, {"Content-Type": "application/json"})
            check_refusal(reply, 413, code="body-too-large")


@pytest.mark.usefixtures("runs_before")
def test_50_mb_in_chunks_or_only_announced_are_413(server: NectarServer) -> None:
    chunked = request_bytes("POST", TASK, transfer_encoding="chunked", content_type="application/json")
    block = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    (reply,) = raw_exchange(server, [chunked, *[block] * 800, b"0\r\n\r\n"])
    check_refusal(reply, 413)
    announced = request_bytes("POST", TASK, content_length="50000000", content_type="application/json")
    (reply,) = raw_exchange(server, announced)
    check_refusal(reply, 413)
    # A client that asks first sends nothing of it.
    (reply,) = raw_exchange(server, announced.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    check_refusal(reply, 413)


def test_a_client_that_asks_before_it_sends_is_answered(server: NectarServer) -> None:
    body = b'{"value": "x1"}'
    head = request_bytes("POST", TASK, expect="100-continue", content_type="application/json", content_length="15")
    with socket.create_connection((server.host, server.port), 30) as connection:
        connection.sendall(head)
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    nothing = request_bytes("POST", TASK, expect="100-continue")
    replies = raw_exchange(server, nothing + request_bytes("GET", "/healthz", connection="close"))
    assert [reply.status for reply in replies] == [200, 200]


@pytest.mark.stress
def test_a_client_that_never_ends_its_refused_body_is_cut_off(server: NectarServer) -> None:
    block, sent = b"x" * (1 << 20), 0
    with socket.create_connection((server.host, server.port), 30) as connection:
        connection.sendall(request_bytes("POST", TASK, content_length="1" + "0" * 15, content_type="application/json"))
        try:
            while sent < 400 << 20:
                connection.sendall(block)
                sent += len(block)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert sent < 400 << 20
    check_well(server)


#: requests that waitress itself refuses, or has to
UNREADABLE: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "no request": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400,)),
    "no version": (b"GET /\r\nHost: localhost\r\n\r\n", (200, 400)),
    "another version": (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", (200, 400, 505)),
    "a version of letters": (b"GET / HTTP/x.y\r\nHost: localhost\r\n\r\n", (400,)),
    "words missing": (b"GET\r\nHost: localhost\r\n\r\n", (400,)),
    "words too many": (b"GET / now HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    "a small method": (b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    "a bracket in the method": (b"G(T / HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    "a bare LF": (b"GET / HTTP/1.1\nHost: localhost\r\n\r\n", (400,)),
    "a bare CR": (b"GET / HTTP/1.1\r\nHost: local\rhost\r\n\r\n", (400,)),
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", (400,)),
    "no colon": (b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n", (400,)),
    "a folded first header": (b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n", (400,)),
    "NUL in a header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: a\0b\r\n\r\n", (400,)),
    "NUL in a header's name": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX\0A: a\r\n\r\n", (400,)),
    "an address that opens a bracket": (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    "an address with a bad bracket": (b"GET http://[x]/ HTTP/1.1\r\nHost: localhost\r\n\r\n", (200, 400)),
    "an address beyond ASCII": (b"GET http://\xe2\x84\xaa/ HTTP/1.1\r\nHost: localhost\r\n\r\n", (200, 400)),
    "a length of letters": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", (400,)),
    "a length below zero": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", (400,)),
    "a length with a sign": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\nx", (400,)),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", (400,)),
    "an empty length": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: \r\n\r\n", (400,)),
    "a length of 20 digits": (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        (413,),
    ),
    "a length of 5,000 digits": (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        (400, 413),
    ),
    "an unknown coding": (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", (501,)),
    "two codings": (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", (501,)),
    "a bad chunk": (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
        (400,),
    ),
    "a chunk below zero": (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
        (400,),
    ),
    "a chunk without its end": (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
        (400,),
    ),
    "a header of 100 KB": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n", (431,)),
    "10,000 headers": (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: a\r\n" * 10_000 + b"\r\n", (431,)),
    "an address of 100 KB": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", (431,)),
    "headers of 1 MB without an end": (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: a\r\n" * 125_000, (431,)),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_is_no_request_is_refused_in_the_same_shape(server: NectarServer, kind: str) -> None:
    request, statuses = UNREADABLE[kind]
    replies = raw_exchange(server, request)
    assert replies, "closed without an answer"
    for reply in replies[:1]:
        if reply.status == 200:
            assert 200 in statuses
        else:
            document = check_refusal(reply, *statuses)
            expected = {400: "bad-request", 413: "body-too-large", 431: "headers-too-large", 501: "not-implemented"}
            assert document["code"] in (expected.get(reply.status), "usage"), document
    check_well(server)


@pytest.mark.parametrize("address", ["http://localhost", "http://localhost?", "?", "#x", "/", "//"])
def test_an_address_without_a_path_is_that_of_the_index(server: NectarServer, address: str) -> None:
    (reply,) = raw_exchange(server, request_bytes("GET", address, connection="close"))
    assert reply.status == 200 and reply.headers["Content-Type"] == "application/json"
    assert reply.data["chains"] == "http://localhost/api/chains"


def test_each_refusal_has_an_id_of_its_own(server: NectarServer) -> None:
    request = b"\r\nGET / now HTTP/1.1\r\n\r\n"
    ids = {raw_exchange(server, request)[0].headers["X-Request-Id"] for _ in range(10)}
    ids |= {server.get("/no/such/route").json["request_id"] for _ in range(10)}
    assert len(ids) == 20 and all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)


def test_requests_one_after_the_other_in_one_connection_are_each_answered(server: NectarServer) -> None:
    request = request_bytes("GET", "/no/such/route") + request_bytes("POST", TASK, b"[]") + request_bytes("GET", "/")
    last = request_bytes("GET", "/healthz", connection="close")
    replies = raw_exchange(server, request + last)
    assert [reply.status for reply in replies] == [404, 400, 200, 200]


def test_a_refused_body_is_not_taken_for_a_request(server: NectarServer) -> None:
    smuggled = request_bytes("GET", "/smuggled")
    for status, headers in (
        (415, {"content_type": "text/plain"}),
        (403, {"content_type": "application/json", "origin": "null"}),
        (400, {"content_type": "application/json", "host": "evil.example"}),
        (404, {"content_type": "application/json"}),
    ):
        path = "/no/such/route" if status == 404 else TASK
        request = request_bytes("POST", path, smuggled, **headers)
        replies = raw_exchange(server, request + request_bytes("GET", "/healthz", connection="close"))
        assert [reply.status for reply in replies] == [status, 200]


def test_length_and_chunks_together_do_not_hide_a_request(server: NectarServer) -> None:
    smuggled = request_bytes("GET", "/healthz")
    head = request_bytes("POST", TASK, content_length="4", transfer_encoding="chunked", content_type="application/json")
    replies = raw_exchange(server, head + b"0\r\n\r\n" + smuggled)
    # Either is right: refuse both headers, or read the chunks alone and close (RFC 9112, 6.1).
    assert [reply.status for reply in replies] in ([400], [200, 200], [200])


def test_a_head_has_no_body_and_the_headers_of_a_get(server: NectarServer) -> None:
    for path in ("/api/chains", "/no/such/route", "/api/runs?limit=x"):
        head, get = server.ask("HEAD", path), server.get(path)
        assert head.status == get.status and not head.raw
        check_headers(head)
        assert head.headers["Content-Length"] == str(len(get.raw))


def test_a_client_that_leaves_in_the_middle_harms_nobody(server: NectarServer) -> None:
    request = request_bytes("POST", TASK, b'{"value": "left alone"}')
    for length in range(0, len(request), 7):
        with socket.create_connection((server.host, server.port), 30) as connection:
            connection.sendall(request[:length])
    with socket.create_connection((server.host, server.port), 30) as connection:
        connection.sendall(request_bytes("GET", "/api/chains"))  # and does not wait for the answer
    check_well(server)


def test_answers_are_json_that_any_parser_reads(server: NectarServer) -> None:
    def no_constant(text: str) -> None:
        raise AssertionError(text)

    for path in ("/", "/healthz", "/api/chains", "/api/runs", "/api/openapi.json", "/no/such/route"):
        assert json.loads(server.get(path).raw.decode("ascii"), parse_constant=no_constant)
    assert parsed(b"") == []
