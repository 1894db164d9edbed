"""What all sides in S3 share: the bucket, past the proxy, and big files."""

from __future__ import annotations

import functools
import os
import random
from typing import Any
from urllib.parse import urlsplit

import boto3

SEED = 20
_MIB = 1 << 20


def place() -> tuple[str, str]:
    """Return the bucket, and the prefix with a slash under which this case's targets lie."""
    url = urlsplit(os.environ["NECTAR_STORE"])
    return url.netloc, f"{url.path.strip('/')}/"


@functools.cache
def raw_client() -> Any:
    """Return a plain client of the server, without a proxy before it."""
    return boto3.client("s3", endpoint_url=os.environ["BENCH_S3_NEAR"])


def keys(most: int, name: str) -> list[str]:
    """Return the keys of some objects of this name under the prefix."""
    bucket, prefix = place()
    found: list[str] = []
    for page in raw_client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        found += [one["Key"] for one in page.get("Contents", ()) if one["Key"].endswith(f"/{name}")]
        if len(found) >= most:
            break
    return found[:most]


def big_file(path: str, mib: int) -> str:
    """Write a file of so many MiB that no two of which are equal, and return its path."""
    source = random.Random(SEED)
    block = bytearray(source.randbytes(_MIB))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        for number in range(mib):
            block[:8] = number.to_bytes(8, "big")
            file.write(block)
    return path
