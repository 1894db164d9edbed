"""Carry out a notebook, with papermill: in a kernel of its own, from which the functions for steps ask and tell."""

from __future__ import annotations

import contextlib
import keyword
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nectar import errors, settings
from nectar.pipeline.carrying import variables
from nectar.pipeline.context import StepContext
from nectar.pipeline.model import Node

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
#: of a kernel: no word about its debugger, which nobody uses
_QUIET = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def carry_out_notebook(node: Node, context: StepContext) -> None:
    """Carry a notebook out; what came of its cells is in the catalog as `<name>_out.ipynb`, also where one failed.

    Of a step that fails the executed notebook lies beside its logs.

    Raises:
        CommandFailed: when papermill is not installed, the notebook or its kernel is not there, or a cell raised.
    """
    try:
        import papermill
    except ImportError as error:
        raise errors.CommandFailed(
            f"`{context.step}` is a notebook, and papermill is not installed",
            hint="install `nectar-chains[notebooks]`",
        ) from error
    source = _file_of(node, context)
    executed = Path(context.around.folder, context.data_folder, f"{source.stem}_out.ipynb")
    executed.parent.mkdir(parents=True, exist_ok=True)
    executed.unlink(missing_ok=True)  # of an earlier attempt
    kernel = {"kernel_name": node.command_config["kernel"]} if "kernel" in node.command_config else {}
    try:
        with _shared(context):
            papermill.execute_notebook(
                str(source),
                str(executed),
                parameters=_names(context.known),
                cwd=context.around.folder,
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                **kernel,
            )
    except papermill.PapermillExecutionError as error:
        sys.stderr.write(_COLOURS.sub("", "\n".join(error.traceback)) + "\n")
        _keep_beside_the_logs(executed, context)
        raise errors.CommandFailed(
            f"the cell [{error.exec_count}] of `{source.name}` raised {error.ename}: {_line(error.evalue)}",
            hint=f"`{executed.name}` beside the logs of `{context.step}` shows how far it came",
        ) from None
    except Exception as error:  # whatever reads notebooks and starts kernels
        _keep_beside_the_logs(executed, context)
        raise errors.CommandFailed(
            f"the notebook `{source.name}` of `{context.step}` cannot be carried out: "
            f"{type(error).__name__}: {_line(str(error))}",
            hint="`command_config: {kernel: NAME}` names a kernel; `jupyter kernelspec list` tells which there are",
        ) from error
    finally:
        if executed.is_file():
            context.put(executed.name)


def _file_of(node: Node, context: StepContext) -> Path:
    """Return the notebook's file: in the folder in which the step works, else in the project."""
    assert node.command is not None
    places = [Path(context.around.folder, node.command), Path(settings.current().root, node.command)]
    for place in places:
        if place.is_file():
            return place
    raise errors.CommandFailed(
        f"`{context.step}` has no notebook `{node.command}`",
        hint="its path is relative to the folder in which the step works, or to the project",
    )


@contextlib.contextmanager
def _shared(context: StepContext) -> Iterator[None]:
    """Let a kernel have the step's variables and its context: from this process, which starts it."""
    before, log = dict(os.environ), logging.getLogger("papermill")
    level = log.level
    given = variables(context) | context.share() | _QUIET
    paths = [context.around.folder, str(settings.current().root), *filter(None, [given.get("PYTHONPATH")])]
    try:
        _become(given | {"PYTHONPATH": os.pathsep.join(paths)})
        log.setLevel(logging.ERROR)  # it warns of each parameter that no cell names beforehand
        yield
    finally:
        log.setLevel(level)
        _become(before)
        context.hear()


def _become(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters whose names a cell can assign to."""
    return {name: value for name, value in values.items() if name.isidentifier() and not keyword.iskeyword(name)}


def _keep_beside_the_logs(executed: Path, context: StepContext) -> None:
    if executed.is_file():
        shutil.copyfile(executed, Path(context.around.staging, "log", executed.name))


def _line(text: object) -> str:
    return str(text).strip().partition("\n")[0]
