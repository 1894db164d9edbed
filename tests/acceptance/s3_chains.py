"""The chains that tests run with their targets in a bucket."""

from __future__ import annotations

#: every way to read an input, and every way to write an output
MIXED = """
class RawTask(nectar.Task):
    filename = "raw.json"

    def run(self):
        print("printing in the raw")
        self.dump({"rows": [1, 2, 3]})

class PathTask(nectar.Task):
    def requires(self):
        return RawTask()
    def run(self):
        with open(self.input().path) as source, open(self.output().path, "w") as place:
            place.write("path " + source.read())

class OpenTask(nectar.Task):
    def requires(self):
        return RawTask()
    def run(self):
        with self.input().open() as source, self.output().open("w") as place:
            place.write("open " + source.read())

class SeveralTask(nectar.Task):
    outputs = {"first": "parts/first.txt", "second": "second.json"}

    def requires(self):
        return {"path": PathTask(), "open": OpenTask(), "raw": RawTask()}
    def run(self):
        self.dump(self.input()["path"].load() + self.input()["open"].load(), "parts/first.txt")
        self.dump({"sum": sum(self.input()["raw"].load()["rows"])}, "second.json")

class LastTask(nectar.Task):
    def requires(self):
        return SeveralTask()
    def run(self):
        several = self.input()
        self.dump(f"{several['first'].load()} {several['second'].load()['sum']}")
"""
MIXED_TASKS = ("RawTask", "PathTask", "OpenTask", "SeveralTask", "LastTask")
WORD = """
import os

class WordTask(nectar.Task):
    def run(self):
        self.dump(os.environ["WORD"])

class LengthTask(nectar.Task):
    def requires(self):
        return WordTask()
    def run(self):
        self.dump(str(len(self.input().load())))
"""
ROUNDED = """
import os

class RawTask(nectar.Task):
    version = os.environ["RAW"]
    def run(self):
        self.dump(os.environ["RAW"])

class RoundTask(nectar.Task):
    def requires(self):
        return RawTask()
    def run(self):
        self.dump(str(int(self.input().load()) // 10))

class LastTask(nectar.Task):
    def requires(self):
        return RoundTask()
    def run(self):
        self.dump("last of " + self.input().load())
"""
FAILING = """
class BadTask(nectar.Task):
    def run(self):
        print("before the fall")
        raise ValueError("row 3 has no date")
"""
HELD = """
import pathlib

class HeldTask(nectar.Task):
    def run(self):
        pathlib.Path("bell").write_text("ding")
        self.dump(pathlib.Path("go").read_text())
"""
PINNED = """
class FirstTask(nectar.Task):
    def run(self):
        self.dump("first")

class PinnedTask(nectar.S3Task):
    def requires(self):
        return FirstTask()
    def run(self):
        self.dump("pinned " + self.input().load())

class LastTask(nectar.Task):
    def requires(self):
        return PinnedTask()
    def run(self):
        self.dump("last " + self.input().load())
"""
MANY = """
class SmallTask(nectar.Task):
    number = luigi.IntParameter()
    def run(self):
        self.dump(f"small {self.number}")

class ManyTask(nectar.Task):
    count = luigi.IntParameter()
    def requires(self):
        return [SmallTask(number=number) for number in range(self.count)]
    def run(self):
        self.dump("".join(one.load() for one in self.input()))

class AllTask(luigi.WrapperTask):
    count = luigi.IntParameter()
    def requires(self):
        return [SmallTask(number=number) for number in range(self.count)]
"""
#: as many; the worker that is at one of them is killed, once
HURT = """
import os, pathlib, signal

class HurtTask(nectar.Task):
    retry_count = 2
    number = luigi.IntParameter()
    def run(self):
        bait = pathlib.Path("bait")
        if self.number == 60 and bait.exists():
            bait.unlink()
            print("soon gone", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        self.dump(f"hurt {self.number}")

class AllTask(luigi.WrapperTask):
    count = luigi.IntParameter()
    def requires(self):
        return [HurtTask(number=number) for number in range(self.count)]
"""
#: a sink over many leaves that looks at a few of them; another `turn` is another sink over the same ones
SCALE = """
class LeafTask(nectar.Task):
    number = luigi.IntParameter()
    def run(self):
        self.dump(f"leaf {self.number}")

class SinkTask(nectar.Task):
    count = luigi.IntParameter()
    turn = luigi.IntParameter(default=0)
    def requires(self):
        return [LeafTask(number=number) for number in range(self.count)]
    def run(self):
        self.dump(" ".join(one.load() for one in self.input()[:10]))
"""
TABLE = """
import os

class TableTask(nectar.Task):
    filename = "table.csv"

    def run(self):
        self.dump([{"day": 1, "rows": int(os.environ["ROWS"])}, {"day": 2, "rows": 30}])
"""
