"""Name everything that can go wrong, with its exit code, its HTTP status and the way out.

The first line of each class's docstring is the sentence of the error in general; an instance says it of the
thing in hand, and its hint names the fix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple

from nectar.redaction.known import redacted


class ExitCode(IntEnum):
    """What the `nectar` command tells the shell."""

    OK = 0  #: everything asked for is there
    TASK_FAILED = 1  #: a task failed, or a target is not what its record says
    USAGE = 2  #: the command line, a parameter or a name is wrong
    IMPORT_FAILED = 3  #: a chain cannot be imported
    INTERRUPTED = 4  #: stopped by a person or a signal
    STORE_UNREACHABLE = 5  #: the store or the run store cannot be reached


class NectarError(Exception):
    """Something went wrong in Nectar."""

    code: ClassVar[str] = "nectar-error"
    exit_code: ClassVar[ExitCode] = ExitCode.TASK_FAILED
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        message = redacted(message)  # it may tell what an author's code said
        super().__init__(message)
        self.message = message  #: one sentence, lower case, names in backticks
        self.hint = redacted(hint) if hint is not None else None  #: what to do about it

    def __reduce__(self) -> tuple[object, ...]:
        state = {name: value for name, value in self.__dict__.items() if name not in ("task", "result")}
        return (_rebuild, (type(self), state))

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"

    def to_json(self) -> dict[str, Any]:
        """Return the error as a JSON value; `from_json` makes an equal one of it, in another process."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


def _rebuild(kind: type[NectarError], state: dict[str, object]) -> NectarError:
    """Return an error as it was before it crossed a process boundary."""
    error = kind.__new__(kind)
    error.args = (state["message"],)
    error.__dict__.update(state)
    return error


def from_json(document: Mapping[str, Any]) -> NectarError:
    """Return the error that `to_json` wrote; one whose code nobody knows is a `NectarError`."""
    kind = _by_code(NectarError).get(str(document.get("code")), NectarError)
    error = kind(str(document["message"]), hint=document.get("hint"))
    if isinstance(error, InvalidParameters):
        error.problems = tuple(ParameterProblem(**problem) for problem in document.get("problems", ()))
    if isinstance(error, FileInvalid):
        error.faults = tuple(FileFault(**fault) for fault in document.get("faults", ()))
    return error


def _by_code(kind: type[NectarError]) -> dict[str, type[NectarError]]:
    found = {kind.code: kind}
    for below in kind.__subclasses__():
        # A class that keeps its parent's code adds nothing that is told.
        found |= {code: one for code, one in _by_code(below).items() if code not in found}
    return found


def did_you_mean(text: str, known: Iterable[str]) -> str | None:
    """Return the hint that names what was probably meant, None where nothing is near."""
    import difflib  # late: only mistakes need it

    near = difflib.get_close_matches(text, list(known), n=1)
    return f"did you mean `{near[0]}`?" if near else None


# Usage: what was asked for cannot be understood.


class UsageError(NectarError):
    """What was asked for cannot be understood."""

    code = "usage"
    exit_code = ExitCode.USAGE
    http_status = 400


class SettingsInvalid(UsageError):
    """A setting has a value that it cannot have."""

    code = "settings-invalid"


class ProjectNotFound(UsageError):
    """There is no `chains/` folder here or above."""

    code = "project-not-found"
    http_status = 404


class ChainNotFound(UsageError):
    """No chain has this name."""

    code = "chain-not-found"
    http_status = 404


class TaskNotFound(UsageError):
    """No task of the chain has this name."""

    code = "task-not-found"
    http_status = 404


class TargetNotFound(UsageError):
    """No target lies at this path."""

    code = "target-not-found"
    http_status = 404


class InvalidParameters(UsageError):
    """Parameters are unknown, missing or of the wrong type."""

    code = "invalid-parameters"

    def __init__(self, message: str, *, problems: Sequence[ParameterProblem] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)  #: every bad parameter, not only the first

    def to_json(self) -> dict[str, Any]:
        problems = [{"field": one.field, "message": one.message, "hint": one.hint} for one in self.problems]
        return super().to_json() | {"problems": problems}


class ParameterProblem:
    """One parameter and what is wrong with it."""

    __slots__ = ("field", "hint", "message")

    def __init__(self, field: str, message: str, hint: str | None = None) -> None:
        self.field = field
        self.message = redacted(message)
        self.hint = redacted(hint) if hint is not None else None

    def __repr__(self) -> str:
        return f"ParameterProblem({self.field!r}, {self.message!r}, {self.hint!r})"


class SelectionInvalid(UsageError):
    """A selection cannot be read, or selects nothing."""

    code = "selection-invalid"


class OptionsInvalid(UsageError):
    """A run cannot be carried out with these options."""

    code = "options-invalid"


class PresetInvalid(UsageError):
    """A preset is not right, or sets what is given as well."""

    code = "preset-invalid"


class PresetNotFound(UsageError):
    """No preset of the chain has this name."""

    code = "preset-not-found"
    http_status = 404


class StepNotFound(UsageError):
    """A pipeline's run has no step of this name, or has not come to it."""

    code = "step-not-found"
    http_status = 404


class InvalidOutputName(UsageError):
    """An output's name cannot be a file in a target."""

    code = "invalid-output-name"


class NoFormat(UsageError):
    """No safe format belongs to this suffix or value."""

    code = "no-format"


# Descriptions: what is none, or none that can be carried out.


class BencodeInvalid(UsageError):
    """Bytes are no bencoding, or not the one that their value has."""

    code = "bencode-invalid"


class DescriptionInvalid(UsageError):
    """A description of work holds what none can hold, or lacks what it must have."""

    code = "description-invalid"


class DescriptionNewer(DescriptionInvalid):
    """A description was written by a newer Nectar."""

    code = "description-newer"


# Files that people write by hand: what cannot be read as what it should be.


class FileInvalid(UsageError):
    """A file does not hold what it should."""

    code = "file-invalid"

    def __init__(self, message: str, *, faults: Sequence[FileFault] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.faults = tuple(faults)  #: every fault, by file and line

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"faults": [fault._asdict() for fault in self.faults]}


class PipelineInvalid(FileInvalid):
    """A file is no pipeline, or none that can be carried out."""

    code = "pipeline-invalid"


class FileFault(NamedTuple):
    """One thing that is wrong in a file."""

    file: str  #: as it was named
    line: int | None  #: from 1; None for what has none
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}" + (f"; {self.hint}" if self.hint else "")


class NoContainers(UsageError):
    """A task is to run in a container, and nothing here runs containers."""

    code = "no-containers"


class NotRenderable(UsageError):
    """This cannot be written for that engine."""

    code = "not-renderable"


# Requests: what the server does not take.


class NotAuthenticated(UsageError):
    """A request has no valid token."""

    code = "not-authenticated"
    http_status = 401


class Forbidden(UsageError):
    """A request may not do this."""

    code = "forbidden"
    http_status = 403


class BodyNotSupported(UsageError):
    """A request has a body that is no JSON."""

    code = "body-not-supported"
    http_status = 415


class QueueFull(UsageError):
    """Too many runs wait already."""

    code = "queue-full"
    http_status = 429


class ServerBusy(NectarError):
    """The server cannot do this now."""

    code = "server-busy"
    http_status = 503


class NoAnswer(NectarError):
    """A process that was asked about a chain gave no answer."""

    code = "no-answer"
    http_status = 504


# Chains: what cannot be imported, or does not make a graph.


class ChainBroken(NectarError):
    """A chain's module cannot be imported."""

    code = "chain-broken"
    exit_code = ExitCode.IMPORT_FAILED


class GraphError(UsageError):
    """The tasks do not make a graph that can be carried out."""

    code = "graph"


class CycleFound(GraphError):
    """Tasks require each other in a circle."""

    code = "cycle"

    @classmethod
    def drawn(cls, names: Iterable[str]) -> CycleFound:
        """Return the error that draws a circle of tasks, each requiring the next; the last is the first again."""
        lines = [f"{'   ' * depth}{'└─ ' if depth else ''}{name}" for depth, name in enumerate(names)]
        return cls(
            "tasks require each other in a circle:\n" + "\n".join(lines),
            hint="one of these tasks must not require the next",
        )


class TaskBroken(GraphError):
    """A task's `requires()` or `output()` raises."""

    code = "task-broken"
    task: object = None  #: whose `requires()` raised; not known in another process


class ClosureTooLarge(GraphError):
    """A task has more tasks upstream than anybody can mean."""

    code = "closure-too-large"


class RequiresItsOwnOutput(GraphError):
    """A task's `requires()` asks for the task's own output."""

    code = "requires-own-output"


class SharedTarget(GraphError):
    """Two tasks have one target."""

    code = "shared-target"


class UpstreamMissing(GraphError):
    """A selected task needs one that is neither selected nor there."""

    code = "upstream-missing"
    http_status = 409


class UnsendableTask(GraphError):
    """A task cannot be sent to a worker process."""

    code = "unsendable-task"


class IdentityError(NectarError):
    """A task cannot be identified."""

    code = "identity"
    exit_code = ExitCode.USAGE
    http_status = 400


class IdentityChanged(IdentityError):
    """A task's identity is not the one it was planned with."""

    code = "identity-changed"
    exit_code = ExitCode.TASK_FAILED
    http_status = 409


# Tasks: what goes wrong while one runs.


class TaskFailed(NectarError):
    """A task failed."""

    code = "task-failed"


class RunFailed(TaskFailed):
    """Not all that a run was asked for is there."""

    code = "run-failed"
    result: object = None  #: the run's `RunResult`; not known in another process


class WorkersUnavailable(TaskFailed):
    """No worker process can be started."""

    code = "workers-unavailable"


class MissingOutput(TaskFailed):
    """A task returned without writing its output."""

    code = "missing-output"


class OutputStillOpen(TaskFailed):
    """A task returned while it still held an output open for writing."""

    code = "output-still-open"


class UnsafeOutput(TaskFailed):
    """A task left something in its output that is not a plain file."""

    code = "unsafe-output"


class CommandFailed(TaskFailed):
    """The command of a described task ended badly."""

    code = "command-failed"


class ResultInvalid(TaskFailed):
    """A step returned what cannot be parameters."""

    code = "result-invalid"


class ParameterNotSet(TaskFailed):
    """A step needs a parameter that nothing has set."""

    code = "parameter-not-set"


class NotInCatalog(TaskFailed):
    """What a step gets is not in the catalog."""

    code = "not-in-catalog"


class PipelineFailed(TaskFailed):
    """A pipeline reached its fail node."""

    code = "pipeline-failed"


class MissingInput(TaskFailed):
    """An input of a task is not there."""

    code = "missing-input"


# Secrets: what goes wrong on the way to one. No value is ever in a message.


class SecretError(NectarError):
    """A secret cannot be had."""

    code = "secret"


class SecretNotFound(SecretError):
    """No secret has this name."""

    code = "secret-not-found"


class SecretStoreUnreachable(SecretError):
    """A secret store cannot be read, or refuses to answer."""

    code = "secret-store-unreachable"
    exit_code = ExitCode.STORE_UNREACHABLE
    http_status = 503


# Stores: what goes wrong between a task and where its target lies.


class StoreError(NectarError):
    """A store cannot do what it was asked."""

    code = "store"
    exit_code = ExitCode.STORE_UNREACHABLE
    http_status = 503


class StoreUnreachable(StoreError):
    """A store cannot be read or written."""

    code = "store-unreachable"


class StoreInUse(StoreError):
    """Somebody reads or writes targets in the store."""

    code = "store-in-use"
    http_status = 409


class StoreNotSupported(StoreError):
    """No store serves this address."""

    code = "store-not-supported"
    exit_code = ExitCode.USAGE
    http_status = 400


class UnsafePath(NectarError):
    """A path in the store leads out of it."""

    code = "unsafe-path"
    exit_code = ExitCode.USAGE
    http_status = 404


# The run store: what goes wrong with the history of runs. No target depends on it.


class RunNotFound(UsageError):
    """No run has this id, or an id that begins so."""

    code = "run-not-found"
    http_status = 404


class RunAmbiguous(UsageError):
    """The ids of several runs begin so."""

    code = "run-ambiguous"
    http_status = 409


class RunExists(UsageError):
    """Another run has this id."""

    code = "run-exists"
    http_status = 409


class RunStateConflict(UsageError):
    """A run cannot go from the state that it is in to the one that was asked for."""

    code = "run-state-conflict"
    http_status = 409


class IdempotencyConflict(UsageError):
    """An idempotency key was used before, with another request."""

    code = "idempotency-conflict"
    http_status = 409


class TokenExists(UsageError):
    """Another token has this name."""

    code = "token-exists"
    http_status = 409


class TokenNotFound(UsageError):
    """No token has this name."""

    code = "token-not-found"
    http_status = 404


class RunStoreError(NectarError):
    """The run store cannot do what it was asked."""

    code = "run-store"
    exit_code = ExitCode.STORE_UNREACHABLE
    http_status = 503


class RunStoreUnreachable(RunStoreError):
    """The run store cannot be read or written."""

    code = "run-store-unreachable"


class RunStoreInvalid(RunStoreError):
    """What lies where the run store should be cannot be read as one."""

    code = "run-store-invalid"


class RunStoreNewer(RunStoreInvalid):
    """The run store was written by a newer Nectar."""

    code = "run-store-newer"


class RunStoreNotSupported(UsageError):
    """No run store serves this address."""

    code = "run-store-not-supported"


class SchedulerUnreachable(NectarError):
    """No luigid answers."""

    code = "scheduler-unreachable"
    exit_code = ExitCode.STORE_UNREACHABLE
    http_status = 503


class RecordInvalid(NectarError):
    """A record is not one that this version can read."""

    code = "record-invalid"
    http_status = 409


class RecordNewer(RecordInvalid):
    """A record was written by a newer Nectar."""

    code = "record-newer"


class TargetCorrupt(NectarError):
    """A target's files are not what its record says."""

    code = "target-corrupt"
    http_status = 409
