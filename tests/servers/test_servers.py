"""The servers that other tests stand on do what those tests take for granted."""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from botocore.exceptions import ClientError
from guard import wait_until
from s3_client import client, make_bucket, reset_bucket
from s3_moto import moto_server, reset_moto
from s3_radosgw import PROGRAMS, Presence, Radosgw, radosgw_is_there

HERE = Path(__file__).parent
RACES, THREADS = 50, 8


@pytest.fixture
def s3(s3_endpoint: str) -> Iterator[Any]:
    made = client(s3_endpoint)
    yield made
    made.close()


@pytest.fixture
def s3_of_radosgw(radosgw: Radosgw) -> Iterator[Any]:
    made = client(radosgw.endpoint)
    yield made
    made.close()


def put(s3: Any, **request: Any) -> int:
    """Return the status of a PUT."""
    try:
        answer = s3.put_object(**request)
    except ClientError as problem:
        answer = problem.response
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


def status_of(url: str) -> int:
    """Return the status of a GET without credentials."""
    try:
        with urllib.request.urlopen(url) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def race(bid: Callable[..., int]) -> tuple[list[int], list[bytes]]:
    """Return the status of each bidder's PUT, all at once, and what each of them put: bytes that no other race has."""
    barrier = Barrier(THREADS)
    bodies = [secrets.token_bytes(16) for _ in range(THREADS)]

    def run(body: bytes) -> int:
        barrier.wait()
        return bid(Body=body)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(run, bodies)), bodies


def test_a_bucket_is_empty_after_a_reset(s3: Any) -> None:
    bucket = make_bucket(s3)
    for name in ("a", "b/c", "b/d e+f"):
        s3.put_object(Bucket=bucket, Key=name, Body=b"x")
    s3.create_multipart_upload(Bucket=bucket, Key="unfinished")

    reset_bucket(s3, bucket)

    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_conditional_writes_are_honoured(s3: Any) -> None:
    bucket = make_bucket(s3)
    assert put(s3, Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*") == 200
    assert put(s3, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*") == 412

    seen = s3.head_object(Bucket=bucket, Key="k")["ETag"].strip('"')
    assert put(s3, Bucket=bucket, Key="k", Body=b"3", IfMatch=seen) == 200
    assert put(s3, Bucket=bucket, Key="k", Body=b"4", IfMatch=seen) == 412
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"3"


def test_moto_forgets_everything_when_told() -> None:
    with moto_server() as endpoint:
        s3 = client(endpoint)
        make_bucket(s3)
        reset_moto(endpoint)
        assert s3.list_buckets()["Buckets"] == []
        s3.close()


START = {
    "moto": """
from s3_moto import moto_server
import os, subprocess
with moto_server() as endpoint:
    children = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout.split()
    parents = dict(zip(map(int, children[::2]), map(int, children[1::2])))
    print(*[pid for pid, up in parents.items() if parents.get(up) == os.getpid()], flush=True)
    input()
""",
    "radosgw": """
from s3_radosgw import radosgw_server
with radosgw_server() as cluster:
    print(*cluster.pids, flush=True)
    input()
""",
    "proxy": """
from s3_proxy import proxy_process
with proxy_process("http://127.0.0.1:9") as proxy:
    print(proxy.pid, flush=True)
    input()
""",
}


@pytest.mark.parametrize("server", START)
def test_a_server_ends_with_the_process_that_started_it_even_by_sigkill(server: str, tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", START[server]],
        cwd=HERE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert starter.stdin is not None and starter.stdout is not None
    with starter:
        pids = [int(one) for one in starter.stdout.readline().split()]
        assert pids and all(map(is_alive, pids))
        starter.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, pids)), f"{server} ended with its parent")
    wait_until(lambda: not any(tmp_path.glob("*/*")), f"nothing of {server} is left")


def test_missing_programs_are_named_by_their_debian_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert set(radosgw_is_there().missing) <= set(PROGRAMS.values())
    absent = Presence(("ceph-mon", "radosgw"))
    assert not absent
    assert absent.hint == "radosgw is not here: apt-get install --no-install-recommends ceph-mon radosgw"
    assert Presence(()) and Presence(()).hint == ""


def test_radosgw_refuses_a_wrong_signature(radosgw: Radosgw) -> None:
    stranger = client(radosgw.endpoint, secret="not the secret")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.list_buckets()
    stranger.close()


def test_radosgw_lets_a_presigned_url_expire(s3_of_radosgw: Any) -> None:
    bucket = make_bucket(s3_of_radosgw)
    s3_of_radosgw.put_object(Bucket=bucket, Key="k", Body=b"x")

    def signed(seconds: int) -> str:
        request = {"Bucket": bucket, "Key": "k"}
        return str(s3_of_radosgw.generate_presigned_url("get_object", Params=request, ExpiresIn=seconds))

    lasting, short = signed(600), signed(1)
    assert status_of(lasting) == 200
    assert status_of(lasting.replace("/k?", "/other?")) == 403
    wait_until(lambda: status_of(short) == 403, "the URL of one second expired")
    assert status_of(lasting) == 200


def test_radosgw_gives_a_conditional_create_one_winner(s3_of_radosgw: Any) -> None:
    bucket = make_bucket(s3_of_radosgw)
    for number in range(RACES):
        key = f"create-{number}"
        ends, bodies = race(partial(put, s3_of_radosgw, Bucket=bucket, Key=key, IfNoneMatch="*"))
        assert ends.count(200) == 1, ends
        assert set(ends) <= {200, 409, 412}, ends
        assert s3_of_radosgw.get_object(Bucket=bucket, Key=key)["Body"].read() == bodies[ends.index(200)]


def test_radosgw_gives_a_conditional_replacement_one_winner(s3_of_radosgw: Any) -> None:
    bucket = make_bucket(s3_of_radosgw)
    s3_of_radosgw.put_object(Bucket=bucket, Key="k", Body=b"first")
    for _ in range(RACES):
        seen = s3_of_radosgw.head_object(Bucket=bucket, Key="k")["ETag"].strip('"')
        ends, bodies = race(partial(put, s3_of_radosgw, Bucket=bucket, Key="k", IfMatch=seen))
        assert ends.count(200) == 1, ends
        # Ceph 16 answers 500 to a bidder that was overtaken while it wrote (ECANCELED inside); nothing of it is kept.
        assert set(ends) <= {200, 409, 412, 500}, ends
        assert s3_of_radosgw.get_object(Bucket=bucket, Key="k")["Body"].read() == bodies[ends.index(200)]


@pytest.mark.parametrize("end", [Radosgw.stop, Radosgw.kill], ids=["stop", "kill"])
def test_radosgw_keeps_what_it_acknowledged_over_a_restart(
    radosgw: Radosgw, s3_of_radosgw: Any, end: Callable[[Radosgw], None]
) -> None:
    bucket = make_bucket(s3_of_radosgw)
    body = os.urandom(5_000_000)
    s3_of_radosgw.put_object(Bucket=bucket, Key="k", Body=body)

    end(radosgw)
    assert radosgw.pids == []
    radosgw.start()

    found = s3_of_radosgw.get_object(Bucket=bucket, Key="k")["Body"].read()
    assert hashlib.sha256(found).digest() == hashlib.sha256(body).digest()
