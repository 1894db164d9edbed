"""Read what a request brings: parameters of a task, and options of our own. Nothing is guessed or dropped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from flask import request

from nectar import errors
from nectar.errors import ParameterProblem

DEEPEST = 50  #: levels of lists and mappings in a body


def parameters() -> dict[str, str]:
    """Return the parameters of a task as text, from the query, from a JSON body, or from both.

    A JSON value that is no text becomes one as luigi reads it: `3`, `true`, `[1, 2]`.

    Raises:
        InvalidParameters: with every parameter that is given twice, or has no value.
        UsageError: when the body is not a JSON object.
    """
    problems: list[ParameterProblem] = []
    texts: dict[str, str] = {}
    for name, values in request.args.lists():
        texts[name] = values[0]
        if len(values) > 1:
            problems.append(ParameterProblem(name, f"`{_shown(name)}` is given {len(values)} times", "give it once"))
    for name, value in body().items():
        if value is None:
            problems.append(ParameterProblem(name, f"`{_shown(name)}` is null", "leave it out, or give it a value"))
        elif name in texts:
            problems.append(ParameterProblem(name, f"`{_shown(name)}` is in the query and in the body", "give it once"))
        else:
            texts[name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if problems:
        raise errors.InvalidParameters("; ".join(one.message for one in problems), problems=problems)
    return texts


SELECT = "Nectar-Select"  #: header: a query has a task's parameters, among which one may have any name


def selection() -> str | None:
    """Return the selection that a request brings in its header, None where it has none.

    Raises:
        UsageError: when it is no text in UTF-8.
    """
    text = request.headers.get(SELECT)
    if text is None:
        return None
    try:
        return text.encode("latin-1").decode("utf-8")  # WSGI gives the bytes of a header as Latin-1
    except UnicodeError as error:
        raise errors.UsageError(f"the header `{SELECT}` cannot be read", hint="send it in UTF-8") from error


def options(known: Iterable[str]) -> dict[str, str]:
    """Return the options of a query, each of which may be given once.

    Raises:
        InvalidParameters: with every one that is unknown, or given twice.
    """
    names = list(known)
    problems = []
    for name, values in request.args.lists():
        if name not in names:
            hint = errors.did_you_mean(name, names) or "there is " + ", ".join(f"`{one}`" for one in names)
            problems.append(ParameterProblem(name, f"there is no option `{_shown(name)}`", hint if names else None))
        elif len(values) > 1 and name != "tag":
            problems.append(ParameterProblem(name, f"`{name}` is given {len(values)} times", "give it once"))
    if problems:
        raise errors.InvalidParameters(
            "; ".join(one.message for one in problems), problems=problems, hint=problems[0].hint
        )
    return {name: values[0] for name, values in request.args.lists()}


def number(given: Mapping[str, str], name: str, default: int, *, least: int = 0, most: int) -> int:
    """Return an option that is a whole number.

    Raises:
        InvalidParameters: when it is none, or not from `least` to `most`.
    """
    text = given.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        _wrong(name, text, f"give a whole number from {least} to {most}")
    return int(text)


def check(given: Mapping[str, str], name: str, fits: Callable[[str], bool], hint: str) -> None:
    """Make sure that an option, where it is given, is what it can be; `fits` may also raise what a parser raises.

    Raises:
        InvalidParameters: when it is not.
    """
    text = given.get(name)
    if text is None:
        return
    try:
        fine = fits(text)
    except errors.NectarError:
        fine = False
    if not fine:
        _wrong(name, text, hint)


def moment(given: Mapping[str, str], name: str) -> datetime | None:
    """Return an option that is a time.

    Raises:
        InvalidParameters: when it is none.
    """
    text = given.get(name)
    if text is None:
        return None
    try:
        # In a query a plus sign stands for a space; and Python before 3.11 does not know what Z is.
        whole = text.replace(" ", "+").replace("Z", "+00:00") if "T" in text else text
        return datetime.fromisoformat(whole).astimezone()
    except (ValueError, OverflowError):
        _wrong(name, text, "give a time such as `2026-11-20T14:30:00Z`")


def yes_or_no(document: Mapping[str, Any], name: str) -> bool:
    """Return a member of a body that is true or false, false where it is missing.

    Raises:
        InvalidParameters: when it is neither.
    """
    value = document.get(name, False)
    if not isinstance(value, bool):
        _wrong(name, json.dumps(value), "give `true` or `false`")
    return value


def body(known: Iterable[str] | None = None) -> dict[str, Any]:
    """Return the JSON object that the request has for a body, an empty one where it has none.

    Raises:
        UsageError: when it is not an object of JSON in UTF-8 whose values have one meaning.
        InvalidParameters: with every member that is not among the `known` ones.
    """
    raw = request.get_data(cache=False)
    if not raw:
        return {}
    try:
        document = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_real
        )
        if not isinstance(document, dict):
            raise ValueError("it is no object")
        _check_depth(document)
        json.dumps(document, ensure_ascii=False).encode("utf-8")  # text that is no Unicode cannot be
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise errors.UsageError(
            f"the body is not what can be read: {reason}"[:300], hint="send one JSON object, in UTF-8"
        ) from error
    if known is not None:
        unknown = [name for name in document if name not in set(known)]
        problems = [ParameterProblem(name, f"there is no member `{_shown(name)}`", None) for name in unknown]
        if problems:
            raise errors.InvalidParameters("; ".join(one.message for one in problems), problems=problems)
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:50]} is too large")
    return value


def _check_depth(document: Any) -> None:
    stack = [(document, 1)]
    while stack:
        value, depth = stack.pop()
        if depth > DEEPEST:
            raise RecursionError
        if isinstance(value, (dict, list)):
            stack += [(one, depth + 1) for one in (value.values() if isinstance(value, dict) else value)]


def _wrong(name: str, text: str, hint: str) -> NoReturn:
    refuse(name, f"`{name}` cannot be `{_shown(text)}`", hint)


def refuse(name: str, message: str, hint: str) -> NoReturn:
    """Refuse an option.

    Raises:
        InvalidParameters: in any case.
    """
    raise errors.InvalidParameters(message, problems=[ParameterProblem(name, message, hint)], hint=hint)


def _shown(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
