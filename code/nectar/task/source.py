"""Stand for an input file that no task makes: its content counts in the identity of whatever reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import luigi

from nectar import errors, identity
from nectar.identity import Identity
from nectar.recording.sealing import digest_of
from nectar.task.base import Task


class FileTarget(luigi.LocalTarget):
    """An input file."""

    def load(self) -> Any:
        """Return the value in the file, by the format of its suffix.

        Raises:
            NoFormat: when no safe format belongs to the suffix.
        """
        from nectar import formats

        return formats.load(self.path)


class FileSource(Task):
    """An input file that lies outside of the store; `FileSource(path)` goes into `requires()`.

    What counts is the file's name and the sha256 of its content, not the folder it lies in. The file is read anew in
    each plan, so that a changed file makes new targets downstream.
    """

    path: str = luigi.Parameter(description="the file")  # type: ignore[assignment]

    family = "nectar.FileSource"
    reads_file = True
    run = None  # type: ignore[assignment]  # external: luigi's mark

    def output(self) -> FileTarget:
        """Return the file as a luigi target."""
        return FileTarget(self.path)  # type: ignore[no-untyped-call]

    def identity_document(self, inputs: Mapping[str, str]) -> dict[str, Any]:
        """Return what the identity is made of; the file's content, as it was when it was identified, counts.

        Raises:
            MissingInput: when the file cannot be read.
        """
        params = {"name": os.path.basename(self.path)}
        document = identity.task_document(self.identity_family(), self._version_text(), params, inputs, ())
        document["content"] = self._content or _content(self.path)
        return document

    def identify_with(self, inputs: Mapping[str, str]) -> Identity:
        """Return an identity for what the file holds now.

        Raises:
            MissingInput: when the file cannot be read.
        """
        self._signature = _signature(self.path)
        self._content = _content(self.path)
        return super().identify_with(inputs)

    def digests(self) -> dict[str, str]:
        """Return the name of the file and the sha256 of what it held when it was identified.

        Raises:
            MissingInput: when the file cannot be read.
        """
        return {os.path.basename(self.path): self._content or _content(self.path)}

    def check_unchanged(self) -> None:
        """Make sure that the file still is what the identity says.

        Raises:
            IdentityChanged: when its content is another.
            MissingInput: when it cannot be read.
        """
        if not self._content or _signature(self.path) == self._signature:
            return
        if self._content != _content(self.path):
            raise errors.IdentityChanged(
                f"the input file `{self.path}` changed after the plan was made: its content is not what was identified",
                hint="run again when the file is at rest",
            )
        self._signature = _signature(self.path)

    _signature: tuple[int, ...] = ()
    _content: str = ""


def _signature(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise _missing(path, error) from error
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _content(path: str) -> str:
    try:
        return digest_of(path)[1]
    except OSError as error:
        raise _missing(path, error) from error


def _missing(path: str, error: OSError) -> errors.MissingInput:
    return errors.MissingInput(
        f"the input file `{path}` cannot be read: {os.strerror(error.errno or 0).lower()}",
        hint="check the path; a relative one starts at the folder where the command is run",
    )
