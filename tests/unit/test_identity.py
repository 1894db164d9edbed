"""Identities: golden values, and that one task never has two keys and two never one."""

from __future__ import annotations

import datetime
import enum
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import luigi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from luigi.parameter import ParameterVisibility
from luigi.task_register import Register

import nectar
from nectar import bencode, errors, identity, settings
from nectar.identity import Change
from nectar.task import closure, ground
from nectar.task.register import TaskRegister


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Iterator[Path]:
    """A project of its own; the classes that a test defines are forgotten after it."""
    registered = list(Register._reg)
    with settings.overridden(root=tmp_path, store_url=(tmp_path / "local_targets").as_uri()):
        yield tmp_path
    Register._reg[:] = registered
    TaskRegister.clear_instance_cache()


# The recipe of "a la mode", with the example that it publishes

A_LA_MODE_SPECS = {
    "download_images": {"image": "collage", "sha": "1qe34", "command": "python dl_images.py"},
    "blur": {"image": "collage", "sha": "6f09d", "command": "python transform_images.py blur"},
    "edge_enhance": {"image": "collage", "sha": "1qe34", "command": "python transform_images.py edge_enhance"},
    "collage": {"image": "collage", "sha": "1qe34", "command": "python collage.py"},
}
A_LA_MODE_NEEDS = {
    "download_images": [],
    "blur": ["download_images"],
    "edge_enhance": ["download_images"],
    "collage": ["blur", "edge_enhance"],
}
A_LA_MODE_OUTPUTS = {
    "download_images": "6075b3951568e2f31df204a59eb92bbb17d84e6b49f1275216bc0b6deb0e223d",
    "blur": "82695e5805a9cd091e42ae94469efe77a90907c96190c793cee3c7d58dc2bbe0",
    "edge_enhance": "7a764d984ce66d23a69c87645b47fcf7be79711f40be95fb631308ee01ca2a04",
    "collage": "566a13d45eeebdefc50de118f5031278b20171ce76deb51791a4f084668e6d16",
}
A_LA_MODE_CHANGED = {
    **A_LA_MODE_OUTPUTS,
    "blur": "4df7200d1f836f7372ce01761c9cb9e0d2bc7d1abc7ee9c1abe8dc7df9a67e5e",
    "collage": "25adad1924719ff4d5d2c3f4839f0ff1b4e21537c3c358f7d10b5e5d7c9c6de5",
}


def a_la_mode(specs: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Return each task of the published example with its inputs and its output."""
    tasks: dict[str, dict[str, Any]] = {}
    for name, needs in A_LA_MODE_NEEDS.items():
        described = {**specs[name], "inputs": {need: tasks[need]["output"] for need in needs}}
        tasks[name] = {**described, "output": identity.output_id(described)}
    return tasks


def test_the_six_published_ids_of_a_la_mode_come_out():
    tasks = a_la_mode(A_LA_MODE_SPECS)
    assert {name: task["output"] for name, task in tasks.items()} == A_LA_MODE_OUTPUTS
    changed = {**A_LA_MODE_SPECS, "blur": {**A_LA_MODE_SPECS["blur"], "sha": "qwetr3"}}
    assert {name: task["output"] for name, task in a_la_mode(changed).items()} == A_LA_MODE_CHANGED


def test_the_encoding_of_the_published_example_is_byte_for_byte_the_same():
    encoded = bencode.encode({"meta": {"schedule": "@daily"}, "tasks": a_la_mode(A_LA_MODE_SPECS)})
    assert len(encoded) == 1024
    digest = hashlib.sha256(encoded).hexdigest()
    assert digest == "715c0fe8bd9a43a6111bad3de8298d07fdb31e4bed5afeccdafbb2d99aec89d4"


def test_bencode_sorts_by_bytes_and_refuses_what_has_no_one_spelling():
    assert bencode.encode({"ä": 1, "z": [b"\xff", -3], "a": {}}) == b"d1:ade1:zl1:\xffi-3ee2:\xc3\xa4i1ee"
    values: list[Any] = [True, 1.0, None, {1: "a"}, [{"a": (1, False)}], {"a"}]
    for value in values:
        with pytest.raises(TypeError):
            bencode.encode(value)


PLAIN = st.recursive(
    st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)


def plain_token(value: Any) -> Any:
    if isinstance(value, dict):
        return ("map", frozenset((key, plain_token(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", tuple(map(plain_token, value)))
    return value.encode() if isinstance(value, str) else value


@given(PLAIN, PLAIN)
def test_bencode_gives_one_spelling_to_one_value_and_two_to_two(left: Any, right: Any):
    assert (bencode.encode(left) == bencode.encode(right)) == (plain_token(left) == plain_token(right))


# datanectar's keys


def test_the_keys_of_datanectar_come_out():
    assert identity.datanectar_key({"day": "2016-06-03"}) == "b226f1826734303ca9d39d79f960b367"
    key = identity.datanectar_key({"param2": "world", "param1": "hello"})
    assert key == "99b1ff8f11781541f7f89f9bd41c4a17"
    assert identity.datanectar_key({}) == hashlib.md5(b"").hexdigest()


def test_datanectar_orders_values_by_the_sums_of_the_characters_of_their_names_and_then_by_name():
    values = {"zz": "last", "b": "first", "aab": "tie 1", "aba": "tie 2", "baa": "tie 3"}
    assert sum(map(ord, "zz")) == 244 and sum(map(ord, "aab")) == 292
    joined = "first_last_tie 1_tie 2_tie 3"
    assert identity.datanectar_key(values) == hashlib.md5(joined.encode()).hexdigest()


def test_the_datanectar_scheme_changes_the_key_and_not_the_output_id():
    class HelloTask(nectar.Task):
        param1 = luigi.Parameter()
        param2 = luigi.Parameter()
        loud = luigi.BoolParameter(significant=False)

    class OldTask(nectar.Task):
        family = "chains.x.OldTask"
        identity = "datanectar"
        day = luigi.DateParameter()

    class NewTask(nectar.Task):
        family = "chains.x.OldTask"
        day = luigi.DateParameter()

    class NothingTask(nectar.Task):
        pass

    day = datetime.date(2016, 6, 3)
    assert OldTask(day=day).key == "b226f1826734303ca9d39d79f960b367"
    assert OldTask(day=day).output_id == NewTask(day=day).output_id
    assert NewTask(day=day).key == NewTask(day=day).output_id[:32]
    with settings.overridden(identity=settings.IdentityScheme.DATANECTAR):
        assert HelloTask(param1="hello", param2="world").key == "99b1ff8f11781541f7f89f9bd41c4a17"
        assert NothingTask().key == "d41d8cd98f00b204e9800998ecf8427e"


# Our own keys


class Fruit(enum.Enum):
    APPLE = 1


def golden_task() -> nectar.Task:
    class RawTask(nectar.Task):
        family = "chains.etl.golden_chain.RawTask"
        n = luigi.IntParameter()

    class GoldenTask(nectar.Task):
        family = "chains.etl.golden_chain.GoldenTask"
        version = "2"
        outputs = ("table.csv", "picture.png")
        day = luigi.DateParameter()
        text = luigi.Parameter()
        number = luigi.FloatParameter()
        whole = luigi.FloatParameter()
        flag = luigi.BoolParameter()
        fruit = luigi.EnumParameter(enum=Fruit)
        mapping = luigi.DictParameter()
        password = luigi.Parameter(visibility=ParameterVisibility.PRIVATE)
        hidden = luigi.Parameter(visibility=ParameterVisibility.HIDDEN)
        loud = luigi.BoolParameter(significant=False)
        later = luigi.IntParameter(default=3)
        omit_at_default = ("later",)

        def requires(self) -> Any:
            return {"a.b": RawTask(n=1), "parts": [RawTask(n=2), {"x": RawTask(n=3)}]}

    return GoldenTask(
        day=datetime.date(2024, 2, 29),
        text="Grüße",
        number=0.1,
        whole=2.0,
        flag=True,
        fruit=Fruit.APPLE,
        mapping={"b": [1, 1.0, 1.5, True, None, "1.5"], "a": {"set": []}},
        password="secret",
        hidden="seen in the key",
        loud=True,
    )


def test_the_identity_of_a_task_is_pinned():
    found = closure.identify(golden_task())
    # changing anything here orphans every user's targets
    assert closure.document_of(golden_task()) == {
        "task": "chains.etl.golden_chain.GoldenTask",
        "version": "2",
        "params": {
            "day": "2024-02-29",
            "text": "Grüße",
            "number": "0.1",
            "whole": 2,
            "flag": "True",
            "fruit": "APPLE",
            "mapping": '{"map":{"a":{"map":{"set":{"list":[]}}},"b":{"list":[1,1,{"float":"1.5"},{"bool":"True"},'
            '{"none":""},"1.5"]}}}',
            "password": "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
            "hidden": "seen in the key",
        },
        "inputs": {
            "a\\.b": "569f0a67a3642a7f6466b13892f8e6943cb4ae3b3e6bb9260abac36cdb70a452",
            "parts.0": "40d510dbb445a7ccfba55edeabf7f86c54b7254210290626b38bc768e2223433",
            "parts.1.x": "3361ff073f7d89d3fced2cea5f8b3b8608c8eadd39e5f5e4b6862ec5c9b0d4cf",
        },
        "outputs": ["picture.png", "table.csv"],
    }
    assert found.key == "72a83fe5983040fffcd3dbd64bb12680"  # changing this orphans every user's targets
    assert found.output_id == "72a83fe5983040fffcd3dbd64bb12680b40920bd29705d1a4c4de8ea35dfb6b4"


def test_the_output_id_is_the_sha256_of_the_bencoded_identity_and_the_key_its_first_half():
    found = closure.identify(golden_task())
    assert found.output_id == hashlib.sha256(bencode.encode(closure.document_of(golden_task()))).hexdigest()
    assert found.key == found.output_id[:32]


IN_ANOTHER_PROCESS = """
import sys
import luigi
import nectar


class SetParameter(luigi.Parameter):
    def parse(self, text):
        return frozenset(text.split(","))

    def serialize(self, value):
        return ",".join(value)


class PartTask(nectar.Task):
    n = luigi.IntParameter()


class WholeTask(nectar.Task):
    words = SetParameter()
    mapping = luigi.DictParameter()

    def requires(self):
        return {"parts": {PartTask(n=n) for n in range(20)}}


task = WholeTask(words=frozenset("abcdefghij"), mapping={letter: [ord(letter)] for letter in sys.argv[1]})
print(task.key)
"""


def printed_by(file: Path, seed: str, *words: str) -> str:
    """Return what a script prints in a process of its own, with this PYTHONHASHSEED."""
    path = str(Path(str(nectar.__file__)).parents[1])
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(file), *words]
    return subprocess.run(command, env=environment, cwd=file.parent, capture_output=True, text=True, check=True).stdout


def test_keys_are_equal_in_every_process_and_hash_seed(tmp_path: Path):
    file = tmp_path / "fruits_chain.py"
    file.write_text(IN_ANOTHER_PROCESS)
    orders = [("0", "abcdef"), ("1", "fedcba"), ("random", "cbadfe")]
    assert len({printed_by(file, seed, letters) for seed, letters in orders}) == 1


@pytest.mark.parametrize("kind", ["set", "frozenset"])
def test_a_set_given_to_a_plain_parameter_has_one_key_in_every_process_or_none(tmp_path: Path, kind: str):
    file = tmp_path / "set_chain.py"
    file.write_text(
        "import luigi, nectar\n"
        "from nectar import errors\n"
        "class SetTask(nectar.Task):\n"
        "    words = luigi.Parameter()\n"
        "try:\n"
        f"    print(SetTask(words={kind}('abcde')).key)\n"
        "except errors.IdentityError as error:\n"
        "    print(error.code)\n"
    )
    assert len({printed_by(file, seed) for seed in "0123"}) == 1


# What counts


def test_two_values_that_join_to_one_text_have_two_keys():
    class PairTask(nectar.Task):
        a = luigi.Parameter()
        b = luigi.Parameter()

    assert PairTask(a="x_y", b="z").key != PairTask(a="x", b="y_z").key


def test_insignificant_parameters_do_not_count_and_hidden_ones_do():
    class SomeTask(nectar.Task):
        n = luigi.IntParameter()
        loud = luigi.BoolParameter(significant=False)
        hidden = luigi.Parameter(default="x", visibility=ParameterVisibility.HIDDEN)

    assert SomeTask(n=1, loud=True).key == SomeTask(n=1, loud=False).key
    assert SomeTask(n=1, hidden="y").key != SomeTask(n=1, hidden="x").key


def test_private_values_count_without_being_shown():
    class LoginTask(nectar.Task):
        password = luigi.Parameter(visibility=ParameterVisibility.PRIVATE)

    one, other = LoginTask(password="canary-1"), LoginTask(password="canary-2")
    assert one.key != other.key
    assert "canary" not in json.dumps(closure.document_of(one))
    assert "canary" not in one.task_id + str(one._nectar.ref) + json.dumps(one.shown_params())


def test_private_values_are_not_in_the_text_of_a_task():
    class LoginTask(nectar.Task):
        password = luigi.Parameter(visibility=ParameterVisibility.PRIVATE)

    task = LoginTask(password="canary-1")
    assert "canary" not in repr(task) + str(task) + f"{task}"


def test_tasks_that_differ_in_a_private_value_are_not_equal():
    class LoginTask(nectar.Task):
        password = luigi.Parameter(visibility=ParameterVisibility.PRIVATE)

    assert LoginTask(password="one") != LoginTask(password="two")
    assert len({LoginTask(password="one"), LoginTask(password="two")}) == 2


def test_a_parameter_omitted_at_its_default_remakes_nothing():
    class OldTask(nectar.Task):
        family = "chains.x.T"
        n = luigi.IntParameter()

    class NewTask(nectar.Task):
        family = "chains.x.T"
        n = luigi.IntParameter()
        factor = luigi.FloatParameter(default=1.0)
        omit_at_default = ("factor",)

    assert NewTask(n=1).key == NewTask(n=1, factor=1).key == OldTask(n=1).key
    assert NewTask(n=1, factor=1.5).key != OldTask(n=1).key


def test_a_family_keeps_keys_and_places_across_a_move():
    class OldTask(nectar.Task):
        n = luigi.IntParameter()

    class NewTask(nectar.Task):
        family = f"{__name__}.OldTask"
        n = luigi.IntParameter()

    assert NewTask(n=1).target_address() == OldTask(n=1).target_address()
    assert NewTask(n=1).output_id == OldTask(n=1).output_id


def test_the_version_counts_and_must_be_a_text_or_a_whole_number():
    class VersionTask(nectar.Task):
        version = luigi.Parameter(default="1", significant=False)

    class FloatTask(nectar.Task):
        version = 1.5

    assert VersionTask(version="1").key != VersionTask(version="2").key
    with pytest.raises(errors.IdentityError, match=r"FloatTask.*1\.5"):
        _ = FloatTask().key


def test_output_names_count_unless_they_are_the_default_alone():
    def task(**body: Any) -> nectar.Task:
        cls: Any = type("NamesTask", (nectar.Task,), {"family": "chains.x.NamesTask", **body})
        return cls()

    default = task()
    assert task(outputs=["out.txt"]).key == task(filename="out.txt").key == default.key
    keys = [task(filename="a.txt").key, task(outputs=["a.txt", "b.txt"]).key, task(outputs={"x": "b.txt"}).key]
    assert len({*keys, default.key}) == 4
    assert task(outputs=["b.txt", "a.txt"]).key == task(outputs={"x": "a.txt", "y": "b.txt"}).key == keys[1]


def test_the_place_of_an_input_counts_and_its_class_by_its_identity():
    class NumberTask(nectar.Task):
        n = luigi.IntParameter()

    def task(given: Any) -> str:
        body = {"family": "chains.x.ShapeTask", "requires": lambda self: given}
        cls: Any = type("ShapeTask", (nectar.Task,), body)
        return str(cls().key)

    one, two = NumberTask(n=1), NumberTask(n=2)
    assert task(one) == task([one]) == task({"0": one}) == task((one,))
    shapes = [task([one, two]), task([two, one]), task({"a": one, "b": two}), task({"a": {"b": one}}), task([])]
    shapes += [task({"a.b": one}), task({"a\\": {"b": one}}), task({"a\\.b": one})]
    assert len(set(shapes)) == len(shapes)
    assert task({one, two}) == task({two, one})


def test_a_plain_luigi_task_upstream_counts_by_module_family_and_parameters():
    class Plain(luigi.Task):
        n = luigi.IntParameter()
        loud = luigi.BoolParameter(significant=False)

        def requires(self) -> Any:
            raise AssertionError("nobody asks")

    class UnderTask(nectar.Task):
        n = luigi.IntParameter()
        loud = luigi.BoolParameter(significant=False)

        def requires(self) -> Any:
            return Plain(n=self.n, loud=self.loud)

    assert UnderTask(n=1, loud=True).key == UnderTask(n=1, loud=False).key
    documents = [closure.document_of(UnderTask(n=n))["inputs"]["0"] for n in (1, 2)]
    assert documents[0] != documents[1]
    expected = {"task": f"{__name__}.Plain", "version": "", "params": {"n": 1}, "inputs": {}}
    assert documents[0] == identity.output_id(expected)


def test_the_change_between_two_identities_is_told_by_component():
    old = identity.task_document("a.T", "1", {"n": 1, "gone": "x"}, {"0": "aa"})
    new = identity.task_document("a.T", "2", {"n": 2, "new": "y"}, {"0": "bb"}, ("a.csv",))
    assert identity.changes(old, old) == []
    assert identity.changes(old, new) == [
        Change("version", "1", "2"),
        Change("outputs", None, ["a.csv"]),
        Change("params.gone", "x", None),
        Change("params.n", 1, 2),
        Change("params.new", None, "y"),
        Change("inputs.0", "aa", "bb"),
    ]


# Deep, round, endless


def test_a_chain_of_10000_tasks_is_identified_without_recursion():
    class DeepTask(nectar.Task):
        n = luigi.IntParameter()

        def requires(self) -> Any:
            return DeepTask(n=self.n - 1) if self.n else []

    assert sys.getrecursionlimit() < 10_000
    top = DeepTask(n=10_000)
    assert len(top.key) == 32
    assert len(closure.closure([top]).tasks) == 10_001


def test_a_plan_over_10000_tasks_needs_no_recursion():
    class DeepTask(nectar.Task):
        n = luigi.IntParameter()

        def requires(self) -> Any:
            return DeepTask(n=self.n - 1) if self.n else []

    plan = nectar.plan(DeepTask(n=10_000))
    assert [plan.steps[0].task.split(".")[-1], len(plan.steps)] == ["DeepTask(n=0)", 10_001]


def test_a_circle_is_an_error_that_draws_it():
    class RoundTask(nectar.Task):
        n = luigi.IntParameter()

        def requires(self) -> Any:
            return RoundTask(n=self.n % 3 + 1)

    class AboveTask(nectar.Task):
        def requires(self) -> Any:
            return RoundTask(n=1)

    with pytest.raises(errors.CycleFound) as raised:
        _ = AboveTask().key
    name = f"{__name__}.RoundTask"
    assert raised.value.message.splitlines() == [
        "tasks require each other in a circle:",
        f"{name}(n=1)",
        f"   └─ {name}(n=2)",
        f"      └─ {name}(n=3)",
        f"         └─ {name}(n=1)",
    ]
    assert raised.value.hint


@pytest.mark.parametrize("ask", ["key", "output_id", "path", "exists", "complete", "identify"])
def test_a_requires_that_asks_its_own_output_is_an_error(ask: str):
    class SelfishTask(nectar.Task):
        def requires(self) -> Any:
            asked = {
                "key": lambda: self.key,
                "output_id": lambda: self.output_id,
                "path": lambda: self.output().path,
                "exists": lambda: self.output().exists(),
                "complete": self.complete,
                "identify": lambda: closure.identify(self),
            }
            asked[ask]()
            return []

    with pytest.raises(errors.RequiresItsOwnOutput, match="SelfishTask") as raised:
        _ = SelfishTask().key
    assert raised.value.hint and "counts_inputs" in raised.value.hint
    with pytest.raises(errors.RequiresItsOwnOutput):
        SelfishTask().complete()


def test_an_endless_history_needs_counts_inputs_false():
    class TodayTask(nectar.Task):
        day = luigi.DateParameter()
        counts_inputs = False

        def requires(self) -> Any:
            return TodayTask(day=self.day - datetime.timedelta(days=1))

    class ReportTask(nectar.Task):
        def requires(self) -> Any:
            return TodayTask(day=datetime.date(2024, 1, 1))

    today = TodayTask(day=datetime.date(2024, 1, 1))
    assert closure.document_of(today)["inputs"] == {}
    assert len(ReportTask().key) == 32
    assert len(closure.closure([ReportTask()]).tasks) == 2


def test_a_closure_too_large_is_an_error_that_names_the_family(monkeypatch: pytest.MonkeyPatch):
    class EndlessTask(nectar.Task):
        n = luigi.IntParameter()

        def requires(self) -> Any:
            return EndlessTask(n=self.n + 1)

    monkeypatch.setattr(closure, "MOST_TASKS", 1000)
    with pytest.raises(errors.ClosureTooLarge, match=r"1,000 tasks.*EndlessTask") as raised:
        _ = EndlessTask(n=0).key
    assert raised.value.hint and "counts_inputs = False" in raised.value.hint


def test_requiring_what_is_no_task_is_an_error_that_names_it():
    class ClassTask(nectar.Task):
        def requires(self) -> Any:
            return nectar.FileSource

    class TextTask(nectar.Task):
        def requires(self) -> Any:
            return ["input.txt"]

    for task, text in [(ClassTask(), "FileSource"), (TextTask(), "input.txt")]:
        with pytest.raises(errors.GraphError, match=text):
            _ = task.key


# Input files


def test_the_content_of_an_input_file_counts_and_not_its_folder(project: Path):
    class WordsTask(nectar.Task):
        family = "chains.x.WordsTask"
        path = luigi.Parameter(significant=False)

        def requires(self) -> Any:
            return nectar.FileSource(str(self.path))

    def key(name: str, text: str) -> str:
        file = project / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        ground.begin_epoch()
        return str(WordsTask(path=str(file)).key)

    first = key("a/words.txt", "one")
    assert key("b/words.txt", "one") == first
    assert key("a/words.txt", "two") != first
    assert key("a/words.txt", "one") == first
    assert key("a/other.txt", "one") != first


def test_an_input_file_is_read_anew_in_each_plan(project: Path):
    class SourceTask(nectar.Task):
        def requires(self) -> Any:
            return nectar.FileSource(str(project / "words.txt"))

        def run(self) -> None:
            self.dump(self.input().load())

    class AboveTask(nectar.Task):
        def requires(self) -> Any:
            return SourceTask()

        def run(self) -> None:
            self.dump(self.input().load() + "!")

    task, words = AboveTask(), project / "words.txt"
    texts = []
    for text in ("one", "two", "one"):
        words.write_text(text)
        assert nectar.run(task).success
        texts.append((task.key, task.load()))
    assert texts[0] == texts[2] and texts[0][0] != texts[1][0]
    assert [text for _, text in texts] == ["one!", "two!", "one!"]


def test_an_input_file_that_changes_during_the_run_is_an_error(project: Path):
    words = project / "words.txt"

    class SpoilsTask(nectar.Task):
        def requires(self) -> Any:
            return nectar.FileSource(str(words))

        def run(self) -> None:
            words.write_text("something else")
            self.dump("made from what?")

    words.write_text("one")
    result = nectar.run(SpoilsTask())
    assert not result.success and "IdentityChanged" in str(result.steps[-1].error)


def test_a_missing_input_file_is_an_error_that_names_it(project: Path):
    class MissingTask(nectar.Task):
        def requires(self) -> Any:
            return nectar.FileSource(str(project / "missing.txt"))

    with pytest.raises(errors.MissingInput, match=r"missing\.txt"):
        nectar.run(MissingTask())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(
    TEXTS,
    TEXTS,
    st.dictionaries(TEXTS, st.integers() | TEXTS, max_size=4),
    st.dictionaries(TEXTS, TEXTS, max_size=3),
    st.lists(TEXTS | st.just("out.txt"), max_size=3),
)
def test_a_task_is_identified_as_its_document_is(
    family: str, version: str, params: dict[str, int | str], inputs: dict[str, str], outputs: list[str]
) -> None:
    document = identity.task_document(family, version, params, inputs, outputs)
    assert identity.identify_task(family, version, params, inputs, outputs) == identity.identify(document)
