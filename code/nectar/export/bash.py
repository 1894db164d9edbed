"""Write a script for bash, 3.2 and later: one node after the other on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from nectar.export.work import ChainWork

_HEAD = """\
#!/usr/bin/env bash
{comments}#
# Start it in the project's folder, or set NECTAR_PROJECT. NECTAR names the command where it is not `nectar`.
# What needs a node that failed is blocked; the rest goes on. The exit code is that of the first node that failed.
set -uo pipefail
"""

_NODE = """\
code=0
ended=()

node() { # number, task, numbers of what it needs, selection
    local number=$1 task=$2 needs=$3 selection=$4 one ending=0
    for one in $needs; do
        if [[ ${ended[one]} != well ]]; then
            printf 'blocked %s\\n' "$task" >&2
            ended[number]=badly
            return
        fi
    done
    "${NECTAR:-nectar}" run --select "$selection" "${words[@]}" || ending=$?
    case $ending in
    0) ended[number]=well ;;
    4) exit 4 ;; # somebody stopped it
    *)
        ended[number]=badly
        if [[ $code == 0 ]]; then code=$ending; fi
        ;;
    esac
}
"""


def chain(work: ChainWork) -> str:
    """Return a script that makes each node of a chain's graph."""
    numbers = {node.name: number for number, node in enumerate(work.nodes, 1)}
    lines = [_HEAD.format(comments=comments((work.title, *work.warnings)))]
    lines += [f"words=({' '.join(map(shlex.quote, work.words))})", _NODE]
    for node in work.nodes:
        needs = " ".join(str(numbers[one]) for one in node.needs)
        quoted = shlex.join((str(numbers[node.name]), node.title, needs, node.select))
        lines.append(f"node {quoted}")
    return "\n".join([*lines, 'exit "$code"', ""])


def comments(texts: Iterable[str]) -> str:
    """Return texts as lines of a comment, in which nothing of them is more than text."""
    return "".join(f"# {line}\n" for text in texts for line in text.splitlines() or [""])
