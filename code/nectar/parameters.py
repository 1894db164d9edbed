"""Give each parameter value its one canonical form, and each command-line text its value.

The canonical form is what identities, instance caches and luigi's task ids are made of: an int, or a text. Two
spellings of one value have one form (1 and 1.0, any order of keys), two values never share one.
"""

from __future__ import annotations

import datetime
import enum
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import PurePath
from typing import Any, cast

import luigi
from luigi.parameter import ParameterVisibility

from nectar import errors
from nectar.errors import ParameterProblem

Canonical = int | str
MASK = "******"

_PLAIN_TEXT = frozenset({luigi.Parameter.parse, luigi.parameter.StrParameter.parse})
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def canonical(parameter: luigi.Parameter[Any], name: str, value: Any) -> Canonical:
    """Return the canonical form of a parameter's value.

    Raises:
        IdentityError: for a value that no text stands for.
    """
    kind = type(value)
    parse = type(parameter).parse
    if kind is str and parse in _PLAIN_TEXT:
        return cast(str, value)
    if kind is int and parse is luigi.IntParameter.parse:
        return cast(int, value)
    if value is None:
        return str(parameter.serialize(value))  # what luigi sends to another process for it
    return _leaf_or_tree(parameter, name, _normalised(parameter, name, value))


def _normalised(parameter: luigi.Parameter[Any], name: str, value: Any) -> Any:
    """Return the value that a command line with this value's text would give."""
    try:
        text = parameter.serialize(value)
        read = parameter.parse(text)
    except Exception as error:  # a parameter's own code: whatever it raises, the value has no text
        raise errors.IdentityError(
            f"parameter `{name}` cannot hold {value!r}: {error}",
            hint=f"give a value that `{type(parameter).__name__}` can write as text and read back",
        ) from error
    if isinstance(read, str) and not isinstance(value, str) and _ADDRESS.search(read):
        raise errors.IdentityError(
            f"parameter `{name}` holds an object whose text is its place in memory: {read}",
            hint="use a parameter type that can write the value as text, such as `luigi.DictParameter`",
        )
    return read


def _leaf_or_tree(parameter: luigi.Parameter[Any], name: str, value: Any) -> Canonical:
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return value
    if value is None:
        return str(parameter.serialize(value))
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, (int, float)) and not isinstance(value, enum.Enum):
        number = _number(value)
        return number if isinstance(number, int) else repr(number)
    if isinstance(value, (Mapping, AbstractSet)) or (isinstance(value, Sequence) and not isinstance(value, bytes)):
        return json.dumps(_tagged(value, name), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return str(parameter.serialize(value))


def _tagged(value: Any, name: str) -> Any:
    """Return a JSON value in which all but text and integers carries its type."""
    if isinstance(value, enum.Enum):
        return {"enum": f"{type(value).__qualname__}.{value.name}"}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return {"bool": str(value)}
    if isinstance(value, (int, float)):
        number = _number(value)
        return number if isinstance(number, int) else {"float": repr(number)}
    if value is None:
        return {"none": ""}
    if isinstance(value, Mapping):
        return {"map": {_mapping_key(key, name): _tagged(item, name) for key, item in value.items()}}
    if isinstance(value, AbstractSet):
        members = (_tagged(item, name) for item in value)
        return {"set": sorted(members, key=lambda item: json.dumps(item, sort_keys=True))}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Sequence):
        return {"list": [_tagged(item, name) for item in value]}
    if isinstance(value, (datetime.date, datetime.time)):
        return {type(value).__name__: value.isoformat()}
    if isinstance(value, datetime.timedelta):
        return {"timedelta": f"{value.days}:{value.seconds}:{value.microseconds}"}
    if isinstance(value, PurePath):
        return {"path": str(value)}
    raise errors.IdentityError(
        f"parameter `{name}` holds a {type(value).__name__} inside a list or mapping, which has no canonical form",
        hint="use text, numbers, dates, lists and mappings",
    )


def _mapping_key(key: object, name: str) -> str:
    if isinstance(key, str):
        return key
    return json.dumps(_tagged(key, name), sort_keys=True)


def _number(value: int | float) -> int | float:
    """Return an int for every integral number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, int) else value


def is_private(parameter: luigi.Parameter[Any]) -> bool:
    """Say whether a parameter's value must be shown nowhere."""
    return parameter.visibility == ParameterVisibility.PRIVATE


def private_digest(value: Canonical) -> str:
    """Return the text by which a private value counts in an identity."""
    return "sha256:" + hashlib.sha256(str(value).encode("utf-8", "surrogatepass")).hexdigest()


def shown(parameter: luigi.Parameter[Any], value: Any) -> Any:
    """Return the JSON value that `params.txt` shows, masked where the parameter is private."""
    if is_private(parameter):
        return MASK
    return _json_value(parameter, value)


def _json_value(parameter: luigi.Parameter[Any], value: Any) -> Any:
    if value is None or (isinstance(value, (bool, int, str)) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else repr(value)  # JSON has no inf and no nan
    if isinstance(value, (Mapping, list, tuple)):
        try:
            return json.loads(parameter.serialize(value))
        except (ValueError, TypeError):
            return str(value)
    return str(parameter.serialize(value))


def parse_texts(
    parameters: Sequence[tuple[str, luigi.Parameter[Any]]],
    texts: Mapping[str, str],
    *,
    defaults: Iterable[str],
    subject: str,
) -> dict[str, Any]:
    """Return the values of texts from a command line or a request, by name.

    `defaults` names the parameters that may be left out.

    Raises:
        InvalidParameters: with every unknown, missing and wrong-typed parameter, not only the first.
    """
    known = dict(parameters)
    optional = set(defaults)
    problems: list[ParameterProblem] = []
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in known:
            hint = errors.did_you_mean(name, known)
            problems.append(ParameterProblem(name, f"`{subject}` has no parameter `{name}`", hint))
            continue
        try:
            values[name] = known[name].normalize(known[name].parse(text))
        except Exception as error:  # a parameter's own code: whatever it raises, the text is wrong
            kind = type(known[name]).__name__
            shown_text = MASK if is_private(known[name]) else text
            reason = "" if is_private(known[name]) else f": {error}"
            problems.append(
                ParameterProblem(name, f"`{name}` cannot be `{shown_text}`{reason}", f"`{name}` is a luigi {kind}")
            )
    for name in known:
        if name not in texts and name not in optional:
            problems.append(ParameterProblem(name, f"`{subject}` needs a value for `{name}`", f"add `--{name} VALUE`"))
    if problems:
        count = f"{len(problems)} parameters are" if len(problems) > 1 else "a parameter is"
        raise errors.InvalidParameters(
            f"{count} not right for `{subject}`: " + "; ".join(problem.message for problem in problems),
            problems=problems,
            hint="; ".join(problem.hint for problem in problems if problem.hint) or None,
        )
    return values
