"""Whatever luigi lets a task require, it may require in Nectar, under every way to carry tasks out."""

from __future__ import annotations

from typing import Any

import pytest

CHAIN = """
    import luigi
    import luigi.util

    import nectar


    class SeedTask(nectar.Task):
        n = luigi.IntParameter(default=1)

        def run(self):
            self.dump(f"seed {self.n}\\n")


    class Gather:
        def run(self):
            with self.output().open("w") as out:
                for one in luigi.task.flatten(self.input()):
                    with one.open() as lines:
                        out.writelines(lines)


    class SingleTask(Gather, nectar.Task):
        def requires(self):
            return SeedTask(n=1)


    class ListTask(Gather, nectar.Task):
        def requires(self):
            return [SeedTask(n=2), SeedTask(n=1)]


    class DictTask(Gather, nectar.Task):
        def requires(self):
            return {"a": SeedTask(n=1), "b.c": SeedTask(n=2)}


    class NestedTask(Gather, nectar.Task):
        def requires(self):
            return {"parts": [SeedTask(n=1), {"deep": SeedTask(n=2)}], "one": SeedTask(n=3)}


    class GeneratorTask(Gather, nectar.Task):
        def requires(self):
            for n in (1, 2):
                yield SeedTask(n=n)


    class DynamicTask(nectar.Task):
        def run(self):
            self.started = True
            first = yield SeedTask(n=11)
            second = yield [SeedTask(n=12), SeedTask(n=13)]
            third = yield {"x": SeedTask(n=14)}
            print("past all requirements")
            targets = [first, *second, *third.values()]
            self.dump("".join(one.load() for one in targets))


    class CallableDynamicTask(nectar.Task):
        def run(self):
            return self.steps()

        def steps(self):
            found = yield SeedTask(n=15)
            self.dump(found.load())


    class WrappedDynamicTask(nectar.Task):
        def run(self):
            yield luigi.DynamicRequirements([SeedTask(n=16), SeedTask(n=17)])
            self.dump("both are there")


    class FilePresent(luigi.ExternalTask):
        def output(self):
            return luigi.LocalTarget("given.txt")


    class PresentTask(Gather, nectar.Task):
        def requires(self):
            return FilePresent()


    class GivenTask(luigi.ExternalTask, nectar.Task):
        def output(self):
            return luigi.LocalTarget("given.txt")


    class NectarPresentTask(Gather, nectar.Task):
        def requires(self):
            return GivenTask()


    class PlainUpstream(luigi.Task):
        n = luigi.IntParameter(default=5)

        def output(self):
            return luigi.LocalTarget(f"plain-{self.n}.txt")

        def run(self):
            with self.output().open("w") as out:
                out.write(f"plain {self.n}\\n")


    class PlainTask(Gather, nectar.Task):
        def requires(self):
            return PlainUpstream()


    class FirstWrapperTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [SeedTask(n=21), SeedTask(n=22)]


    class SecondWrapperTask(luigi.WrapperTask, nectar.Task):
        def requires(self):
            yield SeedTask(n=23)


    class UnderWrapperTask(nectar.Task):
        def requires(self):
            return FirstWrapperTask()

        def run(self):
            self.dump("after its wrapper")


    @luigi.util.requires(SeedTask)
    class RequiresTask(Gather, nectar.Task):
        word = luigi.Parameter(default="w")


    @luigi.util.requires(SeedTask, SingleTask)
    class RequiresTwoTask(Gather, nectar.Task):
        pass


    @luigi.util.inherits(SeedTask)
    class InheritsTask(nectar.Task):
        def requires(self):
            return self.clone_parent(n=self.n + 30)

        def run(self):
            self.dump(f"{self.n}: {self.input().load()}")


    @luigi.util.copies(SeedTask)
    class CopiesTask(nectar.Task):
        pass


    class PowersTask(nectar.Task):
        base = luigi.IntParameter()

        def requires(self):
            return SeedTask(n=40 + self.base)

        def power(self, exponent):
            return self.base ** exponent

        def run(self):
            self.dump("run as a subtask")


    @luigi.util.delegates
    class DelegatesTask(nectar.Task):
        def subtasks(self):
            return PowersTask(base=3)

        def run(self):
            self.dump(str(self.subtasks().power(4)))


    class MixinRun:
        def run(self):
            self.dump("from the mixin")


    class MixinTask(MixinRun, nectar.Task):
        pass


    class BaseTask(nectar.Task):
        def run(self):
            self.dump("from the base", "base.txt")

        def output(self):
            return {"base": self.target("base.txt")}


    class SuperTask(BaseTask):
        def run(self):
            super().run()
            self.dump("from the subclass", "own.txt")

        def output(self):
            return {**super().output(), "own": self.target("own.txt")}


    class BaseDynamicTask(nectar.Task):
        def run(self):
            found = yield SeedTask(n=51)
            self.text = found.load()


    class SuperDynamicTask(BaseDynamicTask):
        def run(self):
            yield from super().run()
            more = yield SeedTask(n=52)
            self.dump(self.text + more.load())


    class AllTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [
                SingleTask(), ListTask(), DictTask(), NestedTask(), GeneratorTask(), DynamicTask(),
                CallableDynamicTask(), WrappedDynamicTask(), PresentTask(), NectarPresentTask(),
                PlainTask(), FirstWrapperTask(), SecondWrapperTask(), UnderWrapperTask(),
                RequiresTask(n=1), RequiresTwoTask(n=1), InheritsTask(n=1), CopiesTask(n=1),
                DelegatesTask(), MixinTask(), SuperTask(), SuperDynamicTask(),
            ]
"""


@pytest.fixture(scope="module")
def ran(engine: Any, new_project: Any) -> Any:
    """A project in which everything was made in one run."""
    project = new_project()
    project.chain("shapes_chain", CHAIN)
    project.put("given.txt", "given\n")
    project.ended = engine.run(project, "shapes_chain", "AllTask").ok()
    return project


def test_requirements_of_every_shape_are_inputs_and_have_their_paths_in_the_record(ran):
    for name, paths, text in [
        ("SingleTask", ["0"], "seed 1\n"),
        ("ListTask", ["0", "1"], "seed 2\nseed 1\n"),
        ("DictTask", ["a", "b\\.c"], "seed 1\nseed 2\n"),
        ("NestedTask", ["one", "parts.0", "parts.1.deep"], "seed 1\nseed 2\nseed 3\n"),
        ("GeneratorTask", ["0", "1"], "seed 1\nseed 2\n"),
    ]:
        target = ran.target(name)
        assert target.text() == text, name
        record = target.record
        assert sorted(record["inputs"]) == sorted(record["identity"]["inputs"]) == paths, name
        for entry in record["inputs"].values():
            assert (ran.store / entry["path"] / "record.json").is_file()
            assert set(entry["files"]) == {"out.txt"}


def test_each_task_ran_once_under_one_run_id(ran):
    records = [one.record for one in ran.targets("*")]
    assert len({record["run_id"] for record in records}) == 1
    assert all(record["attempt"]["number"] == 1 for record in records)


def test_dynamic_requirements_are_made_and_recorded(ran):
    target = ran.target("DynamicTask")
    assert target.text() == "".join(f"seed {n}\n" for n in (11, 12, 13, 14))
    record = target.record
    assert record["identity"]["inputs"] == {}
    assert [entry["path"] for entry in record["dynamic"]] == [
        str(ran.target("SeedTask", n=n).path.relative_to(ran.store)) for n in (11, 12, 13, 14)
    ]
    assert ran.target("CallableDynamicTask").text() == "seed 15\n"
    assert ran.target("WrappedDynamicTask").text() == "both are there"


def test_a_generator_that_luigi_drops_is_no_failed_attempt(ran):
    assert list(ran.store.glob("chains/etl/*/*/.attempts")) == []
    assert ran.staged() == []
    assert ran.target("DynamicTask").stdout == "past all requirements\n"


def test_external_and_plain_luigi_tasks_are_inputs(ran):
    assert ran.target("PresentTask").text() == ran.target("NectarPresentTask").text() == "given\n"
    target = ran.target("PlainTask")
    assert target.text() == "plain 5\n"
    assert target.record["inputs"]["0"]["path"] is None
    assert len(target.record["identity"]["inputs"]["0"]) == 64


def test_wrappers_of_both_inheritance_orders_have_their_requirements_made(ran):
    for n in (21, 22, 23):
        assert ran.target("SeedTask", n=n).text() == f"seed {n}\n"
    assert ran.target("UnderWrapperTask").text() == "after its wrapper"


def test_decorators_of_luigi_util_work(ran):
    assert ran.target("RequiresTask").text() == "seed 1\n"
    assert ran.target("RequiresTask").params == {"n": 1, "word": "w"}
    assert ran.target("RequiresTwoTask").text() == "seed 1\nseed 1\n"
    assert ran.target("InheritsTask").text() == "1: seed 31\n"
    assert ran.target("CopiesTask").text() == "seed 1\n"
    assert ran.target("DelegatesTask").text() == "81"


def test_what_delegates_adds_counts_under_plus(ran):
    record = ran.target("DelegatesTask").record
    assert list(record["identity"]["inputs"]) == ["+0"]
    assert record["inputs"]["+0"]["path"] == str(ran.target("SeedTask", n=43).path.relative_to(ran.store))


def test_run_is_recorded_once_however_it_is_inherited(ran):
    assert ran.target("MixinTask").text() == "from the mixin"
    target = ran.target("SuperTask")
    assert (target.text("base.txt"), target.text("own.txt")) == ("from the base", "from the subclass")
    assert [entry["name"] for entry in target.record["files"]] == ["base.txt", "own.txt"]
    assert ran.target("SuperDynamicTask").text() == "seed 51\nseed 52\n"
    assert len(ran.target("SuperDynamicTask").record["dynamic"]) == 2


def test_what_is_there_is_not_made_again(engine, ran):
    before = {one.path: one.record for one in ran.targets("*")}
    engine.run(ran, "shapes_chain", "AllTask").ok()
    assert {one.path: one.record for one in ran.targets("*")} == before


def test_missing_external_data_stops_only_what_needs_it(engine, project):
    project.chain("shapes_chain", CHAIN)
    ended = engine.run(project, "shapes_chain", "AllTask").failed()
    assert ended.code == (20 if engine.luigi else 1)
    assert project.targets("PresentTask") == project.targets("NectarPresentTask") == []
    assert project.target("PlainTask").text() == "plain 5\n"
    project.put("given.txt", "now it is there\n")
    engine.run(project, "shapes_chain", "AllTask").ok()
    assert project.target("PresentTask").text() == "now it is there\n"
