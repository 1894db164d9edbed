"""Turn the graph of some tasks into nodes, each with the selection that means its task and no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import luigi

from nectar import errors
from nectar.export.names import unique_names
from nectar.export.work import ChainWork, Node
from nectar.parameters import canonical, canonical_of, is_private
from nectar.selection import parse, select
from nectar.selection.naming import Named, names_of, value_text
from nectar.task.register import default_value

_MOST_LISTED = 5
#: sign -> a range of a pattern that it is in, and that does not show it
_SIGNS = {
    "(": "['-*]",
    ")": "['-*]",
    ",": "[+-.]",
    "=": "[<->]",
    "[": "[Z-\\]",
    "]": "[\\-^]",
    "{": "[z-|]",
    "}": "[|-~]",
}


def chain_work(asked: Sequence[tuple[str, str, luigi.Task]], warnings: Sequence[str] = ()) -> ChainWork:
    """Return the graph of some tasks as nodes; no store is asked.

    What nobody makes, such as an input file, is no node. `asked` names each task as the command line does: by its chain
    and its name there. Every parameter that such a task has is written out, so that defaults which differ elsewhere
    change nothing.

    Raises:
        NotRenderable: with every task that cannot be a node, and every parameter that cannot be written down.
        CycleFound, ClosureTooLarge: when there is no such graph; a circle is drawn.
        IdentityError, TaskBroken: when a task has no identity, or its `requires()` raises.
    """
    faults: list[str] = []
    words = _words(asked, faults)
    found = select([root for _, _, root in asked], "*")
    tasks = {ref: found.closure.tasks[ref] for ref in found.refs}
    made = {ref: task for ref, task in tasks.items() if task.run is not None}
    if not made:
        faults.append("nothing of it is made by a task: it is all there, or external")
    faults += [
        f"`{task!r}` goes on where what it needs has failed, which no node can"
        for task in made.values()
        if getattr(task, "catches_failures", False)
    ]
    naming = _Naming(tasks)
    selections = {ref: naming.selection(ref, task) for ref, task in made.items()}
    alike = [repr(tasks[ref]) for ref, text in selections.items() if text is None]
    if alike:
        listed = ", ".join(f"`{one}`" for one in alike[:_MOST_LISTED])
        more = f" and {len(alike) - _MOST_LISTED} more" if len(alike) > _MOST_LISTED else ""
        faults.append(f"no selection tells these from others, by the parameters that may be shown: {listed}{more}")
    if faults:
        raise errors.NotRenderable(
            "this cannot be rendered: " + "; ".join(faults),
            hint="make it with `nectar run`, or give tasks that are told apart by significant, public parameters",
        )
    names = unique_names({ref: naming.short(task) for ref, task in made.items()})
    nodes = tuple(
        Node(
            names[ref],
            repr(task),
            selections[ref] or "",
            tuple(names[one] for one in found.closure.requirements[ref] if one in names),
            int(getattr(task, "priority", 0)),
        )
        for ref, task in made.items()
    )
    title = ", ".join(repr(root) for _, _, root in asked)
    return ChainWork(title, words, nodes, tuple(warnings))


def _words(asked: Sequence[tuple[str, str, luigi.Task]], faults: list[str]) -> tuple[str, ...]:
    words: list[str] = []
    for number, (chain, name, task) in enumerate(asked):
        words += ["--and"] if number else []
        words += [chain, name]
        for parameter_name, parameter in task.get_params():
            word = _word(task, parameter_name, parameter, faults)
            words += [word] if word is not None else []
    return tuple(words)


def _word(task: luigi.Task, name: str, parameter: Any, faults: list[str]) -> str | None:
    """Return `--name=text`; None for a value that has no text, or must not be shown, and is the default."""
    value = getattr(task, name)
    if not is_private(parameter):
        text = str(parameter.serialize(value))
        if canonical_of(parameter, name, text) == canonical(parameter, name, value):
            return f"--{name.replace('_', '-')}={text}"
    cls = type(task)
    if value == default_value((cls.get_task_family(), cls.__name__), name, parameter):
        return None
    if is_private(parameter):
        faults.append(
            f"`{name}` of `{cls.__name__}` is private, and what is rendered can be read by others: let its value come "
            "from the configuration or the environment of the node, as its default"
        )
    else:
        faults.append(f"`{name}` of `{cls.__name__}` has no text that is read back as its value")
    return None


class _Naming:
    """What tells the tasks of a graph apart."""

    def __init__(self, tasks: Mapping[str, luigi.Task]) -> None:
        self._named = Named.of(tasks)
        self._classes = Counter(kind.__name__ for kind in self._named.by_class)
        self._varying = {
            kind: _varying(kind, [task for _, task in members]) for kind, members in self._named.by_class.items()
        }

    def selection(self, ref: str, task: luigi.Task) -> str | None:
        """Return a selection that means this task alone, None where there is none."""
        kind = type(task)
        names = names_of(kind)
        name = names[0] if self._classes[kind.__name__] == 1 else names[1]
        told = self._told(task)
        for values in (told, {one: _careful(text) for one, text in told.items()}):
            text = f"{name}({', '.join(f'{one}={value}' for one, value in values.items())})" if values else name
            if self._means(text, ref):
                return text
        return None

    def short(self, task: luigi.Task) -> str:
        """Return the name of a task's class, with the values that tell it from others of the class."""
        return " ".join((type(task).__name__, *(f"{name} {value}" for name, value in self._told(task).items())))

    def _told(self, task: luigi.Task) -> dict[str, str]:
        return {name: value_text(parameter, task, name) for name, parameter in self._varying[type(task)]}

    def _means(self, text: str, ref: str) -> bool:
        try:
            clauses = parse(text)
        except errors.SelectionInvalid:
            return False
        return len(clauses) == 1 and not clauses[0].up + clauses[0].down and self._named.find(clauses[0]) == [ref]


def _varying(kind: type[luigi.Task], members: Sequence[luigi.Task]) -> list[tuple[str, Any]]:
    """Return the parameters that may be shown, and in which some tasks of a class differ."""
    return [
        (name, parameter)
        for name, parameter in kind.get_params()
        if not is_private(parameter) and len({value_text(parameter, one, name) for one in members}) > 1
    ]


def _careful(text: str) -> str:
    """Return a pattern that fits a text, and has nothing in it that a clause reads as a sign of its own."""
    return "".join(_SIGNS.get(one, f"[{one}]" if one.isspace() or one in "?*" else one) for one in text)
