"""`nectar run`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click
import luigi

from nectar import errors, settings
from nectar.cli import console
from nectar.cli.progress import Progress
from nectar.cli.signals import stopping
from nectar.cli.words import (
    CONTEXT,
    TaskCommand,
    asks_for_help,
    preset_option,
    select_option,
    tag_of,
    task_arguments,
)
from nectar.errors import ExitCode
from nectar.execution.outcome import Event, EventKind, RunResult, StepStatus
from nectar.recording.capture import Echo

if TYPE_CHECKING:
    from nectar.actions.run import Options


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one a line; the last is the result.")
@click.option("--workers", "-w", type=int, metavar="N", help="Tasks at work at the same time; 1 by default.")
@click.option("--executor", metavar="NAME", help="Who carries tasks out: `inline`, `processes` or `luigi`.")
@click.option("--scheduler-url", metavar="URL", help="The luigid of `--executor luigi`.")
@click.option("--force", is_flag=True, help="Make TASK again, although it is complete.")
@click.option("--force-all", is_flag=True, help="Make TASK and all that it stands on again.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing: `nectar plan`.")
@click.option("--fail-fast", is_flag=True, help="Begin nothing more after the first failure.")
@click.option("--echo", is_flag=True, help="Also show what tasks print; it is in their logs in any case.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but what went wrong.")
@select_option
@preset_option
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="A tag of the run; repeatable.")
@task_arguments
def run(
    as_json: bool,
    workers: int | None,
    executor: str | None,
    scheduler_url: str | None,
    force: bool,
    force_all: bool,
    dry_run: bool,
    fail_fast: bool,
    echo: bool,
    quiet: bool,
    select: str | None,
    preset: str | None,
    tags: tuple[str, ...],
    chain: str,
    task: str,
    words: tuple[str, ...],
) -> int:
    """Make TASK of CHAIN and all that it needs; what is complete is left as it is.

    CHAIN is a chain's name such as `etl/flights_chain`. The task's own parameters follow its name. More tasks follow
    after `--and`. A task that fails stops what needs it and nothing else; Ctrl-C lets what is at work end, a second
    one stops it.
    """
    from nectar.actions.run import Options
    from nectar.cli.planning import print_plan
    from nectar.plans import Force, make_plan

    if asks_for_help(settings.current(), chain, task, words):
        return int(ExitCode.OK)
    options = Options(
        executor=executor,
        scheduler_url=scheduler_url,
        force=Force.ALL if force_all else Force.ROOTS if force else Force.NOTHING,
        workers=1 if workers is None else workers,
        fail_fast=fail_fast,
        tags=_tags(tags),
        echo=Echo.STDERR if echo else Echo.NO,
        source="cli",
        select=select,
        preset=preset,
    )
    roots, options = _wanted(options, workers, chain, task, words)
    if dry_run:
        made = make_plan(roots, options.force, options.select).plan
        print_plan(made, type(roots[0]).__module__, everything=False, as_json=as_json)
        return int(ExitCode.OK)
    own = [word for name, text in (("--select", select), ("--preset", preset)) if text for word in (name, text)]
    command = " ".join(("run", *map(shlex.quote, own), _again(roots[0], chain, task, words)))
    return carry_out(roots, options, command, as_json=as_json, quiet=quiet)


def _tags(texts: tuple[str, ...]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for name, value in map(tag_of, texts):
        if tags.setdefault(name, value) != value:
            raise errors.UsageError(f"the tag `{name}` is given twice", hint="a run has one value for each tag")
    return tags


def _wanted(
    options: Options, workers: int | None, chain: str, task: str, words: tuple[str, ...]
) -> tuple[Sequence[luigi.Task], Options]:
    """Return the tasks that are to be made, and the options with what the preset sets; `workers` as it was given."""
    if options.preset is None:
        from nectar.actions.resolve import tasks_of

        return tasks_of(settings.current(), chain, task, words), options
    from nectar.actions.wanted import task_with_preset

    given = {f"tags.{name}": f"--tag {name}={value}" for name, value in options.tags.items()}
    named = (("executor", options.executor), ("workers", workers), ("select", options.select))
    given |= {name: f"--{name} {value}" for name, value in named if value is not None}
    root, preset = task_with_preset(settings.current(), chain, task, words, options.preset, given)
    return [root], replace(
        options,
        executor=preset.executor or options.executor,
        workers=preset.workers or options.workers,
        select=preset.select if preset.select is not None else options.select,
        tags={**preset.tags, **options.tags},
    )


def carry_out(roots: Sequence[luigi.Task], options: Options, command: str, *, as_json: bool, quiet: bool) -> int:
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
    shown = roots if options.select is None else [result.tasks[ref] for ref in result.ends if ref in result.tasks]
    _print_summary(result, shown, module, command, quiet=quiet)
    return int(result.exit_code)


def _print_summary(result: RunResult, roots: Sequence[luigi.Task], module: str, command: str, *, quiet: bool) -> None:
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
