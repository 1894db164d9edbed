"""Be the process that carries one run of the queue out: `python -m nectar.service.carrier RUN`.

The run comes as one JSON document through standard input: no value of a request is ever on a command line. Its id is
there, for people who look at processes.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

BEGUN_BEFORE = 75  #: the exit code of a process that came too late: another one carries the run out

_PR_SET_CHILD_SUBREAPER = 36  # https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html


def main() -> int:
    """Carry the run out, and return the exit code."""
    if sys.platform == "linux":  # what a task started and nobody waits for stays below: it is ended with the run
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.chdir(os.environ["NECTAR_PROJECT"])  # before luigi is imported, which looks for its configuration here
    from nectar.redaction import filters
    from nectar.runs import NewRun
    from nectar.service.carrying import carry_out

    filters.mask_everywhere()
    return carry_out(NewRun.from_json(json.load(sys.stdin)))


if __name__ == "__main__":
    sys.exit(main())
