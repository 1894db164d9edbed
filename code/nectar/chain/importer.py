"""Import one chain and answer with its description: `python -m nectar.chain.importer`, a process that lives for that.

The request is a JSON text in the first argument, the answer one line of JSON on the file descriptor that it names:
standard output belongs to the chain's module. `nectar.chain.isolation` starts these processes and reads the answers.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nectar.chain import project
from nectar.chain.description import BrokenChain, ChainDescription
from nectar.chain.faults import broken_by
from nectar.chain.finder import ChainName
from nectar.redaction import filters
from nectar.redaction.known import redacted_tree

CLOCK_GRAIN_NS = 20_000_000  #: how far a file system's clock may lag: Linux stamps files at its timer's ticks
STANDARD_ERROR = 2


def main(request: dict[str, Any]) -> None:
    """Carry out one request and end the process, whatever threads and exit handlers the chain has left behind."""
    channel = int(request["channel"])
    os.set_inheritable(channel, False)
    # Shows where the import hangs, or crashed, and ends it also when nobody is left to do so.
    faulthandler.enable(STANDARD_ERROR)
    faulthandler.dump_traceback_later(float(request["limit_s"]), exit=True, file=STANDARD_ERROR)
    root = str(request["root"])
    sys.path[:] = request["path"]
    sys.argv[1:] = []
    os.chdir(root)
    project.bind(Path(root))
    filters.mask_everywhere()  # what a chain prints is told where it cannot be imported
    process = os.getpid()
    answer = import_and_tell(ChainName.parse(request["chain"]), root)
    if os.getpid() == process:  # the module may have forked: one answer is enough
        send(channel, answer)
    os._exit(0)


def import_and_tell(chain: ChainName, root: str) -> dict[str, object]:
    """Import a chain in this process and return the answer of an importer: the description, or what is broken."""
    started_ns = time.time_ns()
    try:
        description = _describe(chain, root)
    except BaseException as error:  # whatever the author's module raises is the answer, exits too
        return {"broken": broken_by(error, chain, root).to_json()}
    try:
        files = {file: _stamp(os.path.join(root, file)) for file in project.loaded_files(root)}
    except OSError as error:
        gone = BrokenChain(chain.path, f"a file went away during the import: {error}", "")
        return {"broken": gone.to_json()}
    # A file written so late may have been read before or after it was.
    is_settled = all(modified_ns < started_ns - CLOCK_GRAIN_NS for modified_ns, _ in files.values())
    # A default may be a secret that the module fetched.
    return {"description": redacted_tree(description.to_json()), "files": files, "settled": is_settled}


def _describe(chain: ChainName, root: str) -> ChainDescription:
    module = importlib.import_module(chain.module)
    from nectar.chain import inspection

    return inspection.describe_module(module, chain, Path(root, chain.file_in(root)).read_bytes())


def _stamp(file: str) -> tuple[int, int]:
    status = os.stat(file)
    return status.st_mtime_ns, status.st_size


def send(channel: int, answer: Mapping[str, object]) -> None:
    """Write an answer to a descriptor, as one line of JSON, and close it."""
    # A text of the module may hold lone surrogates, which no UTF-8 can carry.
    data = json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    with open(channel, "wb") as pipe:
        pipe.write(data)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
