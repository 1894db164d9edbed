"""Make described tasks tasks of the engine: their identity is their spec and inputs, their run a command.

So everything that holds for tasks holds for them: plans, leases, commits, logs, records, workers, retries, reuse.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import luigi

from nectar import errors, settings
from nectar.address import KEY_LENGTH
from nectar.description.containers import Container, find_engine
from nectar.description.dag import OF_TASKS, Dag
from nectar.identity import Identity
from nectar.programs import carry_out, ending
from nectar.settings import IdentityScheme
from nectar.task import Task

OUTPUT, PROJECT, INPUT = "NECTAR_OUTPUT", "NECTAR_PROJECT", "NECTAR_INPUT_"
SHELL = ("/bin/sh", "-c")

_MOST_LISTED = 5


@dataclass(frozen=True, slots=True)
class Work:
    """What a description says of one task."""

    spec: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, str]]  #: by the name of the input: the id of that output, and its task's name


class CommandTask(Task):
    """One task of a description. `tasks_of` makes those that can be carried out.

    One that is only known by its id, as in a worker what its task needs, has a target and nothing else.
    """

    id: str = luigi.Parameter(description="64 hex digits: the id of its output")  # type: ignore[assignment]
    name: str = luigi.Parameter(significant=False, description="what it is called")  # type: ignore[assignment]

    # All described work has its targets in one place: the id alone says what it is, in whichever file it is described.
    family = "chains.dag.description.CommandTask"
    identity = IdentityScheme.NECTAR.value
    has_code = False  # what it does is its spec; the class is how

    _work: Work | None = None
    _required: Mapping[str, CommandTask] | None = None

    def __repr__(self) -> str:
        return f"{self.family}(name={self.name})"

    def __getstate__(self) -> dict[str, Any]:
        """Let it travel without the tasks that it stands on: a deep chain could not be pickled."""
        return {**self.__dict__, "_required": None}

    def take(self, work: Work, required: Mapping[str, CommandTask]) -> None:
        """Learn what it is to do, and on which tasks it stands, by the names of the inputs."""
        self._work, self._required = work, required

    @property
    def image(self) -> str | None:
        """The image of the container in which it runs, None where it runs in none."""
        return self._work.spec.get("image") if self._work is not None else None

    def requires(self) -> dict[str, CommandTask]:
        """Return the tasks on whose outputs it stands, by the names of the inputs."""
        if self._required is not None:
            return dict(self._required)
        inputs = self._work.inputs if self._work is not None else {}
        return {called: CommandTask(id=output, name=name) for called, (output, name) in inputs.items()}

    def identity_document(self, inputs: Mapping[str, str]) -> dict[str, Any]:
        """Return what is hashed: the spec, and the ids of the inputs in the order of `requires()`."""
        assert self._work is not None, "only what is to be done is recorded"
        return {**self._work.spec, "inputs": dict(zip(self._work.inputs, inputs.values(), strict=True))}

    def identify_with(self, inputs: Mapping[str, str]) -> Identity:
        """Return the identity, which is the one that the description says.

        Raises:
            IdentityChanged: when it is another.
        """
        if self._work is None:
            return Identity(self.id, self.id[:KEY_LENGTH])
        found = super().identify_with(inputs)
        if found.output_id != self.id:
            raise errors.IdentityChanged(
                f"`{self.name}` was described with the id `{self.id}`, and its spec and inputs give "
                f"`{found.output_id}`",
                hint="read the description anew",
            )
        return found

    def shown_params(self) -> dict[str, Any]:
        """Return the spec: what params.txt holds."""
        return dict(self._work.spec) if self._work is not None else {}

    def run(self) -> None:
        """Run the command in a folder of its own, with the places of its inputs and its output in its environment.

        Raises:
            CommandFailed: when it cannot be started, or ends with another exit code than 0.
            MissingOutput: when it writes no output.
            NoContainers: when it is to run in a container, and nothing here runs containers.
        """
        assert self._work is not None
        command = self._work.spec["command"]
        words = [*SHELL, command] if isinstance(command, str) else list(command)
        output: str = self.output().path
        inputs = {variable(name): one.output().path for name, one in self.requires().items()}
        with tempfile.TemporaryDirectory(prefix="nectar-", ignore_cleanup_errors=True) as folder:
            if self.image is None:
                self._run_here(words, folder, output, inputs)
            else:
                self._run_in_container(self.image, words, folder, output, inputs)
        if not os.path.isfile(output):
            raise errors.MissingOutput(
                f"the command of `{self.name}` ended well without writing its output",
                hint=f"write a file to the place that `${OUTPUT}` names",
            )

    def _run_here(self, words: list[str], folder: str, output: str, inputs: Mapping[str, str]) -> None:
        own = {PROJECT: str(settings.current().root), OUTPUT: output, **inputs}
        hint = f"its logs tell more; it runs in an empty folder: the project's files are in `${PROJECT}`"
        self._carry_out(words, folder, {**_inherited(), **own}, hint)

    def _run_in_container(
        self, image: str, words: list[str], folder: str, output: str, inputs: Mapping[str, str]
    ) -> None:
        staging = self.target_staging()
        assert staging is not None
        container = Container(find_engine(), f"nectar-{staging.attempt}", image)
        shared = f"{output}-of-the-container"  # on the disk of the output, and beside nothing else of the target
        os.mkdir(shared)
        inside = os.path.join(shared, os.path.basename(output))
        try:
            hint = f"its logs tell more; it runs in a container of `{image}`"
            self._carry_out(container.words(words, inside, inputs), folder, _inherited(), hint)
            if os.path.isfile(inside):
                os.replace(inside, output)
        except errors.CommandFailed:
            raise  # it has ended by itself
        except BaseException:
            container.end()
            raise
        finally:
            shutil.rmtree(shared, ignore_errors=True)

    def _carry_out(self, words: list[str], folder: str, environment: Mapping[str, str], hint: str) -> None:
        try:
            code = carry_out(words, folder=folder, environment=environment)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise errors.CommandFailed(
                f"the command of `{self.name}` cannot be started: `{words[0]}`: {reason}", hint=hint
            ) from error
        if code != 0:
            raise errors.CommandFailed(f"the command of `{self.name}` {ending(code)}", hint=hint)


def variable(name: str) -> str:
    """Return the environment variable that names the file of an input; what a shell cannot name becomes `_`."""
    return INPUT + re.sub(r"\W", "_", name, flags=re.ASCII)


def _inherited() -> dict[str, str]:
    """Return the environment of this process without what another command's task left there."""
    return {name: text for name, text in os.environ.items() if name != OUTPUT and not name.startswith(INPUT)}


def tasks_of(dag: Dag) -> list[CommandTask]:
    """Return the tasks of a Dag on which no other stands: with all that they require they are the whole of it.

    Raises:
        DescriptionInvalid: when it cannot be carried out; names all faults.
        CycleFound: when tasks depend on each other in a circle, which is drawn.
    """
    encoded = dag.encode()["tasks"]
    problems = [f"`{task.name}` {fault}" for task in dag for fault in _faults(encoded[task.name])]
    if problems or not encoded:
        rest = len(problems) - _MOST_LISTED
        listed = "; ".join(problems[:_MOST_LISTED]) + (f"; and {rest} more faults" if rest > 0 else "")
        raise errors.DescriptionInvalid(
            f"the description cannot be carried out: {listed or 'it has no task'}",
            hint="a task has a `command`, a text for a shell or a list of words; "
            "what `nectar describe` says of a chain is carried out by `nectar run`",
        )
    made: dict[str, CommandTask] = {}
    needed: set[str] = set()
    for described in dag.in_order():
        spec = {key: value for key, value in encoded[described.name].items() if key not in OF_TASKS}
        required = {called: made[other.name] for called, other in described.inputs.items()}
        inputs = {called: (one.id, one.name) for called, one in required.items()}
        task = made[described.name] = CommandTask(id=encoded[described.name]["output"], name=described.name)
        task.take(Work(spec, inputs), required)
        needed.update(other.name for other in described.inputs.values())
    return [made[described.name] for described in dag if described.name not in needed]


def _faults(encoded: Mapping[str, Any]) -> list[str]:
    found = (
        _fault_of_command(encoded.get("command")),
        _fault_of_image(encoded.get("image")),
        _fault_of_inputs(encoded["inputs"]),
    )
    return [fault for fault in found if fault is not None]


def _fault_of_command(command: Any) -> str | None:
    if command is None:
        return "has no `command`"
    words = command if isinstance(command, list) else [command]
    if not words or not all(isinstance(word, str) for word in words) or not words[0].strip():
        return "has a `command` that is neither a text nor a list of texts"
    return "has a `command` with a null character" if any("\0" in word for word in words) else None


def _fault_of_image(image: Any) -> str | None:
    if image is None or (isinstance(image, str) and image and image[0] != "-" and "\0" not in image):
        return None
    return "has an `image` that cannot be the name of one"


def _fault_of_inputs(inputs: Mapping[str, str]) -> str | None:
    known: dict[str, str] = {}
    for name in inputs:
        other = known.setdefault(variable(name), name)
        if other != name:
            return f"has inputs `{other}` and `{name}`, which are one variable, `{variable(name)}`"
    return None
