"""Requests are told apart: a key belongs to one request, and a token is known by its hash."""

from __future__ import annotations

import pytest
from run_samples import NOW, at_once, moment

from nectar import errors
from nectar.runs import RunStore, open_books


def test_a_key_belongs_to_the_run_that_came_first(books: RunStore) -> None:
    assert books.idempotency("key", "digest", "run-1", at=NOW) == "run-1"
    assert books.idempotency("key", "digest", "run-2", at=moment(9)) == "run-1"
    assert books.idempotency("other", "digest", "run-3", at=NOW) == "run-3"


def test_a_key_with_another_request_is_a_conflict(books: RunStore) -> None:
    books.idempotency("key", "digest", "run-1", at=NOW)
    with pytest.raises(errors.IdempotencyConflict) as conflict:
        books.idempotency("key", "another", "run-1", at=NOW)
    assert conflict.value.http_status == 409


def _use_key(number: int, url: str) -> str:
    store = open_books(url)
    try:
        return store.idempotency("key", "digest", f"run-{number}", at=NOW)
    finally:
        store.close()


def test_one_key_used_by_several_processes_at_once_gives_them_one_run(books: RunStore, books_url: str) -> None:
    books.tokens()
    assert len(set(at_once(4, _use_key, books_url))) == 1


def test_a_token_is_found_by_its_hash_until_it_is_revoked(books: RunStore) -> None:
    token = books.add_token("ci", "hash-1", ["run", "read"], at=NOW)
    assert (token.name, token.scopes, token.created_at, token.revoked_at) == ("ci", ("read", "run"), NOW, None)
    assert books.find_token("hash-1") == token
    assert books.find_token("hash-2") is None
    revoked = books.revoke_token("ci", at=moment(1))
    assert books.find_token("hash-1") is None
    assert books.revoke_token("ci", at=moment(2)) == revoked
    assert list(books.tokens()) == [revoked]
    assert "hash-1" not in str(revoked.to_json())


def test_a_second_token_of_the_same_name_or_secret_is_refused(books: RunStore) -> None:
    token = books.add_token("ci", "hash-1", ["read"], at=NOW)
    assert books.add_token("ci", "hash-1", ["read"], at=moment(1)) == token
    for name, secret_hash, scopes in (("ci", "hash-2", ["read"]), ("cd", "hash-1", ["read"]), ("ci", "hash-1", [])):
        with pytest.raises(errors.TokenExists):
            books.add_token(name, secret_hash, scopes, at=NOW)


def test_tokens_are_listed_by_name(books: RunStore) -> None:
    for name in ("b", "a", "c"):
        books.add_token(name, f"hash of {name}", ["read"], at=NOW)
    assert [token.name for token in books.tokens()] == ["a", "b", "c"]


def test_a_token_that_is_not_there_cannot_be_revoked(books: RunStore) -> None:
    with pytest.raises(errors.TokenNotFound):
        books.revoke_token("nobody", at=NOW)
