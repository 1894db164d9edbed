"""Carry out a notebook, with papermill: in a kernel of its own, from which the functions for steps ask and tell."""

from __future__ import annotations

import contextlib
import functools
import keyword
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from nectar import errors, settings
from nectar.pipeline.carrying import variables
from nectar.pipeline.context import StepContext
from nectar.pipeline.model import Node
from nectar.redaction import known

_SCHEME = "nectar-step://"  #: of the addresses that papermill is given
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
    _files().serve(source, executed, context)
    kernel = {"kernel_name": node.command_config["kernel"]} if "kernel" in node.command_config else {}
    try:
        with _shared(context):
            papermill.execute_notebook(
                f"{_SCHEME}source.ipynb",
                f"{_SCHEME}executed.ipynb",
                parameters=_names(context.known),
                cwd=context.around.folder,
                progress_bar=False,
                stdout_file=_Masked(sys.stdout, context),
                stderr_file=_Masked(sys.stderr, context),
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


class _Masked:
    """A stream that masks what a kernel has printed: with the secrets that it has fetched."""

    def __init__(self, stream: TextIO, context: StepContext) -> None:
        self._stream, self._context = stream, context

    def write(self, text: str) -> None:
        self._context.learn_secrets()
        self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


class _Files:
    """Reads and writes notebooks for papermill: it looks for variables in paths, and knows no secrets."""

    def serve(self, source: Path, executed: Path, context: StepContext) -> None:
        """Read and write these from now on."""
        self._source, self._executed, self._context = source, executed, context

    def read(self, path: str) -> str:
        return self._source.read_text(encoding="utf-8")

    def write(self, text: str, path: str) -> None:
        self._context.learn_secrets()
        self._executed.write_text(known.redacted(text), encoding="utf-8")

    def listdir(self, path: str) -> list[str]:
        return []

    def pretty_path(self, path: str) -> str:
        return (self._source if path.startswith(f"{_SCHEME}source") else self._executed).name


@functools.cache
def _files() -> _Files:
    """Return what papermill asks in this process."""
    from papermill.iorw import papermill_io

    files = _Files()
    papermill_io.register(_SCHEME, files)
    return files


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
        context.learn_secrets()
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
