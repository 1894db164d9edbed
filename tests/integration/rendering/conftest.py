"""Projects whose chains are rendered, and an interpreter of the Amazon States Language with readers of its queue."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests" / "servers")]

import s3_moto  # noqa: E402

COMMAND = Path(sys.executable).with_name("nectar")
LIMIT_S = 120.0
FOREIGN = ("ENV", "PROJECT_BUCKET", "LUIGI_CONFIG_PATH", "NECTAR", "COLUMNS")


class Project:
    """A project in a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "chains").mkdir(parents=True)

    def file(self, name: str, text: str) -> Path:
        place = self.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        return place

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in FOREIGN and not name.startswith(("NECTAR_", "AWS_", "AIRFLOW"))
        }
        return {**kept, "NECTAR_PROJECT": str(self.root), "NECTAR": str(COMMAND), **variables}

    def run(self, *words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end in the project's folder."""
        return subprocess.run(
            [str(word) for word in words],
            cwd=self.root,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )

    def nectar(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(COMMAND, *words)

    def render(self, to: str, *words: str) -> Path:
        """Render something into the project's folder, and return the file."""
        made = self.nectar("render", "--to", to, "--out", str(self.root), *words)
        assert made.returncode == 0, made.stderr
        return Path(made.stdout.strip())

    def noted(self) -> list[str]:
        """Return the lines that tasks have added to the file `notes`, and forget them."""
        place = self.root / "notes"
        lines = place.read_text("utf-8").splitlines() if place.exists() else []
        place.unlink(missing_ok=True)
        return lines

    def targets(self) -> list[str]:
        """Return the folders of complete targets, by class and key."""
        found = (self.root / "local_targets").rglob("record.json")
        return sorted("/".join(place.parts[-3:-1]) for place in found if ".attempts" not in place.parts)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@dataclass(frozen=True)
class States:
    """An interpreter of the Amazon States Language: moto's."""

    machines: Any  #: boto3's client
    queue: str  #: address

    def run(self, definition: str, name: str, **given: Any) -> dict[str, Any]:
        """Carry a state machine out to its end, and return what became of it."""
        role = "arn:aws:iam::123456789012:role/nectar"
        unrolled = json.dumps(_unrolled(json.loads(definition)))
        made = self.machines.create_state_machine(name=name, definition=unrolled, roleArn=role)
        begun = self.machines.start_execution(
            stateMachineArn=made["stateMachineArn"], name=name, input=json.dumps({"queue": self.queue, **given})
        )
        deadline = time.monotonic() + LIMIT_S
        pause = threading.Event()
        while True:
            told: dict[str, Any] = self.machines.describe_execution(executionArn=begun["executionArn"])
            if told["status"] != "RUNNING":
                return told
            assert time.monotonic() < deadline, told
            pause.wait(0.05)


def _unrolled(scope: Any) -> Any:
    """Return states in which each further attempt is a state of its own.

    The interpreter gives all attempts one task token, so that the answer to the first is taken for that to the next
    one; AWS gives each its own.
    """
    if isinstance(scope, list):
        return [_unrolled(one) for one in scope]
    if not isinstance(scope, dict):
        return scope
    made = {key: _unrolled(one) for key, one in scope.items()}
    states = made.get("States", {})
    for name, state in list(states.items()):
        (retry,) = state.pop("Retry", [{"MaxAttempts": 0}])
        for number in range(retry["MaxAttempts"] if "Nectar.TaskFailed" in retry.get("ErrorEquals", ()) else 0):
            again = {"ErrorEquals": retry["ErrorEquals"], "ResultPath": None, "Next": f"{name}#{number + 1}"}
            here = f"{name}#{number}" if number else name
            states[f"{name}#{number + 1}"] = dict(state)
            states[here] = {**state, "Catch": [again, *state.get("Catch", [])]}
    return made


@pytest.fixture
def states(project: Project) -> Iterator[States]:
    """An interpreter whose queue has two readers in the project, which are the program that the guide prints."""
    lacking = [name for name in (*s3_moto.MODULES, "antlr4", "jsonpath_ng") if importlib.util.find_spec(name) is None]
    if lacking:
        pytest.skip(f"moto's interpreter needs {', '.join(lacking)}")
    import boto3

    guide = (ROOT / "docs" / "rendering.md").read_text("utf-8")
    (reader,) = re.findall(r"^```python\n(import json\n.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    program = project.file("reader.py", reader)
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(s3_moto.moto_server())
        _tell(endpoint, {"stepfunctions": {"execute_state_machine": True}})
        access = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "us-east-1"}
        queues = boto3.client("sqs", endpoint_url=endpoint, **access)
        queue = queues.create_queue(QueueName="nectar")["QueueUrl"]
        variables = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "us-east-1"}
        environment = project.environment(AWS_ENDPOINT_URL=endpoint, **variables)
        for number in range(2):
            log = stack.enter_context((project.root / f"reader-{number}.log").open("wb"))
            made = subprocess.Popen(
                [sys.executable, str(program), queue], cwd=project.root, env=environment, stdout=log, stderr=log
            )
            stack.callback(made.wait)
            stack.callback(made.kill)
        yield States(boto3.client("stepfunctions", endpoint_url=endpoint, **access), queue)


def _tell(endpoint: str, configuration: dict[str, Any]) -> None:
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=s3_moto.PATIENCE_S)
    connection.request(
        "POST", "/moto-api/config", json.dumps(configuration), headers={"Content-Type": "application/json"}
    )
    answer = connection.getresponse()
    assert answer.status < 300, answer.read()
    connection.close()
