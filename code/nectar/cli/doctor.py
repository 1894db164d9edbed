"""`nectar doctor`."""

from __future__ import annotations

import click

from nectar import settings
from nectar.cli import console


@click.command()
@console.json_option
def doctor(as_json: bool) -> int:
    """Look for what is wrong with the project, and say what to do; the exit code is that of the worst thing found."""
    from nectar.actions.doctor import examine

    checks = examine(settings.current())
    if as_json:
        console.print_json([check.to_json() for check in checks])
    else:
        for check in checks:
            mark = ("ok     ", "good") if check.ok else ("wrong  ", "bad")
            console.line(mark, (f"{check.name}: ", "bold"), check.detail)
            if check.hint:
                console.line((f"       hint: {check.hint}", "name"))
    return max((int(check.exit_code) for check in checks if not check.ok), default=0)
