"""Make requests of requests: mutated byte by byte, word by word and line by line, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from web_answers import request_bytes

#: what parsers have stumbled over
WORDS: tuple[bytes, ...] = (
    *(
        b"\0",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"%",
        b"%00",
        b"%2e%2e%2f",
        b"%252e",
        b"../",
        b"//",
        b"\\",
        b";",
    ),
    *(b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\xae", b"\xe2\x80\xae", b"\xf0\x9f\x8e\x89", b"{", b"[" * 1000, b'"', b"'"),
    *(b"null", b"NaN", b"1e999", b"-1", b"0", b"9" * 400, b"true", b"{}", b"[]", b'{"a":1,"a":2}', b"__class__"),
    *(
        b"$(id)",
        b"{{7*7}}",
        b"' OR 1=1 --",
        b"<script>",
        b"%s%n",
        b";",
        b"?",
        b"&",
        b"=",
        b"#",
        b"@",
        b"*",
        b"http://[",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Host: evil.example\r\n", b"Origin: null\r\n"),
    *(b"Expect: 100-continue\r\n", b"Connection: keep-alive\r\n", b"Accept: text/event-stream\r\n", b"X: \xff\r\n"),
    *(b"Content-Type: text/plain\r\n", b"Idempotency-Key: \x7f\r\n", b"Last-Event-ID: -1\r\n", b"Range: bytes=0-\r\n"),
)
METHODS = (b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"get", b"G\0T")
LONGEST = 200_000  #: bytes of a request

Mutation = Callable[[random.Random, bytes], bytes]


def seeds(run_id: str, target: str) -> list[bytes]:
    """Return good requests for each route, about a run and a target that are there."""
    task, gets = "/api/chains/web/echo_chain/EchoTask", ["/", "/healthz", "/metrics", "/api/chains", "/api/chains/web"]
    gets += ["/api/chains/web/echo_chain", task, "/api/openapi.json", f"/api/chainstatus?chain={target}/out.txt"]
    gets += ["/api/plan/web/echo_chain/KindsTask?count=3&day=2026-01-02", "/api/graph/web/echo_chain/EchoTask?value=a"]
    gets += ["/api/runs", "/api/runs?state=SUCCESS,FAILURE&limit=5&tag=a:b&since=2026-01-01T00:00:00Z&text=x"]
    gets += [f"/api/runs/{run_id}{rest}" for rest in ("", "/events?after=1&limit=2", "/logs", "/logs/stdout?attempt=x")]
    gets += [f"/api/targets/{target}{rest}" for rest in ("", "/files/out.txt", "/preview/out.txt?rows=3", "/history")]
    found = [request_bytes("GET", path, user_agent="fuzz", accept="*/*") for path in gets]
    bodies = (b'{"value": "caf\\u00e9"}', b'{"value": [1, 2.5, {"a": null}]}', b"{}")
    found += [request_bytes("POST", f"{task}?{query}", body) for query in ("", "value=x") for body in bodies]
    found.append(request_bytes("POST", "/api/chains/web/EchoTask", b"{}", idempotency_key="fuzz"))
    kinds = b'{"count": 7, "share": 0.25, "loud": true, "day": "2026-01-02", "table": {"a": 1}, "items": [1, "b"]}'
    found.append(request_bytes("POST", "/api/chains/web/echo_chain/KindsTask", kinds))
    found += [request_bytes("POST", f"/api/runs/{run_id}/{verb}", b"{}") for verb in ("cancel", "rerun")]
    chunked = request_bytes("POST", task, transfer_encoding="chunked", content_type="application/json")
    found.append(chunked + b'e\r\n{"value": "x"}\r\n0\r\n\r\n')
    return found


def mutants(chance: random.Random, good: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Yield so many requests, each one to eight mutations away from a good one."""
    for _ in range(count):
        request = chance.choice(good)
        for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 8))):
            if chance.random() < 0.1:
                request = _spliced(chance, request, chance.choice(good))
            else:
                request = chance.choice(_MUTATIONS)(chance, request)
        yield request[:LONGEST]


def _bit(chance: random.Random, request: bytes) -> bytes:
    at = chance.randrange(len(request) or 1)
    return request[:at] + bytes(byte ^ 1 << chance.randrange(8) for byte in request[at : at + 1]) + request[at + 1 :]


def _byte(chance: random.Random, request: bytes) -> bytes:
    at = chance.randrange(len(request) or 1)
    return request[:at] + bytes([chance.randrange(256)]) + request[at + 1 :]


def _word(chance: random.Random, request: bytes) -> bytes:
    at = chance.randrange(len(request) + 1)
    return request[:at] + chance.choice(WORDS) + request[at + chance.choice((0, 0, 1, 5)) :]


def _word_in_address(chance: random.Random, request: bytes) -> bytes:
    begin, end = request.find(b" ") + 1, request.find(b" HTTP")
    if not 0 < begin < end:
        return request
    at = chance.randrange(begin, end + 1)
    return request[:at] + chance.choice(WORDS) + request[at:]


def _header(chance: random.Random, request: bytes) -> bytes:
    at = request.find(b"\r\n") + 2
    return request[:at] + chance.choice(WORDS) + request[at:]


def _value(chance: random.Random, request: bytes) -> bytes:
    """Put something else in place of what lies between two of the characters that part things."""
    marks = [at for at, byte in enumerate(request) if byte in b'/?&=:", {}[]\r\n']
    if len(marks) < 2:
        return request
    number = chance.randrange(len(marks) - 1)
    return request[: marks[number] + 1] + chance.choice(WORDS) + request[marks[number + 1] :]


def _cut(chance: random.Random, request: bytes) -> bytes:
    begin, end = sorted(chance.randrange(len(request) + 1) for _ in range(2))
    return request[:begin] + request[end:] or b"\r\n\r\n"


def _shortened(chance: random.Random, request: bytes) -> bytes:
    return request[: chance.randrange(len(request) + 1)] or b"\r\n\r\n"


def _repeated(chance: random.Random, request: bytes) -> bytes:
    begin, end = sorted(chance.randrange(len(request) + 1) for _ in range(2))
    return request[:end] + request[begin:end] * chance.choice((1, 1, 2, 100)) + request[end:]


def _line_again(chance: random.Random, request: bytes) -> bytes:
    lines = request.split(b"\r\n")
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return b"\r\n".join(lines)


def _method(chance: random.Random, request: bytes) -> bytes:
    return chance.choice(METHODS) + request[request.find(b" ") :]


def _spliced(chance: random.Random, request: bytes, other: bytes) -> bytes:
    return request[: chance.randrange(len(request) + 1)] + other[chance.randrange(len(other) + 1) :]


_MUTATIONS: tuple[Mutation, ...] = (
    *(_bit, _byte, _word, _word, _word_in_address, _word_in_address, _header, _value, _value),
    *(_cut, _shortened, _repeated, _line_again, _method),
)
