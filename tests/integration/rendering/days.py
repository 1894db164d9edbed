"""A chain of six tasks, one of which can be made to fail, and what is made of it."""

from __future__ import annotations

CHAIN = """
import luigi
import nectar


class _Noted(nectar.Task):
    def run(self):
        with open("notes", "a") as file:
            file.write(type(self).__name__ + "\\n")
        self.dump(repr(self))


class LoadTask(_Noted):
    day = luigi.IntParameter()
    fails = luigi.BoolParameter(significant=False)
    word = luigi.Parameter(default="x")

    def run(self):
        super().run()
        if self.fails and self.day == 2:
            raise ValueError("not on this day")


class CleanTask(_Noted):
    day = luigi.IntParameter()
    fails = luigi.BoolParameter(significant=False)
    word = luigi.Parameter(default="x")

    def requires(self):
        return LoadTask(day=self.day, fails=self.fails, word=self.word)


class CountTask(_Noted):
    pass


class ReportTask(_Noted):
    fails = luigi.BoolParameter(significant=False)
    word = luigi.Parameter(default="x")

    def requires(self):
        days = [CleanTask(day=day, fails=self.fails, word=self.word) for day in (1, 2)]
        return [*days, CountTask()]
"""
ASKED = ("etl/days_chain", "ReportTask")
ODD = "it's $(id); {{7*7}}\n-x"
ALL = sorted(["LoadTask", "LoadTask", "CleanTask", "CleanTask", "CountTask", "ReportTask"])
WITHOUT_DAY_2 = sorted(["LoadTask", "LoadTask", "CleanTask", "CountTask"])
