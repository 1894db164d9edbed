"""Choose some tasks of a graph by a text such as `*CleanTask, LoadTask(day=*)+`."""

from nectar.selection.choosing import Selected, select
from nectar.selection.clauses import ALL, Clause, parse

__all__ = ["ALL", "Clause", "Selected", "parse", "select"]
