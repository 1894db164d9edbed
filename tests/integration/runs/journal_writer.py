"""Write runs into journals until somebody kills this process; say on stdout what was acknowledged.

python journal_writer.py FOLDER PREFIX
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, timezone

from nectar.runs import Journal, NewRun, RunState


def main(folder: str, prefix: str) -> None:
    """Carry one run out after the other; every third one has a forked child that writes as well."""
    number = 0
    while True:
        run_id = f"{prefix}-{number}"
        journal = Journal(folder, run_id)
        if journal.create(NewRun(run_id, datetime.now(timezone.utc))):
            os.write(1, f"created {run_id}\n".encode())
        journal.state(RunState.RUNNING)
        child = os.fork() if number % 3 == 0 else None
        for step in range(20):
            journal.step(f"s{child == 0}{step}", "WriteTask()", "running", path="x" * 300)
            journal.step(f"s{child == 0}{step}", "WriteTask()", "succeeded")
        if child == 0:
            os._exit(0)
        if child:
            os.waitpid(child, 0)
        if journal.state(RunState.SUCCESS):
            os.write(1, f"ended {run_id}\n".encode())
        journal.close()
        number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
