"""Run the S3 server that cases are measured against: radosgw where it is installed, otherwise moto.

It stands on this machine and shares its processors with what is measured. Before it, in a process of its own, stands
the proxy of the tests, which lets every request wait as long as one to a server far away does, and counts them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "servers"))

from s3_client import ACCESS_KEY, REGION, SECRET_KEY, client, make_bucket
from s3_moto import missing_modules, moto_server
from s3_proxy import ProxyProcess, Traffic, proxy_process
from s3_radosgw import radosgw_is_there, radosgw_server

LATENCY_S = 0.025
BUCKET = "bench"


def server_name() -> str | None:
    """Return the server that can be run here, None where there is none."""
    if radosgw_is_there():
        return "radosgw"
    return None if missing_modules() else "moto"


@dataclass(frozen=True)
class S3Server:
    """An S3 server with a bucket, and a proxy before it."""

    name: str
    version: str
    endpoint: str
    proxy: ProxyProcess

    def variables(self, folder: str, *, far: bool) -> Mapping[str, str]:
        """Return what the environment of a case has that keeps its targets under `folder` in the bucket."""
        return {
            "NECTAR_STORE": f"s3://{BUCKET}/{folder}",
            "AWS_ENDPOINT_URL_S3": self.proxy.endpoint if far else self.endpoint,
            "BENCH_S3_NEAR": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            # Nothing that lies about on this machine, and no search for a role that it does not have.
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def traffic(self) -> Traffic:
        """Return what has passed through the proxy; see there."""
        return self.proxy.traffic()


@contextlib.contextmanager
def s3_server(name: str) -> Iterator[S3Server]:
    """Run a server for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        if name == "radosgw":
            endpoint = stack.enter_context(radosgw_server()).endpoint
        else:
            endpoint = stack.enter_context(moto_server())
        make_bucket(client(endpoint), BUCKET)
        proxy = stack.enter_context(proxy_process(endpoint, latency_s=LATENCY_S))
        yield S3Server(name, _version(name), endpoint, proxy)


def _version(name: str) -> str:
    if name == "radosgw":
        said = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True).stdout.split()
        return said[said.index("version") + 1]
    from importlib import metadata

    return metadata.version("moto")
