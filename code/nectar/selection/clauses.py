"""Read a selection: clauses between commas, each a name with the levels to go upstream and downstream of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from nectar import errors
from nectar.errors import ParameterProblem

ALL = sys.maxsize  #: levels: every one there is
SHOWN = 100  #: characters of a wrong clause that an error repeats

# The outermost star or plus signs are operators; whatever is between them is the name.
_CLAUSE = re.compile(
    r"(?P<up>\*|\++)?(?P<name>[^()]+?)(?:\((?P<arguments>.*)\))?(?P<down>\*|\++)?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Clause:
    """One name, and how far to go from the tasks that have it."""

    text: str  #: as it was given
    name: str  #: of a class, or a pattern: `LoadTask`, `etl/flights_chain/Load*Task`
    arguments: str | None  #: what stands in the parentheses; None: there are none
    up: int  #: levels of what the tasks need; `ALL`
    down: int  #: levels of what needs the tasks; `ALL`


def parse(text: str) -> tuple[Clause, ...]:
    """Return the clauses of a selection.

    Raises:
        SelectionInvalid: with every clause that cannot be read, not only the first.
    """
    clauses, problems = [], []
    for part in _split(text):
        read = _read(part)
        if isinstance(read, Clause):
            clauses.append(read)
        else:
            problems.append(read)
    if problems:
        raise invalid(problems)
    return tuple(clauses)


def invalid(problems: list[ParameterProblem]) -> errors.SelectionInvalid:
    """Return the error for a selection with some faulty clauses."""
    return errors.SelectionInvalid(
        "; ".join(problem.message for problem in problems),
        hint="; ".join(dict.fromkeys(problem.hint for problem in problems if problem.hint)) or None,
    )


def shown(text: str) -> str:
    """Return a text of somebody's, cut to what a message can hold."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _read(part: str) -> Clause | ParameterProblem:
    if not part:
        hint = "clauses stand between commas, as in `LoadTask, +ReportTask`"
        return ParameterProblem(part, "a clause of the selection is empty", hint)
    if not _closes(part):
        hint = "write `?` for a parenthesis within a value"
        return ParameterProblem(part, f"the parentheses of the clause `{shown(part)}` do not close", hint)
    found = _CLAUSE.fullmatch(part)
    if found is None:
        hint = "a clause is as in `LoadTask`, `*LoadTask`, `LoadTask(n=1)+`"
        return ParameterProblem(part, f"the clause `{shown(part)}` cannot be read", hint)
    name = found["name"].strip()
    if not name or name.strip("+") != name:
        hint = "on each side of a name stands one `*`, or as many `+` as levels are meant"
        return ParameterProblem(part, f"the clause `{shown(part)}` names no task", hint)
    return Clause(part, name, found["arguments"], _levels(found["up"]), _levels(found["down"]))


def _levels(operator: str | None) -> int:
    if operator is None:
        return 0
    return ALL if operator == "*" else len(operator)


def _split(text: str) -> Iterator[str]:
    """Yield what stands between commas that are in no parentheses, without the blanks around it."""
    depth = begin = 0
    for position, sign in enumerate(text):
        if sign == "(":
            depth += 1
        elif sign == ")":
            depth -= depth > 0
        elif sign == "," and not depth:
            yield text[begin:position].strip()
            begin = position + 1
    yield text[begin:].strip()


def _closes(part: str) -> bool:
    depth = 0
    for sign in part:
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            return False
    return not depth
