"""`nectar serve` and `nectar token`."""

from __future__ import annotations

import contextlib
import logging
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from nectar import errors, settings
from nectar.cli import console
from nectar.errors import ExitCode

if TYPE_CHECKING:
    from nectar.runs import RunStore


@click.command()
@click.option("--host", metavar="ADDRESS", help="The address to listen on; by default 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="By default 5000; 0 takes a free one.")
@click.option("--runs", type=click.IntRange(1), metavar="N", help="Runs at the same time; by default 2.")
def serve(host: str | None, port: int | None, runs: int | None) -> int:
    """Serve the chains over HTTP, and carry out the runs that are asked for.

    Every task of every chain can be called: POST to `/api/chains/<type>/<chain>/<Task>?parameter=value`. Ctrl-C lets
    runs at work end; a second one does not wait for them, and the next server looks after them.
    """
    from nectar.service.whole import Service
    from nectar.web.serving import serve as listen

    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a request that waits a moment is no news
    given = settings.current().serve
    given = replace(
        given,
        host=host if host is not None else given.host,
        port=port if port is not None else given.port,
        runs=runs if runs is not None else given.runs,
    )
    current = replace(settings.current(), serve=given)
    settings.adopt(current)
    if not current.chains_dir.is_dir():
        from nectar.chain import finder

        finder.find(current.chains_dir)  # which says what is missing
    service = Service(current)
    try:
        listen(service, given.host, given.port, _say_where, lambda count: _say_what_is_left(count, given.drain_s))
    finally:
        service.close()
    return int(ExitCode.OK)


class _OneLine(logging.Formatter):
    """Writes each message in one line: what a request brings cannot begin another, or paint the terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is Python's
        text = super().formatMessage(record)
        return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _say_where(url: str) -> None:
    console.line((f"serving {url}/api/chains", "bold"), err=True)
    console.line(("Ctrl-C ends it when the runs at work have ended", "dim"), err=True)


def _say_what_is_left(count: int, drain_s: int) -> None:
    """Say why the server does not end yet; nobody reads it where the terminal is gone, and it ends all the same."""
    if count:
        waits = f"waiting up to {drain_s} s for {console.count_text(count, 'run')} at work"
        with contextlib.suppress(console.NobodyReads):
            console.line((f"{waits}; Ctrl-C again leaves that to the next server", "dim"), err=True)


@click.group()
def token() -> None:
    """Make, list and revoke tokens for `nectar serve`.

    Once there is a token, every request needs one: `Authorization: Bearer TOKEN`.
    """


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(["read", "run"]),
    default="read",
    show_default=True,
    help="`read` lets its bearer look, `run` also run, cancel and repeat.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(name: str, scope: str, as_json: bool) -> int:
    """Make a token, and print its secret.

    The secret is kept nowhere, and never shown again.
    """
    from nectar.actions.tokens import create_token

    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise errors.UsageError(f"`{name[:100]}` cannot be the name of a token", hint="use up to 100 characters")
    with _books() as books:
        made, secret = create_token(books, name, scope)
    if as_json:
        console.print_json(made.to_json() | {"token": secret})
    else:
        click.echo(secret)
        console.line((f"`{name}` may {scope}; this is the only time that its secret is shown", "dim"), err=True)
    return int(ExitCode.OK)


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> int:
    """List the tokens; their secrets are not kept."""
    with _books() as books:
        tokens = books.tokens()
    if as_json:
        console.print_json([one.to_json() for one in tokens])
        return int(ExitCode.OK)
    for one in tokens:
        state = f"revoked {console.time_text(one.revoked_at)}" if one.revoked_at is not None else ""
        console.line(f"{one.name}  {'+'.join(one.scopes)}  made {console.time_text(one.created_at)}  {state}".rstrip())
    if not tokens:
        console.line(("no tokens: requests from this machine need none", "dim"), err=True)
    return int(ExitCode.OK)


@token.command()
@click.argument("name")
def revoke(name: str) -> int:
    """Let a token be valid no more. Requests need one all the same."""
    from nectar.records import utc_now

    with _books() as books:
        books.revoke_token(name, at=utc_now())
    console.line(f"`{name}` is revoked", err=True)
    return int(ExitCode.OK)


def _books() -> AbstractContextManager[RunStore]:
    from nectar.actions.history import opened

    return opened(settings.current())
