"""`nectar list`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from nectar import errors, settings
from nectar.cli import console
from nectar.cli.words import complete_chains
from nectar.errors import ExitCode

if TYPE_CHECKING:
    from nectar.chain.catalog import Catalog
    from nectar.chain.description import ParameterDescription, PresetDescription, TaskDescription


@click.command(name="list")
@console.json_option
@click.argument("names", nargs=-1, metavar="[TYPE|CHAIN]...", shell_complete=complete_chains)
def list_(as_json: bool, names: tuple[str, ...]) -> int:
    """List the chains, their tasks and parameters; all of them, or those of some types or chains."""
    from nectar.actions.listing import catalog, catalog_json

    found = _only(catalog(settings.current()), names)
    if as_json:
        console.print_json(catalog_json(found))
    else:
        _print_catalog(found, details=bool(names))
    return int(ExitCode.IMPORT_FAILED if names and found.broken and not found.chains else ExitCode.OK)


def _only(found: Catalog, names: tuple[str, ...]) -> Catalog:
    if not names:
        return found
    known = {path for one in found.chains for path in (one.name.type, one.name.path)}
    known |= {path for one in found.broken for path in (one.path.partition("/")[0], one.path)}
    for name in names:
        if name not in known:
            hint = errors.did_you_mean(name, known) or "`nectar list` without a name lists all"
            raise errors.ChainNotFound(f"no chain or chain type `{name}`", hint=hint)
    return type(found)(
        tuple(one for one in found.chains if one.name.type in names or one.name.path in names),
        tuple(one for one in found.broken if one.path.partition("/")[0] in names or one.path in names),
    )


def _print_catalog(found: Catalog, *, details: bool) -> None:
    for chain in found.chains:
        console.line((chain.name.path, "bold"), (f"  {chain.doc}" if chain.doc else "", "dim"))
        for task in chain.tasks:
            print_task(task, details=details)
        for preset in chain.presets:
            console.line("  preset ", (preset.name, "name"), f" {_preset(preset)}")
        for fault in chain.preset_faults:
            console.line(("  presets: ", "bad"), fault)
    for broken in found.broken:
        console.line((broken.path, "bold"), ("  broken: ", "bad"), broken.error)
        if broken.location:
            console.line((f"      {broken.location}", "dim"))
    if not found.chains and not found.broken:
        console.line("no chains yet: write one in `chains/<type>/<name>_chain.py`")


def print_task(task: TaskDescription, *, details: bool) -> None:
    """Write a task's name, parameters and first words; with `details` a line for each parameter."""
    signature = " ".join(_signature(one) for one in task.parameters)
    console.line((f"  {task.name}", "name"), f" {signature}" if signature else "")
    if task.doc:
        console.line((f"      {task.doc}", "dim"))
    for one in task.parameters if details else ():
        console.line((f"      {_details(one)}", "dim"))


def _signature(one: ParameterDescription) -> str:
    option = f"--{one.name.replace('_', '-')}"
    if one.type == "bool":
        return f"[{option}]"
    return f"{option} {one.type.upper()}" if one.required else f"[{option} {one.default if one.default else one.type}]"


def _preset(preset: PresetDescription) -> str:
    """Return what a preset sets, in the words of the command line that it stands for."""
    words = [word for name, text in preset.tags.items() for word in ("--tag", f"{name}={text}")]
    for name in ("select", "executor", "workers"):
        if getattr(preset, name) is not None:
            words += [f"--{name}", str(getattr(preset, name))]
    words += [word for name, text in preset.params.items() for word in (f"--{name.replace('_', '-')}", text)]
    return shlex.join(words)


def _details(one: ParameterDescription) -> str:
    facts = [one.type, "required" if one.required else f"default {one.default!r}"]
    if one.choices:
        facts.append("one of " + ", ".join(one.choices))
    if not one.significant:
        facts.append("does not count in the identity")
    return f"--{one.name.replace('_', '-')}: {', '.join(facts)}" + (f". {one.description}" if one.description else "")
