"""Fork processes that run tasks, each held back until it is told to go on, so that a test can take hold of it first.

A program: one JSON request a line on stdin, one JSON answer a line on stdout. Python, luigi and the chain are loaded
once, so that a trial costs a fork and not a start.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import itertools
import json
import os
import random
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

# The names that fault_lab.py looks for.
BEGINS = "/a-mark-of-the-test/attempt-begins"
ENDS = "/a-mark-of-the-test/attempt-ends"
_PR_SET_PDEATHSIG = 1
_PR_SET_PTRACER, _ANY = 0x59616D61, ctypes.c_ulong(-1)


def main() -> None:
    """Serve requests until stdin ends; every child dies with the server."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    children: dict[int, tuple[int, int]] = {}
    import_chain()
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "start":
            reply: Any = start(request, children)
        elif request["do"] == "go":
            with contextlib.suppress(BrokenPipeError):  # it is gone already
                os.write(children[request["pid"]][0], b"g")
            reply = None
        else:
            reply = finish(request["pid"], children)
        answers.write(json.dumps(reply) + "\n")


def import_chain() -> Any:
    """Import the chain and all that a run imports late."""
    import nectar.actions.run
    import nectar.code_digest
    import nectar.recording.provenance  # noqa: F401

    return importlib.import_module("chains.etl.fault_chain")


def start(request: dict[str, Any], children: dict[int, tuple[int, int]]) -> int:
    """Fork a child, and return its process id when it waits for its gate to open."""
    gate, go = os.pipe()
    result, tell = os.pipe()
    ready, arrive = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY)
            for descriptor in (go, result, ready, *itertools.chain(*children.values())):
                os.close(descriptor)
            child(request, gate, tell, arrive)
        except BaseException:  # noqa: BLE001  whatever it is, the test has to hear of it
            answer(tell, {"kind": "a defect of the test", "text": traceback.format_exc()})
        finally:
            os._exit(0)
    for descriptor in (gate, tell, arrive):
        os.close(descriptor)
    os.read(ready, 1)  # nothing where it died on its way: its answer says why
    os.close(ready)
    children[pid] = (go, result)
    return pid


def finish(pid: int, children: dict[int, tuple[int, int]]) -> dict[str, Any]:
    """Wait for a child's end, and return how it died and what it told."""
    go, result = children.pop(pid)
    _, status = os.waitpid(pid, 0)
    os.close(go)
    with open(result, "rb") as file:
        told = file.read()
    code = os.waitstatus_to_exitcode(status)
    return {"exit": code, "told": json.loads(told) if told else None}


def child(request: dict[str, Any], gate: int, tell: int, arrive: int) -> None:
    """Do what a request asks for, after the gate has opened, and tell how it went."""
    from nectar import settings
    from nectar.recording import leases
    from nectar.recording.capture import Echo
    from nectar.recording.run import new_run, running

    root = Path(request["store"])
    changes = {"store_url": root.as_uri(), "durability": settings.Durability(request.get("durability", "group"))}
    if request.get("user") is not None:
        os.setgroups([])
        os.setgid(request["user"])
        os.setuid(request["user"])
    with settings.overridden(**changes), running(new_run(echo=Echo.NO)):
        work = WORKS[request["work"]](request)
        before = [os.readlink(f"/proc/self/fd/{number}") for number in (1, 2)]
        os.close(arrive)
        os.read(gate, 1)
        told: dict[str, Any] = {"kind": None}
        os.access(BEGINS, os.F_OK)
        try:
            told |= work() or {}
        except BaseException as error:  # noqa: BLE001  whatever the task raises is the answer
            told = description(error)
        os.access(ENDS, os.F_OK)
        told["streams"] = "as before" if streams() == before else f"{before} became {streams()}"
        told["leases"] = len(leases._held)
        answer(tell, told)


def answer(tell: int, told: dict[str, Any]) -> None:
    """Send an answer by a system call that no fault is injected into."""
    os.writev(tell, [json.dumps(told).encode()])


def streams() -> list[str]:
    """Return where descriptors 1 and 2 go."""
    found = []
    for number in (1, 2):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            found.append("closed")
    return found


def description(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON: its class, those above it, what it says, and where it came from."""
    return {
        "kind": type(error).__name__,
        "family": [one.__name__ for one in type(error).__mro__],
        "message": str(getattr(error, "message", error)),
        "hint": getattr(error, "hint", None),
        "text": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    }


def once(request: dict[str, Any]) -> Any:
    """One attempt at one task."""
    task = getattr(import_chain(), request.get("task", "WholeTask"))(**request.get("params", {}))
    task._nectar.forced = request.get("forced", False)
    address = task.target_address().path

    def work() -> dict[str, Any]:
        for limit, value in request.get("limits", {}).items():
            number = getattr(resource, limit)
            resource.setrlimit(number, (value, resource.getrlimit(number)[1]))
        try:
            task.run()
        finally:
            for limit in request.get("limits", {}):
                number = getattr(resource, limit)
                resource.setrlimit(number, (resource.getrlimit(number)[1],) * 2)
        return {"won": task._nectar.outcome is not None and task._nectar.outcome.won, "path": address}

    return work


def race(task: Any) -> bool:
    """Make a task without its lease, as a process whose lease was lost would; say whether it won."""
    from nectar.recording.attempt import Attempt
    from nectar.task.running import work_of

    attempt = Attempt(work_of(task))
    task._nectar.staging = attempt.staging
    with attempt.capturing():
        type(task).run(task)
    task._nectar.staging = None
    [commitment] = task.target_store().commit([attempt.finish()])
    return bool(commitment.won)


def lead(task: Any) -> bool:
    """Make a task as everybody does; say whether it won."""
    task.run()
    return task._nectar.outcome is not None and task._nectar.outcome.won


def without_end(request: dict[str, Any]) -> Any:
    """Attempts at all tasks of a range in turn, complete or not, noting each that returned."""
    chain = import_chain()
    note = os.open(request["journal"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    numbers = list(range(*request["numbers"]))
    random.Random(request["seed"]).shuffle(numbers)
    make = race if request.get("racing") else lead

    def work() -> None:
        for number in itertools.cycle(numbers):
            for task in (chain.PartTask(number=number), chain.WholeTask(number=number)):
                won = make(task)
                os.write(note, f"{task.target_address().path} {won}\n".encode())

    return work


def batches(request: dict[str, Any]) -> Any:
    """Commits of several attempts at once, noting each target when its commit has returned."""
    from nectar import stores
    from nectar.recording.attempt import Attempt
    from nectar.task.running import work_of

    chain = import_chain()
    note = os.open(request["journal"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def finished(number: int) -> Any:
        task = chain.PartTask(number=number)
        attempt = Attempt(work_of(task))
        task._nectar.staging = attempt.staging
        type(task).run(task)
        return attempt.finish()

    def work() -> None:
        for number in itertools.count(request["numbers"][0], request["size"]):
            answers = stores.open_store().commit([finished(number + one) for one in range(request["size"])])
            os.write(note, "".join(f"{one.record.address.path} {one.won}\n" for one in answers).encode())

    return work


WORKS = {"once": once, "without end": without_end, "batches": batches}

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
