"""`nectar runs`, `cancel` and `rerun`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from nectar import errors, settings
from nectar.cli import console
from nectar.cli.words import tag_of
from nectar.errors import ExitCode
from nectar.records import utc_now

if TYPE_CHECKING:
    from nectar.actions.history import Told
    from nectar.runs import Run, RunState

_AGE = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_STYLES = {"SUCCESS": "good", "FAILURE": "bad", "CRASHED": "bad", "CANCELED": "odd", "CANCELING": "odd"}
_STEP_STYLES = {"succeeded": "good", "reused": "good", "failed": "bad", "blocked": "bad", "running": "name"}


@click.command()
@console.json_option
@click.option("--state", "states", multiple=True, metavar="STATE", help="Only runs in it, such as FAILURE; repeatable.")
@click.option("--chain", metavar="CHAIN", help="Only runs of its tasks.")
@click.option("--task", metavar="NAME", help="Only runs of a task, as `nectar runs` names it.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="Only runs with it; repeatable.")
@click.option("--source", metavar="WAY", help="Only runs that came in by it: `cli`, `python`, `luigi`.")
@click.option("--since", metavar="WHEN", help="Begun then or later: 2026-11-20, 2026-11-20T14:30, or 3h, 2d ago.")
@click.option("--until", metavar="WHEN", help="Begun before.")
@click.option("--text", metavar="TEXT", help="Only runs that have it in their id, tasks, tags or error.")
@click.option("-n", "size", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most.")
@click.option("--after", "token", metavar="TOKEN", help="Go on where an earlier answer ended.")
@click.argument("run_id", required=False, metavar="[RUN]")
def runs(
    as_json: bool,
    states: tuple[str, ...],
    chain: str | None,
    task: str | None,
    tags: tuple[str, ...],
    source: str | None,
    since: str | None,
    until: str | None,
    text: str | None,
    size: int,
    token: str | None,
    run_id: str | None,
) -> int:
    """List the runs there were, newest first; with RUN (its id, or how that begins) tell what it did."""
    from nectar.actions.history import opened, tell
    from nectar.runs import Filter

    with opened(settings.current()) as books:
        if run_id is not None:
            return _show(tell(books, run_id), as_json=as_json)
        wanted = Filter(
            states=tuple(map(_state, states)),
            chain=_chain(chain),
            task=task,
            tags=dict(map(tag_of, tags)),
            source=source,
            since=_moment(since),
            until=_moment(until),
            text=text,
        )
        page = books.list(wanted, size, token)
    if as_json:
        console.print_json(page.to_json())
    elif not page.rows:
        console.line("no runs" if wanted != Filter() else "no runs yet")
    else:
        _print_runs(page.rows)
        if page.next is not None:
            console.line((f"hint: more with --after {page.next}", "dim"), err=True)
    return int(ExitCode.OK)


def _print_runs(rows: tuple[Run, ...]) -> None:
    tagged = any(run.tags for run in rows)
    console.print_table(
        ("run", "state", "task", ">made", ">failed", "started", ">took", *(("tags",) if tagged else ())),
        [
            (
                run.id,
                run.state.value,
                _tasks(run),
                str(run.counts.get("succeeded", 0) + run.counts.get("reused", 0)),
                str(run.counts.get("failed", 0)),
                console.time_text(run.started_at or run.created_at),
                _took(run),
                *((", ".join(f"{name}={value}" for name, value in run.tags.items()),) if tagged else ()),
            )
            for run in rows
        ],
    )


def _tasks(run: Run) -> str:
    names = [console.short_name(root.task, None) for root in run.roots] or ["?"]
    first = names[0] if len(names[0]) <= 60 else f"{names[0][:57]}..."
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"


def _took(run: Run) -> str:
    if run.started_at is None:
        return "-"
    return console.seconds_text(((run.ended_at or utc_now()) - run.started_at).total_seconds())


def _show(told: Told, *, as_json: bool) -> int:
    run = told.run
    if as_json:
        console.print_json(told.to_json())
        return int(ExitCode.OK)
    console.line((run.id, "bold"), (f"  {run.state.value}", _STYLES.get(run.state.value, "name")))
    if run.error:
        console.line((f"  {run.error}", "bad"))
    for root in run.roots:
        console.line(f"  task      {console.short_name(root.task, None)}")
        if root.path:
            console.line((f"            {root.path}", "dim"))
    where = f" on {run.process.host}, process {run.process.pid}" if run.process is not None else ""
    console.line(f"  by        {run.new.source}{where}")
    console.line(f"  begun     {console.time_text(run.started_at or run.created_at)}, took {_took(run)}")
    if run.new.parent_id:
        console.line(f"  repeats   {run.new.parent_id}")
    for name, value in run.tags.items():
        console.line(f"  tag       {name}={value}")
    for name in ("preset", "select"):
        if name in run.new.options:
            console.line(f"  {name:<10}{run.new.options[name]}")
    counts = ", ".join(f"{number:,} {status}" for status, number in run.counts.items())
    console.line(f"  steps     {counts or 'none'}")
    for step in told.steps:
        if step.status == "skipped":
            continue
        took = console.seconds_text(step.seconds) if step.seconds is not None else ""
        tries = f", attempt {step.attempts}" if step.attempts > 1 else ""
        name = console.short_name(step.task, None)
        console.line((f"  {step.status:<10}", _STEP_STYLES.get(step.status, "odd")), f"{name}  {took}{tries}")
        if step.error and step.status != "succeeded":
            console.line((f"            {step.error}", "dim"))
        if step.logs and step.status == "failed":
            console.line((f"            logs: {step.logs}", "dim"))
    return int(ExitCode.OK)


@click.command()
@console.json_option
@click.argument("run_id", metavar="RUN")
def cancel(as_json: bool, run_id: str) -> int:
    """Stop RUN: its process is asked to end, and ended after ten seconds. What it had finished is kept."""
    from nectar.actions.cancel import cancel as stop
    from nectar.actions.history import opened
    from nectar.runs import RunState

    with opened(settings.current()) as books:
        run = stop(books, settings.current(), run_id)
    if as_json:
        console.print_json(run.to_json())
    elif run.state is RunState.CANCELING:
        host = run.process.host if run.process is not None else "?"
        console.line(f"{run.id} is marked; its process is on {host}, where `nectar cancel` ends it")
    else:
        console.line(f"{run.id}: {run.state.value}")
    return int(ExitCode.OK)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one a line; the last is the result.")
@click.option("--failed", is_flag=True, help="Only the tasks that did not end well, and what they need.")
@click.option("--workers", "-w", type=int, metavar="N", help="Tasks at work at the same time; by default as before.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but what went wrong.")
@click.argument("run_id", metavar="RUN")
def rerun(as_json: bool, failed: bool, workers: int | None, quiet: bool, run_id: str) -> int:
    """Run again what RUN was asked for, with the same parameters; what is complete is left as it is."""
    from nectar.actions.history import opened
    from nectar.actions.rerun import again
    from nectar.actions.run import Options
    from nectar.cli.running import carry_out
    from nectar.recording.capture import Echo

    with opened(settings.current()) as books:
        run = books.find(run_id)
        asked = again(settings.current(), books, run, failed=failed)
    options = Options(
        executor="luigi" if run.new.executor == "luigi" and run.new.source == "cli" else None,
        workers=workers or run.new.workers or 1,
        tags=run.tags,
        echo=Echo.NO,
        source="cli",
        parent_id=run.id,
        root_id=run.new.root_id or run.id,
        select=asked.select,
        only=asked.only,
    )
    command = f"rerun {run.id}" + (" --failed" if failed else "")
    return carry_out(asked.tasks, options, command, as_json=as_json, quiet=quiet)


# What options mean


def _state(text: str) -> RunState:
    from nectar.runs import RunState

    try:
        return RunState(text.upper())
    except ValueError:
        hint = errors.did_you_mean(text.upper(), [one.value for one in RunState])
        listed = ", ".join(one.value for one in RunState)
        raise errors.UsageError(f"no run is ever in the state `{text}`", hint=hint or f"there is {listed}") from None


def _chain(text: str | None) -> str | None:
    if text is None:
        return None
    from nectar.chain.finder import without_suffix

    name = without_suffix(text.strip("/").removeprefix("chains/"))
    return name if name.endswith("_chain") else f"{name}_chain"


def _moment(text: str | None) -> datetime | None:
    """Return the moment that a text means: an ISO date or time (in the reader's zone if it names none), or an age."""
    if text is None:
        return None
    age = _AGE.fullmatch(text)
    if age is not None:
        return utc_now() - timedelta(**{_UNITS[age[2]]: int(age[1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise errors.UsageError(
            f"`{text}` is no time",
            hint="give a date, `2026-11-20`, a time, `2026-11-20T14:30`, or an age, `3h` or `2d`",
        ) from error
