"""Described tasks as tasks of the engine: equal ids, no recursion, nothing upstream on the way to a worker."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nectar
from nectar import errors, settings
from nectar.address import Address
from nectar.description import Dag
from nectar.description.commands import CommandTask, tasks_of
from nectar.programs import carry_out, ending
from nectar.task.closure import closure, document_of


@pytest.fixture(autouse=True)
def store(tmp_path):
    """A store for this test alone."""
    with settings.overridden(root=tmp_path, store_url="memory://described"):
        yield


def chain(size: int) -> Dag:
    dag = Dag()
    for number in range(size):
        task = dag.task(f"t{number}", {"command": f"echo {number}"})
        if number:
            task.add_dep(dag[f"t{number - 1}"])
    return dag


def test_a_described_task_has_the_id_of_its_description_and_its_spec_with_the_inputs_as_identity():
    dag = chain(2)
    dag["odd . \\ name"] = {"command": ["x"], "deep": {"a": [1]}}
    dag["odd . \\ name"].add_dep(dag.t1, "a.b")
    dag["odd . \\ name"].add_dep(dag.t0, "a\\.b")
    encoded = dag.encode()["tasks"]
    [root] = tasks_of(dag)
    for task in closure([root]).tasks.values():
        output = encoded[task.name].pop("output")
        assert task.output_id == output
        assert document_of(task) == encoded[task.name]
        assert task.target_address() == Address("chains/dag/description/CommandTask", output[:32])
        assert Address.parse(task.target_address().path) == task.target_address()


def test_a_plan_of_ten_thousand_described_tasks_needs_no_recursion():
    [root] = tasks_of(chain(10_000))
    plan = nectar.plan(root)
    assert [len(plan.steps), plan.steps[0].task] == [10_000, "chains.dag.description.CommandTask(name=t0)"]


def test_a_task_on_its_way_to_a_worker_takes_nothing_along_of_what_it_stands_on():
    [root] = tasks_of(chain(10_000))
    key = root.key
    raw = pickle.dumps(root)
    assert len(raw) < 2_000
    there = pickle.loads(raw)
    assert (there.key, there.output_id, document_of(there)) == (key, root.output_id, document_of(root))
    [required] = there.requires().values()
    assert required.target_address() == root.requires()["t9998"].target_address()
    assert repr(required) == "chains.dag.description.CommandTask(name=t9998)"


def test_the_roots_are_the_tasks_on_which_no_other_stands():
    dag = chain(3)
    dag.task("alone", {"command": "x"})
    assert [task.name for task in tasks_of(dag)] == ["t2", "alone"]


def test_all_that_cannot_be_carried_out_is_named_at_once():
    dag = Dag()
    bad = {
        "nothing": {},
        "number": {"command": 1},
        "empty": {"command": " "},
        "none": {"command": []},
        "null": {"command": "a\0b"},
    }
    for name, spec in bad.items():
        dag.task(name, spec)
    with pytest.raises(errors.DescriptionInvalid) as raised:
        tasks_of(dag)
    assert all(f"`{name}` has " in raised.value.message for name in bad)
    dag.task("more", {"command": ["x", 1]})
    with pytest.raises(errors.DescriptionInvalid, match="and 1 more faults"):
        tasks_of(dag)


@pytest.mark.parametrize("image", ["", "--privileged", ["x"], "a\0b"])
def test_an_image_that_an_engine_would_take_for_something_else_is_refused(image):
    dag = Dag()
    dag.task("a", {"command": "x", "image": image})
    with pytest.raises(errors.DescriptionInvalid, match="`a` has an `image`"):
        tasks_of(dag)


def test_inputs_that_would_share_a_variable_are_refused():
    dag = Dag()
    for name in ("a.b", "a-b", "sink"):
        dag.task(name, {"command": "x"})
    dag["sink"].add_dep(dag["a.b"])
    dag["sink"].add_dep(dag["a-b"])
    with pytest.raises(errors.DescriptionInvalid, match=r"`a.b` and `a-b`, which are one variable, `NECTAR_INPUT_a_b`"):
        tasks_of(dag)


def test_a_description_without_tasks_is_refused():
    with pytest.raises(errors.DescriptionInvalid, match="it has no task"):
        tasks_of(Dag())


def test_a_task_whose_description_says_another_id_is_refused():
    task = CommandTask(id="0" * 64, name="forged")
    [other] = tasks_of(chain(1))
    task.take(other._work, {})
    with pytest.raises(errors.IdentityChanged, match=f"`forged` was described with the id `{'0' * 64}`"):
        _ = task.key


def test_the_memory_of_one_process_is_a_store_for_described_tasks_too():
    dag = Dag()
    dag.task("word", {"command": "printf word > $NECTAR_OUTPUT"})
    dag.task("twice", {"command": ["/bin/sh", "-c", 'cat "$NECTAR_INPUT_word" "$NECTAR_INPUT_word" > $NECTAR_OUTPUT']})
    dag.twice.add_dep(dag.word)
    [root] = tasks_of(dag)
    assert nectar.run(root, echo=False).success
    assert root.load() == "wordword"


def test_a_command_that_ends_takes_what_it_left_behind_along(tmp_path):
    code = carry_out(["/bin/sh", "-c", "sleep 1000 & echo $! > pid; exit 7"], folder=str(tmp_path), environment={})
    assert (code, ending(code)) == (7, "ended with exit code 7")
    left = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 30
    while _is_at_work(left):  # who was sent a signal dies a moment later
        assert time.monotonic() < deadline, "it goes on"


def _is_at_work(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_ctrl_c_while_a_command_is_being_started_ends_it(tmp_path, monkeypatch):
    class Interrupted(subprocess.Popen):  # the moment that no test meets by chance
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            (tmp_path / "pid").write_text(str(self.pid))
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        carry_out(["/bin/sh", "-c", "sleep 1000"], folder=str(tmp_path), environment={})
    assert not _is_at_work(int((tmp_path / "pid").read_text()))


def test_how_a_command_was_ended_is_told_by_name(tmp_path):
    code = carry_out(["/bin/sh", "-c", "kill -KILL $$"], folder=str(tmp_path), environment={})
    assert ending(code) == "was ended by SIGKILL"


def test_reading_a_description_to_compare_it_loads_no_luigi():
    program = "import sys, nectar.description.comparison; sys.exit('luigi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
