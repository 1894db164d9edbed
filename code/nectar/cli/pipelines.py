"""Carry a pipeline out for a person: progress on stderr, the run log on stdout."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from nectar import errors, settings
from nectar.actions import pipelines
from nectar.actions.pipeline_steps import items_of, step_of
from nectar.actions.resolve import split_parameters
from nectar.actions.run import Options, runner_for
from nectar.cli import console
from nectar.cli.planning import print_plan
from nectar.cli.progress import Progress
from nectar.cli.running import Wish
from nectar.cli.signals import stopping
from nectar.cli.words import TAG
from nectar.errors import ExitCode
from nectar.execution.outcome import Event, Listener, Runner, RunResult
from nectar.pipeline.model import NodeType, Services
from nectar.pipeline.reading import read_parameters, read_pipeline, read_variables
from nectar.pipeline.services import read_services
from nectar.plans import make_plan
from nectar.recording.capture import Echo

if TYPE_CHECKING:
    from nectar.cli.executing import Asked


def execute_pipeline(wish: Wish, asked: Asked) -> int:
    """Carry a pipeline out, or one step of it, or say what would be done; return the exit code."""
    invocation = _invocation(wish, asked)
    if asked.items is not None:
        found = items_of(invocation.wirer, invocation.way, asked.items)
        text = "".join(f"{one}\0" for one in found) if asked.null else json.dumps(found, ensure_ascii=False) + "\n"
        click.echo(text, nl=False)
        return int(ExitCode.OK)
    if asked.step is not None:
        return _carry_out_step(wish, asked, asked.step, invocation)
    if wish.dry_run:
        plan = make_plan([invocation.root]).plan
        print_plan(plan, invocation.wirer.wiring.module, everything=False, as_json=wish.as_json)
        return int(ExitCode.OK)
    return _carry_out(wish, asked, invocation)


def _carry_out_step(wish: Wish, asked: Asked, name: str, invocation: pipelines.Invocation) -> int:
    found = step_of(invocation.wirer, invocation.way, name)
    code = ExitCode.OK
    if found.task is not None:
        pipelines.make_importable()
        tags = {"pipeline_run": invocation.run_id, "step": name, **wish.options.tags}
        options = replace(pipelines.options_of(invocation, wish.options), run_id=None, tags=tags)
        task = found.task
        code = _run(wish, options, invocation, lambda listen: runner_for([task], listen, options))[0].exit_code
    if found.end is not None and code is ExitCode.OK:
        _tell(invocation, None, ())
    if found.end is NodeType.FAIL:
        hint = "the logs of what failed tell why"
        raise errors.PipelineFailed(f"the pipeline came to its fail node `{name}`", hint=hint)
    return int(code)


def _invocation(wish: Wish, asked: Asked) -> pipelines.Invocation:
    one = asked.step or asked.items
    if asked.null and asked.items is None:
        raise errors.UsageError("`--null` is for the values of a map step", hint="add `--items NAME`")
    if one is not None and (asked.run_id is None or asked.use_cached is not None or (asked.step and asked.items)):
        hint = "one of `--step` and `--items`, with `--run-id` of the run that it is of"
        raise errors.UsageError(f"`{one}` is a step of no run that is named", hint=hint)
    variables = read_variables(asked.variables) if asked.variables is not None else None
    pipeline = read_pipeline(asked.path, variables)
    services = read_services(asked.config) if asked.config is not None else Services()
    given: Mapping[str, Any] = read_parameters(asked.parameters) if asked.parameters is not None else {}
    return pipelines.invoke(
        pipeline,
        asked.path,
        {**given, **split_parameters(asked.words)},
        services,
        run_id=asked.run_id,
        use_cached=asked.use_cached,
        tag=wish.options.tags.get(TAG),
        joins=one is not None,
    )


def _carry_out(wish: Wish, asked: Asked, invocation: pipelines.Invocation) -> int:
    options = pipelines.options_of(invocation, wish.options)
    if invocation.dag_changed:
        earlier = invocation.heading.original_run_id
        console.line(
            ("warning: ", "odd"), f"the pipeline is not as it was in the run `{earlier}`: what changed runs", err=True
        )
    result, events = _run(wish, options, invocation, lambda listen: pipelines.begin(invocation, options, listen))
    _tell(invocation, result, events)
    if not result.success:
        again = shlex.join(("nectar", "execute", "--file", str(asked.path), "--use-cached", invocation.run_id))
        console.line((f"hint: mend it and go on: {again}", "name"), err=True)
    return int(result.exit_code)


def _run(
    wish: Wish, options: Options, invocation: pipelines.Invocation, begin: Callable[[Listener], Runner]
) -> tuple[RunResult, list[Event]]:
    """Carry a run out, show how it goes, and return how it ended."""
    events: list[Event] = []
    quiet, plain = wish.quiet or wish.as_json, options.echo is not Echo.NO
    module = invocation.wirer.wiring.module
    with Progress(module, settings.current().store_url, quiet=quiet, plain=plain) as progress:

        def listen(event: Event) -> None:
            events.append(event)
            progress.listen(event)

        with stopping(begin(listen)) as runner:
            return runner.execute(), events


def _tell(invocation: pipelines.Invocation, result: RunResult | None, events: Sequence[Event]) -> None:
    """Print the run log, also where it cannot be kept, and keep it."""
    document = pipelines.log_of(invocation, result, events)
    click.echo(json.dumps(document, indent=4, ensure_ascii=False))
    pipelines.keep_log(invocation, document)
