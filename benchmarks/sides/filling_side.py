"""Fill a bucket with the objects of many targets, past every client: boto3 would take three times as long.

They have the sizes of a small target's. What only asks whether a target is there asks for no more.
"""

from __future__ import annotations

import http.client
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import s3_bucket
from timed import Action, Order, answer, expect

sys.path.insert(0, str(Path(__file__).parent.parent / "project"))

from chains.load.shapes_chain import LeafTask

_FILES = {"out.txt": 5, "params.txt": 20, "log/stdout.log": 0, "log/stderr.log": 0, "record.json": 2000}  #: bytes
_THREADS = 8


def _fill(order: Order) -> Action:
    paths = [LeafTask(number=number).target_address().path for number in range(order.tasks)]
    shares = [paths[first::_THREADS] for first in range(_THREADS)]

    def fill() -> None:
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(_put_targets, shares))

    return fill


def _put_targets(paths: list[str]) -> None:
    near = urlsplit(os.environ["BENCH_S3_NEAR"])
    connection = http.client.HTTPConnection(near.netloc)
    bucket, prefix = s3_bucket.place()
    signer = _signer()
    for path in paths:
        for name, size in _FILES.items():
            url = f"/{bucket}/{prefix}{path}/{name}"
            body = b"x" * size
            request = botocore.awsrequest.AWSRequest("PUT", f"http://{near.netloc}{url}", data=body)
            signer.add_auth(request)
            connection.request("PUT", url, body, dict(request.headers.items()))
            said = connection.getresponse()
            said.read()
            expect(said.status == 200, f"the server answered {said.status} to a PUT")
    connection.close()


def _signer() -> botocore.auth.S3SigV4Auth:
    account = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    return botocore.auth.S3SigV4Auth(botocore.credentials.Credentials(*account), "s3", os.environ["AWS_DEFAULT_REGION"])


if __name__ == "__main__":
    answer({"fill": _fill})
