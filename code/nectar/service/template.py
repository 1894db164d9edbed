"""Import one chain, and fork for every question about it: `python -m nectar.service.template`.

A chain's code may hang, exit or change its own state when it is asked: each answer comes from a child that has the
chain imported and lives for that answer alone. The first question is the import's own, and this process answers it.

The request is a JSON text in the first argument: root, chain, the descriptor of a socket, seconds for an answer.
Through the socket comes one byte for each question, with two descriptors: to read the question from, to write the
answer to. `nectar.service.importers` is at the other end; when it is gone, this process ends.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from nectar.chain import project
from nectar.chain.finder import ChainName
from nectar.chain.importer import import_and_tell, send

STANDARD_ERROR = 2


def main(request: dict[str, Any]) -> NoReturn:
    """Import the chain, and answer until nobody asks any more."""
    control = socket.socket(fileno=int(request["control"]))
    control.set_inheritable(False)
    root, limit_s = str(request["root"]), float(request["limit_s"])
    sys.path[:] = request["path"]
    sys.argv[1:] = []
    os.chdir(root)
    project.bind(Path(root))
    question, answer = _next(control)
    os.close(question)
    # Ends an import that hangs, also when nobody is left to do so.
    faulthandler.dump_traceback_later(float(request["import_limit_s"]), exit=True, file=STANDARD_ERROR)
    process = os.getpid()
    told = import_and_tell(ChainName.parse(request["chain"]), root)
    if os.getpid() != process:  # the module forked
        os._exit(0)
    faulthandler.cancel_dump_traceback_later()
    if "broken" not in told:
        from nectar.service import questions  # noqa: F401  before the first question, so that no child imports it
    send(answer, told)
    if "broken" in told:
        os._exit(0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets children that have ended
    while True:
        descriptors = _next(control)
        if os.fork() == 0:
            _answer_and_end(control, *descriptors, limit_s)
        for descriptor in descriptors:
            os.close(descriptor)


def _next(control: socket.socket) -> tuple[int, int]:
    """Return the descriptors of the next question; the process ends where none can come any more."""
    try:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
    except OSError:
        os._exit(0)
    if not message or len(descriptors) != 2:
        os._exit(0)
    return descriptors[0], descriptors[1]


def _answer_and_end(control: socket.socket, question: int, answer: int, limit_s: float) -> NoReturn:
    try:
        control.close()
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        faulthandler.dump_traceback_later(limit_s, exit=True, file=STANDARD_ERROR)
        from nectar.service import questions

        with open(question, "rb") as file:
            asked = json.load(file)
        send(answer, questions.answer(asked))
    finally:
        os._exit(0)  # whatever threads and exit handlers the chain has left behind


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
