"""Read secrets from AWS Secrets Manager; config: `secret_id`, `region`, `endpoint`, `profile`.

With `secret_id`, that one secret holds a JSON object of names and values, and is read once a process. Without it each
name is the id of a secret of its own, whose text is the value.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import boto3
import botocore.config
import botocore.exceptions

from nectar import errors

CONNECT_S = 5.0
READ_S = 20.0
TRIES = 5  #: of one request

#: what AWS answers, as `docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html` lists it
_REFUSED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "NotAuthorized",
        "OptInRequired",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_THROTTLED = frozenset(
    {"LimitExceededException", "RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException"}
)


class AwsSecrets:
    """Gives values from AWS; what is not set comes from the variables and profiles that all AWS tools know."""

    options: ClassVar[Mapping[str, type]] = {"secret_id": str, "region": str, "endpoint": str, "profile": str}

    def __init__(
        self, root: Path, secret_id: str = "", region: str = "", endpoint: str = "", profile: str = ""
    ) -> None:
        self._secret_id, self._region, self._endpoint, self._profile = secret_id, region, endpoint, profile
        self._guard = threading.Lock()
        self._client: Any = None
        self._values: Mapping[str, Any] | None = None

    def get(self, name: str) -> str:
        """Return a secret's text, or the value in the JSON object of the one that the settings name.

        Raises:
            SecretNotFound: when there is none.
            SecretStoreUnreachable: when AWS does not answer, refuses, or throttles; after five tries.
            SecretError: when the secret is no text, or no JSON object where one is needed.
        """
        with self._guard:
            if not self._secret_id:
                return self._text(name, name)
            if self._values is None:
                self._values = _mapping(self._text(self._secret_id, name), self._secret_id)
        if name not in self._values:
            near = errors.did_you_mean(name, self._values)
            raise errors.SecretNotFound(
                f"no secret `{name}` in the secret `{self._secret_id}` of AWS",
                hint=near or "its JSON object has no such name",
            )
        value = self._values[name]
        return value if isinstance(value, str) else json.dumps(value)

    def _text(self, secret_id: str, name: str) -> str:
        try:
            answer = self._connected().get_secret_value(SecretId=secret_id)
        except botocore.exceptions.ClientError as error:
            raise _of_answer(error, secret_id, name) from error
        except (botocore.exceptions.BotoCoreError, ValueError) as error:  # a ValueError: an endpoint that is no URL
            raise errors.SecretStoreUnreachable(
                f"the secret `{name}` cannot be had, AWS Secrets Manager cannot be reached: {error}",
                hint="look at the network, the credentials, and `region`, `endpoint` and `profile` in `[secrets]`",
            ) from error
        if isinstance(answer.get("SecretString"), str):
            return str(answer["SecretString"])
        try:
            return bytes(answer.get("SecretBinary", b"")).decode("utf-8")
        except UnicodeDecodeError:
            raise errors.SecretError(
                f"the secret `{secret_id}` of AWS holds bytes that are no text", hint="store it as text, such as base64"
            ) from None

    def _connected(self) -> Any:
        if self._client is None:
            session = boto3.session.Session(profile_name=self._profile or None, region_name=self._region or None)
            config = botocore.config.Config(
                connect_timeout=CONNECT_S,
                read_timeout=READ_S,
                retries={"mode": "standard", "total_max_attempts": TRIES},
            )
            self._client = session.client("secretsmanager", endpoint_url=self._endpoint or None, config=config)
        return self._client


def _mapping(text: str, secret_id: str) -> Mapping[str, Any]:
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise errors.SecretError(
            f"the secret `{secret_id}` of AWS is no JSON object of names and values",
            hint="store one, or leave `secret_id` out: then each name is the id of a secret of its own",
        ) from None
    return read


def _of_answer(error: Any, secret_id: str, name: str) -> errors.SecretError:
    """Return the error for what AWS answered; its own message names the principal and the secret, never a value."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    said = str(error.response.get("Error", {}).get("Message", "")).strip() or code
    if code == "ResourceNotFoundException":
        return errors.SecretNotFound(
            f"no secret `{name}`: AWS has no secret `{secret_id}` here", hint="look at its name, `region` and `profile`"
        )
    if code in _REFUSED or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (401, 403):
        return errors.SecretStoreUnreachable(
            f"the secret `{name}` cannot be had, AWS refuses `{secret_id}`: {said}",
            hint="the credentials need `secretsmanager:GetSecretValue` on it, and `kms:Decrypt` on a key of your own",
        )
    if code in _THROTTLED:
        return errors.SecretStoreUnreachable(
            f"the secret `{name}` cannot be had, AWS throttles: {said}",
            hint="set `secret_id`: one secret with a JSON object of all names is read once a process",
        )
    return errors.SecretStoreUnreachable(
        f"the secret `{name}` cannot be had, AWS answers for `{secret_id}`: {code}: {said}",
        hint="look at the secret in the console of AWS",
    )
