"""The measure of large objects: boto3's own transfers, with its defaults."""

from __future__ import annotations

import os

import boto3
import s3_bucket
from timed import Action, Order, answer, expect


def _load(order: Order) -> Action:
    return lambda: None


def _upload(order: Order) -> Action:
    bucket, prefix = s3_bucket.place()
    path = s3_bucket.big_file(f"{os.environ['NECTAR_PROJECT']}/.nectar/big.bin", order.tasks)
    return lambda: boto3.client("s3").upload_file(path, bucket, f"{prefix}big.bin")


def _download(order: Order) -> Action:
    bucket, _ = s3_bucket.place()
    [key] = s3_bucket.keys(1, "out.txt")
    path = f"{os.environ['NECTAR_PROJECT']}/big.bin"

    def download() -> None:
        boto3.client("s3").download_file(bucket, key, path)
        expect(os.path.getsize(path) == order.tasks << 20, "it is of another size")

    return download


if __name__ == "__main__":
    answer({"load": _load, "upload": _upload, "download": _download})
