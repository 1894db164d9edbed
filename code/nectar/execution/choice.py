"""Choose who carries a plan out, and within which limits: the one place that knows all executors."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import luigi

from nectar import errors
from nectar.errors import ParameterProblem
from nectar.execution.engine import Engine, Limits
from nectar.execution.inline import InlineExecutor
from nectar.execution.jobs import Executor, Tell
from nectar.execution.outcome import Listener, Runner
from nectar.plans import MAKING, Action, Force, Prepared
from nectar.recording.capture import Echo
from nectar.recording.run import Run
from nectar.task import ground

EXECUTORS = ("inline", "processes", "luigi")  #: built in

#: what another package offers: makes an executor for a run; settings of a pipeline's configuration come by their names
MakeExecutor = Callable[..., Executor]


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is carried out; nothing of this changes a key, a record or a log."""

    executor: str | None = None  #: None: `inline` for one worker, `processes` for more
    scheduler_url: str | None = None  #: of a luigid, for the executor `luigi`; None: a scheduler in this process
    force: Force = Force.NOTHING
    workers: int = 1
    fail_fast: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    echo: Echo = Echo.SAME  #: where what tasks print is shown as it comes
    source: str = "python"  #: by which way in the run came: `cli`, `python`
    run_id: str | None = (
        None  #: of a run that is in the books already, whose beginning need not be told; None: a new one
    )
    parent_id: str | None = None  #: of the run that this one repeats
    root_id: str | None = None  #: of the run with which the repetitions began
    select: str | None = None  #: what alone is made of the tasks' graph; None: all that is missing
    only: frozenset[str] | None = None  #: refs of the selected tasks that the run begins with; None: all
    settings: Mapping[str, Any] = field(default_factory=dict)  #: of another package's executor
    preset: str | None = None  #: name of the preset that these options came from, for the history


def check(options: Options) -> None:
    """Make sure that a run can be carried out so.

    Raises:
        OptionsInvalid: with every option that cannot be, or does not go with another one.
    """
    problems = faults(options)
    if problems:
        raise invalid(problems)


def invalid(problems: Sequence[ParameterProblem]) -> errors.OptionsInvalid:
    """Return the error for some problems with a run's options."""
    return errors.OptionsInvalid(
        "; ".join(problem.message for problem in problems),
        hint="; ".join(dict.fromkeys(problem.hint for problem in problems if problem.hint)) or None,
    )


def faults(options: Options) -> list[ParameterProblem]:
    """Return a problem for each option that cannot be, or does not go with another one."""
    found = []
    executor, workers = options.executor, options.workers
    if workers < 1:
        found.append(ParameterProblem("workers", f"a run with {workers} workers does nothing", "use 1 or more"))
    if executor is not None and executor not in EXECUTORS:
        try:
            _check_settings(executor, _offered(executor), options.settings)
        except errors.OptionsInvalid as error:
            found.append(ParameterProblem("executor", error.message, error.hint))
    if executor == "inline" and workers > 1:
        message, hint = "the executor `inline` has one worker", "use `--executor processes`"
        found.append(ParameterProblem("workers", message, hint))
    if executor == "luigi" and options.fail_fast:
        message, hint = "luigi's worker cannot stop at the first failure", "leave out `--fail-fast`"
        found.append(ParameterProblem("fail_fast", message, hint))
    if options.scheduler_url is not None and executor != "luigi":
        message, hint = "only luigi's worker has a scheduler elsewhere", "add `--executor luigi`"
        found.append(ParameterProblem("scheduler_url", message, hint))
    return found


def _offered(name: str) -> MakeExecutor:
    """Return an executor of another package.

    Raises:
        OptionsInvalid: when none is called so, or what is called so cannot be imported.
    """
    from nectar.extensions import find  # late: hardly a run needs them
    from nectar.pipeline.vocabulary import GROUPS

    built_in: dict[str, MakeExecutor] = dict.fromkeys(EXECUTORS, InlineExecutor)  # for their names alone
    return find(GROUPS["executor"], "executor", name, built_in)


def _check_settings(name: str, make: MakeExecutor, settings: Mapping[str, Any]) -> None:
    """Make sure that another package's executor takes these settings.

    Raises:
        OptionsInvalid: when it does not.
    """
    try:
        inspect.signature(make).bind(None, None, 1, **settings)
    except (TypeError, ValueError) as error:
        raise errors.OptionsInvalid(
            f"the executor `{name}` does not take what it is given: {error}",
            hint="it is called with `tell`, `run` and `workers`, and with its settings by their names",
        ) from error


def _limits(options: Options) -> Limits:
    config = luigi.configuration.get_config()
    resources = dict(config.getintdict("resources"))
    timeout = config.getfloat("worker", "timeout", 0.0)
    retries = config.getint("scheduler", "retry_count", 1)
    stays = config.getboolean("worker", "keep_alive", False)
    stays = stays and config.getboolean("worker", "retry_external_tasks", False)
    interval = config.getfloat("worker", "wait_interval", 1.0) if stays else 0.0
    idle = luigi.TimeDeltaParameter().parse(config.get("worker", "max_keep_alive_idle_duration", "0"))
    return Limits(options.fail_fast, resources, timeout, retries, interval, idle.total_seconds() or math.inf)


def _executor(prepared: Prepared, this_run: Run, options: Options, limits: Limits) -> Callable[[Tell], Executor]:
    actions = MAKING | {Action.BLOCKED} if limits.external_interval_s else MAKING
    found = [prepared.tasks[step.ref] for step in prepared.plan.steps if step.action in actions]
    to_run = [task for task in found if task.run is not None]
    limited = limits.timeout_s or any(task.worker_timeout for task in to_run)
    if options.executor is not None and options.executor not in EXECUTORS:
        make = _offered(options.executor)
        return lambda tell: make(tell, this_run, options.workers, **options.settings)
    if options.executor == "inline" or (options.executor is None and options.workers == 1 and not limited):
        return InlineExecutor
    from nectar.execution.processes import ProcessExecutor, check_sendable

    check_sendable(to_run)
    ground.begin_epoch()
    if not to_run:
        return InlineExecutor  # nothing to do needs nobody to do it
    return lambda tell: ProcessExecutor(tell, this_run, options.workers)


def prepare(options: Options) -> None:
    """Begin what takes its time and does not depend on the plan: what workers come from loads luigi meanwhile."""
    if options.executor == "processes" or (options.executor is None and options.workers > 1):
        from nectar.execution.processes import warm_up

        warm_up()


def make_runner(
    prepared: Prepared, tasks: Sequence[luigi.Task], this_run: Run, listener: Listener, options: Options
) -> Runner:
    """Return a run of a plan that has not begun.

    Raises:
        OptionsInvalid: when a task is to go on after a failure, and luigi is to carry it out.
        UnsendableTask: when tasks cannot be handed to the processes that are to carry them out.
        SchedulerUnreachable: when no luigid answers.
    """
    if options.executor == "luigi":
        from nectar.execution.under_luigi import LuigiRunner, check_failures_end

        check_failures_end(prepared)
        return LuigiRunner(
            prepared, tasks, this_run, listener, workers=options.workers, scheduler_url=options.scheduler_url
        )
    limits = _limits(options)
    return Engine(prepared, _executor(prepared, this_run, options, limits), this_run, listener, limits)
