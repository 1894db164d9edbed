"""Keep run logs: nowhere but on the screen, in a folder, or in the run store."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from nectar import errors, settings
from nectar.extensions import find
from nectar.pipeline.model import Service
from nectar.pipeline.vocabulary import GROUPS
from nectar.runs import open_books
from nectar.runs.values import check_run_id


class RunLogStore(Protocol):
    """Where run logs are kept."""

    def keep(self, run_id: str, document: Mapping[str, Any]) -> None:
        """Keep the run log of a run, in the place of an earlier one of it.

        Raises:
            RunStoreUnreachable: when it cannot be kept.
        """

    def read(self, run_id: str) -> dict[str, Any] | None:
        """Return the run log of a run, None where there is none."""


MakeRunLogStore = Callable[[Mapping[str, Any]], RunLogStore]  #: from its settings


class Buffered:
    """Keeps them for as long as this process lives."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._kept: dict[str, dict[str, Any]] = {}

    def keep(self, run_id: str, document: Mapping[str, Any]) -> None:
        self._kept[run_id] = dict(document)

    def read(self, run_id: str) -> dict[str, Any] | None:
        return self._kept.get(run_id)


class FileSystem:
    """Keeps each in a file, `<location>/<run>.json`; `location` is `.run_log_store` by default."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._folder = Path(str(config.get("location", ".run_log_store")))

    def keep(self, run_id: str, document: Mapping[str, Any]) -> None:
        place = self._folder / f"{check_run_id(run_id)}.json"
        unfinished = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                unfinished.write_text(json.dumps(document, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
                os.replace(unfinished, place)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise errors.RunStoreUnreachable(
                f"the run log cannot be kept in `{self._folder}`: {os.strerror(error.errno or 0).lower()}",
                hint="look at the folder, or name another `location` of the run log store",
            ) from error

    def read(self, run_id: str) -> dict[str, Any] | None:
        try:
            return dict(json.loads((self._folder / f"{check_run_id(run_id)}.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None


class Database:
    """Keeps them in the run store, beside the history; `url` names another one."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._url = str(config.get("url") or settings.current().run_store_url)

    def keep(self, run_id: str, document: Mapping[str, Any]) -> None:
        books = open_books(self._url)
        try:
            books.keep_run_log(run_id, document)
        finally:
            books.close()

    def read(self, run_id: str) -> dict[str, Any] | None:
        books = open_books(self._url)
        try:
            return books.run_log(run_id)
        finally:
            books.close()


BUILT_IN: Mapping[str, MakeRunLogStore] = {"buffered": Buffered, "file-system": FileSystem, "database": Database}
SETTINGS = {
    "buffered": frozenset[str](),
    "file-system": frozenset({"location"}),
    "database": frozenset({"url"}),
}


def make_run_log_store(service: Service) -> RunLogStore:
    """Return the run log store that a service names.

    Raises:
        OptionsInvalid: when there is none of this type, or another package's does not take its settings.
    """
    make: MakeRunLogStore = find(GROUPS["run_log_store"], "run log store", service.type, BUILT_IN)
    try:
        return make(service.config)
    except errors.NectarError:
        raise
    except Exception as error:  # another package's code
        raise errors.OptionsInvalid(
            f"the run log store `{service.type}` does not take its settings: {type(error).__name__}: {error}",
            hint=f"its settings are {dict(service.config)}",
        ) from error
