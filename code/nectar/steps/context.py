"""What keeps the results of steps: in memory, and in a folder from which another process takes them up again."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nectar import errors, formats, settings
from nectar.code_digest import code_digest
from nectar.steps import keeping
from nectar.stores.renaming import UNSUPPORTED, rename_noreplace, sync_file_system

if TYPE_CHECKING:
    from nectar.steps.step import Step

FORMAT = 1
INDEX = "context.json"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A result, and the digest of the code that it came from; None: nobody knows that."""

    value: Any
    code: str | None


class _Load:
    """`load`, of the class and of an instance alike."""

    def __get__(self, context: Context | None, kind: type[Context]) -> Callable[[str | os.PathLike[str]], Context]:
        def load(path: str | os.PathLike[str]) -> Context:
            """Return a context with the results that `store` wrote to a folder.

            Called on a context, it takes them in, and returns that one.

            Raises:
                UsageError: when there is no such folder, or it is none that `store` wrote.
                NoFormat: when a library that a result needs is not installed.
            """
            found = kind() if context is None else context
            found._kept.update(_read(Path(path)))
            return found

        return load


class Context(Mapping[str, Any]):
    """The results of steps by name. It is handed to steps as `ctx`; threads may share it."""

    load = _Load()  #: `Context.load(path)` gives a new context; called on one, it takes the results in

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def __getitem__(self, name: str) -> Any:
        return self._kept[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._kept))

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, name: object) -> bool:
        return name in self._kept

    def __repr__(self) -> str:
        return f"Context({', '.join(self._kept)})"

    def keep(self, step: Step, result: Any) -> None:
        """Keep the result of a step."""
        self._kept[step.name] = _Kept(result, _code_of(step))

    def remove(self, name: str) -> None:
        """Forget a result: its step runs again.

        Raises:
            UsageError: when there is no such result.
        """
        if name not in self._kept:
            hint = errors.did_you_mean(name, self._kept) or f"there is {', '.join(self._kept) or 'none'}"
            raise errors.UsageError(f"the context has no result `{name}`", hint=hint)
        del self._kept[name]

    def warn_of_drift(self, step: Step) -> None:
        """Warn where the result of a step came from other code than the step has now."""
        kept = self._kept.get(step.name)
        now = _code_of(step)
        if kept is not None and None not in (kept.code, now) and kept.code != now:
            warnings.warn(
                f"the result of `{step.name}` was made by other code than the step has now; "
                f"`ctx.remove({step.name!r})` lets it run again",
                stacklevel=4,
            )

    # Folders

    def store(self, path: str | os.PathLike[str]) -> None:
        """Write all results to a new folder, as a whole or not at all.

        Raises:
            UsageError: when there is something at that path already.
            NoFormat: when results have no safe form in files; with every one of them.
            OSError: when the folder cannot be written.
        """
        place = Path(path)
        if os.path.lexists(place):
            raise _in_the_way(place)
        if not place.parent.is_dir():
            raise errors.UsageError(f"there is no folder `{place.parent}`", hint="make it, or name another path")
        draft = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        try:
            self._write(draft)
            sync_file_system(str(draft))
            draft.chmod(0o755)
            _publish(draft, place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _write(self, folder: Path) -> None:
        writer = keeping.Writer(folder)
        results, problems = [], []
        for number, (name, kept) in enumerate(list(self._kept.items()), 1):
            try:
                tree = writer.tree(kept.value, str(number))
            except errors.NoFormat as problem:
                problems.append((name, problem))
            else:
                results.append({"step": name, "code": kept.code, "value": tree})
        if problems:
            listed = "; ".join(f"`{name}`: {problem.message}" for name, problem in problems)
            raise errors.NoFormat(f"results cannot be stored: {listed}", hint=problems[0][1].hint)
        files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in writer.files}
        document = {"format": FORMAT, "results": results, "files": files}
        (folder / INDEX).write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")


def _read(folder: Path) -> dict[str, _Kept]:
    try:
        raw = (folder / INDEX).read_bytes()
    except OSError as error:
        raise errors.UsageError(
            f"`{folder}` holds no context: {(error.strerror or str(error)).lower()}",
            hint="name a folder that `ctx.store(path)` wrote",
        ) from error
    try:
        document = json.loads(raw)
        if document["format"] != FORMAT:
            raise errors.UsageError(
                f"`{folder}` was stored by another version, in format {document['format']}", hint="update Nectar"
            )
        digests = dict(document["files"])

        def load(name: str) -> Any:
            if name not in digests or "/" in name:
                raise ValueError(f"there is no file `{name}`")
            place = folder / name
            if hashlib.sha256(place.read_bytes()).hexdigest() != digests[name]:
                raise ValueError(f"`{name}` is not what was stored")
            return formats.load(place)

        return {str(one["step"]): _Kept(keeping.read(one["value"], load), one["code"]) for one in document["results"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise errors.UsageError(
            f"`{folder}` is not what was stored: {error}", hint="take a copy of it, or let the steps run again"
        ) from error


def _publish(draft: Path, place: Path) -> None:
    try:
        rename_noreplace(str(draft), str(place))
    except FileExistsError:
        raise _in_the_way(place) from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        if os.path.lexists(place):  # what the file system cannot promise, a look nearly does
            raise _in_the_way(place) from None
        try:
            draft.rename(place)
        except OSError as problem:
            if problem.errno in (errno.EEXIST, errno.ENOTEMPTY):
                raise _in_the_way(place) from None
            raise


def _in_the_way(place: Path) -> errors.UsageError:
    return errors.UsageError(f"there is something at `{place}` already", hint="name a path where nothing is")


def _code_of(step: Step) -> str | None:
    """Return the digest of a step's class, None where nobody can tell, as of a function or a prompt."""
    found = code_digest(type(step), root=settings.current().root)
    return found.digest if found is not None else None
