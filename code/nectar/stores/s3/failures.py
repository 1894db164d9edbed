"""Say what went wrong between a store and its S3 server, and what to do about it.

The codes are those of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and a few of radosgw's.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping

from nectar import errors

#: what an operation does, and the permission of IAM that it needs
_ACTIONS: Mapping[str, tuple[str, str]] = {
    "put_object": ("put objects", "s3:PutObject"),
    "create_multipart_upload": ("put objects", "s3:PutObject"),
    "upload_part": ("put objects", "s3:PutObject"),
    "complete_multipart_upload": ("put objects", "s3:PutObject"),
    "abort_multipart_upload": ("abort uploads", "s3:AbortMultipartUpload"),
    "copy_object": ("copy objects", "s3:GetObject and s3:PutObject"),
    "upload_part_copy": ("copy objects", "s3:GetObject and s3:PutObject"),
    "get_object": ("get objects", "s3:GetObject"),
    "head_object": ("get objects", "s3:GetObject"),
    "delete_object": ("delete objects", "s3:DeleteObject"),
    "list_objects_v2": ("list the bucket", "s3:ListBucket"),
    "head_bucket": ("list the bucket", "s3:ListBucket"),
}
_CREDENTIALS_HINT = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with AWS_PROFILE"
_RENEW_HINT = "get new ones (`aws sso login`, or whoever issues them), and start again: what is finished stays"
_REGION_HINT = "set the region, with AWS_DEFAULT_REGION or in the store's settings"
_CLOCK_HINT = "set this machine's clock (NTP): a difference of 15 minutes is too much"
_WAIT_HINT = "start again in a while: what is finished stays; or allow more retries in the store's settings"
_DAMAGED = "`{url}` got other bytes than were sent"
_DAMAGED_HINT = "start again; if it comes back, look at the network and this machine's memory"

#: by code: the sentence, and its hint
_CODES: Mapping[str, tuple[str, str]] = {
    "NoSuchBucket": (
        "there is no bucket `{bucket}`",
        "look at the bucket's name, region and endpoint, or create it: Nectar makes no buckets",
    ),
    "InvalidAccessKeyId": (
        "`{url}` does not know the access key",
        "look at AWS_ACCESS_KEY_ID, the profile, the endpoint",
    ),
    "SignatureDoesNotMatch": (
        "`{url}` refuses the secret key",
        "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID; look at both, and for spaces around them",
    ),
    "InvalidToken": ("`{url}` refuses the session token", "look at AWS_SESSION_TOKEN, or unset it for lasting keys"),
    "ExpiredToken": ("the credentials for `{url}` have expired", _RENEW_HINT),
    "ExpiredTokenException": ("the credentials for `{url}` have expired", _RENEW_HINT),
    "TokenRefreshRequired": ("the credentials for `{url}` have expired", _RENEW_HINT),
    "RequestExpired": ("the credentials for `{url}` have expired", _RENEW_HINT),
    "RequestTimeTooSkewed": ("`{url}` has another time than this machine", _CLOCK_HINT),
    "SlowDown": ("`{url}` asks for fewer requests, and did so to the last retry", _WAIT_HINT),
    "InvalidObjectState": (
        "the object `{key}` in `{url}` is archived and cannot be read",
        "restore it, and keep targets out of rules that move objects to Glacier",
    ),
    "QuotaExceeded": ("the quota of `{url}` is exhausted", "run `nectar gc`, or ask for more space"),
    "BadDigest": (_DAMAGED, _DAMAGED_HINT),
    "XAmzContentSHA256Mismatch": (_DAMAGED, _DAMAGED_HINT),
    "NotImplemented": ("`{url}` cannot do what was asked: {doing}", "is the endpoint a server that speaks S3?"),
}
_SAME = {
    "Throttling": "SlowDown",
    "ThrottlingException": "SlowDown",
    "RequestLimitExceeded": "SlowDown",
    "TooManyRequests": "SlowDown",
    "503": "SlowDown",
    "429": "SlowDown",
    "InvalidDigest": "BadDigest",
}
_QUERY = re.compile(r'(?<=[^\s?])\?[^\s"]*(?=")')
_WRONG_REGION = {"PermanentRedirect", "TemporaryRedirect", "301", "307", "AuthorizationHeaderMalformed",
                 "IllegalLocationConstraintException", "AuthorizationQueryParametersError"}  # fmt: skip
_NO_PERMISSION = {"AccessDenied", "Forbidden", "AllAccessDisabled", "AccountProblem", "403"}

#: by the class of botocore's exception, more special ones first: the sentence, and its hint
_NOT_ANSWERED: Mapping[str, tuple[str, str]] = {
    "NoCredentialsError": ("there are no credentials for `{url}`", _CREDENTIALS_HINT),
    "PartialCredentialsError": ("the credentials for `{url}` are incomplete", _CREDENTIALS_HINT),
    "ProfileNotFound": ("there is no AWS profile for `{url}`: {said}", "look at AWS_PROFILE and ~/.aws/config"),
    "CredentialRetrievalError": ("the credentials for `{url}` cannot be fetched: {said}", _RENEW_HINT),
    "TokenRetrievalError": ("the credentials for `{url}` cannot be fetched: {said}", _RENEW_HINT),
    "SSOError": ("the credentials for `{url}` cannot be fetched: {said}", _RENEW_HINT),
    "MetadataRetrievalError": ("the credentials for `{url}` cannot be fetched: {said}", _CREDENTIALS_HINT),
    "ProxyConnectionError": (
        "the proxy before `{url}` cannot be reached",
        "look at HTTPS_PROXY and HTTP_PROXY; NO_PROXY names the hosts that need none",
    ),
    "SSLError": (
        "`{url}` cannot be trusted: {said}",
        "name the certificates of your own server or proxy with AWS_CA_BUNDLE",
    ),
    "ConnectTimeoutError": (
        "`{url}` cannot be reached: no answer in time",
        "look at the endpoint, network and firewall",
    ),
    "EndpointConnectionError": (
        "`{url}` cannot be reached: {said}",
        "look at the endpoint, the region and the network",
    ),
    "ReadTimeoutError": ("`{url}` took too long to answer", "look at the network, or raise the store's timeout"),
    "HTTPClientError": ("the connection to `{url}` broke: {said}", "look at the endpoint and the network"),
    "HTTPError": ("the connection to `{url}` broke: {said}", "look at the endpoint and the network"),
    "RecursionError": (
        "`{url}` is redirected, and no answer says where to",
        "look at the endpoint (is it `https://`?) and at the region: AWS_DEFAULT_REGION",
    ),
    "ParamValidationError": ("`{url}` cannot be asked: {said}", "look at the bucket's name"),
    "ValueError": ("`{url}` cannot be reached: {said}", "an endpoint reads `https://host` or `http://host:port`"),
}


class Rejected(Exception):
    """The server answered with an error. It never leaves this package."""

    def __init__(
        self,
        operation: str,
        key: str,
        *,
        status: int,
        code: str,
        said: str = "",
        region: str | None = None,
        headers: Mapping[str, str] | None = None,
        repeated: bool = False,
    ) -> None:
        super().__init__(f"{operation}: {status} {code}")
        self.operation = operation  #: of boto3's client
        self.key = key  #: with the store's prefix
        self.status = status  #: of HTTP
        self.code = code  #: S3's name of the error; the status where the answer had no body
        self.said = said
        self.region = region  #: in which the bucket is, where the server says so
        self.headers = headers or {}
        self.repeated = repeated  #: the request was sent more than once, and may have been carried out before

    @property
    def is_absent(self) -> bool:
        """True when the object is missing; of a HEAD it may be the bucket as well."""
        return self.code == "NoSuchKey" or (self.operation == "head_object" and self.status == 404)

    @property
    def is_forbidden(self) -> bool:
        """True when the server knows who asks, and does not allow it."""
        return self.code in _NO_PERMISSION

    @property
    def is_condition(self) -> bool:
        """True when a condition did not hold, or another request was at the same object."""
        return self.status in (409, 412)


def refused(bucket: str, rejected: Rejected) -> errors.StoreUnreachable:
    """Return the error for an answer that is one: what cannot be done in which bucket, and the way out."""
    url, code = f"s3://{bucket}", _SAME.get(rejected.code, rejected.code)
    doing, action = _ACTIONS.get(rejected.operation, (rejected.operation, "s3:*"))
    if rejected.operation == "head_bucket" and rejected.status == 404:
        code = "NoSuchBucket"
    if code in _CODES:
        sentence, hint = _CODES[code]
        return errors.StoreUnreachable(
            sentence.format(url=url, bucket=bucket, key=rejected.key, doing=doing), hint=hint
        )
    if code in _WRONG_REGION or (code == "400" and rejected.region):
        named = f": it is in `{rejected.region}`" if rejected.region else ""
        hint = f"set AWS_DEFAULT_REGION={rejected.region}" if rejected.region else _REGION_HINT
        return errors.StoreUnreachable(f"`{url}` is asked for in the wrong region{named}", hint=hint)
    if code in _NO_PERMISSION or rejected.status == 403:
        return _no_permission(url, rejected, doing, action)
    at = f" for `{rejected.key}`" if rejected.key else ""
    said = f": {one_line(rejected.said)}" if rejected.said and rejected.said != code else ""
    named = f"{code} ({rejected.status})" if code != str(rejected.status) else code
    hint = _WAIT_HINT if rejected.status >= 500 else "is the endpoint a server that speaks S3?"
    return errors.StoreUnreachable(f"`{url}` answered {named}{at} when asked to {doing}{said}", hint=hint)


def _no_permission(url: str, rejected: Rejected, doing: str, action: str) -> errors.StoreUnreachable:
    hint = f"allow {action} on the bucket"
    if rejected.operation in ("get_object", "head_object"):
        hint += "; without s3:ListBucket a server answers 403 for a missing object too: allow that as well"
    at = f", `{rejected.key}` among them," if rejected.key else ""
    return errors.StoreUnreachable(f"the credentials do not allow to {doing}{at} in `{url}`", hint=hint)


def not_answered(bucket: str, operation: str, error: Exception) -> errors.StoreUnreachable:
    """Return the error for a request that got no answer, or was not even sent."""
    url, said = f"s3://{bucket}", one_line(str(error))
    for kind in type(error).__mro__:
        if kind.__name__ in _NOT_ANSWERED:
            sentence, hint = _NOT_ANSWERED[kind.__name__]
            return errors.StoreUnreachable(sentence.format(url=url, said=said), hint=hint)
    doing, _ = _ACTIONS.get(operation, (operation, ""))
    return errors.StoreUnreachable(f"`{url}` cannot be asked to {doing}: {said}", hint="look at the store's settings")


def seconds_ahead(bucket: str, headers: Mapping[str, str]) -> float:
    """Return by how many seconds the clock in an answer's `Date` is ahead of this machine's.

    Raises:
        StoreUnreachable: when there is no date in it.
    """
    try:
        return email.utils.parsedate_to_datetime(headers["date"]).timestamp() - time.time()
    except (KeyError, ValueError) as error:
        raise errors.StoreUnreachable(
            f"`s3://{bucket}` answers without a date", hint="is the endpoint a server that speaks S3?"
        ) from error


def one_line(said: str) -> str:
    """Return what a library or a server said as the end of a sentence: one line, not too long, no full stop.

    Of a URL the query is left out: who named the endpoint did not write it.
    """
    return _QUERY.sub("", " ".join(said.split()))[:200].rstrip(". ")
