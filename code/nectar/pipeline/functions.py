"""The functions that steps call, and programs that steps start."""

from __future__ import annotations

from typing import Any

from nectar import errors, settings
from nectar.pipeline.context import StepContext, current
from nectar.pipeline.services import secrets_settings
from nectar.recording import metrics
from nectar.secrets import fetching


def get_parameter(name: str | None = None) -> Any:
    """Return a parameter's value, a JSON value, or without a name all of them as a mapping.

    Raises:
        ParameterNotSet: when nothing has set it.
        UsageError: outside of a step.
    """
    context = _at_work("get_parameter")
    known = context.known
    if name is None:
        return known
    if name not in known:
        raise not_set(context.step, name, known)
    return known[name]


def store_parameter(**values: Any) -> None:
    """Set parameters for the steps after this one; a value that the step returns for the same name wins.

    Raises:
        ResultInvalid: for values that JSON cannot hold.
        UsageError: outside of a step.
    """
    _at_work("store_parameter").store_parameters(values)


def get_from_catalog(pattern: str, destination: str | None = None) -> list[str]:
    """Write the files that match a pattern into the data folder, or a folder relative to that of the step.

    Returns the names of the files.

    Raises:
        NotInCatalog: when nothing matches.
        UsageError: outside of a step.
    """
    return [entry.name for entry in _at_work("get_from_catalog").get(pattern, destination)]


def put_in_catalog(pattern: str) -> list[str]:
    """Put the files of the data folder that match a pattern into the catalog, and return their names.

    Raises:
        UsageError: outside of a step.
    """
    return [entry.name for entry in _at_work("put_in_catalog").put(pattern)]


def report_metric(name: str, value: Any) -> None:
    """Keep a figure in the record of the task at work; the last value of a name wins.

    A value is a text, a number, a bool, None, or lists and mappings of these. Threads of the task report as the task
    does, and so do the programs that a step of a pipeline starts.

    Raises:
        UsageError: outside of a task's `run()`, and for a value that is no JSON.
    """
    track_this(**{name: value})


def track_this(**values: Any) -> None:
    """Keep figures in the record of the task at work, as `report_metric` does, by their names.

    Raises: as `report_metric`.
    """
    context = current()
    if context is None or context.told is None:
        metrics.track_this(**values)
    else:
        context.report(metrics.checked(values))


def get_secret(name: str) -> str:
    """Return the value of a secret: from the store that the pipeline at work names, or else the project's settings.

    From then on it is masked in all that Nectar writes or shows of this process's tasks. Values of less than four
    characters are not.

    Raises: as `nectar.secrets.fetching.get_secret`.
    """
    context = current()
    if context is None or context.told is None:  # a step at work here has its store in the settings
        return fetching.get_secret(name)
    with settings.overridden(secrets=secrets_settings(context.secrets)):
        value = fetching.get_secret(name)
    context.tell_secret(name)  # before it can be in anything that whoever started this process is told
    return value


def not_set(step: str, name: str, known: Any) -> errors.ParameterNotSet:
    """Return the error for a parameter that nothing has set."""
    hint = errors.did_you_mean(name, known) or f"give it on the command line, `--{name.replace('_', '-')} VALUE`"
    return errors.ParameterNotSet(f"`{step}` needs the parameter `{name}`, which nothing has set", hint=hint)


def _at_work(function: str) -> StepContext:
    context = current()
    if context is None:
        raise errors.UsageError(
            f"`{function}` was called outside of a step", hint="it is for the steps of a pipeline while they run"
        )
    return context
