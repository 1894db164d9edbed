"""Write a DAG for Airflow, 2.9 and later, that carries a pipeline out: each step is a task.

Airflow knows no way that is taken only after one task has failed. So each task runs when those before it have ended,
looks at the outcomes that they left, and is skipped where none of them leads to it. The task at the end of all decides
how the run has ended.
"""

from __future__ import annotations

import pprint
from dataclasses import dataclass, field
from typing import Any

from nectar.export.airflow import OPTIONS, source
from nectar.export.bash import comments
from nectar.export.names import unique_names
from nectar.export.pipeline_work import PipelineWork, Steps, refuse, step_settings, steps_of
from nectar.export.work import PAUSE_S, STORE_FAILED, TRIES_MORE
from nectar.pipeline.model import Dag, Node, NodeType

ENGINE = "airflow"
_OF_STEP = {"pool": str, "queue": str, "priority_weight": int}
_OF_DAG = {"pool": str, "queue": str, "timezone": str}
_WIDTH = 110  #: characters of a line of the pipeline's description

_IMPORTS = """\
import json
import os
import re
import subprocess
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

try:  # Airflow 3
    from airflow.sdk import DAG, TaskGroup, get_current_context, task, task_group
    from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
except ImportError:
    from airflow import DAG
    from airflow.decorators import task, task_group
    from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
    from airflow.operators.python import get_current_context
    from airflow.utils.task_group import TaskGroup
"""

_BUILD = f"""\
def nectar(ask, name, value):
    # No shell, and nothing that Airflow would render as a template: the words arrive as they are.
    context = get_current_context()
    run = re.sub(r"[^A-Za-z0-9_.-]", "-", context["run_id"])[:100]
    given = {{**context["params"], **(context["dag_run"].conf or {{}})}}
    words = [os.environ.get("NECTAR", "nectar"), *WORDS, f"--run-id={{run}}"]
    words.append(f"{{ask}}=" + ".".join(value if part is None else part for part in name))
    words += [f"--{{key}}={{one if isinstance(one, str) else json.dumps(one)}}" for key, one in given.items()]
    made = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    print(made.stdout)
    return made


def outcome(task_id, index=-1):
    return get_current_context()["ti"].xcom_pull(task_ids=task_id, key="outcome", map_indexes=index)


def end(word):
    get_current_context()["ti"].xcom_push(key="outcome", value=word)


def leads(ways):
    # Within the tasks that are there for each value of a map, those for the same value count.
    index = get_current_context()["ti"].map_index
    return any(outcome(one, index if inside else -1) == wanted for one, wanted, inside in ways)


def carry_out(ask, name, value, retry):
    made = nectar(ask, name, value)
    end("failed" if made.returncode else "made")
    if made.returncode == {STORE_FAILED} or (made.returncode and retry > 1):
        raise AirflowException(f"nectar ended with {{made.returncode}}")  # tried again
    if made.returncode:
        raise AirflowFailException(f"nectar ended with {{made.returncode}}")
    return made


def tried(retry):
    if retry > 1:
        return {{"retries": retry - 1, "retry_delay": timedelta(seconds=1), "retry_exponential_backoff": False}}
    return {{"retries": {TRIES_MORE}, "retry_delay": timedelta(seconds={PAUSE_S}), "retry_exponential_backoff": True}}


def add(task_id, work, after, value, retry=1, **options):
    # `work` is called with the value of a map that the task is there for, or None.
    decorated = task(task_id=task_id, trigger_rule="all_done", **tried(retry), **options)
    if value is None:
        made = decorated(lambda: work(None))()
    else:
        made = decorated(lambda value: work(value))(value)
    for one in dict.fromkeys(after):
        BUILT[one] >> made
    BUILT[made.operator.task_id] = made
    return made.operator.task_id


BUILT = {{}}  # task id -> task


def step(one, ways, value):
    def work(value):
        if ways and not leads(ways):
            raise AirflowSkipException("the run does not come here")
        carry_out("--step", one["name"], value, one["retry"])

    return add(one["id"], work, [way[0] for way in ways], value, one["retry"], **one["options"])


def join(one, ends, value):
    def work(value):
        index = get_current_context()["ti"].map_index
        found = [outcome(end_of, index if inside else -1) for end_of, inside in ends]
        if None in found:
            raise AirflowSkipException("the run does not come here")
        if "failed" in found:
            end("failed")
            raise AirflowFailException("a branch has failed")
        carry_out("--step", one["name"], value, 1)

    return add("join", work, [end_of for end_of, _ in ends], value, **one["options"])


def parallel(one, ways, value):
    with TaskGroup(one["id"]):
        ends = []
        for group, branch in one["branches"]:
            with TaskGroup(group):
                ends.append((build(branch, ways, value), value is not None))
        return join(one, ends, value)


def inner(one, ways, value):
    with TaskGroup(one["id"]):
        return build(one["branch"], ways, value)


def each(one, ways, value):
    def ask(value):
        if ways and not leads(ways):
            raise AirflowSkipException("the run does not come here")
        return json.loads(carry_out("--items", one["name"], value, 1).stdout)

    def gather(value):
        if outcome(items) is None:
            raise AirflowSkipException("the run does not come here")
        if outcome(items) == "made":
            count = len(get_current_context()["ti"].xcom_pull(task_ids=items))
            if any(outcome(BUILT[one["id"]], index) != "made" for index in range(count)):
                end("failed")
                raise AirflowFailException("a branch has failed")
        carry_out("--step", one["name"], value, 1)  # where there are no values it fails, and tells why

    with TaskGroup(one["id"]):
        items = add("items", ask, [way[0] for way in ways], None, **one["options"])

        @task_group(group_id="each")
        def branch(value):
            BUILT[one["id"]] = build(one["branch"], [(items, "made", False)], value)

        branch.expand(value=BUILT[items])
        return add("join", gather, [items, BUILT[one["id"]]], None, **one["options"])


def build(dag, begin, value):
    ends = {{}}  # step -> task that has its outcome

    def ways_of(ways):
        return [(ends[after], "made" if good else "failed", value is not None) for after, good in ways]

    for one in dag["steps"]:
        ends[one["id"]] = BUILDERS[one["kind"]](one, ways_of(one["ways"]) or begin, value)
    first = dag["first"]  # an end, where there are no steps
    good = ways_of(dag["good"]) or (begin if first == "good" else [])
    bad = ways_of(dag["bad"]) or (begin if first == "bad" else [])

    def work(value):
        if leads(good) or (first == "good" and not begin):
            word, name = "made", dag["success"]
        elif leads(bad) or (first == "bad" and not begin):
            word, name = "failed", dag["fail"]
        elif dag["root"]:
            raise AirflowFailException("the run has come to no end: a task was lost")
        else:
            raise AirflowSkipException("the run does not come here")
        if dag["ends"]:
            carry_out("--step", name, value, 1)
        end(word)
        if word == "failed":
            raise AirflowFailException("the fail node was reached")

    return add("end", work, [way[0] for way in (*good, *bad)], value)


BUILDERS = {{"task": step, "parallel": parallel, "dag": inner, "map": each}}

with DAG(NAME, description=TITLE, schedule=SCHEDULE, params=PARAMETERS, **OPTIONS):
    build(PIPELINE, [], None)
"""


def pipeline(work: PipelineWork) -> tuple[str, tuple[str, ...]]:
    """Return the source of a DAG that carries a pipeline out, and what whoever deploys it has to know.

    Raises:
        NotRenderable: with every setting for Airflow that is unknown, and all that Airflow cannot have.
    """
    tree = _Tree()
    tree.settings = step_settings(ENGINE, work, _OF_STEP, _OF_DAG, tree.faults)
    described = tree.dag(work.dag, (), mapped=False, root=True)
    refuse(tree.faults)
    of_dag = tree.settings[0]
    more = ""
    if work.dag.max_time is not None:
        more += f'OPTIONS["dagrun_timeout"] = timedelta(seconds={work.dag.max_time})\n'
    if "timezone" in of_dag:
        more += f'OPTIONS["start_date"] = datetime(2000, 1, 1, tzinfo=ZoneInfo({source(of_dag["timezone"])}))\n'
    for name in ("pool", "queue"):
        if name in of_dag:
            more += f'OPTIONS["default_args"][{source(name)}] = {source(of_dag[name])}\n'
    parts = (
        f"{comments((work.title, *work.warnings))}\n{_IMPORTS}\n"
        f"NAME = {source(work.name)}\nTITLE = {source(work.title)}\nWORDS = {_pretty(list(work.words))}\n"
        f"SCHEDULE = {source(work.dag.schedule) if work.dag.schedule is not None else None}\n"
        f"PARAMETERS = {_pretty(dict(work.parameters))}\n"
        f"# a DAG is its steps, and the ways to its ends; a way is a step, and whether it was good\n"
        f"PIPELINE = {_pretty(described)}\n{OPTIONS}{more}",
        _BUILD,
    )
    return "\n\n".join(parts), work.warnings


@dataclass(slots=True)
class _Tree:
    """A pipeline as plain values."""

    faults: list[str] = field(default_factory=list)
    settings: dict[int, dict[str, Any]] = field(default_factory=dict)

    def dag(self, dag: Dag, name: tuple[str | None, ...], *, mapped: bool, root: bool = False) -> dict[str, Any]:
        """Return what is built of a DAG; in a name None stands for the value of a map."""
        steps = steps_of(dag, root=root)
        ids = unique_names({node.name: node.name for node in steps.order})
        ends = {dag.success: "good", dag.fail: "bad"}
        return {
            "steps": [self._step(node, name, steps, ids, mapped=mapped) for node in steps.order],
            "first": ends.get(steps.first),
            "good": self._ways(dag.success, steps, ids),
            "bad": self._ways(dag.fail, steps, ids),
            "success": [*name, dag.success],
            "fail": [*name, dag.fail],
            "ends": steps.ends,
            "root": root,
        }

    def _ways(self, name: str, steps: Steps, ids: dict[str, str]) -> list[tuple[str, bool]]:
        return [(ids[way.after], way.good) for way in steps.ways(name)]

    def _step(
        self, node: Node, before: tuple[str | None, ...], steps: Steps, ids: dict[str, str], *, mapped: bool
    ) -> dict[str, Any]:
        name = (*before, node.name)
        described: dict[str, Any] = {
            "id": ids[node.name],
            "kind": node.type.value,
            "name": list(name),
            "ways": self._ways(node.name, steps, ids),
            "retry": node.retry if node.type is NodeType.TASK else 1,
            "options": self.settings[id(node)],
        }
        if node.type is NodeType.AS_IS:
            self.faults.append(f"the step `{node.name}` has a `render_string`, for which Airflow has no place")
        elif node.type is NodeType.MAP:
            if mapped:
                self.faults.append(f"the map step `{node.name}` is within another one, which Airflow does not have")
            assert node.branch is not None
            described["branch"] = self.dag(node.branch, (*name, None), mapped=True)
        elif node.type is NodeType.DAG:
            assert node.branch is not None
            described["branch"] = self.dag(node.branch, name, mapped=mapped)
        elif node.type is NodeType.PARALLEL:
            groups = unique_names({one: one for one in node.branches})
            described["branches"] = [
                (groups[one], self.dag(dag, (*name, one), mapped=mapped)) for one, dag in node.branches.items()
            ]
        return described


def _pretty(value: object) -> str:
    return pprint.pformat(value, width=_WIDTH, sort_dicts=False)
