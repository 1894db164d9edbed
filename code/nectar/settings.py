"""Read the configuration file and the environment; nothing else in Nectar does.

A setting comes from the environment (`NECTAR_<NAME>`), else from `configuration/nectar.toml` of the project, else
from its default here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from nectar import errors

CONFIGURATION = Path("configuration") / "nectar.toml"


class Durability(str, Enum):
    """What a commit waits for before it says that a target is there."""

    GROUP = "group"  #: the disk, once for all that is committed together
    EACH = "each"  #: the disk, for each file
    NONE = "none"  #: nothing: a power loss may take finished targets, and may leave torn ones


class Publish(str, Enum):
    """Where new targets go when a shared store is read through."""

    OWN = "own"  #: into one's own store alone
    BOTH = "both"  #: into both; who is first in the shared one wins for everybody


class Drift(str, Enum):
    """What happens when a task's code is not the code that its target's record names."""

    IGNORE = "ignore"  #: nothing
    WARN = "warn"  #: it is shown
    RERUN = "rerun"  #: the target is made again


class IdentityScheme(str, Enum):
    """How the key of a target comes from its task."""

    NECTAR = "nectar"  #: the first 32 hex digits of the output id
    DATANECTAR = "datanectar"  #: the md5 of the joined parameter values


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How to reach S3; what is None comes from the variables and profiles that all AWS tools know."""

    url: str | None = None  #: where `S3Task` puts its targets; None: there is no bucket
    endpoint: str | None = None  #: URL of another server than AWS
    region: str | None = None
    profile: str | None = None
    path_style: bool | None = None  #: None: where the bucket's name has dots, or the server is another one than AWS
    retries: int = 5  #: of one request, after its first try
    timeout_s: int = 60  #: seconds without a byte
    single_writer: bool = False  #: the server need not honour conditional writes: nobody else writes there
    cache_mib: int = 10240  #: of copies of what was read, on the local disk


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """How `nectar serve` listens, and what it carries out."""

    host: str = "127.0.0.1"  #: the address to listen on
    port: int = 5000
    allowed_hosts: tuple[str, ...] = ()  #: names by which requests may address the server, beside those of this machine
    proxy: str | None = None  #: address of a proxy whose X-Forwarded-Proto and X-Forwarded-Host are believed
    runs: int = 2  #: that one server carries out at the same time
    waiting: int = 1000  #: runs in the queue, after which requests for more are refused
    drain_s: int = 30  #: seconds for runs at work to end when the server is told to end; then they are canceled


@dataclass(frozen=True, slots=True)
class SecretsSettings:
    """Where secrets come from."""

    type: str = "do-nothing"  #: the name of a kind of secret stores
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)  #: its own settings


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one project."""

    root: Path  #: the project's folder: the one that holds `chains/`
    store_url: str  #: `file:///...`, `memory://name`, `s3://bucket/prefix`
    shared_url: str | None = None  #: of a store that is read through where `store_url` lacks a target
    publish: Publish = Publish.OWN
    durability: Durability = Durability.GROUP
    drift: Drift = Drift.WARN
    identity: IdentityScheme = IdentityScheme.NECTAR
    attempts_kept: int = 10  #: failed attempts whose logs are kept, for each target
    keep: tuple[str, ...] = ()  #: what `nectar gc` keeps, with all that it was made from: paths, keys, chains, tasks
    s3: S3Settings = S3Settings()
    serve: ServeSettings = ServeSettings()
    secrets: SecretsSettings = SecretsSettings()
    runs_url: str | None = None  #: `sqlite:///...`, `postgresql://...`; None: SQLite in `runs_dir`

    @property
    def chains_dir(self) -> Path:
        """The folder of the chain types."""
        return self.root / "chains"

    @property
    def local_targets(self) -> Path:
        """The folder of the default local store."""
        return self.root / "local_targets"

    @property
    def state_dir(self) -> Path:
        """The folder of what Nectar keeps for itself. All but `runs_dir` may be deleted at any time without a loss."""
        return self.root / ".nectar"

    @property
    def runs_dir(self) -> Path:
        """The folder of the history of runs: what is deleted there is forgotten. No target depends on it."""
        return self.state_dir / "runs"

    @property
    def journals_dir(self) -> Path:
        """The folder in which runs write down what happens, until it is taken into the run store."""
        return self.runs_dir / "journals"

    @property
    def run_store_url(self) -> str:
        """Where the run store is."""
        return self.runs_url or f"sqlite:///{self.runs_dir / 'runs.db'}"


_BUCKET_HINT = "set PROJECT_BUCKET too, or unset ENV (or ENV=local) for `local_targets/`"

_current: Settings | None = None


def current() -> Settings:
    """Return the settings of this process, read on the first call.

    Raises:
        SettingsInvalid: with every bad setting, not only the first.
    """
    global _current
    if _current is None:
        _current = load()
    return _current


def adopt(settings: Settings) -> None:
    """Make these the settings of this process: a worker has those of its engine."""
    global _current
    _current = settings


@contextlib.contextmanager
def overridden(**changes: Any) -> Iterator[Settings]:
    """Change settings of this process for a while; for tests and embedding programs."""
    global _current
    before = current()
    _current = replace(before, **changes)
    try:
        yield _current
    finally:
        _current = before


def load(environ: Mapping[str, str] = os.environ, directory: Path | None = None) -> Settings:
    """Return the settings for a process that starts in `directory`.

    Raises:
        SettingsInvalid: with every bad setting, not only the first.
    """
    root = find_root(environ, directory or Path.cwd())
    problems: list[str] = []
    document = _read(root / CONFIGURATION, problems)
    known = {
        "store": {"url", "shared", "publish", "durability", "attempts_kept"},
        "s3": {one.name for one in fields(S3Settings)},
        "task": {"drift", "identity"},
        "gc": {"keep"},
        "runs": {"url"},
        "serve": {one.name for one in fields(ServeSettings)},
    }
    for section, keys in document.items():
        if section == "secrets" and isinstance(keys, dict):
            continue  # its kind says which keys there are
        if section not in known and section != "secrets":
            problems.append(f"unknown section `[{section}]`")
        elif not isinstance(keys, dict):
            problems.append(f"`{section}` must be a section")
        else:
            problems += [f"unknown key `{key}` in `[{section}]`" for key in keys if key not in known[section]]

    def value(section: str, key: str, variable: str, default: object) -> Any:
        table = document.get(section)
        in_file = table.get(key) if isinstance(table, dict) else None
        return environ.get(variable) or (default if in_file is None else in_file)

    store_url = _store_url(str(value("store", "url", "NECTAR_STORE", "")), root, environ, problems)
    shared = str(value("store", "shared", "NECTAR_SHARED", ""))
    shared_url = _address(shared, root, problems) if shared else None
    if shared_url == store_url:
        problems.append(f"`shared` is the store itself, `{store_url}`")
    settings = Settings(
        root=root,
        store_url=store_url,
        shared_url=shared_url,
        publish=_choice(Publish, value("store", "publish", "NECTAR_PUBLISH", "own"), "publish", problems),
        s3=_s3(value, (store_url, shared_url or ""), environ, problems),
        serve=_serve(value, problems),
        secrets=_secrets(document.get("secrets"), environ, problems),
        runs_url=_runs_url(str(value("runs", "url", "NECTAR_RUNS", "")), root, problems),
        durability=_choice(
            Durability, value("store", "durability", "NECTAR_DURABILITY", "group"), "durability", problems
        ),
        drift=_choice(Drift, value("task", "drift", "NECTAR_DRIFT", "warn"), "drift", problems),
        identity=_choice(IdentityScheme, value("task", "identity", "NECTAR_IDENTITY", "nectar"), "identity", problems),
        attempts_kept=_count(value("store", "attempts_kept", "NECTAR_ATTEMPTS_KEPT", 10), "attempts_kept", problems),
        keep=_texts(value("gc", "keep", "NECTAR_KEEP", ()), "keep", problems),
    )
    if problems:
        raise errors.SettingsInvalid(
            "the settings are not valid: " + "; ".join(problems),
            hint=_BUCKET_HINT
            if problems == [problem for problem in problems if "PROJECT_BUCKET" in problem]
            else f"look at `{CONFIGURATION}` and NECTAR_* variables",
        )
    return settings


def find_root(environ: Mapping[str, str], directory: Path) -> Path:
    """Return the project's folder: `NECTAR_PROJECT`, else the nearest one above that has `chains/`, else `directory`.

    Outside of every project the importable package `chains` decides, so that `luigi --module chains.x.y_chain` finds
    the same targets from any directory.
    """
    if environ.get("NECTAR_PROJECT"):
        return Path(environ["NECTAR_PROJECT"]).resolve()
    for folder in (directory, *directory.parents):
        if (folder / "chains").is_dir() or (folder / CONFIGURATION).is_file():
            return folder
    with contextlib.suppress(ImportError, ValueError):
        found = importlib.util.find_spec("chains")
        for location in (found.submodule_search_locations or ()) if found else ():
            return Path(location).resolve().parent
    return directory


def _read(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"`{path.name}` cannot be read: {error}")
        return {}
    if sys.version_info >= (3, 11):  # late: many projects have no configuration
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except (OSError, ValueError) as error:
        problems.append(f"`{path.name}` cannot be read: {error}")
        return {}


def _s3(
    value: Callable[[str, str, str, object], Any],
    store_urls: Sequence[str],
    environ: Mapping[str, str],
    problems: list[str],
) -> S3Settings:
    def text(key: str) -> str | None:
        return str(value("s3", key, f"NECTAR_S3_{key.upper()}", "")) or None

    def yes_or_no(key: str) -> bool | None:
        given = value("s3", key, f"NECTAR_S3_{key.upper()}", None)
        words = {"true": True, "1": True, "false": False, "0": False}
        if given is None or isinstance(given, bool):
            return given
        if str(given).lower() not in words:
            problems.append(f"`{key}` is `{given}`, not `true` or `false`")
        return words.get(str(given).lower())

    def count(key: str) -> int:
        return _count(value("s3", key, f"NECTAR_S3_{key.upper()}", getattr(S3Settings(), key)), key, problems)

    stage, bucket = environ.get("ENV", ""), environ.get("PROJECT_BUCKET", "")
    derived = [f"s3://{stage}.{bucket}"] if bucket and stage not in ("", "local") else []
    named = [url for url in (store_urls[0], *derived, *store_urls[1:]) if url.startswith("s3://")]
    return S3Settings(
        url=text("url") or next(iter(named), None),
        endpoint=text("endpoint"),
        region=text("region"),
        profile=text("profile"),
        path_style=yes_or_no("path_style"),
        retries=count("retries"),
        timeout_s=count("timeout_s"),
        single_writer=bool(yes_or_no("single_writer")),
        cache_mib=count("cache_mib"),
    )


def _serve(value: Callable[[str, str, str, object], Any], problems: list[str]) -> ServeSettings:
    default = ServeSettings()

    def given(key: str) -> Any:
        return value("serve", key, f"NECTAR_SERVE_{key.upper()}", getattr(default, key))

    numbers = {key: _count(given(key), key, problems) for key in ("port", "runs", "waiting", "drain_s")}
    if numbers["port"] > 65535:
        problems.append(f"`port` is `{numbers['port']}`, not a number up to 65535")
    if numbers["runs"] < 1:
        problems.append("`runs` is `0`: a server that carries out nothing serves nobody")
    hosts = _texts(given("allowed_hosts"), "allowed_hosts", problems)
    proxy = str(given("proxy") or "") or None
    return ServeSettings(host=str(given("host")), allowed_hosts=hosts, proxy=proxy, **numbers)


def _secrets(table: object, environ: Mapping[str, str], problems: list[str]) -> SecretsSettings:
    """Return where secrets come from; where a variable names another type, the file's config is not for it."""
    config = dict(table) if isinstance(table, dict) else {}
    in_file = config.pop("type", SecretsSettings().type)
    if not isinstance(in_file, str):
        problems.append("`type` in `[secrets]` is no text")
        in_file = SecretsSettings().type
    chosen = environ.get("NECTAR_SECRETS_TYPE") or in_file
    return SecretsSettings(chosen, config if chosen == in_file else {})


def _store_url(text: str, root: Path, environ: Mapping[str, str], problems: list[str]) -> str:
    if text:
        return _address(text, root, problems)
    stage = environ.get("ENV", "")
    if stage in ("", "local"):
        return (root / "local_targets").as_uri()
    bucket = environ.get("PROJECT_BUCKET", "")
    if not bucket:
        problems.append(f"ENV is `{stage}` but PROJECT_BUCKET is not set")
    return f"s3://{stage}.{bucket}"


def _address(text: str, root: Path, problems: list[str]) -> str:
    """Return the address of a store that is given as one, or as a folder of the project."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme in ("s3", "file", "memory") and not rest.startswith("//"):
        problems.append(f"the store `{text}` lacks slashes: write `{scheme}://{rest.lstrip('/')}`")
    if scheme == "s3" and {".", ".."}.intersection(rest.split("/")):
        problems.append(f"the store `{text}` has `.` or `..` in it, which are names like any other in a bucket")
    return text if "://" in text else (root / text).resolve().as_uri()


def _runs_url(text: str, root: Path, problems: list[str]) -> str | None:
    scheme, _, rest = text.partition("://")
    if scheme.partition("+")[0] in ("postgresql", "postgres"):
        return text
    if scheme != "sqlite" or not rest.startswith("/") or rest == "/":
        if text:
            shown = f"{scheme}://..." if rest else text  # there may be a password in it
            problems.append(f"the run store `{shown}` is neither `sqlite:///<path>` nor `postgresql://...`")
        return None
    # Three slashes lead to a path relative to the project, four to an absolute one.
    return f"sqlite:///{root / rest[1:]}"


_Choice = TypeVar("_Choice", bound=Enum)


def _choice(kind: type[_Choice], text: object, name: str, problems: list[str]) -> _Choice:
    try:
        return kind(text)
    except ValueError:
        members = list(kind)
        problems.append(f"`{name}` is `{text}`, not one of " + ", ".join(f"`{member.value}`" for member in members))
        return members[0]


def _texts(value: object, name: str, problems: list[str]) -> tuple[str, ...]:
    """Return a list of texts; in a variable they stand between commas."""
    if isinstance(value, str):
        value = [text.strip() for text in value.split(",") if text.strip()]
    if not isinstance(value, (list, tuple)) or not all(isinstance(text, str) and text.strip() for text in value):
        problems.append(f"`{name}` is `{value}`, not a list of texts")
        return ()
    return tuple(text.strip() for text in value)


def _count(value: object, name: str, problems: list[str]) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if number < 0:
        problems.append(f"`{name}` is `{value}`, not a whole number from 0 up")
    return max(number, 0)
