"""Under luigi's command a bare name means the class of `--module`, and every parameter type means what luigi means."""

from __future__ import annotations

import json
from typing import Any

import pytest

DAILY = """
    import luigi

    import nectar
    from chains.etl.weekly_chain import LoadTask as WeeklyLoadTask


    class LoadTask(nectar.Task):
        n = luigi.IntParameter(default=1)

        def requires(self):
            return WeeklyLoadTask()

        def run(self):
            self.dump(f"daily {self.n}, {self.input().load()}")


    class ReportTask(nectar.Task):
        def requires(self):
            return LoadTask()

        def run(self):
            self.dump(f"report on {self.input().load()}")
"""

WEEKLY = """
    import luigi

    import nectar


    class LoadTask(nectar.Task):
        n = luigi.IntParameter(default=2)

        def run(self):
            self.dump(f"weekly {self.n}")
"""

TYPES = """
    import enum
    import json
    import pathlib

    import luigi

    import nectar


    class Colour(enum.Enum):
        RED = 1
        BLUE = 2


    class Types:
        text = luigi.Parameter()
        str_ = luigi.parameter.StrParameter()
        optional = luigi.OptionalParameter()
        optional_str = luigi.OptionalStrParameter()
        integer = luigi.IntParameter()
        optional_int = luigi.OptionalIntParameter()
        number = luigi.FloatParameter()
        optional_float = luigi.OptionalFloatParameter()
        flag = luigi.BoolParameter(parsing=luigi.BoolParameter.EXPLICIT_PARSING)
        optional_bool = luigi.OptionalBoolParameter(parsing=luigi.BoolParameter.EXPLICIT_PARSING)
        date = luigi.DateParameter()
        month = luigi.MonthParameter()
        year = luigi.YearParameter()
        hour = luigi.DateHourParameter()
        minute = luigi.DateMinuteParameter()
        second = luigi.DateSecondParameter()
        interval = luigi.DateIntervalParameter()
        delta = luigi.TimeDeltaParameter()
        task = luigi.TaskParameter()
        colour = luigi.EnumParameter(enum=Colour)
        colours = luigi.EnumListParameter(enum=Colour)
        mapping = luigi.DictParameter()
        optional_dict = luigi.OptionalDictParameter()
        listing = luigi.ListParameter()
        optional_list = luigi.OptionalListParameter()
        pairs = luigi.TupleParameter()
        optional_tuple = luigi.OptionalTupleParameter()
        bounded = luigi.NumericalParameter(var_type=float, min_value=0, max_value=10)
        optional_bounded = luigi.OptionalNumericalParameter(var_type=int, min_value=0, max_value=10)
        choice = luigi.ChoiceParameter(choices=[1, 2, 3], var_type=int)
        choices = luigi.ChoiceListParameter(choices=["a", "b"])
        optional_choice = luigi.OptionalChoiceParameter(choices=["a", "b"])
        path = luigi.PathParameter()
        optional_path = luigi.OptionalPathParameter()

        def run(self):
            values = {name: [type(value).__name__, repr(value)] for name, value in sorted(self.param_kwargs.items())}
            with self.output().open("w") as out:
                json.dump(values, out)


    class TypesTask(Types, nectar.Task):
        pass


    class PlainTypes(Types, luigi.Task):
        def output(self):
            return luigi.LocalTarget("plain.json")
"""

TEXTS = {
    "text": "--x y'\"$(id);ä",
    "str_": "007",
    "optional": "given",
    "optional_str": "x",
    "integer": "-4",
    "optional_int": "5",
    "number": "1e3",
    "optional_float": "0.1",
    "flag": "true",
    "optional_bool": "false",
    "date": "2024-02-29",
    "month": "2024-02",
    "year": "2024",
    "hour": "2024-02-29T13",
    "minute": "2024-02-29T1305",
    "second": "2024-02-29T130507",
    "interval": "2024-W09",
    "delta": "1 day 2 hours",
    "task": "TypesTask",
    "colour": "BLUE",
    "colours": "RED,BLUE,RED",
    "mapping": '{"b": {"y": 1.5}, "a": [1, true, null]}',
    "optional_dict": '{"k": "v"}',
    "listing": '[1, "1", 1.5, [2]]',
    "optional_list": "[]",
    "pairs": "((1, 2), (3, 4))",
    "optional_tuple": "[[1, 2]]",
    "bounded": "9.5",
    "optional_bounded": "3",
    "choice": "2",
    "choices": "b,a,b",
    "optional_choice": "a",
    "path": "some/where.txt",
    "optional_path": "/there",
}

DAYS = """
    import luigi
    import luigi.tools.range

    import nectar


    class DayTask(nectar.Task):
        day = luigi.DateParameter()
        word = luigi.Parameter(default="none")

        def run(self):
            self.dump(f"{self.day} {self.word}")


    class MonthsTask(nectar.Task):
        month = luigi.MonthParameter()

        def run(self):
            self.dump(f"{self.month}")
"""


@pytest.fixture
def two_chains(project: Any) -> Any:
    project.chain("daily_chain", DAILY)
    project.chain("weekly_chain", WEEKLY)
    return project


def test_a_bare_name_means_the_class_of_the_module_and_equal_names_never_meet(engine, two_chains):
    engine.run(two_chains, "daily_chain", "LoadTask", {"n": "7"}).ok()
    assert two_chains.target("LoadTask", "daily_chain").text() == "daily 7, weekly 2"
    assert two_chains.target("LoadTask", "weekly_chain").text() == "weekly 2"


def test_an_option_under_the_bare_name_sets_the_class_of_the_module_alone(luigi_engine, two_chains):
    luigi_engine.run(two_chains, "daily_chain", "ReportTask", options=["--LoadTask-n", "4"]).ok()
    assert two_chains.target("ReportTask").text() == "report on daily 4, weekly 2"


def test_an_option_under_the_qualified_name_sets_that_class(luigi_engine, two_chains):
    option = "--chains.etl.weekly-chain.LoadTask-n"
    luigi_engine.run(two_chains, "daily_chain", "ReportTask", options=[option, "5"]).ok()
    assert two_chains.target("ReportTask").text() == "report on daily 1, weekly 5"


def test_a_section_under_the_bare_name_sets_the_class_of_the_module_alone(engine, two_chains):
    two_chains.put("other.cfg", "[LoadTask]\nn = 8\n")
    engine.run(two_chains, "daily_chain", "ReportTask", env={"LUIGI_CONFIG_PATH": "other.cfg"}).ok()
    assert two_chains.target("ReportTask").text() == "report on daily 8, weekly 2"


def test_a_section_under_the_qualified_name_sets_that_class(engine, two_chains):
    two_chains.put(
        "other.cfg", "[chains.etl.weekly_chain.LoadTask]\nn = 9\n[chains.etl.daily_chain.LoadTask]\nn = 10\n"
    )
    engine.run(two_chains, "daily_chain", "ReportTask", env={"LUIGI_CONFIG_PATH": "other.cfg"}).ok()
    assert two_chains.target("ReportTask").text() == "report on daily 10, weekly 9"


def test_the_command_line_wins_over_a_section(luigi_engine, two_chains):
    two_chains.put("other.cfg", "[LoadTask]\nn = 8\n")
    env = {"LUIGI_CONFIG_PATH": "other.cfg"}
    luigi_engine.run(two_chains, "daily_chain", "ReportTask", options=["--LoadTask-n", "4"], env=env).ok()
    assert two_chains.target("ReportTask").text() == "report on daily 4, weekly 2"


def test_every_parameter_type_means_what_it_means_to_plain_luigi_and_has_the_key_that_python_gives(
    engine, one_process, project
):
    project.chain("types_chain", TYPES)
    engine.run(project, "types_chain", "TypesTask", TEXTS).ok()
    one_process.run(project, "types_chain", "PlainTypes", TEXTS).ok()
    target = project.target("TypesTask")
    ours = json.loads(target.text())
    assert len(ours) == len(TEXTS)
    assert ours == json.loads((project.root / "plain.json").read_text())
    code = f"""
        from chains.etl.types_chain import TypesTask
        texts = {TEXTS!r}
        values = {{name: one.parse(texts[name]) for name, one in TypesTask.get_params()}}
        print(TypesTask(**values).key)
    """
    assert project.python(code).ok().stdout.strip() == target.key


def test_an_unknown_or_unreadable_parameter_is_an_error_and_nothing_runs(luigi_engine, two_chains):
    luigi_engine.run(two_chains, "daily_chain", "LoadTask", {"m": "1"}).failed()
    luigi_engine.run(two_chains, "daily_chain", "LoadTask", {"n": "many"}).failed()
    luigi_engine.run(two_chains, "daily_chain", "LoatTask").failed()
    assert not two_chains.store.exists()


def test_range_daily_of_luigi_makes_the_days_of_a_task_given_by_its_bare_name(luigi_engine, project):
    project.chain("days_chain", DAYS)
    options = ["--of", "DayTask", "--of-params", '{"word": "leap"}', "--days-back", "36500"]
    options += ["--start", "2024-02-28", "--stop", "2024-03-02"]
    luigi_engine.run(project, "days_chain", "RangeDaily", options=options).ok()
    expected = ["2024-02-28 leap", "2024-02-29 leap", "2024-03-01 leap"]
    assert sorted(one.text() for one in project.targets("DayTask")) == expected
    before = [one.record["run_id"] for one in project.targets("DayTask")]
    luigi_engine.run(project, "days_chain", "RangeDaily", options=options).ok()
    assert [one.record["run_id"] for one in project.targets("DayTask")] == before


def test_range_monthly_of_luigi_makes_the_months_of_a_task_given_by_its_bare_name(luigi_engine, project):
    project.chain("days_chain", DAYS)
    options = ["--of", "MonthsTask", "--start", "2024-01", "--stop", "2024-03", "--months-back", "1200"]
    luigi_engine.run(project, "days_chain", "RangeMonthly", options=options).ok()
    assert sorted(one.text() for one in project.targets("MonthsTask")) == ["2024-01-01", "2024-02-01"]
