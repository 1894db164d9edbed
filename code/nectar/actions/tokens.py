"""Make tokens, the rights to use the server: the books keep hashes, and nobody keeps the secrets."""

from __future__ import annotations

import hashlib
import secrets

from nectar.records import utc_now
from nectar.runs import RunStore, Token

READ, RUN = "read", "run"  #: what a token allows
SCOPES = {READ: (READ,), RUN: (READ, RUN)}  #: who may run may look


def create_token(books: RunStore, name: str, scope: str) -> tuple[Token, str]:
    """Return a new token, and the secret by which it is used.

    Raises:
        TokenExists: when there is one of this name.
    """
    secret = f"nectar_{secrets.token_urlsafe(32)}"
    return books.add_token(name, hash_of(secret), SCOPES[scope], at=utc_now()), secret


def hash_of(secret: str) -> str:
    """Return what is kept of a secret: it is random enough that neither salt nor a slow hash makes it safer."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
