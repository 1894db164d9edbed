"""The chain whose commits are disturbed: two tasks, and bytes that no two attempts share."""

# This file is copied into a project of its own as `chains/etl/fault_chain.py`.

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import luigi

import nectar

# The names that fault_lab.py looks for.
RUN_BEGINS = "/a-mark-of-the-test/run-begins"
RUN_ENDS = "/a-mark-of-the-test/run-ends"


class PartTask(nectar.Task):
    number = luigi.IntParameter(default=0)

    def run(self) -> None:
        self.dump(f"part {self.number} of attempt {token()}\n")


class WholeTask(nectar.Task):
    number = luigi.IntParameter(default=0)
    outputs = ("out.txt", "parts/more.bin")

    def requires(self) -> PartTask:
        return PartTask(number=self.number)

    def run(self) -> None:
        os.access(RUN_BEGINS, os.F_OK)
        own = token()
        out, more = self.output()
        print(f"attempt {own}")
        with out.open("w") as file:
            file.write(f"whole {own}\n" * 200)
        pathlib.Path(more.path).write_bytes(own.encode() * 500)
        os.access(RUN_ENDS, os.F_OK)


class LeftoverTask(nectar.Task):
    """Leaves a child that changes the output when it is told to through one pipe, and answers through another."""

    way = luigi.Parameter(description="how the child gets at the output")
    pipes = luigi.Parameter(significant=False)

    def run(self) -> None:
        path = pathlib.Path(self.output().path)
        path.write_text("published\n")
        child = subprocess.Popen(
            [*CHILDREN[self.way], self.pipes], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=path.parent
        )
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        child.stdout.close()
        child.returncode = 0  # nobody waits for it: it is left over


CHILDREN = {
    "open": [
        "/bin/sh",
        "-c",
        'exec 3<>out.txt; echo ready; cat "$0/go"; printf "changed!!" >&3 && echo written >"$0/done"',
    ],
    "mapped": [
        sys.executable,
        "-c",
        "import mmap, os, sys\n"
        "file = os.open('out.txt', os.O_RDWR)\n"
        "mapped = mmap.mmap(file, 10)\n"
        "os.close(file)\n"
        "print('ready', flush=True)\n"
        "open(sys.argv[1] + '/go').read()\n"
        "mapped[:9] = b'changed!!'\n"
        "mapped.flush()\n"
        "open(sys.argv[1] + '/done', 'w').write('written\\n')\n",
    ],
    "in its folder": [
        "/bin/sh",
        "-c",
        'echo ready; cat "$0/go"; if printf "changed!!" 1<>out.txt; then answer=written; else answer=refused; fi;'
        'echo $answer >"$0/done"',
    ],
}


class StillOpenTask(nectar.Task):
    """Returns while it holds its output open."""

    def run(self) -> None:
        self.kept = open(self.output().path, "w")  # noqa: SIM115  the point of it
        self.kept.write("half")


class CycleTask(nectar.Task):
    """Leaves its output open in a reference cycle, which only the garbage collector closes."""

    def run(self) -> None:
        file = open(self.output().path, "w")  # noqa: SIM115  the point of it
        holder: list[object] = [file]
        holder.append(holder)
        file.write("whole")


class StrangeTask(nectar.Task):
    """Leaves a file of some name beside its output; the name is given byte by byte."""

    name = luigi.Parameter()

    def run(self) -> None:
        self.dump("output\n")
        beside = pathlib.Path(self.output().path).parent / os.fsdecode(self.name.encode("latin-1"))
        beside.parent.mkdir(exist_ok=True)
        beside.write_text("beside\n")


class OneTask(nectar.Task):
    """One output under a scheme whose key does not count the names of outputs."""

    identity = "datanectar"
    family = "chains.etl.fault_chain.SameTask"

    def run(self) -> None:
        self.dump("one\n")


class TwoTask(OneTask):
    """The same task, after its author gave it a second output."""

    outputs = ("out.txt", "more.txt")

    def run(self) -> None:
        for name in self.outputs:
            self.dump("two\n", name)


def token() -> str:
    return f"{os.getpid():08d}-{os.urandom(8).hex()}"
