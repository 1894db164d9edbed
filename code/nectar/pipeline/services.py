"""Read which services a pipeline is to have, and decide between several that say so."""

from __future__ import annotations

import sys
from pathlib import Path

from nectar import errors, settings
from nectar.pipeline import vocabulary
from nectar.pipeline.checks import Checks
from nectar.pipeline.faults import Faults
from nectar.pipeline.model import DEFAULTS, Service, Services
from nectar.pipeline.reading import MOST_BYTES, document_in, read
from nectar.pipeline.validation import services_of
from nectar.pipeline.values import part_of
from nectar.pipeline.yaml_text import MOST_LEVELS, Part, decoded

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


_HINT = f"its sections are {', '.join(vocabulary.SERVICES)}, each with `type` and `config`"


def read_services(path: Path) -> Services:
    """Return the services of a configuration file, TOML or YAML by its suffix.

    Raises:
        FileInvalid: with everything that is wrong, by line where the file is YAML.
        UsageError: when the file cannot be read, or has another suffix.
    """
    if path.suffix not in (".toml", ".yaml", ".yml"):
        hint = "name it `.yaml`, `.yml` or `.toml`, by what it holds"
        raise errors.UsageError(f"`{path}` is neither YAML nor TOML by its name", hint=hint)
    faults = Faults(str(path))
    raw = read(path)
    document = _toml(raw, faults) if path.suffix == ".toml" else document_in(raw, faults)
    services = Services()
    if document is not None and document.value is not None:
        if isinstance(document.value, dict):
            checks = Checks(faults)
            checks.keys(document, "the file", tuple(vocabulary.SERVICES))
            services = services_of(document.members, checks)
        else:
            faults.add(document.line, "the file is no mapping")
    if faults:
        raise faults.error(errors.FileInvalid, _HINT)
    return services


def _toml(raw: bytes, faults: Faults) -> Part | None:
    text = decoded(raw, faults, MOST_BYTES)
    if text is None:
        return None
    try:
        return part_of(tomllib.loads(text), faults)
    except tomllib.TOMLDecodeError as error:
        faults.add(None, f"this is no TOML: {error}")
    except RecursionError:
        faults.add(None, f"more than {MOST_LEVELS} levels lie in each other", "make it flatter")
    except ValueError as error:  # a number of thousands of digits
        faults.add(None, f"this is no TOML that can be read: {error}")
    return None


def of_settings() -> Services:
    """Return the services that the project's settings name."""
    given = settings.current().secrets
    return Services(secrets=Service(given.type, dict(given.config)))


def secrets_settings(service: Service) -> settings.SecretsSettings:
    """Return the settings by which secrets come from a service."""
    return settings.SecretsSettings(service.type, dict(service.config))


def merge(*services: Services) -> Services:
    """Return for each service what the first of those says that says something of it, in the end its default."""
    found = {}
    for name in vocabulary.SERVICES:
        said = (getattr(one, name) for one in (*services, DEFAULTS))
        found[name] = next(service for service in said if service is not None)
    return Services(**found)
