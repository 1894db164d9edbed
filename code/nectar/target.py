"""Stand for one output file of a task, at its staging place while the task makes it and at its final place after."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

from luigi.format import get_default_format
from luigi.local_target import LocalFileSystem, atomic_file
from luigi.target import FileSystem, FileSystemTarget

from nectar import errors
from nectar.address import Address, check_output_name
from nectar.stores import Reader, Staging, Store

_SHOWN = 10  # rows of a file, in a notebook


class Owner(Protocol):
    """What a target needs to know of its task."""

    def target_address(self) -> Address:
        """Return where the task's target lies; known before anything runs."""

    def target_store(self) -> Store:
        """Return the store of the task's target."""

    def target_staging(self) -> Staging | None:
        """Return the place of the attempt that is at work on the task in this process, None where there is none."""


class Target(FileSystemTarget):
    """One output file of a task: a luigi target whose place nobody has to think about.

    `.path` is always a local file: while the task runs the staging place of its own output, otherwise the file in the
    store, or a verified copy of it. `exists()` always means the final place, and that the whole target is complete.
    """

    fs: FileSystem = LocalFileSystem()

    def __init__(self, owner: Owner, name: str, format: Any = None) -> None:
        # FileSystemTarget.__init__ only stores a path, and this one is found out when it is asked for.
        self.owner = owner
        self.name = check_output_name(name)
        self.format = format if format is not None else get_default_format()

    def __repr__(self) -> str:
        return f"Target({self.name!r} of {self.owner!r})"

    def __str__(self) -> str:
        return f"{self.owner.target_address()}/{self.name}"

    @property
    def path(self) -> str:  # type: ignore[override]  # luigi has an attribute here
        """The local file to write or to read."""
        staging = self.owner.target_staging()
        if staging is not None:
            return os.path.join(staging.path, self.name)
        return self._reader().path(self.name)

    @property
    def final_path(self) -> str:
        """The file in the store: a local path where the store is local, an address otherwise, once the task is done."""
        reader = self._reader()
        address = reader.url(self.name)
        return address if address.startswith("s3://") else reader.path(self.name)

    @property
    def url(self) -> str:
        """The address of the final file for other programs, such as `file:///...` or `s3://...`."""
        return self._reader().url(self.name)

    def link(self, *, expires_s: int = 600) -> str:
        """Return an address by which anybody may read the file for so long, where the store can give one; else its URL.

        Raises:
            UsageError: when it is to live for longer than 7 days.
            StoreUnreachable: when the store cannot answer.
        """
        return self._reader().link(self.name, expires_s=expires_s)

    def exists(self) -> bool:
        """Say whether the task's target is complete and has this file.

        Raises:
            StoreUnreachable: when the store cannot answer.
        """
        return self.owner.target_store().inspect(self.owner.target_address(), (self.name,), leftovers=False).complete

    def open(self, mode: str = "r") -> IO[Any]:
        """Open for reading (`r`), or, while the task runs, for writing (`w`); what is written appears on close.

        Raises:
            MissingInput: when there is nothing to read.
            UsageError: for another mode, and for writing while the task does not run.
        """
        kind = mode.replace("b", "").replace("t", "")
        staging = self.owner.target_staging()
        if kind == "w":
            if staging is None:
                raise errors.UsageError(
                    f"`{self}` can be written only while its task runs",
                    hint="write in the task's `run()`; what is complete never changes",
                )
            self.makedirs()
            return _as_file(self.format.pipe_writer(atomic_file(self.path)))
        if kind != "r":
            raise errors.UsageError(f"`{self}` cannot be opened with mode `{mode}`", hint="use `r` or `w`")
        try:
            raw = _open_file(self.path) if staging is not None else self._reader().open(self.name)
        except FileNotFoundError as error:
            raise errors.MissingInput(
                f"`{self}` is not there", hint="run its task first: name it in `requires()`"
            ) from error
        return _as_file(self.format.pipe_reader(raw))

    def dump(self, value: object) -> None:
        """Write a value in the format of the file's suffix; it appears whole or not at all.

        Raises:
            NoFormat: when no safe format belongs to the suffix or the value.
            UsageError: while the task does not run.
        """
        from nectar import formats  # late, as everywhere: most tasks of a run are complete and load nothing

        if self.owner.target_staging() is None:
            self.open("w")  # which says why not
        self.makedirs()
        folder, name = os.path.split(self.path)
        unfinished = os.path.join(folder, f"unfinished-luigi-tmp-{name}")  # the suffix stays: it names the format
        try:
            formats.dump(value, unfinished)
            os.replace(unfinished, self.path)
        finally:
            Path(unfinished).unlink(missing_ok=True)

    def load(self) -> Any:
        """Return the value in the file, by the format of its suffix.

        Raises:
            NoFormat: when no safe format belongs to the suffix.
            MissingInput: when the file is not there.
        """
        from nectar import formats

        path = self.path
        if not os.path.exists(path):
            raise errors.MissingInput(f"`{self}` is not there", hint="run its task first: name it in `requires()`")
        return formats.load(path)

    def _repr_html_(self) -> str:
        """Show a notebook where the file lies, and how it begins."""
        from nectar import previews
        from nectar.drawing import tables

        address = self.owner.target_address()
        found = self.owner.target_store().inspect(address, (self.name,))
        size = next((one.size for one in found.record.files if one.name == self.name), None) if found.record else None
        told = tables.facts(self.name, [("target", address), ("state", found.state.value), ("bytes", size)])
        if not found.complete:
            return told
        with self._reader().open(self.name) as file:
            begins = previews.preview(self.name, file, _SHOWN)
        if begins.kind == "table":
            return told + tables.table(begins.columns or (), begins.rows, more=begins.more)
        return told + (tables.lines(begins.rows, more=begins.more) if begins.kind == "lines" else "")

    def makedirs(self) -> None:
        """Make the folder for the file, as luigi's own target does; a staging place is there already."""
        if "/" not in self.name and self.owner.target_staging() is not None:
            return
        os.makedirs(os.path.dirname(self.path), exist_ok=True)

    def remove(self) -> None:
        """Take the whole target out of the store; it is kept in quarantine."""
        self.owner.target_store().quarantine(self.owner.target_address(), "removed")

    def _reader(self) -> Reader:
        return self.owner.target_store().reader(self.owner.target_address())


def _open_file(path: str) -> BinaryIO:
    return open(path, "rb")


def _as_file(stream: Any) -> IO[Any]:
    """Return what luigi's formats give, which has no type of its own."""
    return stream  # type: ignore[no-any-return]


def is_unfinished(name: str) -> bool:
    """Say whether a file in a staging place is what an interrupted write left."""
    return "-luigi-tmp-" in name
