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
from typing import Any

import luigi
from luigi.parameter import ParameterVisibility

from nectar import errors
from nectar.errors import ParameterProblem

Canonical = int | str
MASK = "******"

_PLAIN_TEXT = frozenset({luigi.Parameter.parse, luigi.parameter.StrParameter.parse})
_WHOLE_NUMBER = luigi.IntParameter.parse
_PRIVATE = ParameterVisibility.PRIVATE
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def canonical(parameter: luigi.Parameter[Any], name: str, value: Any) -> Canonical:
    """Return the canonical form of a parameter's value.

    Raises:
        IdentityError: for a value that no text stands for.
    """
    kind = type(value)
    parse = type(parameter).parse
    if kind is str and parse in _PLAIN_TEXT:
        return _checked_text(name, value)
    if kind is int and parse is _WHOLE_NUMBER:
        return value  # type: ignore[no-any-return]
    if value is None:
        return str(parameter.serialize(value))  # what luigi sends to another process for it, where it stays that text
    if isinstance(value, datetime.timedelta):
        return _duration(value)  # luigi's own text for it lacks the microseconds
    luigis_own = parse.__module__ == "luigi.parameter"
    if luigis_own and isinstance(parameter, (luigi.DictParameter, luigi.ListParameter)):
        read: Any = _through_json(parameter, name, value)
    else:
        read = _normalised(parameter, name, value)
    form = _leaf_or_tree(parameter, name, read, typed=not luigis_own)
    return form if isinstance(form, int) else _checked_text(name, form)


def _checked_text(name: str, text: str) -> str:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise errors.IdentityError(
                f"parameter `{name}` holds text that is no Unicode: {text!r}", hint="decode the bytes that it came from"
            ) from error
    return text


def _through_json(parameter: luigi.Parameter[Any], name: str, value: Any) -> Any:
    """Return a mapping or a list as another process would get it."""
    try:
        return json.loads(parameter.serialize(value))
    except (ValueError, TypeError) as error:
        raise _cannot_hold(parameter, name, value, error) from error


def _cannot_hold(parameter: luigi.Parameter[Any], name: str, value: Any, error: BaseException) -> errors.IdentityError:
    return errors.IdentityError(
        f"parameter `{name}` cannot hold {MASK if is_private(parameter) else repr(value)}: {error}",
        hint=f"give a value that `{type(parameter).__name__}` can write as text and read back",
    )


def _normalised(parameter: luigi.Parameter[Any], name: str, value: Any) -> Any:
    """Return the value that a command line with this value's text would give."""
    if isinstance(value, AbstractSet) and type(parameter).parse in _PLAIN_TEXT:
        raise errors.IdentityError(
            f"parameter `{name}` holds a set, whose text has another order in each process",
            hint="use `luigi.ListParameter` and give it a sorted list",
        )
    try:
        text = parameter.serialize(value)
        read = parameter.parse(text)
    except Exception as error:  # a parameter's own code: whatever it raises, the value has no text
        raise _cannot_hold(parameter, name, value, error) from error
    if isinstance(read, str) and not isinstance(value, str) and _ADDRESS.search(read):
        raise errors.IdentityError(
            f"parameter `{name}` holds an object whose text is its place in memory: {read}",
            hint="use a parameter type that can write the value as text, such as `luigi.DictParameter`",
        )
    return read


def _leaf_or_tree(parameter: luigi.Parameter[Any], name: str, value: Any, *, typed: bool) -> Canonical:
    """Return an int or a text; with `typed` a text that tells its type, for parameters that hold several types."""
    if isinstance(value, enum.Enum):
        return _tree_text(value, name) if typed else str(parameter.serialize(value))
    if isinstance(value, str):
        return json.dumps({"str": value}, ensure_ascii=False) if value.startswith('{"') and typed else str(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = _number(value)
        if isinstance(number, int):
            return number
        return _tree_text(number, name) if typed else repr(number)
    if typed or isinstance(value, (Mapping, AbstractSet)) or (isinstance(value, Sequence) and not _is_bytes(value)):
        return _tree_text(value, name)
    return str(value) if isinstance(value, bool) else str(parameter.serialize(value))


def _is_bytes(value: object) -> bool:
    return isinstance(value, bytes)


def _tree_text(value: Any, name: str) -> str:
    return json.dumps(_tagged(value, name), ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _duration(value: datetime.timedelta) -> str:
    return f"{value.days} d {value.seconds}.{value.microseconds:06} s"


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
        return {"timedelta": _duration(value)}
    if isinstance(value, PurePath):
        return {"path": str(value)}
    raise errors.IdentityError(
        f"parameter `{name}` holds a {type(value).__name__} inside a list or mapping, which has no canonical form",
        hint="use text, numbers, dates, lists and mappings",
    )


def _mapping_key(key: object, name: str) -> str:
    """Return a key as text; one that is none, or looks like one made here, tells its type."""
    if isinstance(key, str) and not key.startswith('{"key":'):
        return key
    return json.dumps({"key": _tagged(key, name)}, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _number(value: int | float) -> int | float:
    """Return an int for every integral number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, int) else value


def is_private(parameter: luigi.Parameter[Any]) -> bool:
    """Say whether a parameter's value must be shown nowhere."""
    return parameter.visibility == _PRIVATE


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


def canonical_of(parameter: luigi.Parameter[Any], name: str, text: str) -> Canonical | None:
    """Return the canonical form of the value that a text means, None for a text that the parameter cannot read."""
    try:
        return canonical(parameter, name, parameter.normalize(parameter.parse(text)))
    except Exception:  # a parameter's own code: whatever it raises, the text is none of its values
        return None


_REPEATED = 300  # characters of a wrong text that an error repeats


def _brief(text: str) -> str:
    return text if len(text) <= _REPEATED else f"{text[:_REPEATED]}..."


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
            near = errors.did_you_mean(name[:_REPEATED], known)
            hint = f"`{name}`: {near}" if near else None
            problems.append(ParameterProblem(name, f"`{subject}` has no parameter `{_brief(name)}`", hint))
            continue
        try:
            values[name] = known[name].normalize(known[name].parse(text))
        except Exception as error:  # a parameter's own code: whatever it raises, the text is wrong
            kind = type(known[name]).__name__
            shown_text = MASK if is_private(known[name]) else _brief(text)
            reason = "" if is_private(known[name]) else f": {_brief(str(error))}"
            problems.append(
                ParameterProblem(name, f"`{name}` cannot be `{shown_text}`{reason}", f"`{name}` is a luigi {kind}")
            )
    for name in known:
        if name not in texts and name not in optional:
            problems.append(ParameterProblem(name, f"`{subject}` needs a value for `{name}`", f"give `{name}` a value"))
    if problems:
        count = f"{len(problems)} parameters are" if len(problems) > 1 else "a parameter is"
        raise errors.InvalidParameters(
            f"{count} not right for `{subject}`: " + "; ".join(problem.message for problem in problems),
            problems=problems,
            hint="; ".join(problem.hint for problem in problems if problem.hint) or None,
        )
    return values
