"""`nectar status`, `show`, `logs`, `path`, `verify` and `adopt`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nectar import settings
from nectar.cli import console
from nectar.cli.words import CONTEXT, TaskCommand, complete_chains, target_arguments, task_arguments
from nectar.errors import ExitCode

if TYPE_CHECKING:
    from nectar.actions.following import Piece
    from nectar.actions.show import Shown
    from nectar.records import Record
    from nectar.target import Target


@click.command()
@console.json_option
@click.argument("chain", required=False, metavar="[CHAIN|PATH]", shell_complete=complete_chains)
def status(as_json: bool, chain: str | None) -> None:
    """Count what the store has of each task of CHAIN, or of all: complete targets, broken ones, their size."""
    from nectar.actions.status import status as count
    from nectar.actions.targets import find_prefix
    from nectar.stores import stores_in_use

    stores = stores_in_use()
    prefix = find_prefix(settings.current(), stores, chain)
    found = [one for store in stores for one in count(store, prefix)]
    if as_json:
        console.print_json({"stores": [store.url for store in stores], "tasks": [one.to_json() for one in found]})
        return
    if not found:
        where = console.listed([store.url for store in stores])
        console.line(f"nothing in {where}" + (f" of `{chain}`" if chain else "") + " yet")
        return
    many = len(stores) > 1
    rows = [
        (
            *((one.store,) if many else ()),
            one.task.removeprefix("chains/"),
            f"{one.complete:,}",
            f"{one.broken:,}",
            console.size_text(one.size),
            console.time_text(one.newest),
        )
        for one in found
    ]
    head = ("task", ">complete", ">broken", ">size", "newest")
    console.print_table(("store", *head) if many else head, rows)
    for one in found:
        for problem in one.problems:
            console.line((f"broken: {problem}", "odd"), err=True)


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@console.json_option
@target_arguments
def show(as_json: bool, words: tuple[str, ...]) -> int:
    """Show a target: its record, its files, and the attempts at it that failed."""
    from nectar.actions.show import show as look
    from nectar.actions.targets import find_target

    found = look(find_target(settings.current(), words))
    if as_json:
        console.print_json(found.to_json())
    else:
        _print_shown(found)
    return int(ExitCode.OK if found.inspection.complete else ExitCode.TASK_FAILED)


def _print_shown(found: Shown) -> None:
    style = "good" if found.inspection.complete else "bad"
    console.line((found.path, "bold"), (f"  {found.inspection.state.value}", style))
    if found.inspection.problem:
        console.line((f"  {found.inspection.problem}", "bad"))
    if found.inspection.record is not None:
        _print_record(found.inspection.record, found.urls)
    if found.step is not None:
        for name, value in found.step.parameters.items():
            console.line(f"  parameter {name} = {json.dumps(value, ensure_ascii=False)}")
        for moved in found.step.moved:
            place = f"{moved['catalog_handler_location']}/{moved['catalog_relative_path']}"
            console.line(f"  {moved['stage']:<9} {moved['name']}, sha256 {moved['data_hash'][:16]}...")
            console.line((f"            {place}", "dim"))
    for name in found.inspection.files:
        console.line(f"  without a record: {name}")
    for one in found.attempts:
        console.line((f"  attempt {one.attempt} {'at work, or died' if one.running else 'failed'}", "odd"))


def _print_record(record: Record, urls: dict[str, str]) -> None:
    made = f"{console.time_text(record.ended_at)}, in {console.seconds_text(record.seconds)}"
    console.line(f"  made      {made}" + (" (adopted)" if record.adopted else ""))
    if record.reused_from is not None:
        console.line(f"  reused    the files of {record.reused_from}")
    where = record.provenance
    if where:
        console.line(f"  by        {where.get('user')} on {where.get('host')}, attempt {record.attempt_number}")
        git = where.get("git")
        if git:
            console.line(f"  commit    {git['commit'][:12]}" + (", with uncommitted changes" if git["dirty"] else ""))
    if record.run_id:
        console.line(f"  run       {record.run_id}")
    _print_identity(record.identity)
    for entry in record.inputs.values():
        console.line((f"  from      {entry.task}", "dim"))
    for file in record.files:
        console.line(f"  {console.size_text(file.size):>9} {file.name}, sha256 {file.sha256[:16]}...")
        console.line((f"            {urls[file.name]}", "dim"))
    for name in record.foreign:
        console.line(f"  elsewhere {name}")
    for name, value in record.metrics.items():
        console.line(f"  metric    {name} = {json.dumps(value, ensure_ascii=False)}")


def _print_identity(identity: Mapping[str, Any]) -> None:
    params = identity.get("params")
    if "task" not in identity or not isinstance(params, Mapping):  # of a described task: its spec
        for name, value in identity.items():
            if name != "inputs":
                console.line(f"  {name:<9} {value}")
        return
    version = identity.get("version")
    console.line(f"  task      {identity['task']}" + (f", version {version}" if version else ""))
    for name, value in params.items():
        console.line(f"            --{name.replace('_', '-')} {value}")


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@console.json_option
@click.option("--attempt", help="The beginning of an attempt's name; by default the newest.")
@click.option("--stdout", "only", flag_value="stdout", help="Only what went to stdout, as it was.")
@click.option("--stderr", "only", flag_value="stderr", help="Only what went to stderr, as it was.")
@click.option("--follow", "-f", is_flag=True, help="Go on while something is at work.")
@target_arguments
def logs(as_json: bool, attempt: str | None, only: str | None, follow: bool, words: tuple[str, ...]) -> None:
    """Print what a task printed: the newest attempt, failed ones and those at work included; or all tasks of a RUN."""
    from nectar.actions.logs import logs as read
    from nectar.actions.targets import find_target

    if len(words) == 1 and _RUN.fullmatch(words[0]):
        _print_logs_of_run(words[0], as_json=as_json, only=only, follow=follow)
        return
    if follow:
        from nectar.actions.following import follow_target

        _print_pieces(follow_target(find_target(settings.current(), words)), only)
        return
    found = read(find_target(settings.current(), words), attempt)
    if as_json:
        console.print_json(found.to_json())
        return
    if only is not None:
        click.echo(getattr(found, only), nl=False)
        return
    console.line((f"{found.path} ({found.state})", "bold"), err=True)
    for name, text in (("stdout", found.stdout), ("stderr", found.stderr)):
        console.line((f"--- {name}" + ("" if text else " (empty)"), "dim"), err=True)
        click.echo(text, nl=bool(text) and not text.endswith("\n"))


_RUN = re.compile(r"\d{8}T\d*(-[0-9a-f]*)?")  # the beginning of a run's id, which no key can be


def _print_logs_of_run(run_id: str, *, as_json: bool, only: str | None, follow: bool) -> None:
    from nectar.actions.following import follow_run, logs_of_run
    from nectar.actions.history import opened, tell

    with opened(settings.current()) as books:
        if follow:
            _print_pieces(follow_run(settings.current(), books, run_id), only)
            return
        found = logs_of_run(tell(books, run_id))
    if as_json:
        console.print_json([{"task": step.task, "status": step.status, **one.to_json()} for step, one in found])
        return
    for step, one in found:
        console.line((f"{console.short_name(step.task, None)} ({step.status})", "bold"), err=True)
        for name in ("stdout", "stderr") if only is None else (only,):
            text = getattr(one, name)
            click.echo(text, nl=bool(text) and not text.endswith("\n"))


def _print_pieces(pieces: Iterable[Piece], only: str | None) -> None:
    """Print what tasks print as it comes, each under its name where there are several."""
    last: tuple[str | None, str] | None = None
    for piece in pieces:
        if only not in (None, piece.stream):
            continue
        if (piece.task, piece.stream) != last and piece.task is not None:
            console.line((f"--- {console.short_name(piece.task, None)}, {piece.stream}", "dim"), err=True)
        last = (piece.task, piece.stream)
        click.echo(piece.text, nl=False)


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@console.json_option
@click.option("--url", "as_url", is_flag=True, help="Print URLs.")
@click.option(
    "--link", "link_s", type=int, metavar="SECONDS", help="Print links that anybody may read for so long (S3)."
)
@task_arguments
def path(as_json: bool, as_url: bool, link_s: int | None, chain: str, task: str, words: tuple[str, ...]) -> int:
    """Print where TASK's outputs lie, whether they are there yet or not."""
    from nectar.actions.resolve import address_of, task_of
    from nectar.task.base import split_outputs

    root = task_of(settings.current(), chain, task, words)
    address = address_of(root)
    targets = list(split_outputs(root)[0].values())
    if link_s is not None:
        for one in targets:
            click.echo(one.link(expires_s=link_s))
    elif as_json:
        outputs = {one.name: {"path": _local(one), "url": one.url} for one in targets}
        console.print_json({"target": address.path, "complete": root.complete(), "outputs": outputs})
    else:
        for one in targets:
            click.echo(one.url if as_url else _local(one) or one.url)
    return int(ExitCode.OK)


def _local(target: Target) -> str | None:
    """Return the local file of an output; None where the store is elsewhere and has not got it."""
    path = target.path
    return path if target.url.startswith("file:") or os.path.exists(path) else None


@click.command()
@console.json_option
@click.argument("places", nargs=-1, metavar="[CHAIN|PATH]...", shell_complete=complete_chains)
def verify(as_json: bool, places: tuple[str, ...]) -> int:
    """Check that targets have the bytes that their records say; what has not is put into quarantine and made again."""
    from nectar.actions.targets import find_prefix
    from nectar.actions.verify import check, quarantine
    from nectar.stores import stores_in_use

    stores = stores_in_use(shared=bool(places))  # what others write is looked at only where it is named
    prefixes = [find_prefix(settings.current(), stores, place) for place in places or ("",)]
    done = []
    for store in stores:
        done += quarantine(store, [one for prefix in prefixes for one in check(store, prefix)])
    bad = [one for one in done if one.problem is not None]
    if as_json:
        console.print_json([one.to_json() for one in done])
    else:
        for one in bad:
            console.line(("bad  ", "bad"), f"{one.path}: {one.problem}")
            if one.quarantined:
                console.line((f"     kept in {one.quarantined}", "dim"))
        console.line((f"{console.count_text(len(done), 'target')} checked, {len(bad)} bad", "bold"))
    return int(ExitCode.TASK_FAILED if bad else ExitCode.OK)


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@console.json_option
@click.option(
    "--from",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Take the files from here; by default they lie in the target's own folder.",
)
@task_arguments
def adopt(as_json: bool, folder: Path | None, chain: str, task: str, words: tuple[str, ...]) -> None:
    """Write a record for a target of TASK that another tool made, so that it counts as complete."""
    from nectar.actions.adopt import adopt as take
    from nectar.actions.resolve import task_of

    adopted = take(task_of(settings.current(), chain, task, words), folder)
    if as_json:
        console.print_json(adopted.to_json())
    elif adopted.won:
        console.line(f"adopted {adopted.path}: {console.listed(adopted.files)}")
    else:
        console.line(f"{adopted.path} is complete already: nothing was changed")
