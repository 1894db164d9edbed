"""Carry a run out in separate steps: create it, look at its plan, execute it; or all at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import luigi

from nectar import errors, settings
from nectar.actions.resolve import instance_of
from nectar.actions.run import carry_out
from nectar.actions.wanted import Asked, options_of, preset_of
from nectar.chain.presets import Preset, texts
from nectar.execution.bookkeeping import options_told
from nectar.execution.choice import Options
from nectar.execution.outcome import GOOD, Listener, RunResult
from nectar.plans import Plan, make_plan
from nectar.recording.run import new_run_id
from nectar.records import utc_now
from nectar.runs import Journal, NewRun, RunState
from nectar.task.history import root_of


@dataclass(slots=True)
class CreatedRun:
    """A run that is in the history, and that this process is going to carry out, once."""

    task: luigi.Task
    options: Options
    begun: bool = field(default=False, init=False)

    @property
    def id(self) -> str:
        """The run's id, by which `nectar runs` finds it."""
        assert self.options.run_id is not None
        return self.options.run_id

    def plan(self) -> Plan:
        """Return what would happen if the run were executed now; nothing is run or written.

        Raises: as `nectar.plan`.
        """
        return make_plan([self.task], self.options.force, self.options.select).plan


def create_run(
    task: Asked,
    run_config: Mapping[str, Any] | None = None,
    preset: str | Preset | None = None,
    tags: Mapping[str, str] | None = None,
    select: str | None = None,
) -> CreatedRun:
    """Return a run that is in the history as STARTING; nothing is made before it is executed.

    `run_config` has any of `executor`, `workers`, `scheduler_url`, `force` (`nothing`, `roots`, `all`), `fail_fast` and
    `echo`. A preset that sets parameters wants a task's class: an instance has its parameters. A run that is never
    executed counts as crashed once its process is gone.

    Raises:
        OptionsInvalid: with everything that is wrong with options and tags.
        SelectionInvalid: when the selection cannot be read.
        PresetNotFound, PresetInvalid: when there is no such preset, or it sets what is given as well, or cannot be.
        InvalidParameters: when parameters that the class needs have no value.
    """
    chosen = preset_of(task, preset)
    options = options_of(task, run_config, chosen, tags, select)
    instance = task
    if isinstance(task, type):
        told = texts(chosen, task.get_params(), "")[0] if chosen is not None else {}
        instance = instance_of(task, told, task.__name__)
    assert isinstance(instance, luigi.Task)
    options = replace(options, run_id=new_run_id())
    created = CreatedRun(instance, options)
    with Journal(settings.current().journals_dir, created.id) as journal:
        journal.create(
            NewRun(
                id=created.id,
                created_at=utc_now(),
                roots=(root_of(instance, identified=True),),
                tags=options.tags,
                source=options.source,
                executor=options.executor,
                workers=options.workers,
                options=options_told(options),
            ),
            state=RunState.STARTING,
        )
    return created


def execute_run(run: CreatedRun, raise_on_error: bool = False, listener: Listener | None = None) -> RunResult:
    """Carry a run out that was created, and return how it ended, with its events and outputs.

    Raises:
        RunStateConflict: when it was executed before.
        RunFailed: with `raise_on_error`, when not all that was asked for is there; its `result` tells the rest.
        GraphError, StoreUnreachable: in any case, when it cannot be planned, as `nectar.run` says.
    """
    if run.begun:
        raise errors.RunStateConflict(f"the run `{run.id}` was executed before", hint="create another one")
    run.begun = True
    result = carry_out([run.task], listener, run.options)
    if raise_on_error and not result.success:
        raise _failed(result)
    return result


def execute(
    task: Asked,
    run_config: Mapping[str, Any] | None = None,
    preset: str | Preset | None = None,
    tags: Mapping[str, str] | None = None,
    select: str | None = None,
    raise_on_error: bool = True,
) -> RunResult:
    """Make a task and all that it needs, and return how that ended: `create_run` and `execute_run` in one.

    Raises: as `create_run` and `execute_run`.
    """
    return execute_run(create_run(task, run_config, preset, tags, select), raise_on_error)


def _failed(result: RunResult) -> errors.RunFailed:
    bad = [step for step in result.steps if step.status not in GOOD and step.error]
    if result.interrupted:
        word = f"the run `{result.run_id}` was interrupted"
    else:
        others = f", and {len(bad) - 1} more failed" if len(bad) > 1 else ""
        word = f"`{bad[0].task}` failed: {bad[0].error}{others}" if bad else f"the run `{result.run_id}` failed"
    hint = next((step.hint for step in bad if step.hint), None) or f"`nectar logs {result.run_id}` has what was printed"
    error = errors.RunFailed(word, hint=hint)
    error.result = result
    return error
