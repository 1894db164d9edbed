"""Make luigi's own command know our tasks: bare names, truthful exit codes, the project's configuration, runs.

All that Nectar changes in luigi is here, done once at import:

- `luigi --module chains.x.y_chain LoadTask`: a bare name means the class of that module, although the family of our
  tasks is the qualified name.
- A short option such as `--n` is not ambiguous with the qualified options of other families.
- The exit codes of `[retcode]` tell the truth unless a configuration says otherwise.
- `configuration/luigi.cfg` of the project is read before what the user has.
- A run of luigi's scheduler is one run: its attempts share an id, input files are looked at anew, and the stores
  that it asks are in use until it ends.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import luigi.interface
from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import LuigiConfigParser
from luigi.execution_summary import LuigiStatusCode
from luigi.task_register import Register

from nectar import settings
from nectar.recording import run as recording_run
from nectar.recording import uses
from nectar.task.register import TaskRegister

#: https://luigi.readthedocs.io/en/stable/configuration.html#retcode-config suggests these
RETCODES = {
    "already_running": 10,
    "missing_data": 20,
    "not_run": 25,
    "task_failed": 30,
    "scheduling_error": 35,
    "unhandled_exception": 40,
}

_main_module: str | None = None
_epoch = 0


def epoch() -> int:
    """Return a number that grows whenever input files have to be looked at anew."""
    return _epoch


def begin_epoch() -> None:
    """Say that from now on input files may have other contents than before."""
    global _epoch
    _epoch += 1


def set_main_module(name: str | None) -> None:
    """Say in which module a bare task name is looked up first."""
    global _main_module
    _main_module = name


def main_module() -> str | None:
    """Return the module in which a bare task name is looked up first."""
    return _main_module


def configuration_in_use() -> dict[str, dict[str, str]]:
    """Return luigi's configuration as plain data, for another process."""
    config: Any = luigi.configuration.get_config()
    return {section: {key: str(value) for key, value in config[section].items()} for section in config.sections()}


def set_configuration(sections: Mapping[str, Mapping[str, str]]) -> None:
    """Make luigi's configuration of this process that of another."""
    config: Any = luigi.configuration.get_config()
    for section, options in sections.items():
        for option, value in options.items():
            config.set(section, option, value.replace("%", "%%"))


def bare_class(name: str) -> type | None:
    """Return the class that a bare name means: that of the main module, else the only one of that name."""
    found: dict[str, type] = {}
    for cls in cast("list[type]", Register._reg):
        if isinstance(cls, TaskRegister) and cls.__name__ == name and cls._visible_in_registry:  # type: ignore[attr-defined]
            earlier = found.get(cls.__module__)
            if earlier is None or issubclass(cls, earlier):  # a decorator's wrapper takes its class's place
                found[cls.__module__] = cls
    if _main_module in found:
        return found[_main_module]
    return next(iter(found.values())) if len(found) == 1 else None


def lookup_names(cls: type) -> tuple[str, ...]:
    """Return the names under which a class's parameters are looked up: its family, and its bare name if it is its."""
    place = (len(Register._reg), _main_module)
    known = _names.get(cls)
    if known is None or known[0] != place:
        known = _names[cls] = (place, _lookup_names(cls))
    return known[1]


def _lookup_names(cls: type) -> tuple[str, ...]:
    family = cast(str, cls.get_task_family())  # type: ignore[attr-defined]
    name = cls.__name__
    means = bare_class(name)
    is_its = means is not None and (means is cls or issubclass(means, cls))
    return (family, name) if is_its and name != family else (family,)


#: by class: the register's size and the main module then, and the names
_names: dict[type, tuple[tuple[int, str | None], tuple[str, ...]]] = {}


def _stand() -> None:
    """Change luigi; called once, at import."""
    Register._get_reg = classmethod(_with_bare_names(Register._get_reg.__func__))  # type: ignore[attr-defined,assignment,method-assign]
    CmdlineParser._attempt_load_module = staticmethod(  # type: ignore[method-assign]
        _noting_main_module(CmdlineParser._attempt_load_module)
    )
    CmdlineParser._build_parser = staticmethod(  # type: ignore[method-assign]
        _without_abbreviated_families(CmdlineParser._build_parser)
    )
    luigi.interface._schedule_and_run = _as_one_run(luigi.interface._schedule_and_run)
    if os.path.basename(sys.argv[0]) in ("luigi", "__main__.py"):  # the module being loaded is why we are imported
        set_main_module(_module_argument(sys.argv))
    _read_configuration()


def _with_bare_names(inner: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    @functools.wraps(inner)
    def get_reg(register: Any) -> dict[str, Any]:
        found = inner(register)
        for name in {cls.__name__ for cls in found.values() if isinstance(cls, TaskRegister)}:
            if name not in found and (cls := bare_class(name)) is not None:
                found[name] = cls
        return found

    return get_reg


def _without_abbreviated_families(inner: Callable[..., Any]) -> Callable[..., Any]:
    """Let argparse complete `--loc` to `--local-scheduler`, but never `--n` to an option named after a task's family.

    luigi parses once before it knows the root task and its parameters; there `--n` would be ambiguous with every
    family whose name begins so, and ours begin with the names of packages.
    """

    @functools.wraps(inner)
    def build_parser(*args: Any, **kwargs: Any) -> Any:
        parser = inner(*args, **kwargs)
        find = parser._get_option_tuples
        parser._get_option_tuples = lambda text: [found for found in find(text) if "." not in found[1]]
        return parser

    return build_parser


def _noting_main_module(inner: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(inner)
    def attempt_load_module(known_args: Any) -> None:
        if known_args.core_module:
            set_main_module(known_args.core_module)
        inner(known_args)

    return attempt_load_module


def _as_one_run(inner: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(inner)
    def schedule_and_run(
        tasks: Sequence[luigi.Task],
        worker_scheduler_factory: Any = None,
        override_defaults: Mapping[str, Any] | None = None,
    ) -> Any:
        from nectar.task.luigi_worker import ObservedFactory  # late: it loads what only luigi's own runs need

        begin_epoch()
        if isinstance(worker_scheduler_factory, ObservedFactory):  # of a run that keeps its own history
            return inner(tasks, worker_scheduler_factory, override_defaults)
        with recording_run.running(recording_run.new_run()) as run, uses.using():
            return _with_history(run, inner, tasks, worker_scheduler_factory, override_defaults)

    return schedule_and_run


_GOOD = (LuigiStatusCode.SUCCESS, LuigiStatusCode.SUCCESS_WITH_RETRY)


def _with_history(
    run: recording_run.Run,
    inner: Callable[..., Any],
    tasks: Sequence[luigi.Task],
    worker_scheduler_factory: Any,
    override_defaults: Mapping[str, Any] | None,
) -> Any:
    from nectar.task.history import LuigiHistory  # late: it needs our tasks, which need this module
    from nectar.task.luigi_worker import ObservedFactory

    history = LuigiHistory(run)
    history.open(tasks, (override_defaults or {}).get("workers"))
    try:
        result = inner(tasks, worker_scheduler_factory or ObservedFactory(history), override_defaults)
    except KeyboardInterrupt:
        history.interrupted()
        raise
    except BaseException as error:
        history.end(f"{type(error).__name__}: {error}")
        raise
    history.end(None if result.status in _GOOD else result.one_line_summary)
    return result


def _module_argument(arguments: list[str]) -> str | None:
    for position, argument in enumerate(arguments):
        if argument == "--module" and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith("--module="):
            return argument.partition("=")[2]
    return None


def _read_configuration() -> None:
    path = str(settings.current().root / "configuration" / "luigi.cfg")
    if os.path.isfile(path) and path not in LuigiConfigParser._config_paths:
        LuigiConfigParser._config_paths.insert(0, path)  # what the user has comes later and wins
        LuigiConfigParser.reload()  # type: ignore[no-untyped-call]
    config = luigi.configuration.get_config()
    for name, code in RETCODES.items():
        if config.get("retcode", name, None) is None:
            config.set("retcode", name, str(code))


_stand()
