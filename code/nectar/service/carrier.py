"""Be the process that carries one run of the queue out: `python -m nectar.service.carrier RUN`.

The run comes as one JSON document through standard input: no value of a request is ever on a command line. Its id is
there, for people who look at processes.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> int:
    """Carry the run out, and return the exit code."""
    os.chdir(os.environ["NECTAR_PROJECT"])  # before luigi is imported, which looks for its configuration here
    from nectar.runs import NewRun
    from nectar.service.carrying import carry_out

    return carry_out(NewRun.from_json(json.load(sys.stdin)))


if __name__ == "__main__":
    sys.exit(main())
