"""Write a script for bash, 3.2 and later, that carries a pipeline out: one step after the other on this machine."""

from __future__ import annotations

import shlex

from nectar.export.bash import comments
from nectar.export.pipeline_work import (
    PipelineWork,
    Steps,
    limits_not_kept,
    refuse,
    step_settings,
    steps_of,
)
from nectar.pipeline.model import Dag, Node, NodeType

ENGINE = "bash"

_HEAD = """\
#!/usr/bin/env bash
{comments}#
# Start it in the project's folder, or set NECTAR_PROJECT; its words are the parameters, and replace those in here.
# NECTAR names the command where it is not `nectar`, NECTAR_RUN_ID the run where it is not to have an id of its own.
set -uo pipefail

run=${{NECTAR_RUN_ID:-$(date -u +%Y%m%d%H%M%S)-$$}}
words=({words})
parameters=("$@")
if [[ $# == 0 ]]; then parameters=({parameters}); fi
echo "run $run" >&2

execute() {{ # --step=NAME, or --items=NAME
    "${{NECTAR:-nectar}}" "${{words[@]}}" --run-id "$run" "$@" ${{parameters[@]+"${{parameters[@]}}"}}
}}

step() {{ # name, attempts
    local left=$2 ending
    while true; do
        ending=0
        execute "--step=$1" || ending=$?
        if [[ $ending == 0 ]]; then return 0; fi
        if [[ $ending != 1 ]]; then exit "$ending"; fi # not of the step: of the store, of its name, of whoever stops it
        left=$((left - 1))
        if [[ $left == 0 ]]; then return 1; fi
    done
}}
"""

_MAP = """\
{name}() {{ # what comes before its name
    local bad=0 ending=0 item place values=()
    place=$(mktemp)
    execute "--items=$1"{own} --null >"$place" || ending=$?
    while IFS= read -r -d '' item; do values+=("$item"); done <"$place"
    rm -f "$place"
    if [[ $ending != 0 ]]; then
        step "$1"{own} 1 # which tells why, and has failed with that
        return
    fi
    for item in ${{values[@]+"${{values[@]}}"}}; do
        {branch} "$1"{own}".$item." || bad=1
    done
    if [[ $bad != 0 ]]; then return 1; fi
    step "$1"{own} 1
}}
"""


def pipeline(work: PipelineWork) -> tuple[str, tuple[str, ...]]:
    """Return a script that carries a pipeline out, and what whoever starts it has to know.

    Raises:
        NotRenderable: when a setting for bash is unknown.
    """
    faults: list[str] = []
    step_settings(ENGINE, work, {}, {}, faults)
    refuse(faults)
    schedule = ["`schedule` is not kept by bash: let cron start the script"] if work.dag.schedule else []
    warnings = (*work.warnings, *limits_not_kept(work, ENGINE, root=False), *schedule)
    head = _HEAD.format(
        comments=comments((work.title, *warnings)),
        words=shlex.join(work.words),
        parameters=shlex.join(work.parameter_words),
    )
    script = _Script()
    main = script.dag(work.dag, root=True)
    return "\n".join([head, *script.functions, f'{main} ""', ""]), warnings


class _Script:
    """The functions of a script."""

    def __init__(self) -> None:
        self.functions: list[str] = []
        self._count = 0

    def dag(self, dag: Dag, *, root: bool = False) -> str:
        """Add a function for a DAG, which ends with 0 or 1, and return its name."""
        name = self._name("dag")
        steps = steps_of(dag, root=root)
        lines = [
            f"{name}() {{ # what comes before the names of its steps",
            f"    local at={_name(steps.first)}",
            "    while true; do",
            "        case $at in",
            *(f"        {line}" for node in steps.order for line in self._case(node, steps)),
            *(f"        {line}" for line in self._ends(steps)),
            "        esac",
            "    done",
            "}",
            "",
        ]
        self.functions.append("\n".join(lines))
        return name

    def _case(self, node: Node, steps: Steps) -> list[str]:
        good, bad = (_name(edges[node.name]) for edges in (steps.after_success, steps.after_failure))
        return [
            f"{_name(node.name)})",
            f"    if {self._call(node)}; then at={good}; else at={bad}; fi",
            "    ;;",
        ]

    def _ends(self, steps: Steps) -> list[str]:
        success, fail = (_name(name) for name in (steps.dag.success, steps.dag.fail))
        if not steps.ends:
            return [f"{success}) return 0 ;;", f"{fail}) return 1 ;;"]
        return [
            f"{success})",
            f'    step "$1"{success} 1',
            "    return",
            "    ;;",
            f"{fail})",
            f'    step "$1"{fail} 1',
            "    return 1",
            "    ;;",
        ]

    def _call(self, node: Node) -> str:
        """Return the command for one step of a DAG, adding the functions that it needs."""
        own = shlex.quote(node.name)
        if node.type is NodeType.TASK:
            return f'step "$1"{own} {node.retry}'
        if node.type is NodeType.AS_IS:
            name = self._name("as_is")
            self.functions.append(f"{name}() {{\n{node.render_string}\n}}\n")
            return name
        if node.type is NodeType.DAG:
            assert node.branch is not None
            return f'{self.dag(node.branch)} "$1"{shlex.quote(f"{node.name}.")}'
        if node.type is NodeType.MAP:
            assert node.branch is not None
            branch, name = self.dag(node.branch), self._name("map")
            self.functions.append(_MAP.format(name=name, own=own, branch=branch))
            return f'{name} "$1"'
        calls = [
            f'    {self.dag(dag)} "$1"{shlex.quote(f"{node.name}.{branch}.")} || bad=1'
            for branch, dag in node.branches.items()
        ]
        name = self._name("parallel")
        lines = [f"{name}() {{ # what comes before its name", "    local bad=0", *calls]
        lines += ["    if [[ $bad != 0 ]]; then return 1; fi", f'    step "$1"{own} 1', "}", ""]
        self.functions.append("\n".join(lines))
        return f'{name} "$1"'

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"


def _name(text: str) -> str:
    """Return a name in quotes, whatever it is: it may be a word of the shell's, such as `esac`."""
    inner = text.replace("'", "'\"'\"'")
    return f"'{inner}'"
