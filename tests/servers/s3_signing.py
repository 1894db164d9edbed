"""Sign a request anew whose signed headers were changed on the way.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from functools import reduce

from http1 import Head

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<scope>[^,]+), ?SignedHeaders=(?P<names>[^,]+), ?Signature=[0-9a-f]+"
)


def signed_again(head: Head, secrets: Mapping[str, str]) -> Head:
    """Return the head with a signature over those of its signed headers that are still there.

    A head without a signature in `Authorization` comes back as it is: a presigned URL signs its `host` as a rule.

    Raises: KeyError: no secret is known for its access key.
    """
    found = _AUTHORIZATION.fullmatch((head.get(b"authorization") or b"").decode("latin-1"))
    if found is None:
        return head
    values = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in head.fields}
    names = [name for name in found["names"].split(";") if name in values]
    access_key, *scope = found["scope"].split("/")
    to_sign = "\n".join(
        ["AWS4-HMAC-SHA256", values["x-amz-date"], "/".join(scope), _digest(_canonical(head, names, values))]
    )
    key = reduce(_keyed, scope, f"AWS4{secrets[access_key]}".encode())
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={found['scope']}, SignedHeaders={';'.join(names)}, "
        f"Signature={_keyed(key, to_sign).hex()}"
    )
    return head.having(b"Authorization", authorization.encode("latin-1"))


def _canonical(head: Head, names: list[str], values: dict[str, str]) -> str:
    method, path, _ = head.first.decode("latin-1").split(" ")
    place, _, asked = path.partition("?")
    query = sorted(part if "=" in part else f"{part}=" for part in asked.split("&") if part)
    headers = [f"{name}:{' '.join(values[name].split())}" for name in names]
    return "\n".join([method, place, "&".join(query), *headers, "", ";".join(names), values["x-amz-content-sha256"]])


def _keyed(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
