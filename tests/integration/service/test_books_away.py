"""The books are locked, restarted, away or broken: requests and runs wait, or are told so, and nothing is lost."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from nectar_server import FINAL
from postgres import Postgres
from service_lab import Lab, Server, refused, until

CHAIN = """
class QuickTask(nectar.Task):
    n = luigi.IntParameter()
    def run(self):
        note(f"made {self.n}")
        self.dump(f"{self.n}")


class HeldTask(nectar.Task):
    name = luigi.Parameter()
    def run(self):
        note(f"begun {self.name}")
        wait_for(f"go-{self.name}")
        self.dump(self.name)
"""


@pytest.fixture
def lab(lab: Lab) -> Lab:
    lab.chain(CHAIN)
    return lab


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep everybody else from writing to the books, as another program may."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_while_the_books_are_locked_requests_wait_and_runs_go_on(lab: Lab) -> None:
    server = lab.serve()
    held = server.task("HeldTask", name="a")
    until(lambda: server.run(held["run_id"])["state"] == "RUNNING", "it runs")
    with ThreadPoolExecutor(1) as pool:
        with locked(lab.books_path):
            reply = pool.submit(server.task, "QuickTask", n=1)
            lab.go("go-a")
            until(lambda: lab.targets("HeldTask"), "the run goes on")
            assert server.run(held["run_id"])["state"] == "RUNNING", "who only asks need not wait"
            assert not reply.done()
        assert server.final(reply.result()["run_id"])["state"] == "SUCCESS"
    assert server.final(held["run_id"])["state"] == "SUCCESS"
    assert lab.notes == ["begun a", "made 1"]


def _ask_until_ended(server: Server, acknowledged: dict[int, str], ended: threading.Event, first: int) -> None:
    n = first
    while not ended.is_set():
        with contextlib.suppress(OSError):
            reply = server.try_task("QuickTask", n=n)
            if reply.status == 200:
                acknowledged[n] = reply.data["run_id"]
                n += 2
            else:
                told = refused(reply, 503, "run-store-unreachable")
                assert told["hint"] and reply.headers["Retry-After"]


def test_a_database_that_is_restarted_loses_no_acknowledged_run(
    make_lab: Callable[..., Lab], postgres: Postgres
) -> None:
    lab = make_lab(postgres.new_database())
    lab.chain(CHAIN)
    server = lab.serve("--runs", "2")
    held = server.task("HeldTask", name="a")
    lab.noted("begun a")
    acknowledged: dict[int, str] = {}
    ended = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(_ask_until_ended, server, acknowledged, ended, first) for first in range(2)]
        try:
            until(lambda: len(acknowledged) >= 2, "runs are acknowledged")
            postgres.stop()
            postgres.start()
            until(lambda: len(acknowledged) >= 4, "runs are acknowledged")
            postgres.kill()
            lab.go("go-a")  # which ends while there are no books
            until(lambda: lab.targets("HeldTask"), "the run goes on")
            postgres.start()
            until(lambda: len(acknowledged) >= 6, "runs are acknowledged")
        finally:
            ended.set()
        for one in asking:
            one.result()
    assert server.final(held["run_id"])["state"] == "SUCCESS"
    for n, run_id in acknowledged.items():
        assert server.final(run_id)["state"] == "SUCCESS"
        assert lab.notes.count(f"made {n}") == 1
    lab.check_store()


def test_a_server_refuses_books_that_it_cannot_read_and_says_what_to_do(lab: Lab) -> None:
    code, said = lab.nectar("run", "etl/work_chain", "QuickTask", "--n", "1")
    assert code == 0, said
    with lab.books() as books:
        books.take_in(lab.root / ".nectar/runs/journals")
    whole = lab.books_path.read_bytes()
    for suffix in ("-wal", "-shm"):
        lab.books_path.with_name(f"runs.db{suffix}").unlink(missing_ok=True)
    store = lab.root / "local_targets"
    before = {place: place.read_bytes() for place in store.rglob("*") if place.is_file()}
    for broken in (
        b"these are no books" * 1000,
        whole[:100] + b"\xff" * (len(whole) - 100),  # ours, and damaged
        whole[:68] + b"ELSE" + whole[72:],  # another program's
        b"",
    ):
        lab.books_path.write_bytes(broken)
        code, said = lab.nectar("serve", "--port", "0")
        assert code == 5, said
        assert "error: the run store" in said and str(lab.books_path) in said
        assert "hint: restore a backup, or move" in said and "targets are not touched" in said
        assert "Traceback" not in said and "serving" not in said
        assert lab.books_path.read_bytes() == broken
    assert before == {place: place.read_bytes() for place in store.rglob("*") if place.is_file()}

    # As the advice says: away with it, and the history begins anew.
    for place in lab.books_path.parent.glob("runs.db*"):
        place.unlink()
    server = lab.serve()
    assert server.task("QuickTask", n=1)["complete"]
    assert server.final(server.task("QuickTask", n=2)["run_id"])["state"] == "SUCCESS"


ROUTES = (
    ("GET", "/api/runs"),
    ("GET", "/api/runs/20261120T000000-00000000"),
    ("GET", "/api/runs/20261120T000000-00000000/events"),
    ("POST", "/api/runs/20261120T000000-00000000/cancel"),
    ("POST", "/api/runs/20261120T000000-00000000/rerun"),
    ("POST", "/api/chains/etl/work_chain/QuickTask?n=5"),
    ("GET", "/api/chainstatus?chain=chains/etl/work_chain/QuickTask/0123456789abcdef0123456789abcdef"),
    ("GET", "/api/chains"),
    ("GET", "/metrics"),
)


def test_without_books_every_answer_says_so_and_when_to_come_again(lab: Lab) -> None:
    server = lab.serve()
    held = server.task("HeldTask", name="a")
    lab.noted("begun a")
    aside = lab.books_path.with_name("aside")
    aside.mkdir()
    for place in lab.books_path.parent.glob("runs.db*"):
        place.rename(aside / place.name)
    lab.books_path.mkdir()
    for method, path in ROUTES:
        reply = server.ask(method, path)
        told = reply.json
        assert (reply.status, told["status"], told["data"]) == (503, 503, None), (method, path, reply)
        assert told["code"].startswith("run-store") and told["hint"] and told["request_id"]
        assert int(reply.headers["Retry-After"]) > 0
    assert server.get("/healthz").status == 200
    lab.go("go-a")
    until(lambda: lab.targets("HeldTask"), "the run goes on")

    lab.books_path.rmdir()
    for place in aside.iterdir():
        place.rename(lab.books_path.with_name(place.name))
    assert server.final(held["run_id"])["state"] == "SUCCESS"
    assert server.final(server.task("QuickTask", n=5)["run_id"])["state"] == "SUCCESS"


def test_a_database_that_is_away_keeps_nobody_waiting_for_long(
    make_lab: Callable[..., Lab], postgres: Postgres
) -> None:
    lab = make_lab(postgres.new_database())
    lab.chain(CHAIN)
    server = lab.serve()
    run = server.final(server.task("QuickTask", n=1)["run_id"])
    assert run["state"] in FINAL
    postgres.stop()
    try:
        reply = server.ask("GET", f"/api/runs/{run['id']}", timeout_s=20)
        told = refused(reply, 503, "run-store-unreachable")
        assert told["hint"] and int(reply.headers["Retry-After"]) > 0
    finally:
        postgres.start()
    assert server.run(run["id"])["state"] == "SUCCESS"
