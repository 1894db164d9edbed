"""Find implementations by their names: those that are built in, and those that other packages offer by entry points."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TypeVar

from nectar import errors

_Made = TypeVar("_Made")


def find(
    group: str,
    what: str,
    name: str,
    built_in: Mapping[str, _Made],
    kind: type[errors.UsageError] = errors.OptionsInvalid,
) -> _Made:
    """Return what a name means: built in, else an entry point of a group.

    Raises:
        OptionsInvalid, or the `kind` that is wanted: when nothing has this name, or what has it cannot be imported.
    """
    if name in built_in:
        return built_in[name]
    found = {one.name: one for one in entry_points(group=group)}
    if name not in found:
        known = sorted({*built_in, *found})
        hint = errors.did_you_mean(name, known) or f"there is {', '.join(f'`{one}`' for one in known)}"
        raise kind(f"no {what} `{name}`", hint=hint)
    try:
        loaded: _Made = found[name].load()
    except Exception as error:  # another package's code
        raise kind(
            f"the {what} `{name}` cannot be imported: {type(error).__name__}: {error}",
            hint=f"look at the package of `{found[name].value}`",
        ) from error
    return loaded


def offered(group: str) -> tuple[str, ...]:
    """Return the names that other packages offer in a group."""
    return tuple(sorted({one.name for one in entry_points(group=group)}))
