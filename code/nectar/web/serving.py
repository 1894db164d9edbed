"""Serve a service by waitress, until it is told to end.

The numbers for waitress are measured: so it held 10,000 clients, and 900 that send their headers slowly.
"""

from __future__ import annotations

import ipaddress
import json
import resource
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import create_server
from waitress.task import ErrorTask

from nectar import errors
from nectar.service.whole import Service
from nectar.web.app import BODY_LIMIT, make_app
from nectar.web.envelope import fault
from nectar.web.guard import HEADERS

THREADS = 16  #: that answer requests; half of them may be taken by streams of events
CONNECTIONS = 2000  #: open at the same time, where the system lets us have so many; others wait to be let in
OTHER_FILES = 200  #: that are open beside them: the books, templates, what is served
HEADER_LIMIT = 64 << 10  #: bytes of a request's line and headers
LINGER_S = 5.0  #: seconds for which the rest of a refused request is read and ignored
LINGER_BYTES = 100 << 20  #: of it, at most
_BLOCK = 1 << 16


#: what waitress refuses by itself: code and hint by status
_REFUSED: dict[int, tuple[str, str | None]] = {
    400: ("bad-request", None),
    413: ("body-too-large", f"send {BODY_LIMIT >> 20} MiB at most"),
    431: ("headers-too-large", f"send {HEADER_LIMIT >> 10} KiB at most, or parameters as JSON"),
    501: ("not-implemented", "send the body as it is, or in chunks"),
}


class _Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """The reader of requests, for which whatever cannot be read is refused."""

    path: str

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # of `http://[` for an address, or a length of thousands of digits
            raise ParsingError("it cannot be read") from error
        self.path = self.path or "/"  # as of `http://localhost`; Flask would lead there by a page

    def received(self, data: bytes) -> int:
        consumed = int(super().received(data))
        if self.completed:
            # Refused, or without a body. To ask for more would make waitress take the next request for a part of it.
            self.expect_continue = False
        return consumed


class _Refusal(ErrorTask):  # type: ignore[misc]
    """The answer to what is no request, or too large for one, in the shape of all answers."""

    def execute(self) -> None:
        refused = self.request.error
        request_id = secrets.token_hex(8)
        code, hint = _REFUSED.get(refused.code, ("internal", None))
        document = fault(refused.code, str(refused.reason).lower(), code, hint, request_id=request_id)
        body = json.dumps(document).encode("ascii")
        self.status = f"{refused.code} {refused.reason}"
        named = {**HEADERS, "Content-Type": "application/json", "X-Request-Id": request_id}
        self.response_headers += list(named.items())
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)
        self.channel.refused = True


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection. After a refusal it stays for what the client is still sending, which nobody looks at.

    To close it at once would reset it, and many a client would see that instead of the answer
    (https://www.rfc-editor.org/rfc/rfc9112#section-9.6).
    """

    parser_class = _Parser
    error_task_class = _Refusal
    refused = False
    _leaves_at: float | None = None  # by `time.monotonic`
    _ignored = 0  # bytes

    def readable(self) -> bool:
        return self._leaves_at is not None or bool(super().readable())

    def handle_close(self) -> None:
        if not self.refused or self._leaves_at is not None:
            super().handle_close()
            return
        self._leaves_at = time.monotonic() + LINGER_S
        self.will_close = False
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # the client is gone
            super().handle_close()

    def handle_read(self) -> None:
        if self._leaves_at is None:
            super().handle_read()
            return
        self._ignored += len(self.recv(_BLOCK))  # which closes the connection at its end
        if self._ignored > LINGER_BYTES or time.monotonic() > self._leaves_at:
            self.handle_close()


def check_closed(service: Service, host: str) -> None:
    """Make sure that a server which others can reach is closed to them.

    Raises:
        UsageError: when it would listen on more than this machine's own address without tokens and names.
    """
    if _is_own(host):
        return
    lacking = []
    if not any(token.revoked_at is None for token in service.books.tokens()):
        lacking.append("make a token: `nectar token create NAME --scope run`")
    if not service.settings.serve.allowed_hosts:
        lacking.append("name the hosts by which it is addressed: `allowed_hosts` in `[serve]`")
    if lacking:
        raise errors.UsageError(f"`{host}` can be reached from other machines", hint="; ".join(lacking))


def _is_own(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    service: Service, host: str, port: int, listening: Callable[[str], None], ending: Callable[[int], None]
) -> None:
    """Answer requests until SIGTERM or SIGINT; then take no more runs, and end when those at work have.

    `listening` is told the URL once requests are answered; port 0 takes a free one. `ending` is told, after the first
    signal, how many runs are at work. A second signal ends at once; runs at work go on, and the next server finds them.

    Raises:
        UsageError: when the address is in use, cannot be listened on, or would be open to others.
    """
    check_closed(service, host)
    try:
        server = create_server(
            make_app(service),
            host=host,
            port=port,
            threads=THREADS,
            ident=None,
            connection_limit=_connections(),
            channel_timeout=20,
            asyncore_use_poll=True,
            max_request_body_size=BODY_LIMIT + 1,  # waitress refuses what is as large as this
            max_request_header_size=HEADER_LIMIT,
            clear_untrusted_proxy_headers=True,
            **_behind(service.settings.serve.proxy),
            backlog=4096,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise errors.UsageError(
            f"nobody can listen on `{host}`, port {port}: {reason.lower()}",
            hint="name another port, such as `--port 5001`; 0 takes a free one",
        ) from error
    for one in getattr(server, "map", {}).values() if hasattr(server, "map") else [server]:
        if hasattr(one, "channel_class"):
            one.channel_class = _Channel
    with _Ending(service, server, ending):
        service.start()
        shown = f"[{host}]" if ":" in host else host
        listening(f"http://{shown}:{_port_of(server)}")
        try:
            server.run()
        except SystemExit:
            pass
        finally:
            server.close()


def _behind(proxy: str | None) -> dict[str, Any]:
    """Return what makes waitress believe a proxy how clients address it."""
    if proxy is None:
        return {}
    return {"trusted_proxy": proxy, "trusted_proxy_headers": {"x-forwarded-proto", "x-forwarded-host"}}


def _connections() -> int:
    """Return for how many connections there is room, once this process may open as many files as it can be let.

    Where connections took the last of them, nobody would be answered, nor a chain be found.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(min(CONNECTIONS, soft - OTHER_FILES), THREADS)


def _port_of(server: Any) -> int:
    return int(getattr(server, "effective_port", None) or server.effective_listen[0][1])


class _Ending:
    """How the server ends: the first signal lets it finish, the second does not."""

    def __init__(self, service: Service, server: Any, told: Callable[[int], None]) -> None:
        self._service, self._server, self._told = service, server, told
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Ending:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise SystemExit
        self._asked = True
        threading.Thread(target=self._drain, name="nectar-drain", daemon=True).start()

    def _drain(self) -> None:
        """Requests are still answered meanwhile: who waits for a run sees how it ends."""
        self._told(self._service.supervisor.at_work)
        self._service.supervisor.drain(self._service.settings.serve.drain_s)
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGTERM)  # which waits in a system call
