"""Put together how a run is wanted: by options, tags and a selection, and by a preset. All faults are told at once."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import luigi

from nectar import errors
from nectar.actions.resolve import AND, boolean_parameters, instance_of, split_parameters, task_class
from nectar.chain.finder import find_chain
from nectar.chain.presets import Preset, clashes, faults_of, find_preset, invalid, texts
from nectar.chain.project import load_module
from nectar.errors import ParameterProblem
from nectar.execution.choice import Options, faults
from nectar.execution.choice import invalid as invalid_options
from nectar.plans import Force
from nectar.recording.capture import Echo
from nectar.settings import Settings

Asked = luigi.Task | type[luigi.Task]  #: a class has its parameters from a preset, from configuration, or by default


def preset_of(task: Asked, preset: str | Preset | None) -> Preset | None:
    """Return the preset that is meant: one of the chain that defines the task, or one that is given itself.

    Raises:
        PresetNotFound, PresetInvalid: when there is none of this name, or presets are not right, with all that is not.
    """
    if isinstance(preset, Preset):
        found = faults_of(preset)
        if found:
            raise invalid(found, None)
        return preset
    if preset is None:
        return None
    module = sys.modules[_class_of(task).__module__]
    return find_preset(module, module.__name__, preset)


def task_with_preset(
    settings: Settings, chain_text: str, task_name: str, words: Sequence[str], name: str, given: Mapping[str, str]
) -> tuple[luigi.Task, Preset]:
    """Return the task that the words of a command line and a preset mean together, and the preset.

    `given` says by which words the rest of what a preset may set was given; see `nectar.chain.presets.clashes`.

    Raises:
        PresetNotFound: when the chain has no preset of this name.
        PresetInvalid: with all that is wrong with the chain's presets, or all that this one sets and is given too, and
            every parameter that is not right.
        ChainNotFound, TaskNotFound, ChainBroken, InvalidParameters: as without a preset.
    """
    if AND in words:
        raise invalid([f"a preset is for one task, and `{AND}` names more"], f"leave out `{AND}`, or the preset")
    chain = find_chain(settings.chains_dir, chain_text)
    cls = task_class(settings, chain, task_name)
    preset = find_preset(load_module(settings, chain), chain.path, name)
    own = split_parameters(words, boolean_parameters(cls))
    told, problems = texts(preset, cls.get_params(), f"`{task_name}` does not have")
    words_of = {f"params.{one}": f"--{one.replace('_', '-')}" for one in own}
    problems = [*clashes(preset, {**given, **words_of}), *problems]
    try:
        made = instance_of(cls, {**told, **own}, task_name)
    except errors.InvalidParameters as error:
        if not problems:
            raise
        problems += error.problems
    if problems:
        hints = dict.fromkeys(one.hint for one in problems if one.hint)
        raise invalid([one.message for one in problems], "; ".join(hints) or None)
    return made, preset


def _class_of(task: Asked) -> type[luigi.Task]:
    return task if isinstance(task, type) else type(task)


def options_of(
    task: Asked,
    run_config: Mapping[str, Any] | None,
    preset: Preset | None,
    tags: Mapping[str, str] | None,
    select: str | None,
) -> Options:
    """Return the options of a run, from what was given and what the preset sets.

    Raises:
        PresetInvalid, OptionsInvalid, SelectionInvalid: the first that applies, with everything that is wrong.
    """
    config = dict(run_config or {})
    problems: list[ParameterProblem] = []
    options = _options(config, preset, dict(tags or {}), select, problems)
    unread = _unread_selection(options.select)
    if unread is not None:
        problems.append(ParameterProblem("select", unread.message, unread.hint))
    of_preset = _preset_problems(preset, task, config, tags or {}, select) if preset is not None else []
    if of_preset:
        listed = [*of_preset, *problems]
        hints = dict.fromkeys(one.hint for one in listed if one.hint)
        raise invalid([one.message for one in listed], "; ".join(hints) or None)
    if unread is not None and len(problems) == 1:
        raise unread
    if problems:
        raise invalid_options(problems)
    return options


def _unread_selection(select: str | None) -> errors.SelectionInvalid | None:
    if not isinstance(select, str):
        return None
    from nectar.selection import parse  # late: most runs have none

    try:
        parse(select)
    except errors.SelectionInvalid as error:
        return error
    return None


def _options(
    config: dict[str, Any],
    preset: Preset | None,
    tags: Mapping[str, str],
    select: str | None,
    problems: list[ParameterProblem],
) -> Options:
    """Return the options of a run; what cannot be is added to the problems, and has its default."""
    read: dict[str, Any] = {}
    for name, value in config.items():
        if name not in _READ:
            hint = errors.did_you_mean(str(name), _READ) or f"there is {', '.join(f'`{one}`' for one in _READ)}"
            problems.append(ParameterProblem(str(name), f"there is no option `{str(name)[:100]}`", hint))
            continue
        kinds, word = _READ[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            problems.append(ParameterProblem(name, f"`{name}` cannot be {value!r}", f"give {word}"))
        elif value is not None:
            read[name] = value
    if "force" in read:
        read["force"] = _force(read["force"], problems)
    if "echo" in read:
        read["echo"] = Echo.SAME if read["echo"] else Echo.NO
    for name, text in tags.items():
        if not isinstance(name, str) or not name or not isinstance(text, str):
            problems.append(ParameterProblem("tags", f"the tag {name!r} cannot be {text!r}", "give names and texts"))
    if select is not None and not isinstance(select, str):
        problems.append(ParameterProblem("select", f"`select` cannot be {select!r}", "give a text"))
    if preset is not None:
        tags = {**preset.tags, **tags}
        select = preset.select if select is None else select
        chosen = {"executor": preset.executor, "workers": preset.workers}
        read = {name: value for name, value in chosen.items() if value is not None} | read
    options = Options(**read, tags=tags, select=select, preset=preset.name if preset is not None else None)
    problems += faults(options)
    return options


_NONE = type(None)
#: option -> types that it may have, and what they are called
_READ: Mapping[str, tuple[tuple[type, ...], str]] = {
    "executor": ((str, _NONE), "a name, such as `processes`"),
    "workers": ((int, _NONE), "a whole number"),
    "scheduler_url": ((str, _NONE), "the address of a luigid"),
    "force": ((str, Force, _NONE), "`nothing`, `roots` or `all`"),
    "fail_fast": ((bool, _NONE), "True or False"),
    "echo": ((bool, _NONE), "True or False"),
}


def _force(value: str, problems: list[ParameterProblem]) -> Force:
    try:
        return Force(value)
    except ValueError:
        problems.append(ParameterProblem("force", f"`force` cannot be {value!r}", f"give {_READ['force'][1]}"))
        return Force.NOTHING


def _preset_problems(
    preset: Preset, task: Asked, config: Mapping[str, Any], tags: Mapping[str, str], select: str | None
) -> list[ParameterProblem]:
    """Return a problem for each thing that the preset sets and that is given too, or that the task does not have."""
    given = {name: f"{name}={config[name]!r}" for name in ("executor", "workers") if config.get(name) is not None}
    given |= {f"tags.{name}": f"the tag {name}" for name in tags}
    if select is not None:
        given["select"] = f"select={select!r}"
    known = _class_of(task)
    _, problems = texts(preset, known.get_params(), f"`{known.__name__}` does not have")
    found = clashes(preset, given) + problems
    if not isinstance(task, type):
        unknown = {one.field for one in problems}
        hint = f"give the class, `{known.__name__}`, and the preset its parameters"
        found += [
            ParameterProblem(name, f"`{task!r}` has its `{name}`, and the preset `{preset.name}` sets it too", hint)
            for name in preset.params
            if name not in unknown
        ]
    return found
