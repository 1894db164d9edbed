"""`nectar plan`, `nectar graph` and `nectar explain`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nectar import errors, settings
from nectar.cli import console
from nectar.cli.words import CONTEXT, TaskCommand, asks_for_help, preset_option, select_option, task_arguments

if TYPE_CHECKING:
    import luigi

    from nectar.actions.explain import Explanation
    from nectar.plans import Plan

_WORDS = {"run": "to run", "reuse": "to reuse", "skip": "complete", "blocked": "blocked"}
_STYLES = {"run": "good", "reuse": "good", "skip": "dim", "blocked": "bad"}


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@console.json_option
@click.option("--all", "everything", is_flag=True, help="List complete tasks, too.")
@click.option("--style", type=click.Choice(["plan", "steps"]), default="plan", help="`steps` lists as `Step` does.")
@select_option
@preset_option
@task_arguments
def plan(
    as_json: bool,
    everything: bool,
    style: str,
    select: str | None,
    preset: str | None,
    chain: str,
    task: str,
    words: tuple[str, ...],
) -> None:
    """Say what a run of TASK would do, and do nothing."""
    from nectar.actions.plan import listed
    from nectar.actions.plan import plan as make
    from nectar.actions.resolve import tasks_of

    if asks_for_help(settings.current(), chain, task, words):
        return
    if preset is None:
        roots = tasks_of(settings.current(), chain, task, words)
    else:
        from nectar.actions.wanted import task_with_preset

        given = {} if select is None else {"select": f"--select {select}"}
        root, chosen = task_with_preset(settings.current(), chain, task, words, preset, given)
        roots, select = [root], chosen.select if select is None else select
    if style == "steps":
        if as_json:
            raise errors.UsageError("a listing is not JSON", hint="leave out `--json`, or `--style steps`")
        click.echo(listed(roots, select=select))
        return
    print_plan(make(*roots, select=select), type(roots[0]).__module__, everything=everything, as_json=as_json)


def print_plan(made: Plan, module: str, *, everything: bool, as_json: bool) -> None:
    """Write a plan: counts, then tasks with reasons."""
    if as_json:
        console.print_json(made.to_json())
        return
    counts = ", ".join(f"{count:,} {_WORDS[action.value]}" for action, count in made.counts.items() if count)
    console.line((f"{console.count_text(len(made.steps), 'task')}: {counts}", "bold"))
    unseen = made.identified - len(made.steps)
    if made.selected is not None:
        console.line((f"{made.selected:,} of {console.count_text(made.identified, 'task')} selected", "dim"))
    elif unseen > 0:
        console.line((f"{console.count_text(unseen, 'task')} behind complete targets not looked at", "dim"))
    for step in made.steps:
        if step.action.value == "skip" and not everything and not step.drift:
            continue
        reasons = "; ".join(map(str, step.reasons)) or ("its code has changed since: drift" if step.drift else "")
        if step.reuses is not None:
            reasons = f"its inputs have the same bytes as those of {step.reuses}"
        elif step.may_be_reused:
            reasons += " (may be reused)"
        console.line(
            (f"{step.action.value:<8}", _STYLES[step.action.value]),
            console.short_name(step.task, module),
            (f"  {reasons}" if reasons else "", "dim"),
        )


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@console.json_option
@click.option("--svg", "form", flag_value="svg", help="Write a picture, coloured by what a run would do.")
@click.option("--png", "form", flag_value="png", help="Write it as PNG.")
@click.option("--mermaid", "form", flag_value="mmd", help="Write it as a flowchart of Mermaid.")
@click.option("--dot", "form", flag_value="dot", help="Write it for Graphviz.")
@click.option("--out", "-o", type=click.Path(dir_okay=False), metavar="FILE", help="Where to; by default to stdout.")
@select_option
@task_arguments
def graph(
    as_json: bool,
    form: str | None,
    out: str | None,
    select: str | None,
    chain: str,
    task: str,
    words: tuple[str, ...],
) -> None:
    """Draw what TASK stands on, each task once: as a tree, for which no store is asked, or as a picture."""
    from nectar.actions.graph import graph as make
    from nectar.actions.resolve import tasks_of

    if asks_for_help(settings.current(), chain, task, words):
        return
    if form is None and out is not None:
        raise errors.UsageError("a tree is not written to a file", hint="add `--svg`, `--png`, `--mermaid` or `--dot`")
    if form is not None and as_json:
        raise errors.UsageError("a picture is not JSON", hint="leave out `--json`, or the kind of picture")
    roots = tasks_of(settings.current(), chain, task, words)
    if form is not None:
        _write_picture(roots, select, form, out)
        return
    found = make(*roots, select=select)
    if as_json:
        console.print_json(found.to_json())
        return
    module = type(roots[0]).__module__
    for drawing, node, seen in found.tree():
        again = " (drawn above)" if seen and node.requirements else ""
        console.line((drawing, "dim"), console.short_name(node.task, module), (again, "dim"))


def _write_picture(roots: Sequence[luigi.Task], select: str | None, form: str, out: str | None) -> None:
    from nectar.actions.pictures import picture

    if form == "png" and out is None and sys.stdout.isatty():
        raise errors.UsageError("a terminal cannot show a PNG", hint="name a file: `-o graph.png`")
    made = picture(*roots, select=select)
    raw = {"svg": made.svg, "mmd": made.mermaid, "dot": made.dot}[form]().encode() if form != "png" else made.png()
    if out is None:
        sys.stdout.buffer.write(raw)
        return
    try:
        Path(out).write_bytes(raw)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise errors.UsageError(f"`{out}` cannot be written: {reason}", hint="name another file") from error


@click.command(cls=TaskCommand, context_settings=CONTEXT)
@console.json_option
@select_option
@task_arguments
def explain(as_json: bool, select: str | None, chain: str, task: str, words: tuple[str, ...]) -> None:
    """Say why each task would run: what changed, from what to what, and how to silence it."""
    from nectar.actions.explain import explain as make
    from nectar.actions.resolve import tasks_of

    if asks_for_help(settings.current(), chain, task, words):
        return
    roots = tasks_of(settings.current(), chain, task, words)
    found = make(*roots, select=select)
    if as_json:
        console.print_json([one.to_json() for one in found])
        return
    if not found:
        console.line("all is complete: nothing would run")
    for one in found:
        _print_explanation(one, type(roots[0]).__module__)


def _print_explanation(one: Explanation, module: str) -> None:
    console.line((f"{one.action.value:<8}", _STYLES[one.action.value]), (console.short_name(one.task, module), "bold"))
    for reason in one.reasons:
        console.line(f"        {reason}")
    for change in one.changes:
        of_task = f" ({console.short_name(change.task, module)})" if change.task else ""
        console.line(f"        {_what(change.component)}{of_task}: {_shown(change.old)} -> {_shown(change.new)}")
        console.line((f"          {change.silence}", "dim"))
    if one.compared_with:
        console.line((f"        compared with {one.compared_with}", "dim"))
    for part in one.drift:
        console.line(f"        code {part.kind.value}: {part.name}")
    if one.silence:
        console.line((f"        {one.silence}", "dim"))


def _what(component: str) -> str:
    kind, _, name = component.partition(".")
    return {"params": f"parameter `{name}` changed", "inputs": f"upstream `{name}` changed"}.get(
        kind, f"{component} changed"
    )


def _shown(value: object) -> str:
    if value is None:
        return "(none)"
    text = str(value)
    return text[:12] if len(text) == 64 else text or "(empty)"
