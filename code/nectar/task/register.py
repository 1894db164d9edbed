"""Make task classes and instances fast, and equal where their parameters are.

luigi looks through `dir(cls)` for parameters at every instantiation and caches instances by values that Python holds
for equal (`1`, `True`, `1.0`). Here parameters are found once a class, and instances are cached by canonical values.
"""

from __future__ import annotations

import datetime
import functools
import operator
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.parameter import (
    DuplicateParameterException,
    MissingParameterException,
    UnconsumedParameterWarning,
    UnknownParameterException,
)
from luigi.task_register import Register

from nectar import errors
from nectar.parameters import Canonical, canonical, is_private
from nectar.redaction.known import holds_secret, knows_any

Parameters = list[tuple[str, luigi.Parameter[Any]]]

_HOME = "nectar.task.base"  #: the module of the task classes whose attributes no parameter may hide
_MAY_BE_HIDDEN = frozenset({"version"})  #: a parameter is a good version
_SIMPLE = frozenset({str, int, bool, float, type(None), datetime.date, datetime.datetime, datetime.timedelta})


class TaskRegister(Register):
    """The metaclass of Nectar's tasks."""

    #: raised by every change to any class that can change its parameters
    _changes = 0

    # Luigi's metaclass is an ABC's, which asks in Python what the interpreter knows; nothing is registered with ours.
    __instancecheck__ = type.__instancecheck__
    __subclasscheck__ = type.__subclasscheck__

    def __new__(
        metacls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **keywords: Any
    ) -> TaskRegister:
        make = cast("Callable[..., TaskRegister]", super().__new__)
        made = make(metacls, name, bases, namespace, **keywords)
        made.parameters()  # a parameter that hides something is an error where the class is written
        type.__setattr__(made, "_nectar_defined_ns", time.time_ns())
        return made

    @classmethod
    def _get_namespace(metacls, module_name: str) -> str:
        """Let the module be the namespace, so that equal class names of two chains never meet."""
        return Register._get_namespace(module_name) or "_same_as_python_module"

    def __setattr__(cls, name: str, value: object) -> None:
        if not isinstance(value, luigi.Parameter) and not isinstance(cls.__dict__.get(name), luigi.Parameter):
            super().__setattr__(name, value)
            return
        TaskRegister._changes += 1  # luigi.util.inherits adds parameters to a finished class
        super().__setattr__(name, value)
        cls.parameters()

    def __delattr__(cls, name: str) -> None:
        TaskRegister._changes += 1
        super().__delattr__(name)

    def parameters(cls) -> Parameters:
        """Return the class's parameters in the order of their definition; found once."""
        known: tuple[int, Parameters] | None = cls.__dict__.get("_nectar_parameters")
        if known is None or known[0] != TaskRegister._changes:
            found: dict[str, Any] = {}
            for base in reversed(cls.__mro__):
                found.update(vars(base))
            listed = [(name, value) for name, value in found.items() if isinstance(value, luigi.Parameter)]
            _check_hiding(cls, [name for name, _ in listed])
            listed.sort(key=lambda item: item[1]._counter)
            known = (TaskRegister._changes, listed)
            type.__setattr__(cls, "_nectar_parameters", known)
        return known[1]

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        cache = cast("dict[Any, dict[Any, Any]] | None", getattr(TaskRegister, "_Register__instance_cache"))  # noqa: B009
        parameters = cls.parameters()
        if cache is None:
            return _make(cls, parameters, args, kwargs)[0]
        quick = None
        if len(args) + len(kwargs) == len(parameters):  # no default is involved
            given = (*args, *kwargs.values())
            types = tuple(map(type, given))
            if _SIMPLE.issuperset(types):  # the types count: Python holds 1, True and 1.0 for equal
                spelling = (cls, tuple(kwargs), types)
                quick = cache.get(spelling)
                if quick is None:
                    quick = cache[spelling] = {}
                if (known := quick.get(given)) is not None:
                    return known
        instance, forms = _make(cls, parameters, args, kwargs, cache.get(cls))
        cache.setdefault(cls, {})[forms] = instance
        if quick is not None:
            quick[given] = instance
        return instance


def _check_hiding(cls: type, names: list[str]) -> None:
    """Make sure that no parameter hides what every task of ours has; luigi's own attributes may be parameters."""
    ours: set[str] = set()
    for base in cls.__mro__:
        if base.__module__ == _HOME:
            ours.update(name for name in vars(base) if not name.startswith("_"))
    hiding = sorted((ours - set(dir(luigi.Task)) - _MAY_BE_HIDDEN).intersection(names))
    if hiding:
        listed = ", ".join(f"`{name}`" for name in hiding)
        raise errors.UsageError(
            f"the parameter {listed} of `{cls.__name__}` hides something that every Nectar task has",
            hint="give the parameter another name",
        )


def _make(
    cls: Any,
    parameters: Parameters,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    known: Mapping[tuple[Canonical, ...], Any] | None = None,
) -> tuple[Any, tuple[Canonical, ...]]:
    """Return the instance of these parameters, a known one or a new one, and their canonical forms."""
    values = cls.get_param_values(parameters, args, kwargs)
    forms = _forms(parameters, values)
    instance = known.get(forms) if known is not None else None
    if instance is None:
        instance = cls.__new__(cls, *args, **kwargs)
        _pending[id(instance)] = (args, kwargs, values, forms)  # it does not have to find its values once more
        try:
            instance.__init__(*args, **kwargs)
        finally:
            _pending.pop(id(instance), None)
    return instance, forms


_pending: dict[int, tuple[Any, ...]] = {}


def _forms(parameters: Parameters, values: list[tuple[str, Any]]) -> tuple[Canonical, ...]:
    forms = [
        canonical(parameter, name, value) for (name, parameter), (_, value) in zip(parameters, values, strict=True)
    ]
    if knows_any():
        _refuse_secrets(parameters, forms)
    return tuple(forms)


def _refuse_secrets(parameters: Parameters, forms: list[Canonical]) -> None:
    """Refuse what would write the value of a secret into an identity and all that shows one."""
    found = [
        f"`{name}`"
        for (name, parameter), form in zip(parameters, forms, strict=True)
        if isinstance(form, str) and not is_private(parameter) and holds_secret(form)
    ]
    if found:
        raise errors.IdentityError(
            f"a task is given the value of a secret as its parameter {', '.join(found)}",
            hint="give it the secret's name: let the parameter be a `nectar.SecretParameter`, and reveal it in `run()`",
        )


def values_and_forms(
    task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[tuple[str, Any]], tuple[Canonical, ...]]:
    """Return the parameter values of a new instance and their canonical forms.

    They were found already unless the task has an `__init__` of its own that passes on other arguments.
    """
    pending = _pending.get(id(task))
    if pending is not None:
        given_args, given_kwargs, values, forms = pending
        same_args = len(args) == len(given_args) and all(map(operator.is_, args, given_args))
        if same_args and kwargs.keys() == given_kwargs.keys():
            if all(map(operator.is_, kwargs.values(), map(given_kwargs.get, kwargs))):
                return values, forms
    parameters = type(task).get_params()
    values = type(task).get_param_values(parameters, args, kwargs)
    return values, _forms(parameters, values)


def find_values(
    names: tuple[str, ...], parameters: Parameters, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[tuple[str, Any]]:
    """Return `(name, value)` for each parameter: given ones, then the command line, the configuration, the default.

    `names` are those under which the class is looked up on the command line and in the configuration, its family
    first. The meaning is luigi's (`Task.get_param_values`), without its walk through everything at each call.

    Raises:
        UnknownParameterException, DuplicateParameterException, MissingParameterException: as luigi does.
    """
    known = dict(parameters)
    result: dict[str, Any] = {}
    if args:
        positional = [item for item in parameters if item[1].positional]
        if len(args) > len(positional):
            raise UnknownParameterException(
                f"{_called(names, args, kwargs)}: takes at most {len(positional)} parameters ({len(args)} given)"
            )
        for (name, parameter), value in zip(positional, args, strict=False):
            result[name] = parameter.normalize(value)
    for name, value in kwargs.items():
        if name in result:
            raise DuplicateParameterException(
                f"{_called(names, args, kwargs)}: parameter {name} was already set as a positional parameter"
            )
        if name not in known:
            hint = errors.did_you_mean(name, known)
            raise UnknownParameterException(
                f"{_called(names, args, kwargs)}: unknown parameter {name}" + (f" ({hint})" if hint else "")
            )
        result[name] = known[name].normalize(value)
    if len(result) < len(known):
        for name, parameter in parameters:
            if name not in result:
                result[name] = _default(functools.partial(_called, names, args, kwargs), names, name, parameter)
    return [(name, _hashable(result[name])) for name in known]


def _called(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    return f"{names[0]}[args={args}, kwargs={kwargs}]" if args or kwargs else names[0]


def _hashable(value: Any) -> Any:
    """Return lists and sets as tuples, as luigi does; those of a set in an order that every process has."""
    if isinstance(value, set):
        return tuple(sorted(value, key=repr))
    return tuple(value) if isinstance(value, list) else value


def _default(called: Callable[[], str], names: tuple[str, ...], name: str, parameter: luigi.Parameter[Any]) -> Any:
    try:
        value = default_value(names, name, parameter)
    except Exception as error:  # a parameter's own parse()
        raise ValueError(f"{called()}: Error when parsing the default value of '{name}'") from error
    if value is luigi.parameter._no_value:
        raise MissingParameterException(f"{called()}: requires the '{name}' parameter to be set")
    return parameter.normalize(value)


def default_value(names: tuple[str, ...], name: str, parameter: luigi.Parameter[Any]) -> Any:
    """Return what a parameter is when nobody gives it: luigi's no-value marker where it must be given."""
    no_value = luigi.parameter._no_value
    parser = CmdlineParser.get_instance()
    if parser is not None:
        for task_name in names:
            text = getattr(parser.known_args, f"{task_name}_{name}", None)
            if text:
                return parameter.parse(text)
    config = luigi.configuration.get_config()
    places: list[tuple[str, str]] = [(task_name, name) for task_name in names]
    if parameter._config_path:
        places.append((parameter._config_path["section"], parameter._config_path["name"]))
    for section, option in places:
        if has_section(config, section):
            value = parameter._get_value_from_config(section, option)
            if value is not no_value:
                return value
    return parameter._default


def has_section(config: Any, section: str) -> bool:
    """Say whether luigi's configuration, in whichever of its formats, has a section."""
    ask: Callable[[str], bool] | None = getattr(config, "has_section", None)
    return ask(section) if ask is not None else section in config.sections()


_warned: set[tuple[str, str]] = set()
#: by names: the configuration that has no section of theirs, and how many it had then
_without_section: dict[tuple[str, ...], tuple[Any, int]] = {}


def warn_of_unconsumed(names: tuple[str, ...], parameters: Parameters, ignored: set[str]) -> None:
    """Warn, once, of what a configuration section sets and its task does not have, as luigi does."""
    asked = _without_section.get(names)
    if asked is not None and type(asked[0])._instance is asked[0] and len(asked[0]._sections) == asked[1]:
        return  # to ask luigi for its configuration takes longer than all else here
    config: Any = luigi.configuration.get_config()
    sections = getattr(config, "_sections", None)  # of luigi's own parser; the size tells whether there are new ones
    if sections is not None:
        _without_section[names] = (config, len(sections))
    known = {name for name, _ in parameters}
    for section in names:
        if not has_section(config, section):
            continue
        _without_section.pop(names, None)
        for option, value in config[section].items():
            name = option.replace("-", "_")
            if name in known or name in ignored or (section, name) in _warned:
                continue
            _warned.add((section, name))
            warnings.warn(
                f"The configuration contains the parameter '{name}' with value '{value}' that is not consumed by the "
                f"task '{section}'.",
                UnconsumedParameterWarning,
                stacklevel=2,
            )
