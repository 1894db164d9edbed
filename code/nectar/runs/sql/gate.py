"""Keep what requests are told apart by: idempotency keys, and the hashes of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, or_, select, update

from nectar import errors
from nectar.runs.asking import Token
from nectar.runs.sql.rows import insert_if_new, json_text, token_of
from nectar.runs.sql.tables import requests, tokens
from nectar.runs.values import check_run_id, to_micros

# Every request asks one of these: they are put together once.
_ALL = select(tokens).order_by(tokens.c.name)
_VALID = select(tokens).where(tokens.c.hash == bindparam("hash"), tokens.c.revoked_at.is_(None))


def idempotency(connection: Connection, key: str, digest: str, run_id: str, at: datetime) -> str:
    """See `RunStore.idempotency`."""
    check_run_id(run_id)
    insert_if_new(connection, requests, {"key": key, "digest": digest, "run_id": run_id, "at": to_micros(at)})
    found = connection.execute(select(requests).where(requests.c.key == key)).one()
    if found.digest != digest:
        raise errors.IdempotencyConflict(
            f"the idempotency key `{key[:100]}` was used before, with another request",
            hint="give each request a key of its own",
        )
    return str(found.run_id)


def add_token(connection: Connection, name: str, secret_hash: str, scopes: Sequence[str], at: datetime) -> Token:
    """See `RunStore.add_token`."""
    row = {"name": name, "hash": secret_hash, "scopes": json_text(sorted(scopes)), "created_at": to_micros(at)}
    insert_if_new(connection, tokens, row)
    same = or_(tokens.c.name == name, tokens.c.hash == secret_hash)
    for found in connection.execute(select(tokens).where(same)):
        if (found.name, found.hash, found.scopes) == (name, secret_hash, row["scopes"]):
            return token_of(found)
    raise errors.TokenExists(f"there is another token `{name}`, or of the same secret", hint="give it another name")


def tokens_of_all(connection: Connection) -> list[Token]:
    """See `RunStore.tokens`."""
    return [token_of(row) for row in connection.execute(_ALL)]


def revoke_token(connection: Connection, name: str, at: datetime) -> Token:
    """See `RunStore.revoke_token`."""
    valid = (tokens.c.name == name) & tokens.c.revoked_at.is_(None)
    connection.execute(update(tokens).where(valid).values(revoked_at=to_micros(at)))
    found = connection.execute(select(tokens).where(tokens.c.name == name)).one_or_none()
    if found is None:
        raise errors.TokenNotFound(f"there is no token `{name}`", hint="`nectar token list` lists them")
    return token_of(found)


def find_token(connection: Connection, secret_hash: str) -> Token | None:
    """See `RunStore.find_token`."""
    found = connection.execute(_VALID, {"hash": secret_hash}).one_or_none()
    return None if found is None else token_of(found)
