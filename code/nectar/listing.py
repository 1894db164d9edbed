"""List the tasks of a pipeline in the order, and with the marks, of job-orchestra.

The format is that of https://pypi.org/project/job-orchestra/ 1.1.3: what is listed later stands on what is listed
before, the head comes last, and each line says whether a result is there and whether its task would run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum

LEGEND = (
    "Execution plan. Result availability: [*] available - [ ] n/a - [x] no context. \n"
    "                Scheduled execution: (H) head - (>) scheduled run on materialize - ( ) no run required."
)


class Availability(str, Enum):
    """Whether the result of a task is there."""

    AVAILABLE = "[*]"
    MISSING = "[ ]"
    NOWHERE = "[x]"  #: nothing keeps it


class Schedule(str, Enum):
    """Whether a task would run."""

    HEAD = "(H)"
    RUN = "(>)"
    NO_RUN = "( )"


def in_order(head: str, depends_on: Callable[[str], Sequence[str]]) -> list[str]:
    """Return a head and all that it stands on, by names, the head last.

    For each task come those that it depends on, in their order, and then, for each of these, what that depends on; of
    what comes twice the first one counts; and all of it is turned round. It is an order to read, and not one to run in.
    """
    found = {head: None}
    visited: set[str] = set()
    stack = [head]
    while stack:
        name = stack.pop()
        if name in visited:
            continue
        visited.add(name)
        below = depends_on(name)
        found.update(dict.fromkeys(one for one in below if one not in found))
        stack += reversed(below)
    return list(reversed(found))


class Listing(str):
    """A listing as text. Whoever made it has printed it: a notebook does not show it a second time."""

    def __repr__(self) -> str:
        return f"<execution plan of {len(self.splitlines()) - 2} steps>"

    def _ipython_display_(self) -> None:
        """Show nothing."""


def listing(rows: Iterable[tuple[str, Availability, Schedule]]) -> Listing:
    """Return the listing of tasks in the order in which they are given."""
    lines = [f"{availability.value} {schedule.value} {name}" for name, availability, schedule in rows]
    return Listing("\n".join([LEGEND, *lines]))
