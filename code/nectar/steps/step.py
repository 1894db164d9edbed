"""A step of a pipeline: what it depends on, and what it does with that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nectar import errors
from nectar.drawing import Box, Kind, Picture
from nectar.listing import Availability, Listing, Schedule, in_order, listing

if TYPE_CHECKING:
    from nectar.steps.context import Context


class Step:
    """A piece of work in memory; subclasses define `run`.

    A step is named by its class, or by `name_alias`. All steps that a head stands on have names of their own.
    """

    #: of a class: True where it only holds a value that was there before
    is_data: ClassVar[bool] = False

    def __init__(
        self,
        depends_on: Step | Sequence[Step] | None = None,
        *,
        name_alias: str | None = None,
        ctx: Context | None = None,
    ) -> None:
        """Say on which steps this one depends, one or many, and in which context its result is kept.

        Raises:
            UsageError: when something that it depends on is no step, or it has no name.
        """
        given = [] if depends_on is None else [depends_on] if isinstance(depends_on, Step) else list(depends_on)
        self.name = name_alias if name_alias is not None else type(self).__name__
        for one in given:
            if not isinstance(one, Step):
                raise errors.UsageError(
                    f"step `{self.name}` depends on `{one!r}`, which is no step",
                    hint="wrap a value: `Step.from_data(value, name_alias=...)`; make an instance of a class",
                )
        if not isinstance(self.name, str) or not self.name.strip():
            raise errors.UsageError("a step needs a name", hint="give `name_alias` some letters")
        self.depends_on: tuple[Step, ...] = tuple(given)
        self.ctx = ctx

    def run(self, *results: Any) -> Any:
        """Do the work with the results of the steps that this one depends on, in their order; return the result.

        Raises:
            NotImplementedError: where a subclass does not define it.
        """
        raise NotImplementedError(f"step `{self.name}` does not say what it does: define `run` in its class")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})" if self.name != type(self).__name__ else f"{self.name}()"

    # Other ways to make one

    @staticmethod
    def from_data(value: Any, *, name_alias: str, ctx: Context | None = None) -> Step:
        """Return a step whose result is a value."""
        return _Data(value, name_alias, ctx)

    @staticmethod
    def from_function(
        function: Callable[..., Any],
        depends_on: Step | Sequence[Step] | None = None,
        *,
        name_alias: str | None = None,
        ctx: Context | None = None,
    ) -> Step:
        """Return a step that calls a function with the results; it is named as the function is.

        Raises:
            UsageError: as the constructor.
        """
        return _Function(function, depends_on, name_alias, ctx)

    # What there is to do with one

    def materialize(self, *, executor: str | None = None, workers: int | None = None) -> Any:
        """Return the result of this step, after doing all that it needs; what a context has is not done again.

        `executor` is `inline`, one step after the other, or `threads`, which does up to `workers` steps that do not
        need each other at the same time (by default as many as there are processors, and 2 at least).

        Raises:
            UsageError: when two steps have one name, steps depend on each other in a circle, or for an executor that
                cannot be.
            Exception: what a step raises, as it is; nothing more is begun after it.
        """
        from nectar.steps.session import materialize  # late: luigi

        return materialize(self, executor, workers)

    def execution_plan(self) -> Listing:
        """Print what `materialize` would do, a line for each step, and return it as text.

        Raises:
            UsageError: when two steps have one name, or steps depend on each other in a circle.
        """
        steps = steps_of(self)
        needed = {step.name for step in to_run(self)}
        rows = []
        for name in in_order(self.name, lambda name: [one.name for one in steps[name].depends_on]):
            schedule = Schedule.RUN if name in needed else Schedule.NO_RUN
            rows.append((name, _availability(steps[name]), Schedule.HEAD if name == self.name else schedule))
        found = listing(rows)
        print(found)
        return found

    def dependency_graph(self) -> Picture:
        """Return a picture of this step and all that it stands on; a notebook shows it, `save` writes it to a file.

        What would run is coloured otherwise than what a context has.

        Raises:
            UsageError: when two steps have one name, or steps depend on each other in a circle.
        """
        steps = steps_of(self)
        boxes = {name: Box(name, "", _kind(step, self), type(step).__name__) for name, step in steps.items()}
        arrows = [(below.name, name) for name, step in steps.items() for below in dict.fromkeys(step.depends_on)]
        return Picture(boxes, arrows, f"what {self.name} depends on")

    def _repr_html_(self) -> str:
        return self.dependency_graph().svg()


class _Data(Step):
    """A value that was there before."""

    is_data = True

    def __init__(self, value: Any, name_alias: str, ctx: Context | None) -> None:
        super().__init__(name_alias=name_alias, ctx=ctx)
        self._value = value

    def run(self, *results: Any) -> Any:
        return self._value


class _Function(Step):
    """A call of a function."""

    def __init__(
        self,
        function: Callable[..., Any],
        depends_on: Step | Sequence[Step] | None,
        name_alias: str | None,
        ctx: Context | None,
    ) -> None:
        name = name_alias if name_alias is not None else getattr(function, "__name__", None)
        super().__init__(depends_on, name_alias=name, ctx=ctx)
        self.function = function

    def run(self, *results: Any) -> Any:
        return self.function(*results)


def is_available(step: Step) -> bool:
    """Say whether the result of a step is there already; None is a result like any other."""
    return step.ctx is not None and step.name in step.ctx


def steps_of(head: Step) -> dict[str, Step]:
    """Return a head and all that it stands on, by name.

    Raises:
        UsageError: when two of them have one name, or they depend on each other in a circle.
    """
    found: dict[str, Step] = {}
    twice: dict[str, None] = {}
    done: set[int] = set()
    on_the_way: dict[int, Step] = {}
    stack: list[tuple[Step, bool]] = [(head, False)]
    while stack:
        step, left = stack.pop()
        if left:
            del on_the_way[id(step)]
            done.add(id(step))
            continue
        if id(step) in on_the_way:
            raise _circle([*on_the_way.values()], step)
        if id(step) in done:
            continue
        if found.setdefault(step.name, step) is not step:
            twice[step.name] = None
        on_the_way[id(step)] = step
        stack.append((step, True))
        stack += [(one, False) for one in reversed(step.depends_on) if id(one) not in done]
    if twice:
        named = ", ".join(f"`{name}`" for name in twice)
        raise errors.UsageError(
            f"two steps have the name {named}" if len(twice) == 1 else f"several steps have the names {named}",
            hint="give one of them another: `name_alias=...`",
        )
    return found


def to_run(head: Step) -> list[Step]:
    """Return the steps that have to run for a head: nothing above a result that is there is looked at."""
    found: dict[int, Step] = {}
    stack = [head]
    while stack:
        step = stack.pop()
        if id(step) not in found and not is_available(step):
            found[id(step)] = step
            stack += step.depends_on
    return list(found.values())


def _kind(step: Step, head: Step) -> Kind:
    if is_available(step):
        return Kind.DONE
    return Kind.HEAD if step is head else Kind.PLAIN


def _availability(step: Step) -> Availability:
    if step.ctx is None:
        return Availability.NOWHERE
    return Availability.AVAILABLE if is_available(step) else Availability.MISSING


def _circle(on_the_way: list[Step], step: Step) -> errors.CycleFound:
    names = [one.name for one in on_the_way[on_the_way.index(step) :]]
    drawn = " -> ".join([*names, step.name])
    return errors.CycleFound(f"steps depend on each other in a circle: {drawn}", hint="take one of the arrows away")
