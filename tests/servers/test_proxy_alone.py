"""What can be said of the fault proxy without a server: whom its plans hit, and what passing costs."""

from __future__ import annotations

import http.client
import io
import os
import socket
import time
from pathlib import Path
from threading import Thread

import pytest
from s3_faults import RESET, Kind, Plan, Request, Rule, kind_of
from s3_proxy import proxy_process

MIB = 1024**2


def test_chance_is_the_same_for_the_same_seed() -> None:
    def outcome(seed: int) -> list[bool]:
        plan = Plan.from_json(Plan((Rule(RESET, chance=0.3, methods=("GET",)),), seed).to_json())
        return [bool(plan(Request(number, "GET", "/b/k", Kind.KEY, {}))) for number in range(200)]

    assert outcome(7) == outcome(7) != outcome(8)
    assert 30 < sum(outcome(7)) < 90


def test_a_rule_counts_only_what_it_fits() -> None:
    plan = Plan((Rule(RESET, path="/b/x", after=1, times=1),))
    hit = [bool(plan(Request(0, "GET", path, Kind.KEY, {}))) for path in ("/b/y", "/b/x", "/b/x", "/b/y", "/b/x")]
    assert hit == [False, False, True, False, False]


@pytest.mark.parametrize(("method", "path", "kind"), [
    ("GET", "/", Kind.SERVICE),
    ("PUT", "/b", Kind.BUCKET),
    ("GET", "/b?versioning", Kind.BUCKET),
    ("GET", "/b?list-type=2&prefix=a%2Fb", Kind.LIST),
    ("GET", "/b/", Kind.LIST),
    ("POST", "/b?delete", Kind.DELETE_MANY),
    ("GET", "/b?uploads", Kind.LIST_UPLOADS),
    ("PUT", "/b/k/l", Kind.KEY),
    ("GET", "/b/k?X-Amz-Signature=1", Kind.KEY),
    ("PUT", "/b/k?tagging", Kind.KEY_SETTING),
    ("POST", "/b/k?uploads", Kind.MULTIPART_CREATE),
    ("PUT", "/b/k?partNumber=1&uploadId=u", Kind.MULTIPART_PART),
    ("POST", "/b/k?uploadId=u", Kind.MULTIPART_COMPLETE),
    ("DELETE", "/b/k?uploadId=u", Kind.MULTIPART_ABORT),
    ("GET", "/b/k?uploadId=u", Kind.MULTIPART_LIST),
])  # fmt: skip
def test_a_request_is_known_by_its_method_and_path(method: str, path: str, kind: Kind) -> None:
    assert kind_of(method, path) is kind


class Sink:
    """A server that swallows and pours as fast as a socket can, one PUT and one GET of `size` bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.swallowed = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = Thread(target=self._serve)

    def __enter__(self) -> Sink:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._thread.join(60)
        self._listening.close()

    def _serve(self) -> None:
        peer, _ = self._listening.accept()
        piece = bytearray(MIB)
        with peer, peer.makefile("rb") as reading:
            for _ in range(2):
                method = reading.readline().split()[0]
                while reading.readline() != b"\r\n":
                    pass
                if method == b"PUT":
                    while self.swallowed < self.size:
                        self.swallowed += reading.readinto(memoryview(piece)[: self.size - self.swallowed])
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                else:
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.size)
                    for _ in range(self.size // MIB):
                        peer.sendall(piece)


def cpu_s(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def test_256_mib_pass_each_way_at_150_mb_a_second_of_its_time_and_are_not_held() -> None:
    size = 256 * MIB
    with Sink(size) as sink, proxy_process(sink.endpoint) as proxy:
        connection = http.client.HTTPConnection(proxy.endpoint.removeprefix("http://"), timeout=60, blocksize=MIB)
        before, idle_bytes = cpu_s(proxy.pid), peak_bytes(proxy.pid)
        began = time.monotonic()
        connection.request("PUT", "/b/k", body=io.BytesIO(bytes(size)), headers={"Content-Length": str(size)})
        connection.getresponse().read()
        up_s, up_cpu_s = time.monotonic() - began, cpu_s(proxy.pid) - before
        before, began = cpu_s(proxy.pid), time.monotonic()
        connection.request("GET", "/b/k")
        answer = connection.getresponse()
        taken = 0
        while piece := answer.read(MIB):
            taken += len(piece)
        down_s, down_cpu_s = time.monotonic() - began, cpu_s(proxy.pid) - before
        connection.close()
        grown = peak_bytes(proxy.pid) - idle_bytes
    assert sink.swallowed == taken == size
    print(f"up {size / 1e6 / up_s:.0f} MB/s, down {size / 1e6 / down_s:.0f} MB/s, {grown / 1e6:.1f} MB more memory")
    assert size / 1e6 / up_cpu_s > 150 and size / 1e6 / down_cpu_s > 150  # neighbours have no say in that
    assert grown < 16 * MIB
