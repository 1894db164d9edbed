"""A bucket as several machines see it: projects whose targets go there, and what another client finds in it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ready_python
from s3_client import ACCESS_KEY, REGION, SECRET_KEY, client, make_bucket

LIMIT_S = 60.0
STAGE = "qa"


@dataclass(frozen=True)
class Cloud:
    """One machine's project, with `ENV` and `PROJECT_BUCKET` set; `s3` is a client that knows nothing of Nectar."""

    project: Any
    endpoint: str
    s3: Any
    name: str  #: PROJECT_BUCKET

    @property
    def bucket(self) -> str:
        return f"{STAGE}.{self.name}"

    @property
    def variables(self) -> dict[str, str]:
        return {
            "ENV": STAGE,
            "PROJECT_BUCKET": self.name,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            # Nothing that lies about on this machine, and no search for a role that it does not have.
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def nectar(self, *words: str, **more: str) -> Any:
        """Run the command; a variable that is empty counts as not set."""
        return self.project.nectar(*words, **(self.variables | more))

    def started(self, *words: str) -> Any:
        """Start the command, with its stdout and stderr in pipes."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self.project.started(*words, variables=self.variables, **pipes)

    def python(self, script: str, **more: str) -> str:
        """Run a script in the project's folder, and return what it printed."""
        done = self._run([sys.executable, "-c", script], more)
        return done.stdout.decode()

    def luigi(self, module: str, task: str, *words: str) -> str:
        """Run luigi's own command, and return what it said."""
        words = (sys.executable, "-m", "luigi", "--module", module, task, "--local-scheduler", *words)
        done = self._run(words, {})
        return done.stdout.decode() + done.stderr.decode()

    def _run(self, words: Sequence[str], more: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
        env = self.project.environment(**(self.variables | more))
        done = ready_python.run(words, cwd=self.project.root, env=env, timeout=LIMIT_S)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done

    def elsewhere(self, folder: Path, endpoint: str = "") -> Cloud:
        """Return another machine with the same chains: its project lies in `folder`, and it has made nothing."""
        other = type(self.project)(folder)
        chains = self.project.root / "chains"
        for source in sorted([*chains.rglob("*.py"), *chains.rglob("*.yaml")]):
            other.file(str(source.relative_to(self.project.root)), source.read_text(encoding="utf-8"))
        return Cloud(other, endpoint or self.endpoint, self.s3, self.name)

    def find(self, *words: str) -> dict[str, Any]:
        """Return what `nectar path` says of a target."""
        return dict(self.nectar("path", "--json", *words).json)

    def end(self, *words: str, **more: str) -> Any:
        """Run a task, which must succeed, and return the last event."""
        answer = self.nectar("run", "--json", *words, **more)
        assert answer.code == 0, answer
        return answer.lines[-1]

    def names(self) -> list[str]:
        """Return the keys of all objects."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [one["Key"] for page in pages for one in page.get("Contents", [])]

    def get(self, key: str) -> bytes:
        raw: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return raw

    def put(self, key: str, raw: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=raw)

    def put_all(self, objects: dict[str, bytes]) -> None:
        """Put many objects, as a tool that copies folders would."""
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(self.put, objects.keys(), objects.values()))

    def kept(self) -> dict[str, bytes]:
        """Return every object of every target, without what lies beside the targets."""
        return {key: self.get(key) for key in self.names() if "/." not in key}

    def only_target(self, task: str) -> str:
        """Return the path of the one target that a task class has."""
        [record] = [name for name in self.names() if re.search(rf"/{task}/[0-9a-f]{{32}}/record\.json$", name)]
        return record.removesuffix("/record.json")

    def record(self, target: str) -> Any:
        return json.loads(self.get(f"{target}/record.json"))


def machine_with_bucket(project: Any, endpoint: str) -> Cloud:
    """Return a project's machine, with an empty bucket on a server of which nobody else knows."""
    raw, name = client(endpoint), f"p-{secrets.token_hex(6)}"
    cloud = Cloud(project, endpoint, raw, name)
    make_bucket(raw, cloud.bucket)
    return cloud


def statuses(end: Any) -> dict[str, str]:
    """Return what became of each task, by its class."""
    return {step["task"].rpartition(".")[2].partition("(")[0]: step["status"] for step in end["steps"]}


def digests(kept: dict[str, bytes]) -> dict[str, str]:
    """Return the sha256 of each file; of a record the digests that it names, since it holds times as well."""
    found = {}
    for name, raw in kept.items():
        if name.endswith("/record.json"):
            raw = repr(sorted((one["name"], one["sha256"]) for one in files_of(json.loads(raw)))).encode()
        found[name] = hashlib.sha256(raw).hexdigest()
    return found


def files_of(record: Any) -> list[Any]:
    """Return the files that a record names, logs left out."""
    return [one for one in record["files"] if not one["name"].startswith("log/")]
