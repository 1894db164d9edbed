"""The smallest chain: a task, and a task that needs it.

    nectar run testchains/hello_luigiworld_chain WithDependencyTask
    nectar run testchains/hello_luigiworld_chain WithDependencyTask --day 2024-02-29

The names are a convention, and all that Nectar asks for: the file ends in `_chain.py` and lies in a folder under
`chains/`, the classes end in `Task`. What a task writes goes to `out.txt` in a folder of its own, whose name follows
from the task's parameters; run it twice, and the second time there is nothing to do.
"""

import datetime

import luigi

import nectar


class TestS3Task(nectar.Task):
    """Greets a day: one parameter, one output, nothing required."""

    day = luigi.DateParameter(default=datetime.date(2016, 6, 3), description="the day to greet")

    def run(self):
        print("this line goes to log/stdout.log, beside the output")
        self.dump(f"Hello, Luigi world of {self.day:%d %B %Y}!\n")


class WithDependencyTask(nectar.Task):
    """Answers the greeting: what `requires()` returns is done first, and `self.input()` is its output."""

    day = luigi.DateParameter(default=datetime.date(2016, 6, 3), description="the day to greet")

    def requires(self):
        return TestS3Task(day=self.day)

    def run(self):
        greeting = self.input().load()
        with self.output().open("w") as out:  # plain luigi, with the same result as self.dump()
            out.write(f"{greeting}Hello yourself.\n")
