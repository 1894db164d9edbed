"""Find the tasks that the name of a clause means: by class, by chain and class, or by parameters too."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import luigi

from nectar import errors
from nectar.errors import ParameterProblem
from nectar.parameters import MASK, Canonical, canonical, canonical_of, is_private
from nectar.selection.clauses import ALL, Clause, shown
from nectar.task.history import chain_of

_WILD = re.compile(r"[*?\[]")
_ARGUMENT = re.compile(r"\s*([^\W\d]\w*)=")
_MOST_NEAR = 1000  #: names among which a near one is looked for

Member = tuple[str, luigi.Task]  #: a task with its ref


@dataclass(slots=True)
class Named:
    """The tasks of a graph by what they may be called."""

    by_class: dict[type[luigi.Task], list[Member]]
    by_value: dict[tuple[type[luigi.Task], str], dict[_Value, list[Member]]] = field(default_factory=dict)
    #: class and parameter -> value -> tasks; made when it is asked for

    @classmethod
    def of(cls, tasks: Mapping[str, luigi.Task]) -> Named:
        """Return the names of some tasks, which are given by ref."""
        by_class: dict[type[luigi.Task], list[Member]] = {}
        for member in tasks.items():
            by_class.setdefault(type(member[1]), []).append(member)
        return cls(by_class)

    def find(self, clause: Clause) -> list[str]:
        """Return the refs of the tasks that a clause names; those around them are not looked for here."""
        found: list[Member] = []
        for kind, members in self.by_class.items():
            if _fits_any(clause.name, names_of(kind)):
                found += members if clause.arguments is None else self._with(kind, clause.arguments)
            elif clause.arguments is None and _own_name(kind) is not None:
                found += [member for member in members if _fits(clause.name, _name_of(member[1]))]
        return [ref for ref, _ in found]

    def _with(self, kind: type[luigi.Task], arguments: str) -> list[Member]:
        """Return the tasks of a class whose parameters are as the arguments of a clause say."""
        members = self.by_class[kind]
        whole = arguments.strip()
        if not whole:
            return members
        if _ARGUMENT.match(whole) is None:
            return [member for member in members if _fits(whole, listing(member[1]))]
        parameters = dict(kind.get_params())
        wanted = _arguments(whole, parameters)
        if wanted.keys() <= parameters.keys():
            values = {name: _Wanted.of(parameters[name], name, text) for name, text in wanted.items()}
            known = next((name for name, value in values.items() if value.pattern is None), None)
            # A value that is no pattern finds its tasks at once: otherwise many such clauses would take their square.
            some = members if known is None else self._at(kind, known, values[known])
            found = [one for one in some if all(value.fits(one[1], name) for name, value in values.items())]
            if found:
                return found
        # A value may hold what looks like another parameter: what people copy is what was shown to them.
        return [member for member in members if listing(member[1]) == whole]

    def _at(self, kind: type[luigi.Task], name: str, wanted: _Wanted) -> list[Member]:
        known = self.by_value.get((kind, name))
        if known is None:
            known = self.by_value[kind, name] = {}
            for member in self.by_class[kind]:
                for value in dict.fromkeys(_values(wanted.parameter, member[1], name)):
                    known.setdefault(value, []).append(member)
        return list({member[0]: member for value in wanted.exact for member in known.get(value, ())}.values())

    # When there is no such task

    def problem(self, clause: Clause) -> ParameterProblem:
        """Return what is wrong with a clause that names no task, and what was probably meant."""
        kinds = [kind for kind in self.by_class if _fits_any(clause.name, names_of(kind))]
        if kinds and clause.arguments is not None:
            hint = self._near_arguments(clause.arguments, kinds)
        else:
            hint = self._pattern_hint(clause) or self._near_name(clause)
        return ParameterProblem(clause.text, f"`{shown(clause.text)}` selects nothing", hint)

    def _near_name(self, clause: Clause) -> str:
        import difflib  # late: only mistakes need it

        depth = clause.name.count("/") or -clause.name.count(".")
        own = [_name_of(task) for kind in self.by_class if _own_name(kind) for _, task in self.by_class[kind]]
        names = [*(name for kind in self.by_class for name in names_of(kind)), *own[:_MOST_NEAR]]
        alike = [name for name in names if (name.count("/") or -name.count(".")) == depth] or names
        folded = {name.lower(): name for name in alike}
        near = difflib.get_close_matches(clause.name[:100].lower(), folded, n=1)
        if near:
            return f"did you mean `{folded[near[0]]}`?"
        classes = list(dict.fromkeys([*own, *(kind.__name__ for kind in self.by_class if not _own_name(kind))]))
        more = f" and {len(classes) - 5} more" if len(classes) > 5 else ""
        return "there is " + ", ".join(f"`{name}`" for name in classes[:5]) + more

    def _pattern_hint(self, clause: Clause) -> str | None:
        """Return the hint for a star that was meant as a pattern's, and is an operator where it stands."""
        name = f"{'?*' if clause.up == ALL else ''}{clause.name}{'*?' if clause.down == ALL else ''}"
        if name == clause.name or not any(_fits_any(name, names_of(kind)) for kind in self.by_class):
            return None
        side = "before" if clause.up == ALL else "behind"
        what = "all that it needs" if clause.up == ALL else "all that needs it"
        return f"a `*` {side} a name means {what}; the pattern is `{name}`"

    def _near_arguments(self, arguments: str, kinds: Sequence[type[luigi.Task]]) -> str:
        import difflib  # late: only mistakes need it

        known = dict.fromkeys(name for kind in kinds for name, _ in kind.get_params())
        for name in _arguments(arguments) if _ARGUMENT.match(arguments) else ():
            if name not in known:
                near = errors.did_you_mean(name, known)
                return f"`{kinds[0].__name__}` has no parameter `{name}`" + (f": {near}" if near else "")
        instances = [
            f"{kind.__name__}({listing(task)})" for kind in kinds for _, task in self.by_class[kind][:_MOST_NEAR]
        ]
        near_one = difflib.get_close_matches(f"{kinds[0].__name__}({arguments[:200]})", instances, n=1, cutoff=0.5)
        return f"did you mean `{(near_one or instances)[0]}`?"


def names_of(kind: type[luigi.Task]) -> tuple[str, ...]:
    """Return what a class may be called: its name, `type/chain/Class`, and its module with its name."""
    chain = chain_of(kind)
    whole = f"{kind.__module__}.{kind.__name__}"
    return (kind.__name__, whole) if chain is None else (kind.__name__, f"{chain}/{kind.__name__}", whole)


def _own_name(kind: type[luigi.Task]) -> str | None:
    """Return the parameter by whose value tasks of a class are called as well; see `nectar.task.Task.named_by`."""
    return getattr(kind, "named_by", None)


def _name_of(task: luigi.Task) -> str:
    return str(getattr(task, _own_name(type(task)) or "task_id"))


def listing(task: luigi.Task) -> str:
    """Return a task's parameters as people read them: `day=3, kind=long`; private values are masked."""
    return ", ".join(
        f"{name}={value_text(parameter, task, name)}" for name, parameter in task.get_params() if parameter.significant
    )


def value_text(parameter: Any, task: luigi.Task, name: str) -> str:
    """Return the text of one parameter of a task, masked where it is private: no clause finds out what it is."""
    return MASK if is_private(parameter) else str(parameter.serialize(getattr(task, name)))


_Value = tuple[str, Canonical]  # a text as people read it, or a canonical form, with what it is


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the value of a parameter is to be: a text, however the parameter writes it, or a pattern."""

    parameter: Any
    exact: frozenset[_Value]
    pattern: str | None  #: None: it is no pattern

    @classmethod
    def of(cls, parameter: Any, name: str, text: str) -> _Wanted:
        """Return what a clause says of a parameter."""
        exact: set[_Value] = {("text", text)}
        if _WILD.search(text):
            return cls(parameter, frozenset(exact), text)
        form = None if is_private(parameter) else canonical_of(parameter, name, text)
        return cls(parameter, frozenset(exact if form is None else exact | {("form", form)}), None)

    def fits(self, task: luigi.Task, name: str) -> bool:
        """Say whether a task has such a value."""
        if self.pattern is not None and fnmatchcase(value_text(self.parameter, task, name), self.pattern):
            return True
        return not self.exact.isdisjoint(_values(self.parameter, task, name))


def _values(parameter: Any, task: luigi.Task, name: str) -> tuple[_Value, ...]:
    text = ("text", value_text(parameter, task, name))
    return (text,) if is_private(parameter) else (text, ("form", canonical(parameter, name, getattr(task, name))))


def _arguments(text: str, known: Container[str] | None = None) -> dict[str, str]:
    """Return name -> text of `day=3, kind=long`, which begins with a name.

    A comma in brackets is a part of a value, and so is one that no parameter's name follows, or none of the `known`.
    """
    depth = 0
    commas = []
    for position, sign in enumerate(text):
        depth = max(0, depth + (sign in "([{") - (sign in ")]}"))
        if sign == "," and not depth:
            next_name = _ARGUMENT.match(text, position + 1)
            if next_name is not None and (known is None or next_name[1] in known):
                commas.append(position)
    found: dict[str, str] = {}
    begin = 0
    for end in (*commas, len(text)):
        name = _ARGUMENT.match(text, begin)
        assert name is not None
        found[name[1]] = text[name.end() : end].strip()
        begin = end + 1
    return found


def _fits(pattern: str, text: str) -> bool:
    return pattern == text or (_WILD.search(pattern) is not None and fnmatchcase(text, pattern))


def _fits_any(pattern: str, names: Iterable[str]) -> bool:
    return any(_fits(pattern, name) for name in names)
