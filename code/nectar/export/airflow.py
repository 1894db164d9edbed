"""Write a DAG for Airflow, 2.9 and later: each node is a task that runs the command where Airflow's worker is."""

from __future__ import annotations

from nectar.export.bash import comments
from nectar.export.work import PAUSE_S, STORE_FAILED, TRIES_MORE, ChainWork

_IMPORTS = """\
import os
import subprocess
from datetime import datetime, timedelta

try:  # Airflow 3
    from airflow.sdk import DAG, task
    from airflow.sdk.exceptions import AirflowException, AirflowFailException
except ImportError:
    from airflow import DAG
    from airflow.decorators import task
    from airflow.exceptions import AirflowException, AirflowFailException
"""

_RUN = f"""\
def run(words):
    # No shell, and nothing that Airflow would render as a template: the words arrive as they are.
    command = [os.environ.get("NECTAR", "nectar"), *words]
    both = {{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}}
    with subprocess.Popen(command, text=True, errors="replace", **both) as made:
        for line in made.stdout:
            print(line, end="")
    if made.returncode == {STORE_FAILED}:
        raise AirflowException("the store cannot be reached")  # tried again
    if made.returncode:
        raise AirflowFailException(f"nectar ended with {{made.returncode}}")  # not tried again
"""

OPTIONS = f"""\
OPTIONS = {{
    "start_date": datetime(2000, 1, 1),
    "catchup": False,
    "tags": ["nectar"],
    "default_args": {{
        "retries": {TRIES_MORE},
        "retry_delay": timedelta(seconds={PAUSE_S}),
        "retry_exponential_backoff": True,
    }},
}}
"""

_CHAIN = """\
def make(task_id, title, select, priority):
    @task(task_id=task_id, doc=title, priority_weight=priority)
    def node():
        run(["run", "--select", select, *WORDS])

    return node()


with DAG(NAME, description=TITLE, schedule=None, **OPTIONS):
    made = {}
    for task_id, title, select, needs, priority in NODES:
        made[task_id] = make(task_id, title, select, priority)
        for one in needs:
            made[one] >> made[task_id]
"""


def chain(work: ChainWork) -> str:
    """Return the source of a DAG that makes each node of a chain's graph."""
    words = "".join(f"    {source(word)},\n" for word in work.words)
    nodes = "".join(
        f"    ({source(node.name)}, {source(node.title)}, {source(node.select)}, {list(node.needs)!r}, "
        f"{max(1, 1 + node.priority)}),\n"
        for node in work.nodes
    )
    parts = (
        f"{comments((work.title, *work.warnings))}\n{_IMPORTS}\n"
        f"NAME = {source(work.name)}\nTITLE = {source(work.title)}\nWORDS = [\n{words}]\n"
        f"# name, task, selection, names of what it needs, priority\nNODES = [\n{nodes}]\n{OPTIONS}",
        _RUN,
        _CHAIN,
    )
    return "\n\n".join(parts)


def source(text: str) -> str:
    """Return a text as Python source, in ASCII."""
    return ascii(text)
