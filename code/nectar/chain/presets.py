"""Read the presets that a chain declares: named ways to run its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from nectar import errors
from nectar.chain.finder import PRESETS
from nectar.errors import ParameterProblem


@dataclass(frozen=True)
class Preset:
    """One way to run a task, under a name: `nectar run --preset NAME`.

    A chain lists its own as `PRESETS = [nectar.Preset("daily", params={"month": 3}, workers=4)]`. Nothing is checked
    before one is asked for, or listed: a preset that is not right breaks no chain.
    """

    name: str  #: no two of a chain have the same
    params: Mapping[str, Any] = field(default_factory=dict)  #: of the task that is asked for: values, or their texts
    select: str | None = None  #: what alone is made, as in `nectar run --select`
    tags: Mapping[str, str] = field(default_factory=dict)  #: of the run
    executor: str | None = None
    workers: int | None = None

    def sets(self) -> list[str]:
        """Return what the preset decides: `params.month`, `select`, `tags.team`, `executor`, `workers`."""
        found = [*(f"params.{name}" for name in self.params), *(f"tags.{name}" for name in self.tags)]
        return found + [name for name in ("select", "executor", "workers") if getattr(self, name) is not None]


def declared(module: ModuleType) -> tuple[list[Preset], list[str]]:
    """Return the presets of a chain's module that are right in themselves, and what is wrong with the others."""
    listed = getattr(module, PRESETS, ())
    if not isinstance(listed, (list, tuple)):
        return [], [f"`{PRESETS}` is a {type(listed).__name__}, not a list of presets"]
    presets: dict[str, Preset] = {}
    faults: list[str] = []
    for number, one in enumerate(listed, 1):
        if not isinstance(one, Preset):
            faults.append(f"number {number} of `{PRESETS}` is a {type(one).__name__}, not a `nectar.Preset`")
            continue
        found = faults_of(one)
        faults += found
        if not found and one.name in presets:
            faults.append(f"two presets have the name `{one.name}`")
        elif not found:
            presets[one.name] = one
    return list(presets.values()), faults


def faults_of(preset: Preset) -> list[str]:
    """Return what is wrong with a preset in itself, whatever the tasks are that it is for."""
    if not isinstance(preset.name, str) or not preset.name.strip() or not preset.name.isprintable():
        return [f"the name of a preset is {preset.name!r}, which nobody can type"]
    faults = []
    for what in ("params", "tags"):
        value = getattr(preset, what)
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            faults.append(f"`{what}` of the preset `{preset.name}` is no mapping from names")
        elif what == "tags" and not all(isinstance(text, str) for text in value.values()):
            faults.append(f"`tags` of the preset `{preset.name}` has a value that is no text")
    for what in ("select", "executor"):
        if getattr(preset, what) is not None and not isinstance(getattr(preset, what), str):
            faults.append(f"`{what}` of the preset `{preset.name}` is no text")
    workers = preset.workers
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
        faults.append(f"`workers` of the preset `{preset.name}` is {workers!r}, not a whole number from 1 up")
    return faults


def find_preset(module: ModuleType, chain: str, name: str) -> Preset:
    """Return the preset of this name.

    Raises:
        PresetInvalid: with everything that is wrong with the chain's presets, not only the first.
        PresetNotFound: when there is none; the hint names the nearest.
    """
    presets, faults = declared(module)
    if faults:
        raise invalid(faults, f"look at `{PRESETS}` of `{chain}`")
    known = {one.name: one for one in presets}
    if name not in known:
        listed = f"its presets are {', '.join(f'`{one}`' for one in known)}" if known else f"it has no `{PRESETS}`"
        raise errors.PresetNotFound(
            f"no preset `{name[:100]}` in `{chain}`", hint=errors.did_you_mean(name, known) or listed
        )
    return known[name]


def invalid(faults: Sequence[str], hint: str | None) -> errors.PresetInvalid:
    """Return the error for some faults of presets."""
    return errors.PresetInvalid("; ".join(faults), hint=hint)


def clashes(preset: Preset, given: Mapping[str, str]) -> list[ParameterProblem]:
    """Return a problem for each thing that was given and that the preset sets, too.

    `given` has the names of `Preset.sets`, each with the words by which it was given.
    """
    return [
        ParameterProblem(
            what, f"`{given[what]}` is given, and the preset `{preset.name}` sets it too", "leave one of them out"
        )
        for what in preset.sets()
        if what in given
    ]


def texts(
    preset: Preset, parameters: Iterable[tuple[str, Any]], who_lacks: str
) -> tuple[dict[str, str], list[ParameterProblem]]:
    """Return the texts of a preset's parameters as a command line has them, and a problem for each that has none.

    `who_lacks` ends the sentence about one that is not among the `parameters`: "`LoadTask` does not have".
    """
    known = dict(parameters)
    found: dict[str, str] = {}
    problems = []
    for name, value in preset.params.items():
        if name not in known:
            message = f"the preset `{preset.name}` sets `{name}`, which {who_lacks}"
            problems.append(ParameterProblem(name, message, errors.did_you_mean(name, known)))
            continue
        try:
            found[name] = value if isinstance(value, str) else str(known[name].serialize(value))
        except Exception as error:  # a parameter's own code: whatever it raises, the value has no text
            message = f"the preset `{preset.name}` sets `{name}` to what it cannot be: {error}"
            problems.append(ParameterProblem(name, message, f"`{name}` is a luigi {type(known[name]).__name__}"))
    return found, problems
