"""A project whose tasks repeat what they are given."""

from __future__ import annotations

import textwrap
from pathlib import Path

CHAIN = '''
"""Tasks that repeat what they are given."""

import sys

import luigi
from luigi.parameter import ParameterVisibility

import nectar


class EchoTask(nectar.Task):
    """Writes its value, and prints it."""

    value = luigi.Parameter(default="plain")

    def run(self):
        print(self.value)
        print(self.value, file=sys.stderr)
        with self.output().open("w") as file:
            file.write(self.value)


class KindsTask(nectar.Task):
    """Has a parameter of each kind."""

    count = luigi.IntParameter(default=1)
    share = luigi.FloatParameter(default=0.5)
    loud = luigi.BoolParameter(default=False)
    day = luigi.DateParameter(default=__import__("datetime").date(2026, 1, 2))
    size = luigi.ChoiceParameter(choices=["small", "large"], default="small")
    table = luigi.DictParameter(default={"a": 1})
    items = luigi.ListParameter(default=[1, 2])

    def run(self):
        self.dump(f"{self.count} {self.share} {self.loud} {self.day} {self.size} {self.table} {self.items}")


class LoginTask(nectar.Task):
    """Has a parameter that nobody may see."""

    password = luigi.Parameter(default="", visibility=ParameterVisibility.PRIVATE)
    code = luigi.Parameter(default="", visibility=ParameterVisibility.HIDDEN)

    def run(self):
        self.dump("in")


class FailTask(nectar.Task):
    """Fails, with what it was given in its message."""

    value = luigi.Parameter(default="plain")

    def run(self):
        raise ValueError(self.value)
'''


def make_project(root: Path) -> Path:
    """Write the chain into a folder, and return the folder."""
    place = root / "chains" / "web" / "echo_chain.py"
    place.parent.mkdir(parents=True)
    place.write_text(textwrap.dedent(CHAIN), encoding="utf-8")
    return root
