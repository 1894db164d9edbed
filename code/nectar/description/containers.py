"""Say how a command is run in a container, and who runs containers here: docker or podman."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nectar import errors

ENGINES = ("docker", "podman")
ANSWER_S = 20.0  #: within which an engine has to say that it is there

_OUTPUT, _INPUTS = "/nectar/output", "/nectar/inputs"  #: in a container


@dataclass(frozen=True, slots=True)
class Container:
    """One container that is to carry a command out, and be gone with it."""

    engine: str  #: path of docker or podman
    name: str
    image: str

    def words(self, command: Sequence[str], output: str, inputs: Mapping[str, str]) -> list[str]:
        """Return the command that starts it.

        `output` is a file whose folder is mounted, `inputs` are read-only files by the variables that name them. The
        image's own working folder and variables hold; its entry point does not: what is run is what is described.
        """
        folder, file = os.path.split(output)
        words = [self.engine, "run", "--rm", "--name", self.name, *_mount(folder, _OUTPUT)]
        words += ["--env", f"NECTAR_OUTPUT={_OUTPUT}/{file}"]
        for variable, path in inputs.items():
            words += [*_mount(path, f"{_INPUTS}/{variable}", "readonly"), "--env", f"{variable}={_INPUTS}/{variable}"]
        if os.path.basename(self.engine) == "docker":  # podman's root is whoever started it
            words += ["--user", f"{os.getuid()}:{os.getgid()}"]
        return [*words, "--entrypoint", command[0], self.image, *command[1:]]

    def end(self) -> None:
        """End it where it goes on without whoever started it."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [self.engine, "kill", self.name], capture_output=True, check=False, timeout=ANSWER_S, text=True
            )


def _mount(source: str, target: str, *flags: str) -> list[str]:
    line = io.StringIO()  # the option is a line of CSV, so that a path may have commas
    csv.writer(line, lineterminator="").writerow(["type=bind", f"source={source}", f"target={target}", *flags])
    return ["--mount", line.getvalue()]


@functools.lru_cache(maxsize=1)
def find_engine() -> str:
    """Return the path of the first engine that answers.

    Raises:
        NoContainers: when none does; says why of each.
    """
    problems = []
    for name in ENGINES:
        path = shutil.which(name)
        problem = f"`{name}` is not on the PATH" if path is None else _problem(path)
        if path is not None and problem is None:
            return path
        problems.append(problem)
    raise errors.NoContainers(
        f"nothing here runs containers: {'; '.join(filter(None, problems))}",
        hint="start docker or install podman, or describe the tasks without `image`",
    )


def _problem(path: str) -> str | None:
    name = os.path.basename(path)
    try:
        answer = subprocess.run([path, "version"], capture_output=True, check=False, timeout=ANSWER_S, text=True)
    except subprocess.TimeoutExpired:
        return f"`{name}` does not answer"
    except OSError as error:
        return f"`{name}` cannot be started: {os.strerror(error.errno or 0).lower()}"
    if answer.returncode == 0:
        return None
    said = answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"]
    return f"`{name}` does not answer: {said[-1]}"
