"""Say what the code of a task class is, and whether it is the code that a record names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nectar import errors, settings

if TYPE_CHECKING:
    from nectar.code_digest import CodeDigest


def module_name(cls: type) -> str:
    """Return the importable name of a class's module; for a script its own name in place of `__main__`."""
    if cls.__module__ != "__main__":
        return cls.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


def digest(cls: type) -> CodeDigest | None:
    """Return the digest of a task's code, None where there is no source to look at."""
    from nectar.code_digest import code_digest  # late: it parses source, and many commands never ask

    return code_digest(cls, root=settings.current().root)


def digest_or_fail(cls: type) -> CodeDigest:
    """Return the digest of a task's code.

    Raises:
        IdentityError: where there is no source to look at.
    """
    found = digest(cls)
    if found is None:
        raise errors.IdentityError(
            f"the version of `{cls.__name__}` is its code, but its source cannot be found",
            hint="define the class in a file, or give it a `version` of your own",
        )
    return found


def drifted(cls: type, recorded: Mapping[str, Any] | None) -> bool:
    """Say whether a record names other code than the class has; unknown code has not drifted."""
    if recorded is None:
        return False
    found = digest(cls)
    return found is not None and found.digest != recorded.get("digest")
