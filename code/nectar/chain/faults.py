"""Tell what went wrong in an import: its last line, its traceback without our own frames, its place."""

from __future__ import annotations

import os
import traceback
from types import TracebackType

from nectar import errors
from nectar.chain.description import BrokenChain
from nectar.chain.finder import ChainName
from nectar.redaction.known import cleanse

LINE = 500  #: characters of the one line that are kept
TRACEBACK = 32_000  #: characters of a traceback that are kept, the last ones
_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep


def broken_by(error: BaseException, chain: ChainName, root: str) -> BrokenChain:
    """Return the broken chain for what its import raised; the traceback begins where the project's code does."""
    cleanse(error)
    if isinstance(error, errors.FileInvalid) and error.faults:
        return _of_a_file(error, chain, root)
    report = traceback.TracebackException(type(error), error, _from_the_project_on(error.__traceback__))
    text = "".join(report.format())
    return BrokenChain(chain.path, _last_line(report), text[-TRACEBACK:], _location(error, root))


def _of_a_file(error: errors.FileInvalid, chain: ChainName, root: str) -> BrokenChain:
    """Return the broken chain for a file that is no Python: what is wrong in it, and no traceback of ours."""
    first = error.faults[0]
    more = f", and {len(error.faults) - 1} more" if len(error.faults) > 1 else ""
    line = f"{first}{more}".replace(root + os.sep, "").partition("\n")[0]
    file = os.path.relpath(first.file, root) if os.path.isabs(first.file) else first.file
    told = error.message.replace(root + os.sep, "")
    return BrokenChain(chain.path, line[:LINE], told[:TRACEBACK], f"{file}:{first.line or 1}")


def _last_line(report: traceback.TracebackException) -> str:
    # The lines before it are a syntax error's place, indented; the lines after it belong to the message or are notes.
    lines = [line for line in report.format_exception_only() if not line.startswith("  ")]
    return "".join(lines).strip().partition("\n")[0][:LINE]


def _from_the_project_on(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_machinery(file: str) -> bool:
    return file.startswith((_OWN, "<frozen importlib")) or file.endswith(os.path.join("importlib", "__init__.py"))


def _location(error: BaseException, root: str) -> str:
    if isinstance(error, SyntaxError) and error.filename and error.lineno and error.filename.startswith(root + os.sep):
        return f"{os.path.relpath(error.filename, root)}:{error.lineno}"
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    ours = [(file, line) for file, line in frames if file.startswith(root + os.sep) and not file.startswith(_OWN)]
    return f"{os.path.relpath(ours[-1][0], root)}:{ours[-1][1]}" if ours else ""
