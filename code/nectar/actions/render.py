"""Write what is to be carried out for another engine."""

from __future__ import annotations

from collections.abc import Sequence

from nectar import errors
from nectar.actions.resolve import AND, task_of
from nectar.chain.finder import find_chain
from nectar.export.chains import chain_work
from nectar.export.targets import TARGETS, Target, render_chain
from nectar.export.work import Rendered
from nectar.settings import Settings


def render(settings: Settings, to: str, words: Sequence[str]) -> Rendered:
    """Return `CHAIN TASK [--param value ...] [--and CHAIN TASK ...]` for an engine; nothing is run or written.

    Raises:
        NotRenderable: with all that the engine, or the settings, make impossible.
        ChainNotFound, TaskNotFound, ChainBroken, InvalidParameters: as for every command.
        GraphError: when there is no such graph; a circle is drawn.
    """
    target = TARGETS[to]
    asked = []
    for chain_text, name, *params in _apart(words):
        chain = find_chain(settings.chains_dir, chain_text)
        asked.append((chain.path, name, task_of(settings, chain_text, name, params)))
    return render_chain(chain_work(asked, warnings(settings, target)), target)


def _apart(words: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == AND:
            parts.append([])
        else:
            parts[-1].append(word)
    if any(len(part) < 2 or part[0].startswith("-") or part[1].startswith("-") for part in parts):
        raise errors.UsageError(
            "there is no chain and task to render", hint="as in `nectar render --to bash etl/flights_chain ReportTask`"
        )
    return parts


def warnings(settings: Settings, target: Target) -> tuple[str, ...]:
    """Return what nodes on other machines would lack of these settings, one sentence each.

    Raises:
        NotRenderable: when no node could find what another one made.
    """
    if settings.store_url.startswith("memory:"):
        raise errors.NotRenderable(
            "the store is in memory, and each node is a process of its own",
            hint="set `[store] url` to a folder or a bucket",
        )
    if not target.elsewhere:
        return ()
    found = []
    if settings.store_url.startswith("file:"):
        found.append(
            "the store is a folder of this machine: every node needs it at the same path, or a bucket as `[store] url`"
        )
    if settings.run_store_url.startswith("sqlite:"):
        found.append(
            "the history of runs is a file of this machine: nodes elsewhere write one of their own, unless "
            "`[runs] url` is a PostgreSQL"
        )
    return tuple(found)
