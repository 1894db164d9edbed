"""Run protocols: carry out the requests that they yield, and send them the answers.

A protocol runs in the thread that drives it; only its requests are carried out by others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

from nectar import errors
from nectar.stores.s3.messages import Answer, Protocol, Request

T = TypeVar("T")
Failure = errors.NectarError | OSError  #: what a protocol or its requests may raise; anything else is a defect
FAILURES = (errors.NectarError, OSError)
AT_ONCE = 64  #: protocols under way: the first ones end before the last ones begin


def drive(do_all: Callable[[Sequence[Request]], list[Answer]], protocol: Protocol[T]) -> T:
    """Return the result of a protocol; it is closed when one of its requests fails.

    Raises: whatever `do_all` or the protocol raises.
    """
    try:
        requests = next(protocol)
        while True:
            requests = protocol.send(do_all(requests))
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        protocol.close()


def settle_all(submit: Callable[[Request], Future[Answer]], protocols: Sequence[Protocol[T]]) -> list[T | Failure]:
    """Drive protocols at the same time, each to its end, and return for each its result or its error, in order.

    A protocol is closed when one of its requests fails, after the others of the same step were answered.
    """
    waiting = deque(_Course(place, one) for place, one in enumerate(protocols))
    under_way: set[_Course[T]] = set()
    answered = SimpleQueue[_Course[T]]()
    ends: dict[int, T | Failure] = {}
    try:
        while waiting or under_way:
            if waiting and len(under_way) < AT_ONCE:
                course = waiting.popleft()
                under_way.add(course)
            else:
                course = answered.get()
                course.unanswered -= 1
            if course.unanswered == 0 and course.advance(submit, answered):
                ends[course.place] = course.ends[0]
                under_way.discard(course)
    finally:
        for course in [*under_way, *waiting]:
            course.leave()
    return [ends[place] for place in range(len(protocols))]


@dataclass(slots=True, eq=False)
class _Course(Generic[T]):
    """A protocol under way."""

    place: int
    protocol: Protocol[T]
    unanswered: int = 0
    ends: list[T | Failure] = field(default_factory=list)  #: one, when it has ended
    _asked: list[Future[Answer]] = field(default_factory=list)
    _began: bool = False

    def advance(self, submit: Callable[[Request], Future[Answer]], answered: SimpleQueue[_Course[T]]) -> bool:
        """Go to the next requests, which are then under way; return True when the protocol has ended.

        For each of their answers the course is put into `answered`.
        """
        try:
            requests = self._step([future.result() for future in self._asked])
            while requests == []:
                requests = self._step([])
        except FAILURES as error:
            self.protocol.close()
            self.ends.append(error)
            return True
        if requests is None:
            return True
        self.unanswered = len(requests)
        self._asked = [submit(request) for request in requests]
        for future in self._asked:
            future.add_done_callback(lambda _: answered.put(self))
        return False

    def leave(self) -> None:
        """Begin nothing more."""
        for future in self._asked:
            future.cancel()
        self.protocol.close()

    def _step(self, answers: list[Answer]) -> list[Request] | None:
        try:
            if self._began:
                return self.protocol.send(answers)
            self._began = True
            return next(self.protocol)
        except StopIteration as end:
            self.ends.append(end.value)
            return None
