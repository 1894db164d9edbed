"""Carry a pipeline file out as a run of its own: nothing that was made before is found complete, unless it is kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nectar import errors, settings
from nectar.actions.history import opened
from nectar.actions.run import runner_for
from nectar.actions.run_logs import Heading, beginning, run_log
from nectar.address import Address
from nectar.chain.project import bind
from nectar.errors import ParameterProblem
from nectar.execution.bookkeeping import options_told
from nectar.execution.choice import EXECUTORS, Options, check, invalid
from nectar.execution.outcome import Event, Listener, Runner, RunResult
from nectar.extensions import find
from nectar.pipeline import catalog, run_log_stores
from nectar.pipeline.model import Pipeline, Service, Services
from nectar.pipeline.names import module_of
from nectar.pipeline.run_log_stores import RunLogStore, make_run_log_store
from nectar.pipeline.services import merge, of_settings, secrets_settings
from nectar.pipeline.standing import checked_parameters
from nectar.pipeline.tasks import NodeTask
from nectar.pipeline.vocabulary import GROUPS
from nectar.pipeline.wiring import Way, Wirer, Wiring
from nectar.recording.provenance import code_identities
from nectar.recording.run import new_run_id
from nectar.records import utc_now
from nectar.runs import Journal, NewRun, Root, Run, RunState, RunStore
from nectar.runs.values import check_run_id
from nectar.secrets.fetching import opened as open_secrets
from nectar.stores import open_store

_GOOD = frozenset({"succeeded", "skipped", "reused"})
_NAMES = (
    "write `--name value`: a name has letters, digits and `_`, and begins with none of the digits; a value is UTF-8"
)
_PARAMETERS, _ORIGINAL, _DAG = "parameters", "original_run_id", "dag_hash"  # in what the history keeps of a run


@dataclass(frozen=True, slots=True)
class Invocation:
    """A pipeline that is to be carried out."""

    pipeline: Pipeline
    path: Path
    heading: Heading
    services: Services
    wirer: Wirer
    way: Way
    store: RunLogStore
    dag_changed: bool = False  #: since the run that is repeated

    @property
    def run_id(self) -> str:
        """The id of its run."""
        return self.heading.run_id

    @property
    def root(self) -> NodeTask:
        """The task that all of it is."""
        assert self.way.task is not None
        return self.way.task


def invoke(
    pipeline: Pipeline,
    path: Path,
    parameters: Mapping[str, Any],
    services: Services,
    *,
    run_id: str | None = None,
    use_cached: str | None = None,
    tag: str | None = None,
    joins: bool = False,
) -> Invocation:
    """Return a pipeline that is ready to be carried out; nothing is written.

    `services` win over those that the file names. With `use_cached` what succeeded in that run, and is unchanged with
    all before it, is kept; its parameters hold where no other value is given. What `joins` is a part of the run of that
    id, which need not be new.

    Raises:
        OptionsInvalid: with everything that is wrong with the services.
        RunExists, RunNotFound: when the id was used before, or there is no such run to repeat.
        UsageError: when the id cannot be one, or the run to repeat is none of a pipeline.
        ResultInvalid: for values that cannot be parameters.
        StoreUnreachable: when it cannot be told what is kept.
    """
    chosen = merge(services, pipeline.services, of_settings())
    _check(chosen)
    store = make_run_log_store(_given(chosen.run_log_store))
    wanted = check_run_id(run_id) if run_id is not None else new_run_id()
    earlier: Run | None = None
    lineage: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()
    if (run_id is not None and not joins) or use_cached is not None:
        with opened(settings.current()) as books:
            if run_id is not None and not joins:
                _refuse_used(books, run_id)
            if use_cached is not None:
                earlier = books.find(use_cached)
                lineage = _lineage(books, earlier)
                kept = _there(_kept(books, lineage).values())
    initial = checked_parameters("the command line", parameters, _NAMES)
    if earlier is not None:
        initial = {**_parameters_of(earlier), **initial}
    wiring = Wiring(
        module_of(path, settings.current().chains_dir),
        os.getcwd(),
        _given(chosen.catalog),
        salt=wanted,
        lineage=lineage,
        kept=kept,
        secrets=_given(chosen.secrets),
    )
    wirer = Wirer(wiring)
    way = wirer.root(pipeline.dag, initial)
    heading = Heading(wanted, pipeline, chosen, initial, tag, earlier.id if earlier is not None else "")
    changed = earlier is not None and earlier.new.options.get(_DAG) != pipeline.dag.digest
    return Invocation(pipeline, path, heading, chosen, wirer, way, store, changed)


def _given(service: Service | None) -> Service:
    assert service is not None, "every service has a default"
    return service


def _refuse_used(books: RunStore, run_id: str) -> None:
    try:
        books.run(run_id)
    except errors.RunNotFound:
        return
    raise errors.RunExists(f"the run id `{run_id}` was used before", hint="leave it out, and a new one is made")


def _lineage(books: RunStore, run: Run) -> tuple[str, ...]:
    """Return the ids of a run, of the one that it repeated, and so on."""
    found = [run.id]
    while (earlier := run.new.options.get(_ORIGINAL)) and earlier not in found:
        try:
            run = books.run(str(earlier))
        except errors.RunNotFound:
            break
        found.append(run.id)
    return tuple(found)


def _kept(books: RunStore, lineage: Sequence[str]) -> dict[str, str]:
    """Return the targets of the steps that were good in a run, by their names: made in it, or kept from those before.

    A run does not look at what it has no need of: of such steps the run says that it repeated.
    """
    found: dict[str, str] = {}
    for run_id in reversed(lineage):
        for step in books.steps(run_id):
            found.pop(step.task, None)  # the later run has the word
            if step.path and step.status in _GOOD:
                found[step.task] = step.path
    return found


def _there(paths: Iterable[str]) -> frozenset[str]:
    """Return those of some targets that still are there: what comes after one that was removed is made anew, too."""
    addresses = map(Address.parse, paths)
    return frozenset(address.path for address in open_store().present(list(addresses)))


def _parameters_of(run: Run) -> dict[str, Any]:
    known = run.new.options.get(_PARAMETERS)
    if not isinstance(known, dict):
        raise errors.UsageError(
            f"the run `{run.id}` is none of a pipeline",
            hint="`nectar runs` lists the runs; `nectar rerun` repeats others",
        )
    return known


#: of services: what one is called, what is built in, and the settings of that
_SERVICES: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, frozenset[str]]]] = {
    "run_log_store": ("run log store", run_log_stores.BUILT_IN, run_log_stores.SETTINGS),
    "catalog": ("catalog", catalog.BUILT_IN, catalog.SETTINGS),
}
LOCAL = "local"  #: the executor that is meant where nothing is said: this machine
_OF_EXECUTORS = frozenset({"workers", "scheduler_url"})


def _check(services: Services) -> None:
    """Make sure that there are such services, with such settings.

    Raises:
        OptionsInvalid: with everything that is wrong.
    """
    problems: list[ParameterProblem] = []
    for name, (what, built_in, known) in _SERVICES.items():
        service = _given(getattr(services, name))
        try:
            find(GROUPS[name], what, service.type, built_in)
        except errors.OptionsInvalid as error:
            problems.append(ParameterProblem(name, error.message, error.hint))
        if service.type in known:
            problems += _unknown_settings(f"the {what} `{service.type}`", service.config, known[service.type])
    try:
        open_secrets(replace(settings.current(), secrets=secrets_settings(_given(services.secrets))))
    except errors.SettingsInvalid as error:
        problems.append(ParameterProblem("secrets", error.message, error.hint))
    executor = _given(services.executor)
    if executor.type in (LOCAL, *EXECUTORS):
        problems += _unknown_settings(f"the executor `{executor.type}`", executor.config, _OF_EXECUTORS)
    if problems:
        raise invalid(problems)


def _unknown_settings(what: str, given: Mapping[str, Any], known: Iterable[str]) -> Sequence[ParameterProblem]:
    """Return a problem for each setting of a service that it does not have."""
    names = sorted(known)
    return [
        ParameterProblem(
            f"{what}.config.{name}",
            f"{what} has no setting `{name}`",
            errors.did_you_mean(name, names) or (f"it has {', '.join(names)}" if names else "it has none"),
        )
        for name in given
        if name not in names
    ]


def options_of(invocation: Invocation, options: Options) -> Options:
    """Return the options of the run: as given, else as its executor is set.

    Raises:
        OptionsInvalid: with every option that cannot be.
    """
    executor = _given(invocation.services.executor)
    workers = executor.config.get("workers", 1)
    if not isinstance(workers, int) or isinstance(workers, bool):
        raise errors.OptionsInvalid(f"the executor has {workers!r} workers", hint="give a whole number")
    named = None if executor.type == LOCAL else executor.type
    foreign = named not in (None, *EXECUTORS) and options.executor in (None, named)
    chosen = replace(
        options,
        executor=options.executor or named,
        settings={key: value for key, value in executor.config.items() if key != "workers"} if foreign else {},
        workers=options.workers if options.workers > 1 else workers,
        scheduler_url=options.scheduler_url or (None if foreign else executor.config.get("scheduler_url")),
        run_id=invocation.run_id,
    )
    check(chosen)
    return chosen


def make_importable() -> None:
    """Let functions of steps be found: in the project, and in the folder in which the command was started."""
    bind(settings.current().root)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def begin(invocation: Invocation, options: Options, listener: Listener) -> Runner:
    """Return the run, which is in the history as STARTING.

    `log_of` has to be told of its result, and of all events.

    Raises: as `nectar.run`.
    """
    make_importable()
    told = options_told(options) | {
        _PARAMETERS: dict(invocation.heading.parameters),
        _DAG: invocation.pipeline.dag.digest,
        _ORIGINAL: invocation.heading.original_run_id or None,
        "file": str(invocation.path),
    }
    root = invocation.root
    new = NewRun(
        id=invocation.run_id,
        created_at=utc_now(),
        roots=(Root(repr(root), None, {}, root.target_address().path, root.key, root.output_id),),
        tags=options.tags,
        source=options.source,
        executor=options.executor,
        workers=options.workers,
        options=told,
        parent_id=invocation.heading.original_run_id or None,
        root_id=invocation.wirer.wiring.lineage[-1] if invocation.wirer.wiring.lineage else None,
    )
    with Journal(settings.current().journals_dir, invocation.run_id) as journal:
        journal.create(new, state=RunState.STARTING)
    invocation.store.keep(invocation.run_id, beginning(invocation.heading))
    return runner_for([root], listener, options)


def log_of(invocation: Invocation, result: RunResult | None, events: Sequence[Event]) -> dict[str, Any]:
    """Return the run log of a run that has ended; without a result, of one that others carried out.

    Raises:
        StoreUnreachable: when what the steps left cannot be read.
    """
    code = code_identities(invocation.path.resolve().parent)
    return run_log(invocation.heading, invocation.way, invocation.wirer, result, events, code)


def keep_log(invocation: Invocation, document: Mapping[str, Any]) -> None:
    """Keep a run log where the pipeline's services say.

    Raises:
        RunStoreUnreachable: when it cannot be kept.
    """
    invocation.store.keep(invocation.run_id, document)
