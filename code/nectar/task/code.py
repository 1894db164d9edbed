"""Say what the code of a task class is, and whether it is the code that a record names."""

from __future__ import annotations

import hashlib
import re
import sys
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nectar import errors, settings
from nectar.records import Encoded
from nectar.task import ground

if TYPE_CHECKING:
    from nectar.code_digest import CodeDigest


def module_name(cls: type) -> str:
    """Return the importable name of a class's module; for a script its own place in the project, never `__main__`."""
    name = cls.__module__
    if name not in ("__main__", "__mp_main__"):
        return name
    main = sys.modules[name]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if file is None:
        return "__main__"  # a notebook or a prompt
    path, root = Path(file).resolve().with_suffix(""), settings.current().root.resolve()
    parts = path.relative_to(root).parts if path.is_relative_to(root) else (path.name,)
    return ".".join(re.sub(r"^(?=\d)|\W", "_", part) for part in parts)


def digest(cls: type) -> CodeDigest | None:
    """Return the digest of a task's code, None where there is no source, or not any more the one that was imported.

    A record must not name code that did not run: a file that was edited after the class was made says nothing of it.
    """
    return _look_at(cls).digest


def as_recorded(cls: type) -> Mapping[str, Any] | None:
    """Return `{"digest", "parts"}` for a record, None where `digest` gives None."""
    return _look_at(cls).recorded


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found of a class, and in which epoch and project."""

    place: tuple[int, Path]
    digest: CodeDigest | None
    recorded: Encoded | None


def _look_at(cls: type) -> _Known:
    place = (ground.epoch(), settings.current().root)
    known = _known.get(cls)
    if known is None or known.place != place:
        found = _digest(cls, settings.current().root)
        recorded = None if found is None else Encoded({"digest": found.digest, "parts": dict(found.parts)})
        known = _known[cls] = _Known(place, found, recorded)
    return known


_known: weakref.WeakKeyDictionary[type, _Known] = weakref.WeakKeyDictionary()


def _digest(cls: type, root: Path) -> CodeDigest | None:
    from nectar.code_digest import CodeDigest, code_digest  # late: it parses source, and many commands never ask

    if not getattr(cls, "has_code", True):
        return CodeDigest(hashlib.sha256().hexdigest(), {})
    found = code_digest(cls, root=root)
    if found is None:
        return None
    defined_ns: int = getattr(cls, "_nectar_defined_ns", 0)
    return None if defined_ns < found.changed_ns <= time.time_ns() else found


def digest_or_fail(cls: type) -> CodeDigest:
    """Return the digest of a task's code.

    Raises:
        IdentityError: where there is no source to look at.
    """
    found = digest(cls)
    if found is None:
        raise errors.IdentityError(
            f"the version of `{cls.__name__}` is its code, but its source is not there or was edited after its import",
            hint="define the class in a file of the project and start anew, or give it a `version` of your own",
        )
    return found


def drifted(cls: type, recorded: Mapping[str, Any] | None) -> bool:
    """Say whether a record names other code than the class has; unknown code has not drifted."""
    if recorded is None:
        return False
    found = digest(cls)
    return found is not None and found.digest != recorded.get("digest")
