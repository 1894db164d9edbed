"""Make tasks and all that they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import luigi

from nectar import errors
from nectar.execution.engine import Engine, Limits
from nectar.execution.inline import InlineExecutor
from nectar.execution.jobs import Executor, Tell
from nectar.execution.outcome import Event, Listener, RunResult
from nectar.plans import Action, Prepared, make_plan
from nectar.recording.capture import Echo
from nectar.recording.run import Run, new_run
from nectar.task import ground

EXECUTORS = ("inline", "processes")


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is carried out; nothing of this changes a key, a record or a log."""

    executor: str | None = None  #: None: `inline` for one worker, `processes` for more
    workers: int = 1
    fail_fast: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    echo: Echo = Echo.SAME  #: where what tasks print is shown as it comes


def run(
    *tasks: luigi.Task,
    workers: int = 1,
    executor: str | None = None,
    fail_fast: bool = False,
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
    options = Options(executor, workers, fail_fast, tags or {}, Echo.SAME if echo else Echo.NO)
    return engine_for(tasks, listener or _nobody, options).execute()


def engine_for(tasks: Sequence[luigi.Task], listener: Listener, options: Options) -> Engine:
    """Return the engine of a run that has not begun.

    Raises: as `run`.
    """
    _check(options)
    prepared = make_plan(tasks)
    this_run = new_run(echo=options.echo, tags=options.tags)
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


def _limits(options: Options) -> Limits:
    config = luigi.configuration.get_config()
    resources = dict(config.getintdict("resources"))
    timeout = config.getfloat("worker", "timeout", 0.0)
    retries = config.getint("scheduler", "retry_count", 1)
    return Limits(options.fail_fast, resources, timeout, retries)


def _executor(prepared: Prepared, this_run: Run, options: Options, limits: Limits) -> Callable[[Tell], Executor]:
    to_run = [prepared.tasks[step.ref] for step in prepared.plan.steps if step.action is Action.RUN]
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
