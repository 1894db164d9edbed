"""A real S3 server: Ceph's radosgw before one monitor and one OSD, in a folder and on ports of its own.

It checks signatures and expiry, gives a conditional write exactly one winner, and keeps its data over a restart and
over a `kill -9`. Settings: https://docs.ceph.com/en/pacific/rados/configuration/ and .../radosgw/config-ref/.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guard import PATIENCE_S, Guarded, NotStarted, free_port, wait_for_answer
from s3_client import ACCESS_KEY, SECRET_KEY

#: each program and the Debian package that has it
PROGRAMS = {
    "radosgw": "radosgw",
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "ceph": "ceph-common",
    "ceph-authtool": "ceph-common",
    "radosgw-admin": "ceph-common",
    "monmaptool": "ceph-base",
}
_ATTEMPTS = 3  # another process may take a port between the look and the start

_SETTINGS = """\
[global]
fsid = {fsid}
mon initial members = a
mon host = [v2:127.0.0.1:{mon_port}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind port min = {osd_port}
ms bind port max = {osd_port_last}
keyring = {folder}/keyring
mon data = {folder}/mon
osd data = {folder}/osd
run dir = {folder}
admin socket =
log file =
log to stderr = true
err to stderr = true

# One OSD holds everything, once. All pools together have few placement groups.
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon max pg per osd = 1000
mon allow pool size one = true

# The disk belongs to others, who may have filled it; the file of the OSD is sparse.
mon data avail crit = 1
mon osd full ratio = .99
mon osd backfillfull ratio = .985
mon osd nearfull ratio = .98
osd objectstore = bluestore
bluestore block size = {disk_bytes}
bluestore block create = true
osd memory target = 939524096
osd op num shards = 2

# The monitor collects changes for a second before it proposes them, and radosgw makes eight pools one by one.
paxos propose interval = 0.02
paxos min wait = 0.01

# A request that came before the OSD was there is sent again after these seconds, 5 and 10 by default.
objecter tick interval = 0.2
objecter timeout = 0.5

[client]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw run sync thread = false
rgw enable usage log = false
rgw dns name =
"""


@dataclass(frozen=True)
class Presence:
    """Whether radosgw can be started here: true or false, and why not."""

    missing: tuple[str, ...]  #: Debian packages, in the order of their names

    def __bool__(self) -> bool:
        return not self.missing

    @property
    def hint(self) -> str:
        """Return one line that says what to install, empty where nothing is missing."""
        packages = " ".join(self.missing)
        return packages and f"radosgw is not here: apt-get install --no-install-recommends {packages}"


def radosgw_is_there() -> Presence:
    """Return whether the programs are installed, and if not which Debian packages have them."""
    return Presence(tuple(sorted({package for name, package in PROGRAMS.items() if _program(name) is None})))


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin")


class Radosgw:
    """A cluster in a folder. `start` and `stop` may alternate: the endpoint stays, and so does the data."""

    def __init__(self, folder: Path) -> None:
        """Make the cluster in an empty folder; nothing runs yet."""
        self.folder = folder
        self.port = free_port()
        self._mon_port = free_port()
        self._running: list[Guarded] = []
        self._made = False

    @property
    def endpoint(self) -> str:
        """Return the URL of the gateway, the same after each start."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pids(self) -> list[int]:
        """Return the process ids of monitor, OSD and gateway."""
        return [one.pid for one in self._running]

    def start(self) -> None:
        """Start all processes, and wait until the gateway answers.

        Raises: NotStarted: with what the process that failed said.
        """
        try:
            if not self._made:
                self._make_monitor()
            self._run("ceph-mon", "--foreground", "--id", "a")
            if not self._made:
                self._make_osd()
            self._run("ceph-osd", "--foreground", "--id", "0")
            if not self._made:
                self._call("radosgw-admin", "user", "create", "--uid=test", "--display-name=test",
                           f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")  # fmt: skip
            self._made = True
            gateway = self._run("radosgw", "--foreground", "--name", "client.admin")
            wait_for_answer(gateway, self.port)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End all processes as a shutdown of the machine would; the data stays."""
        while self._running:
            self._running.pop().end(signal.SIGTERM)

    def kill(self) -> None:
        """End all processes as a crash of the machine would; what was acknowledged stays."""
        for one in self._running:
            one.send(signal.SIGKILL)
        while self._running:
            self._running.pop().end()

    def _make_monitor(self) -> None:
        fsid = str(uuid.uuid4())
        osd_port = free_port()
        settings = _SETTINGS.format(
            folder=self.folder,
            fsid=fsid,
            port=self.port,
            mon_port=self._mon_port,
            osd_port=osd_port,
            osd_port_last=osd_port + 100,
            disk_bytes=10 * 1024**3,
        )
        (self.folder / "ceph.conf").write_text(settings, encoding="utf-8")
        keyring, monmap = str(self.folder / "keyring"), str(self.folder / "monmap")
        self._call("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        everything = [word for who in ("mon", "osd", "mgr") for word in ("--cap", who, "allow *")]
        self._call("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *everything)
        osd = ["--cap", "mon", "allow profile osd", "--cap", "osd", "allow *"]
        self._call("ceph-authtool", keyring, "--gen-key", "-n", "osd.0", *osd)
        address = f"[v2:127.0.0.1:{self._mon_port}]"
        self._call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
        (self.folder / "mon").mkdir()
        self._call("ceph-mon", "--mkfs", "--id", "a", "--monmap", monmap, "--keyring", keyring)

    def _make_osd(self) -> None:
        name = str(uuid.uuid4())
        (self.folder / "osd").mkdir()
        self._call("ceph", "osd", "new", name, "0")
        self._call("ceph-osd", "--mkfs", "--id", "0", "--osd-uuid", name)

    def _settings(self) -> list[str]:
        return ["--conf", str(self.folder / "ceph.conf")]

    def _call(self, program: str, *words: str) -> None:
        command = [_program(program) or program, *words, *self._settings()]
        done = subprocess.run(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S
        )
        if done.returncode:
            raise NotStarted(f"`{program} {words[0]}` ended with {done.returncode}\n{done.stdout}{done.stderr}")

    def _run(self, program: str, *words: str) -> Guarded:
        server = Guarded([_program(program) or program, *words, *self._settings()], self.folder)
        self._running.append(server)
        return server


@contextlib.contextmanager
def radosgw_server(within: str | None = None) -> Iterator[Radosgw]:
    """Run a cluster in a temporary folder, and give it when its gateway answers. Several may run at once.

    The folder is made in `within`, or where temporary folders are.

    Its processes end with the block or with this process, whichever comes first.

    Raises: NotStarted: with what the process that failed said.
    """
    with tempfile.TemporaryDirectory(prefix="radosgw-", dir=within, ignore_cleanup_errors=True) as place:
        for attempt in range(_ATTEMPTS):
            folder = Path(place, str(attempt))
            folder.mkdir()
            cluster = Radosgw(folder)
            try:
                cluster.start()
                break
            except NotStarted:
                if attempt == _ATTEMPTS - 1:
                    raise
        try:
            yield cluster
        finally:
            cluster.kill()
