"""A local S3 server to try chains with, without AWS: `make s3`. Its data is gone when it ends."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence

from guard import NotStarted, free_port
from s3_client import ACCESS_KEY, REGION, SECRET_KEY, client, make_bucket
from s3_moto import missing_modules, moto_server


def main(words: Sequence[str]) -> int:
    """Serve until Ctrl-C: what to export goes to stdout, everything else to stderr."""
    parser = argparse.ArgumentParser(prog="try_s3", description="A local S3 server to try chains with.")
    parser.add_argument("--port", type=int, help="where to listen; a free port if none is given")
    parser.add_argument("--env", default="dev", help="the ENV to use (default: dev)")
    parser.add_argument("--bucket", default="nectar-trial", help="the PROJECT_BUCKET to use (default: nectar-trial)")
    given = parser.parse_args(words)
    missing = missing_modules()
    if missing:
        print(f"error: these modules are not installed: {' '.join(missing)}", file=sys.stderr)
        print('hint: pip install "moto[s3]" flask flask-cors', file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _serve(given.port or free_port(), given.env, given.bucket)
    except NotStarted as problem:
        print(f"error: {problem}", file=sys.stderr)
        print("hint: is the port in use? another one: --port 5005", file=sys.stderr)
        return 1


def _serve(port: int, env: str, bucket: str) -> int:
    with moto_server(port) as endpoint:
        make_bucket(client(endpoint), f"{env}.{bucket}")
        exports = {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": endpoint,
            "ENV": env,
            "PROJECT_BUCKET": bucket,
        }
        for name, value in exports.items():
            print(f"export {name}={shlex.quote(value)}")
        sys.stdout.flush()
        print(
            f"s3://{env}.{bucket} is ready: put these lines into another terminal. Ctrl-C ends the server, "
            "and its data is gone.",
            file=sys.stderr,
        )
        try:
            while True:
                signal.pause()
        except KeyboardInterrupt:
            print("ended; the data is gone", file=sys.stderr)
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
