"""Every chain over HTTP, by the names of files and classes alone: the contract of `/api/chains`, `/api/chainstatus`."""

from __future__ import annotations

import datetime
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

sys.path[:0] = [str(Path(__file__).parents[1] / "servers")]
from nectar_server import serving  # noqa: E402

PATIENCE_S = 60.0
today = datetime.date.today  # in this machine's zone, as a chain says it

FOO = '''
"""A chain for HTTP.

What follows the first paragraph is not told.
"""

import subprocess
import sys
import time

import luigi
import nectar
from other import ImportedTask


class FooTask(nectar.Task):
    """Says what it was given."""

    a_param = luigi.Parameter(description="what to say")
    n = luigi.IntParameter(default=1)
    seconds = luigi.FloatParameter(default=0, significant=False)

    def run(self):
        print("printed by the task", flush=True)
        subprocess.run([sys.executable, "-c", "import sys; print('by a child'); print('child err', file=sys.stderr)"])
        print("to stderr", file=sys.stderr)
        time.sleep(self.seconds)
        if self.a_param == "bad":
            raise ValueError("bad luck with " + self.a_param)
        with open(self.root() / "runs.txt", "a") as file:
            file.write(f"{self.a_param} {self.n}\\n")
        self.dump(f"{self.a_param} x {self.n}\\n")

    def root(self):
        from nectar import settings

        return settings.current().root


class PairTask(nectar.Task):
    numbers = luigi.ListParameter(default=[1, 2])
    loud = luigi.BoolParameter()
    day = luigi.DateParameter(default=None)

    def run(self):
        self.dump(f"{list(self.numbers)} {self.loud} {self.day}\\n")


class PlainTask(luigi.Task):
    n = luigi.IntParameter(default=1)
    done = False

    def complete(self):
        return type(self).done

    def run(self):
        type(self).done = True


class BothTask(luigi.WrapperTask):
    def requires(self):
        return [FooTask(a_param="left"), FooTask(a_param="right")]


class _HiddenTask(nectar.Task):
    pass


class NotATaskAtAll(nectar.Task):
    pass


AliasTask = FooTask
'''

OTHER = """
import nectar


class ImportedTask(nectar.Task):
    pass
"""


class Client:
    """Requests to one server."""

    def __init__(self, url: str, root: Path) -> None:
        self.url, self.root = url, root

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path.removeprefix(self.url), timeout=PATIENCE_S, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return requests.post(self.url + path, timeout=PATIENCE_S, **options)

    def submit(self, path: str, **options: Any) -> dict[str, Any]:
        """POST, and return the data of an answer that says that all is well."""
        response = self.post(f"/api/chains/{path}", **options)
        document = response.json()
        assert (response.status_code, document["status"], document["message"]) == (200, 200, "success"), document
        data: dict[str, Any] = document["data"]
        return data

    def settled(self, data: dict[str, Any]) -> dict[str, Any]:
        """Poll a status until it is not RUNNING any more, and return it."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            document = self.get(data["status_url"]).json()
            status: dict[str, Any] = document["data"]
            if status["job_status"] != "RUNNING":
                return status
            assert status["resource_url"] is None and status["expires_in"] is None
            time.sleep(0.05)
        raise AssertionError(f"it is still running: {status}")

    def done(self, path: str, **options: Any) -> tuple[dict[str, Any], str]:
        """POST, wait, and return the POST's data with the bytes of the result."""
        data = self.submit(path, **options)
        status = self.settled(data)
        assert status["job_status"] == "DONE", status
        return data, self.get(status["resource_url"]).text

    def times_run(self, line: str) -> int:
        place = self.root / "runs.txt"
        return place.read_text().splitlines().count(line) if place.exists() else 0


@pytest.fixture(scope="module")
def served(module_project: Any) -> Iterator[Client]:
    project = module_project
    project.file("other.py", OTHER)
    project.chain("etl/a_chain", FOO)
    project.chain("etl/pipeline_chain", "class StepTask(nectar.Task):\n    def run(self): self.dump('pipeline')\n")
    project.chain("etl/copy_chain", "class StepTask(nectar.Task):\n    def run(self): self.dump('copy')\n")
    project.chain("etl/broken_chain", "import nectar\nraise RuntimeError('not today')\n")
    project.chain("etl/helper", "class LostTask(nectar.Task): pass\n")
    project.chain("etl/my_chain_old", "class OldTask(nectar.Task): pass\n")
    project.chain("bad-type/x_chain", "class XTask(nectar.Task): pass\n")
    project.file("chains/notes.txt", "a stray file")
    project.file("chains/empty/.keep", "")
    with serving(project.root) as server:
        yield Client(server.url, project.root)


def test_the_chains_are_listed_with_their_tasks_and_parameters(served: Client) -> None:
    data = served.get("/api/chains").json()["data"]
    etl = data["etl"]
    assert etl["api_href"] == "/api/chains/etl"
    chain = next(one for one in etl["chains"] if one["name"] == "a_chain")
    assert (chain["path"], chain["description"]) == ("etl/a_chain", "A chain for HTTP.")
    assert served.get(chain["api_href"]).json()["data"] == chain
    assert [task["task_name"] for task in chain["tasks"]] == [
        "FooTask",
        "PairTask",
        "PlainTask",
        "BothTask",
        "AliasTask",
    ]
    foo = chain["tasks"][0]
    assert foo["description"] == "Says what it was given."
    told = [(one["name"], one["type"], one["default"], one["required"]) for one in foo["parameters"]]
    assert told == [("a_param", "str", None, True), ("n", "int", "1", False), ("seconds", "float", "0", False)]
    assert foo["parameters"][0]["description"] == "what to say"
    assert served.get(foo["api_href"]).json()["data"] == foo
    assert served.get("/api/chains/etl").json()["data"] == etl


def test_what_is_no_chain_is_not_listed_and_harms_nothing(served: Client) -> None:
    data = served.get("/api/chains").json()["data"]
    names = [chain["name"] for chain in data["etl"]["chains"]]
    assert names == ["a_chain", "copy_chain", "pipeline_chain"]
    assert "LostTask" not in json.dumps(data) and "OldTask" not in json.dumps(data)
    for path in (
        "etl/helper/LostTask",
        "etl/my_chain_old/OldTask",
        "etl/a_chain/ImportedTask",
        "etl/a_chain/_HiddenTask",
    ):
        assert served.post(f"/api/chains/{path}").status_code == 404, path
    assert served.post("/api/chains/etl/a_chain/NotATaskAtAll").status_code == 404
    assert "rename it to `bad_type`" in data["bad-type"]["broken"][0]["error"]


def test_a_chain_that_cannot_be_imported_is_told_with_its_last_line_and_the_others_work(served: Client) -> None:
    [broken] = served.get("/api/chains").json()["data"]["etl"]["broken"]
    assert (broken["path"], broken["error"]) == ("etl/broken_chain", "RuntimeError: not today")
    refused = served.post("/api/chains/etl/broken_chain/AnyTask").json()
    assert refused["code"] == "chain-broken" and "RuntimeError: not today" in refused["message"]
    assert served.done("etl/copy_chain/StepTask")[1] == "copy"


def test_chains_named_pipeline_and_copy_keep_their_names(served: Client) -> None:
    for name in ("pipeline", "copy"):
        data, text = served.done(f"etl/{name}_chain/StepTask")
        assert text == name
        assert f"chains/etl/{name}_chain/StepTask/" in data["status_url"]


def test_a_post_answers_with_a_status_url_and_its_status_leads_to_the_bytes(served: Client) -> None:
    data = served.submit("etl/a_chain/FooTask?a_param=1")
    assert data["expires_in"] == 600 and data["run_id"]
    pattern = re.escape(served.url) + r"/api/chainstatus\?chain=chains/etl/a_chain/FooTask/[0-9a-f]{32}/out\.txt"
    assert re.fullmatch(pattern, data["status_url"])
    status = served.settled(data)
    assert status["job_status"] == "DONE" and status["run_id"] == data["run_id"]
    assert served.get(status["resource_url"]).content == b"1 x 1\n"


def test_parameters_come_by_query_by_json_and_by_both(served: Client) -> None:
    assert served.done("etl/a_chain/FooTask", json={"a_param": "js", "n": 2})[1] == "js x 2\n"
    assert served.done("etl/a_chain/FooTask?n=3", json={"a_param": "both"})[1] == "both x 3\n"
    by_json = served.submit("etl/a_chain/PairTask", json={"numbers": [3, 4], "loud": True, "day": "2026-02-28"})
    by_query = served.submit("etl/a_chain/PairTask?numbers=[3,4]&loud=true&day=2026-02-28")
    assert by_json["target"] == by_query["target"]
    status = served.settled(by_query)
    assert served.get(status["resource_url"]).text == "[3, 4] True 2026-02-28\n"


def test_the_chain_may_be_left_out_where_one_of_the_type_has_the_task(served: Client) -> None:
    data, text = served.done("etl/FooTask?a_param=short")
    assert text == "short x 1\n" and "/etl/a_chain/FooTask/" in data["status_url"]
    several = served.post("/api/chains/etl/StepTask")
    assert several.status_code == 404 and "`etl/copy_chain`, `etl/pipeline_chain`" in several.json()["hint"]


def test_a_finished_target_has_its_parameters_logs_and_record_beside_it(served: Client) -> None:
    data, _ = served.done("etl/a_chain/FooTask?a_param=whole&n=7")
    folder = served.root / "local_targets" / data["target"]
    assert re.fullmatch(r"chains/etl/a_chain/FooTask/[0-9a-f]{32}", data["target"])
    assert {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()} == {
        "out.txt",
        "params.txt",
        "record.json",
        "log/stdout.log",
        "log/stderr.log",
    }
    assert json.loads((folder / "params.txt").read_text()) == {"a_param": "whole", "n": 7, "seconds": 0.0}
    assert (folder / "log/stdout.log").read_text() == "printed by the task\nby a child\n"
    assert (folder / "log/stderr.log").read_text() == "child err\nto stderr\n"
    assert json.loads((folder / "record.json").read_text())["run_id"] == data["run_id"]
    beside = served.get(f"/api/targets/{data['target']}/files/log/stdout.log")
    assert beside.text == "printed by the task\nby a child\n" and beside.headers["Content-Type"].startswith(
        "text/plain"
    )


def test_a_task_that_raises_is_told_with_its_traceback_and_leaves_no_target(served: Client) -> None:
    data = served.submit("etl/a_chain/FooTask?a_param=bad")
    status = served.settled(data)
    assert (status["job_status"], status["resource_url"]) == ("FAILED", None)
    assert status["error"]["message"] == "ValueError: bad luck with bad"
    assert "Traceback (most recent call last)" in status["error"]["traceback"]
    assert not (served.root / "local_targets" / data["target"]).exists()
    [log] = served.get(f"/api/runs/{data['run_id']}/logs").json()["data"]["logs"]
    assert "bad luck with bad" in served.get(log["stderr_url"]).text
    assert served.get(log["stdout_url"]).text == "printed by the task\nby a child\n"


def test_two_values_in_flight_are_told_apart(served: Client) -> None:
    good = served.submit("etl/a_chain/FooTask?a_param=apart&seconds=0.5")
    bad = served.submit("etl/a_chain/FooTask?a_param=bad&n=2&seconds=0.5")
    assert served.settled(bad)["job_status"] == "FAILED"
    assert served.settled(good)["job_status"] == "DONE"


def test_the_same_post_after_completion_runs_nothing_and_says_so(served: Client) -> None:
    first, _ = served.done("etl/a_chain/FooTask?a_param=once")
    assert first["complete"] is False
    record = served.root / "local_targets" / first["target"] / "record.json"
    before = record.stat()
    again = served.submit("etl/a_chain/FooTask?a_param=once")
    assert again["complete"] is True and again["run_id"] == first["run_id"]
    assert again["status_url"] == first["status_url"]
    assert served.settled(again)["job_status"] == "DONE"
    assert (record.stat().st_mtime_ns, record.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert served.times_run("once 1") == 1


def test_posts_at_the_same_time_join_one_run(served: Client) -> None:
    answers: list[dict[str, Any]] = []
    start = threading.Barrier(8)

    def post() -> None:
        start.wait()
        answers.append(served.submit("etl/a_chain/FooTask?a_param=together&seconds=0.3"))

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one["run_id"] for one in answers}) == 1
    assert sum(not one["joined"] for one in answers) == 1
    assert served.settled(answers[0])["job_status"] == "DONE"
    assert served.times_run("together 1") == 1


def test_every_bad_parameter_is_named_and_nothing_is_started(served: Client) -> None:
    before = len(served.get("/api/runs?limit=1000").json()["data"]["runs"])
    response = served.post("/api/chains/etl/a_chain/FooTask?module=os&scheduler-url=x&n=many")
    document = response.json()
    assert (response.status_code, document["status"], document["code"]) == (400, 400, "invalid-parameters")
    assert {one["field"] for one in document["errors"]} == {"module", "scheduler-url", "n", "a_param"}
    assert document["field"] in {"module", "scheduler-url", "n", "a_param"} and document["hint"]
    assert len(served.get("/api/runs?limit=1000").json()["data"]["runs"]) == before
    assert not (served.root / "local_targets/chains/etl/a_chain/FooTask/.staging/x").exists()


@pytest.mark.parametrize(
    ("path", "fragment"),
    [
        ("elt/a_chain/FooTask", "did you mean `etl/a_chain`"),
        ("etl/b_chain/FooTask", "did you mean `etl/a_chain`"),
        ("etl/a_chain/FoTask", "did you mean `FooTask`"),
        ("etl/a_chain/XyzTask", "its tasks are"),
    ],
)
def test_a_name_that_nothing_has_is_404_with_what_was_meant(served: Client, path: str, fragment: str) -> None:
    response = served.post(f"/api/chains/{path}?a_param=1")
    assert response.status_code == 404 and fragment in response.json()["hint"]
    assert path.split("/")[-1 if "a_chain/" in path and path.startswith("etl") else 1] in response.json()["message"]


def test_a_type_that_nothing_has_is_404_with_what_was_meant(served: Client) -> None:
    response = served.get("/api/chains/elt")
    assert response.status_code == 404 and response.json()["hint"] == "did you mean `etl`?"


@pytest.mark.parametrize(
    "text", ["../../etc/passwd", "/etc/passwd", "chains", "chains/etl", "%00", "x" * 5000, "file:///etc"]
)
def test_a_status_of_what_is_no_target_is_refused_and_leaks_nothing(served: Client, text: str) -> None:
    response = served.get(f"/api/chainstatus?chain={text}")
    assert response.status_code in (400, 404) and "root:" not in response.text
    assert response.json()["data"] is None


def test_a_status_without_a_chain_says_what_it_needs(served: Client) -> None:
    response = served.get("/api/chainstatus")
    assert response.status_code == 400 and response.json()["message"] == "Need 'chain' parameter"


def test_a_status_of_a_target_that_nobody_asked_for_is_404(served: Client) -> None:
    response = served.get(f"/api/chainstatus?chain=chains/etl/a_chain/FooTask/{'0' * 32}/out.txt")
    assert response.status_code == 404 and response.json()["code"] == "target-not-found"


def test_a_wrapper_and_a_plain_luigi_task_have_a_key_and_a_status(served: Client) -> None:
    wrapper = served.submit("etl/a_chain/BothTask")
    status = served.settled(wrapper)
    assert (status["job_status"], status["resource_url"]) == ("DONE", None)
    assert served.submit("etl/a_chain/BothTask")["complete"] is True
    assert served.times_run("left 1") == 1
    plain = served.submit("etl/a_chain/PlainTask?n=4")
    assert re.fullmatch(r"chains/etl/a_chain/PlainTask/[0-9a-f]{32}", plain["target"])
    assert plain["target"] != served.submit("etl/a_chain/PlainTask?n=5")["target"]
    assert served.settled(plain)["job_status"] == "DONE"


def test_an_alias_is_a_name_for_the_same_target(served: Client) -> None:
    by_alias, text = served.done("etl/a_chain/AliasTask?a_param=alias")
    assert text == "alias x 1\n"
    assert served.submit("etl/a_chain/FooTask?a_param=alias")["target"] == by_alias["target"]


def test_plan_and_graph_tell_what_a_post_would_do_and_do_nothing(served: Client) -> None:
    plan = served.get("/api/plan/etl/a_chain/FooTask?a_param=planned").json()["data"]
    assert plan["counts"]["run"] == 1 and plan["steps"][0]["reasons"][0]["why"] == "no target"
    graph = served.get("/api/graph/etl/a_chain/BothTask").json()["data"]
    assert len(graph["nodes"]) == 3
    assert served.times_run("planned 1") == 0


# Projects of their own


def client(project: Any, use: Callable[[Client], None], **environ: str) -> None:
    with serving(project.root, **environ) as server:
        use(Client(server.url, project.root))


def test_a_chain_whose_default_is_today_is_made_for_the_day_of_the_request(project: Any) -> None:
    source = "import datetime\nclass DayTask(nectar.Task):\n"
    source += "    day = luigi.DateParameter(default=datetime.date.today())\n"
    source += "    def run(self): self.dump(str(self.day))\n"
    project.chain("etl/day_chain", "import luigi\nimport nectar\n" + source)

    def use(served: Client) -> None:
        before = today()
        data, text = served.done("etl/day_chain/DayTask")
        assert text in {str(before), str(today())}
        # The key is that of the day, wherever it is asked for later: no date is hidden in it.
        assert served.submit(f"etl/day_chain/DayTask?day={text}")["status_url"] == data["status_url"]

    client(project, use)


def test_a_default_of_the_moment_is_asked_for_anew_by_every_request(project: Any) -> None:
    source = "import datetime\nclass NowTask(nectar.Task):\n"
    source += "    at = luigi.DateSecondParameter(default=datetime.datetime.now())\n"
    source += "    def run(self): self.dump(str(self.at))\n"
    project.chain("etl/now_chain", "import luigi\nimport nectar\n" + source)

    def use(served: Client) -> None:
        first = served.submit("etl/now_chain/NowTask")
        until = time.monotonic() + PATIENCE_S
        while served.submit("etl/now_chain/NowTask")["target"] == first["target"]:  # within the same second
            assert time.monotonic() < until, "the default stays what it was"

    client(project, use)


def test_a_chain_of_five_that_failed_goes_on_where_it_failed(project: Any) -> None:
    mended = project.root / "mended"
    steps = "import pathlib\n"
    for number in range(1, 6):
        steps += f"class Step{number}Task(nectar.Task):\n"
        if number > 1:
            steps += f"    def requires(self): return Step{number - 1}Task()\n"
        steps += "    def run(self):\n"
        if number == 3:
            steps += f"        if not pathlib.Path({str(mended)!r}).exists(): raise ValueError('at three')\n"
        steps += f"        self.dump('{number}')\n"
    project.chain("etl/five_chain", "import luigi\nimport nectar\n" + steps)

    def use(served: Client) -> None:
        first = served.submit("etl/five_chain/Step5Task")
        status = served.settled(first)
        assert status["job_status"] == "FAILED" and status["error"]["message"] == "ValueError: at three"
        assert "Step3Task" in status["error"]["task"]
        mended.touch()
        second, text = served.done("etl/five_chain/Step5Task")
        assert text == "5" and second["run_id"] != first["run_id"]
        told = served.get(f"/api/runs/{second['run_id']}").json()["data"]
        made = sorted(step["task"] for step in told["steps"] if step["status"] == "succeeded")
        assert [name.split(".")[-1] for name in made] == ["Step3Task()", "Step4Task()", "Step5Task()"]
        rerun = served.post(f"/api/runs/{first['run_id']}/rerun").json()["data"]
        assert rerun["parent_id"] == first["run_id"]

    client(project, use)
