"""`nectar run`."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING

import click
import luigi

from nectar import settings
from nectar.cli import console
from nectar.cli.progress import Progress
from nectar.cli.signals import stopping
from nectar.cli.words import CONTEXT, TaskCommand, asks_for_help, task_arguments
from nectar.errors import ExitCode
from nectar.execution.outcome import Event, EventKind, RunResult, StepStatus
from nectar.recording.capture import Echo

if TYPE_CHECKING:
    from nectar.actions.run import Options


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one a line; the last is the result.")
@click.option("--workers", "-w", default=1, show_default=True, metavar="N", help="Tasks at work at the same time.")
@click.option("--executor", metavar="NAME", help="Who carries tasks out: `inline`, `processes` or `luigi`.")
@click.option("--scheduler-url", metavar="URL", help="The luigid of `--executor luigi`.")
@click.option("--force", is_flag=True, help="Make TASK again, although it is complete.")
@click.option("--force-all", is_flag=True, help="Make TASK and all that it stands on again.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing: `nectar plan`.")
@click.option("--fail-fast", is_flag=True, help="Begin nothing more after the first failure.")
@click.option("--echo", is_flag=True, help="Also show what tasks print; it is in their logs in any case.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but what went wrong.")
@task_arguments
def run(
    as_json: bool,
    workers: int,
    executor: str | None,
    scheduler_url: str | None,
    force: bool,
    force_all: bool,
    dry_run: bool,
    fail_fast: bool,
    echo: bool,
    quiet: bool,
    chain: str,
    task: str,
    words: tuple[str, ...],
) -> int:
    """Make TASK of CHAIN and all that it needs; what is complete is left as it is.

    CHAIN is a chain's name such as `etl/flights_chain`. The task's own parameters follow its name. More tasks follow
    after `--and`. A task that fails stops what needs it and nothing else; Ctrl-C lets what is at work end, a second
    one stops it.
    """
    from nectar.actions.resolve import tasks_of
    from nectar.actions.run import Options
    from nectar.cli.planning import print_plan
    from nectar.plans import Force, make_plan

    if asks_for_help(settings.current(), chain, task, words):
        return int(ExitCode.OK)
    roots = tasks_of(settings.current(), chain, task, words)
    options = Options(
        executor=executor,
        scheduler_url=scheduler_url,
        force=Force.ALL if force_all else Force.ROOTS if force else Force.NOTHING,
        workers=workers,
        fail_fast=fail_fast,
        echo=Echo.STDERR if echo else Echo.NO,
        source="cli",
    )
    if dry_run:
        made = make_plan(roots, options.force).plan
        print_plan(made, type(roots[0]).__module__, everything=False, as_json=as_json)
        return int(ExitCode.OK)
    return carry_out(roots, options, f"run {_again(roots[0], chain, task, words)}", as_json=as_json, quiet=quiet)


def carry_out(roots: list[luigi.Task], options: Options, command: str, *, as_json: bool, quiet: bool) -> int:
    """Carry a run out, show how it goes, and return its exit code; `command` is what would run it again."""
    from nectar.actions.run import runner_for

    module = type(roots[0]).__module__
    if as_json:
        stream = console.own_stream(sys.stdout)

        def print_event(event: Event) -> None:
            if event.kind is not EventKind.RUN_ENDED:
                stream.write(json.dumps(event.to_json(), ensure_ascii=False) + "\n")

        with stopping(runner_for(roots, print_event, options)) as runner:
            result = runner.execute()
        click.echo(json.dumps({"event": EventKind.RUN_ENDED.value, **result.to_json()}, ensure_ascii=False))
        return int(result.exit_code)
    with (
        Progress(module, _store_url(roots[0]), quiet=quiet, plain=options.echo is not Echo.NO) as progress,
        stopping(runner_for(roots, progress.listen, options)) as runner,
    ):
        result = runner.execute()
    _print_summary(result, roots, module, command, quiet=quiet)
    return int(result.exit_code)


def _print_summary(result: RunResult, roots: list[luigi.Task], module: str, command: str, *, quiet: bool) -> None:
    for step in result.steps:
        if step.status is StepStatus.BLOCKED:
            console.line(("blocked ", "bad"), console.short_name(step.task, module), f": {step.error}", err=True)
    if result.interrupted:
        console.line(("interrupted: what was finished is kept", "odd"), err=True)
    counts = ", ".join(f"{count:,} {status.value}" for status, count in result.counts.items() if count)
    if not result.success:
        console.line((f"{counts} in {console.seconds_text(result.seconds)}", "bold"), err=True)
        way_on = "run it again to go on" if result.interrupted else "mend it and run again"
        console.line((f"hint: {way_on}: nectar {command}", "name"), err=True)
        return
    if not quiet:
        _print_counts(result)
    for root in roots:
        for place in _outputs(root):
            console.line(place)


def _print_counts(result: RunResult) -> None:
    made, reused = result.counts[StepStatus.SUCCEEDED], result.counts[StepStatus.REUSED]
    if made or reused:
        # What has no target, such as an input file, was not made before either.
        skipped = sum(step.status is StepStatus.SKIPPED and step.path is not None for step in result.steps)
        also = f", {reused:,} reused" if reused else ""
        also += f", {skipped:,} complete before" if skipped else ""
        took = console.seconds_text(result.seconds)
        console.line((f"{console.count_text(made, 'task')} made in {took}{also}", "bold"), err=True)
    else:
        console.line(("all is complete: nothing to do", "bold"), err=True)


def _again(root: luigi.Task, chain: str, task: str, words: tuple[str, ...]) -> str:
    """Return the command once more, to be pasted into a shell; private values are not repeated."""
    from nectar.actions.resolve import AND, boolean_parameters, split_parameters
    from nectar.parameters import MASK, is_private

    if AND in words:
        return shlex.join((chain, task, *words[: words.index(AND)])) + f" {AND} ..."

    private = {name for name, parameter in root.get_params() if is_private(parameter)}
    texts = split_parameters(words, boolean_parameters(type(root)))
    if not private.intersection(texts):
        return shlex.join((chain, task, *words))
    masked = [f"--{name.replace('_', '-')}={MASK if name in private else text}" for name, text in texts.items()]
    return shlex.join((chain, task, *masked))


def _store_url(root: luigi.Task) -> str:
    ask = getattr(root, "target_store", None)
    return str(ask().url) if ask is not None else settings.current().store_url


def _outputs(root: luigi.Task) -> list[str]:
    """Return where the results are: paths where they are local, URLs elsewhere."""
    places = []
    for one in luigi.task.flatten(root.output()):
        url = getattr(one, "url", None)
        places.append(str(getattr(one, "path", one)) if url is None or url.startswith("file:") else url)
    return places
