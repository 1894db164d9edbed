"""The tasks that a pipeline is made of: one for each command, each joining of branches, and each DAG that is walked.

They are tasks like all others: plans, leases, commits, logs, records, workers and retries are the engine's. What is
handed from step to step is a file in the target of each.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import luigi

from nectar import errors, settings
from nectar.address import KEY_LENGTH
from nectar.identity import Identity
from nectar.pipeline.carrying import carry_out_command, tracked
from nectar.pipeline.catalog import DATA_FOLDER, Surroundings
from nectar.pipeline.context import StepContext, working
from nectar.pipeline.model import CommandType, NodeType
from nectar.pipeline.services import secrets_settings
from nectar.pipeline.standing import STEP_FILE, Standing, read_base, read_standings
from nectar.pipeline.wiring import Ref, Stop, Way, Wirer, Work, has_routes, ref_of
from nectar.recording.metrics import track_this
from nectar.records import STDOUT_NAME
from nectar.settings import IdentityScheme
from nectar.task import Task

_Carried = tuple[Work, Ref, Mapping[str, Ref]]  #: what a task is to do, how it is called, and on what it stands


class NodeTask(Task):
    """A task of a pipeline: what it is to do is its work.

    One that is only known by its id, as in a worker what its task needs, has a target and no more.
    """

    id: str = luigi.Parameter(description="64 hex digits: its output id")  # type: ignore[assignment]
    family_name: str = luigi.Parameter(significant=False, description="its family")  # type: ignore[assignment]
    name: str = luigi.Parameter(significant=False, description="the step's name")  # type: ignore[assignment]

    filename = STEP_FILE
    named_by = "name"
    identity = IdentityScheme.NECTAR.value
    has_code = False  # what it does is its work; the class is how. Of a Python function: see `code_subject`

    _work: Work | None = None
    _required: Mapping[str, NodeTask] | None = None
    _known_way: Way | None = None  #: of a DAG that this process has wired
    _yielded = False  #: it was, and whoever plans it is to learn what it stands on
    _carried: tuple[_Carried, ...] = ()  #: what it stood on where it was yielded, itself included
    _end_gone: tuple[NodeType, Ref | None] | None = None  #: to which end of its DAG another engine came, and after what

    def __repr__(self) -> str:
        return f"{self.family_name.rpartition('.')[0]}.{self.name}"

    def __getstate__(self) -> dict[str, Any]:
        """Let it travel without the tasks that it stands on: a deep chain could not be pickled.

        Where it was yielded they go along, one beside the other: the process that plans it may know none of them.
        """
        state = {**self.__dict__, "_required": None, "_known_way": None}
        if self._yielded:
            state |= {"_yielded": False, "_carried": _stood_on(self)}
        return state

    def take(self, work: Work, required: Mapping[str, NodeTask]) -> None:
        """Learn what it is to do, and on which tasks it stands."""
        self._work, self._required = work, required
        if _joins(work) and work.ends is None:
            _open_maps[self.id] = self

    def take_way(self, way: Way) -> None:
        """Learn the way through its DAG on which nothing fails."""
        self._known_way = way

    def as_yielded(self) -> NodeTask:
        """Return it as `run` may yield it: to an engine in another process, too."""
        self._yielded = True
        return self

    def take_end(self, end: NodeType, last: Ref | None) -> None:
        """Learn that another engine has gone through its DAG: to which end, and after which step that was good."""
        self._end_gone = (end, last)

    @property
    def work(self) -> Work:
        """What it is to do."""
        assert self._work is not None, "it is only known by its id"
        return self._work

    @property
    def catches_failures(self) -> bool:  # type: ignore[override]  # of each instance its own
        """Whether it is a DAG in which a failure has a way of its own."""
        work = self._work
        return work is not None and work.dag is not None and has_routes(work.dag)

    def may_catch_failures(self) -> bool:
        """Return whether a failure has a way of its own in its DAG, or in one within."""
        work = self._work
        if work is None:
            return False
        if work.dag is not None:
            return has_routes(work.dag, within=True)
        return work.node is not None and any(has_routes(dag, within=True) for dag in work.node.dags)

    @property
    def retry_count(self) -> int | None:
        """How often it is tried, the first time included; None: as the engine is set."""
        work = self._work
        return work.node.retry if work is not None and work.node is not None and not _joins(work) else None

    @property
    def worker_timeout(self) -> int | None:  # type: ignore[override]
        """How many seconds its command may take; None: as the engine is set."""
        work = self._work
        has_command = work is not None and work.node is not None and work.node.type is NodeType.TASK
        return work.place.max_time if work is not None and has_command else None

    def identity_family(self) -> str:  # type: ignore[override]  # of each instance its own
        """Return the family that the step has in its pipeline."""
        return self.family_name

    def requires(self) -> dict[str, NodeTask]:
        """Return what it stands on: the step before it, the ends of branches, or the last step of its DAG."""
        if self._end_gone is not None:  # nothing of the DAG, but what it began with
            return {path: task_of(ref) for path, ref in self.work.requires().items()}
        if self._carried:
            carried, self._carried = self._carried, ()
            _unpack(self, carried)
        if self._required is not None:
            return dict(self._required)
        if self._work is None:
            _open_branches(self)
            return {} if self._work is None else self.requires()
        if self._work.dag is not None:
            way = self._way(Wirer(self._work.wiring))
            if way.task is not None:
                return {"0": way.task}
        return {path: task_of(ref) for path, ref in self._work.requires().items()}

    def identity_document(self, inputs: Mapping[str, str]) -> dict[str, Any]:
        """Return what is hashed."""
        return self.work.document()

    def identify_with(self, inputs: Mapping[str, str]) -> Identity:
        """Return the identity, which was found when the pipeline was wired."""
        return Identity(self.id, self.id[:KEY_LENGTH])

    def code_subject(self) -> type:
        """Return what stands for the Python function that the step calls; there is no other code that could drift."""
        node = self._work.node if self._work is not None else None
        if node is None or node.command is None or node.command_type is not CommandType.PYTHON:
            return type(self)
        return stand_in(node.command)

    def shown_params(self) -> dict[str, Any]:
        """Return the step, and the values that it is for: what params.txt holds."""
        shown: dict[str, Any] = {"name": self.name}
        work = self._work
        if work is not None and work.node is not None:
            shown["step"] = dict(work.node.document)
        if work is not None and work.place.values:
            shown["values"] = dict(work.place.values)
        if work is not None and work.initial is not None:
            shown["parameters"] = dict(work.initial)
        return shown

    def run(self) -> Generator[Any, Any, None] | None:
        """Carry out a command, join branches, or go through a DAG.

        Raises:
            as `carry_out_command`; NotInCatalog: of a command.
            ParameterNotSet, ResultInvalid: when a map iterates over what is no list of different values.
            PipelineFailed: when a DAG comes to its fail node.
        """
        if self.work.initial is not None:
            self._end(Standing(self.work.initial))
            return None
        if self.work.dag is not None:
            return self._walk()
        if _joins(self.work):
            return self._join()
        self._carry_out()
        return None

    # A command

    def _carry_out(self) -> None:
        work, staging = self.work, self.target_staging()
        assert work.node is not None and staging is not None
        wish = work.node.catalog
        with _folder(work.wiring.folder) as folder:
            around = Surroundings(folder, work.salt or self.key, self.target_address().path, staging.path)
            data_folder = wish.folder or DATA_FOLDER
            context = StepContext(
                self.name,
                standing_before(work),
                work.place.values,
                around,
                data_folder,
                work.wiring.catalog,
                work.wiring.secrets,
            )
            for pattern in wish.get:
                context.get(pattern)
            with _secrets_of(work), working(context):
                carry_out_command(work.node, context)
            for pattern in wish.put:
                if not context.put(pattern):
                    word = f"nothing in `{data_folder}` matches `{pattern}`: nothing is put into the catalog"
                    sys.stderr.write(f"warning: {word}\n")  # into the step's log
        sys.stdout.flush()
        track_this(**{**tracked(f"{staging.path}/{STDOUT_NAME}"), **context.metrics})
        self._end(context.standing)

    # Branches

    def _join(self) -> Generator[Any, Any, None]:
        """Take together what branches set and put, in their order in the file."""
        work, ends = self.work, self.work.ends
        before = standing_before(work)
        if ends is None:
            branches = self.branches(before)
            tasks = [way.task.as_yielded() for way in branches if way.task is not None]
            yield tasks
            ends = tuple(map(ref_of, tasks))
        self._end(before.joined(read_standings(self.target_store(), [ref.address for ref in ends])))

    def branches(self, before: Standing) -> list[Way]:
        """Return the branches of a map for the values that it finds.

        Raises:
            ParameterNotSet, ResultInvalid: when these are no list of different values.
        """
        work = self.work
        assert work.node is not None and work.before is not None
        return [way for _, way in Wirer(work.wiring).branches(work.node, work.place, work.before, before.parameters)]

    # A DAG

    def _way(self, wirer: Wirer) -> Way:
        if self._known_way is not None:
            return self._known_way
        work = self.work
        assert work.dag is not None and work.before is not None
        before = work.before
        if before.settled:
            before = replace(before, known=standing_before(work).parameters)
        return wirer.way(work.dag, work.place, before)

    def _walk(self) -> Generator[Any, Any, None]:
        """Go from step to step, and where one has failed, on to where the DAG says."""
        work = self.work
        if self._end_gone is not None:
            end, ref = self._end_gone
            self._came_to(end, ref)
            return
        wirer = Wirer(work.wiring)
        way = self._way(wirer)
        while (failed := self._first_missing(way)) is not None:
            way = wirer.after_failure(way, failed)
            if way.task is not None:
                yield way.task.as_yielded()
        self._came_to(way.end.type, way.after.ref if way.task is None else ref_of(way.task))

    def _came_to(self, end: NodeType, last: Ref | None) -> None:
        """Write down how things stand after the last step of a DAG."""
        if end is NodeType.FAIL:
            raise errors.PipelineFailed(f"`{self!r}` came to its fail node", hint="the logs of what failed tell why")
        before = self.work.before
        found = [] if last is None or (before is not None and last == before.ref) else [last.address]
        self._end(standing_before(self.work).joined(read_standings(self.target_store(), found)))

    def _first_missing(self, way: Way) -> Stop | None:
        """Return the first step on a way that is not complete, None where all are."""
        stops = [(stop, stop.task.target_address()) for stop in way.stops if stop.task is not None]
        there = self.target_store().present([address for _, address in stops])
        return next((stop for stop, address in stops if address not in there), None)

    def _end(self, standing: Standing) -> None:
        staging = self.target_staging()
        assert staging is not None, "only an attempt ends"
        with open(f"{staging.path}/{STEP_FILE}", "w", encoding="utf-8") as file:
            file.write(standing.text())


#: maps whose branches a step's values decide, as far as this process has wired them and knows no branch of them
_open_maps: WeakValueDictionary[str, NodeTask] = WeakValueDictionary()


def _open_branches(wanted: NodeTask) -> None:
    """Let a task know its work if it is one of a branch that is not known here yet.

    What a task yields in another process, luigi hands over by its parameters alone.
    """
    for one in list(_open_maps.values()):
        if wanted._work is not None:
            return
        with contextlib.suppress(FileNotFoundError, errors.TaskFailed):  # it has not come to yield anything
            one.branches(standing_before(one.work))
            _open_maps.pop(one.id, None)


def _stood_on(task: NodeTask) -> tuple[_Carried, ...]:
    """Return what a task and those that it stands on are to do, and on what each stands, as far as that is known."""
    found = {task.id: task}
    waiting = [task]
    while waiting:
        for one in (waiting.pop()._required or {}).values():
            if one._work is not None and one.id not in found:
                found[one.id] = one
                waiting.append(one)
    return tuple(
        (one.work, ref_of(one), {path: ref_of(other) for path, other in (one._required or {}).items()})
        for one in found.values()
    )


def _unpack(task: NodeTask, carried: tuple[_Carried, ...]) -> None:
    """Let a task, and those that it stands on, know again what `_stood_on` told of them."""
    tasks = {ref.output_id: task_of(ref) for _, ref, _ in carried} | {task.id: task}
    for work, ref, required in carried:
        one = tasks[ref.output_id]
        if one._required is None:
            one.take(work, {path: tasks.get(other.output_id) or task_of(other) for path, other in required.items()})


def task_for(work: Work, ref: Ref, required: Mapping[str, NodeTask]) -> NodeTask:
    """Return the task for some work."""
    task = task_of(ref)
    task.take(work, required)
    return task


@functools.cache
def stand_in(function: str) -> type:
    """Return a class that is where a function is, by whose place its code is digested; nothing is imported."""
    module, _, name = function.rpartition(".")
    # Whoever asks has not imported the module before: what lies in the file now is what will run.
    return type(name, (), {"__module__": module, "__qualname__": name, "_nectar_defined_ns": time.time_ns()})


def task_of(ref: Ref) -> NodeTask:
    """Return the task that is called so; what it is to do is known where it was wired in this process."""
    return NodeTask(id=ref.output_id, family_name=ref.family, name=ref.name)


def standing_before(work: Work) -> Standing:
    """Return how things stand when some work begins.

    Raises:
        FileNotFoundError: when what comes before it is not there.
        MissingInput: when that stands on what was removed.
        StoreUnreachable: when the store cannot be read.
    """
    assert work.before is not None
    store, address = task_of(work.before.ref).target_store(), work.before.ref.address
    [found] = [read_base(store, address)] if work.before.fresh else read_standings(store, [address])
    return found.begun(address, fresh=work.before.fresh)


def _joins(work: Work) -> bool:
    return work.node is not None and work.node.type in (NodeType.PARALLEL, NodeType.MAP)


def _secrets_of(work: Work) -> contextlib.AbstractContextManager[object]:
    """Let secrets come from where the pipeline says, if that is not where they come from anyway."""
    wanted = secrets_settings(work.wiring.secrets)
    if settings.current().secrets == wanted:
        return contextlib.nullcontext()
    return settings.overridden(secrets=wanted)


@contextlib.contextmanager
def _folder(given: str | None) -> Iterator[str]:
    """Give the folder in which a step works: the pipeline's, or one of its own that is gone afterwards."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="nectar-step-", ignore_cleanup_errors=True) as folder:
        yield folder
