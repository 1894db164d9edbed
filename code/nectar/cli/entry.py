"""Start the command that was named, and turn whatever goes wrong into a sentence, a hint and an exit code."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence

import click

from nectar import __version__, errors
from nectar.cli import console
from nectar.errors import ExitCode
from nectar.redaction import filters

#: command -> where it is defined, and its line in `nectar --help`; nothing is imported before it is called
COMMANDS = {
    "run": ("nectar.cli.running", "Make a task and all that it needs."),
    "execute": ("nectar.cli.executing", "Carry out what a file describes."),
    "check": ("nectar.cli.checking", "Say whether a pipeline file can be carried out."),
    "plan": ("nectar.cli.planning", "Say what a run would do, and do nothing."),
    "explain": ("nectar.cli.planning", "Say why each task would run."),
    "graph": ("nectar.cli.planning", "Draw what a task stands on."),
    "list": ("nectar.cli.chains", "List the chains, their tasks and parameters."),
    "status": ("nectar.cli.targets", "Count what the store has of each task."),
    "show": ("nectar.cli.targets", "Show a target: its record and its files."),
    "logs": ("nectar.cli.targets", "Print what a task printed."),
    "runs": ("nectar.cli.history", "List the runs there were, or tell of one."),
    "cancel": ("nectar.cli.history", "Stop a run."),
    "rerun": ("nectar.cli.history", "Run again what an earlier run was asked for."),
    "diff": ("nectar.cli.describing", "Say what two runs, or two descriptions, do differently."),
    "describe": ("nectar.cli.describing", "Describe a task and all that it stands on as data."),
    "render": ("nectar.cli.rendering", "Write a task, or a pipeline, for another engine."),
    "serve": ("nectar.cli.serving", "Serve the chains over HTTP."),
    "token": ("nectar.cli.serving", "Make, list and revoke tokens for the server."),
    "path": ("nectar.cli.targets", "Print where a task's output lies."),
    "verify": ("nectar.cli.targets", "Check that targets have the bytes that their records say."),
    "adopt": ("nectar.cli.targets", "Write a record for a target that another tool made."),
    "gc": ("nectar.cli.gc", "List what no kept root needs; delete it with `--yes`."),
    "doctor": ("nectar.cli.doctor", "Look for what is wrong with the project, and say what to do."),
}


class Commands(click.Group):
    """The commands, each loaded when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[name][0])
        command = getattr(module, name if name != "list" else "list_")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            hint = errors.did_you_mean(args[0], COMMANDS) or "`nectar --help` lists the commands"
            raise errors.UsageError(f"no command `{args[0]}`", hint=hint)
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


EPILOG = """\
Examples:

\b
  nectar list
  nectar run etl/flights_chain ReportTask --min-flights 500
  nectar explain etl/flights_chain ReportTask
  nectar logs etl/flights_chain ReportTask

Exit codes: 0 all is there, 1 a task failed, 2 usage, 3 a chain cannot be imported, 4 interrupted,
5 the store cannot be reached.
"""


@click.group(
    cls=Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=True,
)
@click.version_option(__version__, prog_name="nectar")
def group() -> None:
    """Data chains whose results are made once, recorded, and found again.

    A task's parameters follow its name, nectar's own options come before the chain.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    gc.set_threshold(20_000, 50, 100)  # what a command loads stays: looking for cycles in it is a part of its start
    filters.mask_everywhere()
    try:
        code = group.main(list(arguments) if arguments is not None else None, "nectar", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except errors.NectarError as error:
        _say(error.message, error.hint)
        return int(type(error).exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        message = error.format_message()
        _say(message[:1].lower() + message[1:].rstrip("."), _help_hint(error))
        return int(ExitCode.USAGE)
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted", None)
        return int(ExitCode.INTERRUPTED)
    except (console.NobodyReads, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)


def _help_hint(error: click.ClickException) -> str | None:
    context = getattr(error, "ctx", None)
    return f"`{context.command_path} --help` tells how it is used" if context is not None else None


def _say(message: str, hint: str | None) -> None:
    console.line(("error: ", "bad"), message, err=True)
    if hint:
        console.line(("hint: ", "name"), hint, err=True)
