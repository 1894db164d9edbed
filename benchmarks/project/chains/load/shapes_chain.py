"""Graphs of tasks that do next to nothing, so that what is measured is what surrounds them."""

import datetime
import os
import time

import luigi

import nectar


class OneTask(nectar.Task):
    """Stands alone."""

    def run(self):
        self.dump("one\n")


class HeldTask(nectar.Task):
    """Does not end by itself."""

    def run(self):
        while True:
            time.sleep(60)


class DatedTask(nectar.Task):
    """Is only ever instantiated: a parameter of its own, and one that has a default."""

    number = luigi.IntParameter()
    day = luigi.DateParameter(default=datetime.date(2013, 1, 1))


class LeafTask(nectar.Task):
    """Writes a line."""

    number = luigi.IntParameter()

    def run(self):
        with self.output().open("w") as file:
            file.write(f"{self.number}\n")


class SinkTask(nectar.Task):
    """Requires many leaves; another `turn` is another sink over the same ones."""

    tasks = luigi.IntParameter()
    turn = luigi.IntParameter(default=0)

    def requires(self):
        return [LeafTask(number=number) for number in range(self.tasks)]

    def run(self):
        self.dump("all\n")


class BigTask(nectar.Task):
    """Has one large file, which lies ready: what is measured is what becomes of it."""

    turn = luigi.IntParameter()
    source = luigi.Parameter(significant=False)

    def run(self):
        os.rename(self.source, self.output().path)


class LinkTask(nectar.Task):
    """Requires the link before it: a chain as deep as its number."""

    number = luigi.IntParameter()

    def requires(self):
        return LinkTask(number=self.number - 1) if self.number else []

    def run(self):
        with self.output().open("w") as file:
            file.write(f"{self.number}\n")


class LayerTask(nectar.Task):
    """Requires ten of the layer below it."""

    layer = luigi.IntParameter()
    number = luigi.IntParameter()
    width = luigi.IntParameter()

    def requires(self):
        if not self.layer:
            return []
        numbers = (self.number + step for step in range(10))
        return [LayerTask(layer=self.layer - 1, number=one % self.width, width=self.width) for one in numbers]

    def run(self):
        self.dump("layer\n")


class TopTask(nectar.Task):
    """Requires the uppermost of ten layers."""

    width = luigi.IntParameter()

    def requires(self):
        return [LayerTask(layer=9, number=number, width=self.width) for number in range(self.width)]

    def run(self):
        self.dump("top\n")
