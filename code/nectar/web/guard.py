"""Let in only requests that are meant for this server and come from somebody who may use it.

A server on this machine's own address is not private: any page in a browser can send requests to it, and a name that
resolves to 127.0.0.1 makes them look like the page's own (DNS rebinding). So the names by which it is addressed are
limited, what comes from another site is refused, and where there are tokens every request needs one.
"""

from __future__ import annotations

import secrets
import urllib.parse
from collections.abc import Callable

from flask import Flask, Response, g, request

from nectar import errors
from nectar.actions.tokens import RUN, hash_of
from nectar.service.whole import Service

OPEN_ENDPOINTS = frozenset({"health.healthz"})  #: that need no token
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

#: of every answer
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def install(app: Flask, service: Service) -> None:
    """Put the guard before every route of an application, those that nobody has written included."""
    names = LOCAL_NAMES | {name.lower() for name in service.settings.serve.allowed_hosts}
    checks: tuple[Callable[[], None], ...] = (
        _check_text,
        lambda: _check_host(names),
        _check_origin,
        lambda: _check_token(service),
        _check_body,
    )

    @app.before_request
    def let_in() -> None:
        g.request_id = secrets.token_hex(8)
        for check in checks:
            check()

    @app.after_request
    def harden(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["X-Request-Id"] = g.get("request_id") or secrets.token_hex(8)
        response.headers.pop("Server", None)
        return response


def _check_text() -> None:
    """Refuse a path or a query that is no UTF-8, which would be read as something else."""
    try:
        request.environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8")
        urllib.parse.unquote_to_bytes(request.environ.get("QUERY_STRING", "")).decode("utf-8")
    except UnicodeError as error:
        raise errors.UsageError("the address is not UTF-8", hint="encode it as UTF-8, with percent signs") from error


def _check_host(names: frozenset[str]) -> None:
    host = request.environ.get("HTTP_HOST", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name.lower() not in names:
        raise errors.UsageError(
            f"this server is not addressed as `{host[:100]}`" if host else "the request names no host",
            hint="name it in `allowed_hosts` in `[serve]` of configuration/nectar.toml",
        )


def _check_origin() -> None:
    origin = request.headers.get("Origin")
    own = {f"{scheme}://{request.environ['HTTP_HOST']}" for scheme in ("http", "https")}
    site = request.headers.get("Sec-Fetch-Site")
    foreign = origin is not None and origin not in own
    if foreign or site == "cross-site" or (site == "same-site" and request.method not in _SAFE):
        raise errors.Forbidden(
            "pages of other sites may not use this server", hint="send the request from a program, or from its own page"
        )


def _check_token(service: Service) -> None:
    """Refuse a request without a valid token, once there was any: one that was revoked opens nothing."""
    if request.endpoint in OPEN_ENDPOINTS:
        return
    given = request.headers.get("Authorization")
    if given is None and not service.books.tokens():
        return
    kind, _, secret = (given or "").partition(" ")
    # What the database compares is a hash: how far two of them agree says nothing of the secret.
    token = service.books.find_token(hash_of(secret.strip())) if kind.lower() == "bearer" else None
    if token is None:
        raise errors.NotAuthenticated(
            "the request has no valid token" if given else "the request has no token",
            hint="send the header `Authorization: Bearer TOKEN`; `nectar token create NAME` makes one",
        )
    if request.method not in _SAFE and RUN not in token.scopes:
        raise errors.Forbidden(
            f"the token `{token.name}` may only read", hint="`nectar token create NAME --scope run` makes one that may"
        )


def _check_body() -> None:
    """Refuse a body that a page's form could send."""
    kind = request.mimetype
    has_body = bool(request.content_length) or "chunked" in request.headers.get("Transfer-Encoding", "").lower()
    if (kind or has_body) and request.method not in _SAFE and kind != "application/json":
        raise errors.BodyNotSupported(
            f"a body of `{kind[:100]}` is not read" if kind else "a body without a type is not read",
            hint="send JSON, with the header `Content-Type: application/json`; or parameters in the query",
        )
