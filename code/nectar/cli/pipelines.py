"""Carry a pipeline out for a person: progress on stderr, the run log on stdout."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from nectar import settings
from nectar.actions import pipelines
from nectar.actions.resolve import split_parameters
from nectar.cli import console
from nectar.cli.planning import print_plan
from nectar.cli.progress import Progress
from nectar.cli.running import Wish
from nectar.cli.signals import stopping
from nectar.cli.words import TAG
from nectar.errors import ExitCode
from nectar.execution.outcome import Event
from nectar.pipeline.reading import read_parameters, read_pipeline, read_variables
from nectar.pipeline.services import read_services
from nectar.plans import make_plan
from nectar.recording.capture import Echo

if TYPE_CHECKING:
    from nectar.cli.executing import Asked


def execute_pipeline(wish: Wish, asked: Asked) -> int:
    """Carry a pipeline out, or one step of it, or say what would be done; return the exit code."""
    invocation = _invocation(wish, asked)
    with pipelines.in_service(invocation):
        if wish.dry_run:
            print_plan(
                make_plan([invocation.root]).plan,
                invocation.wirer.wiring.module,
                everything=False,
                as_json=wish.as_json,
            )
            return int(ExitCode.OK)
        return _carry_out(wish, asked, invocation)


def _invocation(wish: Wish, asked: Asked) -> pipelines.Invocation:
    from nectar.pipeline.model import Services

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
    )


def _carry_out(wish: Wish, asked: Asked, invocation: pipelines.Invocation) -> int:
    options = pipelines.options_of(invocation, wish.options)
    module = invocation.wirer.wiring.module
    if invocation.dag_changed:
        earlier = invocation.heading.original_run_id
        console.line(
            ("warning: ", "odd"), f"the pipeline is not as it was in the run `{earlier}`: what changed runs", err=True
        )
    events: list[Event] = []
    plain = options.echo is not Echo.NO
    with Progress(module, settings.current().store_url, quiet=wish.quiet or wish.as_json, plain=plain) as progress:

        def listen(event: Event) -> None:
            events.append(event)
            progress.listen(event)

        with stopping(pipelines.begin(invocation, options, listen)) as runner:
            result = runner.execute()
    document = pipelines.finish(invocation, result, events)
    click.echo(json.dumps(document, indent=4, ensure_ascii=False))
    if not result.success:
        again = shlex.join(("nectar", "execute", "--file", str(asked.path), "--use-cached", invocation.run_id))
        console.line((f"hint: mend it and go on: {again}", "name"), err=True)
    return int(result.exit_code)
