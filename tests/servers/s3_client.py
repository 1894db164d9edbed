"""Clients of a server under test: a raw boto3 client that tries once, and buckets."""

from __future__ import annotations

import functools
import secrets
from typing import Any

import boto3
import botocore.config

#: the account that every server here knows
ACCESS_KEY, SECRET_KEY, REGION = "AKTEST", "SKTEST", "us-east-1"


def client(endpoint: str, *, secret: str = SECRET_KEY, **config: Any) -> Any:
    """Return a boto3 client of S3 that tries each request once; `config` goes to botocore's Config."""
    settings: dict[str, Any] = {
        "signature_version": "s3v4",
        "s3": {"addressing_style": "path"},
        "retries": {"total_max_attempts": 1},
        "max_pool_connections": 64,
    }
    return _session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=secret,
        config=botocore.config.Config(**(settings | config)),
    )


@functools.cache
def _session() -> Any:
    """One session: it reads the description of S3 once, which takes longer than all the rest."""
    return boto3.session.Session()


def make_bucket(s3: Any, name: str | None = None) -> str:
    """Make an empty bucket, by default one that no other test has, and return its name."""
    name = name or f"test-{secrets.token_hex(8)}"
    s3.create_bucket(Bucket=name)
    return name


def reset_bucket(s3: Any, name: str) -> None:
    """Take every object and every unfinished upload out of a bucket."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
        if found := [{"Key": one["Key"]} for one in page.get("Contents", [])]:
            answer = s3.delete_objects(Bucket=name, Delete={"Objects": found, "Quiet": True})
            assert "Errors" not in answer, answer["Errors"]
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=name):
        for upload in page.get("Uploads", []):
            s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
