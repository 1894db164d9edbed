"""What a step can ask and tell while it runs: from its own process, and from those that it starts.

A process that a step starts finds by `NECTAR_STEP` the file that holds what it may ask; what it tells is added to
another one beside that, a line of JSON each. They lie where the step's target is made, and are gone before it is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nectar import errors
from nectar.pipeline.catalog import DATA_FOLDER, Surroundings, get_all, make_catalog, put_all
from nectar.pipeline.model import Service
from nectar.pipeline.standing import Entry, Standing, checked_parameters, standing_in
from nectar.secrets import fetching
from nectar.stores import open_store, store_at

VARIABLE = "NECTAR_STEP"  #: the file of a step's context, for the processes that it starts
#: what is called so is no part of a target, also where a process that the step left behind writes it late
_ASKED, _TOLD = "step-luigi-tmp-context.json", "step-luigi-tmp-told.jsonl"


@dataclass(slots=True)
class StepContext:
    """One step at work."""

    step: str  #: its name, for people
    standing: Standing
    values: Mapping[str, Any]  #: of maps, by `iterate_as`
    around: Surroundings
    data_folder: str  #: below the folder in which it works, to which patterns are relative
    catalog: Service
    secrets: Service
    metrics: dict[str, Any] = field(default_factory=dict)  #: reported by processes that it started
    told: Path | None = None  #: the file to which another process adds what it tells
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)  #: threads of a step tell, too
    fetched: set[str] = field(default_factory=set)  #: names of secrets that processes fetched, and this one, too

    @property
    def known(self) -> dict[str, Any]:
        """What it may ask by name: parameters, and above them the values of maps."""
        return {**self.standing.parameters, **self.values}

    def store_parameters(self, values: Mapping[str, Any]) -> None:
        """Set parameters for the steps after this one.

        Raises:
            ResultInvalid: for what cannot be parameters.
        """
        checked = checked_parameters(self.step, values)
        with self._lock:
            self.standing = self.standing.with_parameters(checked)
        self._tell({"parameters": checked})

    def put(self, pattern: str) -> list[Entry]:
        """Put the files of the data folder that match a pattern into the catalog."""
        _check_pattern(self.step, pattern)
        catalog = make_catalog(self.catalog, self.around)
        entries = put_all(
            catalog, Path(self.around.folder, self.data_folder), pattern, self.standing.catalog, self.step
        )
        self._moved(entries, "put")
        return entries

    def get(self, pattern: str, destination: str | None = None) -> list[Entry]:
        """Get the files that match a pattern out of the catalog.

        Raises:
            NotInCatalog: when there is none.
        """
        _check_pattern(self.step, pattern)
        catalog = make_catalog(self.catalog, self.around)
        place = Path(self.around.folder, destination or self.data_folder)
        entries = get_all(catalog, place, pattern, self.standing.catalog, self.step)
        self._moved(entries, "get")
        return entries

    def _moved(self, entries: list[Entry], stage: str) -> None:
        told = [entry.to_json(stage) for entry in entries]
        self._take_moved(told)
        self._tell({"moved": told})

    def _take_moved(self, told: list[dict[str, Any]]) -> None:
        put = [Entry.from_json(one) for one in told if one["stage"] == "put"]
        with self._lock:
            before = self.standing
            moved = (*before.moved, *(one for one in told if one not in before.moved))
            self.standing = replace(before, put={**before.put, **{one.name: one for one in put}}, moved=moved)

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Report metrics from a process that the step started."""
        self.metrics |= metrics
        self._tell({"metrics": dict(metrics)})

    def tell_secret(self, name: str) -> None:
        """Tell from a process that the step started that it has fetched a secret: by its name."""
        self._tell({"secret": name})

    # Between processes

    def share(self) -> dict[str, str]:
        """Write down what a process may ask, and return the variables by which it finds that."""
        asked = {
            "step": self.step,
            "standing": self.standing.to_json(),
            "store": open_store().url,
            "values": dict(self.values),
            "around": asdict(self.around),
            "data_folder": self.data_folder,
            "catalog": self.catalog.to_json(),
            "secrets": self.secrets.to_json(),
        }
        place = os.path.join(self.around.staging, _ASKED)
        with open(place, "w", encoding="utf-8") as file:
            file.write(json.dumps(asked))
        return {VARIABLE: place}

    @contextlib.contextmanager
    def sharing(self) -> Iterator[None]:
        """Let the processes that this one starts meanwhile, or forks, ask and tell."""
        os.environ.update(self.share())
        try:
            yield
        finally:
            os.environ.pop(VARIABLE, None)
            self.hear()

    def hear(self) -> None:
        """Take in what processes told, and share nothing any more."""
        place = os.path.join(self.around.staging, _TOLD)
        self._listen(place)
        for name in (place, os.path.join(self.around.staging, _ASKED)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)

    def learn_secrets(self) -> None:
        """Fetch the secrets that the step's processes have fetched: what they let this one print is masked then.

        What they print themselves, they mask themselves.

        Raises: as `nectar.get_secret`.
        """
        place = os.path.join(self.around.staging, _TOLD)
        with contextlib.suppress(FileNotFoundError), open(place, encoding="utf-8") as lines:
            for line in lines:
                name = json.loads(line).get("secret") if line.endswith("\n") else None  # else it is being written
                if name is not None and name not in self.fetched:
                    fetching.get_secret(name)
                    self.fetched.add(name)

    def _listen(self, place: str | os.PathLike[str]) -> None:
        with contextlib.suppress(FileNotFoundError), open(place, encoding="utf-8") as lines:
            for line in lines:
                told = json.loads(line)
                self.standing = self.standing.with_parameters(told.get("parameters", {}))
                self._take_moved(told.get("moved", []))
                self.metrics |= told.get("metrics", {})

    def _tell(self, told: Mapping[str, Any]) -> None:
        if self.told is not None:
            line = json.dumps(told, ensure_ascii=False) + "\n"
            descriptor = os.open(self.told, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, line.encode("utf-8"))  # one call: lines of several processes stay whole
            finally:
                os.close(descriptor)


_current: StepContext | None = None
_process = 0  #: in which that is; what it forks knows it too, but tells it nothing


@contextlib.contextmanager
def working(context: StepContext) -> Iterator[StepContext]:
    """Make a context that of the step at work in this process."""
    global _current, _process
    before, _current, _process = _current, context, os.getpid()
    try:
        yield context
    finally:
        _current = before


def current() -> StepContext | None:
    """Return the context of the step at work, in this process or in the one that started it; None outside of one."""
    if _current is not None and _process == os.getpid():
        return _current
    shared = os.environ.get(VARIABLE)
    return _read(Path(shared)) if shared else None


def _read(place: Path) -> StepContext | None:
    try:
        asked = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None  # the step has ended: whoever is left asks nobody
    context = StepContext(
        asked["step"],
        standing_in(asked["standing"], store_at(asked["store"])),
        asked["values"],
        Surroundings(**asked["around"]),
        asked["data_folder"],
        Service(**asked["catalog"]),
        Service(**asked["secrets"]),
    )
    told = place.with_name(_TOLD)
    context._listen(told)
    context.told = told
    return context


def _check_pattern(step: str, pattern: str) -> None:
    if not pattern or pattern.startswith("/") or ".." in pattern.split("/") or "\0" in pattern:
        raise errors.UsageError(
            f"the catalog pattern `{pattern}` of `{step}` leads out of the data folder",
            hint=f"patterns are relative to it, such as `*.csv`; it is `{DATA_FOLDER}` by default",
        )
