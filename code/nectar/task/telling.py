"""The functions by which a task tells of its progress: whoever runs it sets them, and they tell no secret."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from nectar.redaction.known import redacted_tree


class Telling:
    """An attribute that holds a function for as long as a task runs, and masks what it is called with."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, task: Any, owner: type | None = None) -> Any:
        function = vars(task).get(self._name) if task is not None else None
        return None if function is None else functools.partial(_tell, function)

    def __set__(self, task: Any, function: Any) -> None:
        vars(task)[self._name] = function


def _tell(function: Callable[..., Any], *args: Any) -> Any:
    return function(*map(redacted_tree, args))
