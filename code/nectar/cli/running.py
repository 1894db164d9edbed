"""`nectar run`, and what every command that carries something out has of it."""

from __future__ import annotations

import functools
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

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


_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one a line; the last is the result."),
    click.option("--workers", "-w", type=int, metavar="N", help="Tasks at work at the same time; 1 by default."),
    click.option(
        "--executor",
        metavar="NAME",
        help="Who carries tasks out: `inline`, `processes`, `luigi`, or what another package offers.",
    ),
    click.option("--scheduler-url", metavar="URL", help="The luigid of `--executor luigi`."),
    click.option("--force", is_flag=True, help="Make again what is asked for, although it is complete."),
    click.option("--force-all", is_flag=True, help="Make that and all that it stands on again."),
    click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing: `nectar plan`."),
    click.option("--fail-fast", is_flag=True, help="Begin nothing more after the first failure."),
    click.option("--echo", is_flag=True, help="Also show what tasks print; it is in their logs in any case."),
    click.option("--quiet", "-q", is_flag=True, help="Say nothing but what went wrong."),
    click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="A tag of the run; repeatable."),
)


@dataclass(frozen=True, slots=True)
class Wish:
    """How a person wants something to be carried out."""

    options: Options
    workers: int | None  #: as they were given
    as_json: bool
    quiet: bool
    dry_run: bool


def run_options(command: _Command) -> _Command:
    """Add the options of a run to a command, which is given them as one `wish`."""

    @functools.wraps(command)
    def gather(**given: Any) -> Any:
        from nectar.actions.run import Options
        from nectar.plans import Force

        force, force_all = given.pop("force"), given.pop("force_all")
        workers = given.pop("workers")
        options = Options(
            executor=given.pop("executor"),
            scheduler_url=given.pop("scheduler_url"),
            force=Force.ALL if force_all else Force.ROOTS if force else Force.NOTHING,
            workers=1 if workers is None else workers,
            fail_fast=given.pop("fail_fast"),
            tags=_tags(given.pop("tags")),
            echo=Echo.STDERR if given.pop("echo") else Echo.NO,
            source="cli",
        )
        wish = Wish(options, workers, *(given.pop(name) for name in ("as_json", "quiet", "dry_run")))
        return command(wish=wish, **given)

    made: Any = gather
    for option in reversed(_OPTIONS):
        made = option(made)
    return made  # type: ignore[no-any-return]


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@run_options
@select_option
@preset_option
@task_arguments
def run(wish: Wish, select: str | None, preset: str | None, chain: str, task: str, words: tuple[str, ...]) -> int:
    """Make TASK of CHAIN and all that it needs; what is complete is left as it is.

    CHAIN is a chain's name such as `etl/flights_chain`. The task's own parameters follow its name. More tasks follow
    after `--and`. A task that fails stops what needs it and nothing else; Ctrl-C lets what is at work end, a second
    one stops it.
    """
    from nectar.execution.choice import check, prepare

    if asks_for_help(settings.current(), chain, task, words):
        return int(ExitCode.OK)
    wish = replace(wish, options=replace(wish.options, select=select, preset=preset))
    if preset is None:
        check(wish.options)
        if not wish.dry_run:
            prepare(wish.options)  # what workers come from loads while the chain is imported
    roots, options = _wanted(wish, chain, task, words)
    own = [word for name, text in (("--select", select), ("--preset", preset)) if text for word in (name, text)]
    return fulfil(
        replace(wish, options=options),
        roots,
        lambda: " ".join(("run", *map(shlex.quote, own), _again(roots[0], chain, task, words))),
    )


def fulfil(wish: Wish, roots: Sequence[luigi.Task], command: Callable[[], str]) -> int:
    """Carry a run out as it was wished, or only say what would be done; return the exit code.

    `command` gives what would run it again.
    """
    from nectar.cli.planning import print_plan
    from nectar.plans import make_plan

    if wish.dry_run:
        made = make_plan(roots, wish.options.force, wish.options.select).plan
        print_plan(made, _module_of(roots[0]), everything=False, as_json=wish.as_json)
        return int(ExitCode.OK)
    return carry_out(roots, wish.options, command(), as_json=wish.as_json, quiet=wish.quiet)


def _module_of(root: luigi.Task) -> str:
    """Return what everybody knows of the tasks' names: the root's name without its class and parameters."""
    return repr(root).partition("(")[0].rpartition(".")[0]


def _tags(texts: tuple[str, ...]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for name, value in map(tag_of, texts):
        if tags.setdefault(name, value) != value:
            raise errors.UsageError(f"the tag `{name}` is given twice", hint="a run has one value for each tag")
    return tags


def _wanted(wish: Wish, chain: str, task: str, words: tuple[str, ...]) -> tuple[Sequence[luigi.Task], Options]:
    """Return the tasks that are to be made, and the options with what the preset sets."""
    options = wish.options
    if options.preset is None:
        from nectar.actions.resolve import tasks_of

        return tasks_of(settings.current(), chain, task, words), options
    from nectar.actions.wanted import task_with_preset

    given = {f"tags.{name}": f"--tag {name}={value}" for name, value in options.tags.items()}
    named = (("executor", options.executor), ("workers", wish.workers), ("select", options.select))
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

    module = _module_of(roots[0])
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
