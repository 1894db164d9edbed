"""With `ENV` and `PROJECT_BUCKET` set the same chains keep their targets in a bucket, and every command knows them."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "servers")]
pytest.importorskip("boto3", reason="boto3 is not here: pip install boto3")
pytest_plugins = ["s3_fixtures"]
pytest.register_assert_rewrite("s3_cloud")

from guard import free_port  # noqa: E402
from s3_chains import FAILING, HELD, HURT, MANY, MIXED, MIXED_TASKS, PINNED, ROUNDED, WORD  # noqa: E402
from s3_cloud import LIMIT_S, digests, files_of, machine_with_bucket, statuses  # noqa: E402
from s3_proxy import S3Proxy  # noqa: E402

from nectar.description import Dag  # noqa: E402

DAILY = "etl/daily_chain"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """Hide this machine's own AWS settings."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def cloud(project, moto):
    """A project whose targets go to a bucket on moto, of which nobody else knows."""
    return machine_with_bucket(project, moto)


@pytest.fixture(params=["moto", "radosgw"])
def either(request, project):
    """The same on each server."""
    server = request.getfixturevalue(request.param)
    return machine_with_bucket(project, server if request.param == "moto" else server.endpoint)


@pytest.fixture(scope="module")
def local(pattern, tmp_path_factory):
    """What the chains of these tests make on the local disk."""
    made = pattern.copy(tmp_path_factory.mktemp("local") / "project")
    made.chain("etl/mixed_chain", MIXED)
    assert made.nectar("run", "etl/mixed_chain", "LastTask").code == 0
    return {name: raw for name, raw in made.kept().items() if "/." not in f"/{name}"}


def of_chain(kept, chain):
    return {name: raw for name, raw in kept.items() if name.startswith(f"chains/{chain}/")}


# The bucket


def test_a_bucket_has_the_layout_of_the_local_folder(either, local):
    made = either.nectar("run", DAILY, "ReportTask")
    assert made.code == 0, made
    target = either.only_target("ReportTask")
    assert made.out == f"s3://{either.bucket}/{target}/out.txt\n"
    kept = either.kept()
    assert re.fullmatch(r"chains/etl/daily_chain/ReportTask/[0-9a-f]{32}", target)
    names = {name.removeprefix(f"{target}/") for name in kept if name.startswith(target)}
    assert names == {"out.txt", "params.txt", "log/stdout.log", "log/stderr.log", "record.json"}
    assert json.loads(kept[f"{target}/params.txt"])["title"] == "plain"
    assert digests(kept) == digests(of_chain(local, DAILY))
    assert not [key for key in either.names() if ".leases" in key or ".probe" in key]
    assert not (either.project.root / "local_targets").exists()


def test_what_is_there_is_not_made_again_on_this_machine_or_another(either, tmp_path):
    either.end(DAILY, "ReportTask")
    before = either.kept()
    again = either.nectar("run", DAILY, "ReportTask")
    assert (again.code, "nothing to do" in again.err) == (0, True)
    other = either.elsewhere(tmp_path / "other")
    assert statuses(other.end(DAILY, "ReportTask", "--title", "other")) == {
        "LoadTask": "skipped",
        "ReportTask": "succeeded",
    }
    assert other.nectar("run", DAILY, "ReportTask").out == again.out
    [made] = {name.rpartition("/")[0] for name in other.kept().keys() - before.keys() if name.endswith("out.txt")}
    assert other.get(f"{made}/out.txt") == b"other: day 1\n"
    assert {name: raw for name, raw in other.kept().items() if name in before} == before


ENGINES = {
    "inline": ("run", "etl/mixed_chain", "LastTask"),
    "processes": ("run", "--workers", "2", "etl/mixed_chain", "LastTask"),
    "luigi under nectar": ("run", "--executor", "luigi", "etl/mixed_chain", "LastTask"),
    "luigi": 1,
    "luigi, forking": 2,
}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_every_engine_and_every_way_to_read_and_write_makes_the_local_objects(cloud, local, engine):
    cloud.project.chain("etl/mixed_chain", MIXED)
    if isinstance(engine, int):
        said = cloud.luigi("chains.etl.mixed_chain", "LastTask", "--workers", str(engine))
        assert "This progress looks :)" in said
    else:
        answer = cloud.nectar(*engine)
        assert answer.code == 0, answer
    kept = cloud.kept()
    assert digests(kept) == digests(of_chain(local, "etl/mixed_chain"))
    assert {name.split("/")[3] for name in kept} == set(MIXED_TASKS)
    assert not [key for key in cloud.names() if ".leases" in key or ".attempts" in key]


# The commands


@pytest.fixture
def made_cloud(cloud):
    cloud.end(DAILY, "ReportTask")
    return cloud


def test_the_commands_that_ask_know_the_bucket(made_cloud, tmp_path):
    ask = made_cloud.elsewhere(tmp_path / "other").nectar
    [load, report] = ask("status", "--json").json["tasks"]
    assert (load["task"], load["complete"], load["size"]) == ("chains/etl/daily_chain/LoadTask", 1, 6)
    assert (report["complete"], report["broken"]) == (1, 0)
    shown = ask("show", "--json", DAILY, "ReportTask").json
    assert (shown["store"], shown["state"]) == (f"s3://{made_cloud.bucket}", "complete")
    assert shown["urls"] == {"out.txt": f"s3://{made_cloud.bucket}/{shown['path']}/out.txt"}
    logs = ask("logs", "--json", DAILY, "LoadTask", "--day", "1").json
    assert (logs["state"], logs["stdout"], logs["stderr"]) == ("published", "loading day 1\n", "")
    found = ask("path", "--json", DAILY, "ReportTask").json
    assert found["complete"]
    assert Path(found["outputs"]["out.txt"]["path"]).read_text() == "plain: day 1\n"
    assert [one["problem"] for one in ask("verify", "--json").json] == [None, None]
    counts = ask("plan", "--json", DAILY, "ReportTask", "--title", "new").json["counts"]
    assert (counts["run"], counts["skip"]) == (1, 1)
    [why] = ask("explain", "--json", DAILY, "ReportTask", "--title", "new").json
    assert [(one["component"], one["new"]) for one in why["changes"]] == [("params.title", "new")]


def test_chains_are_listed_without_a_bucket(project):
    listed = project.nectar(
        "list", "--json", ENV="qa", PROJECT_BUCKET="of-nobody", AWS_ENDPOINT_URL_S3="http://[::1]:1"
    )
    assert listed.code == 0, listed
    assert [one["path"] for one in listed.json["etl"]["chains"]] == [DAILY]


def test_the_path_of_a_target_that_is_not_there_is_where_it_will_lie(cloud):
    where = cloud.nectar("path", DAILY, "ReportTask")
    assert re.fullmatch(rf"s3://{re.escape(cloud.bucket)}/chains/etl/daily_chain/ReportTask/\w+/out\.txt\n", where.out)


def test_files_that_another_tool_put_are_adopted(cloud, tmp_path):
    where = cloud.find(DAILY, "LoadTask", "--day", "5")
    cloud.put(f"{where['target']}/out.txt", b"day 5, by hand\n")
    assert not where["complete"]
    assert cloud.nectar("adopt", DAILY, "LoadTask", "--day", "5").code == 0
    (tmp_path / "out.txt").write_text("day 6, by hand\n")
    assert cloud.nectar("adopt", "--from", str(tmp_path), DAILY, "LoadTask", "--day", "6").code == 0
    assert cloud.record(where["target"])["adopted"]
    words = (DAILY, "ReportTask", "--day", "5", "--and", DAILY, "ReportTask", "--day", "6")
    reports = [step for step in cloud.end(*words)["steps"] if step["status"] == "succeeded"]
    made = [cloud.get(f"{step['path']}/out.txt") for step in reports]
    assert sorted(made) == [b"plain: day 5, by hand\n", b"plain: day 6, by hand\n"]


def test_a_failed_task_leaves_its_logs_in_the_bucket_and_exits_1(cloud, tmp_path):
    cloud.project.chain("etl/failing_chain", FAILING)
    failed = cloud.nectar("run", "etl/failing_chain", "BadTask")
    assert (failed.code, failed.out) == (1, "")
    assert "ValueError: row 3 has no date" in failed.err
    assert f"s3://{cloud.bucket}/chains/etl/failing_chain/BadTask/.attempts/" in failed.err
    kept = [key.rpartition("/")[2] for key in cloud.names() if "/BadTask/.attempts/" in key]
    assert sorted(kept) == ["attempt.json", "params.txt", "stderr.log", "stdout.log"]
    assert cloud.kept() == {}
    logs = cloud.elsewhere(tmp_path / "other").nectar("logs", "--json", "etl/failing_chain", "BadTask").json
    assert (logs["state"], logs["stdout"]) == ("failed", "before the fall\n")
    assert logs["stderr"].endswith("ValueError: row 3 has no date\n")


# What was changed


def test_a_changed_object_is_found_put_aside_and_made_again(made_cloud, tmp_path):
    target = made_cloud.only_target("LoadTask")
    made_cloud.put(f"{target}/out.txt", b"DAY 1\n")
    found = made_cloud.nectar("verify", "--json", DAILY)
    assert found.code == 1
    [bad] = [one for one in found.json if one["problem"]]
    assert (bad["path"], "out.txt" in bad["problem"]) == (target, True)
    assert f"{bad['quarantined']}/record.json" in made_cloud.names()
    assert f"{target}/record.json" not in made_cloud.names()
    assert statuses(made_cloud.end(DAILY, "LoadTask", "--day", "1")) == {"LoadTask": "succeeded"}
    other = made_cloud.elsewhere(tmp_path / "other")
    assert Path(other.find(DAILY, "LoadTask", "--day", "1")["outputs"]["out.txt"]["path"]).read_text() == "day 1\n"
    assert made_cloud.nectar("verify", DAILY).code == 0


def test_force_keeps_the_old_record_in_quarantine_and_readers_see_the_new_target(cloud, tmp_path):
    cloud.project.chain("etl/word_chain", WORD)
    other = cloud.elsewhere(tmp_path / "other")
    word = ("etl/word_chain", "WordTask")
    cloud.end(*word, WORD="one")
    before = other.find(*word)
    old = cloud.get(f"{before['target']}/record.json")
    assert Path(before["outputs"]["out.txt"]["path"]).read_text() == "one"
    assert cloud.nectar("run", "--force", *word, WORD="three").code == 0
    assert Path(other.find(*word)["outputs"]["out.txt"]["path"]).read_text() == "three"
    assert [cloud.get(key) for key in cloud.names() if "/.quarantine/" in key] == [old]
    [entry] = files_of(cloud.record(before["target"]))
    assert cloud.get(f"{before['target']}/{entry['object']}") == b"three"
    other.end("etl/word_chain", "LengthTask")
    assert cloud.get(f"{cloud.only_target('LengthTask')}/out.txt") == b"5"


def test_what_comes_out_as_before_on_one_machine_ends_the_work_on_another(cloud, tmp_path):
    cloud.project.chain("etl/rounded_chain", ROUNDED)
    last = ("etl/rounded_chain", "LastTask")
    cloud.end(*last, RAW="1")
    other = cloud.elsewhere(tmp_path / "other")
    end = other.end(*last, RAW="2")
    assert statuses(end) == {"RawTask": "succeeded", "RoundTask": "succeeded", "LastTask": "reused"}
    target = end["steps"][-1]["path"]
    assert other.record(target)["reused_from"].startswith("chains/etl/rounded_chain/LastTask/")
    assert other.get(f"{target}/out.txt") == b"last of 0"
    assert set(statuses(cloud.end(*last, RAW="11")).values()) == {"succeeded"}


def test_a_task_that_meets_a_changed_input_names_the_command_that_puts_it_aside(made_cloud, tmp_path):
    target = made_cloud.only_target("LoadTask")
    made_cloud.put(f"{target}/out.txt", b"DAY 1\n")
    other = made_cloud.elsewhere(tmp_path / "other")  # this machine still has a copy of what it was
    failed = other.nectar("run", DAILY, "ReportTask", "--title", "new")
    assert failed.code == 1
    assert f"nectar verify {target}" in failed.err


# Several at once


def wait_until(holds):
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_a_task_that_two_machines_want_at_once_runs_once(cloud, tmp_path):
    cloud.project.chain("etl/held_chain", HELD)
    words = ("run", "--json", "etl/held_chain", "HeldTask")
    wait_for_the_task = cloud.project.bell()
    os.mkfifo(cloud.project.root / "go")
    with S3Proxy(cloud.endpoint) as proxy, cloud.started(*words) as first:
        wait_for_the_task()
        other = cloud.elsewhere(tmp_path / "other", proxy.endpoint)
        with other.started(*words) as second:
            wait_until(lambda: any("/.leases/" in one.path and one.status == 412 for one in tuple(proxy.requests)))
            (cloud.project.root / "go").write_text("held")
            ends = [one.communicate(timeout=LIMIT_S) for one in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), ends
    runs = [json.loads(out.splitlines()[-1]) for out, _ in ends]
    assert cloud.record(runs[0]["steps"][0]["path"])["run_id"] == runs[0]["run_id"]
    assert runs[1]["steps"][0]["path"] == runs[0]["steps"][0]["path"]
    assert not (other.project.root / "bell").exists()


# `nectar.S3Task`


def test_an_s3_task_keeps_its_targets_in_the_bucket_while_the_others_are_local(cloud):
    cloud.project.chain("etl/pinned_chain", PINNED)
    made = cloud.nectar("run", "etl/pinned_chain", "LastTask", NECTAR_STORE="local_targets")
    assert made.code == 0, made
    assert Path(made.out.strip()).read_text() == "last pinned first"
    assert {name.split("/")[3] for name in cloud.kept()} == {"PinnedTask"}
    assert {name.split("/")[3] for name in cloud.project.kept() if name.startswith("chains/")} == {
        "FirstTask",
        "LastTask",
    }


def test_an_s3_task_without_a_bucket_says_what_to_set(project):
    project.chain("etl/pinned_chain", PINNED)
    project.nectar("run", "etl/pinned_chain", "LastTask").failed(2, "`PinnedTask`", "PROJECT_BUCKET", "[s3]")
    assert not project.store.exists()


def test_the_targets_of_s3_tasks_are_counted_and_verified_beside_local_ones(cloud):
    cloud.project.chain("etl/pinned_chain", PINNED)
    cloud.nectar("run", "etl/pinned_chain", "LastTask", NECTAR_STORE="local_targets")
    for command in ("status", "verify"):
        assert "/PinnedTask" in cloud.nectar(command, "--json", NECTAR_STORE="local_targets").out


# What it costs


def copy_records(cloud, *words):
    """Make targets on the local disk and copy their records to the bucket, which is quicker than making them there."""
    made = cloud.project.nectar("run", "--quiet", *words, NECTAR_DURABILITY="none")
    assert made.code == 0, made
    cloud.put_all({name: raw for name, raw in cloud.project.kept().items() if name.endswith("/record.json")})


def test_a_plan_of_300_targets_of_one_task_takes_a_handful_of_requests(cloud, tmp_path):
    cloud.project.chain("etl/many_chain", MANY)
    copy_records(cloud, "etl/many_chain", "AllTask", "--count", "300")
    with S3Proxy(cloud.endpoint) as proxy:
        other = cloud.elsewhere(tmp_path / "other", proxy.endpoint)
        plan = other.nectar("plan", "--json", "etl/many_chain", "ManyTask", "--count", "301").json
        assert (plan["counts"]["run"], plan["counts"]["skip"]) == (2, 300)
        assert len(proxy.requests) <= 8, proxy.counts


#: a lease and its end, a look whether somebody made it meanwhile, output, parameters, two logs, record
A_TASK = 8
#: what a run asks besides: the plan, and for each process what the server heeds
A_RUN = 30


def kinds(requests):
    """Count requests by method and the last part of the key, or the folder beside the targets."""
    named = re.compile(r"\.(?:probe|leases|recipes|attempts|quarantine)|[^/]+$")
    return Counter((one.method, named.search(one.path.partition("?")[0])[0]) for one in requests)


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["inline", "processes"])
def test_a_small_task_takes_few_requests(cloud, record_property, options):
    cloud.project.chain("etl/many_chain", MANY)
    with S3Proxy(cloud.endpoint) as proxy:
        machine = cloud.elsewhere(cloud.project.root, proxy.endpoint)
        machine.end(*options, "etl/many_chain", "AllTask", "--count", "20")
        counts = kinds(proxy.requests)
        record_property("requests", {" ".join(kind): count for kind, count in sorted(counts.items())})
        assert len(proxy.requests) <= 20 * A_TASK + A_RUN, counts
        assert counts["PUT", ".leases"] == counts["PUT", "record.json"] == counts["PUT", "out.txt"] == 20


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["inline", "processes"])
def test_the_leases_of_a_batch_are_taken_and_its_targets_looked_at_together(cloud, options):
    cloud.project.chain("etl/many_chain", MANY)
    with S3Proxy(cloud.endpoint) as proxy:
        machine = cloud.elsewhere(cloud.project.root, proxy.endpoint)
        machine.end(*options, "etl/many_chain", "AllTask", "--count", "100")
        counts = kinds(proxy.requests)
        at_once = proxy.traffic().most_at_once
    assert counts["PUT", ".leases"] == counts["PUT", "record.json"] == counts["DELETE", ".leases"] == 100
    assert counts["HEAD", "record.json"] <= 25, counts
    assert at_once >= 16
    assert not [name for name in cloud.names() if "/.leases/" in name]


def test_what_a_killed_worker_held_is_made_by_another_at_once(cloud):
    cloud.project.chain("etl/hurt_chain", HURT)
    (cloud.project.root / "bait").touch()
    with S3Proxy(cloud.endpoint) as proxy:
        machine = cloud.elsewhere(cloud.project.root, proxy.endpoint)
        end = machine.end("--workers", "2", "etl/hurt_chain", "AllTask", "--count", "100")
        counts = kinds(proxy.requests)
    assert not (cloud.project.root / "bait").exists()
    attempts = Counter(step["attempts"] for step in end["steps"])
    assert attempts == {1: 100, 2: 1}, "of the batch only the task that was at work has failed"
    # Whoever waits for the end of a lease looks at it again and again.
    assert 0 < counts["GET", ".leases"] <= 100, counts
    assert not [name for name in cloud.names() if "/.leases/" in name]
    logs = [cloud.get(name) for name in cloud.names() if "/.attempts/" in name and name.endswith("/stdout.log")]
    assert logs.count(b"soon gone\n") == 1


def test_whether_a_task_that_was_never_made_is_complete_takes_one_look(cloud):
    ask = "from chains.etl.daily_chain import LoadTask; print(LoadTask(day=1).complete())"
    with S3Proxy(cloud.endpoint) as proxy:
        machine = cloud.elsewhere(cloud.project.root, proxy.endpoint)
        assert machine.python(ask) == "False\n"
        assert [one for one in proxy.requests if "list-type" in one.path] == []
        assert kinds(proxy.requests)["GET", "record.json"] == 1


def test_each_input_takes_one_look_at_its_record_and_one_at_its_bytes(cloud, tmp_path):
    cloud.project.chain("etl/many_chain", MANY)
    cloud.end("etl/many_chain", "AllTask", "--count", "20")
    with S3Proxy(cloud.endpoint) as proxy:
        other = cloud.elsewhere(tmp_path / "other", proxy.endpoint)
        other.end("etl/many_chain", "ManyTask", "--count", "20")
        counts = kinds(proxy.requests)
    assert counts["GET", "record.json"] == counts["GET", "out.txt"] == 20, counts
    target = cloud.only_target("ManyTask")
    assert cloud.get(f"{target}/out.txt").startswith(b"small 0small 1")
    assert len(cloud.record(target)["inputs"]) == 20


# Bad input


@pytest.mark.parametrize("command", ["run", "path"])
def test_without_credentials_the_variables_are_named(cloud, command):
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    cloud.nectar(command, DAILY, "ReportTask", **nobody).failed(
        5, f"no credentials for `s3://{cloud.bucket}`", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"
    )


WRONG = {
    "secret key": ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refuses the secret key", "AWS_SECRET_ACCESS_KEY"),
    "access key": ({"AWS_ACCESS_KEY_ID": "NOBODY"}, "does not know the access key", "AWS_ACCESS_KEY_ID"),
}


@pytest.mark.parametrize(("variables", "sentence", "fix"), WRONG.values(), ids=WRONG)
def test_a_wrong_key_is_said_to_be_one(project, radosgw, variables, sentence, fix):
    cloud = machine_with_bucket(project, radosgw.endpoint)
    cloud.nectar("run", DAILY, "ReportTask", **variables).failed(5, sentence, fix)


@pytest.mark.parametrize("words", [("run", DAILY, "ReportTask"), ("status",)], ids=lambda words: words[0])
def test_a_missing_bucket_is_named(cloud, words):
    cloud.nectar(*words, PROJECT_BUCKET="of-nobody").failed(5, "no bucket `qa.of-nobody`", "create it")


def test_an_endpoint_that_nobody_answers_is_named(cloud):
    silent = f"http://127.0.0.1:{free_port()}"
    answer = cloud.nectar("run", DAILY, "ReportTask", AWS_ENDPOINT_URL_S3=silent)
    answer.failed(5, silent, "look at the endpoint")
    assert f"`s3://{cloud.bucket}` cannot be reached, trying again" in answer.err


def test_env_without_a_bucket_names_the_variable_to_set(project):
    project.nectar("run", DAILY, "ReportTask", ENV="qa").failed(2, "ENV is `qa`", "PROJECT_BUCKET")
    assert not project.store.exists()


def test_the_hint_about_env_without_a_bucket_is_about_these_two(project):
    answer = project.nectar("run", DAILY, "ReportTask", ENV="qa")
    [hint] = [line for line in answer.err.splitlines() if line.startswith("hint: ")]
    assert "PROJECT_BUCKET" in hint


@pytest.mark.parametrize("url", ["s3:///x", "s3://"])
def test_a_store_url_without_a_bucket_says_how_one_reads(cloud, url):
    cloud.nectar("run", DAILY, "ReportTask", NECTAR_STORE=url).failed(2, f"`{url}`", "s3://bucket/prefix")


def test_a_store_url_without_its_slashes_makes_no_folder_of_that_name(cloud):
    cloud.nectar("run", DAILY, "ReportTask", NECTAR_STORE="s3:bucket").failed(2, "s3://bucket")


def test_the_commands_of_a_description_read_and_write_targets_in_a_bucket(cloud):
    dag = Dag()
    dag.task("word", {"command": "printf word > $NECTAR_OUTPUT"})
    dag.task("twice", {"command": "cat $NECTAR_INPUT_word $NECTAR_INPUT_word > $NECTAR_OUTPUT"}).add_dep(dag.word)
    dag.save(cloud.project.root / "x.dag")
    for options in ((), ("--workers", "2"), ("--force-all",)):
        made = cloud.nectar("execute", *options, "--file", "x.dag")
        assert made.code == 0, made
    folders = {name: task["output"][:32] for name, task in dag.encode()["tasks"].items()}
    for name, text in (("word", b"word"), ("twice", b"wordword")):
        target = f"chains/dag/description/CommandTask/{folders[name]}"
        [file] = cloud.record(target)["files"]
        assert cloud.get(f"{target}/{file['object']}") == text
    assert cloud.nectar("verify", "dag/description").code == 0
