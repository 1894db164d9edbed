"""Read the objects of a listing's page before boto3 does, which takes ten times as long: 35 ms for a page of 1,000.

What is taken out here is what every server writes: in each `<Contents>` elements without attributes, one after the
other. Of a page with anything else in it nothing is taken, and boto3 reads all of it; it always reads the rest.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

import html
import re
import urllib.parse
from typing import Any

TAKEN = "NectarObjects"  #: the member of the answer: Taken for each object

Taken = tuple[str, int, str, str]  #: key, size in bytes, ETag with its quotes, when it was put as the server wrote it

_OPEN, _CLOSE = b"<Contents>", b"</Contents>"
_ENTRY = re.compile(rb"(?:\s*<([A-Za-z]+)>[^<]*</\1>)+\s*</Contents>\s*")
_ELEMENT = re.compile(rb"<([A-Za-z]+)>([^<]*)</")
_URL_ENCODED = b"<EncodingType>url</EncodingType>"


def take_objects(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Move the objects from the body of an answer to the member `TAKEN`; a handler of boto3's `before-parse`."""
    body = response_dict["body"]
    if response_dict["status_code"] != 200 or not isinstance(body, bytes):
        return
    start, end = body.find(_OPEN), body.rfind(_CLOSE) + len(_CLOSE)
    if not 0 <= start < end:
        return
    rest = body[:start] + body[end:]
    objects = _objects(body[start:end], url_encoded=_URL_ENCODED in rest)
    if objects is not None:
        customized_response_dict[TAKEN] = objects
        response_dict["body"] = rest


def _objects(block: bytes, *, url_encoded: bool) -> list[Taken] | None:
    """Return what the elements say, None where they say it in another way than is expected here."""
    if b"&#" in block or b"\r" in block:  # HTML and XML do not agree on all of these
        return None
    found = []
    for entry in block.split(_OPEN)[1:]:
        if not _ENTRY.fullmatch(entry):
            return None
        said = dict(_ELEMENT.findall(entry))
        try:
            key, etag = html.unescape(said[b"Key"].decode()), html.unescape(said[b"ETag"].decode())
            put = said.get(b"LastModified", b"").decode()
            found.append((urllib.parse.unquote_plus(key) if url_encoded else key, int(said[b"Size"]), etag, put))
        except (KeyError, ValueError):  # an element is missing, or is not what it should be
            return None
    return found
