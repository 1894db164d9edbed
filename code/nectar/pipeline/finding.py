"""Find the implementations of services by their names: those that are built in, and those of other packages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, TypeVar

from nectar import errors
from nectar.errors import ParameterProblem

_Made = TypeVar("_Made")


def find(group: str, what: str, name: str, built_in: Mapping[str, _Made]) -> _Made:
    """Return what a name means: built in, else an entry point of a group.

    Raises:
        OptionsInvalid: when nothing has this name, or what has it cannot be imported.
    """
    if name in built_in:
        return built_in[name]
    found = {one.name: one for one in entry_points(group=group)}
    if name not in found:
        known = sorted({*built_in, *found})
        hint = errors.did_you_mean(name, known) or f"there is {', '.join(f'`{one}`' for one in known)}"
        raise errors.OptionsInvalid(f"no {what} `{name}`", hint=hint)
    try:
        loaded: _Made = found[name].load()
    except Exception as error:  # another package's code
        raise errors.OptionsInvalid(
            f"the {what} `{name}` cannot be imported: {error}", hint=f"look at the package of `{found[name].value}`"
        ) from error
    return loaded


def offered(group: str) -> tuple[str, ...]:
    """Return the names that other packages offer in a group."""
    return tuple(sorted({one.name for one in entry_points(group=group)}))


def unknown_settings(what: str, given: Mapping[str, Any], known: Iterable[str]) -> Sequence[ParameterProblem]:
    """Return a problem for each setting of a service that it does not have."""
    names = sorted(known)
    return [
        ParameterProblem(
            f"{what}.config.{name}",
            f"{what} has no setting `{name}`",
            errors.did_you_mean(name, names) or (f"it has {', '.join(names)}" if names else "it has none"),
        )
        for name in given
        if name not in names
    ]
