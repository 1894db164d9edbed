"""What a Dag encodes to, what it refuses, and that it is read back byte for byte."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nectar import bencode, errors, identity
from nectar.description import Dag

CODE = Path(__file__).resolve().parents[3] / "code"
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
names = text.filter(lambda name: name not in ("", *dir(Dag), "meta", "_tasks"))
leaves = st.integers(-(10**20), 10**20) | text
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
specs = st.dictionaries(text.filter(lambda key: key not in ("inputs", "output")), values, max_size=4)


@st.composite
def dags(draw) -> Dag:
    """A Dag whose tasks depend on tasks before them."""
    dag = Dag(draw(specs))
    made = []
    for name in draw(st.lists(names, unique=True, max_size=6)):
        task = dag.task(name, draw(specs))
        for other in draw(st.lists(st.sampled_from(made), unique=True)) if made else []:
            task.add_dep(other, draw(st.none() | st.just(f"{other.name}!")))
        made.append(task)
    return dag


@given(dags())
def test_what_is_decoded_is_encoded_to_the_same_bytes_from_bencode_and_from_json(dag):
    raw = dag.bencode()
    assert Dag.decode(raw).bencode() == raw
    assert Dag.decode(dag.json().encode()).bencode() == raw
    assert Dag.decode(dag.encode()).encode() == dag.encode()
    assert Dag.decode(raw).json() == dag.json()


@given(dags())
def test_every_id_is_the_one_that_the_function_for_tasks_gives(dag):
    for task in dag.encode()["tasks"].values():
        output = task.pop("output")
        assert output == identity.output_id(task) == identity.identify(task).output_id


@given(dags(), st.randoms(use_true_random=False))
def test_the_order_in_which_tasks_and_keys_were_given_changes_nothing(dag, shuffle):
    encoded = dag.encode()
    tasks = list(encoded["tasks"].items())
    shuffle.shuffle(tasks)
    again = {name: dict(shuffle.sample(list(task.items()), len(task))) for name, task in tasks}
    assert Dag.decode({"tasks": again, "meta": encoded["meta"]}).bencode() == dag.bencode()


@given(dags().filter(len), st.data())
def test_a_changed_spec_changes_the_ids_of_its_task_and_of_all_that_stand_on_it_and_no_others(dag, data):
    before = dag.encode()["tasks"]
    changed = data.draw(st.sampled_from([task.name for task in dag]))
    dag[changed].spec["changed \x00 by the test"] = 1
    after = dag.encode()["tasks"]
    above = {changed}
    for task in dag.in_order():
        if any(other.name in above for other in task.inputs.values()):
            above.add(task.name)
    assert {name for name in before if before[name]["output"] != after[name]["output"]} == above


@given(dags(), st.data())
def test_a_description_that_was_damaged_is_an_error_or_another_description_never_a_crash(dag, data):
    raw = bytearray(data.draw(st.sampled_from([dag.bencode(), dag.json().encode()])))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        decoded = Dag.decode(bytes(raw))
    except errors.UsageError:
        return
    decoded.bencode()


@given(st.binary(max_size=40) | text.map(str.encode))
def test_garbage_is_a_usage_error(raw):
    with pytest.raises(errors.UsageError):
        Dag.decode(raw)


# Large


def chain(size: int) -> Dag:
    dag = Dag()
    before = None
    for number in random.Random(7).sample(range(size), size):
        task = dag.task(f"t{number}", {"command": f"echo {number}"})
        if before is not None:
            before.add_dep(task)  # later ones come first: nobody sorted them
        before = task
    return dag


def fan(size: int) -> Dag:
    dag = Dag()
    sink = dag.task("sink", {"command": "cat"})
    for number in range(size):
        sink.add_dep(dag.task(f"t{number}", {"command": f"echo {number}"}))
    return dag


@pytest.mark.parametrize("shape", [chain, fan])
def test_ten_thousand_tasks_are_encoded_read_copied_and_pickled_without_recursion(shape):
    dag = shape(10_000)
    raw = dag.bencode()
    assert Dag.decode(raw).bencode() == raw
    assert Dag.decode(dag.json().encode()).bencode() == raw
    assert copy.deepcopy(dag).bencode() == raw
    assert pickle.loads(pickle.dumps(dag)).bencode() == raw


def test_a_circle_of_ten_thousand_tasks_is_an_error_and_no_recursion():
    dag = chain(10_000)
    order = dag.in_order()
    order[0].add_dep(order[-1])
    with pytest.raises(errors.CycleFound) as raised:
        dag.encode()
    assert len(raised.value.message.splitlines()) == 10_002


PROGRAM = """
import hashlib, random, sys
from nectar.description import Dag
dag = Dag({"b": 1, "a": {"z": "1", "y": [2]}})
names = [f"t{number}" for number in range(200)]
random.Random(int(sys.argv[1])).shuffle(names)
for name in set(names):
    dag.task(name, {"command": name, "ü": {"b": 1, "a": 2}})
for number in range(1, 200):
    for other in {(number * 7) % number, number // 2}:
        dag[f"t{number}"].add_dep(dag[f"t{other}"])
print(hashlib.sha256(dag.bencode()).hexdigest(), hashlib.sha256(dag.json().encode()).hexdigest())
"""


def test_a_description_is_equal_in_every_process_and_hash_seed():
    answers = set()
    for seed in ("0", "1", "4242"):
        environ = {**os.environ, "PYTHONPATH": str(CODE), "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", PROGRAM, seed], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        answers.add(done.stdout)
    assert len(answers) == 1


def test_describing_work_loads_neither_luigi_nor_click():
    program = "import sys, nectar.description; print(sorted({'luigi', 'click', 'deepdiff'} & set(sys.modules)))"
    environ = {**os.environ, "PYTHONPATH": str(CODE)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True)
    assert done.stdout == "[]\n", done


# Bad input


def circle() -> Dag:
    dag = Dag()
    for name in ("above", "a", "b", "c"):
        dag.task(name, {})
    for name, other in (("above", "a"), ("a", "b"), ("b", "c"), ("c", "a")):
        dag[name].add_dep(dag[other])
    return dag


def test_a_circle_is_drawn_as_one_of_tasks_is():
    with pytest.raises(errors.CycleFound) as raised:
        circle().encode()
    lines = raised.value.message.splitlines()
    assert lines[0] == "tasks require each other in a circle:"
    drawn = [line.strip(" └─") for line in lines[1:]]
    assert drawn[0] == drawn[-1] and sorted(drawn[1:]) == ["a", "b", "c"]
    assert [line.index(name) for line, name in zip(lines[1:], drawn, strict=True)] == [0, 6, 9, 12]
    assert {"a": "b", "b": "c", "c": "a"}[drawn[0]] == drawn[1], "each requires the one below it"


def test_a_task_that_depends_on_itself_is_a_circle():
    dag = Dag()
    dag.task("a", {}).add_dep(dag.a)
    with pytest.raises(errors.CycleFound, match="a\n   └─ a"):
        dag.encode()


class Word(str):
    """A text of another type."""


OWNERS = [
    (lambda value: Dag().task("blur", {"deep": [{"x": value}]}), r"`deep\[0\].x` of the spec of `blur`"),
    (lambda value: Dag({"deep": [{"x": value}]}), r"`deep\[0\].x` of the meta of the Dag"),
    (lambda value: changed(value).encode(), r"`deep\[0\].x` of the spec of `blur`"),
]


def changed(value: Any) -> Dag:
    dag = Dag()
    dag.task("blur", {}).spec["deep"] = [{"x": value}]
    return dag


@pytest.mark.parametrize(("make", "place"), OWNERS, ids=["spec", "meta", "changed spec"])
@pytest.mark.parametrize(
    ("value", "what"),
    [
        (1.5, "a float"),
        (1.0, "a float"),
        (float("nan"), "a float"),
        (None, "nothing"),
        (True, "a truth value"),
        (b"bytes", "bytes"),
        ({1}, "a set"),
        ({1: "x"}, "a mapping with the key 1"),
        ("\ud800", "no Unicode"),
        (10**600, "more than 600 digits"),
    ],
    ids=lambda value: str(value)[:12].encode("ascii", "replace").decode(),
)
def test_a_value_without_one_spelling_is_an_error_that_names_its_place(make, place, value, what):
    with pytest.raises(errors.DescriptionInvalid, match=f"{place}.* is .*{what}") as raised:
        make(value)
    assert raised.value.hint


def test_values_of_other_types_with_one_spelling_count_as_what_they_are():
    plain, other = Dag(), Dag()
    plain.task("a", {"word": "x", "list": [1, "y"], "n": 3})
    other.task("a", {"word": Word("x"), "list": (1, Word("y")), "n": 3})
    assert plain.encode() == other.encode()
    assert type(other.encode()["tasks"]["a"]["word"]) is str


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_as_deep_as_allowed_is_read_back_and_one_level_more_is_refused():
    dag = Dag({"deep": nested(98)})
    dag.task("a", {"deep": nested(97)})
    assert Dag.decode(dag.bencode()).bencode() == dag.bencode()
    with pytest.raises(errors.DescriptionInvalid, match="`deep` of the spec of `b` is nested deeper than 100 levels"):
        dag.task("b", {"deep": nested(98)})
    endless: list[Any] = []
    endless += [endless, endless]
    with pytest.raises(errors.DescriptionInvalid, match="`deep` of the meta of the Dag is nested deeper"):
        Dag({"deep": endless})


def test_a_duplicate_name_is_an_error_that_names_it():
    dag = Dag()
    dag.task("blur", {})
    with pytest.raises(errors.UsageError, match="two tasks called `blur`"):
        dag.task("blur", {})


@pytest.mark.parametrize("name", ["", None, 3, "\udc00"])
def test_a_name_that_is_no_text_is_an_error(name):
    with pytest.raises(errors.UsageError, match="the name of a task is"):
        Dag().task(name, {})


@pytest.mark.parametrize("key", ["inputs", "output"])
def test_the_encoding_s_own_keys_are_refused_in_a_spec(key):
    dag = Dag()
    with pytest.raises(errors.DescriptionInvalid, match=f"the spec of `blur` has the key `{key}`"):
        dag.task("blur", {key: "x"})
    dag.task("sharpen", {}).spec[key] = "x"
    with pytest.raises(errors.DescriptionInvalid, match=f"the spec of `sharpen` has the key `{key}`"):
        dag.encode()


def test_a_spec_or_a_meta_that_is_no_mapping_is_an_error():
    for make in (lambda: Dag().task("blur", ["x"]), lambda: Dag("x")):
        with pytest.raises(errors.DescriptionInvalid, match=r"is a (list|str)"):
            make()


def test_a_dependency_of_another_dag_or_none_at_all_is_an_error_that_names_both():
    dag, other = Dag(), Dag()
    dag.task("blur", {})
    other.task("fetch", {})
    with pytest.raises(errors.UsageError, match=r"`blur` cannot depend on `fetch`.*another Dag"):
        dag.blur.add_dep(other.fetch)
    with pytest.raises(errors.UsageError, match=r"`blur` cannot depend on 'fetch'.*no task"):
        dag.blur.add_dep("fetch")


def test_a_dependency_may_be_named_twice_and_a_name_not_for_two():
    dag = Dag()
    for name in ("a", "b", "c"):
        dag.task(name, {})
    dag.c.add_dep(dag.a, "left")
    dag.c.add_dep(dag.a, "left")
    dag.c.add_dep(dag.a, "right")
    assert list(dag.c.inputs) == ["left", "right"]
    with pytest.raises(errors.UsageError, match="`c` has an input `left` already: `a`"):
        dag.c.add_dep(dag.b, "left")


@pytest.mark.parametrize("name", ["encode", "load", "save", "meta", "__init__"])
def test_a_name_of_dag_s_own_is_refused_and_can_be_had_by_item_alone(name):
    dag = Dag()
    with pytest.raises(errors.UsageError, match=f"cannot be called `{name}`: `dag.{name}` is Dag's own") as raised:
        dag.task(name, {})
    assert raised.value.hint and f'reach it by `dag["{name}"]` alone' in raised.value.hint
    dag[name] = {"command": "x"}
    assert dag[name].spec == {"command": "x"} and getattr(dag, name) is not dag[name]
    assert Dag.decode(dag.bencode())[name].spec == dag[name].spec
    with pytest.raises(errors.UsageError, match=f"two tasks called `{name}`"):
        dag[name] = {}


def test_an_unknown_task_is_an_error_with_what_was_probably_meant():
    dag = Dag()
    dag.task("blur", {})
    with pytest.raises(errors.TaskNotFound, match="`blurr`") as raised:
        _ = dag["blurr"]
    assert raised.value.hint == "did you mean `blur`?"
    with pytest.raises(AttributeError, match="`blurr`; did you mean `blur`"):
        _ = dag.blurr
    assert not hasattr(dag, "__len_hint__")


# Files


def written() -> dict[str, Any]:
    dag = Dag({"who": "me"})
    dag.task("a", {"command": "x"})
    dag.task("b", {"command": "y"}).add_dep(dag.a)
    return dag.encode()


def edited(change: Any) -> bytes:
    document = written()
    change(document)
    return json.dumps(document).encode()


BAD_FILES = {
    "empty": (b"", "neither bencode nor JSON"),
    "garbage": (b"\x00\xff garbage", "neither bencode nor JSON"),
    "a list": (b"[1]", "neither bencode nor JSON"),
    "UTF-16": (json.dumps(written()).encode("utf-16"), "neither bencode nor JSON"),
    "no UTF-8": (b'{"meta": "\xff"}', "no JSON: .*utf-8"),
    "cut off JSON": (json.dumps(written()).encode()[:-4], "no JSON"),
    "cut off bencode": (bencode.encode(written())[:-4], "byte .* cut off|ends before"),
    "trailing bytes": (bencode.encode(written()) + b"e", "1 bytes follow"),
    "trailing JSON": (json.dumps(written()).encode() + b"{}", "no JSON: Extra data"),
    "deep bencode": (b"d4:meta" * 5000, "deeper than 100 levels"),
    "deep JSON": (b'{"meta":' * 100_000, "deeper than 100 levels"),
    "deep value": (edited(lambda one: one["meta"].update(x=nested(300))), "`x` of the meta .* deeper"),
    "unsorted keys": (b"d5:tasksde4:metadee", "keys are to be sorted"),
    "duplicate keys": (b"d4:metade4:metadee", "`meta` is there twice"),
    "duplicate keys in JSON": (b'{"meta": {}, "tasks": {}, "meta": {}}', "`meta` is there twice"),
    "a newer version": (edited(lambda one: one.update(schema=2)), "schema 2, this version reads up to 1"),
    "an odd version": (edited(lambda one: one.update(schema="1")), "unknown key `schema`"),
    "an unknown key": (edited(lambda one: one.update(task={})), "unknown key `task`"),
    "no meta": (edited(lambda one: one.pop("meta")), "`meta` is missing"),
    "odd tasks": (edited(lambda one: one.update(tasks=[])), "`tasks` is no mapping"),
    "an odd task": (edited(lambda one: one["tasks"].update(a=1)), "`a` lacks"),
    "no inputs": (edited(lambda one: one["tasks"]["b"].pop("inputs")), "`b` lacks `inputs`"),
    "odd inputs": (edited(lambda one: one["tasks"]["b"].update(inputs=["a"])), "`inputs` of `b`"),
    "an odd output": (edited(lambda one: one["tasks"]["a"].update(output=1)), "`output` of `a` is no text"),
    "a changed spec": (edited(lambda one: one["tasks"]["a"].update(command="z")), "`output` of `a` is `.*give `"),
    "another output": (edited(lambda one: one["tasks"]["b"].update(output="0" * 64)), "`output` of `b`"),
    "an unknown input": (edited(lambda one: one["tasks"]["b"]["inputs"].update(a="0" * 64)), "input `a` of `b`"),
    "a float": (edited(lambda one: one["tasks"]["a"].update(command=1.5)), "`command` of the spec of `a`"),
    "NaN": (edited(lambda one: one["meta"].update(x=float("nan"))), "`x` of the meta .*a float"),
    "null": (edited(lambda one: one["meta"].update(x=None)), "`x` of the meta .*nothing"),
    "a long number": (b'{"meta": {"x": ' + b"1" * 5000 + b"}}", "no JSON: .*digits"),
    "a lone surrogate": (b'{"meta": {"x": "\\ud800"}, "tasks": {}}', "no Unicode"),
    "bytes": (b"d4:metad1:x1:\xffe5:tasksdee", "`x` of the meta .*bytes"),
}


@pytest.mark.parametrize(("raw", "fault"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_description_is_an_error_that_names_file_and_fault(raw, fault, tmp_path):
    path = tmp_path / "collage.dag"
    path.write_bytes(raw)
    with pytest.raises(errors.DescriptionInvalid, match=rf"`.*collage\.dag`.*({fault})") as raised:
        Dag.load(path)
    assert raised.value.hint
    assert isinstance(raised.value, errors.DescriptionNewer) == (b'"schema": 2' in raw)


def test_a_circle_in_a_file_is_drawn(tmp_path):
    def task(other: str, own: str) -> dict[str, Any]:
        return {"inputs": {other: other * 64}, "output": own * 64}

    path = tmp_path / "circle.json"
    path.write_text(json.dumps({"meta": {}, "tasks": {"a": task("b", "a"), "b": task("a", "b")}}))
    with pytest.raises(errors.CycleFound, match=r"circle:\n[ab]\n   └─ [ab]\n      └─ [ab]\nhint"):
        Dag.load(path)


@pytest.mark.parametrize(("name", "first"), [("x.dag", b"d4:meta"), ("x.json", b'{\n  "meta"'), ("x", b"d4:meta")])
def test_a_dag_is_saved_by_the_file_s_suffix_and_loaded_by_its_content(name, first, tmp_path):
    dag = Dag.decode(written())
    dag.save(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(first)
    (tmp_path / name).rename(tmp_path / "other")
    assert Dag.load(tmp_path / "other").encode() == dag.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_saving_a_dag_that_cannot_be_encoded_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "x.dag"
    path.write_bytes(b"as it was")
    with pytest.raises(errors.CycleFound):
        circle().save(path)
    assert path.read_bytes() == b"as it was"


def test_a_file_that_cannot_be_read_or_written_is_a_usage_error_that_names_it(tmp_path):
    with pytest.raises(errors.UsageError, match=r"missing\.dag` cannot be read: no such file"):
        Dag.load(tmp_path / "missing.dag")
    with pytest.raises(errors.UsageError, match=r"x\.dag` cannot be written: no such file"):
        Dag().save(tmp_path / "missing" / "x.dag")


@settings(max_examples=settings().max_examples // 2)
@given(dags())
def test_a_dag_that_was_read_can_be_changed_and_extended(dag):
    again = Dag.decode(dag.bencode())
    again.task("added by the test", {"n": 1})
    for task in dag:
        again["added by the test"].add_dep(again[task.name])
    assert len(again.encode()["tasks"]) == len(dag) + 1
