"""The task classes that people write against: luigi's contract, with targets that nobody has to name."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, cast

import luigi
from luigi.task import flatten, task_id_str

from nectar import errors, identity, settings, stores
from nectar.address import Address, check_output_name, prefix_of
from nectar.identity import DEFAULT_OUTPUT, Identity
from nectar.parameters import MASK, Canonical, canonical, is_private, private_digest, shown
from nectar.recording import uses
from nectar.recording.run import current as current_run
from nectar.settings import Drift, IdentityScheme
from nectar.stores import Staging, Store
from nectar.target import Target
from nectar.task import closure, code, ground, register, running
from nectar.task.register import TaskRegister
from nectar.task.state import TaskState
from nectar.task.telling import Telling


class CodeVersion(Enum):
    """The version of a task that is its code."""

    CODE = "code"  #: every change of the task's code makes a new target


CODE = CodeVersion.CODE


class Task(luigi.Task, metaclass=TaskRegister):
    """A luigi task whose output lies in a hashed target directory, with its parameters, logs and record beside it.

    A subclass says `requires()` and `run()`; most need no `output()`: the output is one file, `filename`, or several,
    `outputs`. In `run()` write to `self.output().path`, with `self.output().open("w")`, or by `self.dump(value)`: it
    appears as a whole when `run()` returns, or not at all.
    """

    #: the one output file; its suffix names the format of `dump()` and `load()`
    filename: ClassVar[str] = DEFAULT_OUTPUT
    #: several output files instead: a list of names, or a mapping of short names to names
    outputs: ClassVar[Sequence[str] | Mapping[str, str] | None] = None
    #: the author's word for "the recipe changed": another version is another target; `nectar.CODE`: the code itself
    version: Any = ""
    #: keeps identities when the class moves: `old.module.OldTask`
    family: ClassVar[str | None] = None
    #: parameters that do not count while they have their default, so that adding one remakes nothing
    omit_at_default: ClassVar[Sequence[str]] = ()
    #: False: family, version and parameters alone make the identity, for rolling histories
    counts_inputs: ClassVar[bool] = True
    #: how the key is made; None: as the settings say
    identity: ClassVar[str | None] = None
    #: what happens when the code is not that of the record; None: as the settings say
    drift: ClassVar[str | None] = None
    #: where targets live; None: as the settings say
    store_url: ClassVar[str | None] = None
    #: True for a task whose identity looks into a file
    reads_file: ClassVar[bool] = False
    #: True for a task that runs when what it needs has ended, well or not, and finds out for itself what is there.
    #: Where it ends well the failures below it are its business. Luigi's worker knows no such thing.
    catches_failures: ClassVar[bool] = False
    #: the parameter by whose value a selection may name a task, beside its class; None: there is none
    named_by: ClassVar[str | None] = None
    #: False for a task whose identity says all that it does: there is no code that could drift
    has_code: ClassVar[bool] = True

    # By these a task tells of its progress; whoever runs it sets them on the instance for as long.
    set_tracking_url: Any = Telling()
    set_status_message: Any = Telling()
    set_progress_percentage: Any = Telling()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Not super().__init__(): luigi's would find all parameters and their values again, twice.
        values, forms = register.values_and_forms(self, args, kwargs)
        kind = type(self)
        counted = []
        attributes = self.__dict__  # where luigi's parameters look for their values, too
        for (name, parameter), (_, value), form in zip(kind.get_params(), values, forms, strict=True):
            parameter._warn_on_wrong_param_type(name, value)
            attributes[name] = value
            if parameter.significant:
                counted.append(private_digest(form) if is_private(parameter) else form)
        self._nectar = TaskState(forms, _ref(family_of(kind), counted))
        if kind.run is not None:
            running.wrap(self)

    @functools.cached_property
    def task_id(self) -> str:
        """Luigi's name for the task: its family, the beginning of its parameters, and a hash of them all."""
        significant, private = {}, []
        for (name, parameter), form in zip(type(self).get_params(), self._nectar.forms, strict=False):
            if not parameter.significant:
                continue
            if is_private(parameter):
                private.append(f"{name}={private_digest(form)}")
            else:
                significant[name] = str(form)
        plain: str = task_id_str(family_of(type(self)), significant)
        if not private:
            return plain
        # luigi must not take one for the other, and must not learn the values
        return f"{plain}_{hashlib.sha256('|'.join(private).encode()).hexdigest()[:10]}"

    def may_catch_failures(self) -> bool:
        """Return whether it catches failures, or may yield a task that does."""
        return self.catches_failures

    @property
    def param_kwargs(self) -> dict[str, Any]:  # type: ignore[override]  # luigi keeps a second copy
        """All parameters by name."""
        return {name: self.__dict__[name] for name, _ in type(self).get_params() if name in self.__dict__}

    def __eq__(self, other: object) -> bool:
        """Say whether two instances are the same task: also private parameters tell them apart."""
        return type(self) is type(other) and self._nectar.ref == other._nectar.ref

    def __hash__(self) -> int:
        return hash(self._nectar.ref)

    def __repr__(self) -> str:
        """Return the family and the significant parameters, private ones masked."""
        if self._nectar.text is not None:
            return self._nectar.text
        shown_params = ", ".join(
            f"{name}={MASK if is_private(parameter) else parameter.serialize(self.__dict__[name])}"
            for name, parameter in type(self).get_params()
            if parameter.significant
        )
        self._nectar.text = f"{family_of(type(self))}({shown_params})"
        return self._nectar.text

    # What luigi asks, made fast

    def _repr_html_(self) -> str:
        """Show a notebook the parameters, and where the target lies; no store is asked."""
        from nectar.drawing import tables

        address = self.target_address()
        return tables.facts(type(self).__name__, [*self.shown_params().items(), ("target", address)])

    @classmethod
    def get_task_family(cls) -> str:
        """Return module and name, or what the author chose; found once a class."""
        known: str | None = cls.__dict__.get("_nectar_family")
        if known is None:
            known = str(super().get_task_family())  # type: ignore[no-untyped-call]
            type.__setattr__(cls, "_nectar_family", known)
        return known

    @classmethod
    def get_params(cls) -> register.Parameters:
        """Return `(name, parameter)` in the order of definition."""
        return cls.parameters()

    @classmethod
    def get_param_values(
        cls, params: register.Parameters, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[tuple[str, Any]]:
        """Return `(name, value)` for each parameter: as given, else from command line, configuration or default."""
        names = ground.lookup_names(cls)
        register.warn_of_unconsumed(names, params, getattr(cls, "ignore_unconsumed", set()))
        return register.find_values(names, params, tuple(args), kwargs)

    @classmethod
    def batch_param_names(cls) -> list[str]:
        """Return nothing: luigi would run one task for a batch, and the targets of the others were never made."""
        return []

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[Any]) -> list[Any]:
        """Return those of the parameters whose task is complete, for luigi's range tasks."""
        found = []
        for parameters in parameter_tuples:
            if isinstance(parameters, Mapping):
                task = cls(**parameters)
            else:
                task = cls(*parameters) if isinstance(parameters, (list, tuple)) else cls(parameters)
            if task.complete():
                found.append(parameters)
        return found

    # Identity

    @property
    def key(self) -> str:
        """The name of the target's folder: 32 hex digits, known before anything runs."""
        return closure.identify(self).key

    @property
    def output_id(self) -> str:
        """The sha256 of the identity: 64 hex digits."""
        return closure.identify(self).output_id

    @classmethod
    def identity_family(cls) -> str:
        """Return module and class, or what `family` says."""
        return cls.family or f"{code.module_name(cls)}.{cls.__name__}"

    def identity_document(self, inputs: Mapping[str, str]) -> dict[str, Any]:
        """Return what the task's identity is made of, given the output ids of its inputs by path."""
        return identity.task_document(*self._identity_parts(inputs))

    def _identity_parts(
        self, inputs: Mapping[str, str]
    ) -> tuple[str, str, dict[str, int | str], Mapping[str, str], tuple[str, ...]]:
        outputs = own_outputs(self)
        for name in outputs:
            check_output_name(name)
        return self.identity_family(), self._version_text(), self._identity_params(), inputs, outputs

    def identify_with(self, inputs: Mapping[str, str]) -> Identity:
        """Return the task's identity given the output ids of its inputs by path."""
        chosen = self.identity
        scheme = IdentityScheme(chosen) if chosen is not None else settings.current().identity
        if scheme is IdentityScheme.NECTAR and type(self).identity_document is Task.identity_document:
            return identity.identify_task(*self._identity_parts(inputs))
        document = self.identity_document(inputs)
        if scheme is IdentityScheme.NECTAR:
            return identity.identify(document)
        texts = {
            name: parameter.serialize(getattr(self, name))
            for name, parameter in self.get_params()
            if parameter.significant
        }
        return identity.identify(document, datanectar_values=texts)

    def _identity_params(self) -> dict[str, int | str]:
        state, params = self._nectar, {}
        for (name, parameter), form in zip(type(self).get_params(), state.forms, strict=False):
            if not parameter.significant:
                continue
            if name in self.omit_at_default and form == self._default_form(name, parameter):
                continue
            params[name] = private_digest(form) if is_private(parameter) else form
        return params

    def _default_form(self, name: str, parameter: luigi.Parameter[Any]) -> int | str | None:
        if parameter._default is luigi.parameter._no_value:
            return None
        return canonical(parameter, name, parameter.normalize(parameter._default))

    def _version_text(self) -> str:
        version = self.version
        if version is CODE:
            return code.digest_or_fail(type(self)).digest
        if not isinstance(version, (str, int)):
            raise errors.IdentityError(
                f"the version of `{type(self).__name__}` is {version!r}",
                hint='use a text or a whole number, such as `version = "2"`, or `nectar.CODE`',
            )
        return str(version)

    # Targets

    def output(self) -> Any:
        """Return the task's target, or the targets in the shape of `outputs`."""
        if self.outputs is None:
            return None if closure.is_wrapper(self) else self.target(self.filename)
        if isinstance(self.outputs, Mapping):
            return {name: self.target(file) for name, file in self.outputs.items()}
        return [self.target(file) for file in self.outputs]

    def target(self, name: str, format: Any = None) -> Target:
        """Return one output file in the task's own target directory, for an `output()` of one's own.

        Raises:
            InvalidOutputName: when `name` cannot be a file's name there.
        """
        return Target(self, name, format)

    def target_address(self) -> Address:
        """Return where the task's target lies; known before anything runs."""
        if self._nectar.deriving and self._nectar.identity is None:
            raise closure.own_output(self)
        known = self._nectar.address
        if known is not None and not self._nectar.reads_files:
            return known
        key = self.key
        if known is None or known.key != key:
            known = self._nectar.address = Address(prefix_of(self.identity_family()), key)
        return known

    def target_store(self) -> Store:
        """Return the store of the task's target."""
        return stores.open_store(self.store_url)

    def target_staging(self) -> Staging | None:
        """Return the place of the attempt at work on this instance, None while there is none."""
        return self._nectar.staging

    def dump(self, value: object, name: str | None = None) -> None:
        """Write a value to an output in the format of its suffix; `name` tells which, where there are several.

        Raises:
            NoFormat: when no safe format belongs to the suffix or the value.
            UsageError: outside of `run()`, or when no output has this name.
        """
        self._one_target(name).dump(value)

    def load(self, name: str | None = None) -> Any:
        """Return the value in an output, by the format of its suffix.

        Raises:
            MissingInput: when the task has not been run.
            NoFormat: when no safe format belongs to the suffix.
            UsageError: when no output has this name.
        """
        return self._one_target(name).load()

    def _one_target(self, name: str | None) -> Target:
        given = self.output()
        if name is not None and isinstance(given, Mapping) and isinstance(given.get(name), Target):
            return given[name]  # type: ignore[no-any-return]
        own = [one for one in flatten(given) if isinstance(one, Target)]
        matching = [one for one in own if name in (None, one.name)]
        if len(matching) == 1:
            return matching[0]
        listed = ", ".join(f"`{one.name}`" for one in own) or "none"
        wanted = "which output is meant" if name is None else f"no output is called `{name}`"
        raise errors.UsageError(f"`{type(self).__name__}`: {wanted}", hint=f"its outputs are {listed}")

    # Completeness

    def complete(self) -> bool:
        """Say whether nothing has to be done: the record is valid and every output there.

        A task whose outputs are all foreign (any luigi target) is complete when luigi says so; a mixed one when both
        hold.

        Raises:
            StoreUnreachable: when the store cannot answer: an error is never "missing".
        """
        if closure.is_wrapper(self):
            return bool(luigi.WrapperTask.complete(cast(luigi.WrapperTask, self)))
        if self.wants_force():
            return False
        own, foreign = split_outputs(self)
        if not own:
            return bool(luigi.Task.complete(self))
        store = self.target_store()
        uses.note(store)
        found = store.inspect(self.target_address(), tuple(own), leftovers=False)
        if not found.complete or not all(one.exists() for one in foreign):
            return False
        if self.drift_policy() is not Drift.RERUN:
            return True
        assert found.record is not None
        return not code.drifted(self.code_subject(), found.record.code)

    def wants_force(self) -> bool:
        """Say whether a complete target is to be made again, which ends when this run has made it."""
        if not self._nectar.forced:
            return False
        record = self.target_store().inspect(self.target_address(), leftovers=False).record
        return record is None or record.run_id != current_run().id

    def code_subject(self) -> type:
        """Return the class whose code is the task's: its own."""
        return type(self)

    def drift_policy(self) -> Drift:
        """Return what happens when the task's code is not that of its record."""
        chosen = self.drift
        return Drift(chosen) if chosen is not None else settings.current().drift

    def shown_params(self) -> dict[str, Any]:
        """Return all parameters as JSON values, private ones masked: what params.txt holds."""
        return {name: shown(parameter, getattr(self, name)) for name, parameter in type(self).get_params()}


class LocalTask(Task):
    """A task whose target always lies in the local store, `local_targets/`."""

    def target_store(self) -> Store:
        """Return the local store."""
        return stores.open_store(settings.current().local_targets.as_uri())


_LONGEST_REF = 200  #: characters


def _ref(family: str, forms: Sequence[Canonical]) -> str:
    """Return a text that is equal for equal tasks alone, and short however long their parameters are."""
    text = f"{family}({', '.join(map(repr, forms))})"
    if len(text) <= _LONGEST_REF:
        return text
    return f"{family}({hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()})"


class S3Task(Task):
    """A task whose target always lies in S3, whatever the store of the others."""

    def target_store(self) -> Store:
        """Return the store in the project's bucket.

        Raises:
            SettingsInvalid: when the settings name no bucket.
        """
        url = settings.current().s3.url
        if url is None:
            raise errors.SettingsInvalid(
                f"`{type(self).__name__}` keeps its targets in S3, and no bucket is named",
                hint="set ENV and PROJECT_BUCKET, or `url` in `[s3]` of configuration/nectar.toml",
            )
        return stores.open_store(url)


def family_of(cls: type[luigi.Task]) -> str:
    """Return luigi's name for a task class: its module and name, or what its author chose."""
    return str(cls.get_task_family())


def split_outputs(task: luigi.Task) -> tuple[dict[str, Target], list[luigi.Target]]:
    """Return a task's own outputs by file name, and the foreign ones."""
    own: dict[str, Target] = {}
    foreign: list[luigi.Target] = []
    try:
        outputs = flatten(task.output())
    except errors.NectarError:
        raise
    except Exception as error:
        raise closure.broken_task(task, "output()", error) from error
    for one in outputs:
        if isinstance(one, Target) and cast(object, one.owner) is task:
            own[one.name] = one
        else:
            foreign.append(one)
    return own, foreign


def own_outputs(task: Task) -> tuple[str, ...]:
    """Return the file names of a task's own outputs, without making targets where the class tells them."""
    if type(task).output is not Task.output:
        return tuple(split_outputs(task)[0])
    if task.outputs is None:
        return (task.filename,) if not closure.is_wrapper(task) else ()
    return tuple(task.outputs.values() if isinstance(task.outputs, Mapping) else task.outputs)
