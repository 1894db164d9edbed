"""Make tasks and all that they need."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import luigi

from nectar import errors
from nectar.execution.engine import Engine, Limits
from nectar.execution.inline import InlineExecutor
from nectar.execution.jobs import Executor, Tell
from nectar.execution.outcome import Event, Listener, Runner, RunResult
from nectar.plans import MAKING, Action, Force, Prepared, make_plan
from nectar.recording.capture import Echo
from nectar.recording.run import Run, new_run, running
from nectar.task import ground

EXECUTORS = ("inline", "processes", "luigi")


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


def run(
    *tasks: luigi.Task,
    workers: int = 1,
    executor: str | None = None,
    scheduler_url: str | None = None,
    fail_fast: bool = False,
    force: Force = Force.NOTHING,
    echo: bool = True,
    tags: Mapping[str, str] | None = None,
    listener: Listener | None = None,
) -> RunResult:
    """Make these tasks, and return how each task ended; what is complete is left as it is.

    `listener` is told what happens while it happens; with `echo` what tasks print is also shown as it comes.

    Raises:
        GraphError: when the tasks cannot be carried out: a circle, two tasks with one target.
        UsageError: for options that cannot be.
        StoreUnreachable: when a store cannot be read.
    """
    options = Options(
        executor=executor,
        scheduler_url=scheduler_url,
        force=force,
        workers=workers,
        fail_fast=fail_fast,
        tags=tags or {},
        echo=Echo.SAME if echo else Echo.NO,
    )
    return runner_for(tasks, listener or _nobody, options).execute()


def runner_for(tasks: Sequence[luigi.Task], listener: Listener, options: Options) -> Runner:
    """Return a run that has not begun.

    Raises: as `run`.
    """
    _check(options)
    if options.executor == "processes" or (options.executor is None and options.workers > 1):
        from nectar.execution.processes import warm_up

        warm_up()
    this_run = new_run(echo=options.echo, tags=options.tags)
    with running(this_run):
        try:
            prepared = make_plan(tasks, options.force)
        except errors.TaskBroken as error:
            if isinstance(error.task, luigi.Task):
                error.task.trigger_event(luigi.Event.BROKEN_TASK, error.task, error.__cause__)
            raise
    if options.executor == "luigi":
        from nectar.execution.under_luigi import LuigiRunner

        return LuigiRunner(
            prepared, tasks, this_run, listener, workers=options.workers, scheduler_url=options.scheduler_url
        )
    limits = _limits(options)
    return Engine(prepared, _executor(prepared, this_run, options, limits), this_run, listener, limits)


def _check(options: Options) -> None:
    if options.workers < 1:
        raise errors.UsageError(f"a run with {options.workers} workers does nothing", hint="use 1 or more")
    if options.executor is not None and options.executor not in EXECUTORS:
        hint = errors.did_you_mean(options.executor, EXECUTORS) or f"there is {', '.join(EXECUTORS)}"
        raise errors.UsageError(f"no executor `{options.executor}`", hint=hint)
    if options.executor == "inline" and options.workers > 1:
        raise errors.UsageError("the executor `inline` has one worker", hint="use `--executor processes`")

    if options.executor == "luigi" and options.fail_fast:
        raise errors.UsageError("luigi's worker cannot stop at the first failure", hint="leave out `--fail-fast`")
    if options.scheduler_url is not None and options.executor != "luigi":
        raise errors.UsageError("only luigi's worker has a scheduler elsewhere", hint="add `--executor luigi`")


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
    if options.executor == "inline" or (options.executor is None and options.workers == 1 and not limited):
        return InlineExecutor
    from nectar.execution.processes import ProcessExecutor, check_sendable

    check_sendable(to_run)
    ground.begin_epoch()
    if not to_run:
        return InlineExecutor  # nothing to do needs nobody to do it
    return lambda tell: ProcessExecutor(tell, this_run, options.workers)


def _nobody(event: Event) -> None:
    """Listen to nothing."""
