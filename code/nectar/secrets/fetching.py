"""Find the secret store that the settings name, ask it, and let what it gives be masked from then on."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping
from typing import Any

from nectar import errors, settings
from nectar.errors import SettingsInvalid
from nectar.extensions import find
from nectar.redaction import known
from nectar.secrets import base
from nectar.settings import SecretsSettings, Settings

GROUP = "nectar.secrets"  #: of entry points: name -> a class of secret stores
_KINDS = {
    "do-nothing": "nectar.secrets.do_nothing:DoNothingSecrets",
    "dotenv": "nectar.secrets.dotenv:DotenvSecrets",
    "environment": "nectar.secrets.environment:EnvironmentSecrets",
    "aws-secrets-manager": "nectar.secrets.aws:AwsSecrets",
}

_opened: dict[tuple[int, str, str, str], base.SecretStore] = {}  #: by process, project, type and config


def get_secret(name: str) -> str:
    """Return the value of a secret, from the store that `[secrets]` of the settings names.

    From then on it is masked in all that Nectar writes or shows of this process's tasks. Values of less than four
    characters are not.

    Raises:
        SecretNotFound: when there is none; names the secret and where it was looked for.
        SecretStoreUnreachable: when the store cannot answer.
        SettingsInvalid: when no store has the type of the settings, or its settings are not right.
        UsageError: for a name that is no text.
    """
    if not isinstance(name, str) or not name:
        raise errors.UsageError(
            "the name of a secret is a text that is not empty", hint='as in `get_secret("password")`'
        )
    wanted = settings.current()
    try:
        value = opened(wanted).get(str(name))
    except errors.NectarError:
        raise
    except Exception as error:  # another's store: whatever it raises, the secret cannot be had
        raise errors.SecretStoreUnreachable(
            f"the secret `{name}` cannot be had, the store `{wanted.secrets.type}` raised {type(error).__name__}",
            hint="look at the cause, and at the package that the store comes from",
        ) from error
    if not isinstance(value, str):
        raise errors.SecretError(
            f"the store `{wanted.secrets.type}` gave what is no text for the secret `{name}`: `{type(value).__name__}`",
            hint="a secret is a text: the package that the store comes from has to change",
        )
    try:
        known.learn(value)
    except OSError as error:
        raise errors.SecretError(
            f"the secret `{name}` is not given, since it could not be masked in logs: "
            f"{os.strerror(error.errno or 0).lower()}",
            hint="look at the limits of processes and open files (`ulimit -u`, `ulimit -n`)",
        ) from error
    return value


def opened(wanted: Settings) -> base.SecretStore:
    """Return the secret store of the settings; one object a process.

    Raises:
        SettingsInvalid: with all that is wrong.
    """
    given = wanted.secrets
    place = (os.getpid(), str(wanted.root), given.type, json.dumps(dict(given.config), sort_keys=True, default=repr))
    if place not in _opened:
        kind = _kind(given)
        problems = base.faults(given.type, kind.options, given.config)
        if problems:
            listed = ", ".join(f"`{name}`" for name in kind.options) or "none"
            raise SettingsInvalid(
                "the settings of secrets are not valid: " + "; ".join(problems),
                hint=f"look at `[secrets]` of configuration/nectar.toml; the settings of `{given.type}` are {listed}",
            )
        _opened[place] = kind(wanted.root, **given.config)
    return _opened[place]


def _kind(given: SecretsSettings) -> Any:
    """Return the class of a store: one of ours, or one that an installed package offers."""
    if given.type in _KINDS:
        return _loaded(_KINDS[given.type])
    kind: Any = find(GROUP, "secret store", given.type, dict.fromkeys(_KINDS), SettingsInvalid)
    if not callable(kind) or not isinstance(getattr(kind, "options", None), Mapping):
        raise SettingsInvalid(
            f"the secret store `{given.type}` is no class with `options`",
            hint="`nectar.secrets.base.SecretStoreKind` says what one has",
        )
    return kind


def _loaded(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
