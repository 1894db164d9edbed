"""`nectar gc`."""

from __future__ import annotations

import shlex
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from nectar import settings
from nectar.cli import console
from nectar.cli.quantities import age_text, parse_age, parse_size
from nectar.cli.words import complete_chains

if TYPE_CHECKING:
    from nectar.actions.gc import Sweep


@click.command()
@click.option(
    "--keep",
    multiple=True,
    metavar="WHAT",
    shell_complete=complete_chains,
    help="Keep this and all that it was made from: a target's path, its key's first digits, a chain, or a task such as "
    "`etl/flights_chain/ReportTask`. Can be given again.",
)
@click.option(
    "--older", default="1d", show_default=True, metavar="AGE", help="Only what is older: `30d`, `12h`, `45m`."
)
@click.option("--larger", metavar="SIZE", help="Only what is larger: `10MB`, `512KiB`.")
@click.option("--yes", is_flag=True, help="Delete what is listed; without it nothing is changed.")
@console.json_option
def gc(keep: tuple[str, ...], older: str, larger: str | None, yes: bool, as_json: bool) -> None:
    """List what no kept root needs, the largest first; delete it with `--yes`.

    Listed are complete targets from which nothing that is kept was made, broken ones, and what lies in quarantine. What
    `keep` in `[gc]` of configuration/nectar.toml names is kept, too. Nothing is deleted while a run is at work in the
    store; a run that begins meanwhile waits.
    """
    from nectar.actions.gc import Wish, delete, find

    wish = Wish(keep, parse_age(older), parse_size(larger) if larger is not None else -1)
    found = delete(settings.current(), wish) if yes else find(settings.current(), wish)
    if as_json:
        console.print_json(found.to_json())
        return
    _print(found)
    if yes:
        _print_deleted(found)
    else:
        again = [word for what in keep for word in ("--keep", what)]
        again += ["--older", older] if older != "1d" else []
        again += ["--larger", larger] if larger is not None else []
        _print_listed(found, shlex.join(["nectar", "gc", *again, "--yes"]))


def _print(found: Sweep) -> None:
    from nectar.records import utc_now

    for what, count in found.kept.items():
        if not count:
            console.line((f"nothing of `{what}` is there to be kept", "odd"), err=True)
    if not found.garbage:
        return
    now = utc_now()
    rows = [
        (
            one.kind.value,
            console.size_text(one.folder.size),
            age_text(max(now - one.since, timedelta())),
            one.folder.path
            + (f": {one.problem}" if one.problem else "")
            + (f" ({one.outcome.value}: it stays)" if one.outcome.value in ("being made", "changed") else ""),
        )
        for one in found.garbage
    ]
    console.print_table(("what", ">size", ">age", "path"), rows)
    console.line((f"{console.count_text(len(rows), 'folder')}, {console.size_text(found.size)}", "bold"))


def _print_deleted(found: Sweep) -> None:
    from nectar.actions.gc import Outcome

    deleted = found.of(Outcome.DELETED)
    size = console.size_text(sum(one.folder.size for one in deleted))
    stayed = len(found.garbage) - len(deleted)
    console.line(
        (f"deleted {console.count_text(len(deleted), 'folder')}, {size}", "bold"),
        f"; {stayed} stayed" if stayed else "",
    )


def _print_listed(found: Sweep, command: str) -> None:
    if not found.garbage:
        console.line(f"nothing in `{found.store}` that could be deleted: nothing was changed")
    elif any(found.kept.values()):
        console.line(f"nothing was deleted; this deletes them: {command}")
    else:
        console.line("nothing was deleted; name what is to be kept: nectar gc --keep etl/flights_chain/ReportTask")
