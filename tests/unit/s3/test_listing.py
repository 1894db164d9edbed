"""What is read of a page of a listing is what boto3 reads of it; a page that reads otherwise is left to boto3."""

from __future__ import annotations

import urllib.parse
from typing import Any
from xml.sax.saxutils import escape

import pytest
from botocore import parsers, session
from botocore.handlers import decode_list_object_v2
from hypothesis import given
from hypothesis import strategies as st

from nectar.stores.s3.listing import TAKEN, take_objects

KEYS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"))
SHAPE = session.Session().get_service_model("s3").operation_model("ListObjectsV2").output_shape


def page(objects: list[tuple[str, int, str]], *, encoded: bool = False, more: str = "") -> bytes:
    rows = "".join(
        f"<Contents><Key>{escape(urllib.parse.quote_plus(key, safe='/') if encoded else key)}</Key>"
        f"<LastModified>2026-11-20T20:00:00.000Z</LastModified><ETag>&quot;{etag}&quot;</ETag>\n"
        f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for key, size, etag in objects
    )
    kind = "<EncodingType>url</EncodingType>" if encoded else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>false</IsTruncated>{kind}{rows}{more}"
        "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes></ListBucketResult>"
    ).encode()


def parsed(body: bytes) -> dict[str, Any]:
    answer = parsers.create_parser("rest-xml").parse({"body": body, "headers": {}, "status_code": 200}, SHAPE)
    decode_list_object_v2(answer, {"encoding_type_auto_set": True})
    return answer  # type: ignore[no-any-return]


def by_boto3(body: bytes) -> list[tuple[str, int, str, str]]:
    found = parsed(body).get("Contents", [])
    return [(one["Key"], one["Size"], one["ETag"], f"{one['LastModified']:%Y-%m-%dT%H:%M:%S.000Z}") for one in found]


def taken(body: bytes, status: int = 200) -> tuple[Any, bytes]:
    response, more = {"body": body, "status_code": status, "headers": {}}, dict[str, Any]()
    take_objects(response_dict=response, customized_response_dict=more, operation_model=None)
    return more.get(TAKEN), response["body"]


@given(st.lists(st.tuples(KEYS, st.integers(0, 2**40), st.text("0123456789abcdef-", max_size=8))), st.booleans())
def test_the_objects_of_a_page_are_those_that_boto3_reads(objects: list[tuple[str, int, str]], encoded: bool) -> None:
    body = page(objects, encoded=encoded)
    found, rest = taken(body)
    assert found == (by_boto3(body) or None)
    assert b"<Contents>" not in rest
    left = parsed(rest)
    assert (left["IsTruncated"], left["CommonPrefixes"]) == (False, [{"Prefix": "a/"}])


#: an object as each of these writes it
WRITTEN = {
    "AWS": "<Contents><Key>a/b &amp; c</Key><LastModified>2026-11-20T20:00:00.000Z</LastModified>"
    "<ETag>&quot;e&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumAlgorithm>SHA256</ChecksumAlgorithm>"
    "<ChecksumType>FULL_OBJECT</ChecksumType><Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>",
    "radosgw": "<Contents><Key>a/b &amp; c</Key><LastModified>2026-11-20T20:00:00.000Z</LastModified>"
    "<ETag>&quot;e&quot;</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass><Type>Normal</Type></Contents>",
    "indented": "<Contents>\n  <Key>a/b &amp; c</Key>\n  <LastModified>2026-11-20T20:00:00.000Z</LastModified>\n"
    "  <ETag>&quot;e&quot;</ETag>\n  <Size>7</Size>\n</Contents>\n",
}


@pytest.mark.parametrize("server", WRITTEN)
def test_what_servers_add_to_an_object_does_not_keep_it_from_being_read(server: str) -> None:
    body = page([], more=WRITTEN[server] * 2)
    found, rest = taken(body)
    assert found == by_boto3(body) == [("a/b & c", 7, '"e"', "2026-11-20T20:00:00.000Z")] * 2
    assert b"<Contents>" not in rest


def test_keys_that_are_encoded_are_decoded_once() -> None:
    keys = ("a/b", "a%2Fb", "a+b", "a b", "100%", "\u00e4/\n", "%")
    rows = "".join(WRITTEN["AWS"].replace("a/b &amp; c", urllib.parse.quote_plus(key, safe="")) for key in keys)
    found, _ = taken(page([], encoded=True, more=rows))
    assert tuple(key for key, *_ in found) == keys


@pytest.mark.parametrize(
    "more",
    [
        "<Contents><Key>a</Key><Size>1</Size></Contents>",
        "<Contents><Key>a</Key><ETag>x</ETag><Size>one</Size></Contents>",
        "<Contents><Key>a&#38;</Key><ETag>x</ETag><Size>1</Size></Contents>",
        "<Contents><Key>a</Key><ETag>x</ETag><Size>1</Size><Owner><ID>me</ID></Owner></Contents>",
        "<Contents><Key>a</Jey><ETag>x</ETag><Size>1</Size></Contents>",
        "<Contents><Key>a</Key><ETag>x</ETag><Size>1</Size>",
        "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes><Contents><Key>a</Key><ETag>x</ETag><Size>1</Size></Contents>",
    ],
    ids=["no etag", "no size", "number", "nested", "damaged", "cut", "between"],
)
def test_a_page_that_reads_otherwise_is_left_to_boto3(more: str) -> None:
    body = page([("k", 1, "e")], more=more)
    found, rest = taken(body)
    if "<Size>1</Size>" in more and more.endswith("</Size>"):  # what is cut stays, and boto3 refuses it
        assert found == [("k", 1, '"e"', "2026-11-20T20:00:00.000Z")]
        with pytest.raises(parsers.ResponseParserError):
            parsed(rest)
    else:
        assert (found, rest) == (None, body)


def test_an_error_is_left_to_boto3() -> None:
    assert taken(page([("k", 1, "e")]), status=500) == (None, page([("k", 1, "e")]))
    assert taken(b"") == (None, b"")
