"""The metaclass: one instance for one set of values, parameters found once a class, names that never meet."""

from __future__ import annotations

import datetime
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luigi
import luigi.util
import pytest
from luigi.parameter import (
    DuplicateParameterException,
    MissingParameterException,
    ParameterVisibility,
    UnconsumedParameterWarning,
    UnknownParameterException,
)
from luigi.task_register import Register

import nectar
from nectar import errors, settings
from nectar.task import ground
from nectar.task.register import TaskRegister


@pytest.fixture(autouse=True)
def forget(tmp_path: Path) -> Iterator[None]:
    """The classes that a test defines, and what it configures, are forgotten after it."""
    registered, config = list(Register._reg), luigi.configuration.get_config()
    sections = set(config.sections())
    with settings.overridden(root=tmp_path, store_url=(tmp_path / "local_targets").as_uri()):
        yield
    for section in set(config.sections()) - sections:
        config.remove_section(section)
    Register._reg[:] = registered
    ground.set_main_module(None)
    TaskRegister.clear_instance_cache()


class PickledTask(nectar.Task):
    day = luigi.DateParameter()
    tags = luigi.DictParameter(default={})
    password = luigi.Parameter(default="x", visibility=ParameterVisibility.PRIVATE)


# Instances


def test_equal_values_give_the_same_instance_however_they_are_given():
    class ValuesTask(nectar.Task):
        n = luigi.IntParameter(default=1)
        tags = luigi.DictParameter(default={"a": 1})
        number = luigi.FloatParameter(default=2)

    first = ValuesTask()
    assert ValuesTask(1) is ValuesTask(n=1) is first
    assert ValuesTask(1, {"a": 1}, 2.0) is ValuesTask(number=2, tags={"a": 1.0}, n=1) is first
    assert ValuesTask(n=1, tags={"a": 1}, number=2) is first
    pair = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert ValuesTask(tags=pair[0]) is ValuesTask(tags=pair[1]) is not first


def test_values_that_python_holds_for_equal_give_instances_of_their_own():
    class TagsTask(nectar.Task):
        tags = luigi.DictParameter()

    one, true, text = (TagsTask(tags={"a": value}) for value in (1, True, "1"))
    assert len({id(one), id(true), id(text)}) == 3
    assert (one.tags["a"], true.tags["a"], text.tags["a"]) == (1, True, "1")
    assert true.tags["a"] is True
    assert len({one.key, true.key, text.key}) == 3
    assert TagsTask(tags={"a": 1.0}) is one


def test_a_value_that_its_parameter_could_not_read_back_is_refused_even_where_python_holds_it_for_equal():
    class NumberTask(nectar.Task):
        n = luigi.IntParameter()

    NumberTask(n=1)
    for value in (True, 1.0):
        with pytest.raises(errors.IdentityError, match=f"`n` cannot hold {value!r}"):
            NumberTask(n=value)


@pytest.mark.parametrize("visibility", list(ParameterVisibility))
@pytest.mark.parametrize("significant", [True, False])
def test_variants_of_every_visibility_are_instances_of_their_own(visibility: ParameterVisibility, significant: bool):
    class SeenTask(nectar.Task):
        word = luigi.Parameter(visibility=visibility, significant=significant)

    one, two = SeenTask(word="one"), SeenTask(word="two")
    assert (one.word, two.word) == ("one", "two")
    assert (one.key == two.key) is (not significant)


def test_instances_of_two_classes_never_meet():
    def make() -> Any:
        class SameTask(nectar.Task):
            n = luigi.IntParameter()

        return SameTask

    first, second = make(), make()
    assert type(first(n=1)) is first and type(second(n=1)) is second


def test_luigi_can_clear_and_disable_the_cache():
    class CachedTask(nectar.Task):
        pass

    first = CachedTask()
    TaskRegister.clear_instance_cache()
    second = CachedTask()
    assert second is not first and CachedTask() is second
    TaskRegister.disable_instance_cache()
    try:
        assert CachedTask() is not CachedTask()
    finally:
        TaskRegister.clear_instance_cache()


def test_an_init_of_ones_own_may_do_what_it_does_in_luigi():
    class OwnInitTask(nectar.Task):
        n = luigi.IntParameter()
        extra = luigi.Parameter(default="none")

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "extra": "set"})
            self.double = 2 * self.n

    task = OwnInitTask(n=2)
    assert (task.double, task.extra, task.param_kwargs) == (4, "set", {"n": 2, "extra": "set"})
    assert task.shown_params() == {"n": 2, "extra": "set"}


def test_a_task_comes_back_from_a_pickle_with_its_key_and_runs():
    task = PickledTask(day=datetime.date(2024, 1, 1), tags={"a": [1]})
    for before in (lambda: None, lambda: task.key):
        before()
        back = pickle.loads(pickle.dumps(task))
        assert back == task and back.key == task.key and back.param_kwargs == task.param_kwargs
        assert callable(back.run)


# Values


def test_wrong_arguments_raise_what_luigi_raises():
    class ArgumentsTask(nectar.Task):
        number = luigi.IntParameter()
        keyword = luigi.Parameter(default="x", positional=False)

    with pytest.raises(MissingParameterException, match="requires the 'number' parameter"):
        ArgumentsTask()
    with pytest.raises(UnknownParameterException, match=r"unknown parameter numbre .*did you mean `number`"):
        ArgumentsTask(number=1, numbre=2)
    with pytest.raises(UnknownParameterException, match="takes at most 1"):
        ArgumentsTask(1, "y")
    with pytest.raises(DuplicateParameterException):
        ArgumentsTask(1, number=1)


def test_values_come_from_the_configuration_under_the_full_and_the_bare_name():
    class ConfiguredTask(nectar.Task):
        n = luigi.IntParameter(default=1)
        word = luigi.Parameter(default="none", config_path={"section": "elsewhere", "name": "word_of_old"})

    config = luigi.configuration.get_config()
    config.set("elsewhere", "word_of_old", "found")
    config.set("ConfiguredTask", "n", "2")
    assert (ConfiguredTask().n, ConfiguredTask().word) == (2, "found")
    config.set(f"{__name__}.ConfiguredTask", "n", "3")
    assert ConfiguredTask().n == 3
    assert ConfiguredTask(n=4).n == 4


def test_an_unknown_name_in_a_section_warns_once():
    class WarnedTask(nectar.Task):
        n = luigi.IntParameter(default=1)

    luigi.configuration.get_config().set("WarnedTask", "m", "2")
    with pytest.warns(UnconsumedParameterWarning, match="'m'"):
        WarnedTask(n=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WarnedTask(n=2)


# Parameters of a class


def test_parameters_are_those_that_luigi_finds_in_its_order():
    class Mixin:
        first = luigi.IntParameter(default=1)

    class BaseTask(nectar.Task):
        second = luigi.IntParameter(default=2)
        third = luigi.IntParameter(default=3)
        fourth = luigi.IntParameter(default=4)

    class LeafTask(Mixin, BaseTask):
        third = luigi.Parameter(default="3")
        fourth = 4  # no longer a parameter

    for cls in (BaseTask, LeafTask):
        assert cls.get_params() == luigi.Task.get_params.__func__(cls)
    assert [name for name, _ in LeafTask.get_params()] == ["first", "second", "third"]


def test_a_parameter_added_to_a_finished_class_or_its_base_is_found():
    class BaseTask(nectar.Task):
        a = luigi.IntParameter(default=1)

    class LeafTask(BaseTask):
        pass

    assert LeafTask().param_kwargs == {"a": 1}
    BaseTask.b = luigi.IntParameter(default=2)
    assert LeafTask().param_kwargs == {"a": 1, "b": 2}
    del BaseTask.b
    assert LeafTask().param_kwargs == {"a": 1}
    BaseTask.a = 5
    assert LeafTask().param_kwargs == {}


def test_luigi_util_inherits_and_requires_add_parameters_that_count():
    class SourceTask(nectar.Task):
        n = luigi.IntParameter()

    class PlainTask(nectar.Task):
        word = luigi.Parameter(default="w")

    assert [name for name, _ in PlainTask.get_params()] == ["word"]
    inheriting = luigi.util.inherits(SourceTask)(PlainTask)
    assert {name for name, _ in inheriting.get_params()} == {"n", "word"}
    assert inheriting(n=1).key != inheriting(n=2).key

    @luigi.util.requires(SourceTask)
    class RequiringTask(nectar.Task):
        pass

    assert RequiringTask(n=3).requires() is SourceTask(n=3)


@pytest.mark.parametrize(
    "name", ["key", "output_id", "dump", "load", "target", "filename", "outputs", "family", "drift"]
)
def test_a_parameter_named_like_something_that_every_task_has_is_refused(name: str):
    with pytest.raises(errors.UsageError, match=f"`{name}` of `HidingTask`") as raised:
        type(nectar.Task)("HidingTask", (nectar.Task,), {name: luigi.Parameter(default="x"), "__module__": __name__})
    assert raised.value.hint == "give the parameter another name"


def test_a_hiding_parameter_of_a_mixin_is_refused():
    class Mixin:
        key = luigi.Parameter(default="x")

    with pytest.raises(errors.UsageError, match="`key`"):
        type(nectar.Task)("HidingTask", (Mixin, nectar.Task), {"__module__": __name__})


def test_a_hiding_parameter_that_is_added_later_is_refused():
    class LaterTask(nectar.Task):
        pass

    with pytest.raises(errors.UsageError, match="`key`"):
        LaterTask.key = luigi.Parameter(default="x")


@pytest.mark.parametrize("name", ["shown_params", "identify_with", "identity_family", "drift_policy", "reads_file"])
def test_no_parameter_may_hide_a_method_of_a_task(name: str):
    with pytest.raises(errors.UsageError, match=f"`{name}`"):
        type(nectar.Task)("HidingTask", (nectar.Task,), {name: luigi.Parameter(default="x"), "__module__": __name__})


# Names


def test_the_family_is_module_and_class():
    class NamedTask(nectar.Task):
        pass

    assert NamedTask.get_task_family() == f"{__name__}.NamedTask"
    assert Register.get_task_cls(f"{__name__}.NamedTask") is NamedTask


def test_a_namespace_of_ones_own_stays():
    class SpacedTask(nectar.Task):
        task_namespace = "mine"

    assert SpacedTask.get_task_family() == "mine.SpacedTask"


def test_a_bare_name_means_the_only_class_of_that_name_or_that_of_the_main_module():
    def make(module: str) -> Any:
        return type(nectar.Task)("BareTask", (nectar.Task,), {"__module__": module})

    first = make("chains.x.first_chain")
    assert ground.bare_class("BareTask") is first
    second = make("chains.x.second_chain")
    assert ground.bare_class("BareTask") is None
    ground.set_main_module("chains.x.second_chain")
    assert ground.bare_class("BareTask") is second is Register.get_task_cls("BareTask")
    assert ground.lookup_names(second) == ("chains.x.second_chain.BareTask", "BareTask")
    assert ground.lookup_names(first) == ("chains.x.first_chain.BareTask",)


def test_a_plain_luigi_task_of_the_same_name_keeps_it():
    class TakenTask(luigi.Task):
        pass

    type(nectar.Task)("TakenTask", (nectar.Task,), {"__module__": "chains.x.taken_chain"})
    assert Register.get_task_cls("TakenTask") is TakenTask


def test_luigis_task_id_tells_equal_names_and_hidden_values_apart_and_no_insignificant_ones():
    class IdTask(nectar.Task):
        word = luigi.Parameter(default="a", visibility=ParameterVisibility.HIDDEN)
        loud = luigi.BoolParameter(significant=False)

    other: Any = type(nectar.Task)("IdTask", (nectar.Task,), {"__module__": "chains.x.other_chain"})
    ids = {IdTask().task_id, IdTask(word="b").task_id, other().task_id}
    assert len(ids) == 3
    assert IdTask(loud=True).task_id == IdTask().task_id
    assert IdTask(loud=True) == IdTask() != IdTask(word="b")
