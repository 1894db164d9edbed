"""Hold the values of secrets that this process has fetched, and mask them in texts and errors.

Nothing here costs anything before the first one is known.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nectar.redaction.sieve import Sieve

_LONG = 8  #: characters of a value that counts also where it is a part of a text
#: where Python's own errors keep texts outside of `args` and `__dict__`
_PLACES: Mapping[type[BaseException], tuple[str, ...]] = {
    AttributeError: ("name",),
    ImportError: ("msg", "name", "path"),
    NameError: ("name",),
    OSError: ("strerror", "filename", "filename2"),
    StopIteration: ("value",),
    SyntaxError: ("msg", "filename", "text"),
    SystemExit: ("code",),
}
_DEEPEST = 20  #: containers within each other in an error's arguments

_sieve: Sieve | None = None  #: None: no value is known
_values: set[str] = set()
_guard = threading.Lock()


def learn(value: str) -> None:
    """Know a value from now on: it is masked in all that this process writes or shows of tasks.

    When this returns, also what was printed into the logs of an attempt passes a filter that knows it. Values of less
    than four characters cannot be masked.

    Raises:
        OSError: when the filter cannot be started.
    """
    global _sieve
    from nectar.redaction import filters, hooks  # late: most processes never know a secret
    from nectar.redaction.forms import forms_of
    from nectar.redaction.sieve import Sieve

    forms = forms_of(value)
    if not forms:
        return
    with _guard:
        if value not in _values:
            _values.add(value)
            _sieve = Sieve((*(_sieve.forms if _sieve is not None else ()), *forms))
    hooks.install()
    filters.engage()


def knows_any() -> bool:
    """Say whether any value is known."""
    return _sieve is not None


def forms() -> tuple[bytes, ...]:
    """Return all by which values are known."""
    return _sieve.forms if _sieve is not None else ()


def redacted(text: str) -> str:
    """Return a text with a mask for each value that is known."""
    if _sieve is None:
        return text
    raw = text.encode("utf-8", "surrogatepass")
    return _sieve.mask(raw).decode("utf-8", "surrogatepass") if _sieve.finds(raw) else text


def redacted_bytes(raw: bytes) -> bytes:
    """Return bytes with a mask for each value that is known."""
    return raw if _sieve is None else _sieve.mask(raw)


def redacted_tree(value: Any) -> Any:
    """Return a value whose texts, also within lists, mappings and sets, are masked."""
    return value if _sieve is None else _tree(value, 0)


def holds_secret(text: str) -> bool:
    """Say whether a text is a value that is known, or has a long one in it."""
    return any(value == text or (len(value) >= _LONG and value in text) for value in _values)


def cleanse(error: BaseException) -> None:
    """Mask values in an error itself, in what caused it and in its notes: whoever tells of it cannot tell them."""
    if _sieve is None:
        return
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += (one.__cause__, one.__context__)
        within = getattr(one, "exceptions", None)  # those of a group, which Python 3.10 does not know
        if isinstance(within, tuple):
            waiting += [inner for inner in within if isinstance(inner, BaseException)]
        _cleanse_one(one)


def _cleanse_one(error: BaseException) -> None:
    places = [name for kind, names in _PLACES.items() if isinstance(error, kind) for name in names]
    attributes = {name: getattr(error, name, None) for name in places} | getattr(error, "__dict__", {})
    for name, value in {**attributes, "args": error.args}.items():
        masked = _tree(value, 0)
        if masked is not value:
            # One that cannot be changed: what the error says is looked at below.
            with contextlib.suppress(AttributeError, TypeError, ValueError):
                setattr(error, name, masked)
    for shown in (str, repr):
        with contextlib.suppress(Exception):  # an author's own class: whoever tells of it will fail as well
            text = shown(error)
            if redacted(text) != text:
                _let_say(error, redacted(text))
                return


def _let_say(error: BaseException, text: str) -> None:
    """Let an error say a text, whatever its class does to say something else."""
    kind = type(error)
    members = {"__str__": lambda self: text, "__repr__": lambda self: f"{kind.__name__}({text!r})"}
    members |= {"__module__": kind.__module__, "__qualname__": kind.__qualname__}  # type: ignore[dict-item]
    try:
        error.__class__ = type(kind.__name__, (kind,), members)
    except TypeError:  # one of Python's own: all that these say is in `args` and the places above
        error.args = (text,)


def _tree(value: Any, depth: int) -> Any:
    """Return the value itself where there is nothing to mask, otherwise a masked one."""
    kind = type(value)
    if isinstance(value, str):
        text = redacted(value)
        return text if text != value else value
    if kind is bytes:
        raw = redacted_bytes(value)
        return raw if raw != value else value
    if depth > _DEEPEST:
        return value
    if kind in (list, tuple, set, frozenset):
        items = [_tree(item, depth + 1) for item in value]
        return kind(items) if _differ(items, value) else value
    if kind is dict:
        keys = [_tree(key, depth + 1) for key in value]
        items = [_tree(item, depth + 1) for item in value.values()]
        return dict(zip(keys, items, strict=True)) if _differ(keys, value) or _differ(items, value.values()) else value
    return value


def _after_fork() -> None:
    """A thread of the parent may have held the lock."""
    global _guard
    _guard = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _differ(after: Iterable[Any], before: Iterable[Any]) -> bool:
    return any(new is not old for new, old in zip(after, before, strict=True))
