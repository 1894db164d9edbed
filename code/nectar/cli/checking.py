"""`nectar check`."""

from __future__ import annotations

from pathlib import Path

import click

from nectar import errors
from nectar.cli import console
from nectar.errors import ExitCode


@click.command()
@console.json_option
@click.option(
    "--var-file",
    "-v",
    "variables",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="YAML: names and what each `${name}` in the pipeline stands for.",
)
@click.option(
    "--config-file",
    "-c",
    "configuration",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="YAML or TOML: the services; checked as well.",
)
@click.option("--schema", is_flag=True, help="Print the JSON schema of pipeline files, and check nothing.")
@click.argument("text", required=False, metavar="FILE|CHAIN")
def check(as_json: bool, variables: Path | None, configuration: Path | None, schema: bool, text: str | None) -> int:
    """Say whether the pipeline in FILE, or the one that is CHAIN, can be carried out; name every fault with its line.

    Nothing is run or imported. Exit code 0: there is no fault; 2: there is.
    """
    from nectar.actions import check as action

    if schema:
        click.echo(action.schema(), nl=False)
        return int(ExitCode.OK)
    if text is None:
        raise errors.UsageError("no file to check", hint="name a pipeline file: `nectar check FILE`")
    path = action.pipeline_file(text)
    try:
        checked = action.check(path, variables=variables, configuration=configuration)
    except errors.FileInvalid as error:
        if not as_json:
            raise
        faults = [fault._asdict() for fault in error.faults]
        console.print_json({"file": str(path), "ok": False, "steps": None, "dag_hash": None, "faults": faults})
        return int(error.exit_code)
    if as_json:
        console.print_json(checked.to_json())
    else:
        count = f"{checked.steps} step{'s' if checked.steps != 1 else ''}"
        console.line(f"{path}: ", ("ok", "good"), f", {count}, dag_hash {checked.pipeline.dag.digest}")
    return int(ExitCode.OK)
