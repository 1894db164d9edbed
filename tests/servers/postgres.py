"""A real PostgreSQL server in a folder of its own, reached by a unix socket there; stopped and started by the tests.

The server refuses to run as root: then `setpriv` makes another user of it. Nothing is synced to the disk, which loses
nothing when processes are killed. Settings: https://www.postgresql.org/docs/current/runtime-config.html.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from guard import PATIENCE_S, Guarded, NotStarted, wait_until

PACKAGE = "postgresql"  #: of Debian, which has the programs
_DEBIAN = Path("/usr/lib/postgresql")
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "lc_messages": "C",
}


@dataclass(frozen=True)
class Presence:
    """Whether a server can be started here: true or false, and why not."""

    hint: str  #: one line that says what to install, empty where nothing is missing

    def __bool__(self) -> bool:
        return not self.hint


def postgres_is_there() -> Presence:
    """Return whether server and driver are installed."""
    if _program("postgres") is None or _program("initdb") is None:
        return Presence(f"PostgreSQL is not here: apt-get install --no-install-recommends {PACKAGE}")
    if os.geteuid() == 0 and (shutil.which("setpriv") is None or _user() is None):
        return Presence("PostgreSQL does not run as root, and there is no `setpriv`, or no user to be")
    missing = [name for name in ("psycopg", "sqlalchemy") if importlib.util.find_spec(name) is None]
    return Presence(f"pip install {' '.join(missing)}" if missing else "")


def _program(name: str) -> str | None:
    """Return the path of a program: of the newest version, where Debian has several beside each other."""
    versions = sorted(_DEBIAN.glob("*/bin"), key=lambda folder: int(folder.parent.name.split(".")[0]), reverse=True)
    return shutil.which(name, path=os.pathsep.join(map(str, versions))) or shutil.which(name)


def _user() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _as_another() -> list[str]:
    """Return the words before a command that make another user of root; the server dies with its guard all the same."""
    user = _user() if os.geteuid() == 0 else None
    if user is None:
        return []
    who = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return ["setpriv", *who, "--pdeathsig=KILL"]


class Postgres:
    """A server in a folder. `start`, `stop` and `kill` may alternate: the address stays, and so does the data."""

    def __init__(self, folder: Path) -> None:
        """Make the server's data in an empty folder; nothing runs yet.

        Raises: NotStarted: with what `initdb` said.
        """
        self.folder = folder
        self._data = folder / "data"
        self._server: Guarded | None = None
        user = _user() if os.geteuid() == 0 else None
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        words = [
            "--auth=trust",
            "--username=nectar",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        ]
        self._call("initdb", *words, "--pgdata", str(self._data))

    @property
    def address(self) -> str:
        """Return the address of the server's own database, the same after each start."""
        return self._address("postgres")

    def _address(self, database: str) -> str:
        return f"postgresql://nectar@/{database}?host={quote(str(self.folder))}"

    def start(self) -> None:
        """Start the server, and wait until it answers.

        Raises: NotStarted: with what it said.
        """
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        command = [*_as_another(), _program("postgres") or "postgres", "-D", str(self._data), "-k", str(self.folder)]
        server = self._server = Guarded([*command, *settings], self.folder)

        def answers() -> bool:
            if server.ended:
                raise NotStarted(f"PostgreSQL ended\n{server.said()}")
            return self._run("pg_isready", "--quiet", "--host", str(self.folder)).returncode == 0

        try:
            wait_until(answers, "PostgreSQL answers")
        except TimeoutError as late:
            raise NotStarted(f"{late}\n{server.said()}") from late

    def stop(self) -> None:
        """End the server as its service does: clients are cut off, and what was acknowledged stays."""
        if self._server is not None:
            self._server.end(signal.SIGINT)
            self._server = None

    def kill(self) -> None:
        """End the server as a crash does."""
        if self._server is not None:
            self._server.end(signal.SIGQUIT)
            self._server = None

    def new_database(self) -> str:
        """Return the address of an empty database of its own."""
        name = f"books_{secrets.token_hex(6)}"
        self._call("createdb", "--host", str(self.folder), "--username", "nectar", name)
        return self._address(name)

    def new_schema(self) -> str:
        """Return the address of an empty schema of its own, which costs less than a database."""
        import psycopg

        name = f"books_{secrets.token_hex(6)}"
        with psycopg.connect(self.address, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode("ascii"))
        return f"{self.address}&options=-csearch_path%3D{name}"

    def _call(self, program: str, *words: str) -> None:
        done = self._run(program, *words)
        if done.returncode:
            raise NotStarted(f"`{program}` ended with {done.returncode}\n{done.stdout}{done.stderr}")

    def _run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*_as_another(), _program(program) or program, *words]
        return subprocess.run(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S
        )


@contextlib.contextmanager
def postgres_server(within: str | None = None) -> Iterator[Postgres]:
    """Run a server in a temporary folder, and give it when it answers. Several may run at once.

    The folder is made in `within`, or where temporary folders are.

    It ends with the block or with this process, whichever comes first.

    Raises: NotStarted: with what it said.
    """
    # A unix socket's path has room for 107 characters.
    with tempfile.TemporaryDirectory(prefix="pg-", dir=within, ignore_cleanup_errors=True) as place:
        server = Postgres(Path(place))
        try:
            server.start()
            yield server
        finally:
            server.kill()
